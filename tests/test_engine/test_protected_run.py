"""A run that is stopped, killed, or meets a NaN or a full disk: what is left, said and resumed."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from mmkendall.compat import safe_loading
from mmkendall.engine.distill_config import build_runner, load_config
from mmkendall.engine.hooks import AtomicCheckpointHook, FiniteLossHook
from mmkendall.engine.protected_run import add_guards, resume_command

from ..conftest import REPOSITORY, call_tool
from ..trust.compare import differences
from ..trust.digits import without_layout, write_config

SHORT = dict(images=48, length=3)


@pytest.fixture(scope='module', autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', without_layout)
        yield


@pytest.fixture(scope='module')
def left_alone(tmp_path_factory) -> Path:
    """The last checkpoint of a short run that nothing happened to."""
    folder = tmp_path_factory.mktemp('alone')
    write_config(folder, **SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call_tool(patch, 'train.py', 'config.py', '--work-dir', 'work') == 0
    return folder / 'work' / 'epoch_3.pth'


@pytest.fixture(scope='module')
def two_epochs(tmp_path_factory) -> Path:
    """The work directory of a run of two epochs, to be copied."""
    folder = tmp_path_factory.mktemp('two')
    write_config(folder, images=48, length=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call_tool(patch, 'train.py', 'config.py', '--work-dir', 'work') == 0
    return folder / 'work'


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Writes a config and trains it in ``work``; returns the exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str, **config) -> int:
        write_config(tmp_path, **{**SHORT, **config})
        return call_tool(monkeypatch, 'train.py', 'config.py', '--work-dir', 'work', *options)

    return run


def weights(path) -> dict:
    return safe_loading.load(path, map_location='cpu')


def checkpoints() -> list[str]:
    return sorted(path.name for path in Path('work').glob('*.pth') if 'best' not in path.name)


def error(capsys) -> str:
    said = capsys.readouterr().err.rpartition('train.py: ')[2]
    return said.replace(f'{Path.cwd()}/', '')


def output(capsys) -> str:
    said = capsys.readouterr()
    return (said.out + said.err).replace(f'{Path.cwd()}/', '')


@pytest.mark.parametrize('at', [4, 5])
def test_sigterm_saves_and_the_command_that_it_names_goes_on(train, capsys, left_alone, at):
    """In the middle of an epoch and at its last iteration."""
    assert train(fault=f"kind='sigterm', at=[{at}]") == 143
    said = error(capsys)
    assert said.startswith(f'stopped by SIGTERM. The last whole checkpoint is work/iter_{at + 1}')
    command = shlex.split(said.strip().splitlines()[-1])
    assert command[0] == 'python'
    assert command[2:] == ['config.py', '--work-dir', 'work', '--resume']
    assert train('--resume') == 0
    assert checkpoints() == ['epoch_2.pth', 'epoch_3.pth']
    assert not differences(left_alone, Path('work/epoch_3.pth'))


def test_a_loop_of_iterations_goes_on_at_its_image(train):
    loop = dict(
        loop='iterations', by_epoch=False, interval=4, sampler='InfiniteSampler', length=10
    )
    assert train(**loop) == 0
    Path('work').rename('alone')
    assert train(fault="kind='sigterm', at=[5]", **loop) == 143
    assert checkpoints() == ['iter_4.pth', 'iter_6.pth']
    assert train('--resume', **loop) == 0
    assert not differences(Path('alone/iter_10.pth'), Path('work/iter_10.pth'))


def test_a_term_that_is_stopped_leaves_the_log(train):
    assert train(hook="dict(type='mmrazor.StopDistillHook', stop_epoch=1)") == 0
    scalars = weights('work/epoch_3.pth')['message_hub']['log_scalars']
    assert 'train/student.loss' in scalars
    assert not [name for name in scalars if name.startswith('train/distill.')]


def test_ctrl_c_keeps_the_last_checkpoint(train, capsys, left_alone):
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.05']
    assert train(*options, fault="kind='ctrl-c', at=[4]") == 130
    said = error(capsys)
    assert said.startswith('stopped by Ctrl-C. The last whole checkpoint is work/epoch_1.pth')
    assert said.strip().endswith(
        'train.py config.py --work-dir work --cfg-options optim_wrapper.optimizer.lr=0.05 --resume'
    )
    assert train(*options, '--resume') == 0
    assert not differences(left_alone, Path('work/epoch_3.pth'))


def test_before_the_first_checkpoint_nothing_can_be_resumed(train, capsys):
    assert train(fault="kind='ctrl-c', at=[0]") == 130
    said = error(capsys)
    assert 'No checkpoint was saved yet: start again with' in said
    assert '--resume' not in said


def test_a_full_disk_leaves_the_last_checkpoint(train, capsys, left_alone):
    keep_one = ['--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1']
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        assert train(*keep_one, fault="kind='full', at=[4]") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = error(capsys)
    assert 'the disk is full (File too large: ' in said
    assert 'The last whole checkpoint is work/epoch_1.pth: go on with' in said
    assert checkpoints() == ['epoch_1.pth']
    assert not list(Path('work').glob('*.part'))
    assert train('--resume') == 0
    assert not differences(left_alone, Path('work/epoch_3.pth'))


def test_a_nan_stops_the_run_and_names_its_place(train, capsys):
    assert train(fault="kind='nan', at=[4]") == 1
    said = error(capsys)
    assert 'the loss is not finite at iteration 5 (epoch 2): ' in said
    for part in ('distill.loss_rank = nan', 'images: 1024 values, 64 NaN, 0 infinite',
                 'student record fc: 160 values', 'teacher record fc: 160 values'):  # fmt: skip
        assert part in said, said
    assert 'The last whole checkpoint is work/epoch_1.pth' in said
    assert checkpoints() == ['epoch_1.pth']


@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_step_with_a_nan_can_be_skipped(train, capsys, accumulate):
    assert train(fault="kind='nan', at=[4]", action='skip', accumulate=accumulate) == 0
    saved = weights('work/epoch_3.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.isfinite(value).all() for value in saved[part].values())
    scalars = saved['message_hub']['log_scalars']
    assert scalars['train/skipped_steps'].current() == 1
    assert saved['message_hub']['runtime_info']['skipped_steps'] == 1
    assert torch.tensor(scalars['train/loss']._log_history).isfinite().all()


def test_skipping_a_step_is_as_if_the_batch_had_not_been(train):
    """The weights after a skipped step are those before it."""
    trained = []
    for at in ('[]', '[1]', '[0, 1]'):
        fault = f"kind='nan', at={at}"
        assert train(images=32, length=1, fault=fault, action='skip') == 0
        # mmengine saves the weights in the place of their averages, and the other way round.
        trained.append(weights('work/epoch_1.pth')['ema_state_dict'])
    two, one, none = trained
    counters = [name for name in two if name.endswith('.num_batches_tracked')]
    student = [name for name in counters if name.startswith('module.architecture')]
    assert [{int(each[name]) for name in student} for each in (two, one, none)] == [{2}, {1}, {0}]
    weight = 'module.architecture.head.layers.1.fc.weight'
    assert not torch.equal(one[weight], two[weight])
    assert not torch.equal(one[weight], none[weight])


def test_steps_are_not_skipped_for_ever(train, capsys):
    assert train(fault="kind='nan', at=[2, 3, 4, 5, 6, 7]", action='skip') == 1
    assert 'No step can be skipped any more: 3 steps in a row were so' in error(capsys)


def test_weights_that_are_not_finite_are_not_saved(train, capsys):
    """Too large a step makes weights infinite whose loss was finite."""
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=3e38', 'param_scheduler=None',
               'model.distiller.rank_weight=1000.']  # fmt: skip
    assert train(*options, images=16) == 1
    said = error(capsys)
    assert 'tensors of the weights (state_dict) are NaN or infinite after iteration 1' in said
    assert 'architecture.' in said
    assert not checkpoints()


def test_resume_goes_on_from_the_checkpoint_that_is_named(train, capsys, left_alone):
    """Though there is a newer one, and with all that it holds: the end is that of a whole run."""
    shutil.copytree(left_alone.parent, 'work')
    newest = Path('work/epoch_3.pth')
    os.utime(newest, (0, 0))
    capsys.readouterr()
    assert train('--resume', 'work/epoch_2.pth') == 0
    assert 'resumed epoch: 2, iter: ' in output(capsys)
    assert newest.stat().st_mtime > 0
    assert not differences(left_alone, newest)


def test_resume_goes_back_to_the_newest_whole_checkpoint(train, capsys, two_epochs):
    shutil.copytree(two_epochs, 'work')
    newest = Path('work/epoch_2.pth')
    whole = newest.read_bytes()
    changed = bytearray(whole)
    for place in range(len(whole) // 2, len(whole) // 2 + 64):
        changed[place] ^= 255
    newest.write_bytes(changed)
    capsys.readouterr()
    assert train('--resume') == 0
    said = 'goes on from work/epoch_1.pth, not from work/epoch_2.pth: its bytes have changed'
    assert said in output(capsys)
    assert train('--resume', 'work/epoch_3.pth') == 0  # It has ended, and says nothing wrong.
    assert checkpoints() == ['epoch_2.pth', 'epoch_3.pth']


@pytest.mark.parametrize(
    ('damage', 'options', 'message'),
    [
        ('', ['--resume', 'gone.pth'], '--resume gone.pth: there is no such file'),
        ('torn', ['--resume', 'work/epoch_2.pth'], '--resume work/epoch_2.pth: it is cut off'),
        ('best', ['--resume', 'work/best.pth'], 'it has no optimizer'),
        ('all', ['--resume'], '--resume found no whole checkpoint in work (work/epoch_'),
    ],
)
def test_what_cannot_be_resumed_is_refused(train, capsys, two_epochs, damage, options, message):
    shutil.copytree(two_epochs, 'work')
    best = next(Path('work').glob('best*.pth'))
    best.rename('work/best.pth')
    torn = {'torn': ['epoch_2.pth'], 'all': checkpoints()}.get(damage, [])
    for name in torn:
        path = Path('work') / name
        path.write_bytes(path.read_bytes()[:5000])
    capsys.readouterr()
    assert train(*options) == 2
    assert message in error(capsys)


def test_another_batch_size(train, capsys, two_epochs):
    """Six iterations are two epochs of batches of 16, and three of batches of 24."""
    shutil.copytree(two_epochs, 'work')
    options = ['--resume', '--cfg-options', 'train_dataloader.batch_size=24']
    assert train(*options) == 2
    assert (
        'the run that was stopped took 3 iterations for an epoch, and this one takes 2: '
        'CosineAnnealingLR counts iterations and would go on at another place. Resume with the '
        'batch size'
    ) in error(capsys)
    assert checkpoints() == ['epoch_1.pth', 'epoch_2.pth']
    # Nothing is skipped where no schedule counts iterations.
    assert train(*options, 'param_scheduler=None') == 0
    assert weights('work/epoch_3.pth')['meta']['iter'] == 6 + 2
    assert output(capsys).count('The run that was stopped took 3 iterations for an epoch') == 1


def test_settings_that_the_checkpoint_replaces_are_said(train, capsys, two_epochs):
    """What mmengine loads with the optimizer and the schedules; else nothing is said."""
    shutil.copytree(two_epochs, 'work')
    words = 'goes on with settings of its checkpoint, where the config has others: '
    capsys.readouterr()
    assert train('--resume', length=2) == 0
    assert words not in output(capsys)
    changed = ['optim_wrapper.optimizer.lr=0.01', 'optim_wrapper.optimizer.momentum=0.5']
    assert train('--resume', '--cfg-options', *changed) == 0
    said = output(capsys)
    assert said.count(words) == 1
    (line,) = [line for line in said.splitlines() if words in line]
    assert 'lr 0.05 of the optimizer in place of 0.01' in line
    assert 'momentum 0.9 of the optimizer in place of 0.5' in line
    # It was to end after two epochs, and is resumed for three.
    assert 'T_max 6 of CosineAnnealingLR in place of 9' in line
    assert 'weight_decay' not in line


def test_a_runner_can_be_resumed_before_it_trains(train, capsys, two_epochs):
    """By its own method, in a script of a user's: its schedules are configs then."""
    shutil.copytree(two_epochs, 'work')
    write_config(Path.cwd(), images=48, length=2)
    cfg = load_config('config.py')
    cfg.work_dir, cfg.resume = 'again', True
    cfg.custom_hooks = []  # mmengine's EMAHook would not let it.
    capsys.readouterr()
    runner = build_runner(cfg)
    runner.resume('work/epoch_2.pth')
    assert (runner.epoch, runner.iter) == (2, 6)
    assert 'where the config has others' not in output(capsys)


