# BiLD (COLING 2025): CE 1, and the divergence of the differences between the eight highest logits
# at a temperature of 3, which are the defaults of the authors' code. Their recipe is for language
# models; no weight for a classifier is known to us, so it is a plain 1.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_bild=dict(type='mmkendall.BiLDLoss', temperature=3.0, topk=8, loss_weight=1.0)
        ),
        loss_forward_mappings=dict(
            loss_bild=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)
