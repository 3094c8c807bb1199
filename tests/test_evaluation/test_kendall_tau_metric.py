from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.fileio import dump
from mmengine.registry import METRICS
from scipy.stats import kendalltau

from mmkendall.class_names import ClassNamesError, class_names, compare_classes
from mmkendall.compat.safe_loading import load_pickle
from mmkendall.evaluation.metrics import KendallTau
from mmkendall.warn_once import warn_once

from ..processes import run_in_processes

TYPE = 'mmkendall.KendallTau'


def test_means_over_the_samples(tmp_path):
    scores = {side: torch.rand(5, 8) for side in ('teacher', 'student')}
    samples = {
        side: [{'sample_idx': i, 'pred_score': row} for i, row in enumerate(rows)]
        for side, rows in scores.items()
    }
    path = tmp_path / 'teacher.pkl'
    dump(samples['teacher'], path)
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(path)))
    # Another order and another batching than the teacher's.
    metric.process({}, samples['student'][3:])
    metric.process({}, samples['student'][:3])
    result = metric.evaluate(5)
    pairs = list(zip(scores['student'], scores['teacher'], strict=True))
    expected = [kendalltau(s, t).statistic for s, t in pairs]
    assert result['kendall/tau_b'] == pytest.approx(sum(expected) / 5, abs=1e-6)
    expected = [kendalltau(s[t.argsort()[:4]], t.sort().values[:4]).statistic for s, t in pairs]
    assert result['kendall/tau_b_low'] == pytest.approx(sum(expected) / 5, abs=1e-6)
    with pytest.raises(ValueError, match=r'lacks sample 77'):
        metric.process({}, [{'sample_idx': 77, 'pred_score': scores['student'][0]}])


def test_probabilities_that_underflowed_are_warned_of_once(tmp_path, monkeypatch):
    rows = torch.tensor([[0.0, -1.0, -120.0, -130.0], [0.0, -1.0, -2.0, -130.0]])
    samples = [{'sample_idx': i, 'pred_score': row.softmax(0)} for i, row in enumerate(rows)]
    dump(samples, tmp_path / 'teacher.pkl')
    said = []
    warn_once.cache_clear()
    monkeypatch.setattr('mmkendall.warn_once.print_log', lambda text, *_: said.append(text))
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'teacher.pkl')))
    metric.process({}, samples[1:])
    assert not said
    metric.process({}, samples)
    metric.process({}, samples)
    assert len(said) == 2
    for owner, text in zip(('model', 'teacher'), said, strict=True):
        assert f'several probabilities of the {owner} are 0' in text


def test_classes_that_count(tmp_path):
    """A student that masks classes 1 and 4 scores them 0, which says nothing of their order."""
    student, teacher = torch.rand(2, 5, 8)
    student[:, [1, 4]] = 0
    dump(
        [{'sample_idx': i, 'pred_score': row} for i, row in enumerate(teacher)], tmp_path / 't.pkl'
    )
    options = dict(type=TYPE, teacher_results=str(tmp_path / 't.pkl'))
    metric = METRICS.build({**options, 'classes': [7, 0, 2, 3, 5, 6]})
    metric.process({}, [{'sample_idx': i, 'pred_score': row} for i, row in enumerate(student)])
    counts = [0, 2, 3, 5, 6, 7]
    pairs = zip(student[:, counts], teacher[:, counts], strict=True)
    expected = sum(kendalltau(s, t).statistic for s, t in pairs) / 5
    assert metric.evaluate(5)['kendall/tau_b'] == pytest.approx(expected, abs=1e-6)
    for classes in ([3], [0, 1, 1], [-1, 2]):
        with pytest.raises(ValueError, match='classes must be the numbers of two'):
            METRICS.build({**options, 'classes': classes})
    metric = METRICS.build({**options, 'classes': [0, 8]})
    with pytest.raises(ValueError, match='classes holds 8, and 8 are scored'):
        metric.process({}, [{'sample_idx': 0, 'pred_score': student[0]}])


def test_off_without_teacher_results():
    metric = METRICS.build(dict(type=TYPE))
    metric.process({}, [{'sample_idx': 0, 'pred_score': torch.rand(3)}])
    assert metric.evaluate(1) == {}


def test_bad_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'tools/test.py CONFIG CHECKPOINT --out'):
        METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'gone.pkl')))
    path = tmp_path / 'metrics.pkl'
    dump({'accuracy/top1': 90}, path)
    with pytest.raises(ValueError, match='must be a list of predictions'):
        METRICS.build(dict(type=TYPE, teacher_results=str(path)))


def predictions(scores: torch.Tensor, **fields) -> list[dict]:
    """Of two parts, each of which numbers its samples from 0."""
    half = len(scores) // 2
    return [
        {'sample_idx': i % half, 'pred_score': row, **{k: v[i] for k, v in fields.items()}}
        for i, row in enumerate(scores)
    ]


