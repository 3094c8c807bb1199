# Ten classes and no fonts: Fashion-MNIST from Debian's package dataset-fashion-mnist, of whose
# training images the students see 12,000.
_base_ = ['../_base_/studies/order_losses.py']

study = dict(
    about='Does an order-based loss help on Fashion-MNIST?',
    teachers={'ConvNet': dict(config='../letters/convnet_1xb128_fashion-mnist.py')},
    change=dict(train_dataloader=dict(dataset=dict(num_faces=12000))),
    arms={
        name: dict(config='../letters/kd_logits_convnet_lenet_1xb128_fashion-mnist.py')
        for name in _base_.study.arms
    },
)
study['arms']['CE']['config'] = '../letters/lenet_1xb128_fashion-mnist.py'
