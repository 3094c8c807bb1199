"""How the time for one sample grows with the number of classes, and the fitted exponent."""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
from common import (
    LONG_CALL,
    algorithms_of,
    backends_for,
    console,
    draw_logits,
    growth_exponent,
    measure,
    measure_all,
    parse_arguments,
    rank_loss_step,
    save,
    seconds,
    show,
)

from mmkendall.functional.backends import BACKENDS

BENCHMARK = 'class_scaling'
CLASSES = (1024, 4096, 16_384, 65_536, 128_256)
STEEPNESSES = (1.0, 10.0, 100.0)
# A subject is left out where one call, if its time grows with the square, would take longer. Not
# so the dense algorithm, which the others are compared with.
LONGEST_CALL = {True: 1.5, False: 60.0}


def forced(preds_S, preds_T, steepness, backend, algorithm):
    """One algorithm of a backend, without the wrapper."""
    BACKENDS[backend].rank_loss(
        preds_S.detach(), preds_T, steepness, 'product', True, algorithm=algorithm
    )


def subjects(preds_S, preds_T, steepness, options):
    calls = {}
    for backend in backends_for(options, preds_S.shape[1]):
        if backend == 'reference':
            continue
        calls[backend] = rank_loss_step(preds_S, preds_T, steepness, 'product', backend)
        algorithms = algorithms_of(backend)
        for algorithm in ('auto', *algorithms) if algorithms else ():
            calls[f'{backend}, {algorithm}'] = partial(
                forced, preds_S, preds_T, steepness, backend, algorithm
            )
    return calls


def measure_steepness(steepness, options, progress):
    latest = {}  # classes and time of one call, by subject
    rows = []
    for classes in CLASSES:
        preds_S, preds_T = draw_logits(1, classes, options.device)
        calls = {}
        for name, call in subjects(preds_S, preds_T, steepness, options).items():
            before, once = latest.get(name, (classes, 0.0))
            expected = once * (classes / before) ** 2
            if expected > LONGEST_CALL[options.short] and not name.endswith(', dense'):
                continue
            try:
                once = seconds(call, options.device)
            except ValueError:  # The algorithm does not serve this range.
                continue
            if min(once, expected) < LONG_CALL:  # It may have compiled something.
                once = seconds(call, options.device)
            latest[name] = (classes, once)
            calls[name] = call
        case = {
            'case': f'k={steepness:g}',
            'rows': 1,
            'classes': classes,
            'steepness': steepness,
            'surrogate': 'product',
            'dtype': 'float32',
        }
        dense = [name for name in calls if name.endswith(', dense')]
        rows += measure(BENCHMARK, case, calls, (dense or ['eager'])[0], options, progress)
    return rows


def exponents(rows):
    """By steepness and subject, for those that reach the most classes."""
    found = {}
    for case, subject in dict.fromkeys((row['case'], row['subject']) for row in rows):
        own = [
            row
            for row in rows
            if (row['case'], row['subject']) == (case, subject) and row['classes'] >= 4096
        ]
        if len(own) > 2:
            found[case, subject] = growth_exponent(
                [row['classes'] for row in own], [row['median_s'] for row in own]
            )
    return found


def plot(rows, path):
    cases = list(dict.fromkeys(row['case'] for row in rows))
    figure, axes = plt.subplots(
        1, len(cases), figsize=(5 * len(cases), 5), layout='constrained', sharey=True
    )
    fitted = exponents(rows)
    for axis, case in zip(axes, cases, strict=True):
        for subject in dict.fromkeys(row['subject'] for row in rows if row['case'] == case):
            own = [row for row in rows if (row['case'], row['subject']) == (case, subject)]
            slope = fitted.get((case, subject))
            axis.plot(
                [row['classes'] for row in own],
                [row['median_s'] for row in own],
                'o-',
                label=subject + (f': C^{slope:.2f}' if slope else ''),
            )
        axis.set(title=case, xlabel='classes', xscale='log', yscale='log')
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_ylabel('forward and backward of one sample, s')
    figure.savefig(path, dpi=120)


def main():
    options = parse_arguments(__doc__)
    rows = measure_all(measure_steepness, STEEPNESSES, options)
    show(rows, 'One sample; ratio: times faster than the dense algorithm')
    for (case, subject), slope in exponents(rows).items():
        console.print(f'{case}, {subject}: time grows as C^{slope:.2f} from 4096 classes on')
    _, picture = save(BENCHMARK, rows, options)
    plot(rows, picture)


if __name__ == '__main__':
    main()
