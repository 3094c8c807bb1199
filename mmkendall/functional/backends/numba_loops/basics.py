"""What the compiled loops share."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from types import FunctionType

import numpy as np
from numba import njit, types
from numba.extending import overload

FASTMATH = {'contract', 'reassoc', 'arcp', 'nsz'}
EXACT_ORDER = {'contract', 'nsz'}


def _digest_of_sources():
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    # Two of them take constants from beside the folder.
    others = (folder.parent / name for name in ('flat.py', 'logistic.py'))
    for path in (*sorted(folder.glob('*.py')), *others):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


SOURCES = _digest_of_sources()


def compiled(function=None, *, fastmath=FASTMATH, is_entry=False, **options):
    """``njit`` as every loop here wants it: no lock on the interpreter, 1 / 0 is an infinity."""
    if function is None:
        return functools.partial(compiled, fastmath=fastmath, is_entry=is_entry, **options)
    options.update(nogil=True, error_model='numpy', fastmath=fastmath)
    # Numba tells functions of one name apart by a count of each process. Code that two left on the
    # disk may agree in it and call the other's: so a closure is named after what it is made of.
    made_of = [cell.cell_contents.__qualname__ for cell in function.__closure__ or ()]
    function.__qualname__ = '_of_'.join([function.__qualname__, *made_of])
    # What is called from compiled code alone needs nothing that unpacks Python's objects.
    return njit(**options, no_cpython_wrapper=not is_entry, no_cfunc_wrapper=True)(function)


def variant(function, name, **names):
    """A copy of a function, not compiled yet, with other values for some global names.

    One source serves several entries this way. A closure would not: Numba doesn't find its code
    again on the disk, and an entry that only calls a closure takes a second more to compile.
    """
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, name)
    copy.__qualname__ = name  # Numba's name for it: see ``compiled``.
    return copy


def entry(function=None, *, fastmath=FASTMATH):
    """``compiled`` for what is called from Python, whose code is kept on disk.

    That holds the code of all it calls. Numba asks only whether the function's own file has
    changed, so the digest of all files becomes part of the name under which it is found.
    """
    if function is None:
        return functools.partial(entry, fastmath=fastmath)
    function.__qualname__ = f'{function.__name__}_{SOURCES}'
    try:
        return compiled(function, fastmath=fastmath, is_entry=True, cache=True)
    except RuntimeError:  # Neither the package nor the user has a folder to write to.
        return compiled(function, fastmath=fastmath, is_entry=True)


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
def constants(preds, steepness):
    """1, the power of two beyond which tanh is 1, and 2 k / log(2), in the dtype of ``preds``."""
    number = preds.dtype.type
    limit = 60.0 if preds.itemsize == 4 else 300.0
    return number(1.0), number(limit), number(2.0 * steepness / math.log(2.0))


# Assignments of slices do the same and take Numba half a second each to compile.
@compiled
def fill(array, value):
    for i in range(array.shape[0]):
        array[i] = value


@compiled
def copy(source, target):
    for i in range(target.shape[0]):
        target[i] = source[i]


# Of finite rows: a minimum is vectorised only if there is no NaN to keep.
@compiled(fastmath=FASTMATH | {'nnan'})
def logit_ranges(s, t):
    min_S = max_S = s[0]
    min_T = max_T = t[0]
    for i in range(s.shape[0]):
        min_S, max_S = min(min_S, s[i]), max(max_S, s[i])
        min_T, max_T = min(min_T, t[i]), max(max_T, t[i])
    return np.float64(min_S), np.float64(max_S), np.float64(min_T), np.float64(max_T)
