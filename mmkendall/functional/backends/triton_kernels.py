"""The Triton kernels of ``triton_cuda.py``. Importing this needs Triton.

All take rows of C student logits s and teacher logits t. A program that compares classes is one
warp for a sample (axis 0) and a block of classes i (axis 1), with a share of the classes j that
they are compared with (axis 2): a lane holds a column j and all rows i, so a sum over rows needs
no other lane. No program writes where another does, and ``finish`` adds what they find in a fixed
order, so a result is the same every time.
"""

import triton
import triton.language as tl

TWO_LOG2_E: tl.constexpr = tl.constexpr(2.8853900817779268)
# 2 k log2(e) (s - centre) then stays within 44 binary digits, and the products of sums of such
# exponentials, like their reciprocals, well within the range of float32.
RATIO_RANGE: tl.constexpr = tl.constexpr(30.0)
# In place of an exponential where there is no class: any product of sums with both overflows, and
# a pair whose reciprocal is 0 adds nothing. For its differences these are finite.
NO_EXP_S: tl.constexpr = tl.constexpr(1e38)
NO_EXP_T: tl.constexpr = tl.constexpr(1e20)
# A float32 accumulator of `near_pairs` takes this many columns.
CHUNK: tl.constexpr = tl.constexpr(4096)
# What `prepare` says of a sample.
DIFFERENCES: tl.constexpr = tl.constexpr(0)
RATIOS: tl.constexpr = tl.constexpr(1)
NOT_FINITE: tl.constexpr = tl.constexpr(2)


@triton.jit
def _first_at_least(row, num_classes, value):
    """The first index of an ascending row that holds ``value`` or more: 32 probes at a time."""
    first = 0
    size = num_classes
    while size > 0:
        step = tl.cdiv(size, 32)
        offsets = tl.arange(0, 32) * step
        probes = tl.load(row + first + offsets, mask=offsets < size, other=float('inf'))
        below = tl.sum((probes < value).to(tl.int32), axis=0)
        after = tl.maximum(below - 1, 0) * step + tl.minimum(below, 1)
        size = tl.minimum(tl.where(below > 0, step - 1, 0), size - after)
        first += after
    return first


@triton.jit
def _share(first, last, block):
    """This program's part of the columns from ``first`` to ``last``: where it starts and ends."""
    size = tl.cdiv(tl.cdiv(last - first, tl.num_programs(2)), block) * block
    start = first + tl.program_id(2) * size
    return start, tl.minimum(start + size, last)


@triton.jit
def _part(sample):
    """Where this program's part of the total of a sample belongs."""
    block = sample * tl.num_programs(1) + tl.program_id(1)
    return block * tl.num_programs(2) + tl.program_id(2)


