from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from mmkendall.functional.checks import at_least_float32
from mmkendall.models.losses.kendall_rank_loss import KendallRankLoss
from mmkendall.models.losses.logit_losses import LOGIT_LOSSES
from mmkendall.registry import MODELS


@MODELS.register_module()
class DenseLogitLoss(nn.Module):
    """A logit loss on the positions of a dense head, or on those where the teacher sees most.

    A dense detection head has a row of class logits for each anchor of each place of each level,
    200,000 rows for an image of 1333x800 in RetinaNet, and nearly all of them are background that
    no ranking of classes is about. ``num_positions`` keeps, of each image, the rows where the
    teacher's highest logit is highest, and the same rows of the student. Segmentation logits are
    one level with one row a pixel.

    The kept rows go to ``loss`` as (rows, C), float32 or better, so that its mean over the batch
    is one over rows. Without any row the loss is 0.

    Args:
        loss: the config of a loss that takes the student's and the teacher's logits (rows, C):
            ``KLDivergence``, ``DISTLoss``, ``mmkendall.KendallRankLoss``, ...
        num_classes: C, the channels of one row. Without a class for the background in the heads of
            RetinaNet, ATSS or GFL.
        num_positions: how many rows of an image are kept. Defaults to None, all.

    Shape:
        - preds_S, preds_T: (N, A * C, H, W) with A anchors a place, or a list of such tensors, one
          a level; channels of an anchor are neighbours, as in mmdet.
        - output: that of ``loss``.

    Raises:
        ValueError: an option out of its range, or one class for a loss that needs two, when it is
            built; maps whose shapes don't fit each other or ``num_classes``, when it is called.

    Cost:
        Two copies of the logits, and ``loss`` on N * num_positions rows.

    Example:
        ``RankAugmentedDistiller`` and ``--rank-loss`` know it: they put the ranking loss on the
        same rows. RetinaNet's head in a ``ConfigurableDistiller``; mmdet's detectors call
        ``forward`` itself, which a recorder of type ModuleOutputs does not see::

            student_recorders=dict(head=dict(
                type='MethodOutputs',
                source='mmdet.models.dense_heads.anchor_head.AnchorHead.forward')),
            teacher_recorders=dict(head=...),
            distill_losses=dict(loss_kl=dict(
                type='mmkendall.DenseLogitLoss', num_classes=80, num_positions=512,
                loss=dict(type='KLDivergence', tau=1))),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(from_student=True, recorder='head', data_idx=0),
                    preds_T=dict(from_student=False, recorder='head', data_idx=0)))
    """

    def __init__(self, loss: dict, num_classes: int, num_positions: int | None = None) -> None:
        super().__init__()
        for name, value in (('num_classes', num_classes), ('num_positions', num_positions)):
            if name == 'num_positions' and value is None:
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f'{name} must be an integer of 1 at least, got {value!r}')
        self.loss = MODELS.build(loss)
        if num_classes == 1 and _needs_two_classes(self.loss):
            raise ValueError(
                f'num_classes=1 leaves {type(self.loss).__name__} nothing to compare, so it would '
                'be 0 for ever: give a head with one class a loss on its sigmoid'
            )
        self.num_classes = num_classes
        self.num_positions = num_positions

    @property
    def loss_weight(self) -> float:
        """The present weight of the loss inside."""
        return getattr(self.loss, 'present_weight', self.loss.loss_weight)

    def forward(
        self, preds_S: Tensor | Sequence[Tensor], preds_T: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """The loss on the kept rows; see the class for shapes."""
        maps_S, maps_T = (
            [preds] if isinstance(preds, Tensor) else list(preds) for preds in (preds_S, preds_T)
        )
        self._check_maps(maps_S, maps_T)
        rows_S, rows_T = self._rows(maps_S), self._rows(maps_T)
        if self.num_positions is not None and self.num_positions < rows_T.shape[1]:
            kept = rows_T.detach().amax(dim=2).float().topk(self.num_positions, dim=1).indices
            kept = kept[..., None].expand(-1, -1, self.num_classes)
            rows_S, rows_T = rows_S.gather(1, kept), rows_T.gather(1, kept)
        rows_S, rows_T = (at_least_float32(rows.flatten(0, 1)) for rows in (rows_S, rows_T))
        if len(rows_S) == 0:  # Whose mean is NaN in most losses.
            return sum((0 * p.sum() for p in self.loss.parameters()), rows_S.sum())
        return self.loss(rows_S, rows_T)

    def _rows(self, maps: list[Tensor]) -> Tensor:
        """Maps (N, A * C, H, W) as (N, positions, C)."""
        return torch.cat(
            [
                logits.unflatten(1, (-1, self.num_classes)).movedim(2, -1).flatten(1, -2)
                for logits in maps
            ],
            dim=1,
        )

    def _check_maps(self, maps_S: list[Tensor], maps_T: list[Tensor]) -> None:
        shapes_S, shapes_T = (
            [tuple(logits.shape) for logits in maps] for maps in (maps_S, maps_T)
        )
        if shapes_S != shapes_T:
            raise ValueError(
                f'preds_S and preds_T must have the same shapes, got {shapes_S} and {shapes_T}'
            )
        for shape in shapes_S:
            if len(shape) != 4 or shape[1] % self.num_classes:
                raise ValueError(
                    'logits must be of shape (N, anchors * num_classes, H, W) with num_classes='
                    f'{self.num_classes}, got {shape}'
                )

    def extra_repr(self) -> str:
        return f'num_classes={self.num_classes}, num_positions={self.num_positions}'


def _needs_two_classes(loss: nn.Module) -> bool:
    """Whether a loss is a ranking or on a softmax, of one class a constant."""
    return isinstance(loss, KendallRankLoss) or any(
        base.__name__ in LOGIT_LOSSES for base in type(loss).__mro__
    )
