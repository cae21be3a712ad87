"""LIF over a whole window in Triton, one launch forward and one backward, plain or with the spikes pooled 2x2.

A program walks through all T steps of a block of neurons, whose state never leaves the registers; the inputs of later
steps are already on their way while a step is computed, for nothing else hides the memory's latency in a recurrence.
Arithmetic is float32, whatever the inputs are, and not fused (launch with enable_fp_fusion=False): so the membranes
equal the plain form's to the bit. Only operations that Triton's interpreter has are used.
"""

import triton
import triton.language as tl

RECTANGULAR = tl.constexpr(0)
TRIANGULAR = tl.constexpr(1)
ARCTAN = tl.constexpr(2)

# What a forward pass keeps for the backward pass. Bits are packed along time, 32 steps of a neuron in a word.
NOTHING = tl.constexpr(0)
MEMBRANES = tl.constexpr(1)
WINDOW = tl.constexpr(2)  # whether the membrane is in the surrogate's window
WINDOW_AND_SPIKES = tl.constexpr(3)

HALF_PI = tl.constexpr(1.5707963267948966)


@triton.jit
def _advance(v, x, live, decay, threshold, SOFT: tl.constexpr):
    """Return a step's membrane, whether it fires, and the state after it."""
    m = v * decay + x.to(tl.float32)
    fired = m > threshold
    after = m - tl.where(fired, threshold, 0.0) if SOFT else tl.where(fired, 0.0, m)
    return m, fired, tl.where(live, after, v)


@triton.jit
def _bit(flags, now):
    return flags.to(tl.int32) << (now & 31)


@triton.jit
def _keep(at, words, spike_words, m, fired, window, spike, now, end, here, threshold, lens, KEEP: tl.constexpr):
    """Keep what the backward pass will ask of a step; return the words that are filling up.

    `at` is where the step's membranes go, `words` and `spike_words` where the words under way go.
    """
    if KEEP == MEMBRANES:
        tl.store(at, m, mask=here)
    if KEEP >= WINDOW:
        full = ((now & 31) == 31) | (now + 1 == end)
        window |= _bit(tl.abs(m - threshold) < lens, now)
        tl.store(words, window, mask=here & full)
        window = tl.where(full, 0, window)
        if KEEP == WINDOW_AND_SPIKES:
            spike |= _bit(fired, now)
            tl.store(spike_words, spike, mask=here & full)
            spike = tl.where(full, 0, spike)
    return window, spike


