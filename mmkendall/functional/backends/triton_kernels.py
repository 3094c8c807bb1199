"""The Triton kernels of ``triton_cuda.py``. Importing this needs Triton.

All take rows of C student logits s and teacher logits t, one program for a sample (axis 0), a
block of classes i (axis 1) and a share of the classes j that it is compared with (axis 2). No
program writes where another does: what they find apart is summed by torch, so a result is the
same every time.
"""

import triton
import triton.language as tl

TWO_LOG2_E: tl.constexpr = tl.constexpr(2.8853900817779268)
# 2 k log2(e) (s - centre) then stays within 44 binary digits, and the products of sums of such
# exponentials, like their reciprocals, well within the range of float32.
RATIO_RANGE: tl.constexpr = tl.constexpr(30.0)
# A float32 accumulator takes this many columns before it is added to a float64 one.
CHUNK: tl.constexpr = tl.constexpr(4096)


@triton.jit
def _first_at_least(row, num_classes, value):
    """The first index of an ascending row that holds ``value`` or more."""
    low = 0
    high = num_classes
    while low < high:
        middle = (low + high) // 2
        if tl.load(row + middle) < value:
            low = middle + 1
        else:
            high = middle
    return low


@triton.jit
def _share(first, last, block):
    """This program's part of the columns from ``first`` to ``last``: where it starts and ends."""
    size = tl.cdiv(tl.cdiv(last - first, tl.num_programs(2)), block) * block
    start = first + tl.program_id(2) * size
    return start, tl.minimum(start + size, last)


@triton.jit
def _reciprocal(x, PTX: tl.constexpr):
    """1 / x; as PTX one instruction, without the range checks of a division."""
    if PTX:
        return tl.inline_asm_elementwise(
            'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / x


@triton.jit
def _decay(x, PTX: tl.constexpr):
    """exp(-2 |x|); as PTX one instruction after the product, subnormal results are 0."""
    exponent = tl.abs(x) * -TWO_LOG2_E
    if PTX:
        return tl.inline_asm_elementwise(
            'ex2.approx.ftz.f32 $0, $1;', '=f,f', [exponent], tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(exponent)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _tanh(x, decay, inverse):
    """tanh(x) for ``decay`` = exp(-2 |x|) and ``inverse`` = 1 / (1 + decay)."""
    magnitude = (1.0 - decay) * inverse
    square = x * x
    series = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0)))
    return tl.where(square < 0.01, series, tl.where(x < 0, -magnitude, magnitude))


