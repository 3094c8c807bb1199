"""Teachers that are no network: from a table of scores to a student that learns from it."""

from __future__ import annotations

import configparser
import csv
import json
import math
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmkendall.engine.distill_config import ConfigError, check_distill_config
from mmkendall.functional import kd_loss, kendall_rank_loss
from mmkendall.models import LogitDistill, RoILogitDistill
from mmkendall.models.algorithms.teacher_logits import (
    ScoreTableError,
    TeacherLogits,
    TeacherLogitsError,
    read_table,
)
from mmkendall.models.algorithms.teacher_logits.table import NEEDS_PYARROW

from ..conftest import REPOSITORY, call_tool
from ..test_docs.pages import commands
from .test_teacher_logits import write_teacher

DIGITS = REPOSITORY / 'configs' / 'digits'
TOOL = 'dataset_converters/scores_to_teacher_logits.py'
CACHE_TOOL = 'dataset_converters/cache_teacher_logits.py'
SAMPLES, VIEWS, CLASSES = 60, 2, 10
NAMES = tuple('0123456789')
CONFIG = """
_base_ = ['{base}']
model = dict(
    type='mmkendall.LogitDistill', teacher=None, teacher_ckpt=None,
    teacher_logits='{folder}/logits')
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True, type='mmkendall.FixedViews', num_views={views}, seed=7,
        dataset=dict(
            type='mmkendall.Digits', split='train', indices={samples},
            pipeline=[
                dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1),
                dict(type='mmpretrain.PackInputs'),
            ])),
    sampler=dict(type='mmkendall.ViewSampler'))
"""


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a config; its losses are a KL divergence and the ranking loss."""
    base = DIGITS / 'kd-rank_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    text = CONFIG.format(base=base, folder=tmp_path, samples=SAMPLES, views=VIEWS)
    (tmp_path / 'config.py').write_text(text)
    return tmp_path


def write_csv(path: Path, header, rows) -> Path:
    with open(path, 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
    return path


def arrow():
    """pyarrow; the test is skipped where the extra parquet is not installed."""
    pytest.importorskip('pyarrow.parquet', reason='the extra parquet is not installed')
    import pyarrow

    return pyarrow


def write_parquet(path: Path, header, rows) -> Path:
    """By pyarrow. None is null, and a column with a word in it is one of words."""
    pa = arrow()
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    arrays = []
    for name, column in zip(header, columns, strict=True):
        words = any(isinstance(each, str) for each in column)
        kind = pa.string() if words else pa.int64() if name == 'id' else pa.float64()
        arrays.append(pa.array([str(each) for each in column] if words else column, kind))
    pa.parquet.write_table(pa.table(arrays, names=list(header)), path)
    return path


def write_table(path: Path, header, rows) -> Path:
    return (write_parquet if path.suffix == '.parquet' else write_csv)(path, header, rows)


def shuffled(path: Path, scores: np.ndarray, ids=None, names=NAMES) -> Path:
    """Rows and columns in another order than that of the training set."""
    random = np.random.default_rng(0)
    rows, columns = random.permutation(len(scores)), random.permutation(len(names))
    ids = range(len(scores)) if ids is None else ids
    return write_table(
        path,
        [*(names[column] for column in columns[:4]), 'id', *(names[c] for c in columns[4:])],
        [
            [*scores[row][columns[:4]].tolist(), ids[row], *scores[row][columns[4:]].tolist()]
            for row in rows
        ],
    )


def drawn(kind: str = 'scores') -> np.ndarray:
    random = np.random.default_rng(1)
    scores = random.normal(0, 30, (SAMPLES, CLASSES)).round(3)
    if kind == 'scores':
        scores[::3, 4] = -math.inf
        return scores
    if kind == 'ranking':
        ranks = scores.argsort(axis=1).argsort(axis=1).astype(float) + 1
        ranks[ranks > 5] = math.inf  # The first five alone are known.
        return ranks
    votes = random.multinomial(50, [0.5, 0.3, 0.1, 0.05, 0.05, 0, 0, 0, 0, 0], SAMPLES)
    votes[::7] = 50 * np.eye(CLASSES, dtype=int)[3]  # Unanimous.
    return votes if kind == 'votes' else votes / 50


def build(folder: Path, **options):
    cfg = Config.fromfile(str(folder / 'config.py'))
    cfg.merge_from_dict(options)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train(), DATASETS.build(cfg.train_dataloader.dataset)


def step(model: LogitDistill, dataset, rows: list[int]):
    batch = pseudo_collate([dataset[row] for row in rows])
    return model(**model.data_preprocessor(batch, True), mode='loss')


def convert(monkeypatch, folder: Path, table: Path, kind: str, *options) -> int:
    return call_tool(monkeypatch, TOOL, folder / 'config.py', table, '--kind', kind, *options)


def records(model: LogitDistill) -> list[torch.Tensor]:
    managers = model.distiller.student_recorders, model.distiller.teacher_recorders
    return [manager.get_recorder('fc').get_record_data() for manager in managers]


LOGITS = {
    ('scores', None): lambda x: x,
    ('probabilities', None): np.log,
    ('probabilities', 0.01): lambda x: np.log(np.maximum(x, 0.01)),
    ('votes', None): lambda x: np.log(x / 50),
    ('votes', 0.03): lambda x: np.log(np.maximum(x / 50, 0.03)),
    ('ranking', None): lambda x: -x,
}


@pytest.mark.parametrize('ending', ['csv', 'parquet', 'npy'])
@pytest.mark.parametrize(('kind', 'floor'), LOGITS)
def test_the_student_sees_the_scores_of_its_images(kind, floor, ending, folder, monkeypatch):
    """By sample and by class name, the same for every view, in every order of the table."""
    scores = drawn(kind)
    table = folder / f'table.{ending}'
    if ending == 'npy':
        np.save(table, scores)
    else:
        shuffled(table, scores)
    options = ['--floor', str(floor)] if floor else []
    if kind in ('probabilities', 'votes') and not floor:
        options = ['--keep-zeros']
    assert convert(monkeypatch, folder, table, kind, *options) == 0
    model, dataset = build(folder)
    rows = [61, 3, 17, 119, 0, 60]
    losses = step(model, dataset, rows)
    sum(losses.values()).backward()
    with np.errstate(divide='ignore'):
        expected = LOGITS[kind, floor](scores)[[row % SAMPLES for row in rows]]
    student, teacher = records(model)
    np.testing.assert_allclose(teacher.numpy(), expected, rtol=1e-6)
    assert np.isinf(expected).any() == (floor is None)
    # And what comes of it: finite losses, as of the scores themselves.
    wanted = 0.9 * kd_loss(student, teacher, 4.0), 0.9 * kendall_rank_loss(student, teacher, 1.0)
    for name, loss in zip(('loss_kl', 'loss_rank'), wanted, strict=True):
        torch.testing.assert_close(losses[f'distill.{name}'], loss)
    assert all(p.grad.isfinite().all() for p in model.architecture.parameters())


def test_only_the_highest_scores_are_kept(folder, monkeypatch):
    table = shuffled(folder / 'table.csv', drawn())
    assert convert(monkeypatch, folder, table, 'scores', '--topk', '4') == 0
    model, dataset = build(folder)
    rows = [61, 3, 17, 119, 0, 60]
    step(model, dataset, rows)
    scores = drawn()[[row % SAMPLES for row in rows]]
    lowest = np.sort(scores, axis=1)[:, -4:-3]
    expected = np.where(scores >= lowest, scores, -math.inf)
    np.testing.assert_allclose(records(model)[1].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        ('mmrazor.KLDivergence', dict(tau=4)),
        ('mmrazor.DISTLoss', dict(tau=4)),
        ('mmkendall.KDLoss', dict(temperature_T=0.5)),
        ('mmkendall.CTKDLoss', {}),
        ('mmkendall.DKDLoss', {}),
        ('mmkendall.MLKDLoss', dict(num_views=1)),
        ('mmkendall.KendallRankLoss', dict(surrogate='hard_teacher', steepness=10.0)),
    ],
)
@pytest.mark.parametrize('connector', [None, 'OrderScores', 'LogitStandardization'])
def test_every_logit_loss_takes_classes_that_are_last(
    kind, options, connector, folder, monkeypatch
):
    """Minus infinity from the cache gives finite losses and gradients."""
    table = shuffled(folder / 'votes.csv', drawn('votes'))
    assert convert(monkeypatch, folder, table, 'votes', '--keep-zeros') == 0
    cfg = Config.fromfile(str(folder / 'config.py'))
    names = ('logits_S', 'logits_T') if 'DIST' in kind else ('preds_S', 'preds_T')
    of_teacher = dict(from_student=False, recorder='fc')
    if connector:
        cfg.model.distiller.connectors = dict(c=dict(type=f'mmkendall.{connector}'))
        of_teacher['connector'] = 'c'
    cfg.model.distiller.distill_losses = dict(loss_x=dict(type=kind, **options))
    cfg.model.distiller.loss_forward_mappings = dict(
        loss_x={names[0]: dict(from_student=True, recorder='fc'), names[1]: of_teacher}
    )
    if 'DKD' in kind:
        recorder = dict(type='ModuleInputs', source='head.loss_module')
        cfg.model.distiller.student_recorders.gt_labels = recorder
        labels = dict(from_student=True, recorder='gt_labels', data_idx=1)
        cfg.model.distiller.loss_forward_mappings.loss_x.gt_labels = labels
    check_distill_config(cfg)
    model = MODELS.build(cfg.model).train()
    losses = step(model, DATASETS.build(cfg.train_dataloader.dataset), list(range(8)))
    assert (records(model)[1] == -math.inf).any()
    losses['distill.loss_x'].backward()
    gradient = model.architecture.head.fc.weight.grad
    assert losses['distill.loss_x'].isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_cache_of_a_table_says_so_and_needs_no_teacher(folder, monkeypatch, capsys):
    table = shuffled(folder / 'margins.csv', drawn())
    assert convert(monkeypatch, folder, table, 'scores') == 0
    said = capsys.readouterr().out
    assert f'{VIEWS * SAMPLES} rows written' in said
    made_of = TeacherLogits(folder / 'logits').meta['made_of']
    assert made_of['teachers']['table'] == {
        'file': 'margins.csv', 'kind': 'scores', 'floor': None, 'ids': 'index',
    }  # fmt: skip
    assert made_of['dtype'] == 'float32'
    assert made_of['dataset_classes'] == list(NAMES)
    model, dataset = build(folder)
    assert model.teachers == []
    assert not [name for name in model.state_dict() if name.startswith('teacher')]
    step(model, dataset, [0, 1])
    # The same table again has nothing to do, another one is not mixed into it.
    assert convert(monkeypatch, folder, table, 'scores') == 0
    assert ': 0 rows written' in capsys.readouterr().out
    other = shuffled(folder / 'other.csv', drawn() * 2)
    assert convert(monkeypatch, folder, other, 'scores') == 2
    assert 'holds logits that were made otherwise' in capsys.readouterr().err


def test_the_share_of_labels_is_printed(folder, monkeypatch, capsys):
    """By which a table in another order than the training set shows."""
    _, dataset = build(folder)
    labels = [dataset.get_data_info(index)['gt_label'] for index in range(SAMPLES)]
    scores = np.random.default_rng(0).random((SAMPLES, CLASSES))
    scores[np.arange(45), labels[:45]] = 2
    scores[np.arange(45, SAMPLES), labels[45:]] = -2
    table = shuffled(folder / 'table.csv', scores)
    assert convert(monkeypatch, folder, table, 'scores') == 0
    assert 'the highest class is the label of 75.0% of 60 samples' in capsys.readouterr().out


@pytest.fixture
def built(folder, monkeypatch) -> Path:
    table = shuffled(folder / 'table.csv', drawn())
    assert convert(monkeypatch, folder, table, 'scores') == 0
    return folder


def network() -> dict:
    model = Config.fromfile(str(DIGITS / 'resnet18-w16_1xb64_digits.py')).model
    return dict(_delete_=True, **model)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'model.teacher': network()},
            r"from a table of scores, 'table\.csv', and model\.teacher is a network: set",
        ),
        (
            {'train_dataloader.dataset.seed': 8},
            r'of 6 images of this batch are not those that the teacher saw, first sample',
        ),
        (
            {'train_dataloader.dataset.dataset.pipeline.0.padding': 2},
            r'of 6 images of this batch are not those that the teacher saw',
        ),
        ({'train_dataloader.dataset.num_views': 3}, r'has 120 rows, the dataset asks for row 1'),
        (
            {'train_dataloader.dataset.dataset.metainfo': dict(classes=NAMES[::-1])},
            r'whose classes are 0, 1, 2, .* another order',
        ),
    ],
)
def test_refuses_what_does_not_fit(built, options, message):
    model, dataset = build(built, **options)
    rows = [dataset.num_rows - 1, 0, 5, 61, 33, 7]
    with pytest.raises(TeacherLogitsError, match=message):
        step(model, dataset, rows)


def test_hooks_and_our_validation_do_without_a_teacher(built, monkeypatch):
    monkeypatch.chdir(built)
    with open('config.py', 'a') as file:
        file.write("""
