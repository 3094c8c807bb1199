"""The analyses say what the definitions say, and the tables hold it for a real training."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from torch import nn

from ..conftest import REPOSITORY, call_tool, load_tool

FOLDER = REPOSITORY / 'tools' / 'analysis_tools'


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch):
    """The scripts import what lies beside them."""
    monkeypatch.syspath_prepend(str(FOLDER))


def table(path) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def moment(tool, images: int = 5, classes: int = 20):
    student, teacher = 2 * torch.randn(2, images, classes, dtype=torch.float64)
    return tool.Moment(7, student, teacher)


def test_shares_are_those_of_the_gradients_written_down():
    """KL's is p_S - p_T, the ranking loss's the sum over pairs of the slopes of two tanh."""
    tool = load_tool('analysis_tools/loss_gradients.py')
    seen = moment(tool)
    rows = tool.gradient_rows(seen)
    apart_S, apart_T = (each[:, :, None] - each[:, None] for each in (seen.student, seen.teacher))
    by_hand = {
        'KL, T = 1': seen.student.softmax(1) - seen.teacher.softmax(1),
        'product, k = 1': (apart_T.tanh() * (1 - apart_S.tanh() ** 2)).sum(2),
        'hard_teacher, k = 10': (apart_T.sign() * (1 - (10 * apart_S).tanh() ** 2)).sum(2),
    }
    for name, gradient in by_hand.items():
        sizes = gradient.abs().gather(1, seen.teacher.argsort(1, descending=True)).sum(0)
        # Twenty classes: a decile has two.
        expected = sizes.reshape(10, 2).sum(1) / sizes.sum()
        found = [row for row in rows if row['loss'] == name]
        assert [row['decile'] for row in found] == list(range(1, 11))
        assert [row['share'] for row in found] == pytest.approx(expected.tolist(), rel=1e-6)
        assert {row['iteration'] for row in found} == {7}
    probabilities = [row['probability'] for row in rows if row['loss'] == 'KL, T = 1']
    assert sum(probabilities) == pytest.approx(0.5)
    assert probabilities == sorted(probabilities, reverse=True)


def test_tau_is_that_of_the_gradient_and_the_probability():
    from scipy.stats import kendalltau

    tool = load_tool('analysis_tools/loss_gradients.py')
    seen = moment(tool)
    rows = tool.gradient_rows(seen)
    size = (seen.student.softmax(1) - seen.teacher.softmax(1)).abs()
    expected = [kendalltau(*pair).statistic for pair in zip(size, seen.teacher, strict=True)]
    found = next(row['tau'] for row in rows if row['loss'] == 'KL, T = 1')
    assert found == pytest.approx(np.mean(expected))


def test_wrong_pairs_are_counted_one_by_one():
    tool = load_tool('analysis_tools/loss_gradients.py')
    seen = moment(tool, images=3, classes=12)
    rows = {(row['surrogate'], row['steepness']): row for row in tool.pair_rows(seen, 0.05)}
    wrong = live = total = 0
    for student, teacher in zip(seen.student.tolist(), seen.teacher.tolist(), strict=True):
        for i in range(12):
            for j in range(i):
                total += 1
                apart = student[i] - student[j]
                if apart * (teacher[i] - teacher[j]) < 0:
                    wrong += 1
                    live += 1 - math.tanh(0.5 * apart) ** 2 > 0.05
    assert 0 < live < wrong
    row = rows['product', 0.5]
    assert row['wrong'] == pytest.approx(wrong / total)
    assert row['live'] == pytest.approx(live / wrong)


def test_a_training_and_a_checkpoint_of_it(finished_run, tmp_path, monkeypatch, capsys):
    """The last iteration's weights are all but the checkpoint's, and the first one's are not."""
    options = ('--rank-loss=steepness=2', '--cfg-options', 'train_cfg.max_epochs=2')
    config = finished_run / 'config.py'
    tool = 'analysis_tools/loss_gradients.py'
    out = ('--out', tmp_path / 'run', '--at', '0', '1')
    assert call_tool(monkeypatch, tool, config, *out, *options) == 0
    shares = table(tmp_path / 'run' / 'gradient_shares.csv')
    pairs = table(tmp_path / 'run' / 'wrong_pairs.csv')
    # 320 images in batches of 64, two epochs.
    assert (
        {row['iteration'] for row in shares} == {row['iteration'] for row in pairs} == {'0', '9'}
    )
    for iteration in ('0', '9'):
        of_loss = [float(row['share']) for row in shares
                   if (row['iteration'], row['loss']) == (iteration, 'KL, T = 4')]  # fmt: skip
        assert sum(of_loss) == pytest.approx(1, abs=1e-4)
    assert 'share of the gradient of the lower five deciles' in capsys.readouterr().out
    for name in ('gradient_shares.svg', 'wrong_pairs.svg'):
        assert (tmp_path / 'run' / name).stat().st_size > 5000

    checkpoint = tmp_path / 'run' / 'runs' / 'config' / 'epoch_2.pth'
    out = ('--out', tmp_path / 'after', '--checkpoint', checkpoint)
    assert call_tool(monkeypatch, tool, config, *out, *options) == 0
    after = table(tmp_path / 'after' / 'wrong_pairs.csv')
    assert {row['iteration'] for row in after} == {'0'}
    wrong = {name: float(next(row['wrong'] for row in rows if row['iteration'] == iteration))
             for name, rows, iteration in (('start', pairs, '0'), ('end', pairs, '9'),
                                           ('after', after, '0'))}  # fmt: skip
    assert abs(wrong['after'] - wrong['end']) < abs(wrong['after'] - wrong['start'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--at', '0', '1.5'), 'from 0 to 1, got [0.0, 1.5]'),
        (('--threshold', '1'), '--threshold must lie between 0 and 1, got 1.0'),
        (('--launcher', 'pytorch'), 'runs in one process, got --launcher pytorch'),
    ],
)
def test_refuses_options(finished_run, options, message, monkeypatch, capsys):
    arguments = ('analysis_tools/loss_gradients.py', finished_run / 'config.py', *options)
    assert call_tool(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_refuses_what_is_no_distillation(tmp_path, monkeypatch, capsys):
    config = REPOSITORY / 'configs' / 'digits' / 'resnet18-w4_1xb64_digits.py'
    for tool in ('loss_gradients', 'loss_landscape'):
        rest = ('none.pth',) if tool == 'loss_landscape' else ()
        arguments = (f'analysis_tools/{tool}.py', config, *rest, '--out', tmp_path)
        assert call_tool(monkeypatch, *arguments) == 2
        assert 'one with model.distiller' in capsys.readouterr().err


def test_three_classes(tmp_path, monkeypatch):
    """KL ends at the teacher; the ranking loss has no rest there, and goes on to a distance."""
    assert call_tool(monkeypatch, 'analysis_tools/three_classes.py', '--out', tmp_path,
                     '--steepness', '1', '--steps', '400', '--rate', '0.2') == 0  # fmt: skip
    rows = table(tmp_path / 'three_classes.csv')
    of_kl = [row for row in rows if row['loss'] == 'KL']
    assert len(of_kl) == 6
    for row in of_kl:
        assert float(row['at_teacher']) == pytest.approx(0, abs=1e-12)
        assert float(row['from_teacher']) < 1e-3
        assert row['same_order'] == '1'
    tool = load_tool('analysis_tools/three_classes.py')
    points = torch.tensor(tool.STARTS, dtype=torch.float64)
    scores = tool.logits(points)
    torch.testing.assert_close(tool.differences(scores), points)
    teacher, step = (1.5, 0.5, -0.5), 1e-5

    def by_hand(student: list[float]) -> float:
        pairs = [(0, 1), (1, 2), (0, 2)]
        tanhs = [[math.tanh(each[i] - each[j]) for i, j in pairs] for each in (student, teacher)]
        return 1 - np.dot(*tanhs) / 3

    loss = tool.all_losses([1])['product, k = 1']
    assert loss(scores).tolist() == pytest.approx([by_hand(row) for row in scores.tolist()])
    eye = np.eye(3)
    slopes = [
        [(by_hand(row + step * each) - by_hand(row - step * each)) / (2 * step) for each in eye]
        for row in scores.numpy()
    ]
    assert tool.gradient(loss, scores).numpy() == pytest.approx(np.array(slopes), abs=1e-8)
    ranked = [row for row in rows if row['loss'] == 'product, k = 1']
    assert all(float(row['at_teacher']) > 0.05 for row in ranked)


def test_landscape(finished_run, tmp_path, monkeypatch):
    """The terms add up, the student stands in the middle, and the corners are worse."""
    options = ('--points', '5', '--batches', '5', '--rank-loss=steepness=2')
    checkpoint = finished_run / 'run' / 'epoch_3.pth'
    tool = 'analysis_tools/loss_landscape.py'
    arguments = (finished_run / 'config.py', checkpoint, '--out', tmp_path, *options)
    assert call_tool(monkeypatch, tool, *arguments) == 0
    rows = table(tmp_path / 'loss_landscape.csv')
    assert len(rows) == 25
    for row in rows:
        terms = [float(row[name]) for name in row if name not in ('a', 'b', 'loss')]
        assert len(terms) == 3
        assert sum(terms) == pytest.approx(float(row['loss']), rel=1e-4)
    (middle,) = [row for row in rows if float(row['a']) == float(row['b']) == 0]
    corners = [row for row in rows if abs(float(row['a'])) == abs(float(row['b'])) == 1]
    assert len(corners) == 4
    assert min(float(row['loss']) for row in corners) > float(middle['loss'])


def test_directions_are_filter_by_filter_as_long_as_the_weights():
    tool = load_tool('analysis_tools/loss_landscape.py')
    student = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    with torch.no_grad():
        student[0].weight[1] *= 100
    for weights, drawn in zip(
        student.parameters(),
        tool.direction(student, torch.Generator().manual_seed(0)),
        strict=True,
    ):
        if weights.dim() == 1:
            assert not drawn.any()
        else:
            lengths = [each.flatten(1).norm(dim=1) for each in (drawn, weights)]
            torch.testing.assert_close(*lengths)


def numbers(path) -> list[dict[str, float | str]]:
    """The rows of a committed table as the tool had them, but for the last digits."""
    kinds = {'iteration': int, 'decile': int, 'steepness': float, 'loss': str, 'surrogate': str}
    rows = table(path)
    if 'a' in rows[0]:
        kinds['loss'] = float
    return [{name: kinds.get(name, float)(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize('training', ['kd', 'kd-rank'])
def test_the_pages_summaries_are_those_of_its_tables(training, tmp_path):
    """The page shows sums of many rows, which a reader finds in a table of their own."""
    start = REPOSITORY / 'docs/analyses' / training
    of = {name: numbers(f'{start}_{name}.csv')
          for name in ('gradient_shares', 'wrong_pairs', 'loss_landscape')}  # fmt: skip
    for row in of['wrong_pairs']:
        row['steepness'] = int(row['steepness']) if row['steepness'] >= 1 else row['steepness']
    gradients = load_tool('analysis_tools/loss_gradients.py')
    landscape = load_tool('analysis_tools/loss_landscape.py')
    for name, rows in {
        'gradient_summary': gradients.summary(of['gradient_shares'], of['wrong_pairs']),
        'landscape_summary': landscape.summary(of['loss_landscape'], 1.0),
    }.items():
        found = table(f'{start}_{name}.csv')
        assert len(found) == len(rows)
        for row, here in zip(rows, found, strict=True):
            assert list(row) == list(here)
            for key, value in row.items():
                if isinstance(value, float):
                    shown = float(here[key] or 'nan')
                    assert shown == pytest.approx(value, rel=1e-4, abs=1e-4, nan_ok=True)
                else:
                    assert here[key] == str(value)


def test_norms_take_the_batch_and_keep_nothing_of_it():
    tool = load_tool('analysis_tools/loss_landscape.py')
    student = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9))
    tool.batch_statistics(student)
    images = 5 + 2 * torch.randn(64, 3)
    out = student(images)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    assert student[0].running_mean.tolist() == [0, 0, 0]
    assert student[0].running_var.tolist() == [1, 1, 1]


def study_tables(folder, differences: dict[str, float]) -> None:
    """The tables of a study of teachers whose spread is 1, 2, 3, ..."""
    from mmkendall.studies.properties import PROPERTIES
    from mmkendall.studies.results import write_csv

    folder.mkdir()
    write_csv(
        folder / 'teachers.csv',
        [
            {'case': case, **dict.fromkeys(PROPERTIES, 1.0), 'spread': float(spread)}
            for spread, case in enumerate(differences, 1)
        ],
    )
    write_csv(
        folder / 'differences.csv',
        [
            {
                'case': case,
                'arm': 'rank',
                'rival': 'KD',
                'measure': 'top1',
                'over': over,
                'mean': value,
            }
            for case, value in differences.items()
            for over in ('seeds', 'seeds and groups')
        ],
    )


def test_which_property_goes_with_the_difference(tmp_path, monkeypatch):
    study_tables(tmp_path / 'study', {'a': -1.0, 'b': 0.0, 'c': 0.5, 'd': 2.0, 'e': 3.0})
    arguments = [str(tmp_path / 'study'), '--arm', 'rank', '--rival', 'KD']
    tool = 'analysis_tools/which_teacher.py'
    assert call_tool(monkeypatch, tool, *arguments, '--out', str(tmp_path)) == 0
    (row,) = table(tmp_path / 'which_teacher.csv')
    assert (row['property'], row['cases']) == ('spread', '5')
    assert float(row['spearman']) == pytest.approx(1)
    # Two of the 120 orders are as far from none as this one.
    assert float(row['p_value']) == pytest.approx(2 / 120, abs=1e-6)
    assert (tmp_path / 'which_teacher.svg').stat().st_size > 1000


def test_too_few_cases_are_refused(tmp_path, monkeypatch, capsys):
    study_tables(tmp_path / 'study', {'a': -1.0, 'b': 0.0})
    arguments = [str(tmp_path / 'study'), '--arm', 'rank', '--rival', 'KD']
    tool = 'analysis_tools/which_teacher.py'
    assert call_tool(monkeypatch, tool, *arguments, '--out', str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert 'in 2 cases with a teacher, 4 are needed; the studies compare rank and KD' in told
