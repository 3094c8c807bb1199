"""The ranking loss in timm's distillation task, which has KL alone, on scikit-learn's digits.

``pip install 'mmkendall[vit]' scikit-learn``, then ``python examples/timm_task.py [EPOCHS]``.
"""

import sys

import torch
from sklearn.datasets import load_digits
from timm import create_model
from timm.task import ClassificationTask, LogitDistillationTask
from torch.nn import CrossEntropyLoss
from torch.nn.functional import interpolate

from mmkendall import kendall_rank_loss


class RankDistillationTask(LogitDistillationTask):
    """timm's task with the ranking loss in the place of KL, for timm's own loop or any other."""

    def forward(self, input, target):
        logits = self.trainable_module(input)
        with torch.no_grad():
            of_teacher = self.teacher.normalize_input(input, self.student_mean, self.student_std)
            teacher = self.teacher(of_teacher)
        task_loss = self.criterion(logits, target)
        rank_loss = kendall_rank_loss(logits, teacher, steepness=10.0)
        loss = self.task_loss_weight * task_loss + self.distill_loss_weight * rank_loss
        return dict(loss=loss, output=logits, task_loss=task_loss, rank_loss=rank_loss)


def train(task, model, images, labels, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    task.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            task(images[batch], labels[batch])['loss'].backward()
            optimizer.step()


def main(epochs: int = 5) -> None:
    teacher, data = None, load_digits()
    labels = torch.tensor(data.target)
    images = interpolate(torch.tensor(data.images / 8 - 1).float()[:, None], scale_factor=2)
    for name in ('teacher', 'student alone', 'student with the ranking loss'):
        torch.manual_seed(name == 'teacher')  # The students begin alike.
        kind = 'test_resnet' if name == 'teacher' else 'test_efficientnet_gn'
        model = create_model(kind, in_chans=1, num_classes=10)
        task = ClassificationTask(model, CrossEntropyLoss())
        if 'ranking' in name:
            task = RankDistillationTask(model, teacher, CrossEntropyLoss(), distill_loss_weight=5)
        train(task, model, images[:1297], labels[:1297], epochs)
        right = model.eval()(images[1297:]).argmax(dim=1) == labels[1297:]
        print(f'{name}: {right.float().mean():.1%}')
        teacher = teacher or model


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
