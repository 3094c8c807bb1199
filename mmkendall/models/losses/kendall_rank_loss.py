from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from mmkendall.functional import kendall_rank_loss
from mmkendall.functional.checks import at_least_float32, check_not_negative
from mmkendall.functional.classes import check_class_mask
from mmkendall.functional.rank_loss import check_options, num_selected_classes
from mmkendall.models.losses.gather_rows import gather_rows
from mmkendall.registry import MODELS

ACROSS = ('classes', 'batch')
MIXED = ({torch.float16, torch.float32}, {torch.bfloat16, torch.float32})


@MODELS.register_module()
class KendallRankLoss(nn.Module):
    r"""One minus a differentiable Kendall tau between the student's and the teacher's logits.

    .. math::
        L = 1 - \frac{2}{C(C-1)} \sum_{i<j} \tanh(k (t_i - t_j)) \tanh(k (s_i - s_j))

    Source: Guan et al., "Enhancing Logits Distillation with Plug&Play Kendall's tau Ranking Loss",
    ICML 2025 (second-hand, see docs/sources.md).

    It is the function :func:`mmkendall.kendall_rank_loss` as a module, whose docstring says what
    the options mean, how ties and the scale of the logits count, and what it costs. What is said
    below is what the module adds.

    Args:
        steepness, surrogate, reduction, dim, topk, mink, standardize, backend, compute_value: as
            in the function, with the same defaults.
        across: ``'classes'`` ranks the classes of each image (the paper); ``'batch'`` ranks, for
            each class, the images of the batch, as DIST's intra-class term correlates them. There
            N takes the part of C in all that the function says, ``'mean'`` is over the classes,
            and ``topk`` and ``mink`` choose images. Defaults to ``'classes'``.
        gather: under ``across='batch'``, rank the images of all processes, with the gradient of
            the loss on the whole batch after DistributedDataParallel's averaging. Defaults to
            False.
        loss_weight: factor on the loss. The paper sets it to the weight of the logit loss that it
            stands beside. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.

    Shape:
        - preds_S, preds_T: as in the function, but one of them may be of half precision; (N, C)
          alone under ``across='batch'``.
        - mask, class_mask (optional): as in the function; under ``across='batch'`` a mask is (N,)
          and says which images count.
        - output: as in the function; (C,) for ``'none'`` under ``across='batch'``.

    Raises:
        TypeError, ValueError: an option that the loss can't take, when it is built; when it is
            called, tensors that don't fit each other, or logits with one class, which would make
            the loss 0 for ever. The function returns that 0.

    Example:
        Add one entry to a ``ConfigurableDistiller`` that records the logits as ``fc``::

            distill_losses=dict(
                loss_kl=dict(type='KLDivergence', tau=1, loss_weight=3),
                loss_rank=dict(type='mmkendall.KendallRankLoss', loss_weight=3)),
            loss_forward_mappings=dict(
                loss_kl=dict(...),
                loss_rank=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc')))
    """

    def __init__(
        self,
        steepness: float = 10.0,
        surrogate: str = 'product',
        reduction: str = 'mean',
        dim: int = 1,
        topk: int | float | None = None,
        mink: int | float | None = None,
        standardize: bool = False,
        backend: str = 'auto',
        across: str = 'classes',
        gather: bool = False,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
        compute_value: bool = True,
    ) -> None:
        super().__init__()
        # A misspelt option must end a run before its first batch, not after the data is loaded.
        check_options(
            steepness, surrogate, reduction, topk, mink, standardize, backend, compute_value
        )
        check_not_negative(loss_weight=loss_weight)
        if surrogate == 'logistic' and steepness >= 10:
            warnings.warn(
                "KendallRankLoss(surrogate='logistic') has the steepness for a factor of its "
                'gradient, and the default of 10 is meant for tanh: pass steepness=1 for '
                "RankNet's loss, or a loss_weight that makes up for it",
                stacklevel=2,
            )
        for name, count in (('topk', topk), ('mink', mink)):
            if count == 1:
                raise ValueError(f'{name}=1 ranks one class, which has no order: pass 2 at least')
        if across not in ACROSS:
            raise ValueError(f'across must be one of {ACROSS}, got {across!r}')
        if across == 'batch' and dim not in (1, -1):
            raise ValueError(f"across='batch' takes logits (N, C), so dim must be 1, got {dim}")
        if gather and across == 'classes':
            raise ValueError(
                "gather=True needs across='batch': the classes of an image are in one process"
            )
        self.steepness = steepness
        self.surrogate = surrogate
        self.reduction = reduction
        self.dim = dim
        self.topk = topk
        self.mink = mink
        self.standardize = standardize
        self.backend = backend
        self.across = across
        self.gather = gather
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach
        self.compute_value = compute_value

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        mask: Tensor | None = None,
        class_mask: Tensor | None = None,
    ) -> Tensor:
        """The weighted loss; see the class for shapes."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        if {preds_S.dtype, preds_T.dtype} in MIXED:
            # Under autocast the student's are of half precision, and LogitDistill's teacher's not.
            preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
        dim = self.dim
        if self.across == 'batch':
            preds_S, preds_T, mask = self._batch(preds_S, preds_T, mask, class_mask)
            dim, class_mask = 0, None
            if len(preds_S) == 0:
                losses = preds_S.sum(dim=0)
                return losses if self.reduction == 'none' else losses.sum()
        else:
            self._check_num_classes(preds_S)
        loss = kendall_rank_loss(
            preds_S,
            preds_T,
            self.steepness,
            self.surrogate,
            self.reduction,
            dim=dim,
            mask=mask,
            class_mask=class_mask,
            topk=self.topk,
            mink=self.mink,
            standardize=self.standardize,
            backend=self.backend,
            compute_value=self.compute_value,
        )
        return self.loss_weight * loss

    def _check_num_classes(self, preds: Tensor) -> None:
        """Raises ValueError for logits from which the loss could never teach anything."""
        if not -preds.dim() <= self.dim < preds.dim():
            return  # The function says so.
        num_classes = preds.shape[self.dim]
        if num_classes == 1:
            raise ValueError(
                f'logits of shape {tuple(preds.shape)} have one class in dim={self.dim}, which '
                'has no order, so KendallRankLoss would be 0 for ever: set dim to the dimension '
                "of the classes, pass across='batch' to rank the images by that logit, or leave "
                'the loss out'
            )
        if self.standardize and num_selected_classes(self.topk, self.mink, num_classes) == 2:
            warnings.warn(
                f'KendallRankLoss(standardize=True) ranks two classes of dim={self.dim}, whose '
                'z-scores are -1 and 1 whatever the student says, so it teaches nothing: pass '
                'standardize=False',
                stacklevel=4,
            )

    def _batch(
        self, preds_S: Tensor, preds_T: Tensor, mask: Tensor | None, class_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The images that are ranked, and which of the classes count for the mean."""
        if preds_S.dim() != 2 or preds_S.shape != preds_T.shape:
            raise ValueError(
                "across='batch' takes logits (N, C) of one shape, got "
                f'{tuple(preds_S.shape)} and {tuple(preds_T.shape)}'
            )
        check_class_mask(class_mask, preds_S, 1)
        columns = class_mask if class_mask is not None and class_mask.dim() == 1 else None
        if class_mask is not None and columns is None:
            preds_S, preds_T = (
                preds.masked_fill(~class_mask, -math.inf) for preds in (preds_S, preds_T)
            )
        if len(preds_S) == 1 and not self.gather:
            warnings.warn(
                "KendallRankLoss(across='batch') came upon a batch of one image, which has no "
                'order: the loss is 0; larger batches or gather=True give it something to rank',
                stacklevel=3,
            )
        if mask is not None:
            if mask.dtype != torch.bool or mask.shape != preds_S.shape[:1]:
                raise ValueError(
                    f'mask must be bool of shape ({len(preds_S)},), got {mask.dtype} of shape '
                    f'{tuple(mask.shape)}'
                )
            preds_S, preds_T = preds_S[mask], preds_T[mask]
        if self.gather:
            preds_S, preds_T = gather_rows(preds_S), gather_rows(preds_T)
        return preds_S, preds_T, columns

    def extra_repr(self) -> str:
        return (
            f'steepness={self.steepness}, surrogate={self.surrogate!r}, '
            f'reduction={self.reduction!r}, dim={self.dim}, topk={self.topk}, mink={self.mink}, '
            f'standardize={self.standardize}, backend={self.backend!r}, '
            f'across={self.across!r}, gather={self.gather}, '
            f'loss_weight={self.loss_weight}, teacher_detach={self.teacher_detach}, '
            f'compute_value={self.compute_value}'
        )