@triton.jit
def exponentials(
    preds_S, preds_T, exp_S, exp_T, exp_T_low, fits, steepness, num_classes, BLOCK: tl.constexpr
):
    """exp(2 k (x - centre)) of both logits, that of the teacher in two float32 parts.

    ``fits`` gets 1 where both rows are narrow enough for it, else 0 and no exponentials.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    columns = tl.arange(0, BLOCK)
    low_S = tl.full([BLOCK], float('inf'), tl.float32)
    low_T = low_S
    high_S = -low_S
    high_T = -low_S
    for j in range(0, num_classes, BLOCK):
        valid = j + columns < num_classes
        s = tl.load(preds_S + row + j + columns, mask=valid, other=float('nan'))
        t = tl.load(preds_T + row + j + columns, mask=valid, other=float('nan'))
        low_S = tl.where(s < low_S, s, low_S)
        high_S = tl.where(s > high_S, s, high_S)
        low_T = tl.where(t < low_T, t, low_T)
        high_T = tl.where(t > high_T, t, high_T)
    least_S = tl.min(low_S, axis=0)
    most_S = tl.max(high_S, axis=0)
    least_T = tl.min(low_T, axis=0)
    most_T = tl.max(high_T, axis=0)
    narrow_S = steepness * (most_S - least_S) < RATIO_RANGE
    narrow_T = steepness * (most_T - least_T) < RATIO_RANGE
    narrow = narrow_S & narrow_T
    tl.store(fits + sample, narrow.to(tl.int32))
    if narrow:
        scale = steepness * TWO_LOG2_E
        centre_S = (least_S.to(tl.float64) + most_S.to(tl.float64)) / 2
        centre_T = (least_T.to(tl.float64) + most_T.to(tl.float64)) / 2
        for j in range(0, num_classes, BLOCK):
            valid = j + columns < num_classes
            at = row + j + columns
            s = tl.load(preds_S + at, mask=valid, other=0.0).to(tl.float64)
            t = tl.load(preds_T + at, mask=valid, other=0.0).to(tl.float64)
            tl.store(exp_S + at, tl.exp2((s - centre_S) * scale).to(tl.float32), mask=valid)
            exact_T = tl.exp2((t - centre_T) * scale)
            high = exact_T.to(tl.float32)
            tl.store(exp_T + at, high, mask=valid)
            rest = (exact_T - high.to(tl.float64)).to(tl.float32)
            tl.store(exp_T_low + at, rest, mask=valid)


@triton.jit
def pairs_by_ratio(
    preds_T,
    exp_S,
    exp_T,
    exp_T_low,
    fits,
    totals,
    grads,
    grad_scale,
    num_classes,
    SURROGATE: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """All pairs of the samples whose exponentials fit: no transcendental function for a pair.

    With a = exp(2 k s), S = tanh(k (s_i - s_j)) = (a_i - a_j) / (a_i + a_j), and 1 - S^2 is
    4 a_i a_j / (a_i + a_j)^2; likewise T with b = exp(2 k t). The two parts of b keep
    the relative precision of a small T, which the gradient is proportional to.
    """
    sample = tl.program_id(0).to(tl.int64)
    if tl.load(fits + sample) == 0:
        return
    row = sample * num_classes
    classes_i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    valid_i = classes_i < num_classes
    a_i = tl.load(exp_S + row + classes_i, mask=valid_i, other=1.0)
    t_i = tl.load(preds_T + row + classes_i, mask=valid_i, other=0.0)
    b_i = tl.load(exp_T + row + classes_i, mask=valid_i, other=1.0)
    rest_i = tl.load(exp_T_low + row + classes_i, mask=valid_i, other=0.0)
    value = tl.zeros([BLOCK_I], tl.float64)
    grad = tl.zeros([BLOCK_I], tl.float64)
    start, end = _share(0, num_classes, BLOCK_J)
    for chunk in range(start, end, CHUNK):
        values = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        slopes = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        for j in range(chunk, tl.minimum(chunk + CHUNK, end), BLOCK_J):
            classes_j = j + tl.arange(0, BLOCK_J)
            valid_j = classes_j < end
            a_j = tl.load(exp_S + row + classes_j, mask=valid_j, other=1.0)
            sum_S = a_i[:, None] + a_j[None, :]
            if SURROGATE == 'hard_teacher':
                t_j = tl.load(preds_T + row + classes_j, mask=valid_j, other=0.0)
                inverse_S = _reciprocal(sum_S, PTX)
                ratio = _sign(t_i[:, None] - t_j[None, :]) * inverse_S
            else:
                b_j = tl.load(exp_T + row + classes_j, mask=valid_j, other=1.0)
                rest_j = tl.load(exp_T_low + row + classes_j, mask=valid_j, other=0.0)
                sum_T = b_i[:, None] + b_j[None, :]
                inverse = _reciprocal(sum_S * sum_T, PTX)
                inverse_S = sum_T * inverse
                rest = rest_i[:, None] - rest_j[None, :]
                ratio = ((b_i[:, None] - b_j[None, :]) + rest) * inverse
            ratio = tl.where(valid_j[None, :], ratio, 0.0)  # T / (a_i + a_j)
            values += ratio * (a_i[:, None] - a_j[None, :])
            if NEED_GRAD:
                slopes += (ratio * inverse_S) * a_j[None, :]
        value += tl.sum(values, axis=1).to(tl.float64)
        grad += tl.sum(slopes, axis=1).to(tl.float64)
    value = tl.where(valid_i, value, 0.0)
    part = sample * tl.num_programs(1) + tl.program_id(1)
    tl.store(totals + part * tl.num_programs(2) + tl.program_id(2), tl.sum(value, axis=0))
    if NEED_GRAD:
        grad = grad * a_i.to(tl.float64) * grad_scale
        slab = tl.program_id(2).to(tl.int64) * tl.num_programs(0) * num_classes
        tl.store(grads + slab + row + classes_i, grad.to(tl.float32), mask=valid_i)


@triton.jit
def pairs(
    preds_S,
    preds_T,
    order,
    fits,
    totals,
    grads,
    steepness,
    grad_scale,
    width,
    num_classes,
    SURROGATE: tl.constexpr,
    WINDOW: tl.constexpr,
    NEED_GRAD: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """Pairs of any steepness and range, differences first.

    Without ``WINDOW`` all pairs of the samples that ``pairs_by_ratio`` left. With ``WINDOW`` the
    rows ascend in s, ``order`` says where they came from, and only pairs within ``width`` of each
    other in s are seen: beyond it their gradient is zero and S = tanh(k (s_i - s_j)) is its sign.
    The value is then T (S - sign), what the pairs lack to what ``pairs_of_signs`` counts.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    first_i = tl.program_id(1) * BLOCK_I
    classes_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = classes_i < num_classes
    s_i = tl.load(preds_S + row + classes_i, mask=valid_i, other=0.0)
    t_i = tl.load(preds_T + row + classes_i, mask=valid_i, other=0.0)
    value = tl.zeros([BLOCK_I], tl.float64)
    grad = tl.zeros([BLOCK_I], tl.float64)
    if WINDOW:
        last_i = tl.minimum(first_i + BLOCK_I, num_classes) - 1
        low = tl.load(preds_S + row + first_i) - width
        high = tl.load(preds_S + row + last_i) + width
        first = _first_at_least(preds_S + row, num_classes, low)
        last = _first_at_least(preds_S + row, num_classes, high)
        start, end = _share(first, last, BLOCK_J)
    else:
        if tl.load(fits + sample) != 0:
            return
        start, end = _share(0, num_classes, BLOCK_J)
    for chunk in range(start, end, CHUNK):
        values = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        slopes = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        for j in range(chunk, tl.minimum(chunk + CHUNK, end), BLOCK_J):
            classes_j = j + tl.arange(0, BLOCK_J)
            valid_j = classes_j < end
            s_j = tl.load(preds_S + row + classes_j, mask=valid_j, other=0.0)
            t_j = tl.load(preds_T + row + classes_j, mask=valid_j, other=0.0)
            delta_S = s_i[:, None] - s_j[None, :]
            delta_T = t_i[:, None] - t_j[None, :]
            if SURROGATE == 'diffkendall':
                x_S = steepness * (delta_T * delta_S)
            else:
                x_S = steepness * delta_S
            decay_S = _decay(x_S, PTX)
            if SURROGATE == 'product':
                x_T = steepness * delta_T
                decay_T = _decay(x_T, PTX)
                inverse = _reciprocal((1.0 + decay_S) * (1.0 + decay_T), PTX)
                inverse_S = (1.0 + decay_T) * inverse
                weight = _tanh(x_T, decay_T, (1.0 + decay_S) * inverse)
            else:
                inverse_S = _reciprocal(1.0 + decay_S, PTX)
                weight = delta_T if SURROGATE == 'diffkendall' else _sign(delta_T)
            weight = tl.where(valid_j[None, :], weight, 0.0)
            slope = weight * decay_S * inverse_S
            if WINDOW:
                values -= 2.0 * slope * _sign(delta_S)
            elif SURROGATE == 'diffkendall':
                agreement = _tanh(x_S, decay_S, inverse_S)
                values += tl.where(valid_j[None, :], agreement, 0.0)
            else:
                values += weight * _tanh(x_S, decay_S, inverse_S)
            if NEED_GRAD:
                slopes += slope * inverse_S
        value += tl.sum(values, axis=1).to(tl.float64)
        grad += tl.sum(slopes, axis=1).to(tl.float64)
    value = tl.where(valid_i, value, 0.0)
    part = sample * tl.num_programs(1) + tl.program_id(1)
    tl.store(totals + part * tl.num_programs(2) + tl.program_id(2), tl.sum(value, axis=0))
    if NEED_GRAD:
        grad = grad * grad_scale
        slab = tl.program_id(2).to(tl.int64) * tl.num_programs(0) * num_classes
        to = classes_i
        if WINDOW:
            to = tl.load(order + row + classes_i, mask=valid_i, other=0)
        tl.store(grads + slab + row + to, grad.to(tl.float32), mask=valid_i)


