"""Datasets, samplers and transforms that a config can name."""

from mmkendall.datasets.digits import Digits
from mmkendall.datasets.fixed_views import FixedViews, ViewSampler

__all__ = ['Digits', 'FixedViews', 'ViewSampler']
