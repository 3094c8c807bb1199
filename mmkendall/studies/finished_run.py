"""What the work directory of a finished training says, as mmengine and our tools leave it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from mmkendall.compat.safe_loading import load
from mmkendall.engine.errors import ConfigError
from mmkendall.engine.whole_checkpoints import LAST, checkpoint_fault
from mmkendall.studies.settings import read_dump

SESSION = re.compile(r'\d{8}_\d{6}')
TIME = re.compile(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ', re.M)
# What stands beside the metrics in a line of a validation.
NO_METRICS = ('step', 'time', 'data_time', 'memory')


class Session(NamedTuple):
    """A training, or a part of it between two interruptions.

    Attributes:
        name: the time of its start, as mmengine names the folder.
        config: what it was trained with.
        lines: of ``scalars.json``.
        log: the text of the log.
    """

    name: str
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    log: str


class FinishedRun(NamedTuple):
    """A training that reached its end.

    Attributes:
        name: of the config that was trained, without its ending.
        sessions: a single one, or more if it was resumed.
        by_epoch: whether its length is in epochs; otherwise in iterations.
        length: in epochs or iterations.
        curve: the metrics of each validation, by the epoch or iteration.
        checkpoint: that of the end.
        seed: of the training, None where mmengine did not keep it.
    """

    name: str
    sessions: list[Session]
    by_epoch: bool
    length: int
    curve: dict[int, dict[str, float]]
    checkpoint: Path
    seed: int | None

    @property
    def config(self) -> dict[str, Any]:
        return self.sessions[-1].config

    @property
    def gpus(self) -> list[int]:
        """In how many processes each session trained."""
        return [int(environment(each)['GPU number']) for each in self.sessions]

    @property
    def iterations(self) -> int:
        """Of the whole training, as the last line of it says."""
        return max(line['iter'] for each in self.sessions for line in each.lines if 'iter' in line)

    @property
    def seconds(self) -> float:
        """From the first to the last line of each log, validations and lost epochs included."""
        return sum(map(_seconds, self.sessions))

    def versions(self) -> dict[str, str | None]:
        """What was logged of the software and of the GPUs; ``then`` stands between sessions."""
        found: dict[str, list[str]] = {}
        for session in self.sessions:
            logged = environment(session)
            gpus = [value for key, value in logged.items() if re.fullmatch(r'GPU [\d,]+', key)]
            cuda = re.search(r'CUDA Runtime ([\d.]+)', session.log)
            ours = re.search(r' - INFO - mmkendall: (\S+)', session.log)
            for name, value in (
                ('python', logged['Python'].split()[0]),
                ('torch', logged['PyTorch']),
                ('cuda', cuda[1] if cuda else 'none'),
                ('gpu', ', '.join(gpus) or 'none'),
                ('mmengine', logged['MMEngine']),
                ('mmkendall', ours[1] if ours else 'not logged'),
            ):
                found.setdefault(name, []).append(value)
        return {name: ' then '.join(dict.fromkeys(values)) for name, values in found.items()}

    def sha256(self) -> str:
        """The first eight digits of the checkpoint's, as OpenMMLab puts them into names."""
        return hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()[:8]


def environment(session: Session) -> dict[str, str]:
    """What mmengine logs of the system and the run before a training, by its names.

    Raises:
        ConfigError: it is not in the log.
    """
    _, _, rest = session.log.partition('System environment:')
    block = rest.partition('-' * 60)[0]
    found = dict(re.findall(r'^    ([\w ,]+): (.*)$', block, re.M))
    missing = [key for key in ('Python', 'PyTorch', 'MMEngine', 'GPU number') if key not in found]
    if missing:
        raise ConfigError(
            f'the log of {session.name} does not say {", ".join(missing)}: mmengine logs its '
            'environment before a training, so the log is not whole'
        )
    return found


def _seconds(session: Session) -> float:
    times = [datetime.strptime(each, '%Y/%m/%d %H:%M:%S') for each in TIME.findall(session.log)]
    return (times[-1] - times[0]).total_seconds()