@triton.jit
def _reciprocal(x, PTX: tl.constexpr):
    """1 / x; as PTX one instruction, without the range checks of a division."""
    if PTX:
        return tl.inline_asm_elementwise(
            'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / x


@triton.jit
def _exp2(x, PTX: tl.constexpr):
    """2^x; as PTX one instruction, subnormal results are 0."""
    if PTX:
        return tl.inline_asm_elementwise(
            'ex2.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(x)


@triton.jit
def _is_above(x, y, PTX: tl.constexpr):
    """1 if x > y, else 0, of whole numbers: as PTX one instruction that no comparison is."""
    if PTX:
        return tl.inline_asm_elementwise(
            'sub.sat.f32 $0, $1, $2;', '=f,f,f', [x, y], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.where(x > y, 1.0, 0.0)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _by_difference(s_i, s_j, t_i, t_j, steepness, SURROGATE: tl.constexpr, PTX: tl.constexpr):
    """What all of a pair follows from: e = exp(-2x), 1 / (1 + e) and T / (1 + e).

    S = tanh(x) for x = k (s_i - s_j) is (1 - e) / (1 + e), and 1 - S^2 is 4 e / (1 + e)^2. T is
    the weight of a pair in the gradient: tanh(k (t_i - t_j)), its sign, or, where x has both
    differences as factors, t_i - t_j. Exponents stop where the product of two sums still fits.
    """
    delta_S = s_i - s_j
    delta_T = t_i - t_j
    scale = steepness * -TWO_LOG2_E
    if SURROGATE == 'product':
        exp_S = _exp2(tl.minimum(delta_S * scale, 60.0), PTX)
        power = tl.minimum(delta_T * scale, 60.0)
        exp_T = _exp2(power, PTX)
        sum_T = 1.0 + exp_T
        inverse = _reciprocal((1.0 + exp_S) * sum_T, PTX)
        # The gradient is proportional to a small T: 1 - 2^power by its series, not by cancelling.
        series = -0.240226507 + power * (-0.0555041087 + power * -0.00961812911)
        series = power * (-0.693147181 + power * series)
        weight = tl.where(tl.abs(power) < 0.18, series, 1.0 - exp_T) * inverse
        inverse_S = sum_T * inverse
    else:
        delta = delta_S if SURROGATE == 'hard_teacher' else delta_T * delta_S
        power = delta * scale
        exp_S = _exp2(tl.minimum(power, 126.0), PTX)
        inverse_S = _reciprocal(1.0 + exp_S, PTX)
        if SURROGATE == 'hard_teacher':
            weight = _sign(delta_T) * inverse_S
        else:
            # Teachers may be so far apart that what is left of 1 - S^2 at the limit would count.
            weight = tl.where(power < 126.0, delta_T, 0.0) * inverse_S
    return exp_S, inverse_S, weight


@triton.jit
def prepare(
    preds_S,
    preds_T,
    nodes,
    kinds,
    steepness,
    num_classes,
    SURROGATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What ``all_pairs`` compares (3, N, C), and how, for each sample (N,).

    ``RATIOS`` where both rows are narrow enough for it: exp(2 k (x - centre)) of both logits, that
    of the teacher in two float32 parts (its logits themselves if their sign is all that counts).
    ``DIFFERENCES`` else: the logits.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    plane = tl.num_programs(0).to(tl.int64) * num_classes
    columns = tl.arange(0, BLOCK)
    low_S = tl.full([BLOCK], float('inf'), tl.float32)
    low_T = low_S
    high_S = -low_S
    high_T = -low_S
    defect = tl.zeros([BLOCK], tl.float32)
    for j in range(0, num_classes, BLOCK):
        valid = j + columns < num_classes
        s = tl.load(preds_S + row + j + columns, mask=valid, other=float('nan'))
        t = tl.load(preds_T + row + j + columns, mask=valid, other=float('nan'))
        low_S = tl.where(s < low_S, s, low_S)
        high_S = tl.where(s > high_S, s, high_S)
        low_T = tl.where(t < low_T, t, low_T)
        high_T = tl.where(t > high_T, t, high_T)
        defect += tl.where(valid, (s - s) + (t - t), 0.0)
    least_S = tl.min(low_S, axis=0)
    most_S = tl.max(high_S, axis=0)
    least_T = tl.min(low_T, axis=0)
    most_T = tl.max(high_T, axis=0)
    narrow = SURROGATE != 'diffkendall'
    narrow &= steepness * (most_S - least_S) < RATIO_RANGE
    if SURROGATE == 'product':
        narrow &= steepness * (most_T - least_T) < RATIO_RANGE
    kind = tl.where(narrow, RATIOS, DIFFERENCES)
    tl.store(kinds + sample, tl.where(tl.sum(defect, axis=0) == 0, kind, NOT_FINITE))

    scale = steepness * TWO_LOG2_E
    centre_S = (least_S.to(tl.float64) + most_S.to(tl.float64)) / 2
    centre_T = (least_T.to(tl.float64) + most_T.to(tl.float64)) / 2
    for j in range(0, num_classes, BLOCK):
        valid = j + columns < num_classes
        at = row + j + columns
        s = tl.load(preds_S + at, mask=valid, other=0.0)
        t = tl.load(preds_T + at, mask=valid, other=0.0)
        rest = tl.zeros([BLOCK], tl.float32)
        if narrow:
            s = tl.exp2((s.to(tl.float64) - centre_S) * scale).to(tl.float32)
            if SURROGATE == 'product':
                exact_T = tl.exp2((t.to(tl.float64) - centre_T) * scale)
                t = exact_T.to(tl.float32)
                rest = (exact_T - t.to(tl.float64)).to(tl.float32)
        if SURROGATE == 'product':
            tl.store(nodes + 2 * plane + at, rest, mask=valid)
        tl.store(nodes + at, s, mask=valid)
        tl.store(nodes + plane + at, t, mask=valid)


@triton.jit
def all_pairs(
    nodes,
    kinds,
    totals,
    rows,
    columns,
    steepness,
    num_classes,
    block_size,
    SURROGATE: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """Each pair of classes once, for both: the sums over i belong to the gradient of the j.

    With B blocks on a circle, a block is compared with those at a distance up to B / 2 ahead of
    it. At 0 and at B / 2 both see each other, so their sums over i are left out.

    ``rows`` (shares, N, C) gets the sums over j, ``columns`` (N, B, B // 2 + 1, block_size) those
    over i, by distance. With a = exp(2 k s), S = (a_i - a_j) / (a_i + a_j), and 1 - S^2 is
    4 a_i a_j / (a_i + a_j)^2; likewise T with b = exp(2 k t): no transcendental function for a
    pair. The two parts of b keep the relative precision of a small T, which the gradient is
    proportional to. 4 k, the sign of a gradient and its number of pairs are left to ``finish``.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    plane = tl.num_programs(0).to(tl.int64) * num_classes
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    kind = tl.load(kinds + sample)
    if kind == NOT_FINITE:
        tl.store(totals + _part(sample), float('nan'))
        return
    no_s = tl.where(kind == RATIOS, NO_EXP_S, 0.0)
    no_t = tl.where(kind == RATIOS, NO_EXP_T, 0.0)
    if SURROGATE == 'hard_teacher':
        no_t = float('nan')  # which has no sign
    distances = blocks // 2 + 1
    nearest, farthest = _share(0, distances, 1)
    to = columns + (sample * blocks + block) * (distances * block_size)
    first_i = block * block_size
    total = tl.zeros([BLOCK_J], tl.float64)
    for i in range(first_i, tl.minimum(first_i + block_size, num_classes), BLOCK_I):
        classes_i = i + tl.arange(0, BLOCK_I)
        valid_i = classes_i < num_classes
        at_i = nodes + row + classes_i
        s_i = tl.load(at_i, mask=valid_i, other=no_s)[:, None]
        t_i = tl.load(at_i + plane, mask=valid_i, other=no_t)[:, None]
        rest_i = t_i
        if SURROGATE == 'product':
            rest_i = tl.load(at_i + 2 * plane, mask=valid_i, other=0.0)[:, None]
        values = tl.zeros([BLOCK_J], tl.float32)
        slopes = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        tl.debug_barrier()  # before the columns that it wrote for other rows are read
        for distance in range(nearest, farthest):
            twice = (distance > 0) & (2 * distance != blocks)
            other = block + distance
            first_j = tl.where(other < blocks, other, other - blocks) * block_size
            for j in range(first_j, tl.minimum(first_j + block_size, num_classes), BLOCK_J):
                classes_j = j + tl.arange(0, BLOCK_J)
                valid_j = classes_j < num_classes
                at_j = nodes + row + classes_j
                s_j = tl.load(at_j, mask=valid_j, other=no_s)
                t_j = tl.load(at_j + plane, mask=valid_j, other=no_t)
                to_j = to + (distance * block_size - first_j) + classes_j
                column = tl.zeros([BLOCK_J], tl.float32)
                if NEED_GRAD and i > first_i:
                    column = tl.load(to_j, mask=valid_j, other=0.0)
                if SURROGATE != 'diffkendall' and kind == RATIOS:
                    sum_S = s_i + s_j[None, :]
                    if SURROGATE == 'product':
                        rest_j = tl.load(at_j + 2 * plane, mask=valid_j, other=0.0)
                        sum_T = t_i + t_j[None, :]
                        inverse = _reciprocal(sum_S * sum_T, PTX)
                        inverse_S = sum_T * inverse
                        rest = rest_i - rest_j[None, :]
                        weight = ((t_i - t_j[None, :]) + rest) * inverse
                    else:
                        inverse_S = _reciprocal(sum_S, PTX)
                        weight = _sign(t_i - t_j[None, :]) * inverse_S
                    value = tl.sum(weight * (s_i - s_j[None, :]), axis=0)
                    slope = weight * inverse_S
                    slopes += slope * s_j[None, :]
                    column -= tl.sum(slope * s_i, axis=0) * s_j
                else:
                    exp_S, inverse_S, weight = _by_difference(
                        s_i, s_j[None, :], t_i, t_j[None, :], steepness, SURROGATE, PTX
                    )
                    valid = valid_i[:, None] & valid_j[None, :]
                    if SURROGATE != 'hard_teacher':
                        weight = tl.where(valid, weight, 0.0)
                    if SURROGATE == 'diffkendall':
                        agreement = tl.where(valid, (1.0 - exp_S) * inverse_S, 0.0)
                    else:
                        agreement = weight * (1.0 - exp_S)
                    value = tl.sum(agreement, axis=0)
                    slope = weight * exp_S * inverse_S
                    slopes += slope
                    column -= tl.sum(slope, axis=0)
                values += value * tl.where(twice, 2.0, 1.0)
                if NEED_GRAD:
                    tl.store(to_j, column, mask=valid_j)
        total += values.to(tl.float64)
        if NEED_GRAD:
            slab = tl.program_id(2) * plane
            if kind == RATIOS:
                slopes *= s_i
            tl.store(rows + slab + row + classes_i, tl.sum(slopes, axis=1), mask=valid_i)
    tl.store(totals + _part(sample), tl.sum(total, axis=0))


@triton.jit
def sort(preds_S, preds_T, ascending, order, num_classes, BLOCK: tl.constexpr):
    """Rows in ascending order (2, N, C), and where in its row each logit comes from, int32.

    Student and teacher by axis 1. A key is the logit's bits, as an integer of the same order, and
    the class, so equal logits keep their order.
    """
    sample = tl.program_id(0).to(tl.int64)
    classes = tl.arange(0, BLOCK)
    valid = classes < num_classes
    preds = preds_S if tl.program_id(1) == 0 else preds_T
    logits = tl.load(preds + sample * num_classes + classes, mask=valid, other=0.0)
    bits = logits.to(tl.int32, bitcast=True)
    bits = tl.where(valid, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)
    keys = tl.sort((bits.to(tl.int64) << 32) | classes)
    bits = (keys >> 32).to(tl.int32)
    logits = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    row = (tl.program_id(1) * tl.num_programs(0) + sample) * num_classes
    tl.store(ascending + row + classes, logits, mask=valid)
    tl.store(order + row + classes, (keys & 0x7FFFFFFF).to(tl.int32), mask=valid)


@triton.jit
def near_pairs(
    ascending_S,
    order_S,
    preds_T,
    ranks,
    totals,
    rows,
    steepness,
    width,
    num_classes,
    SURROGATE: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """Pairs within ``width`` of each other in s: beyond it the gradient is zero and S is 1.

    The rows ascend in s. The value is T (S - 1) over j before i, twice: what the pairs lack to
    what ``far_pairs`` counts. Its ``ranks`` (N, C) are a class's place in ``order_S``.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    first_i = tl.program_id(1) * BLOCK_I
    places_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = places_i < num_classes
    s_i = tl.load(ascending_S + row + places_i, mask=valid_i, other=0.0)
    classes_i = tl.load(order_S + row + places_i, mask=valid_i, other=0)
    t_i = tl.load(preds_T + row + classes_i, mask=valid_i, other=0.0)
    if tl.program_id(2) == 0:
        tl.store(ranks + row + classes_i, places_i, mask=valid_i)
    last_i = tl.minimum(first_i + BLOCK_I, num_classes) - 1
    low = tl.load(ascending_S + row + first_i) - width
    high = tl.load(ascending_S + row + last_i) + width
    first = _first_at_least(ascending_S + row, num_classes, low)
    last = _first_at_least(ascending_S + row, num_classes, high)
    start, end = _share(first, last, BLOCK_J)
    values = tl.zeros([BLOCK_J], tl.float32)
    slope_i = tl.zeros([BLOCK_I], tl.float64)
    for chunk in range(start, end, CHUNK):
        slopes = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        for j in range(chunk, tl.minimum(chunk + CHUNK, end), BLOCK_J):
            places_j = j + tl.arange(0, BLOCK_J)
            valid_j = places_j < end
            s_j = tl.load(ascending_S + row + places_j, mask=valid_j, other=0.0)
            classes_j = tl.load(order_S + row + places_j, mask=valid_j, other=0)
            t_j = tl.load(preds_T + row + classes_j, mask=valid_j, other=0.0)
            exp_S, inverse_S, weight = _by_difference(
                s_i[:, None], s_j[None, :], t_i[:, None], t_j[None, :], steepness, SURROGATE, PTX
            )
            lack = tl.where(valid_j[None, :], weight * exp_S, 0.0)
            before = (places_j[None, :] < places_i[:, None]) & valid_i[:, None]
            values += tl.sum(tl.where(before, lack, 0.0), axis=0)
            slopes += lack * inverse_S
        slope_i += tl.sum(slopes, axis=1).to(tl.float64)
    defect = tl.where(valid_i, (s_i - s_i) + (t_i - t_i), 0.0)
    total = -4 * tl.sum(values.to(tl.float64), axis=0) + tl.sum(defect, axis=0)
    tl.store(totals + _part(sample), total)
    if NEED_GRAD:
        slab = tl.program_id(2) * (tl.num_programs(0).to(tl.int64) * num_classes)
        tl.store(rows + slab + row + classes_i, slope_i.to(tl.float32), mask=valid_i)


@triton.jit
def far_pairs(
    ascending_T,
    order_T,
    ranks,
    totals,
    steepness,
    width,
    num_classes,
    SURROGATE: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """Adds to the totals the sum of T over all pairs, of the sign that the order by s gives.

    The rows ascend in t. Beyond ``width`` in t, T is 1 and the pair is a comparison. Each pair is
    seen once, j before i, and counted twice.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    first_i = tl.program_id(1) * BLOCK_I
    places_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = places_i < num_classes
    t_i = tl.load(ascending_T + row + places_i, mask=valid_i, other=0.0)
    classes_i = tl.load(order_T + row + places_i, mask=valid_i, other=0)
    rank_i = tl.load(ranks + row + classes_i, mask=valid_i, other=0).to(tl.float32)
    low = tl.load(ascending_T + row + first_i) - width
    near = _first_at_least(ascending_T + row, num_classes, low)

    above = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
    start, end = _share(0, near, BLOCK_J)
    for j in range(start, end, BLOCK_J):
        places_j = j + tl.arange(0, BLOCK_J)
        valid_j = places_j < end
        classes_j = tl.load(order_T + row + places_j, mask=valid_j, other=0)
        rank_j = tl.load(ranks + row + classes_j, mask=valid_j, other=num_classes)
        above += _is_above(rank_i[:, None], rank_j.to(tl.float32)[None, :], PTX)
    counts = 2 * tl.sum(above, axis=1).to(tl.int32) - tl.maximum(end - start, 0)
    total = tl.sum(tl.where(valid_i, counts, 0), axis=0).to(tl.float64)

    values = tl.zeros([BLOCK_J], tl.float32)
    start, end = _share(near, tl.minimum(first_i + BLOCK_I, num_classes), BLOCK_J)
    for j in range(start, end, BLOCK_J):
        places_j = j + tl.arange(0, BLOCK_J)
        valid_j = places_j < end
        t_j = tl.load(ascending_T + row + places_j, mask=valid_j, other=0.0)
        classes_j = tl.load(order_T + row + places_j, mask=valid_j, other=0)
        rank_j = tl.load(ranks + row + classes_j, mask=valid_j, other=0).to(tl.float32)
        delta_T = t_i[:, None] - t_j[None, :]
        if SURROGATE == 'hard_teacher':
            weight = tl.where(delta_T > 0, 1.0, 0.0)
        else:
            exp_T = _exp2(tl.minimum(delta_T * (steepness * -TWO_LOG2_E), 0.0), PTX)
            weight = (1.0 - exp_T) * _reciprocal(1.0 + exp_T, PTX)
        weight = tl.where(rank_i[:, None] > rank_j[None, :], weight, -weight)
        before = (places_j[None, :] < places_i[:, None]) & valid_j[None, :] & valid_i[:, None]
        values += tl.sum(tl.where(before, weight, 0.0), axis=0)
    total += tl.sum(values.to(tl.float64), axis=0)
    to = totals + _part(sample)
    tl.store(to, tl.load(to) + 2 * total)


@triton.jit
def _total(totals, count, BLOCK: tl.constexpr):
    """The sum of ``count`` parts."""
    total = tl.zeros([BLOCK], tl.float64)
    for part in range(0, count, BLOCK):
        at = part + tl.arange(0, BLOCK)
        total += tl.load(totals + at, mask=at < count, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit
def finish(
    totals,
    rows,
    columns,
    losses,
    grad,
    grad_scale,
    num_classes,
    num_parts,
    num_shares,
    num_blocks,
    block_size,
    NEED_GRAD: tl.constexpr,
    COMPUTE_VALUE: tl.constexpr,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The losses (N,), or their mean, and the gradient (N, C) from what the programs found.

    A program for a sample and a block of classes; ``columns`` where there are ``num_blocks``.
    """
    sample = tl.program_id(0).to(tl.int64)
    num_rows = tl.num_programs(0).to(tl.int64)
    total = _total(totals + sample * num_parts, num_parts, 128)
    if NEED_GRAD:
        classes = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        valid = classes < num_classes
        at = sample * num_classes + classes
        found = tl.zeros([BLOCK], tl.float64)
        for share in range(0, num_shares):
            slab = share * (num_rows * num_classes)
            found += tl.load(rows + slab + at, mask=valid, other=0.0).to(tl.float64)
        block = classes // block_size
        for distance in range(1, (num_blocks + 1) // 2):
            seen_by = sample * num_blocks + (block + num_blocks - distance) % num_blocks
            slab = (seen_by * (num_blocks // 2 + 1) + distance) * block_size
            column = tl.load(columns + slab + classes % block_size, mask=valid, other=0.0)
            found += column.to(tl.float64)
        # A total that is not finite less itself is NaN.
        found = found * grad_scale + (total - total)
        tl.store(grad + at, found.to(tl.float32), mask=valid)
    if tl.program_id(1) == 0:
        pairs = num_classes.to(tl.float64) * (num_classes - 1)
        if AVERAGE:
            if sample == 0:
                total = _total(totals, num_rows * num_parts, 512)
                value = 1.0 - total / (num_rows * pairs) if COMPUTE_VALUE else total - total
                tl.store(losses, value.to(tl.float32))
        else:
            value = 1.0 - total / pairs if COMPUTE_VALUE else total - total
            tl.store(losses + sample, value.to(tl.float32))
