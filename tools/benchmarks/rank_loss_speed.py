"""Time and memory of the ranking loss: shapes, steepness, dtype, backends and other losses.

A figure is for forward and backward through ``kendall_rank_loss``, wrapper included.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from common import (
    backends_for,
    draw_logits,
    errors,
    measure,
    measure_all,
    parse_arguments,
    rank_loss_step,
    save,
    show,
    train_step,
)
from torch.nn import functional as F

from mmkendall.functional import (
    SURROGATES,
    kendall_rank_loss,
    listmle_loss,
    pearson_loss,
    pld_loss,
    wttm_loss,
)

BENCHMARK = 'rank_loss_speed'
SHORT = [
    # rows, classes, steepness, dtype, surrogate
    (64, 10, 100.0, torch.float32, 'product'),
    (128, 100, 1.0, torch.float32, 'product'),
    (128, 100, 10.0, torch.float32, 'product'),
    (128, 100, 100.0, torch.float32, 'product'),
    (64, 1000, 1.0, torch.float32, 'product'),
    (64, 1000, 100.0, torch.float32, 'product'),
    (256, 1000, 1.0, torch.float32, 'product'),
    (256, 1000, 100.0, torch.float32, 'product'),
    (128, 100, 1.0, torch.float32, 'logistic'),
    (64, 1000, 1.0, torch.float32, 'logistic'),
]
FULL = [
    *SHORT,
    (256, 1000, 10.0, torch.float32, 'product'),
    *((64, 1000, 100.0, dtype, 'product') for dtype in (torch.float16, torch.bfloat16)),
    *((64, 1000, 10.0, torch.float32, surrogate) for surrogate in SURROGATES),
    (256, 1000, 1.0, torch.float32, 'logistic'),
]
# Of the other losses, which know no steepness, one case is enough.
OTHERS_CASE = (256, 1000), 1.0, 'product'
# The definition needs this many bytes for a pair, forward and backward together.
REFERENCE_BYTES = 12


def peers(preds_S, preds_T, steepness, surrogate, with_compiled):
    """Other losses on the same logits, and the definition through torch.compile."""
    teacher = preds_T.float().softmax(1)

    def divergence():
        return F.kl_div(preds_S.float().log_softmax(1), teacher, reduction='batchmean')

    def pearson():
        student = preds_S.float().softmax(1)
        return 1 - F.cosine_similarity(student - student.mean(1, True), centered, dim=1).mean()

    centered = teacher - teacher.mean(1, True)
    calls = {'KL': train_step(preds_S, divergence), 'Pearson': train_step(preds_S, pearson)}
    if (preds_S.shape, steepness, surrogate) == OTHERS_CASE:
        calls |= others(preds_S, preds_T)
    if with_compiled:
        compiled = torch.compile(kendall_rank_loss)
        calls['reference, torch.compile'] = train_step(
            preds_S,
            lambda: compiled(preds_S, preds_T, steepness, surrogate, backend='reference'),
        )
    try:
        import torchsort
    except ImportError:
        return calls
    ranks = torchsort.soft_rank(preds_T.float())
    ranks = ranks - ranks.mean(1, True)

    def spearman():
        soft = torchsort.soft_rank(preds_S.float())
        return 1 - F.cosine_similarity(soft - soft.mean(1, True), ranks, dim=1).mean()

    return {**calls, 'torchsort Spearman': train_step(preds_S, spearman)}


def others(preds_S, preds_T):
    """The package's other losses, with the teacher's side, which KL and Pearson prepare once."""
    labels = preds_T.argmax(1)
    losses = {
        'PLD': lambda: pld_loss(preds_S, preds_T, labels),
        'ListMLE': lambda: listmle_loss(preds_S, preds_T),
        'WTTM': lambda: wttm_loss(preds_S, preds_T),
        'Pearson of logits': lambda: pearson_loss(preds_S, preds_T),
    }
    return {name: train_step(preds_S, loss) for name, loss in losses.items()}


def measure_case(case, options, progress):
    rows, classes, steepness, dtype, surrogate = case
    preds_S, preds_T = draw_logits(rows, classes, options.device, dtype)
    arguments = (preds_S, preds_T, steepness, surrogate)
    calls = {
        name: rank_loss_step(*arguments, name)
        for name in backends_for(options, classes, surrogate)
    }
    large = rows * classes**2 * REFERENCE_BYTES > 5e8
    calls |= peers(*arguments, with_compiled=not (options.short and large))
    columns = {
        'case': f'({rows},{classes}) k={steepness:g}',
        'rows': rows,
        'classes': classes,
        'steepness': steepness,
        'surrogate': surrogate,
        'dtype': str(dtype).removeprefix('torch.'),
    }
    found = measure(BENCHMARK, columns, calls, 'reference', options, progress)
    for row in found:
        if row['subject'] in backends_for(options, classes, surrogate):
            row |= errors(*arguments, row['subject'])
    return found


def plot(rows, path):
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.5), layout='constrained')
    rows = [row for row in rows if row['dtype'] == 'float32' and row['surrogate'] == 'product']
    cases = list(dict.fromkeys(row['case'] for row in rows))
    subjects = list(dict.fromkeys(row['subject'] for row in rows))
    for marker, subject in zip('osD^vP*Xh<>pd8', subjects, strict=False):
        own = [row for row in rows if row['subject'] == subject]
        where = [cases.index(row['case']) for row in own]
        middle = [row['median_s'] * 1e3 for row in own]
        spread = [
            [max(0, row['median_s'] - row['p20_s']) * 1e3 for row in own],
            [max(0, row['p80_s'] - row['median_s']) * 1e3 for row in own],
        ]
        axes[0].errorbar(where, middle, spread, fmt=marker, label=subject, capsize=3)
        known = [
            (i, row['extra_bytes'] / 1e6)
            for i, row in zip(where, own, strict=True)
            if row['extra_bytes']
        ]
        if known:
            axes[1].plot(*zip(*known, strict=True), marker, label=subject)
    axes[0].set(ylabel='forward and backward, ms (20th to 80th percentile)', yscale='log')
    axes[1].set(ylabel='peak extra memory, MB', yscale='log')
    for axis in axes:
        axis.set_xticks(range(len(cases)), cases, rotation=35, ha='right')
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle('The ranking loss, its backends and other losses')
    figure.savefig(path, dpi=120)


def main():
    options = parse_arguments(__doc__)
    rows = measure_all(measure_case, SHORT if options.short else FULL, options)
    show(rows, 'The ranking loss, forward and backward; ratio: times faster than the reference')
    _, picture = save(BENCHMARK, rows, options)
    plot(rows, picture)


if __name__ == '__main__':
    main()