def test_nothing_to_resume_is_said(train, capsys):
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    assert train('--resume', *options) == 0
    assert '--resume: there is no checkpoint in work, so' in output(capsys)


def test_a_run_with_other_terms_is_not_resumed(train, monkeypatch, capsys):
    """The plain KD config with --rank-loss, and then without it."""
    base = 'mmkendall::digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    options = ['--cfg-options', 'model.teacher_ckpt=None', 'allow_random_teacher=True',
               'train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=64']  # fmt: skip

    def run(*more: str) -> int:
        return call_tool(monkeypatch, 'train.py', base, '--work-dir', 'work', *options, *more)

    rank = ['--rank-loss', 'backend=eager']
    assert run(*rank) == 0
    assert run('--resume') == 2
    assert (
        'the run that was stopped had the distillation terms loss_kl (KLDivergence), loss_rank '
        '(KendallRankLoss), and this one has loss_kl (KLDivergence): resume with'
    ) in error(capsys)
    capsys.readouterr()
    assert run('--rank-loss', 'backend=eager,steepness=7', '--resume') == 0
    assert 'loss_rank of the resumed run has steepness=7 in place of' in output(capsys)
    assert run(*rank, '--resume') == 0
    assert 'in place of' not in output(capsys)


@pytest.mark.parametrize(
    ('typed', 'environment', 'command'),
    [
        (
            'config.py --rank-loss steepness=3 --amp --resume old.pth --cfg-options a=1 b=[2]',
            {},
            "python tools/train.py config.py --rank-loss steepness=3 --amp --cfg-options a=1 "
            "'b=[2]' --work-dir there --resume",
        ),
        (
            'config.py --rank-loss --resum=old.pth --work-dir mine',
            {},
            'python tools/train.py config.py --rank-loss --work-dir mine --resume',
        ),
        (
            '--local-rank=1 config.py --launcher pytorch --rank-loss',
            {'LOCAL_WORLD_SIZE': '4', 'WORLD_SIZE': '8', 'GROUP_WORLD_SIZE': '2',
             'GROUP_RANK': '0', 'MASTER_ADDR': 'node1'},
            'NNODES=2 NODE_RANK=0 MASTER_ADDR=node1 bash tools/dist_train.sh config.py 4 '
            '--rank-loss --work-dir there --resume',
        ),
        (
            'config.py --work-dir mine --launcher slurm',
            {},
            'srun python tools/train.py config.py --work-dir mine --launcher slurm --resume',
        ),
    ],
)  # fmt: skip
def test_the_command_that_goes_on(monkeypatch, typed, environment, command):
    monkeypatch.setattr('sys.argv', ['tools/train.py', *typed.split()])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = spec_from_file_location('train', REPOSITORY / 'tools/train.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    cfg = Config(dict(work_dir='there'))
    assert resume_command(cfg, tool.parse_args(), 'auto') == command


@pytest.mark.parametrize(
    'checkpoint',
    [
        dict(type='CheckpointHook', interval=3),
        dict(type='mmengine.CheckpointHook', interval=3),
        dict(type='CheckpointHook', _scope_='mmrazor', interval=3),
        dict(type=CheckpointHook, interval=3),
    ],
)
def test_any_config_gets_the_guards(checkpoint):
    cfg = Config(dict(default_hooks=dict(checkpoint=checkpoint), default_scope='mmpretrain'))
    add_guards(cfg)
    hooks = cfg.default_hooks
    assert hooks.checkpoint == dict(type='mmkendall.AtomicCheckpointHook', interval=3)
    assert hooks.finite_loss.type == 'mmkendall.FiniteLossHook'
    assert hooks.exact_resume.type == 'mmkendall.ExactResumeHook'


def test_guards_of_a_config_stay():
    class OwnHook(CheckpointHook):
        pass

    own = dict(type=OwnHook, interval=3)
    skip = dict(type=FiniteLossHook, action='skip')
    cfg = Config(dict(default_hooks=dict(checkpoint=own), custom_hooks=[skip]))
    add_guards(cfg)
    assert cfg.default_hooks.checkpoint.type is OwnHook
    assert cfg.custom_hooks == [skip]
    assert set(cfg.default_hooks) == {'checkpoint', 'exact_resume'}


def test_guards_of_a_config_of_mmrazor():
    cfg = load_config('mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py')
    add_guards(cfg)
    assert cfg.default_hooks.checkpoint.type == 'mmkendall.AtomicCheckpointHook'
    ours = load_config('mmkendall::digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py')
    before = ours.to_dict()
    add_guards(ours)
    assert ours.to_dict() == before
    assert issubclass(AtomicCheckpointHook, CheckpointHook)
