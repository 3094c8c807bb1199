"""The ranking loss in a Lightning module, on scikit-learn's digits.

``pip install mmkendall pytorch-lightning scikit-learn``, then
``python examples/lightning_module.py [EPOCHS]``.
"""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mmkendall import kendall_rank_loss


class Distillation(pl.LightningModule):
    """A student and, in a tuple so that it is no part of the checkpoint, its frozen teacher."""

    def __init__(self, student, teacher=None, loss_weight=5.0, steepness=10.0):
        super().__init__()
        self.student, self.frozen = student, (teacher,)
        self.loss_weight, self.steepness = loss_weight, steepness

    def training_step(self, batch, index):
        images, labels = batch
        logits, (teacher,) = self.student(images), self.frozen
        loss = F.cross_entropy(logits, labels)
        if teacher is not None:
            with torch.no_grad():
                target = teacher.to(self.device)(images)
            loss = loss + self.loss_weight * kendall_rank_loss(logits, target, self.steepness)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.student.parameters(), lr=3e-3)


def main(epochs: int = 20) -> None:
    data = load_digits()
    images, labels = torch.tensor(data.data / 16).float(), torch.tensor(data.target)
    train_set = TensorDataset(images[:1297], labels[:1297])
    teacher = None
    for name in ('teacher', 'student alone', 'student with the ranking loss'):
        pl.seed_everything(int(name == 'teacher'))  # The students begin alike.
        width = 256 if name == 'teacher' else 8
        model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        module = Distillation(model, teacher if 'ranking' in name else None)
        trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False)
        trainer.fit(module, DataLoader(train_set, batch_size=64, shuffle=True))
        right = model.cpu()(images[1297:]).argmax(dim=1) == labels[1297:]
        print(f'{name}: {right.float().mean():.1%}')
        teacher = teacher or model


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
