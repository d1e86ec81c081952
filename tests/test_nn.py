"""Activations, losses, normalisations: stability, known values, the form of the gradients."""

import numpy as np
import pytest
import scipy.special as sp
from helpers import gradients

import tracejit as tj
from tracejit.errors import DTypeError, ShapeError

NAN, INF = np.nan, np.inf


def test_softmax_is_stable():
    x = np.array([[1000.0, 0.0, -1000.0], [-1e30, 0.0, 1.0]], np.float32)
    y = tj.nn.softmax(x).numpy()
    np.testing.assert_allclose(y, sp.softmax(x.astype(float), -1), atol=1e-7)
    assert np.isfinite(tj.nn.log_softmax(tj.constant(x)).numpy()).all()
    np.testing.assert_allclose(tj.nn.log_softmax([1000.0, 0.0]).numpy(), [0.0, -1000.0])
    assert tj.nn.softmax([-np.inf, 0.0]).numpy().tolist() == [0.0, 1.0]


def test_softmax_of_integers_and_other_axes():
    assert tj.nn.softmax(tj.constant([1, 2])).dtype is tj.float64
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_allclose(tj.nn.softmax(x, axis=1).numpy(), sp.softmax(x, 1))
    np.testing.assert_allclose(tj.nn.softmax(x, axis=[1, 2]).numpy(), sp.softmax(x, (1, 2)))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropies_agree(scale):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4)) * scale
    labels = np.array([0, 1, 2, 3, 1])
    sparse = tj.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x).numpy()
    dense = tj.nn.softmax_cross_entropy_with_logits(labels=np.eye(4)[labels], logits=x).numpy()
    expected = -sp.log_softmax(x, -1)[np.arange(5), labels]
    np.testing.assert_allclose(sparse, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dense, expected, rtol=1e-12, atol=1e-12)


def test_cross_entropy_keeps_digits_far_from_zero():
    x = np.array([[1e4, 1e4 + 0.5]], np.float32)
    loss = tj.nn.sparse_softmax_cross_entropy_with_logits([1], x).numpy()[0]
    assert loss == pytest.approx(np.log1p(np.exp(-0.5)), rel=1e-6)


def test_cross_entropy_gradient_is_softmax_minus_one_hot():
    x = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.array([0, 1, 2, 3, 1])
    expected = sp.softmax(x, -1) - np.eye(4)[labels]
    for f in (
        lambda t: tj.nn.sparse_softmax_cross_entropy_with_logits(labels, t),
        lambda t: tj.nn.softmax_cross_entropy_with_logits(np.eye(4)[labels], t),
    ):
        np.testing.assert_allclose(gradients(f, [x], np.ones(5))[0], expected, rtol=1e-12, atol=1e-15)


def test_infinite_logits():
    x = np.array([[0.0, -np.inf, 1.0]])
    for f in (
        lambda t: tj.nn.sparse_softmax_cross_entropy_with_logits([2], t),
        lambda t: tj.nn.softmax_cross_entropy_with_logits([[0.0, 0.0, 1.0]], t),
    ):
        assert f(tj.constant(x)).numpy()[0] == pytest.approx(np.log1p(np.exp(-1)))
        assert np.isfinite(gradients(f, [x], np.ones(1))[0]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64])
def test_label_dtypes(dtype):
    x = np.zeros((2, 300), np.float32)
    loss = tj.nn.sparse_softmax_cross_entropy_with_logits(np.array([3, 100], dtype), x)
    np.testing.assert_allclose(loss.numpy(), np.log(300), rtol=1e-6)


def test_labels_that_do_not_fit():
    with pytest.raises(tj.errors.DTypeError, match="class numbers"):
        tj.nn.sparse_softmax_cross_entropy_with_logits([0.0], tj.zeros((1, 2)))
    with pytest.raises(tj.errors.ShapeError):
        tj.nn.sparse_softmax_cross_entropy_with_logits([[0]], tj.zeros((1, 2)))


def test_sigmoid_cross_entropy_is_stable_and_smooth():
    x = np.array([-1000.0, 0.0, 1000.0])
    z = np.array([0.0, 1.0, 1.0])
    y = tj.nn.sigmoid_cross_entropy_with_logits(labels=z, logits=x)
    np.testing.assert_allclose(y.numpy(), [0, np.log(2), 0], atol=1e-12)
    g = gradients(lambda t: tj.nn.sigmoid_cross_entropy_with_logits(z, t), [x], np.ones(3))[0]
    np.testing.assert_allclose(g, sp.expit(x) - z)


def test_slopes_at_the_kinks():
    x = np.array([0.0, 6.0])
    assert gradients(tj.nn.relu, [x], np.ones(2))[0].tolist() == [0, 1]
    assert gradients(tj.nn.relu6, [x], np.ones(2))[0].tolist() == [0, 0]
    assert gradients(tj.nn.leaky_relu, [x], np.ones(2))[0].tolist() == [0.2, 1]
    assert gradients(tj.nn.elu, [x], np.ones(2))[0].tolist() == [1, 1]


