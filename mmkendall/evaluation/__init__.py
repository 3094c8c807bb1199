"""Metrics that a config can name."""

from mmkendall.evaluation.metrics import KendallTau

__all__ = ['KendallTau']
