from __future__ import annotations

from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor


class StackedDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor``, without the work on samples that changes nothing.

    For a batch that ``mmkendall.stack_batch`` stacked, on a CPU, without mixing and without
    one-hot labels, the data samples already are what they have to be. What is left is one
    normalisation of the batch. Any other batch passes as in ``ClsDataPreprocessor``; the outcome
    is the same to the bit.

    Args:
        **kwargs: arguments of ``ClsDataPreprocessor``.

    Shape:
        - inputs: (N, C, H, W).
        - output: ``inputs`` (N, C, H, W), float32, and the ``data_samples``.

    Example::

        data_preprocessor = dict(
            type='mmkendall.StackedDataPreprocessor', num_classes=119, mean=[0.0], std=[255.0])
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """A normalised batch; see the class for shapes."""
        inputs = data['inputs']
        as_they_are = (
            isinstance(inputs, Tensor)
            and inputs.device.type == self.device.type == 'cpu'
            and self.batch_augments is None
            and not self.to_onehot
            and not (self.to_rgb and inputs.size(1) == 3)
            and self.pad_size_divisor == 1
        )
        if not as_they_are:
            return super().forward(data, training)
        inputs = inputs.float()
        if self._enable_normalize:
            inputs = (inputs - self.mean).div_(self.std)
        return {'inputs': inputs, 'data_samples': data.get('data_samples')}
