from __future__ import annotations

import os
import os.path as osp
from collections.abc import Callable, Collection
from glob import escape, glob

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmkendall.engine.hooks.finite_loss import NonFiniteError, is_finite, unwrap
from mmkendall.engine.whole_checkpoints import LAST, checkpoint_fault
from mmkendall.registry import HOOKS
from mmkendall.whole_files import write_atomically

# Stages of hooks that all processes call before the first of them saves a checkpoint.
BEFORE_SAVING = 'before_saving_on_all_ranks'
# In the message hub: the checkpoint that a run saved when it was asked to stop.
STOPPED = 'stopped_ckpt'


@register_backend('mmkendall_atomic')
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, that writes a checkpoint whole or not at all."""

    def put(self, obj: bytes | memoryview, filepath: str | os.PathLike) -> None:
        """Writes a checkpoint; see ``write_atomically``."""
        os.makedirs(osp.dirname(filepath) or '.', exist_ok=True)
        write_atomically(os.fspath(filepath), obj, checkpoint_fault)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, in whose folder the last good checkpoint always stands.

    mmengine removes the oldest checkpoint, or the previous best, before it writes the next, and
    writes in place: a process that is killed then, or a full disk, can leave no checkpoint that
    loads. Here a checkpoint is written as ``epoch_3.pth.part``, put on the disk, read back against
    its checksums and renamed, and only then are others removed. ``last_checkpoint`` is written in
    the same way. This holds for local files; where ``out_dir`` is in another storage, or the
    runner is mmengine's ``FlexibleRunner``, which writes by itself, only the order is kept.

    A checkpoint whose weights, averaged ones included, are not finite is not written: the run
    ends. Buffers that held an infinity before the training, such as attention masks, may.

    Args:
        **kwargs: those of mmengine's ``CheckpointHook``. With ``max_keep_ckpts=1`` there
            are two files while the next is written.

    Raises:
        NonFiniteError: weights that are not finite.
        OSError: a checkpoint could not be written. Those from before are still there.

    Example::

        default_hooks = dict(
            checkpoint=dict(type='mmkendall.AtomicCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def before_train(self, runner: Runner) -> None:
        """Finds the folder, and removes what a killed process left half written."""
        super().before_train(runner)
        self.is_local = self.file_client_args is None and isinstance(
            self.file_backend, LocalBackend
        )
        if self.is_local:
            self.backend_args = dict(backend='mmkendall_atomic')
            if is_main_process():
                for part in glob(osp.join(escape(self.out_dir), '*.pth.part')):
                    os.remove(part)
        model = unwrap(runner.model)
        self.infinite_buffers = {
            name for name, buffer in model.named_buffers() if not is_finite(buffer)
        }
        self.file_backend = _RemovesLater(self.file_backend)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses weights that are not finite."""
        for part in ('state_dict', 'ema_state_dict'):
            bad = [
                name
                for name, value in checkpoint.get(part, {}).items()
                if name.removeprefix('module.') not in self.infinite_buffers
                and not is_finite(value)
            ]
            if bad:
                raise NonFiniteError(
                    f'{len(bad)} of {len(checkpoint[part])} tensors of the weights ({part}) are '
                    f'NaN or infinite after iteration {checkpoint["meta"]["iter"]}, so no '
                    f'checkpoint is written: {", ".join(bad[:3])}{", ..." if len(bad) > 3 else ""}'
                )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        runner.call_hook(BEFORE_SAVING)
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                self._outdate(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        hub = runner.message_hub
        if STOPPED in hub.runtime_info:
            self._outdate(hub.pop_info(STOPPED))
            hub._resumed_keys.pop(STOPPED, None)
        self._write(runner, self.filename_tmpl.format(step), meta)

    def save_now(self, runner: Runner) -> None:
        """Saves what a run that was asked to stop has come to, at the end of an iteration.

        Where epochs are counted it is one file more, ``iter_N.pth``, that the resumed run removes
        when it saves the next.
        """
        if not self.by_epoch:
            self._save_checkpoint(runner)
            return
        runner.call_hook(BEFORE_SAVING)
        name = f'iter_{runner.iter + 1}.pth'
        runner.message_hub.update_info(STOPPED, name)
        self._write(runner, name, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        """Saves all that a run needs to go on, then removes what is outdated."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_atomically(osp.join(runner.work_dir, LAST), self.last_ckpt.encode())
        self.file_backend.remove_now()

    def _outdate(self, name: str) -> None:
        """Marks a checkpoint for removal, once the next stands."""
        path = self.file_backend.join_path(self.out_dir, name)
        if not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed writes folders.
            self.file_backend.rmtree(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.remove_now(keep={getattr(self, 'best_ckpt_path', None), *best})


class _RemovesLater:
    """A storage that removes nothing before it is told that what replaces it stands."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self._backend = backend
        self._outdated: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._outdated.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._outdated.append((self._backend.rmtree, path))

    def remove_now(self, keep: Collection[str | None] = ()) -> None:
        """Removes what is outdated, but a path that was written again."""
        while self._outdated:
            remove, path = self._outdated.pop()
            if path not in keep:
                remove(path)
