# Four times as many classes as the letters have: 500 kanji. Drawn by
# `python tools/dataset_converters/letters.py data/kanji --classes kanji`.
_base_ = ['../_base_/studies/order_losses.py']

study = dict(
    about='Does an order-based loss help with 500 classes?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_kanji.py')},
    arms={
        name: dict(config='../letters/kd_logits_convnet_lenet_1xb128_kanji.py')
        for name in _base_.study.arms
    },
)
study['arms']['CE']['config'] = '../letters/lenet_1xb128_kanji.py'
study['arms']['CE + ListMLE']['terms'] = dict(listmle=dict(topk=20))
