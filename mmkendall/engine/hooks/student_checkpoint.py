from __future__ import annotations

import logging
import os
import os.path as osp
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmkendall.compat.safe_loading import UnreadableCheckpointError, load
from mmkendall.registry import HOOKS
from mmkendall.whole_files import save_whole

PREFIX = 'architecture.'
# Of mmengine's meta all but the config's text, which describes the distillation.
META = ('dataset_meta', 'epoch', 'iter', 'seed', 'experiment_name', 'time', 'mmengine_version')
KINDS = ('all', 'best', 'last')


class NoStudentError(ValueError):
    """A checkpoint without the weights that were asked for."""


def student_checkpoint(checkpoint: dict[str, Any], raw: bool = False) -> dict[str, Any]:
    """The student alone, out of a checkpoint of a distillation.

    Args:
        checkpoint: as mmengine's Runner writes it, of any algorithm that holds its student under
            ``architecture.``. Where an ``EMAHook`` took part, mmengine has swapped the two: then
            ``state_dict`` holds the averages, and ``ema_state_dict`` the weights as trained.
        raw: take the weights as trained, not the averages. Defaults to False.

    Returns:
        ``state_dict``, with the names of the plain student, and ``meta``, with mmengine's
        ``dataset_meta``, ``epoch``, ``iter`` and where they come from.

    Raises:
        NoStudentError: it has no student, or with ``raw`` no averages that could be left out.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if raw:
        if 'ema_state_dict' not in checkpoint:
            raise NoStudentError(
                'the checkpoint has no ema_state_dict: no EMAHook took part, and its only weights '
                'are those as trained'
            )
        state = {
            name.removeprefix('module.'): value
            for name, value in checkpoint['ema_state_dict'].items()
            if name.startswith('module.')
        }
    student = {
        name.removeprefix(PREFIX): value
        for name, value in state.items()
        if name.startswith(PREFIX)
    }
    if not student:
        top = sorted({str(name).partition('.')[0] for name in state})
        raise NoStudentError(
            f'no weights under {PREFIX!r}, so this is no distillation checkpoint; it has '
            f'{", ".join(top) or "none"}'
        )
    meta = checkpoint.get('meta', {})
    return {'meta': {key: meta[key] for key in META if key in meta}, 'state_dict': student}


@HOOKS.register_module()
class StudentCheckpointHook(Hook):
    """Saves the student alone with each checkpoint, for the tools of the plain model.

    Beside ``work_dir/epoch_12.pth``, which also holds the distiller, maybe the teacher, and what a
    resumed run needs, there is then ``work_dir/student/epoch_12.pth``: weights under the names of
    the plain student, and mmengine's ``meta`` with the names of the classes. It loads with
    ``mmpretrain.get_model(CONFIG, pretrained=FILE)``, ``load_from`` and ``tools/test.py``. With an
    ``EMAHook`` it holds the averages, which are what the validation measured.

    The file is read back from the checkpoint, so that it is what was saved; it is put in place
    whole, and goes when its checkpoint goes. For runs that are over there is
    ``tools/model_converters/export_student.py``.

    Args:
        save: ``'all'``: with every checkpoint that the ``CheckpointHook`` writes; ``'best'``: with
            the best ones alone; ``'last'``: with the last one, when the training ends. Defaults
            to ``'all'``.
        folder: under the folder of the checkpoints. Defaults to ``'student'``.

    Raises:
        ValueError: an unknown ``save``, when it is built.
        TypeError: a model that has no ``architecture``, when the training starts.

    Example::

        custom_hooks = [dict(type='mmkendall.StudentCheckpointHook', save='best')]
    """

    # After the CheckpointHook, which is VERY_LOW.
    priority = 'LOWEST'

    def __init__(self, save: str = 'all', folder: str = 'student') -> None:
        if save not in KINDS:
            raise ValueError(f'save must be one of {", ".join(KINDS)}, got {save!r}')
        self.save = save
        self.folder = folder
        self._saved: dict[str, int] = {}

    def before_train(self, runner: Runner) -> None:
        """Checks that there is a student."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(getattr(model, 'architecture', None), torch.nn.Module):
            raise TypeError(
                'mmkendall.StudentCheckpointHook needs a model that distils, with an architecture '
                f'inside, got {type(model).__name__}: its own checkpoints are plain already'
            )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Follows a CheckpointHook that counts iterations."""
        self._follow(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Follows a CheckpointHook that counts epochs."""
        self._follow(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Follows ``save_best``."""
        self._follow(runner)

    def after_train(self, runner: Runner) -> None:
        """Saves the last student, and any that is missing."""
        self._follow(runner, end=True)

    @master_only
    def _follow(self, runner: Runner, end: bool = False) -> None:
        """Saves the students of checkpoints that are new, removes those of removed ones."""
        for key, path in list(runner.message_hub.runtime_info.items()):
            last, best = key == 'last_ckpt', key.startswith('best_ckpt')
            wanted = self.save == 'all' or (best if self.save == 'best' else last and end)
            if not (last or best) or not wanted or not path or not osp.isfile(str(path)):
                continue
            written = os.stat(path).st_mtime_ns
            if self._saved.get(path) != written:
                self._save(str(path))
                self._saved[path] = written
        for path in [path for path in self._saved if not osp.exists(path)]:
            del self._saved[path]
            if osp.exists(self._place(path)):
                os.remove(self._place(path))

    def _place(self, path: str) -> str:
        return osp.join(osp.dirname(path), self.folder, osp.basename(path))

    def _save(self, path: str) -> None:
        place = self._place(path)
        try:
            os.makedirs(osp.dirname(place), exist_ok=True)
            save_whole(student_checkpoint(load(path, 'cpu')), place)
        except (OSError, NoStudentError, UnreadableCheckpointError) as error:
            # The checkpoint has it all: not worth to end a training.
            print_log(
                f'The student of {path} was not saved: {error}. Take it out later with '
                f'tools/model_converters/export_student.py {path} STUDENT.pth',
                'current',
                logging.WARNING,
            )
        else:
            print_log(f'Saved the student of {path} as {place}', 'current')
