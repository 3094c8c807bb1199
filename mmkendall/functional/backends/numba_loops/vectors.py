"""Loops too short for LLVM's vectoriser, in LLVM's own vector types of eight lanes.

Each intrinsic is inlined into the loop that calls it. Arrays are contiguous, float32 unless said
otherwise, and long enough: nothing is checked.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mmkendall.functional.backends.numba_loops.basics import FASTMATH, LANES

FLAGS = tuple(sorted(FASTMATH))
FLOAT, INT, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
MANTISSA_BITS = 23
# Twice as far apart as tanh needs to be 1; the product of two sums still fits into float32.
FARTHEST = 50
# Enough elements in registers to hide the latency of a multiplication with addition.
CONVOLVED = 64


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

    def pointer(self, argument, first, vector=FLOATS):
        """To the elements of an array argument from ``first`` on."""
        make = self.context.make_array(self.types[argument])
        data = make(self.context, self.builder, self.values[argument]).data
        return self.builder.bitcast(self.builder.gep(data, [first]), vector.as_pointer())

    def load(self, pointer):
        return _Vector(self.builder, self.builder.load(pointer, align=4))

    def store(self, vector, pointer):
        self.builder.store(vector.value, pointer, align=4)

    def add_to(self, pointer, vector):
        self.store(self.load(pointer) + vector, pointer)

    def constant(self, number):
        return _Vector(self.builder, ir.Constant(FLOATS, [float(number)] * LANES))

    def index(self, number):
        return ir.Constant(INDEX, number)

    def splat(self, scalar):
        undefined = ir.Constant(FLOATS, ir.Undefined)
        lanes = self.builder.insert_element(undefined, scalar, ir.Constant(INT, 0))
        return _Vector(self.builder, lanes).spread(0)

    def polynomials(self, pieces, x):
        """Eight polynomials of the scalar ``x``; row m of ``pieces`` (8, 8) belongs to x^m."""
        power = self.splat(self.values[x])
        total = self.load(self.pointer(pieces, self.index((LANES - 1) * LANES)))
        for row in reversed(range(LANES - 1)):
            total = total * power + self.load(self.pointer(pieces, self.index(row * LANES)))
        return total


@intrinsic
def spread_patch(typingctx, nodes, first, width, x_T, x_S, pieces_T, pieces_S):
    """Adds an outer product of polynomials, of ``x_T`` and of ``x_S``, to 8 x 8 ``nodes``.

    ``nodes`` is flat, in rows of ``width``; the patch begins at ``first``.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        weights_T, weights_S = arguments.polynomials(5, 3), arguments.polynomials(6, 4)
        node = values[1]
        for tap in range(LANES):
            arguments.add_to(arguments.pointer(0, node), weights_T.spread(tap) * weights_S)
            node = builder.add(node, values[2])
        return context.get_dummy_value()

    where = (types.int64, types.int64, types.float32, types.float32)
    return types.void(nodes, *where, pieces_T, pieces_S), build


