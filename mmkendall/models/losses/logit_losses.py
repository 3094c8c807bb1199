"""Which losses are on logits, and where the ranking loss stands beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmkendall.registry import MODELS

# By the name of the class, and what its forward calls the student's and the teacher's logits.
LOGIT_LOSSES = {
    'KLDivergence': ('preds_S', 'preds_T'),
    'DKDLoss': ('preds_S', 'preds_T'),
    'KDSoftCELoss': ('preds_S', 'preds_T'),
    'DISTLoss': ('logits_S', 'logits_T'),
    'WSLD': ('student', 'teacher'),
    'CTKDLoss': ('preds_S', 'preds_T'),
    'MLKDLoss': ('preds_S', 'preds_T'),
    'KDLoss': ('preds_S', 'preds_T'),
    'PLDLoss': ('preds_S', 'preds_T'),
    'ListMLELoss': ('preds_S', 'preds_T'),
    'WTTMLoss': ('preds_S', 'preds_T'),
    'BiLDLoss': ('preds_S', 'preds_T'),
    'PearsonLoss': ('preds_S', 'preds_T'),
}

# Losses on feature maps, which are logit losses where what they read is a classifier's output.
FEATURE_LOSSES = {
    'ChannelWiseDivergence': ('preds_S', 'preds_T'),
    'L1Loss': ('s_feature', 't_feature'),
}
# The names that OpenMMLab's heads give to the layer whose output is the logits.
CLASSIFIER = re.compile(r'(^|\.)(fc|fc_cls|conv_seg|conv_cls|cls_seg|layers\.head)$')

# A wrapper around one of them, which takes preds_S and preds_T whatever is inside.
DENSE = 'DenseLogitLoss'
RANK = 'KendallRankLoss'


def plain_type(loss: Mapping) -> str:
    """The name of a loss's class from its config, whether a name, a name with a scope or a class.

    A class that derives from one of the losses above goes by that one's name. Names are looked up
    in ``_scope_`` and the default scope, as they are when the loss is built.
    """
    kind = loss.get('type')
    found: Any = kind
    if isinstance(kind, str):
        with MODELS.root.switch_scope_and_registry(loss.get('_scope_')) as node:
            found = node.get(kind)
    if isinstance(found, type):
        known = (*LOGIT_LOSSES, *FEATURE_LOSSES, DENSE, RANK)
        for parent in found.__mro__:
            if parent.__name__ in known:
                return parent.__name__
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def logit_loss(loss: Mapping) -> Mapping:
    """The config of a loss, or that of the loss inside a ``DenseLogitLoss``."""
    return loss['loss'] if plain_type(loss) == DENSE and 'loss' in loss else loss


def logit_arguments(loss: Mapping) -> tuple[str, str] | None:
    """What a logit loss's forward calls the student's and the teacher's logits; None for others.

    Args:
        loss: its config.
    """
    if plain_type(loss) == DENSE:
        return ('preds_S', 'preds_T') if plain_type(logit_loss(loss)) in LOGIT_LOSSES else None
    return LOGIT_LOSSES.get(plain_type(loss))


def find_logit_losses(
    losses: Mapping[str, Mapping],
    mappings: Mapping[str, Mapping],
    recorders: Mapping[str, Mapping] | None = None,
) -> list[str]:
    """The names of the logit losses of a distiller's config that are computed.

    Args:
        losses: ``distill_losses``.
        mappings: ``loss_forward_mappings``.
        recorders: ``student_recorders``, by which a loss on feature maps is told from the same
            loss on the output of a classifier. Defaults to None: the first are not logit losses.
    """
    return [
        name
        for name, loss in losses.items()
        if isinstance(loss, Mapping)
        and name in mappings
        and (logit_arguments(loss) or _reads_logits(loss, mappings[name], recorders or {}))
    ]


def _reads_logits(loss: Mapping, mapping: Mapping, recorders: Mapping[str, Mapping]) -> bool:
    """Whether a loss on feature maps reads what a student's classifier puts out."""
    student, _ = FEATURE_LOSSES.get(plain_type(loss), (None, None))
    recorder = recorders.get(mapping.get(student, {}).get('recorder'), {})
    outputs = str(recorder.get('type')) == 'ModuleOutputs'
    return outputs and CLASSIFIER.search(str(recorder.get('source'))) is not None


def divides_by_classes(loss: Mapping) -> bool:
    """Whether a loss is a KLDivergence with reduction='mean', divided by images times classes."""
    inner = logit_loss(loss)
    return plain_type(inner) == 'KLDivergence' and inner.get('reduction') == 'mean'


def mean_warning(name: str) -> str:
    """What to say of a ranking loss beside such a loss.

    Args:
        name: that of the loss in ``distill_losses``.
    """
    return (
        f"{name} is a KLDivergence with reduction='mean', which divides by images times classes, "
        'and the ranking loss by images alone: at the same weight the ranking loss outweighs it '
        "by far. Set reduction='batchmean' and divide its loss_weight by the number of classes, "
        'or give the ranking loss a weight that is as many times smaller'
    )


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

    Raises:
        ValueError: the entry lacks an argument of the loss.
    """
    pair = logit_arguments(loss) or FEATURE_LOSSES[plain_type(loss)]
    missing = [argument for argument in pair if argument not in mapping]
    if missing:
        raise ValueError(
            f'a {plain_type(loss)} takes {" and ".join(pair)}, and its entry in '
            f'loss_forward_mappings has {", ".join(mapping) or "nothing"}: rename them'
        )
    return dict(preds_S=dict(mapping[pair[0]]), preds_T=dict(mapping[pair[1]]))
