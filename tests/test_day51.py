"""Day 51 · Mixture of experts: by hand, against a dense mixture, finite differences and counts."""

import dataclasses
import math

import numpy as np
import pytest

from days.day48.small import Texts, nats
from days.day51 import look
from days.day51 import small as gpts
from days.day51.run import SHOWN, THINGS, measure
from experiments import moe as experiment
from llm.data.batches import sliding_windows
from llm.data.text import Corpus
from llm.functions import routing
from llm.functions.dense import gelu, silu
from llm.functions.probability import entropy, softmax
from llm.grad import ops
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor, no_grad
from llm.layers import moe as layer
from llm.layers.block import FeedForward
from llm.layers.gated import SwiGLU
from llm.layers.moe import Experts, MoE
from llm.models import moe as model
from llm.models.gpt import GPT
from llm.models.moe import MoEConfig, MoEGPT
from llm.tokens.chars import CharTokenizer
from llm.train.fast_gated import fast

PROBABILITIES = np.array([[.6, .3, .1], [.5, .1, .4], [.2, .7, .1], [.4, .25, .35]])


@pytest.fixture
def rng():
    return np.random.default_rng(51)


def wide(module):
    """Every parameter in float64."""
    for p in module.named_parameters().values():
        p.data = p.data.astype(np.float64)
    return module


def expert(part, i, x):
    """Expert i on rows x, in float64 and without any routing."""
    w = {name: p.data[i].astype(np.float64) for name, p in
         part.experts.named_parameters().items()}
    inner = gelu(x @ w["up"]) if part.experts.gate is None else silu(x @ w["gate"]) * (
        x @ w["up"])
    return inner @ w["down"]


