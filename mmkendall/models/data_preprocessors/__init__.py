"""Data preprocessors. mmpretrain is imported when a config asks for one."""

from typing import TYPE_CHECKING

from mmkendall.registry import MODELS

if TYPE_CHECKING:
    from mmkendall.models.data_preprocessors.multi_view import MultiViewDataPreprocessor
    from mmkendall.models.data_preprocessors.stacked import StackedDataPreprocessor


@MODELS.register_module(name='MultiViewDataPreprocessor')
def build_multi_view_data_preprocessor(**options) -> 'MultiViewDataPreprocessor':
    """Builds a ``MultiViewDataPreprocessor`` for the registry."""
    from mmkendall.models.data_preprocessors.multi_view import MultiViewDataPreprocessor

    return MultiViewDataPreprocessor(**options)


@MODELS.register_module(name='StackedDataPreprocessor')
def build_stacked_data_preprocessor(**options) -> 'StackedDataPreprocessor':
    """Builds a ``StackedDataPreprocessor`` for the registry."""
    from mmkendall.models.data_preprocessors.stacked import StackedDataPreprocessor

    return StackedDataPreprocessor(**options)
