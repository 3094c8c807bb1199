from __future__ import annotations

from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor

from mmkendall.functional.checks import check_not_negative
from mmkendall.models.losses.logit_losses import (
    LOGIT_LOSSES,
    divides_by_classes,
    find_logit_losses,
    mean_warning,
    rank_entry,
    rank_mapping,
    rank_names,
)
from mmkendall.warn_once import warn_once


class RankAugmentedDistiller(ConfigurableDistiller):
    r"""mmrazor's ``ConfigurableDistiller`` with the ranking loss beside every logit loss it has.

    .. math::
        L = \ldots + \alpha L_{logit} + \gamma L_{rank}, \qquad \gamma = w\, \alpha

    Source: Guan et al., "Enhancing Logits Distillation with Plug&Play Kendall's tau Ranking Loss",
    ICML 2025; gamma = alpha throughout (second-hand, see docs/sources.md).

    :math:`\alpha` is the weight that the logit loss has at that moment: its ``loss_weight``, and
    of our ``DKDLoss`` also what its warm-up makes of it. The ranking loss reads the very records
    that the logit loss reads, connectors included, and is logged as ``distill.loss_rank``, or as
    ``distill.loss_rank_NAME`` where there are several. Known are the classes in
    ``mmkendall.models.losses.logit_losses.LOGIT_LOSSES``.

    Args:
        rank_weight: w, 0 at least. Defaults to 1.
        rank_loss: further arguments of ``KendallRankLoss``, but not its ``loss_weight``. Defaults
            to None.
        **kwargs: arguments of ``ConfigurableDistiller``.

    Raises:
        ValueError: no logit loss that we know, an entry that is there already, or an option out
            of its range; all when it is built.

    Example:
        Two lines turn a ``ConfigurableDistiller`` into this one::

            distiller=dict(
                _scope_='mmrazor',
                type='mmkendall.RankAugmentedDistiller',
                rank_loss=dict(steepness=100.0),
                ...)
    """

    def __init__(self, rank_weight: float = 1.0, rank_loss: dict | None = None, **kwargs) -> None:
        check_not_negative(rank_weight=rank_weight)
        options = dict(rank_loss or {})
        for name in ('type', 'loss_weight'):
            if name in options:
                raise ValueError(
                    f'rank_loss takes arguments of KendallRankLoss without {name!r}; its weight '
                    'relative to the logit loss is rank_weight'
                )
        losses = dict(kwargs.get('distill_losses') or {})
        mappings = dict(kwargs.get('loss_forward_mappings') or {})
        names = self._rank_names(losses, mappings, kwargs.get('student_recorders'))
        for logit_name, rank_name in names.items():
            if divides_by_classes(losses[logit_name]):
                warn_once(mean_warning(f'distill_losses.{logit_name}'))
            losses[rank_name] = rank_entry(losses[logit_name], loss_weight=rank_weight, **options)
            mappings[rank_name] = rank_mapping(losses[logit_name], mappings[logit_name])
        kwargs.update(distill_losses=losses, loss_forward_mappings=mappings)
        super().__init__(**kwargs)
        self.rank_names = names

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """All losses, the ranking ones with the present weight of the logit loss beside them."""
        losses = super().compute_distill_losses()
        for logit_name, rank_name in self.rank_names.items():
            logit_loss = self.distill_losses[logit_name]
            alpha = getattr(logit_loss, 'present_weight', logit_loss.loss_weight)
            losses[rank_name] = alpha * losses[rank_name]
        return losses

    @staticmethod
    def _rank_names(losses: dict, mappings: dict, recorders: dict | None) -> dict[str, str]:
        """The names of the terms to add, by the logit loss that each stands beside."""
        found = ', '.join(f'{name} ({loss.get("type")})' for name, loss in losses.items())
        names = rank_names(find_logit_losses(losses, mappings, recorders))
        if not names:
            raise ValueError(
                'RankAugmentedDistiller found no logit loss to stand beside: it knows '
                f'{", ".join(LOGIT_LOSSES)}, and distill_losses has {found or "nothing"}'
            )
        for name in names.values():
            if name in losses:
                raise ValueError(
                    f'RankAugmentedDistiller adds {name!r} itself, and distill_losses has one: '
                    f'{found}. Remove it, or go back to ConfigurableDistiller'
                )
        return names
