"""Distillers. mmrazor is imported when a config asks for one: our losses do without it."""

from typing import TYPE_CHECKING

from mmkendall.registry import MODELS

if TYPE_CHECKING:
    from mmkendall.models.distillers.rank_augmented_distiller import RankAugmentedDistiller


@MODELS.register_module(name='RankAugmentedDistiller')
def build_rank_augmented_distiller(**options) -> 'RankAugmentedDistiller':
    """Builds a ``RankAugmentedDistiller`` for the registry."""
    from mmkendall.models.distillers.rank_augmented_distiller import RankAugmentedDistiller

    return RankAugmentedDistiller(**options)