def read_run(work_dir: Path) -> FinishedRun:
    """Reads a work directory.

    Args:
        work_dir: with a folder of a time for each session, ``last_checkpoint`` and the checkpoint
            that it names. Where it has several trainings, the last one counts.

    Raises:
        ConfigError: it is no such directory, or its training has not reached its end.
    """
    sessions = _sessions(work_dir)
    dumped = [path for path in work_dir.glob('*.py') if path.is_file()]
    newest = max(dumped, key=lambda path: path.stat().st_mtime, default=None)
    train_cfg = sessions[-1].config.get('train_cfg') or {}
    by_epoch = 'max_epochs' in train_cfg
    length = train_cfg.get('max_epochs') or train_cfg.get('max_iters')
    if not length:
        raise ConfigError(f'the config of {work_dir} has neither max_epochs nor max_iters')
    unit = 'epoch' if by_epoch else 'iter'
    _check_beginning(sessions[0], unit, work_dir)
    curve: dict[int, dict[str, float]] = {}
    for session in sessions:
        for line in session.lines:
            if 'iter' not in line:  # A validation: the newest of an epoch counts.
                curve[line['step']] = _metrics(line, session.name)
    checkpoint = _last_checkpoint(work_dir, f'{unit}_{length}.pth')
    if length not in curve:
        done = f'the last is of {unit} {max(curve)}' if curve else 'there is none'
        if not by_epoch:
            done += ' (iterations are logged with default_hooks.logger.log_metric_by_epoch=False)'
        raise ConfigError(
            f'{work_dir} has no validation of {unit} {length}, the last one: {done}. Only the end '
            'of a training is imported, so resume it or validate its last epoch'
        )
    meta = load(str(checkpoint), map_location='cpu').get('meta') or {}
    if meta.get(unit) != length:
        raise ConfigError(
            f'{checkpoint} says {unit} {meta.get(unit)}, and its name says {length}: it is not '
            'the checkpoint of this training'
        )
    return FinishedRun(
        newest.stem if newest else '', sessions, by_epoch, length, curve, checkpoint,
        meta.get('seed'),
    )  # fmt: skip


def _sessions(work_dir: Path) -> list[Session]:
    """The sessions of the last training: from the last one that did not resume."""
    if not work_dir.is_dir():
        raise ConfigError(f'there is no folder {str(work_dir)!r}')
    found = []
    for folder in sorted(path for path in work_dir.iterdir() if SESSION.fullmatch(path.name)):
        scalars = folder / 'vis_data' / 'scalars.json'
        lines = _lines(scalars) if scalars.is_file() else []
        if not lines:  # A test, or a training that was stopped before its first line.
            continue
        log, config = folder / f'{folder.name}.log', folder / 'vis_data' / 'config.py'
        for path in (log, config):
            if not path.is_file():
                raise ConfigError(f'{path} is missing, which mmengine writes beside {scalars}')
        session = Session(
            folder.name, read_dump(config.read_text(), str(config)), lines, log.read_text()
        )
        if not session.config.get('resume'):
            found = []
        found.append(session)
    if not found:
        raise ConfigError(
            f'{work_dir} has no training of mmengine: it needs a folder named by a time, such as '
            '20260131_120000, with vis_data/scalars.json'
        )
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    texts = path.read_text().splitlines()
    found = []
    for number, text in enumerate(texts, 1):
        try:
            found.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):  # The last one may be cut off by a kill.
                raise ConfigError(f'line {number} of {path} cannot be read: {error}') from error
    return found


def _metrics(line: dict[str, Any], session: str) -> dict[str, float]:
    found = {name: value for name, value in line.items() if name not in NO_METRICS}
    for name, value in found.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f'{name} of step {line["step"]} in {session} is {value!r}')
    return found


def _check_beginning(session: Session, unit: str, work_dir: Path) -> None:
    """Refuses a directory that holds the end of a training whose beginning is elsewhere."""
    first = next((line for line in session.lines if 'iter' in line), None)
    interval = (session.config.get('default_hooks') or {}).get('logger', {}).get('interval', 10)
    late = first is None or (first['epoch'] > 1 if unit == 'epoch' else first['iter'] > interval)
    if late:
        at = 'without a line of training' if first is None else f'at {unit} {first[unit]}'
        raise ConfigError(
            f'{work_dir} begins {at}: the sessions before are in another folder, and belong here'
        )


def _last_checkpoint(work_dir: Path, name: str) -> Path:
    """The checkpoint of the end, by the name that mmengine left in ``last_checkpoint``."""
    last = work_dir / LAST
    said = last.read_text().strip() if last.is_file() else ''
    if not said:
        raise ConfigError(f'{work_dir} has no {LAST}, so no training ended there: resume it')
    if Path(said).name != name:
        raise ConfigError(
            f'{work_dir} ends with {Path(said).name}, and the training with {name}: it has not '
            'ended, so resume it first'
        )
    fault = checkpoint_fault(str(work_dir / name))
    if fault is not None:
        raise ConfigError(f'{work_dir / name}, named by {LAST}: {fault}')
    return work_dir / name
