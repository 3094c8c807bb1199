"""The losses that we take from mmrazor as they are, against their papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from ..conftest import REPOSITORY


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


# The losses on features, whose mean or sum mmrazor often takes otherwise than the paper: what is
# tested is what it does, and where that differs the name or the docstring says so.


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 3, 4, 5, 2, dtype=torch.float64))


@pytest.fixture
def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 4, 3, dtype=torch.float64))


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.reshape(len(rows), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 1 / 2


def value(config: dict, *inputs: torch.Tensor) -> float:
    return MODELS.build(config)(*inputs).item()


@pytest.mark.parametrize('normalized', [True, False])
def test_distance_rkd_is_the_mean_over_all_pairs(vectors, normalized):
    """Park et al., CVPR 2019 sum over the pairs, without unit vectors."""
    potentials = []
    for rows in vectors:
        rows = unit(rows.numpy()) if normalized else rows.numpy()
        distances = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        potentials.append(distances / distances[distances > 0].mean())
    expected = 25 * np.mean([huber(d) for d in (potentials[0] - potentials[1]).flat])
    loss = dict(type='DistanceWiseRKD', loss_weight=25, with_l2_norm=normalized)
    # The float32-sized floor under mmrazor's squared distances.
    np.testing.assert_allclose(value(loss, *vectors), expected, rtol=1e-6)


@pytest.mark.parametrize('normalized', [True, False])
def test_angle_rkd_is_the_mean_over_all_triplets(vectors, normalized):
    """Park et al., CVPR 2019 sum over triplets of three different images."""
    cosines = np.zeros((2, 4, 4, 4))
    for which, rows in enumerate(vectors):
        rows = unit(rows.numpy()) if normalized else rows.numpy()
        for at, one, two in np.ndindex(4, 4, 4):
            if at not in (one, two):
                e1, e2 = rows[one] - rows[at], rows[two] - rows[at]
                cosines[which, at, one, two] = e1 @ e2 / np.linalg.norm(e1) / np.linalg.norm(e2)
    expected = 50 * np.mean([huber(d) for d in (cosines[0] - cosines[1]).flat])
    loss = dict(type='AngleWiseRKD', loss_weight=50, with_l2_norm=normalized)
    np.testing.assert_allclose(value(loss, *vectors), expected, rtol=1e-10)


def test_attention_transfer_is_the_mean_square(maps):
    """Zagoruyko and Komodakis, ICLR 2017 take the norm of the difference."""
    attention = [unit((feature.numpy() ** 2).sum(axis=1)) for feature in maps]
    expected = 1000 * np.mean((attention[0] - attention[1]) ** 2)
    np.testing.assert_allclose(
        value(dict(type='ATLoss', loss_weight=1000), *maps), expected, rtol=1e-10
    )


def test_l2_has_no_half(maps):
    """Romero et al. (FitNets), ICLR 2015, take half of it."""
    s, t = (feature.numpy() for feature in maps)
    square = ((s - t) ** 2).sum()
    of_units = ((unit(s) * 2 - unit(t) * 2) ** 2).sum()
    for options, expected in (
        (dict(normalize=False), square / 3),
        (dict(normalize=False, div_element=True), square / s.size),
        (dict(normalize=False, dist=True), square**0.5),
        (dict(mult=2.0), of_units / 3),
    ):
        loss = dict(type='L2Loss', loss_weight=0.5, **options)
        np.testing.assert_allclose(value(loss, *maps), 0.5 * expected, rtol=1e-10)


def test_l1(maps):
    s, t = (feature.numpy() for feature in maps)
    loss = dict(type='L1Loss', loss_weight=0.5)
    np.testing.assert_allclose(value(loss, *maps), 0.5 * np.abs(s - t).mean(), rtol=1e-10)


def test_channel_wise_divergence(maps):
    """Shu et al., ICCV 2021: T^2/C KL over a channel's positions, per image."""
    q_s, q_t = (softmax(feature.reshape(12, 10), 3) for feature in maps)
    expected = 0.5 * 9 * (q_t * np.log(q_t / q_s)).sum() / (3 * 4)
    loss = dict(type='ChannelWiseDivergence', tau=3, loss_weight=0.5)
    np.testing.assert_allclose(value(loss, *maps), expected, rtol=1e-10)


