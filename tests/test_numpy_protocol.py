"""NumPy's functions on tensors give tensors with NumPy's values."""

import warnings

import numpy as np
import pytest
from helpers import graph_of, run_graph

import tracejit as tj
from tracejit.ir.types import TensorType
from tracejit.tensor import NUMPY_UFUNCS

X = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4))
FUNCTIONS = {
    "sum": lambda x: np.sum(x, axis=0),
    "sum all": lambda x: np.sum(x),
    "sum keepdims": lambda x: np.sum(x, 1, keepdims=True),
    "mean": lambda x: np.mean(x, axis=-1),
    "max": lambda x: np.max(x, axis=0),
    "min": lambda x: np.min(x),
    "amax": lambda x: np.amax(x),
    "prod": lambda x: np.prod(x, axis=(0, 1)),
    "all": lambda x: np.all(x > 0.5, axis=0),
    "any": lambda x: np.any(x > 0.5),
    "var": lambda x: np.var(x, axis=0),
    "var ddof": lambda x: np.var(x, ddof=1),
    "std": lambda x: np.std(x, axis=1, ddof=1),
    "argmax": lambda x: np.argmax(x),
    "argmin": lambda x: np.argmin(x, axis=1),
    "argmax keepdims": lambda x: np.argmax(x, axis=1, keepdims=True),
    "cumsum": lambda x: np.cumsum(x),
    "cumprod": lambda x: np.cumprod(x, axis=1),
    "sort": lambda x: np.sort(x, axis=0),
    "argsort": lambda x: np.argsort(x),
    "count_nonzero": lambda x: np.count_nonzero(x > 0.5, axis=0),
    "reshape": lambda x: np.reshape(x, (4, -1)),
    "ravel": lambda x: np.ravel(x),
    "transpose": lambda x: np.transpose(x),
    "transpose axes": lambda x: np.transpose(x, (1, 0)),
    "expand_dims": lambda x: np.expand_dims(x, (0, -1)),
    "squeeze": lambda x: np.squeeze(x[None]),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x[None], 0, -1),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "flip": lambda x: np.flip(x, 1),
    "flip all": lambda x: np.flip(x),
    "roll": lambda x: np.roll(x, 2, axis=1),
    "roll all": lambda x: np.roll(x, -3),
    "concatenate": lambda x: np.concatenate([x, x], axis=1),
    "concatenate flat": lambda x: np.concatenate([x, x], axis=None),
    "stack": lambda x: np.stack([x, x], axis=-1),
    "vstack": lambda x: np.vstack([x, x[0]]),
    "hstack": lambda x: np.hstack([x, x]),
    "split": lambda x: np.split(x, [1, 2])[1],
    "split equal": lambda x: np.split(x, 2, axis=1)[1],
    "tile": lambda x: np.tile(x, (2, 1)),
    "tile one": lambda x: np.tile(x, 2),
    "repeat": lambda x: np.repeat(x, 2, axis=1),
    "pad": lambda x: np.pad(x, 1),
    "pad edge": lambda x: np.pad(x, ((1, 0), (0, 2)), "reflect"),
    "where": lambda x: np.where(x > 0.5, x, 0.0),
    "take": lambda x: np.take(x, [0, 2], axis=1),
    "take flat": lambda x: np.take(x, [5, 1]),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[0, 1, 0, 1]]), 0),
    "clip": lambda x: np.clip(x, 0.3, 0.6),
    "clip one": lambda x: np.clip(x, None, 0.6),
    "round": lambda x: np.round(x, 1),
    "around": lambda x: np.around(x),
    "dot": lambda x: np.dot(x, x.T),
    "dot vectors": lambda x: np.dot(x[0], x[1]),
    "dot scalar": lambda x: np.dot(x, 2.0),
    "vdot": lambda x: np.vdot(x, x),
    "inner": lambda x: np.inner(x, x),
    "outer": lambda x: np.outer(x[0], x[1]),
    "matmul": lambda x: np.matmul(x, x.T),
    "tensordot": lambda x: np.tensordot(x, x.T, 1),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "trace": lambda x: np.trace(x),
    "diag": lambda x: np.diag(x[0]),
    "diagonal part": lambda x: np.diag(x),
    "norm": lambda x: np.linalg.norm(x),
    "norm axis": lambda x: np.linalg.norm(x, axis=1),
    "norm 1": lambda x: np.linalg.norm(x, 1),
    "zeros_like": lambda x: np.zeros_like(x),
    "ones_like": lambda x: np.ones_like(x, dtype=np.int32),
    "full_like": lambda x: np.full_like(x, 7.0),
    "copy": lambda x: np.copy(x),
    "meshgrid": lambda x: np.meshgrid(x[0], x[1])[0],
    "real": lambda x: np.real(x),
    "hypot": lambda x: np.hypot(x, 1.0),
    "divmod": lambda x: np.divmod(x, 0.3)[0],
    "deg2rad": lambda x: np.deg2rad(x),
    "logaddexp": lambda x: np.logaddexp(x, x),
    "float_power": lambda x: np.float_power(x, 2.0),
    "positive": lambda x: np.positive(x),
    "conjugate": lambda x: np.conjugate(x),
}
INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"}
BOOLEANS = {"logical_and", "logical_or", "logical_xor", "logical_not"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    f = FUNCTIONS[name]
    y = f(tj.constant(X))
    assert isinstance(y, tj.Tensor)
    expected = f(X)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-14)
    assert y.shape == expected.shape
    graph, captured = graph_of(f, TensorType(tj.float64, X.shape))
    np.testing.assert_allclose(run_graph(graph, [X, *captured])[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(NUMPY_UFUNCS))
def test_ufuncs(name):
    u = getattr(np, name, None)
    if u is None:
        pytest.skip("this NumPy does not have it")
    x = X[:3, :3]
    if name in INTEGERS:
        x = np.arange(9).reshape(3, 3)
    elif name in BOOLEANS:
        x = x > 0.5
    elif name == "arccosh":
        x = x + 1
    args = [x] * u.nin
    y, expected = u(*[tj.constant(a) for a in args]), u(*args)
    for a, b in zip(y if u.nout > 1 else [y], expected if u.nout > 1 else [expected]):
        assert isinstance(a, tj.Tensor)
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-12)


