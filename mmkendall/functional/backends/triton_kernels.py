"""The Triton kernels of ``triton_cuda.py``. Importing this needs Triton.

All take rows of C student logits s and teacher logits t. A program that compares classes is one
warp for a sample (axis 0) and a block of classes i (axis 1), with a share of the classes j that
they are compared with (axis 2): a lane holds a column j and all rows i, so a sum over rows needs
no other lane. No program writes where another does, and ``finish`` adds what they find in a fixed
order, so a result is the same every time.

Not every class need count: one that is minus infinity in both logits does not. The first kernel,
``prepare`` or ``sort``, puts those that count in front, and what follows looks at them alone. It
says so in ``about``, int32: of each sample what it is (N,), of each how many of its classes count
(N,), and then, from the second kernel on, how many samples of each ``SAMPLES`` have a pair.
"""

import triton
import triton.language as tl

TWO_LOG2_E: tl.constexpr = tl.constexpr(2.8853900817779268)
LOG_2: tl.constexpr = tl.constexpr(0.6931471805599453)
# 2 k log2(e) (s - centre) then stays within 44 binary digits, and the products of sums of such
# exponentials, like their reciprocals, well within the range of float32.
RATIO_RANGE: tl.constexpr = tl.constexpr(30.0)
# In place of an exponential where there is no class: any product of sums with both overflows, and
# a pair whose reciprocal is 0 adds nothing. For its differences these are finite.
NO_EXP_S: tl.constexpr = tl.constexpr(1e38)
NO_EXP_T: tl.constexpr = tl.constexpr(1e20)
# A float32 accumulator of `near_pairs` takes this many columns.
CHUNK: tl.constexpr = tl.constexpr(4096)
# What a sample is: compared by differences or by ratios; one that teaches nothing, as the teacher
# ties all of its classes or fewer than two count; or not finite.
DIFFERENCES: tl.constexpr = tl.constexpr(0)
RATIOS: tl.constexpr = tl.constexpr(1)
NO_PAIR: tl.constexpr = tl.constexpr(2)
NOT_FINITE: tl.constexpr = tl.constexpr(3)
# How far below all others, in units of 1 / k, a class is that the teacher alone has at minus
# infinity: tanh is 1 from here on.
LAST_BELOW: tl.constexpr = tl.constexpr(20.0)
LOWEST: tl.constexpr = tl.constexpr(-3.4028234663852886e38)
# So many samples are counted by one program.
SAMPLES: tl.constexpr = tl.constexpr(1024)


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
def _logistic(s_i, s_j, t_i, t_j, steepness, PTX: tl.constexpr):
    """Minus log(1 + exp(-x)) and sign / (1 + exp(x)), with x = sign k (s_i - s_j).

    The sign is the teacher's; where it ties two classes both are 0.
    """
    sign = _sign(t_i - t_j)
    power = sign * (s_i - s_j) * (steepness * (TWO_LOG2_E / 2))
    # Of minus the magnitude, which never overflows; the rest is a line.
    small = _exp2(-tl.abs(power), PTX)
    agreement = -LOG_2 * (tl.maximum(-power, 0.0) + tl.log2(1.0 + small))
    slope = sign * tl.where(power > 0, small, 1.0) * _reciprocal(1.0 + small, PTX)
    # Of logits so far apart that their difference is infinite, 0 times that is NaN.
    return tl.where(sign != 0, agreement, 0.0), tl.where(sign != 0, slope, 0.0)


@triton.jit
def _last(least_T, steepness):
    """The logit of a class that only the teacher has at minus infinity, below ``least_T``.

    The second term keeps the distance where rounding would take the first away.
    """
    last = least_T - LAST_BELOW / steepness - 32 * 1.1920929e-7 * tl.abs(least_T)
    return tl.maximum(last, LOWEST)


@triton.jit
def _kind(kind, least_T, most_T, size, defect):
    """What a sample is: from the teacher's extremes, the size, and what is not finite."""
    kind = tl.where((size < 2) | (least_T == most_T), NO_PAIR, kind)
    return tl.where(defect == 0, kind, NOT_FINITE)


