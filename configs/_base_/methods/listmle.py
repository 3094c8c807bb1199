# ListMLE (Xia et al., ICML 2008) as a distillation loss: CE 1, and the likelihood of the teacher's
# order, all places alike. It reads nothing of the teacher but the order. No recipe for
# distillation is known to us, so the weight is a plain 1.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_listmle=dict(type='mmkendall.ListMLELoss', topk=None, loss_weight=1.0)
        ),
        loss_forward_mappings=dict(
            loss_listmle=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)
