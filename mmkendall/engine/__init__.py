"""Hooks and loops that a config can name, and what the tools do with a config."""

from mmkendall.engine.hooks import (
    AtomicCheckpointHook,
    ExactResumeHook,
    FiniteLossHook,
    RankWeightSchedule,
)
from mmkendall.engine.loops import DistillValLoop

__all__ = [
    'AtomicCheckpointHook',
    'DistillValLoop',
    'ExactResumeHook',
    'FiniteLossHook',
    'RankWeightSchedule',
]
