"""The ranking loss beside a training step of the student that it is for.

The step is the student's forward, cross-entropy, backward and SGD update; the teacher's forward,
which would make the share smaller, is left out. The loss is forward and backward at the logits,
with the caches as the subject before it in the turn has left them, as in a training.
"""

from __future__ import annotations

from itertools import product

import matplotlib.pyplot as plt
import torch
from common import (
    backends_for,
    draw_logits,
    measure,
    measure_all,
    parse_arguments,
    rank_loss_step,
    save,
    share,
    show,
)
from networks import resnet18, resnet20
from torch.nn import functional as F

BENCHMARK = 'training_step_share'
# network, its name, side of the image, batch on a CPU, batch on a GPU
SHORT = [(resnet20, 'ResNet-20', 32, 64, 64)]
FULL = [*SHORT, (resnet18, 'ResNet-18', 224, 16, 256)]
CLASSES = (100, 1000)
STEEPNESSES = (1.0, 100.0)


def student_step(build, side, batch, classes, device):
    torch.manual_seed(0)
    network = build(classes).to(device)
    images = torch.randn(batch, 3, side, side, device=device)
    labels = torch.randint(classes, (batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def measure_network(case, options, progress):
    network, classes = case
    build, name, side, *batches = network
    batch = batches[options.device != 'cpu']
    preds_S, preds_T = draw_logits(batch, classes, options.device)
    case = {
        'case': f'{name} {side}x{side}',
        'rows': batch,
        'classes': classes,
        'surrogate': 'product',
        'dtype': 'float32',
    }
    found = []
    for steepness in STEEPNESSES:
        calls = {'training step': student_step(build, side, batch, classes, options.device)}
        for backend in backends_for(options, classes):
            calls[backend] = rank_loss_step(preds_S, preds_T, steepness, 'product', backend)
        columns = {**case, 'steepness': steepness}
        found += measure(
            *(BENCHMARK, columns, calls, 'training step', options, progress), alone=False
        )
    return found


def plot(rows, path):
    losses = [row for row in rows if row['subject'] != 'training step']
    cases = list(dict.fromkeys((row['case'], row['classes'], row['steepness']) for row in losses))
    figure, axis = plt.subplots(figsize=(9, 5), layout='constrained')
    for marker, subject in zip(
        'osD^v', dict.fromkeys(row['subject'] for row in losses), strict=False
    ):
        own = [row for row in losses if row['subject'] == subject]
        axis.plot(
            [cases.index((row['case'], row['classes'], row['steepness'])) for row in own],
            [share(row) for row in own],
            marker,
            label=subject,
        )
    labels = [f'{case}\nC={classes}, k={steepness:g}' for case, classes, steepness in cases]
    axis.set_xticks(range(len(cases)), labels, fontsize=8)
    axis.set(ylabel="% of the student's training step", yscale='log')
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def main():
    options = parse_arguments(__doc__)
    cases = product(SHORT if options.short else FULL, CLASSES)
    rows = measure_all(measure_network, cases, options)
    show(rows, "The ranking loss as a share of the student's training step")
    _, picture = save(BENCHMARK, rows, options)
    plot(rows, picture)


if __name__ == '__main__':
    main()
