"""Whether the weights that a checkpoint was to bring have arrived."""

from __future__ import annotations

import re

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, is_model_wrapper
from torch import Tensor, nn

from mmkendall.warn_once import warn_once

# Where distillation algorithms, ours and mmrazor's, have the student.
STUDENT = 'architecture.'
# In what torch says of a tensor of another shape.
MISMATCH = re.compile(
    r'size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)'
)


class CheckpointError(ValueError):
    """A checkpoint that is not of the model it was loaded into."""


class LoadingCheck:
    """Notes what came of loading weights into a module, and refuses those of another model.

    mmengine loads with ``strict=False`` and prints what does not fit. A checkpoint of another
    network then leaves random weights, and the run goes on. Judged is what really came of it, so
    names and shapes that a model's own hooks translate are no fault.

    A distillation checkpoint fits as well: its student is taken.

    Args:
        module: the module to watch, whoever loads into it.
        name: what to call it in messages.
        complete: every tensor must come from the checkpoint. Otherwise half of them are enough,
            and a warning names the others: a head for other classes, say. Defaults to False.
        finite: refuse a NaN or an infinity. Defaults to False.
        nested: also judge when the weights of a larger model are loaded. Defaults to True.

    Attributes:
        loaded: whether weights have been loaded.
        source: the file that is loaded, for messages, None where unknown.
        missing, unexpected, mismatched: names of the module's tensors, after it was loaded.
        classes: names of the classes that the checkpoint was trained on, None where unknown.
        given: whether the module has weights though nothing is loaded: it was an object that has
            them, or its config names their file. Set by who builds the module.
        reloadable: whether its config names that file, so that it can be read again. Set likewise.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        complete: bool = False,
        finite: bool = False,
        nested: bool = True,
    ) -> None:
        self.name = name
        self.source: str | None = None
        self.complete = complete
        self.finite = finite
        self.nested = nested
        self.loaded = False
        self.given = False
        self.reloadable = False
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.mismatched: list[str] = []
        self.classes: tuple[str, ...] | None = None
        self._loading: tuple | None = None
        module._register_load_state_dict_pre_hook(self._before, with_module=True)
        module.register_load_state_dict_post_hook(self._after)

    def _before(self, module: nn.Module, state: dict, prefix: str, *arguments) -> None:
        take_distilled_student(module, state, prefix)
        given = [name for name in state if name.startswith(prefix)]
        judged = not prefix or (self.nested and given)
        self._loading = (prefix, given, arguments[-1]) if judged else None

    def _after(self, module: nn.Module, incompatible_keys) -> None:
        if self._loading is None:
            return
        (prefix, given, errors), self._loading = self._loading, None
        shapes = {
            name: f'({came}) for ({wanted})'
            for error in errors
            for name, came, wanted in MISMATCH.findall(error)
        }
        self.missing, self.unexpected, self.mismatched = (
            [
                name[len(prefix) :]
                for name in names
                if name.startswith(prefix) and not name.endswith('num_batches_tracked')
            ]
            for names in (
                incompatible_keys.missing_keys,
                incompatible_keys.unexpected_keys,
                shapes,
            )
        )
        lost = len(self.missing) + len(self.mismatched)
        if lost:
            total = sum(not name.endswith('num_batches_tracked') for name in module.state_dict())
            shown = [f'{name} {shapes[prefix + name]}' for name in self.mismatched]
            self._report(module, total, lost, shown, [name[len(prefix) :] for name in given])
        self.loaded = True
        if self.finite:
            check_finite(module, f'{self.name}{self._from()}')

    def _report(
        self, module: nn.Module, total: int, lost: int, mismatched: list[str], given: list[str]
    ) -> None:
        parts = []
        if self.missing:
            parts.append(f'{len(self.missing)} are missing ({some(self.missing)})')
        if self.mismatched:
            parts.append(f'{len(self.mismatched)} have another shape ({some(mismatched)})')
        text = (
            f'the checkpoint{self._from()} holds {total - lost} of the {total} tensors of the '
            f'{self.name}, a {type(module).__name__}: {" and ".join(parts)}'
        )
        if self.complete or 2 * lost > total:
            holds = some(sorted({name.partition('.')[0] for name in given})) or 'nothing'
            raise CheckpointError(
                f'{text}; it has {holds}. Give the checkpoint of a {type(module).__name__} of '
                'this very config'
            )
        warn_once(f'{text}. These keep the values they had before')

    def _from(self) -> str:
        return f' {self.source!r}' if self.source else ''


def some(names: list[str], most: int = 3) -> str:
    """The first of many names."""
    more = f', and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


def check_finite(model: nn.Module, name: str) -> None:
    """Raises CheckpointError for a NaN in a model's tensors, or an infinity in its parameters."""
    parameters = {key for key, _ in model.named_parameters()}
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # Buffers may be masks of minus infinity.
        bad = ~torch.isfinite(value) if key in parameters else torch.isnan(value)
        if bad.any():
            raise CheckpointError(
                f'{int(bad.sum())} of the {value.numel()} values of {key} of the {name} are NaN '
                'or infinite, so its training had broken down: take an earlier checkpoint'
            )