def mixture(part, x):
    """The layer by its formula: token by token, all experts computed, those not chosen times 0."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    for t, row in enumerate(x):
        p = softmax(row @ part.router.w.data.astype(np.float64))
        chosen = sorted(range(part.N), key=lambda i: (-(p + part.bias)[i], i))[:part.k]
        total = sum(p[i] for i in chosen) if part.renormalise else 1
        for i in chosen:
            out[t] += p[i] / total * expert(part, i, row)
    return out


# --- by hand -----------------------------------------------------------------------------------

def test_the_example_by_hand_choice_and_dispatch():
    """Four tokens, three experts, k = 2; then with room for two rows each."""
    experts = routing.choose(PROBABILITIES, 2)
    assert experts.tolist() == [[0, 1], [0, 2], [1, 0], [0, 2]]
    plan = routing.assign(experts, 3)
    assert plan.rows.tolist() == [0, 1, 3, 2, 2, 0, 1, 3]
    assert plan.ranks.tolist() == [0, 0, 0, 1, 0, 1, 1, 1]
    assert plan.where.tolist() == [[0, 5], [1, 6], [4, 3], [2, 7]]
    assert plan.counts.tolist() == plan.wanted.tolist() == [4, 2, 2] and plan.dropped == 0

    assert routing.capacity_of(4, 3, 2, .75) == 2
    plan = routing.assign(experts, 3, 2)
    assert plan.rows.tolist() == [0, 1, 2, 0, 1, 3] and plan.counts.tolist() == [2, 2, 2]
    assert plan.where.tolist() == [[0, 3], [1, 4], [2, 6], [6, 5]]       # 6: dropped
    assert plan.wanted.tolist() == [4, 2, 2] and plan.dropped == .25


def test_the_example_by_hand_gates_and_balance():
    """Experts that multiply by 1, 10, 100: answers are read off."""
    part = MoE(1, 1, np.random.default_rng(0), N=3, k=2)
    part.router = lambda x: Tensor(np.log(PROBABILITIES))
    part.experts = lambda rows, counts: rows * np.repeat([1.0, 10, 100], counts)[:, None]
    x = Tensor(np.ones((4, 1)))
    assert part(x).data[:, 0] == pytest.approx([4, 45, 8, 47.2])
    assert part.last.gates.data[0] == pytest.approx([2 / 3, 1 / 3])
    assert part.last.load.tolist() == [.5, .25, .25]
    assert float(part.balance_loss().data) == pytest.approx(1.06875)
    part.renormalise = False
    assert part(x).data[:, 0] == pytest.approx([3.6, 40.5, 7.2, 35.4])
    part.renormalise, part.capacity = True, .75
    assert part(x).data[:, 0] == pytest.approx([4, 45, 70 / 9, 3500 / 75])


def test_the_example_by_hand_gradient_of_two_gates():
    """p = (.6, .3, .1): raw gates tell every logit, renormalised ones the two chosen alone."""
    z = Tensor(np.log(PROBABILITIES[:1]), requires_grad=True)
    p = ops.softmax(z)[0]
    (p[0] * 1 + p[1] * 10).backward()
    assert z.grad[0] == pytest.approx([-1.56, 1.92, -.36])
    z.grad = None
    p = ops.softmax(z)[0]
    ((p[0] * 1 + p[1] * 10) / (p[0] + p[1])).backward()
    assert z.grad[0] == pytest.approx([-2, 2, 0])


# --- routing -----------------------------------------------------------------------------------

@pytest.mark.parametrize("T,N,k", [(1, 1, 1), (1, 4, 4), (7, 3, 2), (50, 8, 2), (20, 5, 5)])
def test_every_choice_has_one_place_and_every_place_one_choice(rng, T, N, k):
    experts = routing.choose(rng.standard_normal((T, N)), k)
    for capacity in (None, 1, 3, T):
        plan = routing.assign(experts, N, capacity)
        assert (np.diff(experts[plan.rows, plan.ranks]) >= 0).all()
        assert np.bincount(experts[plan.rows, plan.ranks], minlength=N).tolist() == (
            plan.counts.tolist())
        kept = plan.where < len(plan.rows)
        assert kept.sum() == len(plan.rows) == plan.counts.sum()
        for t, j in np.argwhere(kept):
            assert (plan.rows[plan.where[t, j]], plan.ranks[plan.where[t, j]]) == (t, j)
        assert (plan.where[~kept] == len(plan.rows)).all()
        assert plan.wanted.sum() == k * T and plan.wanted.shape == (N,)
        assert plan.dropped == pytest.approx(1 - kept.mean())
        if capacity is None or capacity == T:
            assert kept.all()
        else:
            assert (plan.counts == np.minimum(plan.wanted, capacity)).all()


def test_first_choices_come_before_second_ones_and_early_tokens_before_late_ones(rng):
    experts = routing.choose(rng.standard_normal((40, 4)), 2)
    plan, left = routing.assign(experts, 4, 12), [12] * 4
    for j in range(2):
        for t in range(40):
            served = plan.where[t, j] < len(plan.rows)
            assert served == (left[experts[t, j]] > 0)
            left[experts[t, j]] -= served


def test_ties_go_to_the_lower_number():
    assert routing.choose(np.zeros((2, 4)), 3).tolist() == [[0, 1, 2]] * 2
    assert routing.choose(np.array([[1.0, 2, 2, 1, 2]]), 4).tolist() == [[1, 2, 4, 0]]
    scores = np.random.default_rng(0).integers(0, 2, (50, 200)).astype(float)
    for row, chosen in zip(scores, routing.choose(scores, 5), strict=True):
        assert chosen.tolist() == np.flatnonzero(row)[:5].tolist()


def test_capacity_is_the_mean_load_times_a_factor_rounded_up():
    assert routing.capacity_of(8, 4, 1, 1) == 2 and routing.capacity_of(9, 4, 1, 1) == 3
    assert routing.capacity_of(8, 4, 2, 1.25) == 5 and routing.capacity_of(1, 8, 2, 1) == 1
    assert routing.capacity_of(50, 1, 1, 1.1) == 55 < 1.1 * 50     # 55.00000000000001 as a float
    assert routing.capacity_of(1024, 8, 2, .5) == 128 and routing.capacity_of(0, 2, 1, 1) == 0
    assert routing.capacity_of(1000, 1, 1, 1.0001) == 1001


def test_one_token_too_many_is_dropped():
    """Three rows for one expert with room for two."""
    for T, dropped in ((2, 0), (3, 1 / 3)):
        plan = routing.assign(np.zeros((T, 1), int), 2, 2)
        assert plan.dropped == pytest.approx(dropped) and plan.counts.tolist() == [2, 0]


def test_dispatch_and_combine_are_transposes_of_each_other(rng):
    plan = routing.assign(routing.choose(rng.standard_normal((9, 4)), 2), 4, 4)
    assert 0 < plan.dropped < 1
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((len(plan.rows), 3))
    assert (routing.dispatch(x, plan)[0] * y).sum() == pytest.approx(
        (x * routing.combine(y, np.ones((9, 2)), plan)[0]).sum())


@pytest.mark.parametrize("capacity", [None, 2])
def test_gradients_of_the_pairs_equal_finite_differences(rng, capacity):
    plan = routing.assign(routing.choose(rng.standard_normal((7, 4)), 2), 4, capacity)
    M = len(plan.rows)
    check_pair(routing.dispatch, routing.dispatch_vjp, rng.standard_normal((7, 3)), plan, rng=rng)
    check_pair(routing.combine, routing.combine_vjp, rng.standard_normal((M, 3)),
               rng.standard_normal((7, 2)), plan, rng=rng)
    check_pair(routing.grouped_linear, routing.grouped_linear_vjp, rng.standard_normal((M, 3)),
               rng.standard_normal((4, 3, 5)), plan.counts, rng=rng)
    check_pair(routing.z_loss, routing.z_loss_vjp, 3 * rng.standard_normal((7, 4)), rng=rng)


def test_grouped_linear_is_one_product_for_each_expert(rng):
    w, counts = rng.standard_normal((4, 3, 5)), np.array([2, 0, 3, 1])
    x = rng.standard_normal((6, 3))
    out, saved = routing.grouped_linear(x, w, counts)
    assert out == pytest.approx(np.concatenate([x[:2] @ w[0], x[2:5] @ w[2], x[5:] @ w[3]]))
    dx, dw, none = routing.grouped_linear_vjp(np.ones((6, 5)), *saved)
    assert (dw[1] == 0).all() and (dw[[0, 2, 3]] != 0).all() and none is None
    assert routing.grouped_linear(x.astype(np.float32), w.astype(np.float32), counts)[
        0].dtype == np.float32
    assert routing.spans(counts) == [slice(0, 2), slice(2, 2), slice(2, 5), slice(5, 6)]


def test_the_z_loss_is_the_mean_square_of_the_log_of_the_sum(rng):
    z = rng.standard_normal((5, 3))
    assert routing.z_loss(z)[0] == pytest.approx(
        np.mean(np.log(np.exp(z).sum(-1)) ** 2))
    assert routing.z_loss(np.full((2, 4), -math.log(4)))[0] == pytest.approx(0, abs=1e-20)
    assert routing.z_loss(np.full((2, 4), 1000.0))[0] == pytest.approx((1000 + math.log(4)) ** 2)


# --- the layer ---------------------------------------------------------------------------------

@pytest.mark.parametrize("gated", [True, False], ids=["swiglu", "gelu"])
@pytest.mark.parametrize("N,k,renormalise", [(1, 1, True), (4, 1, False), (4, 2, True),
                                             (4, 2, False), (5, 4, True)])
def test_the_layer_equals_its_formula_token_by_token(rng, N, k, renormalise, gated):
    part = MoE(6, 5, rng, N, k, renormalise, gated)
    part.bias[:] = .1 * rng.standard_normal(N)
    x = rng.standard_normal((2, 7, 6))
    want = mixture(part, x.reshape(14, 6)).reshape(x.shape)
    assert wide(part)(Tensor(x)).data == pytest.approx(want)
    x32 = Tensor(x.astype(np.float32))
    part32 = MoE(6, 5, np.random.default_rng(0), N, k, renormalise, gated)
    want = mixture(part32, x32.data.reshape(14, 6)).reshape(x.shape)
    for context in (no_grad, fast):
        with context():
            out = part32(x32).data
        assert out.dtype == np.float32 and out == pytest.approx(want, abs=1e-5)


def test_with_all_experts_chosen_it_is_the_dense_mixture(rng):
    """k = N: softmax(router) over every expert's answer, whether gates are renormalised or not."""
    x = rng.standard_normal((9, 6))
    for renormalise in (True, False):
        part = wide(MoE(6, 5, np.random.default_rng(1), 4, 4, renormalise))
        p = softmax(x @ part.router.w.data)
        want = sum(p[:, i:i + 1] * expert(part, i, x) for i in range(4))
        assert part(Tensor(x)).data == pytest.approx(want, rel=1e-12)


