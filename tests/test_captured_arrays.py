"""NumPy arrays from outside that are edited between calls: whatever reads them, the next call sees it."""

import functools

import numpy as np
import pytest

import tracejit as tj

A, I, M, BIG = np.arange(3.0), np.array([2, 0, 1]), np.array([True, False, True]), np.ones(1 << 18)
X = tj.constant(2.0)


class Holder:
    a, d = np.ones(3), {"a": np.ones(3)}


def unpacked(x):
    _, b, *_ = A
    return x * b


def added_to_its_own(x):
    y = np.zeros(3)
    y += A
    return x * y.sum()


def looped(x):
    for v in A:
        x = x + v
    for i in range(len(A)):
        x = x + A[i]
    return x


def by_default(x, a=Holder.a):
    return x * (a * 2).sum()


def vector(x):
    return tj.stack([x, x * 2, x * 3])


def edit(x, at=..., to=7.0):
    return lambda: x.__setitem__(at, to)


READS = {
    "operator": (lambda x: x + (A * 2).sum(), edit(A)),
    "constant of a result": (lambda x: x + tj.constant(A * 2)[1], edit(A)),
    "result as operand": (lambda x: x + (A * 2 + 1), edit(A)),
    "slice": (lambda x: x + A[1:].sum(), edit(A)),
    "slice and list": (lambda x: x + A.reshape(3, 1)[:, [0, 0]].T.reshape(-1)[1], edit(A)),
    "step": (lambda x: x + A[::2].sum(), edit(A)),
    "item of a slice": (lambda x: x + float(A[1:][0]), edit(A)),
    "product": (lambda x: x + A.T @ A, edit(A)),
    "negative": (lambda x: x + -A, edit(A)),
    "largest": (lambda x: x + max(A), edit(A)),
    "in a list": (lambda x: x + np.stack([A, A]), edit(A)),
    "in a list for tensors": (lambda x: x * tj.constant([A, A]), edit(A)),
    "beside a traced tensor": (lambda x: np.stack([A, x * A]), edit(A)),
    "function": (lambda x: x + np.exp(A), edit(A)),
    "method": (lambda x: x + A.max(), edit(A)),
    "item": (lambda x: x + A[1], edit(A)),
    "float": (lambda x: x + float(A[1]), edit(A)),
    "comparison": (lambda x: x * (A == 7.0).sum(), edit(A)),
    "contained": (lambda x: x * 2 if 7.0 in A else x, edit(A)),
    "condition": (lambda x: x * 2 if A[0] else x, edit(A)),
    "condition of all": (lambda x: x * 2 if (A > 2).any() else x, edit(A)),
    "enumerate": (lambda x: [x * v for _, v in enumerate(A)], edit(A)),
    "zip": (lambda x: [x * v for v, _ in zip(A, A, strict=True)], edit(A)),
    "map": (lambda x: list(map(lambda v: v * x, A)), edit(A)),  # noqa: C417
    "sum": (lambda x: x * sum(A), edit(A)),
    "text": (lambda x: x * len(f"{A}" + str(A)), edit(A, to=12345678.0)),
    "unpacked": (unpacked, edit(A)),
    "arguments": (lambda x: x * (lambda a, b, c: b)(*A), edit(A)),
    "in place": (added_to_its_own, edit(A)),
    "loop": (looped, edit(A)),
    "partial": (lambda x: x * functools.partial(np.dot, A)(A), edit(A)),
    "index of NumPy's": (lambda x: x * np.arange(3.0)[I][0], edit(I, to=1)),
    "index of a tensor": (lambda x: vector(x)[I], edit(I, to=1)),
    "index for a tensor": (lambda x: vector(x)[I[0]], edit(I, to=1)),
    "mask": (lambda x: x * A[M].sum(), edit(M, 2, False)),
    "mask of a tensor": (lambda x: vector(x)[M], edit(M, 1, True)),
    "permutation": (lambda x: tj.transpose(tj.reshape(vector(x), (1, 3, 1)), I), edit(I, to=[1, 0, 2])),
    "large": (lambda x: x * (BIG * 2).sum(), edit(BIG, 777)),
    "of a class": (lambda x: x * (Holder.a * 2).sum(), edit(Holder.a)),
    "in a dict": (lambda x: x * (Holder.d["a"] * 2).sum(), edit(Holder.d["a"])),
    "default": (lambda x: by_default(x), edit(Holder.a)),
}


@pytest.fixture(autouse=True)
def as_they_were():
    kept = [A, I, M, BIG, Holder.a, Holder.d["a"]]
    before = [x.copy() for x in kept]
    yield
    for x, old in zip(kept, before, strict=True):
        x[...] = old


def numbers(x):
    return [np.asarray(v).tolist() for v in x] if isinstance(x, list) else np.asarray(x).tolist()


@pytest.mark.parametrize("name", READS)
def test_edited_arrays_are_never_stale(name):
    f, change = READS[name]
    g = tj.function(f)
    for _ in range(3):
        np.testing.assert_allclose(numbers(g(X)), numbers(f(X)), rtol=1e-6)
        assert g.experimental_get_tracing_count() == 1
    before = numbers(f(X))
    change()
    now = numbers(f(X))
    assert now != before
    np.testing.assert_allclose(numbers(g(X)), now, rtol=1e-6)


@pytest.mark.parametrize(
    "f",
    [lambda x: x + A, lambda x: tj.reduce_sum(A) * x, lambda x: A * x, lambda x: tj.stack([A, A]) * x,
     lambda x: x < A, lambda x: np.stack([A, x * A])],
)  # fmt: skip
def test_arrays_that_operations_take_stay_inputs(f):
    g = tj.function(f)
    for v in (1.0, 5.0, 7.0):
        A[...] = v
        np.testing.assert_array_equal(g(X), f(X))
    assert g.experimental_get_tracing_count() == 1


def test_the_reason_tells_the_arrays_apart(monkeypatch):
    f = tj.function(lambda x: x + tj.reduce_sum(A))
    f(X)
    monkeypatch.setitem(globals(), "A", np.full(2, 2.0))
    f(X)
    assert "global A: an array float64[3] [0., 1., 2.] -> an array float64[2] [2., 2.]" in f.explain(X)
    monkeypatch.setitem(globals(), "A", np.full(20, 2.0))
    f(X)
    monkeypatch.setitem(globals(), "A", np.full(20, 3.0))
    f(X)
    assert "global A: an array float64[20] -> another" in f.explain(X)