def test_pkd_is_short_of_one_minus_pearson_by_one_part_in_n(maps):
    """Cao et al., NeurIPS 2022: 1 - r of each channel, over images and positions.

    mmrazor divides by n - 1 in the deviation and by n in the mean: (1 - r) (n - 1) / n.
    """
    s, t = (feature.transpose(0, 1).reshape(4, 30).numpy() for feature in maps)
    r = [np.corrcoef(one, two)[0, 1] for one, two in zip(s, t, strict=True)]
    expected = 6 * np.mean(1 - np.array(r)) * 29 / 30
    np.testing.assert_allclose(
        value(dict(type='PKDLoss', loss_weight=6), *maps), expected, rtol=1e-5
    )


def test_factor_transfer_is_the_mean_over_elements(maps):
    """Kim et al., NeurIPS 2018 sum over the elements, here with p = 1."""
    s, t = (unit(feature.numpy()) for feature in maps)
    expected = 200 * np.abs(s - t).mean()
    np.testing.assert_allclose(
        value(dict(type='FTLoss', loss_weight=200), *maps), expected, rtol=1e-10
    )


def test_activation_boundaries_times_three_thousandths(maps):
    """Heo et al., AAAI 2019, as a mean over the batch; 0.003 is of mmrazor's source."""
    s, t = (feature.numpy() for feature in maps)
    wrong = np.where(t > 0, np.maximum(0.5 - s, 0), np.maximum(0.5 + s, 0))
    expected = 2 * (wrong**2).sum() / 3 * 0.003
    loss = dict(type='ABLoss', loss_weight=2, margin=0.5)
    np.testing.assert_allclose(value(loss, *maps), expected, rtol=1e-10)


def test_overhaul(maps):
    """Heo et al., ICCV 2019: squares, but none where S <= T <= 0; over batch and 1000."""
    s, t = (feature.numpy() for feature in maps)
    partial = np.where((s <= t) & (t <= 0), 0, (s - t) ** 2)
    expected = 2 * partial.sum() / 3 / 1000
    np.testing.assert_allclose(
        value(dict(type='OFDLoss', loss_weight=2), *maps), expected, rtol=1e-10
    )


def test_masked_generation(maps):
    """Yang et al., ECCV 2022: squares, summed over the map, averaged over the batch."""
    s, t = (feature.numpy() for feature in maps)
    expected = 2e-5 * ((s - t) ** 2).sum() / 3
    np.testing.assert_allclose(
        value(dict(type='MGDLoss', alpha_mgd=2e-5), *maps), expected, rtol=1e-10
    )


def test_fbkd_leaves_out_the_mask_of_the_channels(maps):
    """Zhang and Ma, ICLR 2021: norms, the features' under the masks of both kinds.

    The channels' mask is left out, as mmrazor says of the authors' code too.
    """
    s, t = maps
    spatial = [torch.rand(3, 1, 5, 2, dtype=torch.float64) for _ in range(2)]
    channel = [torch.rand(3, 4, 1, 1, dtype=torch.float64) for _ in range(2)]
    pools = [torch.randn(3, 1, 5, 2, dtype=torch.float64) for _ in range(2)]
    relations = [torch.randn(3, 4, 5, 2, dtype=torch.float64) for _ in range(2)]
    channel_pool = torch.randn(3, 4, dtype=torch.float64)
    loss = MODELS.build(
        dict(
            type='FBKDLoss', mask_l2_weight=2, channel_weight=3, spatial_weight=5,
            nonloacl_weight=7, loss_weight=0.5,
        )
    )  # fmt: skip
    of_student = (spatial[0], channel[0], channel_pool, pools[0], relations[0], s)
    of_teacher = (spatial[1], channel[1], pools[1], relations[1], t)
    norm = np.linalg.norm
    mask = (spatial[0] + spatial[1]).numpy() / 2
    expected = 0.5 * (
        2 * norm((s - t).numpy() * mask**0.5)
        + 3 * norm(t.numpy().mean(axis=(2, 3)) - channel_pool.numpy())
        + 5 * norm((pools[0] - pools[1]).numpy())
        + 7 * norm((relations[0] - relations[1]).numpy())
    )
    np.testing.assert_allclose(loss(of_student, of_teacher).item(), expected, rtol=1e-10)


