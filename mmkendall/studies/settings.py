"""What of a config the result of a training depends on, and whether two configs agree in it."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from mmkendall.engine.errors import ConfigError

# Top-level names that no training depends on: what is shown and kept, what tests alone need. The
# seed is of a run, not of a config; `teacher_ckpt` is a variable that model.teacher_ckpt took.
OUTSIDE = (
    'default_hooks', 'env_cfg', 'experiment_name', 'launcher', 'log_level', 'log_processor',
    'randomness', 'resume', 'teacher_ckpt', 'test_cfg', 'test_dataloader', 'test_evaluator',
    'vis_backends', 'visualizer', 'work_dir',
)  # fmt: skip
# Hooks that log, save and guard.
HARMLESS_HOOKS = (
    'checkpoint', 'exact_resume', 'finite_loss', 'logger', 'timer', 'visualization',
)  # fmt: skip
# Where the data lie and how they are fetched, wherever it stands.
PLACES = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
MISSING = object()


def settings(config: Mapping) -> dict[str, Any]:
    """The part of a config that the result of its training depends on, as plain containers.

    Args:
        config: one that was loaded, or that a run dumped.
    """
    kept = {name: value for name, value in config.items() if name not in OUTSIDE}
    hooks = config.get('default_hooks') or {}
    kept['default_hooks'] = {
        name: hook for name, hook in hooks.items() if name not in HARMLESS_HOOKS
    }
    if config.get('resume'):  # The checkpoint that the training went on from.
        kept['load_from'] = None
    if not (config.get('auto_scale_lr') or {}).get('enable'):
        kept.pop('auto_scale_lr', None)
    return _plain(kept)


def _plain(value: Any, key: str = '') -> Any:
    if key == 'teacher_ckpt' and isinstance(value, str):
        return checkpoint_name(value)
    if isinstance(value, Mapping):
        return {
            str(name): _plain(each, str(name))
            for name, each in value.items()
            if name not in PLACES
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each, key) for each in value]
    return value


def checkpoint_name(path: str) -> str:
    """What a checkpoint is called, wherever it lies.

    That is the name of its file, and of its folder too where the file is only called by its epoch.
    """
    path = PurePosixPath(path)
    numbered = re.fullmatch(r'(?:epoch|iter)_\d+\.pth', path.name)
    return f'{path.parent.name}/{path.name}' if numbered else path.name


def fingerprint(config: Mapping) -> str:
    """A short text that is another one where a setting is another one."""
    text = json.dumps(settings(config), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(wanted: Mapping, found: Mapping) -> list[str]:
    """Each setting in which one config is not like another, in words.

    Args:
        wanted: a config.
        found: the other.
    """
    return list(_differences(settings(wanted), settings(found), ''))


def _differences(wanted: Any, found: Any, name: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict) and not _other_things(wanted, found):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = f'{name}.{key}' if name else key
            yield from _differences(wanted.get(key, MISSING), found.get(key, MISSING), inner)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, pair in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(*pair, f'{name}.{index}')
    elif wanted is MISSING:
        yield f'{name} is {_short(found)}, and the config has none'
    elif found is MISSING:
        yield f'{name} is not there, and {_short(wanted)} in the config'
    elif wanted != found:
        yield f'{name} is {_short(found)} in place of {_short(wanted)}'


def _other_things(wanted: dict, found: dict) -> bool:
    """Whether two small dicts are of different types, so that it is said once, of the whole."""
    values = [*wanted.values(), *found.values()]
    return wanted.get('type') != found.get('type') and not any(
        isinstance(value, dict) for value in values
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def read_dump(text: str, name: str) -> dict[str, Any]:
    """The config in a file that mmengine dumped, without running it.

    A config is a program, and this one may be anybody's: only the plain values and ``dict(...)``
    that mmengine writes are read.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        ConfigError: there is something else in it.
    """
    try:
        statements = ast.parse(text).body
        return {statement.targets[0].id: _value(statement.value) for statement in statements}
    except (SyntaxError, AttributeError, ValueError) as error:
        raise ConfigError(
            f'{name} is no config as mmengine dumps it, of plain values alone: {error}'
        ) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        values = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if node.args or None in values:
            raise ValueError(f'line {node.lineno} has a dict(...) of something else than names')
        return values
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _value(key): _value(each) for key, each in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(each) for each in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f'line {node.lineno} has {ast.unparse(node)[:60]}') from error
