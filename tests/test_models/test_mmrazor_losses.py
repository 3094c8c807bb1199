"""The losses that we take from mmrazor as they are, against their papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(3 * torch.randn(2, 6, 5, dtype=torch.float64))


def softmax(logits: torch.Tensor, temperature: float) -> np.ndarray:
    exponents = np.exp(logits.numpy() / temperature)
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_kl_divergence(logits):
    """Hinton et al., 2015: T^2 KL, summed over the classes, averaged over the batch."""
    loss = MODELS.build(dict(type='KLDivergence', tau=4, loss_weight=0.9))
    p_s, p_t = (softmax(preds, 4) for preds in logits)
    expected = 0.9 * 16 * (p_t * np.log(p_t / p_s)).sum(axis=1).mean()
    np.testing.assert_allclose(loss(*logits).item(), expected, rtol=1e-10)


def test_dist(logits):
    """Huang et al., NeurIPS 2022, Eq. 6 to 11: 1 - Pearson, of each image and of each class."""
    loss = MODELS.build(
        dict(type='DISTLoss', tau=2, inter_loss_weight=0.7, intra_loss_weight=3, loss_weight=0.5)
    )
    p_s, p_t = (softmax(preds, 2) for preds in logits)
    inter = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(p_s, p_t, strict=True)])
    intra = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(p_s.T, p_t.T, strict=True)])
    # mmrazor, as DIST's published code, multiplies by T^2.
    expected = 0.5 * 4 * (0.7 * inter + 3 * intra)
    np.testing.assert_allclose(loss(*logits).item(), expected, rtol=1e-6)


def test_wsld(logits):
    """Zhou et al., ICLR 2021, Eq. 10: each image's KD weighs 1 - exp(-CE_S / CE_T)."""
    labels = np.array([0, 4, 2, 2, 1, 3])
    loss = MODELS.build(dict(type='WSLD', tau=2, loss_weight=2.5, num_classes=5))
    own_s, own_t = (-np.log(softmax(preds, 1)[np.arange(6), labels]) for preds in logits)
    p_s, p_t = (softmax(preds, 2) for preds in logits)
    rows = (1 - np.exp(-own_s / own_t)) * -(p_t * np.log(p_s)).sum(axis=1)
    expected = 2.5 * 4 * rows.mean()
    np.testing.assert_allclose(loss(*logits, torch.from_numpy(labels)).item(), expected, rtol=1e-4)