def test_one_expert_is_the_plain_feed_forward(rng):
    x = Tensor(rng.standard_normal((3, 6)).astype(np.float32))
    part, plain = MoE(6, 5, rng, 1, 1), SwiGLU(6, 5, rng)
    for name in ("gate", "up", "down"):
        plain.get(name).w.data = getattr(part.experts, name).data[0]
    assert part(x).data == pytest.approx(plain(x).data, abs=1e-6)
    part, plain = MoE(6, 24, rng, 1, 1, gated=False), FeedForward(6, rng)
    for name in ("up", "down"):
        plain.get(name).w.data = getattr(part.experts, name).data[0]
    assert part(x).data == pytest.approx(plain(x).data, abs=1e-6)


def test_equal_experts_are_the_plain_feed_forward_whatever_is_chosen(rng):
    part, plain = MoE(6, 5, rng, 4, 2), SwiGLU(6, 5, rng)
    for name in ("gate", "up", "down"):
        getattr(part.experts, name).data[:] = plain.get(name).w.data
    x = Tensor(rng.standard_normal((30, 6)).astype(np.float32))
    assert part(x).data == pytest.approx(plain(x).data, abs=1e-5)


def test_a_dropped_token_keeps_its_residual(rng):
    """Room for one row an expert, and all tokens alike: only the first is served."""
    config = small(capacity=1e-6, k=1, renormalise=False, N=4)
    block = model.make_block(config, rng)
    assert type(block.think) is model.Routed
    stream = Tensor(np.tile(rng.standard_normal(config.C).astype(np.float32), (1, 5, 1)))
    out = block.think(stream).data
    assert (out[0, 1:] == stream.data[0, 1:]).all() and (out[0, 0] != stream.data[0, 0]).any()
    plan = block.think.inner.last.plan
    assert len(plan.rows) == 1 and plan.dropped == pytest.approx(.8)


def test_a_dropped_second_choice_leaves_the_first_as_it_was(rng):
    part = wide(MoE(6, 5, rng, 4, 2))
    x = Tensor(rng.standard_normal((20, 6)))
    part(x)
    full, gates = part.last, part.last.gates.data
    part.capacity = .8
    out = part(x).data
    kept = part.last.plan.where < len(part.last.plan.rows)
    assert 0 < kept.mean() < 1 and (part.last.gates.data == gates).all()
    want = sum(np.where(kept[:, j], gates[:, j], 0)[:, None] * np.stack(
        [expert(part, full.experts[t, j], x.data[t]) for t in range(20)]) for j in range(2))
    assert out == pytest.approx(want)


@pytest.mark.parametrize("options", [{"k": 2}, {"k": 1, "renormalise": False}, {"k": 3},
                                     {"k": 2, "renormalise": False, "gated": False},
                                     {"k": 2, "capacity": .7}])
def test_gradients_equal_finite_differences_away_from_ties(rng, options):
    part = wide(MoE(4, 3, rng, N=3, std=.8, **options))
    x = Tensor(rng.standard_normal((8, 4)), requires_grad=True)
    weights = rng.standard_normal((8, 4))

    def loss():
        return (part(x) * weights).sum() + part.balance_loss() * .3 + part.z_loss() * .2

    loss().backward()
    chosen, gap = part.last.experts, np.sort(part.last.probabilities.data, axis=1)
    assert np.diff(gap, axis=1).min() > 1e-4                       # no step of 6e-6 makes a tie
    for p in [x, *part.named_parameters().values()]:
        numeric = numerical_gradient(lambda _: loss().data, p.data)
        assert (part.last.experts == chosen).all()
        assert p.grad == pytest.approx(numeric, rel=1e-5, abs=1e-8)


def test_the_router_learns_through_the_gates(rng):
    part = wide(MoE(4, 3, rng, N=3, k=1, renormalise=False))
    x = rng.standard_normal((6, 4))
    out = part(Tensor(x))
    out.backward(np.ones((6, 4)))
    p, e = part.last.probabilities.data, part.last.experts[:, 0]
    answers = np.stack([expert(part, i, row) for i, row in zip(e, x)]).sum(1)   # ⟨dout, E(x)⟩
    dz = answers[:, None] * p[np.arange(6), e, None] * (np.eye(3)[e] - p)
    assert part.router.w.grad == pytest.approx(x.T @ dz) and np.abs(dz).max() > 1e-3


