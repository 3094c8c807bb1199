"""What our tools make sure of once a runner has built its model, whatever model it is."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner
from torch import nn

from mmkendall.engine.errors import ConfigError
from mmkendall.models.algorithms.loading import watch_loading
from mmkendall.models.algorithms.student_settings import lost_augmentation


def check_built_model(runner: Runner, complete: bool) -> None:
    """Refuses a model that would not do what its config says, and has its loading checked.

    Args:
        runner: before it trains or tests.
        complete: the checkpoint that is loaded must hold every tensor of the student, as for a
            test or to resume; else half of them.

    Raises:
        ConfigError: a setting of the wrapped student would be lost, learning rates that go by
            the names of a plain model, or a hook that would end the run later.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, nn.Module):
        return  # A FlexibleRunner builds it later; a LogitDistill checks what it loads by itself.
    student = model._modules.get('architecture')
    if student is not None:
        lost = lost_augmentation(model.data_preprocessor, student)
        if lost:
            raise ConfigError(f'{lost}, or take mmkendall.LogitDistill, which takes it over')
        check_constructor(runner.cfg.get('optim_wrapper') or {})
        check_hooks(model, runner.hooks)
    watch_loading(runner.model, complete, runner._load_from)


def check_hooks(model: nn.Module, hooks: list[Hook]) -> None:
    """Raises ConfigError for a change that a hook is going to make and the model cannot take."""
    for hook in hooks:
        # By name, as the packages that have them need not be there.
        kinds = {kind.__name__ for kind in type(hook).__mro__}
        if 'StopDistillHook' in kinds and not getattr(model, 'calculate_student_loss', True):
            raise ConfigError(
                f'StopDistillHook ends distillation at epoch {hook.stop_epoch}, and '
                'model.calculate_student_loss is False: nothing would be left to train'
            )
        if 'SwitchRecipeHook' not in kinds:
            continue
        for epoch, recipe in hook.schedule.items():
            changed = [key for key in ('batch_augments', 'train_pipeline') if recipe.get(key)]
            if changed and getattr(model, 'teacher_logits', None) is not None:
                raise ConfigError(
                    f'SwitchRecipeHook changes {" and ".join(changed)} at epoch {epoch}, and '
                    'model.teacher_logits are of the images as they were before: train with a '
                    'live teacher, model.teacher_logits=None'
                )
            behind = [
                f'{key} ({recorder.source})'
                for key, recorder in student_recorders(model).items()
                if f'{recorder.source}.'.startswith('head.loss_module.')
            ]
            if 'loss' in recipe and behind:
                raise ConfigError(
                    f'SwitchRecipeHook puts another loss into the head at epoch {epoch}, and '
                    f'student recorders would be left at the old one: {", ".join(behind)}'
                )


def student_recorders(model: nn.Module) -> dict:
    """The student's recorders of an algorithm that has a distiller, by name."""
    manager = getattr(getattr(model, 'distiller', None), 'student_recorders', None)
    return getattr(manager, 'recorders', {})


def check_constructor(optim_wrapper: dict) -> None:
    """Raises ConfigError for mmdet's and mmseg's layer-wise decay under a distillation.

    They know a layer by names that begin with ``backbone.``, and the student's begin with
    ``architecture.``: every layer would be taken for the last, and nothing would decay.
    """
    name = optim_wrapper.get('constructor')
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(name) if isinstance(name, str) else name
    package = getattr(constructor, '__module__', '').partition('.')[0]
    if package in ('mmdet', 'mmseg') and 'Decay' in constructor.__name__:
        raise ConfigError(
            f"optim_wrapper.constructor {constructor.__name__} of {package} knows a detector's "
            'layers by their names, which a distillation changes: it would give all of them the '
            'same rate. Give rates with paramwise_cfg.custom_keys instead'
        )
