"""Attention: against NumPy, over blocks against in one piece, its gradients, and what it needs of memory."""

import math

import numpy as np
import pytest
from helpers import close

import tracejit as tj
from tracejit.ops import attention as module

attend = tj.nn.scaled_dot_product_attention


def reference(q, k, v, mask=None, causal=False, scale=None):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    s = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    w = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = w.sum(-1, keepdims=True)
    return w @ v / np.where(total == 0, 1, total)


def operands(*shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def masks(lead, length, keys):
    rng = np.random.default_rng(5)
    some = rng.random((*lead, length, keys)) < 0.6
    some[..., 0, :] = False  # a query without keys
    yield from (None, some, some[..., :1, :] | True, rng.normal(size=(length, keys)), rng.random(keys) < 0.5)


@pytest.fixture(params=["whole", "in parts"])
def parts(request, monkeypatch):
    if request.param == "in parts":
        monkeypatch.setattr(module, "LARGE", 4)
        monkeypatch.setattr(module, "BLOCK", 3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("which", range(5))
def test_values_and_gradients(parts, which, causal):
    q, k, v, g = operands((2, 3, 7, 4), (2, 3, 6, 4), (2, 3, 6, 5), (2, 3, 7, 5))
    mask = [*masks((2, 3), 7, 6)][which]
    expected = reference(q, k, v, mask, causal)

    def f(q, k, v):
        with tj.GradientTape() as tape:
            tape.watch([q, k, v])
            y = attend(q, k, v, mask, is_causal=causal)
        return y, tape.gradient(y, [q, k, v], output_gradients=tj.constant(g))

    found = [f(*map(tj.constant, (q, k, v))), tj.function(f)(q, k, v)]
    for y, grads in found:
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)
        for i, x in enumerate((q, k, v)):
            d = np.random.default_rng(i).normal(size=x.shape)
            ends = [[a + s * 1e-6 * d if j == i else a for j, a in enumerate((q, k, v))] for s in (1, -1)]
            slope = np.sum(g * (reference(*ends[0], mask, causal) - reference(*ends[1], mask, causal))) / 2e-6
            assert np.sum(grads[i].numpy() * d) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    "shapes",
    [[(4, 3), (5, 3), (5, 2)], [(1, 1), (1, 1), (1, 1)], [(0, 3), (5, 3), (5, 2)], [(4, 3), (0, 3), (0, 2)],
     [(2, 4, 3), (5, 3), (5, 2)], [(2, 1, 4, 3), (3, 5, 3), (1, 1, 5, 2)], [(0, 4, 3), (0, 5, 3), (0, 5, 2)]],
)  # fmt: skip
def test_shapes(parts, shapes):
    arrays = operands(*shapes)
    expected = reference(*arrays)
    np.testing.assert_allclose(attend(*arrays).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(tj.function(attend)(*arrays).numpy(), expected, rtol=1e-12)


def test_sizes_stay_open(parts):
    f = tj.function(lambda q, k, v: attend(q, k, v, is_causal=True))
    for batch, length in ((2, 5), (3, 5), (4, 9), (7, 8), (1, 6)):
        arrays = operands((batch, length, 4), (batch, length, 4), (batch, length, 4))
        np.testing.assert_allclose(f(*arrays).numpy(), reference(*arrays, causal=True), rtol=1e-12)
    assert f.experimental_get_tracing_count() <= 3


def test_heads_are_shared():
    q, k, v = operands((2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4))
    expected = reference(q, np.repeat(k, 2, 1), np.repeat(v, 2, 1))
    np.testing.assert_allclose(attend(q, k, v, enable_gqa=True).numpy(), expected, rtol=1e-12)
    with pytest.raises(tj.errors.ShapeError, match="multiple of the 4"):
        attend(q, *operands((2, 4, 7, 4), (2, 4, 7, 4)), enable_gqa=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_scores_are_not_half_precision(dtype):
    q, k, v = (tj.cast(x, dtype) for x in operands((3, 40, 16), (3, 50, 16), (3, 50, 8)))
    y = attend(q, k, v)
    assert y.dtype is tj.as_dtype(dtype)
    close(y, reference(*(x.numpy() for x in (q, k, v))), 4)


def test_large_scores_do_not_overflow():
    q, k, v = operands((4, 3), (5, 3), (5, 2), dtype=np.float32)
    y = attend(q * 1e4, k * 1e4, v)
    assert np.isfinite(y.numpy()).all()
    close(y, reference(q * 1e4, k * 1e4, v), 50)


def test_dropout_keeps_the_mean_and_is_drawn_anew(parts):
    q, k = operands((200, 4), (6, 4))
    v = np.ones((6, 1))
    tj.random.set_seed(3)
    f = tj.function(lambda q, k, v: attend(q, k, v, dropout_p=0.25))
    one, two = f(q, k, v).numpy(), f(q, k, v).numpy()
    assert not np.array_equal(one, two)
    assert abs(one.mean() - 1) < 0.05
    tj.random.set_seed(3)
    np.testing.assert_allclose(attend(q, k, v, dropout_p=0.25).numpy(), one, rtol=1e-6)


def test_the_gradient_draws_the_same_dropout(parts):
    q, k = operands((5, 4), (6, 4))
    v = tj.constant(np.eye(6))

    @tj.function
    def f(q, k, v):
        with tj.GradientTape() as tape:
            tape.watch(v)
            y = attend(q, k, v, dropout_p=0.5)
        return y, tape.gradient(y, v)

    tj.random.set_seed(1)
    y, g = f(q, k, v)  # the result is linear in v: y = W v, and its gradient is the sum of W's columns
    np.testing.assert_allclose(g.numpy(), np.repeat(y.numpy().sum(0)[:, None], 6, 1), rtol=1e-6)


def test_scores_of_long_sequences_never_lie_in_memory():
    q, k, v = operands((1, 2048, 8), (1, 2048, 8), (1, 2048, 8), dtype=np.float32)

    @tj.function
    def f(q, k, v):
        with tj.GradientTape() as tape:
            tape.watch([q, k, v])
            y = attend(q, k, v)
        return tape.gradient(y, [q, k, v])

    text = str(f.graph(q, k, v, stage="optimized"))
    assert "2048,2048" not in text and "32,64,2048" not in text and "32,1,64,2048" not in text
    assert "[1,64,2048]" in text


def test_errors_show_the_operands():
    q, k, v = operands((4, 3), (5, 2), (5, 2), dtype=np.float32)
    with pytest.raises(tj.errors.ShapeError, match=r"query f.*32\[4,3\].*key .*\[5,2\]"):
        attend(q, k, v)
    with pytest.raises(tj.errors.DTypeError, match="one floating dtype"):
        attend(q, q.astype(np.float64), q)
    with pytest.raises(tj.errors.ShapeError, match="attn_mask"):
        attend(q, q, q, attn_mask=np.ones((3, 3), bool))
    with pytest.raises(tj.errors.DTypeError, match="bools"):
        attend(q, q, q, attn_mask=np.ones((4, 4), int))
    with pytest.raises(tj.errors.ShapeError, match="two axes"):
        attend(q[0], q, q)


@pytest.mark.parametrize("dtype", [tj.float16, tj.float32, tj.float64])
def test_a_width_that_is_open(parts, dtype):
    spec = tj.TensorSpec([2, None, None], dtype)

    def f(q, k, v):
        with tj.GradientTape() as tape:
            tape.watch(q)
            y = attend(q, k, v)
        return y, tape.gradient(y, q)

    traced = tj.function(f, input_signature=[spec] * 3)
    for length, width in ((4, 3), (5, 6), (1, 1), (3, 0)):
        q, k, v = (tj.cast(a, dtype) for a in operands(*[(2, length, width)] * 3))
        for got, want in zip(traced(q, k, v), f(q, k, v), strict=True):
            tol = {2: 5e-3, 4: 1e-5, 8: 1e-12}[dtype.size]
            np.testing.assert_allclose(got.numpy().astype(float), want.numpy().astype(float), rtol=tol, atol=tol)
    assert 0 < len(traced.concrete_functions) <= 2
