from __future__ import annotations

import pytest
import torch
from mmengine.fileio import dump
from mmengine.registry import METRICS
from scipy.stats import kendalltau

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
