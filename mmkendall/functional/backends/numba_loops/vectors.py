"""Loops too short for LLVM's vectoriser, in LLVM's own vector types of eight lanes.

Each intrinsic is inlined into the loop that calls it. Arrays are contiguous, float32 unless said
otherwise, and long enough: nothing is checked.
"""

from __future__ import annotations

import operator
from contextlib import contextmanager

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mmkendall.functional.backends.numba_loops.basics import EXACT_ORDER, LANES

FLAGS = tuple(sorted(EXACT_ORDER))
FLOAT, INT, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
MANTISSA_BITS = 23
# Twice as far apart as tanh needs to be 1; the product of two sums still fits into float32.
FARTHEST = 50
# Enough elements in registers to hide the latency of a multiplication with addition.
CONVOLVED = 64
TILE_ROWS = 4


class _Vector:
    """Eight float32 of the code under construction; the signs of arithmetic add instructions."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _apply(self, instruction, other):
        return _Vector(self.builder, instruction(self.value, other.value, flags=FLAGS))

    def __add__(self, other):
        return self._apply(self.builder.fadd, other)

    def __sub__(self, other):
        return self._apply(self.builder.fsub, other)

    def __mul__(self, other):
        return self._apply(self.builder.fmul, other)

    def __truediv__(self, other):
        return self._apply(self.builder.fdiv, other)

    def spread(self, lane):
        """One lane in all eight."""
        undefined = ir.Constant(FLOATS, ir.Undefined)
        mask = ir.Constant(INTS, [lane] * LANES)
        return _Vector(self.builder, self.builder.shuffle_vector(self.value, undefined, mask))

    def sum(self):
        signature = ir.FunctionType(FLOAT, (FLOAT, FLOATS))
        name = f'llvm.vector.reduce.fadd.v{LANES}f32'
        add_all = cgutils.get_or_insert_function(self.builder.module, signature, name)
        zero = ir.Constant(FLOAT, 0.0)
        return self.builder.call(add_all, (zero, self.value), fastmath=('nsz', 'reassoc'))


class _Arguments:
    """The arguments of an intrinsic: vectors by array and index, and scalars."""

    def __init__(self, context, builder, signature, values):
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, values

    def element(self, argument, index):
        """A pointer to one element of an array argument."""
        make = self.context.make_array(self.types[argument])
        data = make(self.context, self.builder, self.values[argument]).data
        return self.builder.gep(data, [index])

    def pointer(self, argument, first, vector=FLOATS):
        """To the elements of an array argument from ``first`` on."""
        return self.builder.bitcast(self.element(argument, first), vector.as_pointer())

    def integers(self, argument, first):
        """Eight int32, not a ``_Vector``."""
        return self.builder.load(self.pointer(argument, first, INTS), align=4)

    def load(self, pointer):
        return _Vector(self.builder, self.builder.load(pointer, align=4))

    def store(self, vector, pointer):
        self.builder.store(vector.value, pointer, align=4)

    def add_to(self, pointer, vector):
        self.store(self.load(pointer) + vector, pointer)

    def constant(self, number):
        return self.constants([number] * LANES)

    def constants(self, numbers):
        return _Vector(self.builder, ir.Constant(FLOATS, [float(number) for number in numbers]))

    def index(self, number):
        return ir.Constant(INDEX, number)

    def size(self, argument):
        make = self.context.make_array(self.types[argument])
        return self.builder.extract_value(
            make(self.context, self.builder, self.values[argument]).shape, 0
        )

    @contextmanager
    def eights(self, argument):
        """A loop over the first of each eight elements of an array argument."""
        steps = self.index(0), self.size(argument), self.index(LANES)
        with cgutils.for_range_slice(self.builder, *steps, INDEX) as (index, _):
            yield index

    def splat(self, scalar, vector=FLOATS):
        """One scalar in all eight lanes."""
        undefined = ir.Constant(vector, ir.Undefined)
        lanes = self.builder.insert_element(undefined, scalar, ir.Constant(INT, 0))
        first = ir.Constant(INTS, [0] * LANES)
        return self.builder.shuffle_vector(lanes, undefined, first)

    def polynomials(self, pieces, x):
        """Polynomials of the scalar ``x``, up to eight: a column of the array ``pieces`` each.

        Row m belongs to x^m. Constants of the code, which LLVM may keep in registers.
        """
        rows = [
            self.constants(np.pad(row, (0, LANES - len(row)))) for row in pieces.astype(np.float32)
        ]
        power = _Vector(self.builder, self.splat(self.values[x]))
        total = rows[-1]
        for row in rows[-2::-1]:
            total = total * power + row
        return total


@intrinsic
def count_bits(typingctx, word):
    """How many bits of a uint64 are set."""

    def build(context, builder, signature, values):
        return builder.ctpop(values[0])

    return types.int64(types.uint64), build


def _patch_rows(arguments, rows):
    """The weight of each row of a patch, in all lanes, and a pointer to the row's nodes.

    ``arguments`` are those of ``spread_patch``.
    """
    builder = arguments.builder
    _, node, width, _, place, stride, _ = arguments.values
    for _ in range(rows):
        weight = arguments.splat(builder.load(arguments.element(3, place)))
        yield _Vector(builder, weight), arguments.pointer(0, node)
        node, place = builder.add(node, width), builder.add(place, stride)


def make_spread_patch(rows, pieces):
    @intrinsic
    def spread_patch(typingctx, nodes, first, width, weights, place, stride, x):
        """Adds an outer product of ``rows`` of ``weights`` and polynomials of ``x`` to ``nodes``.

        ``nodes`` is flat, in rows of ``width``; what is added to begins at ``first``. The weights
        are ``stride`` apart from ``place`` on.
        """

        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            columns = arguments.polynomials(pieces, 6)
            for weight, nodes in _patch_rows(arguments, rows):
                arguments.add_to(nodes, weight * columns)
            return context.get_dummy_value()

        index = types.int64
        return types.void(nodes, index, index, weights, index, index, types.float32), build

    return spread_patch


def make_gather_patch(rows, pieces):
    @intrinsic
    def gather_patch(typingctx, nodes, first, width, weights, place, stride, x):
        """The sum of ``nodes`` with the weights that ``spread_patch`` would add."""

        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            total = arguments.constant(0)
            for weight, nodes in _patch_rows(arguments, rows):
                total += weight * arguments.load(nodes)
            return (total * arguments.polynomials(pieces, 6)).sum()

        index = types.int64
        return types.float32(nodes, index, index, weights, index, index, types.float32), build

    return gather_patch


def make_spread_line(pieces):
    @intrinsic
    def spread_line(typingctx, nodes, first, x):
        """Adds polynomials of ``x`` to ``nodes`` (float64) from ``first`` on."""

        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            doubles = ir.VectorType(ir.DoubleType(), LANES)
            place = arguments.pointer(0, values[1], doubles)
            added = builder.fpext(arguments.polynomials(pieces, 2).value, doubles)
            builder.store(builder.fadd(builder.load(place, align=8), added), place, align=8)
            return context.get_dummy_value()

        return types.void(nodes, types.int64, types.float32), build

    return spread_line


def make_gather_line(pieces):
    @intrinsic
    def gather_line(typingctx, nodes, first, x):
        """The sum of ``nodes`` from ``first`` on, weighted by polynomials of ``x``."""

        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            line = arguments.load(arguments.pointer(0, values[1]))
            return (arguments.polynomials(pieces, 2) * line).sum()

        return types.float32(nodes, types.int64, types.float32), build

    return gather_line


@intrinsic
def convolve_lanes(typingctx, source, first, stride, kernel, target, target_first):
    """Adds to 64 elements of ``target`` the sum of ``kernel`` times as many of ``source``.

    Those of one tap begin ``stride`` elements after those of the tap before.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        sums = _Sums(arguments, CONVOLVED // LANES)
        starts = [arguments.index(start) for start in range(0, CONVOLVED, LANES)]
        kernel = context.make_array(signature.args[3])(context, builder, values[3])
        taps = builder.extract_value(kernel.shape, 0)
        with cgutils.for_range(builder, taps) as loop:
            weight = builder.load(builder.gep(kernel.data, [loop.index]))
            weight = _Vector(builder, arguments.splat(weight))
            tap = builder.add(values[1], builder.mul(loop.index, values[2]))
            places = (arguments.pointer(0, builder.add(tap, start)) for start in starts)
            sums.add(*(weight * arguments.load(place) for place in places))
        for number, start in enumerate(starts):
            place = arguments.pointer(4, builder.add(values[5], start))
            arguments.add_to(place, sums[number])
        return context.get_dummy_value()

    index = types.int64
    return types.void(source, index, index, kernel, target, index), build


def _make_tile(rows, vectors):
    @intrinsic
    def tile(typingctx, a, a_first, a_step, b, b_first, b_step, c, c_first, c_step, depth):
        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            _, a_first, a_step, _, b_first, b_step, _, c_first, c_step, depth = values
            columns = [arguments.index(column * LANES) for column in range(vectors)]
            sums = _Sums(arguments, rows * vectors)
            with cgutils.for_range(builder, depth) as loop:
                a_line = builder.add(a_first, builder.mul(loop.index, a_step))
                b_line = builder.add(b_first, builder.mul(loop.index, b_step))
                line = [
                    arguments.load(arguments.pointer(3, builder.add(b_line, column)))
                    for column in columns
                ]
                products = []
                for row in range(rows):
                    place = arguments.element(0, builder.add(a_line, arguments.index(row)))
                    weight = _Vector(builder, arguments.splat(builder.load(place)))
                    products += [weight * vector for vector in line]
                sums.add(*products)
            for row in range(rows):
                line = builder.add(c_first, builder.mul(c_step, arguments.index(row)))
                for number, column in enumerate(columns):
                    place = arguments.pointer(6, builder.add(line, column))
                    arguments.store(sums[row * vectors + number], place)
            return context.get_dummy_value()

        index = types.int64
        where = (index, index)
        return types.void(a, *where, b, *where, c, *where, index), build

    return tile


# Elements of the product of the transpose of ``a`` and ``b``, flat and in rows of ``*_step``: four
# rows of one, two or three vectors.
tile_1, tile_2, tile_3 = (_make_tile(TILE_ROWS, vectors) for vectors in (1, 2, 3))


@intrinsic
def fold_lines(typingctx, upper, lower, sums, differences):
    """``upper + lower`` into ``sums`` and ``upper - lower`` into ``differences``, by eights."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        with arguments.eights(0) as x:
            first, second = (arguments.load(arguments.pointer(line, x)) for line in (0, 1))
            arguments.store(first + second, arguments.pointer(2, x))
            arguments.store(first - second, arguments.pointer(3, x))
        return context.get_dummy_value()

    return types.void(upper, lower, sums, differences), build


@intrinsic
def add_line(typingctx, line, factor, other):
    """Adds ``factor`` times ``other`` to ``line``, by eights."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        weight = _Vector(builder, arguments.splat(values[1]))
        with arguments.eights(0) as x:
            arguments.add_to(
                arguments.pointer(0, x), weight * arguments.load(arguments.pointer(2, x))
            )
        return context.get_dummy_value()

    return types.void(line, types.float32, other), build


@intrinsic
def dot_and_add(typingctx, line, weights, changes):
    """The sum of ``weights * line``, by eights; ``changes`` are added to ``line`` after that."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        sums = _Sums(arguments, 1)
        with arguments.eights(0) as x:
            place = arguments.pointer(0, x)
            own = arguments.load(place)
            sums.add(own * arguments.load(arguments.pointer(1, x)))
            arguments.store(own + arguments.load(arguments.pointer(2, x)), place)
        return sums[0].sum()

    return types.float32(line, weights, changes), build


@intrinsic
def mirror_sums(typingctx, odd, even, line):
    """``even + odd`` from the start of ``line`` on, ``even - odd`` from its end on backwards."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        last = builder.sub(arguments.size(2), arguments.index(LANES))
        undefined = ir.Constant(FLOATS, ir.Undefined)
        reverse = ir.Constant(INTS, list(reversed(range(LANES))))
        with arguments.eights(0) as x:
            own_odd = arguments.load(arguments.pointer(0, x))
            own_even = arguments.load(arguments.pointer(1, x))
            arguments.store(own_even + own_odd, arguments.pointer(2, x))
            less = builder.shuffle_vector((own_even - own_odd).value, undefined, reverse)
            place = arguments.pointer(2, builder.sub(last, x))
            arguments.store(_Vector(builder, less), place)
        return context.get_dummy_value()

    return types.void(odd, even, line), build


class _Exponentials:
    """exp(2kx) as ``parts * 2**powers``, two arrays that are arguments of an intrinsic."""

    def __init__(self, arguments, powers, parts):
        self.arguments, self.powers, self.parts = arguments, powers, parts

    def load(self, first):
        part = self.arguments.load(self.arguments.pointer(self.parts, first))
        return self.arguments.integers(self.powers, first), part

    def load_one(self, index):
        """One class in all eight lanes."""
        arguments, load = self.arguments, self.arguments.builder.load
        power = arguments.splat(load(arguments.element(self.powers, index)), INTS)
        part = arguments.splat(load(arguments.element(self.parts, index)))
        return power, _Vector(arguments.builder, part)

    def relative(self, own, power):
        """``own``, a power and a part, in units of ``2**power``: an addition to its bits."""
        builder = self.arguments.builder
        change = builder.sub(own[0], power)
        for sign, limit in (('<', -FARTHEST), ('>', FARTHEST)):
            bound = ir.Constant(INTS, [limit] * LANES)
            change = builder.select(builder.icmp_signed(sign, change, bound), bound, change)
        change = builder.shl(change, ir.Constant(INTS, [MANTISSA_BITS] * LANES))
        bits = builder.add(builder.bitcast(own[1].value, INTS), change)
        return _Vector(builder, builder.bitcast(bits, FLOATS))


class _Sums:
    """Vectors that a loop adds to; LLVM keeps them in registers."""

    def __init__(self, arguments, count):
        self.arguments = arguments
        self.places = [cgutils.alloca_once(arguments.builder, FLOATS) for _ in range(count)]
        for place in self.places:
            arguments.store(arguments.constant(0), place)

    def add(self, *vectors):
        for place, vector in zip(self.places, vectors, strict=False):
            self.arguments.add_to(place, vector)

    def __getitem__(self, number):
        return self.arguments.load(self.places[number])


def _compare(arguments, i, j, axis_T, axis_S, numerator=operator.sub):
    """For tanh(k(x_i - x_j)) = (a_i - a_j) / (a_i + a_j), a = exp(2kx), in the teacher and the
    student: T / (s_i + s_j), T (1 - S^2) / 4, and s_i and s_j themselves.

    Another ``numerator``, of t_i and t_j, puts something else in the place of T.
    """
    (power_T, t_j), (power_S, s_j) = axis_T.load(j), axis_S.load(j)
    t_i, s_i = axis_T.relative(i[0], power_T), axis_S.relative(i[1], power_S)
    sum_T = t_i + t_j
    inverse = arguments.constant(1) / (sum_T * (s_i + s_j))
    common = numerator(t_i, t_j) * inverse
    return common, common * (sum_T * inverse) * (s_i * s_j), s_i, s_j


@intrinsic
def pairs_with(typingctx, powers_T, parts_T, powers_S, parts_S, slopes, totals, i, start, stop):
    """The pairs of class ``i`` with the classes from ``start`` to ``stop``, in eight rows at once.

    The arrays are (C, 8) but for ``totals`` (8,); a row's exp(2kx) is ``parts * 2**powers``, with
    int32 ``powers``. Adds a quarter of each class's sum to ``slopes``, the values to ``totals``.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        axes = _Exponentials(arguments, 0, 1), _Exponentials(arguments, 2, 3)
        eight = arguments.index(LANES)
        i, start, stop = (builder.mul(value, eight) for value in values[6:])
        own = [axis.load(i) for axis in axes]
        sums = _Sums(arguments, 2)
        with cgutils.for_range_slice(builder, start, stop, eight, INDEX) as (j, _):
            common, change, s_i, s_j = _compare(arguments, own, j, *axes)
            sums.add(common * (s_i - s_j), change)
            mirror = arguments.pointer(4, j)
            arguments.store(arguments.load(mirror) - change, mirror)
        arguments.add_to(arguments.pointer(5, arguments.index(0)), sums[0])
        arguments.add_to(arguments.pointer(4, i), sums[1])
        return context.get_dummy_value()

    arrays = (powers_T, parts_T, powers_S, parts_S, slopes, totals)
    return types.void(*arrays, types.int64, types.int64, types.int64), build


@intrinsic
def ratios_with(typingctx, exps_T, exps_S, slopes, totals, i, start, stop):
    """``pairs_with`` for exp(2kx) as they are, whose products of four stay inside float32.

    What ``slopes`` gets lacks a factor: the class's own in ``exps_S``.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        eight = arguments.index(LANES)
        i, start, stop = (builder.mul(value, eight) for value in values[4:])
        t_i, s_i = (arguments.load(arguments.pointer(axis, i)) for axis in (0, 1))
        sums = _Sums(arguments, 2)
        with cgutils.for_range_slice(builder, start, stop, eight, INDEX) as (j, _):
            t_j, s_j = (arguments.load(arguments.pointer(axis, j)) for axis in (0, 1))
            sum_T = t_i + t_j
            inverse = arguments.constant(1) / (sum_T * (s_i + s_j))
            common = (t_i - t_j) * inverse
            slope = common * (sum_T * inverse)
            sums.add(common * (s_i - s_j), slope * s_j)
            mirror = arguments.pointer(2, j)
            arguments.store(arguments.load(mirror) - slope * s_i, mirror)
        arguments.add_to(arguments.pointer(3, arguments.index(0)), sums[0])
        arguments.add_to(arguments.pointer(2, i), sums[1])
        return context.get_dummy_value()

    return types.void(exps_T, exps_S, slopes, totals, types.int64, types.int64, types.int64), build


@intrinsic
def pairs_around(typingctx, powers_T, parts_T, powers_S, parts_S, slopes, totals, i, down, up):
    """The pairs of eight classes from ``i`` on with their neighbours in one row, sorted by s.

    Those are the classes up to ``down`` places before and ``up`` places after each. ``slopes`` of
    the eight becomes a quarter of their sums; half of T (S + 1) of each with those after it is
    added to ``totals`` (8,).
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        axes = _Exponentials(arguments, 0, 1), _Exponentials(arguments, 2, 3)
        one = arguments.index(1)
        i, down, up = values[6:]
        own = [axis.load(i) for axis in axes]
        sums = _Sums(arguments, 2)
        with cgutils.for_range_slice(builder, builder.sub(i, down), i, one, INDEX) as (j, _):
            _, change, _, _ = _compare(arguments, own, j, *axes)
            sums.add(change)
        first = builder.add(i, one)
        with cgutils.for_range_slice(builder, first, builder.add(first, up), one, INDEX) as (j, _):
            common, change, s_i, _ = _compare(arguments, own, j, *axes)
            sums.add(change, common * s_i)
        arguments.store(sums[0], arguments.pointer(4, i))
        arguments.add_to(arguments.pointer(5, arguments.index(0)), sums[1])
        return context.get_dummy_value()

    arrays = (powers_T, parts_T, powers_S, parts_S, slopes, totals)
    return types.void(*arrays, types.int64, types.int64, types.int64), build


@intrinsic
def orders_after(typingctx, powers, parts, ranks, totals, i, up):
    """Half of (T + 1) o_s of eight classes from ``i`` on and up to ``up`` after each, into totals.

    The row is sorted by t; ``ranks`` (int32) are those of s.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        axis = _Exponentials(arguments, 0, 1)
        i, up = values[4:]
        own = axis.load(i)
        own_rank = arguments.integers(2, i)
        sums = _Sums(arguments, 1)
        first = builder.add(i, arguments.index(1))
        stop = builder.add(first, up)
        with cgutils.for_range_slice(builder, first, stop, arguments.index(1), INDEX) as (j, _):
            power, t_j = axis.load(j)
            t_i = axis.relative(own, power)
            higher = builder.icmp_signed('>', own_rank, arguments.integers(2, j))
            order = builder.select(
                higher, arguments.constant(1).value, arguments.constant(-1).value
            )
            sums.add(_Vector(builder, order) * (t_i / (t_i + t_j)))
        arguments.add_to(arguments.pointer(3, arguments.index(0)), sums[0])
        return context.get_dummy_value()

    return types.void(powers, parts, ranks, totals, types.int64, types.int64), build


def _make_strip_pairs(own):
    @intrinsic
    def strip_pairs(
        typingctx, powers_T, parts_T, powers_S, parts_S, cells, slopes, low, high, i, start, stop
    ):
        def build(context, builder, signature, values):
            arguments = _Arguments(context, builder, signature, values)
            axes = _Exponentials(arguments, 0, 1), _Exponentials(arguments, 2, 3)
            low, high, i, start, stop = values[6:]
            low, high = (arguments.splat(builder.trunc(bound, INT), INTS) for bound in (low, high))
            class_i = [axis.load_one(i) for axis in axes]
            half = arguments.constant(0.5)
            sums = _Sums(arguments, 2)

            def to_own(a_i, a_j):
                return half * (a_i - a_j)

            def to_next(a_i, a_j):
                return a_i

            eight = arguments.index(LANES)
            with cgutils.for_range_slice(builder, start, stop, eight, INDEX) as (j, _):
                common, change, s_i, s_j = _compare(
                    arguments, class_i, j, *axes, numerator=to_own if own else to_next
                )
                cell = arguments.integers(4, j)
                is_lower = builder.icmp_signed('<', cell, low)
                is_higher = builder.icmp_signed('>=', cell, high)
                below = arguments.constant(0) - s_j
                distance = builder.select(is_lower, below.value, to_own(s_i, s_j).value)
                distance = builder.select(is_higher, s_i.value, distance)
                sums.add(common * _Vector(builder, distance), change)
                mirror = arguments.pointer(5, j)
                arguments.store(arguments.load(mirror) - change, mirror)
            slope = arguments.element(5, i)
            builder.store(builder.fadd(builder.load(slope), sums[1].sum()), slope)
            return sums[0].sum()

        arrays = (powers_T, parts_T, powers_S, parts_S, cells, slopes)
        return types.float32(*arrays, *[types.int64] * 5), build

    return strip_pairs


# The pairs of class ``i`` with the classes from ``start`` on, eight at once up to ``stop``, which
# are in the same strip of the teacher or in the next higher one. Adds an eighth of
# (T - o_t) (1 - S^2) to ``slopes`` of both classes, and returns a quarter of the sum of
# (T - o_t) (S - o_s). Class ``i`` is in the strip of the student that has the int32 ``cells`` from
# ``low`` to before ``high``.
own_strip_pairs = _make_strip_pairs(own=True)
next_strip_pairs = _make_strip_pairs(own=False)
