"""An axis of which the program finds out that it has one element is repeated by broadcasting, as eagerly."""

import numpy as np
import pytest
from lowerings import Lowered, flat

import tracejit as tj
from tracejit.errors import ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.text import parse, show

LINE = np.arange(6.0) + 1.0
THREE = np.array([1.0, 2.0, 3.0])


def assigned(x, n):
    y = x * 1.0
    y[1:4] = x[:n]
    y[1:4] += x[:n]
    return y


def assigned_where(x, n):
    y = x * 1.0
    y[y > 3.0] = x[:n]
    return y


def in_a_loop(x, n):
    s = tj.zeros([3], tj.float64)
    for i in tj.range(3):
        s = s * x[:n] + x[i]
    return s


def in_a_branch(x, n):
    if n < 4:
        r = tj.reduce_sum(x[:n] * x[1:4])
    else:
        r = tj.reduce_sum(x[n - 4 :] * x)
    return r


# a function, the numbers that fit, and those that do not
CASES = {
    "beside a number": (lambda x, n: x[:n] + THREE, (3, 1), (2, 0)),
    "behind a number": (lambda x, n: THREE * x[:n], (3, 1), (2, 0)),
    "beside an argument": (lambda x, n: x[:n] * x, (6, 1), (2, 0)),
    "where": (lambda x, n: tj.where(x[:n] > 1.0, x[2:5], x[:n]), (3, 1), (2, 0)),
    "two axes": (lambda x, n: x[:n][:, None] * x[1:4][None] + x[:n][None], (3, 1), (2, 0)),
    "broadcast_to": (lambda x, n: tj.broadcast_to(x[:n], [2, 3]), (3, 1), (2, 0)),
    "two sizes": (lambda x, n: x[:n] + x[: n * 2 - 3], (3, 2, 1), (4,)),
    "two sizes, then one": (lambda x, n: (x[:n] + x[: n * 2 - 3]) * x[:n], (3, 2, 1), (4,)),
    "masks": (lambda x, n: x[x > tj.cast(n, x.dtype)] * x[x < 4.0], (3, 5), (0, 1)),
    "one less": (lambda x, n: x[:n][1:] + x[:n], (2, 1, 0), (3,)),
    "in a loop": (in_a_loop, (3, 1), (2, 0)),
    "in a branch": (in_a_branch, (1, 3, 4), (2, 5)),
    "rows": (lambda x, n: tj.vectorized_map(lambda a: a * x[:n], tj.reshape(x, [2, 3])), (3, 1), (2, 0)),
}  # fmt: skip


def agree(got, want):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want)


def args(n):
    return tj.constant(LINE), tj.constant(n, tj.int32)


@pytest.mark.parametrize("name", CASES)
def test_in_every_way(name):
    f, right, wrong = CASES[name]
    lowered = Lowered(f, strict=True)
    for n in (*right, *wrong, *right):
        if n in wrong:
            for g in (f, lowered.function):
                with pytest.raises(ShapeError):
                    g(*args(n))
            continue
        for _, (got,) in lowered.results(*args(n)):
            agree(got, flat(f(*args(n)))[0])
    assert lowered.function.experimental_get_tracing_count() == 1


def slope(f, x, n):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.sin(f(x, n)))
    return tape.gradient(y, x)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    f, right, _ = CASES[name]
    inside, traced = tj.function(lambda x, n: slope(f, x, n), strict=True), tj.function(f, strict=True)
    for n in right:
        want = slope(f, *args(n)).numpy()
        agree(inside(*args(n)).numpy(), want)
        agree(slope(traced, *args(n)).numpy(), want)
        x, k = args(n)
        ahead = tj.autodiff.jvp(lambda x, k=k: tj.reduce_sum(tj.sin(traced(x, k))), [x], [tj.ones_like(x)])[1]
        np.testing.assert_allclose(ahead, want.sum())


@pytest.mark.parametrize("f", [assigned, assigned_where], ids=lambda f: f.__name__)
def test_values_that_are_assigned(f):
    lowered = Lowered(f, strict=True)
    for n in (3, 1):
        for _, (got,) in lowered.results(*args(n)):
            agree(got, f(LINE, n))
    with pytest.raises(tj.errors.TracejitError):
        lowered.function(*args(2))


def test_squeeze_says_which_axis_it_would_have_to_drop():
    f = tj.function(lambda x, n: tj.squeeze(x[:n][:, None]), strict=True)
    for n in (2, 0, 5):
        agree(f(*args(n)).numpy(), LINE[:n])
    with pytest.raises(ShapeError, match=r"axis 0 has been found to have size 1: tj.squeeze\(x, axis=0\)"):
        f(*args(1))
    agree(tj.function(lambda x, n: tj.squeeze(x[:n][:, None], [0, 1]), strict=True)(*args(1)).numpy(), LINE[0])


def test_a_condition_of_one_element():
    @tj.function(strict=True)
    def f(x, n):
        return x * 2.0 if x[:n] > 0.0 else x

    agree(f(*args(1)).numpy(), LINE * 2.0)
    with pytest.raises(ShapeError):
        f(*args(2))


def test_the_size_after_broadcasting():
    a, b, c = (Dim.symbol(s, 5) for s in "abc")
    both = a.beside(b)
    sizes = {(3, 3): 3, (1, 3): 3, (3, 1): 3, (1, 0): 0, (0, 1): 0, (1, 1): 1}
    assert all(both.evaluate({"a": m, "b": n}) == k for (m, n), k in sizes.items())
    assert both.same(b.beside(a)) and both.beside(a).same(both) and c.beside(both).same(a.beside(c).beside(b))
    assert both.symbols == {"a", "b"} and both.compare(0, ">=") is True and (both + 1).compare(0, ">") is True
    g = tj.function(lambda x, n: x[:n] + x[: n + n], strict=True).get_concrete_function(*args(1)).graph
    assert show(parse(show(g))) == show(g)


@pytest.mark.parametrize("dtype", [tj.bool, tj.int8, tj.bfloat16, tj.float32, tj.complex64])
def test_types(dtype):
    def f(x, n):
        return tj.math.logical_xor(x[:n], x[2:5]) if dtype is tj.bool else x[:n] * x[2:5] + x[:n]

    lowered = Lowered(f, strict=True)
    x = tj.cast(tj.constant([1, 0, 3, 0, 5, 6]), dtype)
    for n in (3, 1):
        want = f(x, tj.constant(n)).numpy()
        for _, (got,) in lowered.results(x, tj.constant(n)):
            np.testing.assert_array_equal(np.asarray(got).astype(want.dtype), want)


def test_cotangents_that_are_all_alike_are_summed():
    def plain(x, n):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(x[:n] * x[2:5] + x[:n])
        return tape.gradient(y, x)

    f = tj.function(plain, strict=True)
    for n in (3, 1):
        np.testing.assert_array_equal(f(*args(n)), plain(*args(n)))
    np.testing.assert_array_equal(f(*args(1)), [15.0, 0.0, 1.0, 1.0, 1.0, 0.0])


def test_second_derivatives():
    def twice(x, n):
        with tj.GradientTape() as outer:
            outer.watch(x)
            y = tj.reduce_sum(slope(lambda x, n: x[:n] * x[2:5] * x[:n], x, n) ** 2)
        return outer.gradient(y, x)

    f = tj.function(twice, strict=True)
    for n in (3, 1):
        np.testing.assert_allclose(f(*args(n)), twice(*args(n)))
