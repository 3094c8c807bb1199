"""Time and memory of every loss of ``mmkendall.functional`` beside a plain KL divergence.

A figure is for forward and backward, the teacher's side included; "times KL" is the time over that
of the divergence. The losses have their default settings; the ranking loss is at the steepness
that the case names. For stored top-k scores the case names the student's classes and how many of
them are stored.
"""

from __future__ import annotations

import torch
from common import draw_logits, measure, measure_all, parse_arguments, save, show, train_step
from torch.nn import functional as F

from mmkendall.functional import (
    bild_loss,
    ctkd_loss,
    dist_loss,
    dkd_loss,
    kd_loss,
    kendall_rank_loss,
    kendall_rank_loss_topk,
    listmle_loss,
    mlkd_loss,
    order_scores,
    pearson_loss,
    pld_loss,
    standardize,
    wttm_loss,
)

BENCHMARK = 'loss_costs'
SHORT = [
    # rows, classes, steepness, stored classes of the teacher, if not all
    (64, 10, 1.0, None),
    (256, 1000, 1.0, None),
    (8192, 128, 1.0, 128),
    (8192, 128, 100.0, 128),
]
FULL = [*SHORT, (64, 100, 1.0, None), (256, 1000, 100.0, None), (8192, 32_000, 1.0, 128)]


def dense(preds_S, preds_T, steepness):
    """Every loss of whole logits."""
    labels = preds_T.argmax(dim=1)
    temperature = torch.tensor(4.0, device=preds_S.device, requires_grad=True)

    def divergence():
        log_S, teacher = preds_S.log_softmax(dim=1), preds_T.softmax(dim=1)
        return F.kl_div(log_S, teacher, reduction='batchmean')

    losses = {
        'KL': divergence,
        'kendall_rank_loss': lambda: kendall_rank_loss(preds_S, preds_T, steepness),
        'kd_loss': lambda: kd_loss(preds_S, preds_T),
        'kd_loss of standardize': lambda: kd_loss(standardize(preds_S), standardize(preds_T)),
        'kd_loss of order_scores': lambda: kd_loss(preds_S, order_scores(preds_T)),
        'dkd_loss': lambda: dkd_loss(preds_S, preds_T, labels),
        'dist_loss': lambda: dist_loss(preds_S, preds_T),
        'ctkd_loss': lambda: ctkd_loss(preds_S, preds_T, temperature),
        'mlkd_loss': lambda: mlkd_loss(preds_S, preds_T, num_views=1),
        'pld_loss': lambda: pld_loss(preds_S, preds_T, labels),
        'listmle_loss': lambda: listmle_loss(preds_S, preds_T),
        'bild_loss': lambda: bild_loss(preds_S, preds_T),
        'wttm_loss': lambda: wttm_loss(preds_S, preds_T),
        'pearson_loss': lambda: pearson_loss(preds_S, preds_T),
    }
    return {name: train_step(preds_S, loss) for name, loss in losses.items()}


def stored(preds_S, steepness, kept):
    """The ranking loss against stored scores, and a KL divergence of the same classes."""
    generator = torch.Generator().manual_seed(1)
    rows, classes = preds_S.shape
    order = torch.rand(256, classes, generator=generator).argsort(dim=1)[:, :kept]
    ids = order.repeat(rows // 256, 1).to(preds_S.device)
    scores = draw_logits(rows, kept, preds_S.device)[1].log_softmax(dim=1)

    def divergence():
        log_S = preds_S.gather(1, ids).log_softmax(dim=1)
        return F.kl_div(log_S, scores, reduction='batchmean', log_target=True)

    losses = {
        'KL': divergence,
        'kendall_rank_loss_topk': lambda: kendall_rank_loss_topk(preds_S, ids, scores, steepness),
    }
    return {name: train_step(preds_S, loss) for name, loss in losses.items()}


def measure_case(case, options, progress):
    rows, classes, steepness, kept = case
    preds_S, preds_T = draw_logits(rows, classes, options.device)
    name = f'({rows},{classes}) k={steepness:g}'
    if kept is None:
        calls = dense(preds_S, preds_T, steepness)
    else:
        calls = stored(preds_S, steepness, kept)
        name += f', {kept} stored'
    columns = {
        'case': name,
        'rows': rows,
        'classes': classes,
        'steepness': steepness,
        'surrogate': 'product',
        'dtype': 'float32',
    }
    return measure(BENCHMARK, columns, calls, 'KL', options, progress)


def main():
    options = parse_arguments(__doc__)
    rows = measure_all(measure_case, SHORT if options.short else FULL, options)
    show(rows, 'Every loss, forward and backward, beside a KL divergence')
    save(BENCHMARK, rows, options)


if __name__ == '__main__':
    main()