@intrinsic
def gather_patch(typingctx, nodes, first, width, x_T, x_S, pieces_T, pieces_S):
    """The sum of 8 x 8 ``nodes`` with the weights that ``spread_patch`` would add."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        weights_T, weights_S = arguments.polynomials(5, 3), arguments.polynomials(6, 4)
        node, total = values[1], arguments.constant(0)
        for tap in range(LANES):
            total += weights_T.spread(tap) * arguments.load(arguments.pointer(0, node))
            node = builder.add(node, values[2])
        return (total * weights_S).sum()

    where = (types.int64, types.int64, types.float32, types.float32)
    return types.float32(nodes, *where, pieces_T, pieces_S), build


@intrinsic
def gather_line(typingctx, nodes, first, x, pieces):
    """The sum of 8 ``nodes`` from ``first`` on, weighted by polynomials of ``x``."""

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        line = arguments.load(arguments.pointer(0, values[1]))
        return (arguments.polynomials(3, 2) * line).sum()

    return types.float32(nodes, types.int64, types.float32, pieces), build


@intrinsic
def convolve_lanes(typingctx, source, first, stride, kernel, target, target_first):
    """Adds to 64 elements of ``target`` the sum of ``kernel`` times as many of ``source``.

    Those of one tap begin ``stride`` elements after those of the tap before.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(CONVOLVED // LANES)]
        for sum_ in sums:
            arguments.store(arguments.constant(0), sum_)
        kernel = context.make_array(signature.args[3])(context, builder, values[3])
        taps = builder.extract_value(kernel.shape, 0)
        with cgutils.for_range(builder, taps) as loop:
            weight = builder.load(builder.gep(kernel.data, [loop.index]))
            weight = arguments.splat(weight)
            start = builder.add(values[1], builder.mul(loop.index, values[2]))
            for part, sum_ in enumerate(sums):
                place = builder.add(start, arguments.index(part * LANES))
                arguments.add_to(sum_, weight * arguments.load(arguments.pointer(0, place)))
        for part, sum_ in enumerate(sums):
            place = builder.add(values[5], arguments.index(part * LANES))
            arguments.add_to(arguments.pointer(4, place), arguments.load(sum_))
        return context.get_dummy_value()

    index = types.int64
    return types.void(source, index, index, kernel, target, index), build


@intrinsic
def pairs_with(typingctx, powers_T, parts_T, powers_S, parts_S, slopes, totals, i, start, stop):
    """The pairs of class ``i`` with the classes from ``start`` to ``stop``, in eight rows at once.

    The arrays are (C, 8) but for ``totals`` (8,). A row's exp(2kx) is ``parts * 2**powers``, with
    int32 ``powers``. Adds a quarter of each class's sum to ``slopes``, the values to ``totals``.
    """

    def build(context, builder, signature, values):
        arguments = _Arguments(context, builder, signature, values)

        def logit(powers, parts, number):
            power = builder.load(arguments.pointer(powers, number, INTS), align=4)
            return power, arguments.load(arguments.pointer(parts, number))

        def clamped(power):
            for sign, limit in (('<', -FARTHEST), ('>', FARTHEST)):
                bound = ir.Constant(INTS, [limit] * LANES)
                power = builder.select(builder.icmp_signed(sign, power, bound), bound, power)
            return power

        def relative(power, part, power_j):
            """exp(2kx) of ``i`` in units of 2**power_j: an addition to the exponent's bits."""
            shift = ir.Constant(INTS, [MANTISSA_BITS] * LANES)
            change = builder.shl(clamped(builder.sub(power, power_j)), shift)
            bits = builder.add(builder.bitcast(part.value, INTS), change)
            return _Vector(builder, builder.bitcast(bits, FLOATS))

        eight = arguments.index(LANES)
        i = builder.mul(values[6], eight)
        power_T, part_T = logit(0, 1, i)
        power_S, part_S = logit(2, 3, i)
        value, slope = (cgutils.alloca_once(builder, FLOATS) for _ in range(2))
        for sums in (value, slope):
            arguments.store(arguments.constant(0), sums)
        with cgutils.for_range_slice(
            builder, builder.mul(values[7], eight), builder.mul(values[8], eight), eight, INDEX
        ) as (j, _):
            power_Tj, t_j = logit(0, 1, j)
            power_Sj, s_j = logit(2, 3, j)
            t_i = relative(power_T, part_T, power_Tj)
            s_i = relative(power_S, part_S, power_Sj)
            # tanh(k(x_i - x_j)) = (a_i - a_j) / (a_i + a_j) with a = exp(2kx).
            sum_T = t_i + t_j
            inverse = arguments.constant(1) / (sum_T * (s_i + s_j))
            common = (t_i - t_j) * inverse
            change = common * (sum_T * inverse) * (s_i * s_j)
            arguments.add_to(value, common * (s_i - s_j))
            arguments.add_to(slope, change)
            mirror = arguments.pointer(4, j)
            arguments.store(arguments.load(mirror) - change, mirror)
        arguments.add_to(arguments.pointer(4, i), arguments.load(slope))
        arguments.add_to(arguments.pointer(5, arguments.index(0)), arguments.load(value))
        return context.get_dummy_value()

    arrays = (powers_T, parts_T, powers_S, parts_S, slopes, totals)
    return types.void(*arrays, types.int64, types.int64, types.int64), build
