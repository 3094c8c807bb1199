# DIST (Huang et al., NeurIPS 2022): T = 4, CE 1, 2 between the classes of an image and 2 between
# the images of a class: dist_cifar.yaml of the authors' image_classification_sota.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        distill_losses=dict(
            loss_dist=dict(
                type='DISTLoss',
                inter_loss_weight=1.0,
                intra_loss_weight=1.0,
                tau=4,
                loss_weight=2.0,
            )
        ),
        loss_forward_mappings=dict(
            loss_dist=dict(
                logits_S=dict(from_student=True, recorder='fc'),
                logits_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)
