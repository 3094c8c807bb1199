"""The logistic surrogate in O(C log C): ``eager`` runs it, and Numba's loop is the same sum.

With x = k s, a pair that the teacher does not tie gives log(1 + exp(-abs(x_i - x_j))), and where
the student has it in the wrong order abs(x_i - x_j) more.

The latter needs no pairs. Sort the classes by student, and by teacher with those that are tied in
the student's order, and let p and q be the places of a class in the two. p - q is how many classes
are wrongly below it less how many are wrongly above it, so that the sum of abs(x_i - x_j) over
the wrong pairs is that of x_i (p_i - q_i) over the classes, and its derivative is p_i - q_i.

The former knows the teacher by its ties alone: it is the sum over all pairs less that over the
pairs of tied classes. With z = exp(-abs(x_i - x_j)) it is log(1 + z), its derivative is
-z / (1 + z) for the higher class and z / (1 + z) for the lower one, and both are, to within
rounding, sums of a few powers of z. In sorted order the sum A_i of a power over all classes before
class i follows from the one before it, A_i = (A_{i-1} + 1) z^m, z that of i and i - 1. So the cost
is that of the sorts, however the logits are spread.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

# By whether the dtype is float64: how many powers of z there are. 1 / (1 + z) is then off by 6e-8
# or 3e-15 of itself at most, and so is log(1 + z), its integral.
TERMS = {False: 10, True: 20}


def coefficients(terms: int) -> list[float]:
    """Those of the polynomial in z of so many terms that is next to 1 / (1 + z) on [0, 1].

    They are the first terms of its Chebyshev series, whose ratio is sqrt(8) - 3.
    """
    ratio = math.sqrt(8) - 3
    before, now = [], [1]  # T_n(2z - 1) by powers of z, for n = 0 and whole numbers.
    result = [0.0] * terms
    for n in range(terms):
        weight = ratio**n * (0.5 if n == 0 else 1.0) * math.sqrt(2)
        for power, number in enumerate(now):
            result[power] += weight * number
        factor = 1 if n == 0 else 2
        after = [-factor * number for number in now] + [0]
        for power, number in enumerate(now):
            after[power + 1] += 2 * factor * number
        for power, number in enumerate(before):
            after[power] -= number
        before, now = now, after
    return result


# Kept, so that a CUDA graph finds them on its device.
@functools.cache
def _weights(terms: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The coefficients and their powers of z, float64."""
    powers = torch.arange(1, terms + 1, dtype=torch.float64, device=device)
    return torch.tensor(coefficients(terms), dtype=torch.float64, device=device), powers


def pair_sums(
    preds_S: Tensor,
    preds_T: Tensor,
    steepness: float,
    surrogate: str,
    grad: Tensor | None,
    compute_value: bool,
) -> Tensor:
    """See the algorithms in ``eager``: minus softplus has the place of the agreement."""
    student, order = preds_S.sort(dim=1, stable=True)
    teacher, places = preds_T.gather(1, order).sort(dim=1, stable=True)
    student = student.double()
    # Of classes in the teacher's order, q less p.
    moved = torch.arange(student.shape[1], device=student.device) - places
    terms = TERMS[preds_S.dtype == torch.float64]
    slopes, values = _decaying_sums(steepness * student.diff(dim=1), terms)
    slopes, student = slopes.gather(1, places), student.gather(1, places)
    tied = teacher.diff(dim=1) == 0
    # On a CPU it is cheap to see that there is none; elsewhere asking would wait.
    if preds_S.device.type != 'cpu' or bool(tied.any()):
        gaps = (steepness * student.diff(dim=1)).masked_fill(~tied, math.inf)
        tied_slopes, tied_values = _decaying_sums(gaps, terms)
        slopes, values = slopes - tied_slopes, values - tied_values
    if grad is not None:
        grad.scatter_(1, order.gather(1, places), (moved + slopes).to(grad.dtype))
    if not compute_value:
        return values
    # Less the lowest logit, which leaves the sum and spares digits.
    student = student - student.amin(dim=1, keepdim=True)
    return 2 * (steepness * (student * moved).sum(dim=1) - values)


def _decaying_sums(gaps: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """The sums over pairs of classes that are in order, (N, C - 1) float64 ``gaps`` apart.

    Returns for each class the sum of 1 / (1 + exp(distance)) over those before it less that over
    those after it, (N, C), and the sum of log(1 + exp(-distance)) over all pairs, (N,).
    """
    weights, powers = _weights(terms, gaps.device)
    decay = torch.exp(-powers[:, None, None] * gaps)
    before, after = _running_sums(decay), _running_sums(decay.flip(2)).flip(2)
    values = torch.tensordot(weights / powers, before.sum(dim=2), dims=1)
    before, after = (torch.tensordot(weights, sums, dims=1) for sums in (before, after))
    pad = torch.nn.functional.pad
    return pad(before, (1, 0)) - pad(after, (0, 1)), values


def _running_sums(decay: Tensor) -> Tensor:
    """A of A_i = (A_{i-1} + 1) decay_i along the last dimension, from A_{-1} = 0.

    Step by step within blocks, all of them at once, and then from each block to the next.
    """
    count = decay.shape[2]
    size = math.isqrt(count - 1) + 1
    padded = torch.nn.functional.pad(decay, (0, -count % size))
    # The same place of all blocks lies together in memory.
    blocks = padded.unflatten(2, (-1, size)).movedim(3, 0).contiguous()
    reach, sums = blocks.cumprod(dim=0), blocks.clone()
    for place in range(1, size):
        sums[place] += blocks[place] * sums[place - 1]
    carried = torch.zeros_like(sums[0])
    for block in range(1, carried.shape[2]):
        last = ..., block - 1
        carried[..., block] = sums[-1][last] + reach[-1][last] * carried[last]
    sums += reach * carried
    return sums.movedim(0, 3).flatten(2)[:, :, :count]
