"""What our tools make sure of once a runner has built its model, whatever model it is."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmkendall.engine.distill_config import ConfigError
from mmkendall.models.algorithms.loading import watch_loading
from mmkendall.models.algorithms.student_settings import lost_augmentation


def check_built_model(runner: Runner, complete: bool) -> None:
    """Refuses a model that would not do what its config says, and has its loading checked.

    Args:
        runner: before it trains or tests.
        complete: the checkpoint that is loaded must hold every tensor of the student, as for a
            test or to resume; else half of them.

    Raises:
        ConfigError: a setting of the wrapped student would be lost.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    student = model._modules.get('architecture')
    if student is not None:
        lost = lost_augmentation(model.data_preprocessor, student)
        if lost:
            raise ConfigError(f'{lost}, or take mmkendall.LogitDistill, which takes it over')
    watch_loading(runner.model, complete, runner._load_from)
