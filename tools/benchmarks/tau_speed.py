"""Exact tau-b of many rows: kendall_tau against scipy and torchmetrics."""

from __future__ import annotations

import matplotlib.pyplot as plt
from common import draw_logits, measure, measure_all, parse_arguments, save, show
from scipy.stats import kendalltau

from mmkendall import compat
from mmkendall.functional import kendall_tau

compat.apply()  # torchmetrics imports torchvision.

BENCHMARK = 'tau_speed'
SHORT = [(100, 100), (1000, 1000)]
FULL = [(100, 10), (100, 100), (100, 1000), (1000, 1000), (10_000, 100), (10, 21_841)]


def measure_shape(shape, options, progress):
    rows, classes = shape
    preds_S, preds_T = draw_logits(rows, classes, options.device)
    preds_S = preds_S.detach()
    arrays = preds_S.cpu().numpy(), preds_T.cpu().numpy()
    calls = {
        'kendall_tau': lambda: kendall_tau(preds_S, preds_T),
        'scipy': lambda: [kendalltau(*pair).statistic for pair in zip(*arrays, strict=True)],
    }
    try:
        from torchmetrics.functional import kendall_rank_corrcoef
    except ImportError:
        pass
    else:
        calls['torchmetrics'] = lambda: kendall_rank_corrcoef(preds_S.T, preds_T.T)
    case = {'case': f'({rows},{classes})', 'rows': rows, 'classes': classes, 'dtype': 'float32'}
    return measure(BENCHMARK, case, calls, 'scipy', options, progress)


def plot(rows, path):
    cases = list(dict.fromkeys(row['case'] for row in rows))
    figure, axis = plt.subplots(figsize=(8, 5), layout='constrained')
    for marker, subject in zip('osD', dict.fromkeys(row['subject'] for row in rows), strict=False):
        own = [row for row in rows if row['subject'] == subject]
        axis.plot(
            [cases.index(row['case']) for row in own],
            [row['median_s'] for row in own],
            marker,
            label=subject,
        )
    axis.set_xticks(range(len(cases)), cases)
    axis.set(xlabel='(rows, classes)', ylabel='s', yscale='log')
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def main():
    options = parse_arguments(__doc__)
    rows = measure_all(measure_shape, SHORT if options.short else FULL, options)
    show(rows, 'Exact tau-b; ratio: times faster than scipy')
    _, picture = save(BENCHMARK, rows, options)
    plot(rows, picture)


if __name__ == '__main__':
    main()
