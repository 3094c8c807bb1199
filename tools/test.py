"""Test a checkpoint of a config, with OpenMMLab's options.

    python tools/test.py CONFIG CHECKPOINT --out results.pkl
    python tools/test.py CONFIG CHECKPOINT --tta

A checkpoint that leaves weights of the model as they were at random, or that numbers the classes
otherwise than the dataset, is refused.
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from mmkendall import compat

compat.apply()

import mmengine  # noqa: E402
from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.evaluator import DumpResults  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import MODELS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from torch import Tensor  # noqa: E402

from mmkendall.class_names import (  # noqa: E402
    class_names,
    compare_classes,
)
from mmkendall.engine.command_line import (  # noqa: E402
    add_common_options,
    leave_process_group,
    prepare_config,
)
from mmkendall.engine.distill_config import ConfigError, build_runner  # noqa: E402
from mmkendall.engine.errors import REFUSALS  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the results to this .pkl, .json or .yaml file')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what to write: the metrics, or the predictions of every sample (.pkl alone). '
        'Defaults to pred for a .pkl, else to metrics',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation, by the config's tta_pipeline and tta_model, or else by the "
        'mean score of each image and its mirror image',
    )
    add_common_options(parser)
    return parser.parse_args()


def check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError before any work starts."""
    if '://' not in args.checkpoint and not osp.isfile(args.checkpoint):
        raise ConfigError(f'checkpoint {args.checkpoint!r} does not exist')
    if args.out is None:
        return
    if not args.out.endswith(('.pkl', '.pickle', '.json', '.yaml', '.yml')):
        raise ConfigError(f'--out must end in .pkl, .json or .yaml, got {args.out!r}')
    pickled = args.out.endswith(('.pkl', '.pickle'))
    args.out_item = args.out_item or ('pred' if pickled else 'metrics')
    if args.out_item == 'pred' and not pickled:
        raise ConfigError(f'predictions can only be written to a .pkl file, got {args.out!r}')


def enable_tta(cfg: Config) -> None:
    """Gives every dataset under the test dataloader the augmented pipeline, as mmpretrain does."""
    holders = list(with_pipeline(cfg.test_dataloader.dataset))
    if not holders:
        raise ConfigError('--tta found no pipeline under test_dataloader.dataset')
    if 'tta_model' not in cfg:
        if cfg.get('default_scope', 'mmpretrain') != 'mmpretrain':
            raise ConfigError(
                f'--tta needs tta_model and tta_pipeline in a config of {cfg.default_scope}: what '
                'is merged by default is the scores of a classifier'
            )
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    for holder in holders:
        if 'tta_pipeline' in cfg:
            holder.pipeline = cfg.tta_pipeline
            continue
        *before, pack = holder.pipeline
        mirror = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        holder.pipeline = [*before, dict(type='TestTimeAug', transforms=[mirror, [pack]])]


def with_pipeline(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of datasets that have a pipeline, through wrappers."""
    if dataset.get('pipeline'):
        yield dataset
    inner = dataset.get('datasets', dataset.get('dataset', []))
    for part in [inner] if isinstance(inner, dict) else inner:
        yield from with_pipeline(part)


def own_tensors(value: Any) -> Any:
    """A prediction whose tensors hold their own values and no more."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: own_tensors(part) for name, part in value.items()}
    return value


class DumpPredictions(DumpResults):
    """mmengine's, and each prediction says how the classes are called."""

    def __init__(self, path: str, classes: tuple[str, ...] | None) -> None:
        super().__init__(path)
        self.classes = classes

    def process(self, data_batch: dict, predictions: Sequence[dict]) -> None:
        # A tensor that is a row of its batch would be written with the whole batch, each time.
        super().process(data_batch, [own_tensors(prediction) for prediction in predictions])

    def compute_metrics(self, results: list) -> dict:
        for result in results:
            if isinstance(result, dict) and self.classes is not None:
                result['classes'] = self.classes
        return super().compute_metrics(results)


class MergePredictions(Hook):
    """Wraps the model of a test in that of test-time augmentation, once its weights are loaded.

    Wrapped from the start, as in mmpretrain's tools/test.py, an EMAHook of mmpretrain would not
    find its averages in the checkpoint, and the test would be one of random weights.
    """

    def __init__(self, tta_model: dict) -> None:
        self.tta_model = tta_model

    def before_test(self, runner: Runner) -> None:
        runner.model = MODELS.build(dict(**self.tta_model, module=runner.model))


class SameClasses(Hook):
    """Ends a test before its first batch if the checkpoint was trained on other classes."""

    # After an EMAHook has copied the model.
    priority = 'VERY_LOW'

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.classes: tuple[str, ...] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.classes = class_names(checkpoint.get('meta'))

    def before_test(self, runner: Runner) -> None:
        compare_classes(
            f'checkpoint {self.checkpoint!r}', self.classes,
            'the test dataset', class_names(runner.test_loop.evaluator.dataset_meta),
        )  # fmt: skip


def test(cfg: Config, args: argparse.Namespace) -> None:
    """Tests, and writes what was asked for."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    runner = build_runner(cfg, complete=True)
    runner.register_hook(SameClasses(args.checkpoint))
    if args.tta:
        runner.register_hook(MergePredictions(cfg.tta_model))
    if args.out and args.out_item == 'pred':
        classes = class_names(runner.test_loop.evaluator.dataset_meta)
        runner.test_evaluator.metrics.append(DumpPredictions(args.out, classes))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


def main() -> int:
    args = parse_args()
    try:
        check_options(args)
        cfg = prepare_config(args)
        if args.tta:
            enable_tta(cfg)
        test(cfg, args)
    except (*REFUSALS, FileNotFoundError) as error:
        print(f'test.py: error: {error}', file=sys.stderr)
        return 2
    leave_process_group()
    return 0


if __name__ == '__main__':
    sys.exit(main())