def watch_parts(model: nn.Module, name: str) -> None:
    """Has the parts checked that load a checkpoint of their own: a backbone, say."""
    for path, part in model.named_modules():
        if path and has_pretrained_weights(part):
            configs = part.init_cfg if isinstance(part.init_cfg, list) else [part.init_cfg]
            check = LoadingCheck(part, f'{name}, {path}', nested=False)
            check.source = configs[-1].get('checkpoint')


def has_pretrained_weights(module: nn.Module) -> bool:
    """Whether ``init_cfg`` of the module itself loads a checkpoint."""
    config = getattr(module, 'init_cfg', None)
    configs = config if isinstance(config, list) else [config]
    return any(
        isinstance(config, dict) and config.get('type') in ('Pretrained', PretrainedInit)
        for config in configs
    )


def take_plain_student(model: nn.Module, state: dict, prefix: str, *_) -> None:
    """A load_state_dict pre-hook: a plain student's weights go to ``architecture.``, in place."""
    for name in list(state):
        # DistributedDataParallel and averaged models put this in front.
        if name.startswith(f'{prefix}module.'):
            state[prefix + name[len(prefix) :].removeprefix('module.')] = state.pop(name)
    names = [name for name in state if name.startswith(prefix)]
    if not names or any(name.startswith(prefix + STUDENT) for name in names):
        return
    for name in names:
        state[prefix + STUDENT + name[len(prefix) :]] = state.pop(name)
    print_log(
        'The checkpoint is of no distillation: its weights are taken for those of the student',
        'current',
    )


def take_distilled_student(model: nn.Module, state: dict, prefix: str, *_) -> None:
    """The opposite, for a plain model: of a distillation checkpoint the student alone is taken."""
    student = prefix + STUDENT
    if 'architecture' in model._modules or not any(name.startswith(student) for name in state):
        return
    for name in list(state):
        if name.startswith(prefix):
            value = state.pop(name)
            if name.startswith(student):
                state[prefix + name[len(student) :]] = value
    print_log('The checkpoint is of a distillation: the student of it is taken', 'current')


def watch_loading(model: nn.Module, complete: bool, source: str | None = None) -> LoadingCheck:
    """Has a model checked whenever weights are loaded into it, as our tools do with any model.

    Args:
        model: a ``LogitDistill``, an algorithm of mmrazor, or any other model, wrapped or not.
        complete: every tensor of the student must come from the checkpoint, as for a test.
        source: the checkpoint, for messages. Defaults to None, unknown.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    check = model.__dict__.get('student_loading')
    if check is None:
        student = model._modules.get('architecture')
        if student is None:
            check = LoadingCheck(model, 'model')
            watch_parts(model, 'model')
        else:
            model._register_load_state_dict_pre_hook(take_plain_student, with_module=True)
            check = LoadingCheck(student, 'student')
            watch_parts(student, 'student')
        model.__dict__['student_loading'] = check
    check.complete, check.source = complete, source
    return check
