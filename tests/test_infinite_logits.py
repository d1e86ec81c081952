"""Cross-entropies of infinite logits: what agrees with its label costs nothing, and slopes are those of the limit."""

import numpy as np
import pytest

import tracejit as tj

INF = np.inf
MODES = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


def with_slopes(f, wrap, labels, logits):
    z, x = tj.constant(labels, tj.float32), tj.constant(logits, tj.float32)

    def run(z, x):
        with tj.GradientTape() as tape:
            tape.watch([z, x])
            y = f(z, x)
        return y, *tape.gradient(y, [z, x])

    return [t.numpy() for t in wrap(run)(z, x)]


@MODES
def test_sigmoid_cross_entropy(wrap):
    labels, logits = [0, 0.5, 1, 0, 0.5, 1], [-INF, -INF, -INF, INF, INF, INF]
    y, dz, dx = with_slopes(tj.nn.sigmoid_cross_entropy_with_logits, wrap, labels, logits)
    assert y.tolist() == [0, INF, INF, INF, INF, 0]
    assert dz.tolist() == [INF, INF, INF, -INF, -INF, -INF]
    assert dx.tolist() == [0, -0.5, -1, 1, 0.5, 0]


@MODES
def test_weighted_cross_entropy(wrap):
    def f(z, x):
        return tj.nn.weighted_cross_entropy_with_logits(z, x, 2.0)

    y, dz, dx = with_slopes(f, wrap, [0, 0.5, 1, 0, 0.5, 1], [-INF, -INF, -INF, INF, INF, INF])
    assert y.tolist() == [0, INF, INF, INF, INF, 0]
    assert dz.tolist() == [INF, INF, INF, -INF, -INF, -INF]
    assert dx.tolist() == [0, -1, -2, 1, 0.5, 0]


@MODES
def test_large_logits_lose_no_digits(wrap):
    y, _, dx = with_slopes(tj.nn.sigmoid_cross_entropy_with_logits, wrap, [1, 0, 0.5], [30, -30, 0])
    np.testing.assert_allclose(y, [np.exp(-30), np.exp(-30), np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx, [-np.exp(-30), np.exp(-30), 0], rtol=1e-6)


@MODES
def test_softmax_cross_entropy_of_classes_that_cannot_be(wrap):
    e = np.e
    for labels, loss, slope in [
        ([1, 0, 0], np.log1p(e), [-e / (1 + e), e / (1 + e), 0]),
        ([0.5, 0.5, 0], np.log1p(e) - 0.5, [1 / (1 + e) - 0.5, e / (1 + e) - 0.5, 0]),
        ([0, 0, 1], INF, [1 / (1 + e), e / (1 + e), -1]),
    ]:
        y, dz, dx = with_slopes(tj.nn.softmax_cross_entropy_with_logits, wrap, [labels], [[0, 1, -INF]])
        np.testing.assert_allclose(y, [loss], rtol=1e-6)
        np.testing.assert_allclose(dx, [slope], rtol=1e-6)
        np.testing.assert_allclose(dz, [[np.log1p(e), np.log1p(e) - 1, INF]], rtol=1e-6)
        if 1 in labels:
            c = tj.constant([labels.index(1)])
            y, _, dx = with_slopes(
                lambda z, x, c=c: tj.nn.sparse_softmax_cross_entropy_with_logits(c, x) + 0 * tj.reduce_sum(z),
                wrap, [0.0], [[0, 1, -INF]],
            )  # fmt: skip
            np.testing.assert_allclose(y, [loss], rtol=1e-6)
            np.testing.assert_allclose(dx, [slope], rtol=1e-6)


@MODES
@pytest.mark.parametrize("logits", [[0, 1, INF], [INF, -INF, 0], [-INF, -INF, -INF]])
def test_softmax_cross_entropy_without_a_limit_is_nan_in_value_and_slopes(wrap, logits):
    y, dz, dx = with_slopes(tj.nn.softmax_cross_entropy_with_logits, wrap, [[1, 0, 0]], [logits])
    assert np.isnan(y).all() and np.isnan(dz).all() and np.isnan(dx).all()
