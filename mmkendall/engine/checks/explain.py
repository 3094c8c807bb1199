"""What an exception of mmengine, mmrazor or torch means for the config, in one sentence."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import URLError

from mmengine.config import Config

from mmkendall.engine.checks.scopes import close_names, close_types
from mmkendall.engine.errors import ConfigError

NOT_REGISTERED = re.compile(r'^([\w.]+) is not in the (?:([\w ]+)::)?([\w ]+) registry')
NO_TYPE = re.compile(r'must contain the key "type", but got (\{.*\})')
VAR = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def one_line(error: BaseException) -> str:
    """The text of an exception without line breaks and without what a worker puts around it."""
    text = str(error.args[0]) if error.args and isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if lines and 'Original Traceback' in text:  # From a process that loads data.
        return lines[-1]
    return ' '.join(lines)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place(error: BaseException) -> str:
    """The file and line that raised an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return 'unknown'
    return f'{"/".join(frames[-1].filename.split("/")[-3:])}:{frames[-1].lineno}'


def reason(error: BaseException, kind: Any = None) -> str:
    """Why something could not be built.

    Args:
        error: the exception.
        kind: the class or function that was called, to list its arguments.
    """
    text = one_line(error)
    unknown = NOT_REGISTERED.match(text)
    if unknown:
        name, scope, registry = unknown.groups()
        problem = _import_error(name.rpartition('.')[0].partition('.')[0])
        if problem:
            return f'the {registry} type {name!r} is not known, for {problem}'
        return (
            f'the {registry} type {name!r} is not known in the scope {scope or "mmengine"}; names '
            f'like it: {close_types(name)}'
        )
    argument = re.search(r"unexpected keyword argument '(\w+)'", text)
    if argument and callable(kind):
        known = arguments_of(kind)
        close = close_names(argument.group(1), known)
        return (
            f'it takes no argument {argument.group(1)!r}'
            f'{f", did you mean {close}" if close else ""}; it takes {", ".join(known)}'
        )
    return text if text.strip() else type(error).__name__


def _import_error(package: str) -> str:
    """Why a package that is there cannot be imported; '' if it can, or if there is none.

    mmengine says no more than that its types are not there.
    """
    # What stands for a package of another name has no place to be found at.
    if not package or package in sys.modules or importlib.util.find_spec(package) is None:
        return ''
    try:
        importlib.import_module(package)
    except Exception as error:  # An import may raise anything.
        return (
            f'{package} cannot be imported: {type(error).__name__}: {one_line(error)} '
            f'(raised at {place(error)}); `python -c "import {package}"` shows all of it'
        )
    return ''


def arguments_of(kind: Any) -> list[str]:
    """The arguments that a class or function takes by name, those of its parents included."""
    kinds = [parent.__init__ for parent in kind.__mro__[:-1]] if isinstance(kind, type) else [kind]
    found: dict[str, None] = {}
    for part in kinds:
        parameters = inspect.signature(part).parameters.values()
        found.update((p.name, None) for p in parameters if p.name != 'self' and p.kind not in VAR)
        if all(parameter.kind not in VAR for parameter in parameters):
            break  # It hands nothing on.
    return list(found)


def build_error(error: BaseException, cfg: Config) -> ConfigError:
    """The ConfigError for an exception that was raised while a run was built."""
    for link in chain(error):
        if isinstance(link, ConfigError):
            return link
        if isinstance(link, (URLError, ConnectionError, TimeoutError)):
            return _not_fetched(cfg, link)
    if type(error).__module__.startswith('mmkendall.'):
        return ConfigError(one_line(error))
    unknown = NOT_REGISTERED.match(one_line(error))
    if unknown:
        where = ', '.join(_places(cfg, unknown.group(1))) or 'the config'
        return ConfigError(f'{where}: {reason(error)}')
    untyped = NO_TYPE.search(one_line(error))
    if untyped:
        got = untyped[1]
        where = [path for path, part in walk(cfg) if str(part) == got]
        return ConfigError(f'{" or ".join(where) or "a part"} must have a type, got {got}')
    return ConfigError(f'{type(error).__name__}: {reason(error)} (raised at {place(error)})')


def walk(config: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """Every dict inside a config with the path to it."""
    if isinstance(config, Config):
        config = config._cfg_dict
    if isinstance(config, Mapping):
        yield path, config
        items = config.items()
    elif isinstance(config, (list, tuple)):
        items = enumerate(config)
    else:
        return
    for key, value in items:
        yield from walk(value, f'{path}.{key}' if path else str(key))


def _places(cfg: Config, kind: str) -> Iterator[str]:
    for path, config in walk(cfg):
        name = config.get('type')
        if name == kind or (isinstance(name, str) and name.endswith(f'.{kind}')):
            yield f'{path}.type' if path else 'type'


def _not_fetched(cfg: Config, error: BaseException) -> ConfigError:
    """What to do where weights cannot be fetched."""
    wanted, instead = [], ['model.teacher_ckpt=PATH']
    for path, part in walk(cfg.get('model'), 'model'):
        if 'cfg_path' in part and part.get('pretrained'):
            wanted.append(f'the weights of {part["cfg_path"]} ({path}.pretrained=True)')
            instead.append(f'{path}.pretrained=False')
        for value in part.values():
            if isinstance(value, str) and value.startswith(('http://', 'https://')):
                wanted.append(value)
    return ConfigError(
        f'{", ".join(dict.fromkeys(wanted)) or "a URL of the config"} could not be fetched: '
        f'{one_line(error)}. Fetch it where there is a network, and name the file instead, for '
        f'instance with --cfg-options {" ".join(instead)}'
    )
