"""Reading, checking and extending a distillation config before any work starts."""

from mmkendall.engine.checks import build_runner, check_distill_config, train
from mmkendall.engine.errors import ConfigError
from mmkendall.engine.rank_option import (
    add_rank_loss,
    add_rank_option,
    config_first,
    parse_rank_options,
)
from mmkendall.engine.read_config import check_launcher, load_config, override

__all__ = [
    'ConfigError',
    'add_rank_loss',
    'add_rank_option',
    'build_runner',
    'check_distill_config',
    'check_launcher',
    'config_first',
    'load_config',
    'override',
    'parse_rank_options',
    'train',
]
