"""Wrong options and files end in one sentence; a check alone writes nothing."""

from __future__ import annotations

import re

import pytest
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from mmkendall.engine.distill_config import load_config
from mmkendall.warn_once import warn_once

from ..conftest import REPOSITORY, call_tool, load_tool

DIGITS = REPOSITORY / 'configs/digits'
KD = str(DIGITS / 'kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py')
RANK = KD.replace('/kd_', '/kd-rank_')
SCRATCH = ['model.teacher_ckpt=None', 'allow_random_teacher=True']
TOOLS = ('misc/check_config.py', 'train.py')
D = 'model.distiller'
KL = f'{D}.distill_losses.loss_kl'

FILES = {
    'missing_base.py': "_base_ = ['./gone.py']",
    'missing_package.py': "_base_ = ['mmyolo::a/b.py']",
    'missing_in_package.py': "_base_ = ['mmkendall::digits/gone.py']",
    'syntax.py': 'model = dict(',
    'raises.py': 'x = 1 / 0',
    'twice.py': f"_base_ = ['{KD}', '{RANK}']",
    'empty.py': '',
    'tag.yml': 'model: !!python/object/apply:os.system ["touch ran"]',
    'base_tag.yml': '_base_: tag.yml',
    'no_name.yaml': 'model: !!python/name:os.system',
    'broken.json': '{',
    'text.txt': 'model = 1',
    'variable.py': "data = '{{$NOWHERE_AT_ALL:}}'",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the wrong files lie, and where nothing may be written."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(monkeypatch, capsys, tool: str, *arguments: str) -> str:
    """The line with which a tool ends."""
    try:
        status = call_tool(monkeypatch, tool, *arguments)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    line = error.strip().splitlines()[-1]
    assert line.startswith(f'{tool.rpartition("/")[2]}: error: '), error
    return line


WRONG = [
    (['missing_base.py'], "config 'missing_base.py' cannot be read: FileNotFoundError: .*gone.py"),
    (['missing_package.py'], 'mmyolo is not installed'),
    (['missing_in_package.py'], "'missing_in_package.py' cannot be read: .*gone.py"),
    (['syntax.py'], "config 'syntax.py' cannot be read: SyntaxError"),
    (['raises.py'], 'ZeroDivisionError'),
    (['twice.py'], 'Duplicate key'),
    (['empty.py'], 'the config must have a model'),
    (['tag.yml'], 'could not determine a constructor for the tag .*python/object/apply'),
    (['base_tag.yml'], 'could not determine a constructor for the tag .*python/object/apply'),
    (['no_name.yaml'], 'could not determine a constructor for the tag .*python/name'),
    (['broken.json'], "config 'broken.json' cannot be read: JSONDecodeError"),
    (['text.txt'], "config 'text.txt' cannot be read: .*supported"),
    (['variable.py'], 'NOWHERE_AT_ALL'),
    (['.'], "config '.' does not exist"),
    (['gone.py'], "config 'gone.py' does not exist"),
    (['mmkendall::digits/gone.py'], "config 'mmkendall::digits/gone.py'"),
    ([KD], "teacher_ckpt 'work_dirs/.*' does not exist"),
    # Options.
    ([KD, '--rank-loss', 'backend=eagr', '--cfg-options', *SCRATCH], "got 'eagr'"),
    ([KD, '--rank-loss', 'steepnes=1'], "names out of steepness, .*got 'steepnes=1'"),
    ([KD, '--cfg-options', 'model.type.x=1'], '--cfg-options model.type.x=1 does not fit'),
    ([KD, '--cfg-options', 'val_evaluator.5.type=A'], 'val_evaluator.5.type=.A. does not fit'),
    (
        [KD, '--rank-loss', 'steepness=1', '--cfg-options',
         f'{D}.distill_losses.loss_rank.steepness=2'],
        '--rank-loss sets steepness and so does --cfg-options',
    ),
    (
        [KD, '--rank-loss', '--cfg-options', f'{D}.distill_losses.loss_rank.steepness=-2'],
        'loss_rank: steepness must be positive',
    ),
    (
        [RANK, '--cfg-options', f'{D}.distill_losses.loss_rnk.steepness=2'],
        'loss_rnk must be a dict with a type',
    ),
    ([RANK, '--rank-loss'], "already has an entry 'loss_rank'"),
    (['--rank-loss', RANK], "already has an entry 'loss_rank'"),
    ([str(DIGITS / 'resnet18-w4_1xb64_digits.py'), '--rank-loss'], 'needs a distillation config'),
    (
        ['mmrazor::distill/mmcls/rkd/rkd_neck_resnet34_resnet18_8xb32_in1k.py', '--rank-loss'],
        'Add yourself a recorder of the logits to student_recorders and teacher_recorders',
    ),
    (
        ['mmrazor::pruning/mmcls/group_fisher/resnet50/'
         'group_fisher_act_finetune_resnet50_8xb32_in1k_dist.py', '--rank-loss'],
        'a DISTLoss takes logits_S and logits_T, and .* has preds_S, preds_T: rename them',
    ),
    (
        [KD, '--cfg-options', 'model.teacher_ckpt=http://127.0.0.1:9/teacher.pth'],
        'http://127.0.0.1:9/teacher.pth could not be fetched: .*model.teacher_ckpt=PATH',
    ),
    # Launchers that did not start the process.
    ([KD, '--launcher', 'pytorch'], '--launcher pytorch .* torchrun.* no RANK'),
    ([KD, '--launcher', 'slurm'], '--launcher slurm .* srun.* no SLURM_PROCID'),
    ([KD, '--launcher', 'mpi'], '--launcher mpi .* mpirun'),
]  # fmt: skip


@pytest.mark.parametrize('tool', TOOLS)
@pytest.mark.parametrize('index', range(len(WRONG)))
def test_what_cannot_be_ends_in_one_sentence(index, tool, folder, monkeypatch, capsys):
    for variable in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_LOCAL_RANK'):
        monkeypatch.delenv(variable, raising=False)
    arguments, message = WRONG[index]
    line = fails(monkeypatch, capsys, tool, *arguments)
    assert re.search(message, line), line
    # The run had begun where a checkpoint has to be fetched; else nothing is left.
    begun = {'work_dirs'} if 'fetched' in message and tool == 'train.py' else set()
    assert {path.name for path in folder.iterdir()} == {*FILES, *begun}


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('test.py', ['tag.yml', 'twice.py'], 'could not determine a constructor'),
        ('test.py', [KD, 'twice.py', '--launcher', 'pytorch'], 'no RANK'),
        ('test.py', [KD, 'gone.pth'], "checkpoint 'gone.pth' does not exist"),
        ('test.py', [KD, KD, '--out', 'results.txt'], '--out must end in'),
        (
            'test.py',
            [KD, KD, '--out', 'r.json', '--out-item', 'pred'],
            'only be written to a .pkl',
        ),
        ('train.py', [KD, '--amp', '--cfg-options', *SCRATCH], 'needs an accelerator'),
        ('benchmark.py', [KD], 'a study must set study = dict'),
    ],
)
def test_every_tool_does_so(tool, arguments, message, folder, monkeypatch, capsys):
    monkeypatch.delenv('RANK', raising=False)
    line = fails(monkeypatch, capsys, tool, *arguments)
    assert re.search(message, line), line
    assert {path.name for path in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize(
    'arguments',
    [
        [KD, '--cfg-options', *SCRATCH],
        ['--rank-loss', KD, '--cfg-options', *SCRATCH],
        [KD, '--rank-loss', 'steepness=10', '--cfg-options', *SCRATCH],
        [KD, '--rank-loss', '--cfg-options', *SCRATCH,
         f'{D}.distill_losses.loss_rank.steepness=10'],
        [KD, '--no-data', '--cfg-options', *SCRATCH, 'train_dataloader.dataset.split=gone'],
        [str(DIGITS / 'resnet18-w4_1xb64_digits.py')],
        ['mmkendall::digits/kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py',
         '--cfg-options', *SCRATCH],
    ],
)  # fmt: skip
def test_what_can_be_is_said_and_nothing_is_written(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call_tool(monkeypatch, TOOLS[0], *arguments) == 0
    assert 'nothing was found that keeps it from training' in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_what_may_not_be_meant_is_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    warn_once.cache_clear()
    options = ['--cfg-options', *SCRATCH, f'{KL}.reduction=mean']
    assert call_tool(monkeypatch, TOOLS[0], RANK, *options) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("reduction='batchmean'") == 1


@pytest.mark.parametrize(
    'text', ['model:\n  type: ImageClassifier', 'model: {type: A, b: [1, 2]}']
)
def test_yaml_that_is_data_is_read(text, tmp_path):
    path = tmp_path / 'data.yml'
    path.write_text(text)
    assert load_config(str(path)).model.type in ('ImageClassifier', 'A')


def test_a_fault_of_the_first_step_keeps_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [
        *SCRATCH,
        'model.architecture.head.num_classes=5',
        'model.teacher.head.num_classes=5',
    ]
    line = fails(
        monkeypatch, capsys, 'train.py', KD, '--work-dir', 'run', '--cfg-options', *options
    )
    (path,) = re.findall(r'the traceback is in (\S+)$', line)
    assert 'Traceback' in (tmp_path / path).read_text()


@pytest.mark.parametrize(
    ('kind', 'fits'),
    [
        (None, True),
        ('OptimWrapper', True),
        ('mmengine.OptimWrapper', True),
        (OptimWrapper, True),
        (AmpOptimWrapper, True),
        ('ApexOptimWrapper', False),
    ],
)
def test_amp_knows_a_wrapper_however_it_is_named(kind, fits, monkeypatch):
    tool = load_tool('train.py')
    monkeypatch.setattr(tool, 'get_device', lambda: 'cuda')
    cfg = Config(dict(default_scope='mmpretrain', optim_wrapper=dict(optimizer=dict(type='SGD'))))
    if kind is not None:
        cfg.optim_wrapper.type = kind
    if fits:
        tool.enable_amp(cfg)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    else:
        with pytest.raises(tool.ConfigError, match='the config has a ApexOptimWrapper'):
            tool.enable_amp(cfg)