def test_arrays_on_the_left():
    t = tj.constant(X)
    for f in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a @ np.transpose(b), lambda a, b: a < b, np.maximum):
        y = f(X, t)
        assert isinstance(y, tj.Tensor)
        np.testing.assert_allclose(y.numpy(), f(X, X))
    assert isinstance(np.float64(2.0) * t, tj.Tensor)


def test_under_a_tape():
    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = np.sum(np.sin(x) * np.concatenate([x, x])[:3])
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), np.cos(X) * X + np.sin(X))


def test_what_we_lack_runs_in_numpy():
    t = tj.constant(X)
    assert isinstance(np.median(t), tj.Tensor)
    np.testing.assert_allclose(np.median(t, axis=0).numpy(), np.median(X, axis=0))
    np.testing.assert_allclose(np.add.reduce(t).numpy(), X.sum(0))
    np.testing.assert_allclose(np.add.outer(t[0], t[1]).numpy(), np.add.outer(X[0], X[1]))
    np.testing.assert_allclose(np.cbrt(t).numpy(), np.cbrt(X))
    assert np.allclose(t, X)
    assert np.shape(t) == (3, 4)
    out = np.empty_like(X)
    np.exp(t, out=out)
    np.testing.assert_allclose(out, np.exp(X))


def test_what_we_lack_cannot_be_traced():
    with pytest.raises(tj.errors.TracedValueError, match=r"np\.median"):
        graph_of(lambda x: np.median(x), TensorType(tj.float64, (3,)))


def test_results_that_are_partly_not_defined_are_warned_of_at_the_users_line():
    x = tj.constant([1.0, 2.0])
    with pytest.warns(UserWarning, match="'where' without 'out'") as seen:
        assert np.add(x, 1, where=[True, False]).numpy()[0] == 2.0
    assert [w.filename for w in seen] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.add(x, 1, where=True).numpy().tolist() == [2.0, 3.0]
        assert np.add(x, 1, where=[True, False], out=np.zeros(2, np.float32)).tolist() == [2.0, 0.0]