def test_with_one_renormalised_gate_the_router_learns_nothing(rng):
    with pytest.raises(ValueError, match="no gradient.*renormalise=False"):
        MoE(4, 3, rng, N=3, k=1)
    part = wide(MoE(4, 3, rng, N=3, k=2))
    part.k = 1                                                     # behind the guard's back
    part(Tensor(rng.standard_normal((6, 4)))).backward(rng.standard_normal((6, 4)))
    assert (part.last.gates.data == 1).all()
    assert np.abs(part.router.w.grad).max() < 1e-15
    assert np.abs(part.experts.up.grad).max() > 1e-3


def test_renormalised_gates_are_the_softmax_of_the_chosen_logits(rng):
    part = wide(MoE(4, 3, rng, N=5, k=3))
    part(Tensor(rng.standard_normal((6, 4)))).backward(rng.standard_normal((6, 4)))
    logits = np.take_along_axis(part.last.logits.data, part.last.experts, 1)
    assert part.last.gates.data == pytest.approx(softmax(logits))
    assert part.last.gates.data.sum(1) == pytest.approx(1)


def test_experts_that_nobody_chooses_get_a_gradient_of_zero(rng):
    part = MoE(4, 3, rng, N=6, k=2)
    part.bias[:] = [9, 0, 8, 0, 0, 0]
    out = part(Tensor(rng.standard_normal((5, 4)).astype(np.float32)))
    out.backward(np.ones((5, 4), np.float32))
    assert part.last.plan.counts.tolist() == [5, 0, 5, 0, 0, 0]
    idle = [1, 3, 4, 5]
    for p in part.experts.named_parameters().values():
        assert (p.grad[idle] == 0).all() and (p.grad[[0, 2]] != 0).any()


def test_no_tokens_give_no_tokens(rng):
    part = MoE(4, 3, rng, N=3, k=2, capacity=1.0)
    assert part(Tensor(np.ones((0, 4), np.float32))).shape == (0, 4)
    assert part.last.plan.dropped == 0 and part.last.load.tolist() == [0, 0, 0]


# --- balance -----------------------------------------------------------------------------------

def balance(probabilities, k=1):
    """N·Σ fᵢPᵢ of these probabilities, by the layer."""
    T, N = probabilities.shape
    part = wide(MoE(2, 2, np.random.default_rng(0), N, k, renormalise=False))
    part.router = lambda x: Tensor(np.log(probabilities))
    part(Tensor(np.ones((T, 2))))
    return float(part.balance_loss().data), part


def test_balance_is_one_where_the_load_is_even_and_n_where_one_expert_does_all(rng):
    for N in (2, 4, 8):
        uneven = rng.dirichlet(np.ones(N), 10 * N)
        even = np.concatenate([np.roll(uneven, i, axis=1) for i in range(N)])
        value, part = balance(even)
        assert part.last.load == pytest.approx(1 / N) and value == pytest.approx(1)
        # an even load alone is enough, whatever P is
        lopsided = softmax(np.where(np.eye(N, dtype=bool), 5.0, [3.0] + [0] * (N - 1)))
        value, part = balance(lopsided)
        assert part.last.load == pytest.approx(1 / N) and value == pytest.approx(1)
        assert np.ptp(part.last.probabilities.data.mean(0)) > .05
        collapsed = np.full((20, N), 1e-12)
        collapsed[:, 1] = 1
        assert balance(collapsed / collapsed.sum(1, keepdims=True))[0] == pytest.approx(N)
        if N > 2:
            collapsed[:, 2] = .9999999
            assert balance(collapsed / collapsed.sum(1, keepdims=True), k=2)[0] == pytest.approx(
                N / 2, rel=1e-5)


def test_balance_is_not_bounded_by_one():
    """m experts do all the work, and every token likes the idle ones as well as its own."""
    for N, least in ((2, 1), (3, .75), (4, 2 / 3), (8, .4), (16, 2 / 9)):
        m = (N + 1) // 2
        p = np.zeros((m, N))
        p[:, m:] = 1 - 1e-9
        p[range(m), range(m)] = 1
        p = (p + 1e-15) / (p + 1e-15).sum(1, keepdims=True)
        value, part = balance(p)
        assert (part.last.load > 0).sum() == m
        assert value == pytest.approx(N / (m * (N - m + 1)), rel=1e-6) == pytest.approx(least)
    assert balance(np.array([[.51, .49]] * 3 + [[1e-15, 1]] * 2))[0] == pytest.approx(.9224)
    undecided = softmax(1e-6 * np.eye(5)[[0] * 20])                # one expert does all, L ≈ 1
    value, part = balance(undecided)
    assert part.last.load.tolist() == [1, 0, 0, 0, 0] and value == pytest.approx(1, abs=1e-5)
    best = balance(np.array([[.5 + 1e-12, .5 - 1e-12]] * 3 + [[1e-15, 1]]))[0]
    assert best == pytest.approx(7 / 8)


def test_no_loads_were_found_with_a_lower_balance_loss(rng):
    """Given the loads, the lowest: a token spreads over its own expert and the least busy ones."""
    def lowest(f):
        total = 0
        for i, own in enumerate(f):
            others = np.sort(np.delete(f, i))
            means = (own + np.cumsum([0, *others])) / np.arange(1, len(f) + 1)
            total += own * means.min()
        return len(f) * total

    for N in (2, 3, 4, 7, 8):
        m = (N + 1) // 2
        bound = 7 / 8 if N == 2 else N / (m * (N - m + 1))
        assert lowest(np.array([1 / m] * m + [0] * (N - m))) >= bound - 1e-12
        best = min(lowest(f) for scale in (.2, 1, 5)
                   for f in rng.dirichlet(np.full(N, scale), 300))
        assert best >= bound - 1e-12 and best < 1