def test_crd_ignores_its_weight():
    """Tian et al., ICLR 2020, with the memory and the estimated Z of its code.

    mmrazor returns the loss without its ``loss_weight``.
    """
    images, samples, negatives, temperature = 3, 7, 4, 0.5
    loss = MODELS.build(
        dict(
            type='CRDLoss', loss_weight=100.0, temperature=temperature, neg_num=negatives,
            sample_n=samples, dim_out=2,
        )
    )  # fmt: skip
    banks = [loss.contrast.memory_v1.double().numpy(), loss.contrast.memory_v2.double().numpy()]
    embeddings = torch.nn.functional.normalize(torch.randn(2, images, 2), dim=2)
    # The first of each row is the image itself.
    rows = torch.tensor([[0, 1, 2, 3, 4], [5, 0, 6, 6, 1], [2, 3, 4, 5, 0]])
    expected = 0
    for embedding, bank in zip(embeddings.double().numpy(), banks[::-1], strict=True):
        scores = np.exp(np.einsum('nkd,nd->nk', bank[rows.numpy()], embedding) / temperature)
        scores /= scores.mean() * samples
        noise = negatives / samples
        own, others = scores[:, 0], scores[:, 1:]
        h_own = own / (own + noise)
        h_others = others / (others + noise)
        expected += -(np.log(h_own).sum() + np.log(1 - h_others).sum()) / images
    annotations = [
        DataSample(sample_idx=row[0], contrast_sample_idxs=row, metainfo={}) for row in rows
    ]
    np.testing.assert_allclose(loss(*embeddings, annotations).item(), expected, rtol=1e-5)


@pytest.mark.parametrize('kind', ['mmrazor.SingleTeacherDistill', 'mmkendall.LogitDistill'])
def test_feature_losses_train_beside_the_ranking(kind):
    """KD, ranking, attention transfer and RKD in one distiller, on one batch."""
    config = Config.fromfile(
        REPOSITORY / 'configs/digits/kd_logits_resnet18-w16_resnet18-w4_1xb64_digits.py'
    ).model
    distiller = config.distiller
    for side in ('student_recorders', 'teacher_recorders'):
        distiller[side].map = dict(type='ModuleOutputs', source='backbone.layer2')
        distiller[side].embedding = dict(type='ModuleOutputs', source='neck.gap')
    for name, loss, arguments, record in (
        ('loss_at', dict(type='ATLoss', loss_weight=10.0), 'st', 'map'),
        ('loss_rkd', dict(type='DistanceWiseRKD', loss_weight=1.0), 'ST', 'embedding'),
    ):
        names = ('s_feature', 't_feature') if arguments == 'st' else ('preds_S', 'preds_T')
        distiller.distill_losses[name] = loss
        distiller.loss_forward_mappings[name] = {
            argument: dict(from_student=of_student, recorder=record)
            for argument, of_student in zip(names, (True, False), strict=True)
        }
    distiller.update(type='mmkendall.RankAugmentedDistiller', rank_loss=dict(steepness=1.0))
    # An untrained teacher, but one whose logits differ.
    config.teacher.head.init_cfg = dict(type='Normal', layer='Linear', std=1.0)
    config.update(type=kind, teacher_ckpt=None)
    model = MODELS.build(config)
    model.init_weights()
    model.train()
    images = torch.randn(16, 1, 8, 8)
    labels = [DataSample().set_gt_label(index % 10) for index in range(16)]
    optimizer = torch.optim.SGD(model.architecture.parameters(), lr=0.05, momentum=0.9)
    history = []
    for _ in range(40):
        losses = model(images, labels, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    names = {f'distill.loss_{name}' for name in ('kl', 'rank', 'at', 'rkd')}
    assert set(history[0]) == {'student.loss', *names}
    for name in names:
        assert history[-1][name] < 0.8 * history[0][name], (name, history[0], history[-1])
