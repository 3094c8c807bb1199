# LSKD from a head as mmpretrain's LinearClsHead starts it by default.
_base_ = ['./lskd_logits_resnet18-w16_resnet18-w4_1xb64_digits-val.py']

model = dict(
    architecture=dict(
        head=dict(init_cfg=dict(_delete_=True, type='Normal', layer='Linear', std=0.01))
    )
)