def test_balance_is_at_least_the_sum_of_the_squared_loads(rng):
    for _ in range(200):
        T, N = rng.integers(1, 12), rng.integers(2, 9)
        value, part = balance(rng.dirichlet(np.full(N, rng.choice([.1, 1, 10])), T) * .999
                              + .001 / N)
        assert value >= (part.last.load ** 2).sum() - 1e-12 and value <= N + 1e-9


def test_the_gradient_of_balance_pushes_the_busy_experts_down(rng):
    """∂/∂z[t, j] = (N/T) · p[t, j] · (f[j] − Σ f·p[t]); none at all where the load is even."""
    z = Tensor(rng.standard_normal((9, 4)), requires_grad=True)
    part = wide(MoE(2, 2, rng, 4, 2))
    part.router = lambda x: z
    part(Tensor(np.ones((9, 2))))
    part.balance_loss().backward()
    p, f = softmax(z.data), part.last.load
    assert z.grad == pytest.approx(4 / 9 * p * (f - (p @ f)[:, None]))
    z = Tensor(np.log(np.eye(4) * .5 + .1), requires_grad=True)
    part = wide(MoE(2, 2, rng, 4, 1, renormalise=False))
    part.router = lambda x: z
    part(Tensor(np.ones((4, 2))))
    part.balance_loss().backward()
    assert np.abs(z.grad).max() < 1e-15


def test_descending_on_balance_balances(rng):
    part = MoE(8, 2, rng, N=4, k=1, renormalise=False)
    part.router.w.data += 2 * rng.standard_normal(4).astype(np.float32) * np.ones((8, 1), "f")
    x = Tensor((rng.standard_normal((200, 8)) + .5).astype(np.float32))
    part(x)
    before = part.last.load.max()
    for _ in range(300):
        part.router.w.grad = None
        part(x)
        part.balance_loss().backward()
        part.router.w.data -= part.router.w.grad
    assert before > .6 and part.last.load.max() < .4


def test_the_bias_moves_the_choice_and_not_the_gates(rng):
    part = MoE(4, 3, rng, N=4, k=2)
    x = Tensor((rng.standard_normal((200, 4)) + 1).astype(np.float32))
    part(x)
    p, load = part.last.probabilities.data, part.last.load
    part.rebalance(.01)
    assert part.bias == pytest.approx(.01 * np.sign(.25 - load)) and part.bias.dtype == np.float32
    assert "bias" in part.state_dict() and "bias" not in part.named_parameters()
    for _ in range(200):
        part(x)
        part.rebalance(.002)
    assert np.ptp(part.last.load) < .5 * np.ptp(load) and (part.last.probabilities.data == p).all()
    chosen = np.take_along_axis(p, part.last.experts, 1)
    assert part.last.gates.data == pytest.approx(chosen / chosen.sum(1, keepdims=True))
    part.bias[:] = 0
    part.last = dataclasses.replace(part.last, plan=dataclasses.replace(
        part.last.plan, wanted=np.full(4, 100)))
    part.rebalance(.01)
    assert (part.bias == 0).all()                                  # an even load moves nothing


def test_jitter_moves_what_the_router_sees_and_nothing_else(rng):
    part = wide(MoE(4, 3, rng, N=4, k=4, jitter=.3))
    x = Tensor(rng.standard_normal((200, 4)))
    plain = part(x)
    calm = part.last.logits.data
    assert (part(x).data == plain.data).all()                      # no rng: none
    part(x, np.random.default_rng(0))
    seen = part.last.logits.data @ np.linalg.pinv(part.router.w.data)
    ratio = seen / x.data
    assert ratio.min() >= .7 - 1e-9 and ratio.max() <= 1.3 + 1e-9
    assert ratio.mean() == pytest.approx(1, abs=.03) and ratio.std() == pytest.approx(
        .3 / math.sqrt(3), rel=.05)
    part.jitter = 0
    part(x, np.random.default_rng(0))
    assert (part.last.logits.data == calm).all()


# --- errors ------------------------------------------------------------------------------------

def test_bad_arguments_raise_and_say_what_is_wanted(rng):
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"\(5, 3\).*k = {k}"):
            routing.choose(np.zeros((5, 3)), k)
        with pytest.raises(ValueError, match=f"k = {k} experts of N = 3"):
            MoE(4, 3, rng, N=3, k=k)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        routing.choose(np.zeros(3), 1)
    for jitter in (-.1, 1, 2):
        with pytest.raises(ValueError, match=f"jitter {jitter}"):
            MoE(4, 3, rng, N=3, k=2, jitter=jitter)
    for factor in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"capacity factor.*{factor}"):
            MoE(4, 3, rng, N=3, k=2, capacity=factor)
    for experts in (np.zeros(3, int), np.zeros((3, 1)), np.array([[3]]), np.array([[-1]])):
        with pytest.raises(ValueError, match=r"integers of 0 … 2"):
            routing.assign(experts, 3)
    assert routing.assign(np.array([[2, 0]]), 3).counts.tolist() == [1, 0, 1]
    plan = routing.assign(np.array([[0, 1]]), 3)
    for y, gate in ((np.ones((3, 4)), np.ones((1, 2))), (np.ones((2, 4)), np.ones((1, 3)))):
        with pytest.raises(ValueError, match=r"combine: 2 kept"):
            routing.combine(y, gate, plan)
    good = np.ones((3, 4)), np.ones((2, 4, 5)), np.array([1, 2])
    for i, wrong in ((0, np.ones((3, 5))), (1, np.ones((4, 5))), (2, np.array([1, 1])),
                     (2, np.array([1, 1, 1])), (0, np.ones(3))):
        args = list(good)
        args[i] = wrong
        with pytest.raises(ValueError, match="grouped_linear: x"):
            routing.grouped_linear(*args)
    for ask in ("balance_loss", "z_loss", "decided"):
        with pytest.raises(ValueError, match="call it first"):
            getattr(MoE(4, 3, rng), ask)()


