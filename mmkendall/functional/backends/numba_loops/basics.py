"""What the compiled loops share."""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path

import numpy as np
from numba import njit, types
from numba.extending import overload

FASTMATH = {'contract', 'reassoc', 'arcp', 'nsz'}
EXACT_ORDER = {'contract', 'nsz'}
LANES = 8


def _digest_of_sources():
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    # The choice takes a constant of the rows without spread.
    for path in (*sorted(folder.glob('*.py')), folder.parent / 'flat.py'):
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCES = _digest_of_sources()


def compiled(function=None, *, fastmath=FASTMATH):
    """``njit`` as every loop here wants it: no lock on the interpreter, code kept on disk."""

    def compile_(function):
        options = dict(nogil=True, fastmath=fastmath, error_model='numpy')
        try:
            dispatcher = njit(cache=True, **options)(function)
        except RuntimeError:  # Neither the package nor the user has a folder to write to.
            return njit(**options)(function)
        # Numba asks only whether the function's own file has changed, not those that it calls.
        with contextlib.suppress(AttributeError):
            dispatcher._cache._cache_file._source_stamp = SOURCES
        return dispatcher

    return compile_ if function is None else compile_(function)


PRODUCT, DIFFKENDALL, HARD_TEACHER = 0, 1, 2


def exp2(x):
    """``2**x - 1`` and ``2**x`` for -1000 < x < 1000 (float64) or -120 < x < 120 (float32)."""


def _series(order):
    return tuple(math.log(2) ** n / math.factorial(n) for n in range(1, order + 1))


A1, A2, A3, A4, A5, A6, A7 = (np.float32(a) for a in _series(7))
B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14 = _series(14)
# Adding it rounds to an integer and leaves that integer in the low bits.
ROUND_32 = np.float32(1.5 * 2**23)
ROUND_64 = np.float64(1.5 * 2**52)


@overload(exp2, jit_options={'fastmath': EXACT_ORDER})
def _overload_exp2(x):
    if x == types.float32:

        def impl(x):
            rounded = x + ROUND_32
            f = x - (rounded - ROUND_32)
            bits = (np.float32(rounded).view(np.int32) << np.int32(23)) + np.int32(127 << 23)
            power = np.int32(bits).view(np.float32)
            series = f * (A1 + f * (A2 + f * (A3 + f * (A4 + f * (A5 + f * (A6 + f * A7))))))
            return power * series + (power - np.float32(1)), power * series + power

        return impl

    def impl(x):
        rounded = x + ROUND_64
        f = x - (rounded - ROUND_64)
        bits = (np.float64(rounded).view(np.int64) << np.int64(52)) + np.int64(1023 << 52)
        power = np.int64(bits).view(np.float64)
        high = B8 + f * (B9 + f * (B10 + f * (B11 + f * (B12 + f * (B13 + f * B14)))))
        low = B1 + f * (B2 + f * (B3 + f * (B4 + f * (B5 + f * (B6 + f * (B7 + f * high))))))
        return power * (f * low) + (power - 1.0), power * (f * low) + power

    return impl


@compiled
def constants(preds, scale):
    """1, the exponent of 2 beyond which tanh is 1, and ``scale``, in the dtype of ``preds``."""
    values = np.empty(3, preds.dtype)
    values[0] = 1.0
    values[1] = 60.0 if preds.itemsize == 4 else 300.0
    values[2] = scale
    return values[0], values[1], values[2]


# Of finite rows: a minimum is vectorised only if there is no NaN to keep.
@compiled(fastmath=FASTMATH | {'nnan'})
def logit_ranges(s, t):
    min_S = max_S = s[0]
    min_T = max_T = t[0]
    for i in range(s.shape[0]):
        min_S, max_S = min(min_S, s[i]), max(max_S, s[i])
        min_T, max_T = min(min_T, t[i]), max(max_T, t[i])
    return np.float64(min_S), np.float64(max_S), np.float64(min_T), np.float64(max_T)


@compiled
def count_above(logits, low):
    count = 0
    for i in range(logits.shape[0]):
        count += logits[i] > low
    return count


def all_finite(logits):
    """Whether no exponent is all ones, as it is in a NaN and in an infinity."""


@overload(all_finite)
def _overload_all_finite(logits):
    if logits.dtype == types.float32:
        integer, exponent = np.int32, np.int32(0x7F800000)
    else:
        integer, exponent = np.int64, np.int64(0x7FF0000000000000)

    def impl(logits):
        bits = logits.view(integer)
        special = 0
        for i in range(bits.shape[0]):
            special += (bits[i] & exponent) == exponent
        return special == 0

    return impl


@compiled(fastmath=EXACT_ORDER)
def split_exponent(logits, scale, powers, parts):
    """``2**(scale * logits)`` as ``parts * 2**powers``."""
    for i in range(logits.shape[0]):
        z = np.float64(logits[i]) * scale
        rounded = z + ROUND_64
        powers[i] = np.int32(np.float64(rounded).view(np.int64))
        parts[i] = exp2(np.float32(z - (rounded - ROUND_64)))[1]