def test_repeated_numbers_in_batches(tmp_path):
    teacher = predictions(torch.rand(8, 6))
    dump(teacher, tmp_path / 'teacher.pkl')
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'teacher.pkl')))
    for _ in range(2):  # Each validation begins anew.
        for begin in range(0, 8, 3):
            metric.process({}, teacher[begin : begin + 3])
        assert metric.evaluate(8)['kendall/tau_b'] == pytest.approx(1)
    with pytest.raises(ValueError, match=r'lacks sample 1 at place 0: its numbers repeat'):
        metric.process({}, teacher[1:2])


def measure_in_process(rank: int, folder: Path) -> None:
    teacher = load_pickle(folder / 'teacher.pkl')
    metric = KendallTau(str(folder / 'teacher.pkl'))
    # As DefaultSampler deals out 7 samples to 2 processes, the last one padded with the first.
    mine = [teacher[i % len(teacher)] for i in range(rank, 8, 2)]
    metric.process({}, mine[:3])
    metric.process({}, mine[3:])
    assert metric.evaluate(len(teacher))['kendall/tau_b'] == pytest.approx(1)


@pytest.mark.long
def test_repeated_numbers_in_two_processes(tmp_path):
    dump(predictions(torch.rand(8, 6))[:7], tmp_path / 'teacher.pkl')
    run_in_processes(measure_in_process, 2, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'gt_label': torch.arange(8)[:, None]}, r'gt_label of sample 0 is \[0\] there and \[1\]'),
        ({'img_path': [f'a/{i}.png' for i in range(8)]}, 'img_path of sample 0 is 0.png there'),
    ],
)
def test_other_samples_of_the_same_numbers(fields, message, tmp_path):
    teacher = predictions(torch.rand(8, 6), **fields)[:4]
    dump(teacher, tmp_path / 'teacher.pkl')
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'teacher.pkl')))
    # Another folder is fine, the image counts.
    metric.process({}, [{**sample, 'img_path': f'b/{i}.png'} for i, sample in enumerate(teacher)])
    name, values = next(iter(fields.items()))
    with pytest.raises(ValueError, match=message):
        metric.process({}, [{**teacher[0], name: values[1]}])


def test_other_classes_are_noticed_as_the_loop_is_built(tmp_path):
    dump(predictions(torch.rand(4, 2), classes=[('a', 'b')] * 4), tmp_path / 'teacher.pkl')
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'teacher.pkl')))
    metric.dataset_meta = None
    metric.dataset_meta = {'classes': ['a', 'b']}
    assert metric.dataset_meta == {'classes': ['a', 'b']}
    with pytest.raises(ClassNamesError, match="'a' is class 0 of the first and class 1 of the"):
        metric.dataset_meta = {'classes': ['b', 'a']}


def test_scores_that_cannot_be_compared(tmp_path):
    teacher = predictions(torch.rand(4, 6))
    dump(teacher, tmp_path / 'teacher.pkl')
    metric = METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'teacher.pkl')))
    with pytest.raises(ValueError, match='scores 6 classes, the model scores 5'):
        metric.process({}, predictions(torch.rand(4, 5)))
    student = torch.rand(4, 6)
    student[2, 3] = float('nan')
    metric.process({}, predictions(student))
    assert math.isnan(metric.evaluate(4)['kendall/tau_b'])
    dump(predictions(student), tmp_path / 'nan.pkl')
    with pytest.raises(ValueError, match=r'prediction 2 must hold 6 finite scores, .* 5 of them'):
        METRICS.build(dict(type=TYPE, teacher_results=str(tmp_path / 'nan.pkl')))


@pytest.mark.parametrize(
    ('other', 'conflict'),
    [
        (('a', 'b', 'c'), False),
        (('a', 'c', 'b'), True),
        (('x', 'y', 'z'), False),
        (('a', 'B', 'c'), False),
        (('a', 'b'), False),
        (('b', 'c', 'd'), True),
    ],
)
def test_class_names(other, conflict):
    if not conflict:
        compare_classes('first', ('a', 'b', 'c'), 'second', other)
        return
    with pytest.raises(ClassNamesError, match='first and second number the classes differently'):
        compare_classes('first', ('a', 'b', 'c'), 'second', other)


def test_where_class_names_stand():
    assert class_names({'dataset_meta': {'classes': ['a', 'b']}}) == ('a', 'b')
    assert class_names({'CLASSES': ('a', 'b')}) == ('a', 'b')
    assert class_names({'classes': ('a', 'b')}) == ('a', 'b')
    for nothing in (
        None, {}, {'dataset_meta': {}}, {'classes': None}, {'dataset_meta': None}, 'text',
        {'dataset_meta': 'text'}, {'classes': 'abc'},
    ):  # fmt: skip
        assert class_names(nothing) is None
    # ImageNet calls two of its classes crane.
    compare_classes('first', ('crane', 'b', 'crane'), 'second', ('x', 'b', 'crane'))
