# PLD (Bassam et al., NeurIPS 2025): the label first, then the teacher's order, weighted by the
# teacher's probabilities. Its first term is a cross-entropy, so the student's own has the weight 0
# and is logged as 0. There is no other weight and no temperature to choose.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.0))),
    distiller=dict(
        student_recorders=dict(
            gt_labels=dict(type='ModuleInputs', source='head.loss_module'),
        ),
        distill_losses=dict(
            loss_pld=dict(type='mmkendall.PLDLoss', temperature=1.0, loss_weight=1.0)
        ),
        loss_forward_mappings=dict(
            loss_pld=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
                gt_labels=dict(from_student=True, recorder='gt_labels', data_idx=1),
            )
        ),
    ),
)
