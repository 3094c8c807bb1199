from __future__ import annotations

import weakref

import torch.distributed as dist
from torch import nn

from mmkendall.engine.command_line import leave_process_group


def test_a_model_in_cycles_is_freed_before_the_connections(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 4))
    runner = {'model': model}
    runner['loop'] = {'runner': runner}  # as mmengine's runner, its loops and its hooks
    connected_when_freed = []
    weakref.finalize(model, lambda: connected_when_freed.append(dist.is_initialized()))
    del model, runner
    leave_process_group()
    assert connected_when_freed == [True]
    assert not dist.is_initialized()
    leave_process_group()  # a run of one process has none
