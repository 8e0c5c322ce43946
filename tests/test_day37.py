"""Day 37 · Mixed precision: every bit by hand, the scaler, what is rounded and what is not."""

import math

import numpy as np
import pytest

from days.day37 import study
from days.day37.run import measure
from llm.functions import dense
from llm.grad import ops, rules
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor, mul
from llm.layers.attention import multi_head
from llm.models.gpt import GPT, GPTConfig, head
from llm.train.adam import AdamW
from llm.train.halves import (
    BF16,
    FP16,
    FP32,
    Format,
    decode,
    encode,
    fields,
    rounded,
    stochastic,
)
from llm.train.loop import fit
from llm.train.precision import HIGHEST, LOWEST, HalfWeights, Scaler, autocast, half_pair
from llm.train.schedule import Constant
from llm.train.sgd import SGD


@pytest.fixture
def rng():
    return np.random.default_rng(37)


def f32(*values):
    return np.array(values, np.float32)


def test_the_example_by_hand_one_third():
    assert fields(0x3555, FP16) == (0, 13, 341)
    assert decode(0x3555, FP16) == (1 + 341 / 1024) * 2**-2 == 0.333251953125
    assert encode(1 / 3, FP16) == 0x3555
    assert encode(1 / 3, BF16) == 0x3EAB and decode(0x3EAB, BF16) == 0.333984375
    assert encode(1 / 3, FP32) == int(f32(1 / 3).view(np.uint32)[0]) == 0x3EAAAAAB
    assert encode(-2.0, FP16) == 0xC000 and fields(0xC000, FP16) == (1, 16, 0)


def test_the_example_by_hand_a_small_gradient_and_its_scale():
    g = f32(1e-8)
    assert rounded(g, FP16)[0] == 0
    scaled = rounded(g * np.float32(65536), FP16)
    assert scaled[0] == 1374 * 2.0**-21                          # 0.00065517, a normal number
    assert scaled[0] / 65536 == pytest.approx(1e-8, rel=3e-4)
    assert rounded(g, BF16)[0] == pytest.approx(1e-8, rel=2**-8)


def test_the_example_by_hand_where_sums_stagnate():
    for x, y, format, total in ((1, 2**-9, BF16, 1), (1, 2**-8, BF16, 1),
                                (1, 2**-7, BF16, 1 + 2**-7), (2048, 1, FP16, 2048),
                                (2050, 1, FP16, 2052), (2048, 2, FP16, 2050),
                                (2**24, 1, FP32, 2**24)):
        assert rounded(f32(x) + f32(y), format)[0] == total, (x, y, format.name)


@pytest.mark.parametrize(("format", "numbers"), [
    (FP16, (16, 15, 2**-10, 65504, 2**-14, 2**-24)),
    (BF16, (16, 127, 2**-7, 3.3895313892515355e38, 2**-126, 2**-133)),
    (FP32, (32, 127, 2**-23, float(np.finfo(np.float32).max), 2**-126, 2**-149))])
def test_the_limits_of_the_formats(format, numbers):
    assert (format.bits, format.bias, format.epsilon, format.largest, format.normal,
            format.smallest) == numbers
    assert decode(format.infinity, format) == math.inf
    assert decode(format.infinity - 1, format) == format.largest
    assert decode(1, format) == format.smallest
    assert decode(1 << format.fraction, format) == format.normal
    assert decode(encode(1.0, format) + 1, format) - 1 == format.epsilon


@pytest.mark.parametrize("format", [FP16, BF16])
def test_all_bit_patterns_decode_as_numpy_reads_them_and_encode_gives_them_back(format):
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):                              # of signalling NaNs
        numpy = (bits.view(np.float16).astype(np.float64) if format == FP16
                 else (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64))
    for b in range(0, 2**16, 7):
        ours = decode(b, format)
        assert ours == numpy[b] or math.isnan(ours) and math.isnan(numpy[b])
        assert math.copysign(1, ours) == math.copysign(1, numpy[b]) or math.isnan(ours)
        back = encode(ours, format)
        assert back == b or math.isnan(ours) and math.isnan(decode(back, format))