def test_the_defaults(rng):
    part = MoE(4, 3, rng)
    assert (part.N, part.k, part.renormalise, part.capacity, part.jitter) == (8, 2, True, None, 0)
    shapes = {name: p.shape for name, p in part.named_parameters().items()}
    assert shapes == {"router.w": (4, 8), "experts.gate": (8, 4, 3), "experts.up": (8, 4, 3),
                      "experts.down": (8, 3, 4)}
    assert all(p.dtype == np.float32 for p in part.named_parameters().values())
    config = MoEConfig()
    assert (config.N, config.k, config.renormalise, config.gated, config.capacity, config.jitter,
            config.balance, config.z) == (8, 2, True, True, None, 0, .01, 0)


def test_the_experts_start_with_the_spread_they_are_told_and_differ(rng):
    usual = Experts(4, 100, 144, rng)
    spread = [p.data.std() for p in (usual.gate, usual.up, usual.down)]
    assert spread == pytest.approx([.1, .1, 1 / 12], rel=.02)
    told = MoE(100, 144, rng, 4, 2, std=.3, out_std=.02)
    spread = [p.data.std() for p in (told.router.w, told.experts.gate, told.experts.up,
                                     told.experts.down)]
    assert spread == pytest.approx([.3, .3, .3, .02], rel=.06)
    assert np.abs(usual.up.data[0] - usual.up.data[1]).mean() > .05


# --- the model ---------------------------------------------------------------------------------

def small(**changes):
    return MoEConfig(**{"V": 17, "T": 8, "C": 8, "L": 2, "H": 2, "F": 6, "N": 4, "rotary": True,
                        **changes})


def test_the_model_is_a_gpt_with_mixtures_in_its_blocks(rng):
    for changes in ({}, {"rotary": False, "gated": False, "k": 3}):
        config = small(**changes)
        gpt = MoEGPT(config, rng)
        assert isinstance(gpt, GPT) and [type(m) for m in gpt.mixtures()] == [MoE] * 2
        total, active = model.count_parameters(config)
        assert gpt.count_parameters() == total
        matrices = 3 if config.gated else 2
        assert total - active == 2 * (4 - config.k) * matrices * 8 * 6
        ids = rng.integers(0, 17, (3, 8))
        assert gpt(ids).shape == (3, 8, 17)
        assert list(gpt.generate([1, 2], 3, np.random.default_rng(0)))


def test_mixtral_has_47_billion_parameters_of_which_a_token_uses_13():
    """Its experts and routers, and a rest counted by hand: 8 of 32 heads are keys and values."""
    total, active = layer.count_parameters(4096, 14336, 8, 2)
    rest = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 2 * 4096) + 2 * 32000 * 4096 + 4096
    assert 32 * total + rest == 46_702_792_704
    assert 32 * active + rest == 12_879_925_248


def test_flops_count_active_weights_alone():
    assert layer.count_flops(8, 6, 4, 2) == 2 * (8 * 4 + 2 * 3 * 48) + 32
    assert layer.count_flops(8, 6, 4, 2, gated=False) == 2 * (8 * 4 + 2 * 2 * 48) + 32
    config = small()
    rest = 2 * (8 * 64 + 4 * 8 * 8) + 2 * 17 * 8
    assert model.count_flops(config) == rest + 2 * layer.count_flops(8, 6, 4, 2)
    assert model.count_flops(small(gated=False)) == rest + 2 * layer.count_flops(8, 6, 4, 2, False)


def test_the_objective_is_the_loss_and_the_routers_terms(rng):
    ids, targets = rng.integers(0, 17, (2, 3, 8))
    for weights in ({"balance": 0.0}, {}, {"balance": .5, "z": .25}):
        config = small(**weights)
        gpt = MoEGPT(config, np.random.default_rng(3))
        value = float(gpt.objective(ids, targets).data)
        extra = sum(config.balance * float(m.balance_loss().data)
                    + config.z * float(m.z_loss().data) for m in gpt.mixtures()) / 2
        assert value == pytest.approx(float(gpt.loss(ids, targets).data) + extra, rel=1e-6)
        assert extra > 0 or not weights.get("balance", 1)


def test_every_parameter_of_the_model_gets_its_gradient(rng):
    config = small(L=1, dropout=.2, jitter=.1, z=.1, balance=.2)
    gpt = wide(MoEGPT(config, rng, std=.5))
    ids, targets = rng.integers(0, 17, (2, 2, 8))

    def objective():
        return gpt.objective(ids, targets, np.random.default_rng(5))

    objective().backward()
    parameters = gpt.named_parameters()
    for name in ("blocks.0.think.inner.router.w", "blocks.0.think.inner.experts.down",
                 "blocks.0.mix.inner.qkv.w", "blocks.0.think.norm.gain"):
        p = parameters[name]
        assert p.grad == pytest.approx(numerical_gradient(lambda _: objective().data, p.data),
                                       rel=1e-4, abs=1e-7)
    assert all(p.grad is not None for p in parameters.values())


@pytest.mark.parametrize("dtype, digits", [(np.float16, 2e-2), (np.float32, 1e-6),
                                           (np.float64, 1e-6)])