@triton.jit
def _retreat(
    gs, gv, m, window, spike, now, live, decay, threshold, lens, peak,
    SOFT: tl.constexpr, DETACHED: tl.constexpr, SURROGATE: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Return the gradients of a step's current and of the state before it, from those of its spikes and its state."""
    if KEEP == MEMBRANES:
        fired = m > threshold
        away = tl.abs(m - threshold)
        if SURROGATE == RECTANGULAR:
            slope = tl.where(away < lens, peak, 0.0)
        elif SURROGATE == TRIANGULAR:
            slope = tl.maximum(1.0 - away / lens, 0.0) * peak
        else:
            x = away * (HALF_PI / lens)
            slope = peak / (1.0 + x * x)
    else:
        fired = ((spike >> (now & 31)) & 1) != 0
        slope = tl.where(((window >> (now & 31)) & 1) != 0, peak, 0.0)
    into = gs.to(tl.float32)
    through = gv
    if SOFT:
        if not DETACHED:
            into -= gv * threshold
    else:
        if not DETACHED:
            into -= gv * m
        through = tl.where(fired, 0.0, gv)
    gm = tl.where(live, through + into * slope, 0.0)
    return gm, tl.where(live, gm * decay, gv)


@triton.jit(do_not_specialize=["steps"])
def forward(
    current, v0, lengths, spikes, kept, v_after,
    steps, neurons, units, stride, spike_words_at, decay, threshold, lens,
    SOFT: tl.constexpr, KEEP: tl.constexpr, LENGTHS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run a window.

    Args:
        current: [steps, neurons], `stride` from step to step; neurons = batch * units.
        v0: the state before, [neurons].
        lengths: valid steps per sample, [batch], where LENGTHS.
        spikes: out, [steps, neurons].
        kept: out, what KEEP says: membranes [steps, neurons], or words [ceil(steps / 32), neurons], those of the spikes
            from `spike_words_at` on.
        v_after: out, [neurons].
    """
    steps = tl.cast(steps, tl.int32)
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    v = tl.load(v0 + n, mask=here, other=0.0)
    none = tl.full([BLOCK], 0, tl.int32)
    end = none + steps
    valid = end
    if LENGTHS:
        valid = tl.load(lengths + n // units, mask=here, other=0)
    window = none
    spike = none
    ahead, at, out, words = current + n, kept + n, spikes + n, kept + n
    first = tl.load(ahead, mask=here, other=0.0)
    ahead += stride
    second = tl.load(ahead, mask=here & (end > 1), other=0.0)
    ahead += stride
    third = tl.load(ahead, mask=here & (end > 2), other=0.0)
    for t in range(steps):
        now = none + t
        x = first
        first = second
        second = third
        ahead += stride
        third = tl.load(ahead, mask=here & (now + 3 < end), other=0.0)
        m, fired, v = _advance(v, x, now < valid, decay, threshold, SOFT)
        tl.store(out, fired.to(tl.float32).to(x.dtype), mask=here)
        window, spike = _keep(
            at, words, words + spike_words_at, m, fired, window, spike, now, end, here, threshold, lens, KEEP
        )
        out += neurons
        if KEEP == MEMBRANES:
            at += neurons
        if KEEP >= WINDOW:
            words += (t & 31) // 31 * neurons
    tl.store(v_after + n, v, mask=here)


@triton.jit(do_not_specialize=["steps"])
def backward(
    grad_spikes, grad_v, lengths, kept, grad_current, grad_v0,
    steps, neurons, units, stride, spike_words_at, decay, threshold, lens, peak,
    SOFT: tl.constexpr, DETACHED: tl.constexpr, SURROGATE: tl.constexpr, KEEP: tl.constexpr, LENGTHS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk back through a window. Arguments as of `forward`; `stride` is that of `grad_spikes`."""
    steps = tl.cast(steps, tl.int32)
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = n < neurons
    gv = tl.load(grad_v + n, mask=here, other=0.0)
    none = tl.full([BLOCK], 0, tl.int32)
    end = none + steps
    valid = end
    if LENGTHS:
        valid = tl.load(lengths + n // units, mask=here, other=0)
    last = steps.to(tl.int64) - 1
    ahead, out, words = grad_spikes + n + last * stride, grad_current + n + last * neurons, kept + n
    before = kept + n
    m = tl.full([BLOCK], 0.0, tl.float32)
    m_next = m
    window = none
    spike = none
    gs_next = tl.load(ahead, mask=here, other=0.0)
    if KEEP == MEMBRANES:
        before += last * neurons
        m_next = tl.load(before, mask=here, other=0.0)
    else:
        words += (last // 32) * neurons
    for back in range(steps):
        t = steps - 1 - back
        now = none + t
        gs = gs_next
        ahead -= stride
        gs_next = tl.load(ahead, mask=here & (now > 0), other=0.0)
        if KEEP == MEMBRANES:
            m = m_next
            before -= neurons
            m_next = tl.load(before, mask=here & (now > 0), other=0.0)
        else:
            fresh = here & (((now & 31) == 31) | (now + 1 == end))
            window = tl.load(words, mask=fresh, other=window)
            if KEEP == WINDOW_AND_SPIKES:
                spike = tl.load(words + spike_words_at, mask=fresh, other=spike)
            words -= (1 - ((t & 31) + 31) // 32) * neurons
        gm, gv = _retreat(
            gs, gv, m, window, spike, now, now < valid, decay, threshold, lens, peak, SOFT, DETACHED, SURROGATE, KEEP
        )
        tl.store(out, gm.to(grad_current.dtype.element_ty), mask=here)
        out -= neurons
    tl.store(grad_v0 + n, gv, mask=here)


@triton.jit
def _fours(maps, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """Return where the 2x2 blocks of this program lie.

    Returns:
        For the upper and the lower row of each, the offset of its two neurons and whether they exist, all [BLOCK, 2];
        the offset of its pooled pixel and whether that exists (at an odd edge it does not), and its map, all [BLOCK].
    """
    HIGH: tl.constexpr = (H + 1) // 2
    WIDE: tl.constexpr = (W + 1) // 2
    q = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = q % WIDE
    row = (q // WIDE) % HIGH
    number = q // (WIDE * HIGH)
    there = number < maps
    columns = (2 * column)[:, None] + tl.arange(0, 2)[None, :]
    upper = (number * (H * W) + 2 * row * W)[:, None] + columns
    upper_here = there[:, None] & (columns < W)
    lower_here = upper_here & (2 * row + 1 < H)[:, None]
    pooled = number * ((H // 2) * (W // 2)) + row * (W // 2) + column
    pooled_here = there & (row < H // 2) & (column < W // 2)
    return upper, upper_here, upper + W, lower_here, pooled, pooled_here, number


@triton.jit(do_not_specialize=["steps"])
def forward_pooled(
    current, v0, lengths, spikes, kept, v_after,
    steps, maps, units, stride, spike_words_at, decay, threshold, lens,
    SOFT: tl.constexpr, KEEP: tl.constexpr, LENGTHS: tl.constexpr, BLOCK: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Run a window of maps: as `forward`, with neurons = maps * H * W, maps = batch * units; spikes come out pooled."""
    steps = tl.cast(steps, tl.int32)
    upper, upper_here, lower, lower_here, pooled, pooled_here, number = _fours(maps, H, W, BLOCK)
    neurons = maps * (H * W)
    pixels = maps * ((H // 2) * (W // 2))
    v_upper = tl.load(v0 + upper, mask=upper_here, other=0.0)
    v_lower = tl.load(v0 + lower, mask=lower_here, other=0.0)
    none = tl.full([BLOCK, 2], 0, tl.int32)
    end = none + steps
    valid = end
    if LENGTHS:
        valid = tl.load(lengths + number // units, mask=number < maps, other=0)[:, None]
    window_upper = none
    spike_upper = none
    window_lower = none
    spike_lower = none
    ahead, at, words, out = current, kept, kept, spikes + pooled
    upper_next = tl.load(ahead + upper, mask=upper_here, other=0.0)
    lower_next = tl.load(ahead + lower, mask=lower_here, other=0.0)
    for t in range(steps):
        now = none + t
        x_upper, x_lower = upper_next, lower_next
        ahead += stride
        more = now + 1 < end
        upper_next = tl.load(ahead + upper, mask=upper_here & more, other=0.0)
        lower_next = tl.load(ahead + lower, mask=lower_here & more, other=0.0)
        live = now < valid
        m_upper, fired_upper, v_upper = _advance(v_upper, x_upper, live, decay, threshold, SOFT)
        m_lower, fired_lower, v_lower = _advance(v_lower, x_lower, live, decay, threshold, SOFT)
        # Where a row does not exist, its neurons see nothing, so they count nothing: but pooled_here leaves it out too.
        left, right = tl.split(fired_upper.to(tl.float32) + fired_lower.to(tl.float32))
        tl.store(out, ((left + right) * 0.25).to(x_upper.dtype), mask=pooled_here)
        spikes_at = words + spike_words_at
        window_upper, spike_upper = _keep(
            at + upper, words + upper, spikes_at + upper, m_upper, fired_upper, window_upper, spike_upper, now, end,
            upper_here, threshold, lens, KEEP,
        )  # fmt: skip
        window_lower, spike_lower = _keep(
            at + lower, words + lower, spikes_at + lower, m_lower, fired_lower, window_lower, spike_lower, now, end,
            lower_here, threshold, lens, KEEP,
        )  # fmt: skip
        out += pixels
        if KEEP == MEMBRANES:
            at += neurons
        if KEEP >= WINDOW:
            words += (t & 31) // 31 * neurons
    tl.store(v_after + upper, v_upper, mask=upper_here)
    tl.store(v_after + lower, v_lower, mask=lower_here)


@triton.jit
def _kept_of(
    kept, words, spike_words_at, at, window, spike, now, end, here,
    KEEP: tl.constexpr,
):  # fmt: skip
    """Return a step's membranes, or the words it is in, of the neurons at `at`."""
    m = tl.full(window.shape, 0.0, tl.float32)
    if KEEP == MEMBRANES:
        m = tl.load(kept + at, mask=here, other=0.0)
    else:
        fresh = here & (((now & 31) == 31) | (now + 1 == end))
        window = tl.load(words + at, mask=fresh, other=window)
        if KEEP == WINDOW_AND_SPIKES:
            spike = tl.load(words + spike_words_at + at, mask=fresh, other=spike)
    return m, window, spike


@triton.jit(do_not_specialize=["steps"])
def backward_pooled(
    grad_spikes, grad_v, lengths, kept, grad_current, grad_v0,
    steps, maps, units, stride, spike_words_at, decay, threshold, lens, peak,
    SOFT: tl.constexpr, DETACHED: tl.constexpr, SURROGATE: tl.constexpr, KEEP: tl.constexpr, LENGTHS: tl.constexpr,
    BLOCK: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Walk back through a window of maps: each pooled pixel's gradient goes to its four spikes in quarters."""
    steps = tl.cast(steps, tl.int32)
    upper, upper_here, lower, lower_here, pooled, pooled_here, number = _fours(maps, H, W, BLOCK)
    neurons = maps * (H * W)
    gv_upper = tl.load(grad_v + upper, mask=upper_here, other=0.0)
    gv_lower = tl.load(grad_v + lower, mask=lower_here, other=0.0)
    none = tl.full([BLOCK, 2], 0, tl.int32)
    end = none + steps
    valid = end
    if LENGTHS:
        valid = tl.load(lengths + number // units, mask=number < maps, other=0)[:, None]
    last = steps.to(tl.int64) - 1
    window_upper = none
    spike_upper = none
    window_lower = none
    spike_lower = none
    ahead, out = grad_spikes + last * stride + pooled, grad_current + last * neurons
    before, words = kept, kept
    if KEEP == MEMBRANES:
        before += last * neurons
    else:
        words += (last // 32) * neurons
    for back in range(steps):
        t = steps - 1 - back
        now = none + t
        gs = (tl.load(ahead, mask=pooled_here, other=0.0).to(tl.float32) * 0.25)[:, None]
        m_upper, window_upper, spike_upper = _kept_of(
            before, words, spike_words_at, upper, window_upper, spike_upper, now, end, upper_here, KEEP
        )
        m_lower, window_lower, spike_lower = _kept_of(
            before, words, spike_words_at, lower, window_lower, spike_lower, now, end, lower_here, KEEP
        )
        live = now < valid
        gm_upper, gv_upper = _retreat(
            gs, gv_upper, m_upper, window_upper, spike_upper, now, live, decay, threshold, lens, peak,
            SOFT, DETACHED, SURROGATE, KEEP,
        )  # fmt: skip
        gm_lower, gv_lower = _retreat(
            gs, gv_lower, m_lower, window_lower, spike_lower, now, live, decay, threshold, lens, peak,
            SOFT, DETACHED, SURROGATE, KEEP,
        )  # fmt: skip
        tl.store(out + upper, gm_upper.to(grad_current.dtype.element_ty), mask=upper_here)
        tl.store(out + lower, gm_lower.to(grad_current.dtype.element_ty), mask=lower_here)
        ahead -= stride
        out -= neurons
        if KEEP == MEMBRANES:
            before -= neurons
        else:
            words -= (1 - ((t & 31) + 31) // 32) * neurons
    tl.store(grad_v0 + upper, gv_upper, mask=upper_here)
    tl.store(grad_v0 + lower, gv_lower, mask=lower_here)
