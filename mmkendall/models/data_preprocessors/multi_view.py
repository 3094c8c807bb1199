from __future__ import annotations

import torch
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor


class MultiViewDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor`` for several views of each image, as MLKD needs them.

    The views become one batch, all images of the first view before those of the second, each with
    the labels of its image, so any classifier, teacher and recorder works as it is. The task's
    loss is then the mean over the views, and a BatchNorm sees the views together. Images of one
    view, such as those of a validation, pass as in ``ClsDataPreprocessor``.

    Source: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, whose published code
    runs the student once for each view and sums the task's losses.

    Args:
        **kwargs: arguments of ``ClsDataPreprocessor``.

    Shape:
        - inputs: V views as mmpretrain's ``MultiView`` and ``PackInputs`` make them, a list of V
          tensors (N, c, H, W) or of V lists of N tensors (c, H, W), by the collate function.
        - output: ``inputs`` (V * N, c, H, W) and V * N ``data_samples``.

    Raises:
        ValueError: views of unlike length, when it is called.

    Example::

        data_preprocessor=dict(type='mmkendall.MultiViewDataPreprocessor', num_classes=100, ...)
        train_pipeline=[
            dict(type='mmpretrain.MultiView', num_views=[1, 1], transforms=[WEAK, STRONG]),
            dict(type='mmpretrain.PackInputs')]
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """A normalised batch; see the class for shapes."""
        inputs = data['inputs']
        if not _has_views(inputs):
            return super().forward(data, training)
        if len({len(view) for view in inputs}) > 1:
            lengths = ', '.join(str(len(view)) for view in inputs)
            raise ValueError(f'the views must hold the same images, got {lengths} images')
        if isinstance(inputs[0], Tensor):
            joined = torch.cat(tuple(inputs))
        else:
            joined = [image for view in inputs for image in view]
        samples = data.get('data_samples')
        if samples is not None:
            # Copies, so that mixed labels of one view don't reach the other.
            samples = [sample.clone() for _ in inputs for sample in samples]
        return super().forward({**data, 'inputs': joined, 'data_samples': samples}, training)


def _has_views(inputs: Tensor | list) -> bool:
    if isinstance(inputs, Tensor):
        return False
    return not isinstance(inputs[0], Tensor) or inputs[0].dim() == 4