@pytest.mark.parametrize("gated", [True, False])
def test_a_dtype_reaches_every_part_of_the_model(dtype, digits, gated):
    """As it does in a GPT: the same weights, rounded; logits, losses and gradients of that type."""
    usual, ours = (MoEGPT(small(gated=gated, balance=.1, z=.01), np.random.default_rng(3), std=.2,
                          dtype=t) for t in (np.float32, dtype))
    for name, p in usual.named_parameters().items():
        assert (ours.named_parameters()[name].data == p.data.astype(dtype)).all()
    ids = np.array([[1, 5, 16, 2]])
    losses = [gpt.objective(ids, ids) for gpt in (ours, usual)]
    losses[0].backward()
    assert ours(ids).dtype == losses[0].dtype == dtype
    assert all(p.grad.dtype == dtype and np.isfinite(p.grad).all()
               for p in ours.named_parameters().values())
    assert float(losses[0].data) == pytest.approx(float(losses[1].data), rel=digits)


def test_an_rng_reaches_dropout_and_jitter(rng):
    ids = rng.integers(0, 17, (2, 8))
    for changes in ({"jitter": .5}, {"dropout": .5}):
        gpt = MoEGPT(small(**changes), np.random.default_rng(0), std=.5)
        calm = gpt(ids).data
        assert (gpt(ids).data == calm).all()
        assert np.abs(gpt(ids, np.random.default_rng(1)).data - calm).max() > 1e-3


def test_the_models_parts_start_with_the_spread_they_are_told(rng):
    config = small(C=64, F=64, L=2)
    for options, std, out in (({}, .02, .01), ({"std": .1}, .1, .05),
                              ({"std": .1, "out_std": .2}, .1, .2)):
        block = MoEGPT(config, rng, **options).blocks[1]
        mix, part = block.mix.inner, block.think.inner
        spread = [mix.qkv.w.data.std(), mix.project.w.data.std(), part.router.w.data.std(),
                  part.experts.up.data.std(), part.experts.down.data.std()]
        assert spread == pytest.approx([std, std / 2, std, std, out], rel=.1)


def test_rebalance_moves_the_bias_of_every_block(rng):
    gpt = MoEGPT(small(), rng, std=.5)
    gpt.loss(rng.integers(0, 17, (2, 8)), rng.integers(0, 17, (2, 8)))
    gpt.rebalance(.02)
    assert all(np.abs(m.bias).max() == pytest.approx(.02) for m in gpt.mixtures())


def test_a_second_choice_can_be_lost_to_a_later_token(rng):
    """With room for all the past is enough; with capacity and k = 2 the future decides too."""
    config = small(L=1, N=2, F=4, k=2)
    later = 0
    for capacity in (None, 1.0, .5):
        gpt = MoEGPT(dataclasses.replace(config, capacity=capacity), np.random.default_rng(7),
                     std=1.0)
        ids = np.random.default_rng(8).integers(0, 17, (20, 1, 8))
        for row in ids:
            other = row.copy()
            other[0, 4:] = (other[0, 4:] + 5) % 17
            changed = np.abs(gpt(row).data[0, :4] - gpt(other).data[0, :4]).max()
            if capacity is None:
                assert changed < 1e-5
            later += changed > 1e-3
    assert later > 5


# --- the run and the experiment ------------------------------------------------------------------

@pytest.fixture(scope="module")
def tiny():
    """(plan, texts, tokenizer) on a made text."""
    text = "".join(np.random.default_rng(0).choice(list("abc de.\n"), 6000))
    plan = dataclasses.replace(gpts.Plan.small(), validate=1500)
    corpus = Corpus("made", text)
    return plan, Texts(plan, corpus), CharTokenizer.from_text(text)


def test_information_is_that_of_the_counts(rng):
    a = rng.integers(0, 4, (50, 8))
    assert look.information(a, a) == pytest.approx(entropy(np.bincount(a.ravel()) / a.size))
    assert look.information(a, np.zeros_like(a)) == pytest.approx(0, abs=1e-12)
    assert look.information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert look.information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1])) == pytest.approx(
        math.log(2) - .75 * math.log(3) + .5 * math.log(2))
    b = rng.integers(0, 30, a.shape)
    assert 0 < look.information(a, b) == pytest.approx(look.information(b, a))


def test_dependence_finds_what_a_router_looks_at(tiny):
    """A router that looks at the token, at the one before, or at the place."""
    plan, texts, _ = tiny
    gpt = gpts.make_model(plan, texts.V, gpts.MAIN, np.random.default_rng(0))
    layer_, T = gpt.mixtures()[0], plan.T
    inputs = next(sliding_windows(texts.report, 256, T, T))[0]
    before = np.roll(inputs, 1, axis=1)
    place = np.broadcast_to(np.arange(T), inputs.shape)
    for which, seen in ((0, inputs % 7), (1, before % 7), (3, place % 8)):
        layer_.router = lambda x, seen=seen: Tensor(
            9 * np.eye(gpts.N, dtype=np.float32)[seen.ravel()])
        shares = look.dependence(gpt, texts.report, T, np.random.default_rng(0))[0]
        assert shares[which] == pytest.approx(1) and max(np.delete(shares, which)) < .3
        assert 0 < shares[4] < .1