@triton.jit
def pairs_of_signs(
    preds_S,
    preds_T,
    totals,
    steepness,
    width,
    num_classes,
    SURROGATE: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    PTX: tl.constexpr,
):
    """The sum of T sign(s_i - s_j) over all pairs, of rows that ascend in t.

    Beyond ``width`` in t, T is 1 and the pair is a comparison. Each pair is seen once, j before i,
    and counted twice.
    """
    sample = tl.program_id(0).to(tl.int64)
    row = sample * num_classes
    first_i = tl.program_id(1) * BLOCK_I
    classes_i = first_i + tl.arange(0, BLOCK_I)
    valid_i = classes_i < num_classes
    s_i = tl.load(preds_S + row + classes_i, mask=valid_i, other=0.0)
    t_i = tl.load(preds_T + row + classes_i, mask=valid_i, other=0.0)
    near = _first_at_least(preds_T + row, num_classes, tl.load(preds_T + row + first_i) - width)

    counts = tl.zeros([BLOCK_I, BLOCK_J], tl.int32)
    start, end = _share(0, near, BLOCK_J)
    for j in range(start, end, BLOCK_J):
        classes_j = j + tl.arange(0, BLOCK_J)
        valid_j = classes_j < end
        s_j = tl.load(preds_S + row + classes_j, mask=valid_j, other=0.0)
        above = (s_i[:, None] > s_j[None, :]) & valid_j[None, :]
        below = (s_i[:, None] < s_j[None, :]) & valid_j[None, :]
        counts += above.to(tl.int32) - below.to(tl.int32)
    value = tl.sum(counts, axis=1).to(tl.float64)

    start, end = _share(near, tl.minimum(first_i + BLOCK_I, num_classes), BLOCK_J)
    for chunk in range(start, end, CHUNK):
        values = tl.zeros([BLOCK_I, BLOCK_J], tl.float32)
        for j in range(chunk, tl.minimum(chunk + CHUNK, end), BLOCK_J):
            classes_j = j + tl.arange(0, BLOCK_J)
            valid_j = classes_j < end
            s_j = tl.load(preds_S + row + classes_j, mask=valid_j, other=0.0)
            t_j = tl.load(preds_T + row + classes_j, mask=valid_j, other=0.0)
            delta_T = t_i[:, None] - t_j[None, :]
            if SURROGATE == 'hard_teacher':
                weight = _sign(delta_T)
            else:
                x = steepness * delta_T
                decay = _decay(x, PTX)
                weight = _tanh(x, decay, _reciprocal(1.0 + decay, PTX))
            before = valid_j[None, :] & (classes_j[None, :] < classes_i[:, None])
            values += tl.where(before, weight * _sign(s_i[:, None] - s_j[None, :]), 0.0)
        value += tl.sum(values, axis=1).to(tl.float64)

    value = tl.where(valid_i, value, 0.0)
    part = sample * tl.num_programs(1) + tl.program_id(1)
    tl.store(totals + part * tl.num_programs(2) + tl.program_id(2), 2 * tl.sum(value, axis=0))
