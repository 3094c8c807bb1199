from __future__ import annotations

import torch
from torch import Tensor, nn

from mmkendall.functional import kendall_rank_loss
from mmkendall.functional.rank_loss import check_options
from mmkendall.models.losses.checks import at_least_float32
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
    ICML 2025, Eq. 7-8 (as given by published reviews of the paper). The function behind it,
    :func:`mmkendall.kendall_rank_loss`, says more about ties, scale and cost.

    Args:
        steepness: k > 0, per unit of logit. Defaults to 100.
        surrogate: ``'product'`` (the paper), ``'diffkendall'`` or ``'hard_teacher'``. Defaults to
            ``'product'``.
        reduction: ``'none'``, ``'mean'`` over the rows that count, or ``'sum'``. Defaults to
            ``'mean'``.
        dim: the dimension of the classes. Defaults to 1, as in mmrazor's ``KLDivergence``.
        topk: rank only the teacher's highest classes: a count or a fraction. Defaults to None.
        mink: the same for its lowest classes. Defaults to None.
        standardize: z-score both logits first. Defaults to False.
        backend: ``'auto'`` or the name of a backend. Defaults to ``'auto'``.
        across: ``'classes'`` ranks the classes of each image (the paper); ``'batch'`` ranks, for
            each class, the images of the batch, as DIST's intra-class term correlates them. There
            N takes the part of C in all that is said above, ``'mean'`` is over the classes, and
            ``topk`` and ``mink`` choose images. Defaults to ``'classes'``.
        gather: under ``across='batch'``, rank the images of all processes, with the gradient of
            the loss on the whole batch after DistributedDataParallel's averaging. Defaults to
            False.
        loss_weight: factor on the loss. The paper sets it to the weight of the logit loss that it
            stands beside. Defaults to 1.0.
        teacher_detach: keep the gradient from the teacher. Defaults to True.
        compute_value: whether the value is wanted. False returns 0 with the right gradient, for
            less work. Defaults to True.

    Shape:
        - preds_S, preds_T: (N, C), (N, C, H, W), or (..., C) with ``dim=-1``; floating point,
          of which one may be of half precision.
          (N, C) alone under ``across='batch'``.
        - mask (optional, bool): the shape of ``preds_S`` without ``dim``.
        - output: scalar, or under ``'none'`` the shape of ``preds_S`` without ``dim``, and (C,)
          under ``across='batch'``.

    Raises:
        TypeError, ValueError: an option that the loss can't take, when it is built; tensors that
            don't fit each other, when it is called.

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
        steepness: float = 100.0,
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

    def forward(self, preds_S: Tensor, preds_T: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weighted loss; see the class for shapes."""
        if self.teacher_detach:
            preds_T = preds_T.detach()
        if {preds_S.dtype, preds_T.dtype} in MIXED:
            # Under autocast the student's are of half precision, and LogitDistill's teacher's not.
            preds_S, preds_T = at_least_float32(preds_S), at_least_float32(preds_T)
        dim = self.dim
        if self.across == 'batch':
            preds_S, preds_T = self._batch(preds_S, preds_T, mask)
            dim, mask = 0, None
            if len(preds_S) < 2:  # One image alone has no order.
                losses = (preds_S - preds_S).sum(dim=0)
                return losses if self.reduction == 'none' else losses.sum()
        loss = kendall_rank_loss(
            preds_S,
            preds_T,
            self.steepness,
            self.surrogate,
            self.reduction,
            dim=dim,
            mask=mask,
            topk=self.topk,
            mink=self.mink,
            standardize=self.standardize,
            backend=self.backend,
            compute_value=self.compute_value,
        )
        return self.loss_weight * loss

    def _batch(
        self, preds_S: Tensor, preds_T: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The images that are ranked."""
        if preds_S.dim() != 2 or preds_S.shape != preds_T.shape:
            raise ValueError(
                "across='batch' takes logits (N, C) of one shape, got "
                f'{tuple(preds_S.shape)} and {tuple(preds_T.shape)}'
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
        return preds_S, preds_T

    def extra_repr(self) -> str:
        return (
            f'steepness={self.steepness}, surrogate={self.surrogate!r}, '
            f'reduction={self.reduction!r}, dim={self.dim}, topk={self.topk}, mink={self.mink}, '
            f'standardize={self.standardize}, backend={self.backend!r}, '
            f'across={self.across!r}, gather={self.gather}, '
            f'loss_weight={self.loss_weight}, teacher_detach={self.teacher_detach}, '
            f'compute_value={self.compute_value}'
        )