def test_favourites_are_the_over_represented_tokens(tiny):
    plan, texts, tokenizer = tiny
    gpt = gpts.make_model(plan, texts.V, gpts.MAIN, np.random.default_rng(0))
    inputs = next(sliding_windows(texts.report, 256, plan.T, plan.T))[0]
    gpt.mixtures()[0].router = lambda x: Tensor(
        9 * np.eye(gpts.N, dtype=np.float32)[inputs.ravel() // 2])
    for i, (share, top) in enumerate(look.favourites(gpt, texts.report, plan.T, tokenizer)[0]):
        mine = [look.visible(tokenizer.decode([t])) for t in range(texts.V) if t // 2 == i]
        assert {t for t, _ in top} == set(mine)
        assert share == pytest.approx((inputs // 2 == i).mean())
        assert all(times == pytest.approx(1 / share) for _, times in top)


def test_what_cannot_be_seen_is_shown():
    assert look.visible("a b\nc") == "a␣b⏎c"


def test_dropped_shares_are_those_of_the_plan(tiny, rng):
    plan, texts, _ = tiny
    gpt = gpts.make_model(plan, texts.V, gpts.MAIN, np.random.default_rng(0))
    free = look.limited(gpt, texts.report, plan, 8.0)
    assert free[0] == 0 and free[1] == pytest.approx(nats(gpt, texts.report, plan.T))
    assert look.limited(gpt, texts.report, plan, .5)[0] >= .5 - 1e-9
    assert all(m.capacity is None for m in gpt.mixtures())
    lost = look.places(gpt, texts.report, plan, .5)
    assert lost.shape == (plan.B, 2) and (lost[0] <= lost[-1]).all()
    # a binomial load: what stands above the mean, by the normal curve
    wide_plan = gpts.Plan()
    chance = look.by_chance(wide_plan, 2, 1.0, rng)
    assert chance == pytest.approx(math.sqrt(.75 / (2 * math.pi * 256)), rel=.1)


def test_the_variants_have_the_sizes_that_are_claimed():
    plan, sizes = gpts.Plan(), {}
    for variant in gpts.VARIANTS:
        gpt = gpts.make_model(plan, 84, variant, np.random.default_rng(0))
        sizes[variant] = experiment.sizes(plan, 84, variant)
        fixed = 512 if "fixed" in variant else 0
        assert gpt.count_parameters() == sizes[variant][0] - fixed
    dense, wide_, experts = (sizes[v] for v in ("dense", "dense, 4 times as wide",
                                                gpts.MAIN))
    assert experts[0] - wide_[0] == experts[1] - dense[1] == 2 * 32 * 8         # the routers
    assert dense[0] == dense[1] and 1 < experts[2] / dense[2] < 1.03
    assert wide_[2] / dense[2] == pytest.approx(2.474, abs=.001)


def test_a_variant_trains_as_it_is_called(tiny):
    plan, texts, _ = tiny
    for variant, learns, moves in ((gpts.MAIN, True, False),
                                   ("experts, biases", True, True),
                                   ("experts, fixed router", False, False)):
        start = gpts.make_model(plan, texts.V, variant, np.random.default_rng([3, 0]))
        gpt, _ = gpts.train(plan, texts, variant, 1e-2, 3)
        before, after = (m.mixtures()[0] for m in (start, gpt))
        assert (np.abs(before.router.w.data - after.router.w.data).max() > 1e-4) == learns
        assert (np.abs(after.bias).max() > 0) == moves
        assert np.abs(before.experts.up.data - after.experts.up.data).max() > 1e-4
    assert gpts.loads(gpts.make_model(plan, 9, "dense", np.random.default_rng(0)),
                            texts.report, plan) == []


def test_a_dense_model_begins_with_the_start_it_is_called_by():
    plan = gpts.Plan()
    std = {v: gpts.make_model(plan, 84, v, np.random.default_rng(0)).blocks[0]
           .think.inner.down.w.data.std() for v in list(gpts.VARIANTS)[:3]}
    usual, half, wide_ = std.values()
    assert usual == pytest.approx(32**-.5 / 2, rel=.05)
    assert half == pytest.approx(usual / 2) and wide_ == pytest.approx(usual, rel=.05)


def test_the_experiment_goes_on_where_it_stopped(tmp_path):
    path, plan = tmp_path / "moe-fast.json", gpts.Plan.small()
    plan = dataclasses.replace(plan, characters=20_000, steps=2, first_rates=(3e-3,))
    first = experiment.measure(plan, path)
    kept = path.read_bytes()
    assert experiment.measure(plan, path)["variants"] == first["variants"]
    assert path.read_bytes() == kept and len(first["compared"]) == len(experiment.COMPARED)
    names = {name for _, *sides in experiment.COMPARED for side in sides for name in side}
    assert names == set(gpts.VARIANTS) == set(first["variants"])
    for name, v in first["variants"].items():
        assert v["lowest"] <= v["mean"] <= v["highest"] and len(v["nats"]) == 2
        assert bool(v["busiest"]) == name.startswith("experts")


def test_the_headline_of_the_run():
    result = measure(fast=True, seed=0)
    assert [row[0] for row in result.history] == [row[0] for row in result.finals] == SHOWN
    for _, steps, found, values in result.history:
        assert len(steps) == len(found) == len(values) == 5
        assert np.sum(found, axis=-1) == pytest.approx(1, abs=1e-3)
    busiest = {name: value for name, _, value, *_ in result.finals}
    assert busiest["experts, α = 1"] < busiest["experts, α = 0"]
    for name, _, shares in result.dependence:
        assert len(shares) == len(THINGS) and 0 < min(shares) < max(shares) < 1, name
    dropped = np.array(result.capacity)[:, 1:4]
    assert (np.diff(dropped, axis=0) <= 0).all() and (dropped[-1] == 0).all()
    assert len(result.text) == len(result.colours[0]) and max(result.colours[0]) < result.experts
    assert all(ms > 0 for _, ms in result.steps)
    assert all(used <= min(result.experts, 2 * T) for T, *_, used in result.layers)
