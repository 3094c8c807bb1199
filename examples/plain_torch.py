"""The ranking loss in a plain torch loop, on scikit-learn's digits.

``pip install mmkendall scikit-learn``, then ``python examples/plain_torch.py [EPOCHS]``.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from mmkendall import kendall_rank_loss


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def train(student, images, labels, epochs, teacher=None, loss_weight=5.0, steepness=10.0):
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            logits = student(images[batch])
            loss = F.cross_entropy(logits, labels[batch])
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(images[batch])
                loss = loss + loss_weight * kendall_rank_loss(logits, target, steepness)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student


def main(epochs: int = 20) -> None:
    data = load_digits()
    images, labels = torch.tensor(data.data / 16).float(), torch.tensor(data.target)
    train_set, test_set = (images[:1297], labels[:1297]), (images[1297:], labels[1297:])

    def show(name: str, model: nn.Module) -> None:
        right = (model(test_set[0]).argmax(dim=1) == test_set[1]).float().mean()
        print(f'{name}: {right:.1%}')

    torch.manual_seed(0)
    teacher = train(network(256), *train_set, epochs)
    show('teacher', teacher)
    torch.manual_seed(1)
    show('student alone', train(network(8), *train_set, epochs))
    torch.manual_seed(1)  # The same first weights and the same batches.
    show('student with the ranking loss', train(network(8), *train_set, epochs, teacher))


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
