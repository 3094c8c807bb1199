"""The states of a process's random generators: read, put into a checkpoint and put back."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log


def current_states() -> dict[str, Any]:
    """The states of this process's random generators, of kinds that a checkpoint may hold."""
    name, keys, *rest = np.random.get_state()
    states = {
        'python': random.getstate(),
        'numpy': (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_states(states: dict[str, Any]) -> None:
    """Puts the random generators of this process into the states of :func:`current_states`."""
    version, words, gauss = states['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


def restore_states(states: list[dict] | None) -> None:
    """Puts the generators into this process's states of a checkpoint, or says why not."""
    if states is not None and len(states) == get_world_size():
        set_states(states[get_rank()])
        return
    why = 'holds no states of the random generators'
    if states is not None:
        why = f'was saved by {len(states)} processes, and these are {get_world_size()}'
    print_log(
        f'The checkpoint {why}: random augmentation and dropout start again from the seed, so the '
        'training will not equal one that was not interrupted',
        'current',
        logging.WARNING,
    )
