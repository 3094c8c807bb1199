"""Rows of all processes, for a loss that compares the images of a batch with each other."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of every process in the order of the ranks; the batches may differ in length.

    Only the rows of this process carry a gradient, and it is multiplied by the number of
    processes: DistributedDataParallel takes the mean of the processes' gradients, and so arrives
    at the gradient of the loss on all rows.

    Args:
        rows: (N, C), with the same C and dtype everywhere.

    Returns:
        (sum of all N, C); ``rows`` itself where one process runs alone.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    world_size = dist.get_world_size()
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(world_size)]
    dist.all_gather(counts, count)
    # all_gather wants one shape, so every process fills up to the longest batch, or to one row.
    padded = rows.new_zeros((max(int(max(counts)), 1), rows.shape[1]))
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(gathered, padded)
    parts = [part[: int(count)] for part, count in zip(gathered, counts, strict=True)]
    local = rows.view_as(rows)
    if local.requires_grad:
        local.register_hook(lambda grad: grad * world_size)
    parts[dist.get_rank()] = local
    return torch.cat(parts)
