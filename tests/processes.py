"""A step that several processes take together, connected through gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmkendall.engine.command_line import leave_process_group


def run_in_processes(step: Callable[..., None], processes: int, folder: Path, *args) -> None:
    """Calls ``step(rank, *args)`` in each of the processes, which meet through a file in folder.

    ``step`` must be importable. Its model must not outlive it: see leave_process_group.
    """
    mp.spawn(_take_step, (processes, f'file://{folder}/meeting', step, args), processes)


def _take_step(
    rank: int, processes: int, init_method: str, step: Callable[..., None], args: tuple
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=init_method, rank=rank, world_size=processes)
    step(rank, *args)
    leave_process_group()
