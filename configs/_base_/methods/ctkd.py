# CTKD (Li et al., AAAI 2023), the global temperature, with the values of the authors' CIFAR-100
# commands: a temperature of 1 to 21 that starts at 15.6, the reversal rising over the first 10 of
# the 240 epochs, CE 0.1, KL 0.9.
_base_ = ['./logits.py']

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(
        distill_losses=dict(
            loss_ctkd=dict(
                type='mmkendall.CTKDLoss',
                temperature_min=1.0,
                temperature_range=20.0,
                initial=1.0,
                reversal_max=1.0,
                ramp_epochs=10,
                loss_weight=0.9,
            )
        ),
        loss_forward_mappings=dict(
            loss_ctkd=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc'),
            )
        ),
    ),
)
