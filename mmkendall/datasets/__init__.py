"""Datasets, samplers, transforms and collate functions that a config can name."""

from mmkendall.datasets.digits import Digits
from mmkendall.datasets.fashion_mnist import FashionMNIST
from mmkendall.datasets.fixed_views import FixedViews, NumberedRows, ViewSampler
from mmkendall.datasets.glyphs_dataset import Glyphs
from mmkendall.datasets.in_memory import InMemory, stack_batch

__all__ = [
    'Digits',
    'FashionMNIST',
    'FixedViews',
    'Glyphs',
    'InMemory',
    'NumberedRows',
    'ViewSampler',
    'stack_batch',
]