train_cfg = dict(max_epochs=2)
val_cfg = dict(_delete_=True, type='mmkendall.DistillValLoop')
val_dataloader = dict(dataset=dict(indices=100))
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [
    dict(type='EMAHook', momentum=0.2),
    dict(type='mmkendall.StudentCheckpointHook'),
    dict(type='mmkendall.DistillDiagnosticsHook', interval=1)]
""")
    assert call_tool(monkeypatch, 'train.py', 'config.py', '--work-dir', 'run') == 0
    (scalars,) = Path('run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    keys = {key for line in lines for key in line}
    assert {'accuracy/top1', 'diag/tau', 'distill.loss_kl', 'distill.loss_rank'} <= keys
    assert not [key for key in keys if key.startswith('teacher')]
    resumed = ('--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert call_tool(monkeypatch, 'train.py', 'config.py', '--work-dir', 'run', *resumed) == 0
    assert Path('run/student/epoch_3.pth').is_file()
    test = ('test.py', 'config.py', 'run/epoch_3.pth', '--cfg-options')
    assert call_tool(monkeypatch, *test, 'test_dataloader.dataset.indices=100') == 0


def test_a_folder_that_is_not_there_is_one_sentence(folder, monkeypatch, capsys):
    """In the check before training, too."""
    assert call_tool(monkeypatch, 'misc/check_config.py', folder / 'config.py') == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert 'holds no cached logits: build them with' in error[-1]
    assert 'scores_to_teacher_logits.py CONFIG TABLE' in error[-1]
    assert 'Traceback' not in error


def test_refuses_mixed_images(built):
    mixup = dict(augments=dict(type='Mixup', alpha=0.2))
    with pytest.raises(ValueError, match='batch augmentation'):
        build(built, **{'model.data_preprocessor.batch_augments': mixup})


def test_logits_of_a_network_need_the_network(folder, monkeypatch):
    write_teacher(folder / 'teacher.pth', 0)
    options = ('--cfg-options', f'model.teacher_ckpt={folder}/teacher.pth')
    text = (folder / 'config.py').read_text()
    (folder / 'with.py').write_text(text.replace('teacher=None, ', ''))
    assert call_tool(monkeypatch, CACHE_TOOL, folder / 'with.py', *options) == 0
    model, dataset = build(folder)
    with pytest.raises(TeacherLogitsError, match=r'computed by a network, and model\.teacher is'):
        step(model, dataset, [0, 1])


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(teacher_logits=None), ValueError, 'teacher must be a model, .* got None: without'),
        (
            dict(teacher_ckpt='a.pth'),
            ValueError,
            'teacher_ckpt must be None where teacher is None',
        ),
        (dict(distiller=None), TypeError, 'distiller must be the config of a Configurable'),
    ],
)
def test_a_model_without_a_teacher(folder, options, error, message):
    model = dict(Config.fromfile(str(folder / 'config.py')).model)
    model.pop('type')
    for kind in (LogitDistill, RoILogitDistill):
        with pytest.raises(error, match=message):
            kind(**{**model, **options})


def test_mmrazors_validation_of_a_teacher_is_refused(folder):
    cfg = Config.fromfile(str(folder / 'config.py'))
    cfg.val_cfg = dict(type='mmrazor.SingleTeacherDistillValLoop')
    with pytest.raises(ConfigError, match=r'val_cfg\.type must be a loop that needs no teacher'):
        check_distill_config(cfg)
    cfg.val_cfg = dict(type='mmkendall.DistillValLoop')
    check_distill_config(cfg)


HEADER = ['id', *NAMES]
PLAIN = [[index, *range(CLASSES)] for index in range(SAMPLES)]


def change(row: int, column: int, value):
    return [[*line[:column], value, *line[column + 1 :]] if i == row else line
            for i, line in enumerate(PLAIN)]  # fmt: skip


WRONG_TABLES = {
    'a missing sample': (HEADER, PLAIN[1:], "1 of the 60 samples .* no row, first '0'"),
    'an extra sample': (HEADER, [*PLAIN, [60, *range(10)]], "1 of its 61 rows .* first '60'"),
    'a sample twice': (HEADER, [*PLAIN, PLAIN[7]], "2 rows called '7'"),
    'ids from 1': (HEADER, change(0, 0, 60), "have no row, first '0'; 1 of its 60 rows .*'60'"),
    'a missing class': (HEADER[:-1], [line[:-1] for line in PLAIN], "no column, first '9'"),
    'an extra class': ([*HEADER, 'ten'], [[*line, 0] for line in PLAIN], "columns .* first 'ten'"),
    'a class twice': ([*HEADER[:-1], '8'], PLAIN, "2 columns called '8'"),
    'other classes': (['id', *'abcdefghij'], PLAIN, "10 of the 10 classes .* first '0'.*'a'"),
    'no ids': (['name', *NAMES], PLAIN, "one column 'id' of sample ids .*--id-column"),
    'two ids': (['id', 'id', *NAMES[1:]], PLAIN, "one column 'id' .* got 2 among id, id"),
    'a word': (HEADER, change(3, 2, 'high'), r'table\.csv, line 5: scores must be numbers.*high'),
    'an empty field': (HEADER, change(3, 2, ''), r'line 5: scores must be numbers'),
    'a short line': (HEADER, [*PLAIN[:2], [2, 0.5], *PLAIN[3:]], 'line 4: 2 fields, .* has 11'),
    'NaN': (HEADER, change(3, 2, 'nan'), "scores must be .* got nan for sample '3', class '1'"),
    'infinity': (HEADER, change(3, 2, 'inf'), "got inf for sample '3', class '1'"),
    'nothing': (HEADER, [], 'holds no scores'),
    'nothing at all': ([], [], "one column 'id'"),
}


@pytest.mark.parametrize('name', WRONG_TABLES)
def test_wrong_tables_are_one_sentence(name, folder, monkeypatch, capsys):
    header, rows, message = WRONG_TABLES[name]
    table = write_csv(folder / 'table.csv', header, rows)
    assert convert(monkeypatch, folder, table, 'scores') == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / 'logits').exists()


# What a .parquet says otherwise, as a type is of a column and no field can be empty.
OF_PARQUET = {
    'a word': "table\\.parquet, column '1': scores must be numbers, got the type string",
    'an empty field': "column '1': scores must be numbers, got the type string",
}


@pytest.mark.parametrize('name', [name for name in WRONG_TABLES if name != 'a short line'])
def test_wrong_parquets_are_the_same_sentence(name, folder, monkeypatch, capsys):
    header, rows, message = WRONG_TABLES[name]
    rows = [[float(each) if each in ('nan', 'inf') else each for each in row] for row in rows]
    table = write_parquet(folder / 'table.parquet', header, rows)
    assert convert(monkeypatch, folder, table, 'scores') == 2
    error = capsys.readouterr().err
    assert re.search(OF_PARQUET.get(name, message), error), error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / 'logits').exists()


def test_a_null_is_not_a_number(folder, monkeypatch, capsys):
    """pandas writes NaN as null."""
    table = write_parquet(folder / 'table.parquet', HEADER, change(3, 2, None))
    assert convert(monkeypatch, folder, table, 'scores') == 2
    assert 'scores must be numbers, or minus infinity' in (error := capsys.readouterr().err)
    assert "got nan for sample '3', class '1'" in error


def test_types_of_a_parquet(tmp_path):
    """Whole numbers and narrow ones are kept in full, ids may be words, numbers or categories."""
    pa = arrow()
    ids = pa.array(['b', 'a', None]).dictionary_encode()
    for kind, dtype in {
        'float16': np.float32, 'float32': np.float32, 'float64': np.float64, 'uint8': np.float64,
        'int64': np.float64,
    }.items():  # fmt: skip
        columns = [pa.array(np.array(column, kind)) for column in ([3, 1, 2], [5, 250, 7])]
        table = pa.table([columns[0], ids, columns[1]], names=['cat', 'id', 'dog'])
        pa.parquet.write_table(table, tmp_path / 'table.parquet', row_group_size=2)
        read = read_table(tmp_path / 'table.parquet')
        assert (read.ids, read.names) == (('b', 'a', ''), ('cat', 'dog'))
        assert read.scores.dtype == dtype
        assert read.scores.tolist() == [[3, 5], [1, 250], [2, 7]]
    for kind in (pa.bool_(), pa.list_(pa.float64()), pa.decimal128(5, 2), pa.timestamp('s')):
        table = pa.table([pa.array([0]), pa.array([None], kind)], names=['id', 'cat'])
        pa.parquet.write_table(table, tmp_path / 'table.parquet')
        with pytest.raises(ScoreTableError, match=r"column 'cat': scores must .*: write it as"):
            read_table(tmp_path / 'table.parquet')


PANDAS = Path(__file__).parent / 'pandas_tables'


@pytest.mark.parametrize(
    ('name', 'id_column', 'ids'),
    [
        ('column_of_ids', 'id', ('2', '0', '1')),
        ('unnamed_index', '__index_level_0__', ('owl/7.png', 'cat/1.png', 'dog/4.png')),
        ('named_index', 'id', ('2', '0', '1')),
        ('counted_index', 'id', ('0', '1', '2')),
    ],
)
def test_what_pandas_writes(name, id_column, ids):
    """Its index is no class, whether it holds the ids or what a shuffle left."""
    arrow()
    read = read_table(PANDAS / f'{name}.parquet', id_column)
    assert read.names == ('cat', 'dog', 'owl')
    assert read.ids == ids
    assert read.scores.tolist() == [[-1.3, 0.4, -0.2], [1.9, -0.8, -1.1], [0.2, 0.1, -0.7]]


def test_an_index_that_may_hold_the_ids_is_named():
    arrow()
    mend = r"another with --id-column, such as pandas' index '__index_level_0__'"
    with pytest.raises(ScoreTableError, match=mend):
        read_table(PANDAS / 'unnamed_index.parquet')


def test_a_parquet_without_pyarrow_is_one_sentence(folder, monkeypatch, capsys):
    (folder / 'scores.parquet').write_bytes(b'PAR1')
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    assert convert(monkeypatch, folder, folder / 'scores.parquet', 'scores') == 2
    error = capsys.readouterr().err
    assert f'scores.parquet: {NEEDS_PYARROW}' in error
    assert len(error.strip().splitlines()) == 1
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / 'setup.cfg')
    wanted = setup['options.extras_require']['parquet'].split()
    assert re.search(r"pip install '(.*)'", NEEDS_PYARROW)[1] in wanted


def in_row_three(kind: str, value: float) -> np.ndarray:
    scores = drawn(kind).astype(float)
    scores[3, 2] = value
    return scores


def a_full_row(kind: str, value: float) -> np.ndarray:
    scores = drawn(kind).astype(float)
    scores[3] = value
    return scores


@pytest.mark.parametrize(
    ('kind', 'scores', 'options', 'message'),
    [
        (
            'probabilities',
            drawn('probabilities'),
            [],
            r'are 0, whose logarithm .*--floor P .*keep',
        ),
        ('votes', drawn('votes'), [], r'of the 10 votes of row 0 are 0'),
        ('probabilities', in_row_three('votes', 1.5), ['--keep-zeros'], 'between 0 and 1, got'),
        ('probabilities', in_row_three('probabilities', 0.9), ['--keep-zeros'], 'a sum of 1, got'),
        ('probabilities', in_row_three('probabilities', -0.1), ['--keep-zeros'], r'got -0\.1 for'),
        ('votes', in_row_three('votes', 1.5), ['--keep-zeros'], r'whole numbers .* got 1\.5'),
        ('votes', in_row_three('votes', -1), ['--keep-zeros'], 'whole numbers .* got -1'),
        ('votes', in_row_three('votes', math.inf), ['--keep-zeros'], 'whole numbers .* got inf'),
        ('votes', a_full_row('votes', 0), ['--keep-zeros'], 'name one class at least, .* row 3'),
        ('scores', a_full_row('scores', -math.inf), [], 'name one class at least, .* row 3'),
        ('scores', drawn('probabilities'), [], "must be probabilities .* got 'scores'"),
        ('ranking', in_row_three('ranking', -math.inf), [], 'the lowest for the best .* got -inf'),
        ('ranking', a_full_row('ranking', math.inf), [], 'name one class at least, .* row 3'),
        ('ranking', in_row_three('ranking', math.nan), [], 'got nan for row 3, column 2'),
        ('scores', drawn(), ['--keep-zeros'], '--keep-zeros is for the zeros of probabilities'),
        ('ranking', drawn('ranking'), ['--floor', '0.1'], '--floor is for the zeros of'),
        ('votes', drawn('votes'), ['--floor', '1.5'], r'share between 0 and 1, got 1\.5'),
        ('scores', drawn()[1:], [], r'has 59 rows, and the training set has 60 samples'),
        ('scores', drawn()[:, 1:], [], r'has 9 columns, and the training set has 10 classes'),
        ('scores', drawn()[0], [], r'numbers of shape \(samples, classes\), got float64'),
        ('scores', drawn().astype(str), [], r'numbers of shape \(samples, classes\), got <U'),
        ('scores', drawn(), ['--ids', 'path'], r'--ids path needs a \.csv or \.parquet with'),
        ('scores', drawn() * 1e4, ['--dtype', 'float16'], 'in the range of float16, got'),
    ],
)
def test_wrong_numbers_are_one_sentence(
    kind, scores, options, message, folder, monkeypatch, capsys
):
    np.save(folder / 'table.npy', scores)
    assert convert(monkeypatch, folder, folder / 'table.npy', kind, *options) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / 'logits').exists()


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('gone.csv', None, "gone.csv' does not exist"),
        ('scores.parquet', b'PAR1', "scores.parquet can't be read: .*4 bytes"),
        ('scores.parquet', b'PAR1' * 30, "scores.parquet can't be read: "),
        ('scores.txt', b'1 2', "must be a .npy, .csv or .parquet, got the ending '.txt'"),
        ('scores.npy', b'no array', "scores.npy can't be read"),
        ('scores.csv', b'id,\xff\xfe\n', "scores.csv can't be read"),
    ],
)
def test_what_is_no_table(name, content, message, folder, monkeypatch, capsys):
    if name.endswith('.parquet'):
        arrow()
    if content is not None:
        (folder / name).write_bytes(content)
    assert convert(monkeypatch, folder, folder / name, 'scores') == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.type=mmrazor.SingleTeacherDistill', 'model.type must be'),
        ('model.teacher_logits=None', 'must name a folder, got None'),
        ('train_dataloader.dataset.type=mmkendall.Digits', "must be 'mmkendall.FixedViews'"),
        ('model.teacher.type=mmpretrain.ImageClassifier', 'model.teacher must be None'),
    ],
)
def test_wrong_configs(option, message, folder, monkeypatch, capsys):
    np.save(folder / 'table.npy', drawn())
    if 'model.teacher.' in option:
        text = (folder / 'config.py').read_text().replace('teacher=None, ', '')
        (folder / 'config.py').write_text(text)
    arguments = ('--cfg-options', option)
    assert convert(monkeypatch, folder, folder / 'table.npy', 'scores', *arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_for_networks_says_which_one_is_for_tables(folder, monkeypatch, capsys):
    assert call_tool(monkeypatch, CACHE_TOOL, folder / 'config.py') == 2
    assert 'model.teacher must be a network' in capsys.readouterr().err


def test_ids_may_be_paths(folder, monkeypatch, capsys):
    random = np.random.default_rng(0)
    paths = [f'{name}/{number}.png' for name in ('ash', 'oak') for number in range(3)]
    for path in paths:
        file = folder / 'photos' / 'train' / path
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), random.integers(0, 255, (8, 8), dtype=np.uint8))
    text = (folder / 'config.py').read_text()
    (folder / 'config.py').write_text(
        text
        + f"""
