"""Datasets and transforms that a config can name."""

from mmkendall.datasets.digits import Digits

__all__ = ['Digits']
