"""Which losses are on logits, and where the ranking loss stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# By the name of the class, and what its forward calls the student's and the teacher's logits.
LOGIT_LOSSES = {
    'KLDivergence': ('preds_S', 'preds_T'),
    'DKDLoss': ('preds_S', 'preds_T'),
    'KDSoftCELoss': ('preds_S', 'preds_T'),
    'DISTLoss': ('logits_S', 'logits_T'),
    'WSLD': ('student', 'teacher'),
    'CTKDLoss': ('preds_S', 'preds_T'),
    'MLKDLoss': ('preds_S', 'preds_T'),
}

# A wrapper around one of them, which takes preds_S and preds_T whatever is inside.
DENSE = 'DenseLogitLoss'


def plain_type(loss: Mapping) -> str:
    """The name of a loss's class from its config, whether a string with a scope or a class."""
    kind = loss.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def logit_loss(loss: Mapping) -> Mapping:
    """The config of a loss, or that of the loss inside a ``DenseLogitLoss``."""
    return loss['loss'] if plain_type(loss) == DENSE else loss


def find_logit_losses(losses: Mapping[str, Mapping], mappings: Iterable[str]) -> list[str]:
    """The names of the logit losses of a distiller's config that are computed.

    Args:
        losses: ``distill_losses``.
        mappings: the names in ``loss_forward_mappings``.
    """
    return [
        name
        for name, loss in losses.items()
        if plain_type(logit_loss(loss)) in LOGIT_LOSSES and name in mappings
    ]


def rank_names(logit_losses: list[str]) -> dict[str, str]:
    """The name of the ranking loss beside each logit loss: ``loss_rank`` beside one alone."""
    if len(logit_losses) == 1:
        return {logit_losses[0]: 'loss_rank'}
    return {name: f'loss_rank_{name.removeprefix("loss_")}' for name in logit_losses}


def rank_entry(loss: Mapping, **options) -> dict:
    """The config of the ranking loss beside a logit loss: on the same rows, if that is dense.

    Args:
        loss: the config of the logit loss.
        **options: arguments of ``KendallRankLoss``.
    """
    rank = dict(type='mmkendall.KendallRankLoss', **options)
    return {**loss, 'loss': rank} if plain_type(loss) == DENSE else rank


def rank_mapping(loss: Mapping, mapping: Mapping[str, Mapping]) -> dict[str, dict]:
    """The very records that a logit loss reads, as the ranking loss calls them.

    Args:
        loss: the config of the logit loss.
        mapping: its entry in ``loss_forward_mappings``.
    """
    dense = plain_type(loss) == DENSE
    student, teacher = ('preds_S', 'preds_T') if dense else LOGIT_LOSSES[plain_type(loss)]
    return dict(preds_S=dict(mapping[student]), preds_T=dict(mapping[teacher]))