train_dataloader['dataset']['dataset'] = dict(
    type='mmpretrain.CustomDataset', data_root='{folder}/photos', data_prefix='train',
    pipeline=[
        dict(type='mmpretrain.LoadImageFromFile', color_type='grayscale'),
        dict(type='mmpretrain.PackInputs')])
"""
    )
    scores = random.normal(size=(6, 2))
    table = shuffled_two(folder / 'table.csv', scores, paths)
    assert convert(monkeypatch, folder, table, 'scores', '--ids', 'path') == 0
    rows = np.load(folder / 'logits' / 'logits.npy')[:, 0]
    np.testing.assert_allclose(rows, np.tile(scores, (VIEWS, 1)), rtol=1e-6)
    # The digits have no paths.
    (folder / 'config.py').write_text(text)
    table = shuffled(folder / 'table.csv', drawn())
    assert convert(monkeypatch, folder, table, 'scores', '--ids', 'path') == 2
    assert 'sample 0 of Digits has none: take --ids index' in capsys.readouterr().err


def shuffled_two(path: Path, scores: np.ndarray, ids: list[str]) -> Path:
    order = np.random.default_rng(2).permutation(len(ids))
    rows = [[scores[row, 1], ids[row], scores[row, 0]] for row in order]
    return write_csv(path, ['oak', 'id', 'ash'], rows)


def test_columns_may_be_numbers_where_names_repeat(folder, monkeypatch, capsys):
    """ImageNet has two cranes."""
    names = ('crane', 'crane', *'cdefghij')
    option = ('--cfg-options', f'train_dataloader.dataset.dataset.metainfo.classes={list(names)}')
    option = (option[0], option[1].replace(' ', '').replace("'", '"'))
    table = shuffled(folder / 'table.csv', drawn())
    assert convert(monkeypatch, folder, table, 'scores', *option) == 0
    rows = np.load(folder / 'logits' / 'logits.npy')[:SAMPLES, 0]
    np.testing.assert_allclose(rows, drawn(), rtol=1e-6)
    table = write_csv(folder / 'named.csv', ['id', *names], PLAIN)
    assert convert(monkeypatch, folder, table, 'scores', *option, '--out', 'other') == 2
    assert "2 columns called 'crane'" in capsys.readouterr().err


PAGE = commands('teachers.md')
DOCS = REPOSITORY / 'docs'
SHARES = re.compile(r'the highest class is the label of .*?as `digits_scores` prints', re.DOTALL)
SHORT = (
    'train_cfg.max_epochs=5', 'train_dataloader.dataset.num_views=2', 'randomness.seed=0',
)  # fmt: skip


@pytest.mark.parametrize('teacher', ['svm', 'forest', 'cosine', 'prototype'])
def test_the_commands_of_the_page(teacher, tmp_path, monkeypatch, capsys):
    """From the fit of a teacher of scikit-learn to the validated student."""
    monkeypatch.chdir(tmp_path)
    said = {}
    for program, tool, *options in PAGE:
        if not any(teacher in option for option in options):
            continue
        assert program == 'mmkendall'
        short = [] if tool.endswith('digits_scores') else ['--cfg-options', *SHORT]
        assert call_tool(monkeypatch, f'{tool}.py', *options, *short) == 0
        said[tool.rpartition('/')[2]] = capsys.readouterr().out
    assert list(said) == ['digits_scores', 'scores_to_teacher_logits', 'train']
    share = float(re.search(r'the label of ([\d.]+)%', said['digits_scores'])[1])
    # The page says it of one version of scikit-learn.
    said_there = re.findall(r'(\d+\.\d) %', SHARES.search((DOCS / 'teachers.md').read_text())[0])
    assert min(abs(float(each) - share) for each in said_there) < 0.5
    assert f'the label of {share}% of 1297 samples' in said['scores_to_teacher_logits']
    (scalars,) = Path('work_dirs').glob('*/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    names = {'distill.loss_kd', 'distill.loss_rank'}
    losses = [line[name] for line in lines for name in names & set(line)]
    assert losses
    assert all(map(math.isfinite, losses))
    accuracy = [line['accuracy/top1'] for line in lines if 'accuracy/top1' in line]
    assert accuracy[-1] > 50  # Of ten classes, after five epochs.