def hard_cases(rng):
    """float32 numbers of all sizes, every number of float16, and the middles between them."""
    halves = np.arange(2**15 - 2**10, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    wild = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    near = np.nextafter(middles, f32(np.inf))
    edges = f32(0, -0.0, np.inf, -np.inf, np.nan, 65519.996, 65520, 65536, -65520, 3e38, -3.4e38,
                2**-25, 2**-24, -2.0**-25, 2**-149)
    return np.concatenate([edges, halves, middles, -middles, near, -near, wild])


def same(a, b):
    return (a.view(np.uint32) == b.view(np.uint32)) | np.isnan(a) & np.isnan(b)


def test_rounding_to_float16_is_numpys_cast_to_the_last_bit_and_the_sign_of_zero(rng):
    x = hard_cases(rng)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    assert same(rounded(x, FP16), expected).all()


@pytest.mark.parametrize("format", [FP16, BF16, FP32])
def test_encode_agrees_with_rounding_of_arrays(format, rng):
    x = hard_cases(rng)
    x = np.concatenate([x[:15], rng.choice(x, 3000)])
    one_by_one = np.array([decode(encode(float(v), format), format) for v in x]).astype(np.float32)
    assert same(rounded(x, format), one_by_one).all()


def test_encode_is_the_nearest_number_by_brute_force(rng):
    tiny = Format("tiny", 3, 2)
    numbers = [(b, decode(b, tiny)) for b in range(tiny.infinity)]
    assert [v for _, v in numbers[:6]] == [0, .0625, .125, .1875, .25, .3125]
    assert tiny.largest == numbers[-1][1] == 14
    for v in (*rng.uniform(0, 14.9, 300), *(n / 32 for n in range(464))):
        best = min(numbers, key=lambda pair: (abs(pair[1] - v), pair[0] & 1))  # noqa: B023
        assert encode(v, tiny) == best[0], v
        assert encode(-v, tiny) == best[0] | 32
    assert encode(15, tiny) == encode(1e300, tiny) == encode(math.inf, tiny) == tiny.infinity
    assert encode(math.nextafter(15, 0), tiny) == tiny.infinity - 1
    assert math.isnan(decode(encode(math.nan, tiny), tiny))
    assert encode(-math.inf, tiny) == 32 | tiny.infinity


def test_rounding_keeps_shapes_and_takes_views_and_empty_arrays(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    for format in (FP16, BF16, FP32):
        for view in (x.T, x[:, ::2], x[:0], x[0, 0]):
            out = rounded(view, format)
            assert out.shape == view.shape and out.dtype == np.float32
            again = rounded(np.ascontiguousarray(view), format)
            assert np.array_equal(out, again.reshape(out.shape))
    assert rounded(x, FP32) is x
    assert stochastic(x.T, rng).shape == (6, 4) and stochastic(x[:0], rng).shape == (0, 6)


def test_bad_numbers_and_types_are_refused_with_a_cure(rng):
    for bits in (-1, 2**16):
        with pytest.raises(ValueError, match="float16 has 16 bits.*wanted 0 to 0xffff"):
            decode(bits, FP16)
    assert math.isnan(decode(2**16 - 1, FP16))
    for call in (lambda x: rounded(x, FP16), lambda x: stochastic(x, rng)):
        with pytest.raises(ValueError, match="not from float64: use x.astype"):
            call(np.ones(2))
        with pytest.raises(ValueError, match="not from float:"):
            call(1.0)
    with pytest.raises(ValueError, match="no rounding to tiny: use FP32, FP16 or BF16"):
        rounded(f32(1), Format("tiny", 3, 2))


@pytest.mark.parametrize("format", [FP16, BF16])
def test_an_update_below_a_quarter_of_epsilon_is_lost_and_one_above_half_survives(format, rng):
    w = rounded(rng.uniform(.01, 4, 5000).astype(np.float32), format)
    w = np.concatenate([w, f32(.5, 1, 2)])
    for sign in (1, -1):
        lost = w * np.float32(sign * .249 * format.epsilon)
        kept = w * np.float32(sign * .501 * format.epsilon)
        between = w * np.float32(sign * .375 * format.epsilon)
        assert np.array_equal(rounded(w + lost, format), w)
        assert (rounded(w + kept, format) != w).all()
        assert .2 < (rounded(w + between, format) == w).mean() < .8


def test_stochastic_rounding_takes_a_neighbour_and_has_the_right_mean(rng):
    x = f32(1 + 2**-9, -(1 + 3 * 2**-9), 1.5, 3e-3, -7e-40)
    drawn = np.stack([stochastic(x, rng) for _ in range(4000)]).astype(np.float64)
    lower = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    upper = ((x.view(np.uint32) & np.uint32(0xFFFF0000)) + np.uint32(65536)).view(np.float32)
    assert ((drawn == lower) | (drawn == upper)).all()
    step = np.abs(upper - lower)
    assert (np.abs(drawn.mean(0) - x) <= 4 * step / 2 / math.sqrt(4000)).all()
    assert (drawn[:, 2] == 1.5).all()                                  # exact numbers never move
    assert (drawn[:, 0] > 1).mean() == pytest.approx(.25, abs=.03)


def test_stochastic_rounding_is_unbiased_exactly_over_all_its_draws():
    class All:
        def integers(self, low, high, shape, dtype):
            assert (low, high) == (0, 2**16)
            return np.arange(low, high, dtype=dtype)[:shape[0]]
    for value in (1 + 2**-9, 1 + 2**-20, 1.99999988, -.1):
        x = np.full(2**16, value, np.float32)
        assert stochastic(x, All()).astype(np.float64).mean() == float(x[0])


def test_stochastic_rounding_leaves_infinity_and_nan(rng):
    nan = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    for _ in range(50):
        assert np.isnan(stochastic(nan, rng)).all()
        assert np.array_equal(stochastic(f32(np.inf, -np.inf, 0), rng), f32(np.inf, -np.inf, 0))


def test_autocast_rounds_inputs_and_outputs_forward_and_backward(rng):
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((5, 7), (7, 3), (3,))]
    dout = rng.standard_normal((5, 3)).astype(np.float32)
    for format in (FP16, BF16):
        x, w, b = (Tensor(a, requires_grad=True) for a in arrays)
        with autocast(format):
            y = ops.linear(x, w, b)
        narrow = [rounded(a, format) for a in arrays]
        assert np.array_equal(y.data, rounded(dense.linear(*narrow), format))
        y.backward(dout)
        expected = rules.linear_vjp(rounded(dout, format), narrow[0], narrow[1], True)
        for p, g in zip((x, w, b), expected, strict=True):
            assert np.array_equal(p.grad, rounded(g, format)) and p.grad.dtype == np.float32
        assert not np.array_equal(x.grad, expected[0])
        assert all(np.array_equal(p.data, a) for p, a in zip((x, w, b), arrays, strict=True))
    assert np.array_equal(ops.linear(x, w, b).data, dense.linear(*arrays))    # the block has ended


def test_norms_softmax_and_loss_stay_float32(rng):
    x = rng.standard_normal((4, 9)).astype(np.float32)
    before = [ops.softmax(Tensor(x)).data, ops.cross_entropy(Tensor(x), np.arange(4)).data,
              mul(Tensor(x), Tensor(x)).data, (Tensor(x) + Tensor(x)).data]
    with autocast(BF16):
        after = [ops.softmax(Tensor(x)).data, ops.cross_entropy(Tensor(x), np.arange(4)).data,
                 mul(Tensor(x), Tensor(x)).data, (Tensor(x) + Tensor(x)).data]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_all_products_of_a_gpt_are_rounded_and_float64_passes(rng):
    x = rng.standard_normal((1, 4, 6)).astype(np.float32)
    w = rng.standard_normal((6, 6)).astype(np.float32)
    with autocast(BF16):
        for out in (ops.linear(Tensor(x), Tensor(w)), ops.gelu(Tensor(x)),
                    multi_head(Tensor(x), H=1), head(Tensor(x), Tensor(w))):
            assert np.array_equal(out.data, rounded(out.data, BF16)), out
        wide = ops.gelu(Tensor(x.astype(np.float64)))
        ids = ops.embedding(Tensor(w), np.array([1, 2]))
    assert wide.dtype == np.float64 and np.array_equal(wide.data, dense.gelu(x.astype(np.float64)))
    assert np.array_equal(ids.data, w[1:3])
    with autocast(BF16, primitives=(ops.gelu,)):
        assert np.array_equal(ops.linear(Tensor(x[0]), Tensor(w)).data, x[0] @ w)


def test_autocast_rounds_the_twin_that_stands_there_already(rng):
    x = rng.standard_normal(50).astype(np.float32)
    twin = (lambda x: (np.float32(3) * x, ()), None)
    with lower({ops.gelu: twin}), autocast(FP16):
        assert np.array_equal(ops.gelu(Tensor(x)).data,
                              rounded(np.float32(3) * rounded(x, FP16), FP16))
    forward, backward = half_pair(lambda a, n: (a, (n,)), lambda d, n: (d, None), BF16)
    assert forward(x, None)[1] == (None,) and backward(x, None)[1] is None


def quadratic(start, slope=1.0):
    """One parameter p and the loss slope · p, whose gradient is slope in float16."""
    p = Tensor(f32(start), requires_grad=True)

    def loss(batch):
        with autocast(FP16, primitives=(mul,)):
            return mul(p, Tensor(f32(slope * batch))).sum(), 1
    return {"p": p}, loss


def small_loss(loss):
    """The same times 1e-8: the gradient that arrives at the product is as small."""
    return lambda batch: (loss(batch)[0] * 1e-8, 1)


def ones():
    while True:
        yield 1.0


def test_a_gradient_of_1e_8_is_lost_without_scaling_and_survives_with_it():
    for scale, expected in ((1.0, 0), (2.0**16, 1e-8)):
        parameters, loss = quadratic(1.0)
        small = small_loss(loss)
        value, _ = Scaler(scale, None).loss(small, parameters)(1.0)
        value.backward()
        assert parameters["p"].grad[0] == pytest.approx(expected, rel=1e-3, abs=0)
        assert float(value.data) == pytest.approx(1e-8)               # what is logged is unscaled


def test_scaling_by_a_power_of_two_changes_no_bit_of_a_float32_gradient(rng):
    config = GPTConfig(V=11, T=6, C=8, L=1, H=2)
    ids = rng.integers(0, 11, (2, 6))
    found = []
    for scale in (1, 2.0**16, 2.0**-10):
        model = GPT(config, np.random.default_rng(1))
        parameters = model.named_parameters()
        scaler = Scaler(scale, None)
        scaler.loss(lambda b, m=model: (m.loss(b, b), b.size), parameters)(ids)[0].backward()
        found.append([p.grad.copy() for p in parameters.values()])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_bfloat16_needs_no_scaling_and_float16_loses_what_bfloat16_keeps(rng):
    config = GPTConfig(V=11, T=6, C=8, L=1, H=2)
    ids = rng.integers(0, 11, (2, 6))
    found = {}
    for format in (BF16, FP16):
        for scale in (1.0, 2.0**-16):
            model = GPT(config, np.random.default_rng(1))
            parameters = model.named_parameters()
            with autocast(format):
                loss = Scaler(scale, None).loss(lambda b, m=model: (m.loss(b, b), 1), parameters)
                loss(ids)[0].backward()
            found[format, scale] = np.concatenate([p.grad.ravel() for p in parameters.values()])
    assert np.array_equal(found[BF16, 1], found[BF16, 2.0**-16])
    assert (found[FP16, 2.0**-16] == 0).mean() > (found[FP16, 1] == 0).mean() + .3


def test_gradients_are_unscaled_before_they_are_clipped():
    moved = []
    for scaler in (None, Scaler(2.0**10)):
        parameters, loss = quadratic(5.0, slope=.5)
        norms = []
        fit(parameters, loss if scaler is None else scaler.loss(loss, parameters), ones(),
            SGD(parameters), Constant(1.0), steps=1, clip=1.0, hooks=[norms.append])
        moved.append((5 - float(parameters["p"].data[0]), norms[0].norm))
    assert moved[0] == moved[1] == (.5, .5)


def test_on_overflow_the_step_is_skipped_the_count_unchanged_and_the_scale_halved():
    parameters, loss = quadratic(3.0, slope=4.0)
    optimizer, scaler, seen = AdamW(parameters), Scaler(2.0**15, interval=2), []

    def note(step):
        seen.append((optimizer.t["p"], scaler.scale, float(parameters["p"].data[0]) == 3.0))

    run = fit(parameters, scaler.loss(loss, parameters), ones(), optimizer, Constant(.01), steps=5,
              hooks=[note])
    # 4 · 2¹⁵ and 4 · 2¹⁴ = 65,536 overflow; 4 · 2¹³ does not; after two good steps back to 2¹⁴
    assert seen[0] == (0, 2.0**14, True)
    assert seen[1] == (0, 2.0**13, True)
    assert seen[2] == (1, 2.0**13, False)
    assert seen[3][:2] == (2, 2.0**14)
    assert seen[4][:2] == (2, 2.0**13)
    assert run.skipped == scaler.overflows == 3
    assert np.isfinite(optimizer.m["p"]).all() and np.isfinite(optimizer.v["p"]).all()


def test_by_hand_unscale_tells_whether_all_is_finite():
    p, q, r = (Tensor(f32(1), requires_grad=True) for _ in range(3))
    scaler = Scaler(8, interval=3)
    p.grad, q.grad = f32(4), f32(16)
    assert scaler.unscale({"p": p, "q": q, "r": r}) is True
    assert (p.grad[0], q.grad[0], r.grad) == (.5, 2, None) and scaler.good == 1
    for bad in (np.inf, np.nan):
        p.grad, q.grad, before = f32(4), f32(bad), scaler.scale
        assert scaler.unscale({"p": p, "q": q}) is False
        assert scaler.scale == before / 2 and scaler.good == 0


def test_the_scale_doubles_after_interval_good_passes_and_stays_between_its_limits():
    scaler = Scaler(2.0**22, interval=3)
    scales = []
    for _ in range(10):
        scaler.adapt(True)
        scales.append(math.log2(scaler.scale))
    assert scales == [22, 22, 23, 23, 23, 24, 24, 24, 24, 24]
    scaler.adapt(False)
    assert scaler.scale == 2.0**23 and scaler.good == 0 and scaler.overflows == 1
    scaler = Scaler(2.0**-23)
    scaler.adapt(False)
    assert scaler.scale == LOWEST
    with pytest.raises(FloatingPointError, match="not finite even at a scale.*lower rate"):
        scaler.adapt(False)
    fixed = Scaler(4, None)
    for finite in (False, True, False):
        fixed.adapt(finite)
    assert fixed.scale == 4 and fixed.overflows == 2


def test_a_scale_below_a_fixed_border_loses_one_pass_in_n_plus_1():
    scaler = Scaler(2.0**10, interval=4)
    for _ in range(1000):
        scaler.adapt(scaler.scale <= 2.0**10)
    assert scaler.overflows == 200


def test_accumulated_batches_are_each_unscaled_once():
    for scaler in (None, Scaler(2.0**12)):
        parameters, loss = quadratic(9.0, slope=.25)
        fit(parameters, loss if scaler is None else scaler.loss(loss, parameters), iter([1., 3]),
            SGD(parameters), Constant(1.0), steps=1, accumulate=2, clip=None)
        assert float(parameters["p"].data[0]) == 8.5


def test_an_overflow_in_one_of_several_batches_skips_the_whole_step():
    parameters, loss = quadratic(9.0, slope=1.0)
    scaler = Scaler(2.0**15)
    run = fit(parameters, scaler.loss(loss, parameters), iter([4., 1.]), SGD(parameters),
              Constant(1.0), steps=1, accumulate=2, clip=None)
    assert run.skipped == 1 and float(parameters["p"].data[0]) == 9
    assert scaler.state_dict() == {"scale": 2.0**14, "good": 1, "overflows": 1}


def test_a_parameter_out_of_this_batch_keeps_the_gradient_it_had():
    p, q = (Tensor(f32(1), requires_grad=True) for _ in range(2))
    q.grad, p.grad = f32(7), f32(1)
    Scaler(4).loss(lambda b: ((p * 3).sum(), 1), {"p": p, "q": q})(None)[0].backward()
    assert q.grad[0] == 7 and p.grad[0] == 4


def test_bad_scales_intervals_and_states_are_refused():
    for scale in (3, 0, -2, math.nan, math.inf, 2.0**25, 2.0**-25):
        with pytest.raises(ValueError, match="a power of two from 2\\^-24 to 2\\^24"):
            Scaler(scale)
    assert Scaler(HIGHEST).scale == HIGHEST and Scaler(LOWEST).scale == LOWEST
    assert (Scaler().scale, Scaler().interval) == (65536, 2000)
    with pytest.raises(ValueError, match="interval 0 must be at least 1"):
        Scaler(interval=0)
    Scaler(interval=1).adapt(True)
    a, b = Scaler(4, 5), Scaler(16, 5)
    a.adapt(False)
    a.adapt(True)
    assert a.state_dict() == {"scale": 2, "good": 1, "overflows": 1}
    b.load_state_dict(a.state_dict())
    assert b.state_dict() == a.state_dict()
    for bad in ({"scale": 3}, {"good": -1}, {"overflows": -1}):
        with pytest.raises(ValueError, match="at least 0|power of two"):
            b.load_state_dict(a.state_dict() | {"scale": 8} | bad)
        assert b.state_dict() == a.state_dict()
    b.load_state_dict({"scale": 8, "good": 0, "overflows": 0})
    assert b.scale == 8


def test_half_weights_lose_small_updates_and_stochastic_ones_keep_them_on_average():
    def run(rng, steps=64):
        p = Tensor(np.full(4000, 1.0, np.float32), requires_grad=True)
        optimizer = HalfWeights(SGD({"p": p}), rng)
        for _ in range(steps):
            p.grad = np.full(4000, -1.0, np.float32)
            optimizer.step(2.0**-10)
            assert np.array_equal(p.data, rounded(p.data, BF16))
        return p.data
    assert (run(None) == 1).all()
    drawn = run(np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(1 + 64 / 1024, abs=2e-3)


def test_half_weights_begin_rounded_and_pass_the_state_on():
    p = Tensor(f32(1 / 3), requires_grad=True)
    inner = AdamW({"p": p})
    optimizer = HalfWeights(inner)
    assert p.data[0] == decode(0x3EAB, BF16) and optimizer.parameters["p"] is p
    p.grad = f32(1)
    optimizer.step(.1)
    state = {k: np.copy(v) for k, v in optimizer.state_dict().items()}
    assert state["t"][0] == 1 and state.keys() == inner.state_dict().keys()
    state["t"][0] = 5
    optimizer.load_state_dict(state)
    assert inner.t["p"] == 5


def test_numpy_adds_up_a_product_of_float16_in_float32():
    ones = np.ones((1, 5000), np.float16)
    assert (ones @ ones.T)[0, 0] == 5000                       # float16 itself would stop at 2048


def test_underflow_counts_zeros_subnormals_and_infinities():
    g = f32(0, 1e-8, 1e-6, -1, 1e5)
    assert study.underflow(g, 1) == [.25, .25, .25]
    assert study.underflow(g, 2.0**-1) == [.25, .25, 0]
    assert study.underflow(g, 2.0**16) == [0, 0, .5]


def test_the_run_that_stalls_without_scaling_trains_with_it():
    result = measure(fast=True, seed=0)
    ways = {way[0]: way for way in result.ways}
    full, bare, scaled = (np.mean(ways[name][1]) for name in (
        "float32", "float16, loss / 4,096", "float16, loss / 4,096, scaled"))
    assert bare > full + .15 and abs(scaled - full) < .05
    full, nearest, stochastic = result.late[0]
    assert full[2] < .01 < stochastic[2] < nearest[2]
    assert nearest[0] == stochastic[0] != full[0]
    gained = [before - after for before, after, _ in result.late[0]]
    assert abs(gained[2] - gained[0]) < abs(gained[1] - gained[0])
    assert result.lost.keys() == {"nearest", "stochastic"}
    assert full[1] < 4.5 and 2.5 < result.counting < 3.5
    at = dict(zip(result.scales, result.underflow, strict=True))
    assert at[0][0] > at[8][0] > at[16][0]
    assert result.gradients > 0 and sum(result.histogram[1]) == pytest.approx(1, abs=1e-6)