def test_nan_passes_through():
    for f in (tj.nn.relu, tj.nn.relu6, tj.nn.gelu, tj.nn.elu, tj.nn.softplus, tj.nn.leaky_relu, tj.nn.selu, tj.nn.silu):
        assert np.isnan(f(tj.constant(np.nan)).numpy()), f


def test_activations_far_out():
    x = np.array([-1e4, 1e4], np.float32)
    for f, expected in (
        (tj.nn.softplus, [0, 1e4]), (tj.nn.silu, [0, 1e4]), (tj.nn.gelu, [0, 1e4]), (tj.nn.elu, [-1, 1e4]),
        (tj.nn.sigmoid, [0, 1]), (tj.nn.softsign, x / (1 + np.abs(x))), (tj.math.log_sigmoid, [-1e4, 0]),
    ):  # fmt: skip
        np.testing.assert_allclose(f(tj.constant(x)).numpy(), expected, rtol=1e-6)
        assert np.isfinite(gradients(f, [x], np.ones(2, np.float32))[0]).all()


def test_layer_normalization():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(6, 50))
    y = tj.nn.layer_normalization(x, epsilon=0.0).numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 1)
    assert tj.nn.layer_normalization(tj.constant(x, tj.float16)).dtype is tj.float16


def test_batch_normalization_is_tensorflows():
    x, m, v = np.array([[1.0, 2.0]]), np.array([0.5, 1.0]), np.array([4.0, 1.0])
    y = tj.nn.batch_normalization(x, m, v, None, None, 0.0)
    np.testing.assert_allclose(y.numpy(), [[0.25, 1.0]])
    y = tj.nn.batch_normalization(x, m, v, offset=1.0, scale=2.0, variance_epsilon=0.0)
    np.testing.assert_allclose(y.numpy(), [[1.5, 3.0]])


def test_moments():
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    mean, variance = tj.nn.moments(x, [0, 1])
    np.testing.assert_allclose(mean.numpy(), x.mean((0, 1)))
    np.testing.assert_allclose(variance.numpy(), x.var((0, 1)))
    assert tj.nn.moments(x, [0], keepdims=True)[0].shape == (1, 3, 2)


def test_dropout():
    tj.random.set_seed(0)
    x = tj.ones((1000, 100))
    y = tj.nn.dropout(x, 0.3).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert tj.nn.dropout(x, 0).numpy().min() == 1.0
    lines = tj.nn.dropout(x, 0.5, noise_shape=(None, 1)).numpy()
    assert (lines == lines[:, :1]).all()
    with pytest.raises(tj.errors.ArgumentError):
        tj.nn.dropout(x, 1.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        z = tj.nn.dropout(x, 0.5)
    np.testing.assert_array_equal(tape.gradient(z, x).numpy(), z.numpy())


def test_embedding_lookup():
    table = np.arange(6.0).reshape(3, 2)
    assert tj.nn.embedding_lookup(table, [2, 0, 2]).numpy().tolist() == [[4, 5], [0, 1], [4, 5]]
    short = tj.nn.embedding_lookup(table, [0, 2], max_norm=1.0).numpy()
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), [1.0, 1.0], rtol=1e-6)
    g = gradients(lambda t: tj.nn.embedding_lookup(t, [2, 0, 2]), [table], np.ones((3, 2)))[0]
    assert g.tolist() == [[1, 1], [0, 0], [2, 2]]


def test_in_top_k_and_zero_fraction():
    assert tj.math.in_top_k([0, 1], [[0.1, 0.9], [0.2, 0.8]], 1).numpy().tolist() == [False, True]
    p = [[NAN, 1], [INF, 1], [-INF, -INF], [1, 2], [1, 2], [1, INF], [1, 2], [3, 2]]
    want = [False, False, False, False, False, False, True, True]
    t = [1, 0, 0, 2, -1, 0, 1, 0]  # of no class at 3 and 4
    specs = [tj.TensorSpec([None], tj.int32), tj.TensorSpec([None, None])]
    assert tj.math.in_top_k(t, p, 1).numpy().tolist() == want
    traced = tj.function(lambda t, p: tj.math.in_top_k(t, p, 1), input_signature=specs)
    assert traced(np.array(t, np.int32), np.array(p, np.float32)).numpy().tolist() == want
    assert tj.math.in_top_k([0, 1], tj.zeros((2, 0)), 1).numpy().tolist() == [False, False]
    with pytest.raises(DTypeError, match="targets must be integers"):
        tj.math.in_top_k([0.0, 1.0], tj.zeros((2, 3)), 1)
    with pytest.raises(ShapeError, match="targets"):
        tj.math.in_top_k([0], tj.zeros((2, 3)), 1)
    assert tj.math.zero_fraction([0.0, 1.0, 0.0, 2.0]).numpy() == 0.5


def test_normalization_keeps_the_dtype_beside_python_numbers():
    for d in (tj.float16, tj.bfloat16, tj.float32, tj.float64):
        y = tj.nn.batch_normalization(tj.constant([1.0, 3.0], d), 1.0, 4.0, 0.5, 2.0, 0.0)
        assert y.dtype is d
        assert y.numpy().tolist() == [0.5, 2.5]