@triton.jit
def prepare(
    preds_S,
    preds_T,
    nodes,
    places,
    about,
    steepness,
    num_classes,
    SURROGATE: tl.constexpr,
    SORTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What is compared (3, N, C), where each class went (N, C), and ``about``.

    ``RATIOS`` where both rows are narrow enough for it: exp(2 k (x - centre)) of both logits, that
    of the teacher in two float32 parts (its logits themselves if their sign is all that counts).
    ``DIFFERENCES`` else: the logits. If they are to be sorted, it is always these, and infinity
    stands behind those that count. Where all count, the places are not written.
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
    counted = tl.zeros([BLOCK], tl.int32)
    lasts = tl.zeros([BLOCK], tl.int32)
    for j in range(0, num_classes, BLOCK):
        valid = j + columns < num_classes
        s = tl.load(preds_S + row + j + columns, mask=valid, other=-float('inf'))
        t = tl.load(preds_T + row + j + columns, mask=valid, other=-float('inf'))
        is_last = t == -float('inf')
        counts = (s != -float('inf')) | (t != -float('inf'))
        low_S = tl.where(counts & (s < low_S), s, low_S)
        high_S = tl.where(s > high_S, s, high_S)
        low_T = tl.where((t < low_T) & (t > -float('inf')), t, low_T)
        high_T = tl.where(t > high_T, t, high_T)
        defect += tl.where(counts, (s - s) + tl.where(is_last, 0.0, t - t), 0.0)
        counted += counts.to(tl.int32)
        lasts += (counts & is_last).to(tl.int32)
    size = tl.sum(counted, axis=0)
    least_S = tl.min(low_S, axis=0)
    most_S = tl.max(high_S, axis=0)
    least_T = tl.min(low_T, axis=0)
    most_T = tl.max(high_T, axis=0)
    least_T = tl.where(least_T == float('inf'), 0.0, least_T)
    last = _last(least_T, steepness)
    most_T = tl.maximum(most_T, last)  # minus infinity if all are last
    least_T = tl.where(tl.sum(lasts, axis=0) > 0, last, least_T)
    narrow = (SURROGATE == 'product' or SURROGATE == 'hard_teacher') & (not SORTS)
    narrow &= steepness * (most_S - least_S) < RATIO_RANGE
    if SURROGATE == 'product':
        narrow &= steepness * (most_T - least_T) < RATIO_RANGE
    kind = tl.where(narrow, RATIOS, DIFFERENCES)
    kind = _kind(kind, least_T, most_T, size, tl.sum(defect, axis=0))
    tl.store(about + sample, kind)
    tl.store(about + tl.num_programs(0) + sample, size)

    scale = steepness * TWO_LOG2_E
    centre_S = (least_S.to(tl.float64) + most_S.to(tl.float64)) / 2
    centre_T = (least_T.to(tl.float64) + most_T.to(tl.float64)) / 2
    before = 0
    for j in range(0, num_classes, BLOCK):
        classes = j + columns
        valid = classes < num_classes
        s = tl.load(preds_S + row + classes, mask=valid, other=-float('inf'))
        t = tl.load(preds_T + row + classes, mask=valid, other=-float('inf'))
        counts = (s != -float('inf')) | (t != -float('inf'))
        place = classes
        if size < num_classes:
            place = before + tl.cumsum(counts.to(tl.int32), axis=0) - 1
            before += tl.sum(counts.to(tl.int32), axis=0)
            tl.store(places + row + classes, tl.where(counts, place, -1), mask=valid)
            if SORTS:
                behind = nodes + row + (num_classes - 1 - (classes - place - 1))
                absent = valid & (counts == 0)
                tl.store(behind, float('inf'), mask=absent)
                tl.store(behind + plane, float('inf'), mask=absent)
        t = tl.where(t == -float('inf'), last, t)
        rest = tl.zeros([BLOCK], tl.float32)
        if narrow:
            s = tl.exp2((s.to(tl.float64) - centre_S) * scale).to(tl.float32)
            if SURROGATE == 'product':
                exact_T = tl.exp2((t.to(tl.float64) - centre_T) * scale)
                t = exact_T.to(tl.float32)
                rest = (exact_T - t.to(tl.float64)).to(tl.float32)
        at = row + place
        if SURROGATE == 'product' and not SORTS:
            tl.store(nodes + 2 * plane + at, rest, mask=counts)
        tl.store(nodes + at, s, mask=counts)
        tl.store(nodes + plane + at, t, mask=counts)


@triton.jit
def _count_samples(about):
    """The first program of each ``SAMPLES`` says how many of these have a pair."""
    sample = tl.program_id(0)
    if (sample % SAMPLES == 0) & (tl.program_id(1) == 0) & (tl.program_id(2) == 0):
        num_rows = tl.num_programs(0)
        at = sample + tl.arange(0, SAMPLES)
        sizes = tl.load(about + num_rows + at, mask=at < num_rows, other=0)
        found = tl.sum((sizes > 1).to(tl.int32), axis=0)
        tl.store(about + 2 * num_rows + sample // SAMPLES, found)


@triton.jit
def all_pairs(
    nodes,
    about,
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
    proportional to. 4 k, the sign of a gradient and its number of pairs are left to ``finish``,
    for the logistic surrogate k.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    plane = tl.num_programs(0).to(tl.int64) * num_classes
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    _count_samples(about)
    kind = tl.load(about + sample)
    if kind >= NO_PAIR:
        tl.store(totals + _part(sample), tl.where(kind == NO_PAIR, 0.0, float('nan')))
        return
    size = tl.load(about + tl.num_programs(0) + sample)
    no_s = tl.where(kind == RATIOS, NO_EXP_S, 0.0)
    no_t = tl.where(kind == RATIOS, NO_EXP_T, 0.0)
    if SURROGATE == 'hard_teacher' or SURROGATE == 'logistic':
        no_t = float('nan')  # which has no sign
    distances = blocks // 2 + 1
    nearest, farthest = _share(0, distances, 1)
    to = columns + (sample * blocks + block) * (distances * block_size)
    first_i = block * block_size
    total = tl.zeros([BLOCK_J], tl.float64)
    for i in range(first_i, tl.minimum(first_i + block_size, size), BLOCK_I):
        classes_i = i + tl.arange(0, BLOCK_I)
        valid_i = classes_i < size
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
            for j in range(first_j, tl.minimum(first_j + block_size, size), BLOCK_J):
                classes_j = j + tl.arange(0, BLOCK_J)
                valid_j = classes_j < size
                at_j = nodes + row + classes_j
                s_j = tl.load(at_j, mask=valid_j, other=no_s)
                t_j = tl.load(at_j + plane, mask=valid_j, other=no_t)
                to_j = to + (distance * block_size - first_j) + classes_j
                column = tl.zeros([BLOCK_J], tl.float32)
                if NEED_GRAD and i > first_i:
                    column = tl.load(to_j, mask=valid_j, other=0.0)
                if SURROGATE == 'logistic':
                    agreement, slope = _logistic(
                        s_i, s_j[None, :], t_i, t_j[None, :], steepness, PTX
                    )
                    value = tl.sum(agreement, axis=0)
                    slopes += slope
                    column -= tl.sum(slope, axis=0)
                elif SURROGATE != 'diffkendall' and kind == RATIOS:
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
def sort(
    preds_S,
    preds_T,
    finite_T,
    places,
    about,
    ascending,
    order,
    steepness,
    num_classes,
    BLOCK: tl.constexpr,
):
    """Rows in ascending order (2, N, C), and where in its row each logit comes from, int32.

    Student and teacher by axis 1. A key is the logit's bits, as an integer of the same order, and
    the class, so equal logits keep their order; classes that do not count come after all others.
    The student's program says what ``prepare`` says, too: the teacher's logits as they are
    compared, each class's place, which is its own number, and ``about``.
    """
    sample = tl.program_id(0).to(tl.int64)
    num_rows = tl.num_programs(0)
    classes = tl.arange(0, BLOCK)
    valid = classes < num_classes
    at = sample * num_classes + classes
    s = tl.load(preds_S + at, mask=valid, other=-float('inf'))
    t = tl.load(preds_T + at, mask=valid, other=-float('inf'))
    is_last = t == -float('inf')
    counts = (s != -float('inf')) | (t != -float('inf'))
    least_T = tl.min(tl.where(is_last | (t != t), float('inf'), t), axis=0)
    last = _last(tl.where(least_T == float('inf'), 0.0, least_T), steepness)
    t = tl.where(is_last, last, t)
    if tl.program_id(1) == 0:
        size = tl.sum(counts.to(tl.int32), axis=0)
        defect = tl.sum(tl.where(counts, (s - s) + (t - t), 0.0), axis=0)
        least_T = tl.min(tl.where(counts, t, float('inf')), axis=0)
        most_T = tl.max(tl.where(counts, t, -float('inf')), axis=0)
        tl.store(about + sample, _kind(DIFFERENCES, least_T, most_T, size, defect))
        tl.store(about + num_rows + sample, size)
        tl.store(finite_T + at, t, mask=valid)
        if size < num_classes:
            tl.store(places + at, tl.where(counts, classes, -1), mask=valid)
    logits = s if tl.program_id(1) == 0 else t
    bits = logits.to(tl.int32, bitcast=True)
    bits = tl.where(counts, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)
    named = classes | tl.where(counts, 0, 1 << 30)
    keys = tl.sort((bits.to(tl.int64) << 32) | named)
    bits = (keys >> 32).to(tl.int32)
    logits = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    to = (tl.program_id(1) * num_rows + sample) * num_classes + classes
    tl.store(ascending + to, logits, mask=valid)
    tl.store(order + to, (keys & 0x3FFFFFFF).to(tl.int32), mask=valid)


@triton.jit
def near_pairs(
    ascending_S,
    order_S,
    finite_T,
    about,
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
    _count_samples(about)
    kind = tl.load(about + sample)
    size = tl.load(about + tl.num_programs(0) + sample)
    if (kind >= NO_PAIR) | (first_i >= size):
        tl.store(totals + _part(sample), tl.where(kind == NOT_FINITE, float('nan'), 0.0))
        return
    places_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = places_i < size
    s_i = tl.load(ascending_S + row + places_i, mask=valid_i, other=0.0)
    classes_i = tl.load(order_S + row + places_i, mask=valid_i, other=0)
    t_i = tl.load(finite_T + row + classes_i, mask=valid_i, other=0.0)
    if tl.program_id(2) == 0:
        tl.store(ranks + row + classes_i, places_i, mask=valid_i)
    last_i = tl.minimum(first_i + BLOCK_I, size) - 1
    low = tl.load(ascending_S + row + first_i) - width
    high = tl.load(ascending_S + row + last_i) + width
    first = _first_at_least(ascending_S + row, size, low)
    last = _first_at_least(ascending_S + row, size, high)
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
            t_j = tl.load(finite_T + row + classes_j, mask=valid_j, other=0.0)
            exp_S, inverse_S, weight = _by_difference(
                s_i[:, None], s_j[None, :], t_i[:, None], t_j[None, :], steepness, SURROGATE, PTX
            )
            lack = tl.where(valid_j[None, :], weight * exp_S, 0.0)
            before = (places_j[None, :] < places_i[:, None]) & valid_i[:, None]
            values += tl.sum(tl.where(before, lack, 0.0), axis=0)
            slopes += lack * inverse_S
        slope_i += tl.sum(slopes, axis=1).to(tl.float64)
    tl.store(totals + _part(sample), -4 * tl.sum(values.to(tl.float64), axis=0))
    if NEED_GRAD:
        slab = tl.program_id(2) * (tl.num_programs(0).to(tl.int64) * num_classes)
        tl.store(rows + slab + row + classes_i, slope_i.to(tl.float32), mask=valid_i)


@triton.jit
def far_pairs(
    ascending_T,
    order_T,
    about,
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
    size = tl.load(about + tl.num_programs(0) + sample)
    if (tl.load(about + sample) >= NO_PAIR) | (first_i >= size):
        return
    places_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = places_i < size
    t_i = tl.load(ascending_T + row + places_i, mask=valid_i, other=0.0)
    classes_i = tl.load(order_T + row + places_i, mask=valid_i, other=0)
    rank_i = tl.load(ranks + row + classes_i, mask=valid_i, other=0).to(tl.float32)
    low = tl.load(ascending_T + row + first_i) - width
    near = _first_at_least(ascending_T + row, size, low)

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
    start, end = _share(near, tl.minimum(first_i + BLOCK_I, size), BLOCK_J)
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
def _pairs(size):
    """Of so many classes, each pair counted twice; 1 where there is none."""
    size = size.to(tl.float64)
    return tl.where(size > 1, size * (size - 1), 1.0)


@triton.jit
def finish(
    totals,
    rows,
    columns,
    losses,
    grad,
    places,
    about,
    grad_scale,
    num_classes,
    num_parts,
    num_shares,
    num_blocks,
    block_size,
    NEED_GRAD: tl.constexpr,
    FROM: tl.constexpr,
    COMPUTE_VALUE: tl.constexpr,
    AVERAGE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The losses (N,), or their mean, and the gradient (N, C) from what the programs found.

    The loss of a sample is ``FROM`` less its total over its pairs.

    A program for a sample and a block of classes; ``columns`` where there are ``num_blocks``. The
    mean is over the samples that have a pair.
    """
    sample = tl.program_id(0).to(tl.int64)
    num_rows = tl.num_programs(0).to(tl.int64)
    kind = tl.load(about + sample)
    size = tl.load(about + num_rows + sample)
    partial = tl.zeros([128], tl.float64)
    for part in range(0, num_parts, 128):
        own = part + tl.arange(0, 128)
        partial += tl.load(totals + sample * num_parts + own, mask=own < num_parts, other=0.0)
    total = tl.sum(partial, axis=0)
    with_pairs = 1
    if AVERAGE:
        found = tl.zeros([128], tl.int32)
        for part in range(0, tl.cdiv(num_rows, SAMPLES), 128):
            counted = part + tl.arange(0, 128)
            is_count = counted < tl.cdiv(num_rows, SAMPLES)
            found += tl.load(about + 2 * num_rows + counted, mask=is_count, other=0)
        with_pairs = tl.sum(found, axis=0)
    divisor = tl.maximum(with_pairs, 1).to(tl.float64)
    if NEED_GRAD:
        classes = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        valid = classes < num_classes
        at = sample * num_classes + classes
        place = classes
        if size < num_classes:
            place = tl.load(places + at, mask=valid, other=-1)
        counts = valid & (place >= 0)
        # Not of a comparison with the kind alone: an interpreter makes no mask of that.
        has_pair = counts & (place < tl.where(kind < NO_PAIR, num_classes, 0))
        place = tl.maximum(place, 0)
        slopes = tl.zeros([BLOCK], tl.float64)
        for share in range(0, num_shares):
            slab = (share * num_rows + sample) * num_classes
            slopes += tl.load(rows + slab + place, mask=has_pair, other=0.0).to(tl.float64)
        block = place // block_size
        for distance in range(1, (num_blocks + 1) // 2):
            other = (block + num_blocks - distance) % num_blocks
            slab = ((sample * num_blocks + other) * (num_blocks // 2 + 1) + distance) * block_size
            # A block behind all that counts has seen nothing.
            seen = has_pair & (other * block_size < size)
            column = tl.load(columns + slab + place % block_size, mask=seen, other=0.0)
            slopes += column.to(tl.float64)
        # A total that is not finite less itself is NaN.
        slopes = slopes * (grad_scale / (_pairs(size) * divisor))
        slopes = tl.where(counts, slopes + (total - total), 0.0)
        tl.store(grad + at, slopes.to(tl.float32), mask=valid)
    if tl.program_id(1) == 0:
        if AVERAGE:
            if sample == 0:
                parts = tl.zeros([512], tl.float64)
                for part in range(0, num_rows * num_parts, 512):
                    each = part + tl.arange(0, 512)
                    is_part = each < num_rows * num_parts
                    sizes = tl.load(about + num_rows + each // num_parts, mask=is_part, other=0)
                    parts += tl.load(totals + each, mask=is_part, other=0.0) / _pairs(sizes)
                found_all = tl.sum(parts, axis=0)
                value = tl.where(with_pairs > 0, FROM, 0.0) - found_all / divisor
                if not COMPUTE_VALUE:
                    value = found_all - found_all
                tl.store(losses, value.to(tl.float32))
        else:
            value = total - total
            if COMPUTE_VALUE:
                value += tl.where(size > 1, FROM, 0.0) - total / _pairs(size)
            tl.store(losses + sample, value.to(tl.float32))
