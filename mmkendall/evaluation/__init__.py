"""Metrics that a config can name."""

from mmkendall.evaluation.metrics import KeepPredictions, KendallTau

__all__ = ['KeepPredictions', 'KendallTau']
