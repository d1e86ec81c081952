"""cond, case, switch_case, while_loop, scan, folds, maps and TensorArray: values, structures, gradients."""

import numpy as np
import pytest
from helpers import central_differences

import tracejit as tj

WAYS = pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])
V = np.array([0.5, -1.0, 2.0, 0.25])
M = np.arange(6.0).reshape(3, 2) * 0.25 - 0.5


def close(got, want, tol=1e-9):
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=tol, atol=tol)


def gradient(f, *xs):
    xs = [tj.constant(x) for x in xs]
    with tj.GradientTape() as tape:
        tape.watch(xs)
        y = tj.reduce_sum(f(*xs))
    return [g.numpy() for g in tape.gradient(y, xs, unconnected_gradients="zero")]


def check_gradients(wrapper, f, *xs):
    xs = [np.asarray(x, float) for x in xs]
    inside = wrapper(lambda *ts: gradient_inside(f, ts))(*[tj.constant(x) for x in xs])
    slopes = central_differences(lambda *a: tj.reduce_sum(f(*a)), xs)
    for a, b, c in zip(gradient(wrapper(f), *xs), inside, slopes, strict=True):
        close(a, c, 1e-6)
        close(b, a)


def gradient_inside(f, xs):
    with tj.GradientTape() as tape:
        tape.watch(list(xs))
        y = tj.reduce_sum(f(*xs))
    return tape.gradient(y, list(xs), unconnected_gradients="zero")


# --- cond, case, switch_case ------------------------------------------------------------------------------------------
@WAYS
def test_cond(wrapper):
    f = wrapper(lambda x: tj.cond(x > 0, lambda: x * 2.0, lambda: x - 1.0))
    assert [float(f(tj.constant(k))) for k in (1.0, -1.0)] == [2, -2]
    check_gradients(wrapper, lambda x: tj.cond(x > 0, lambda: x * x, lambda: tj.sin(x)), 0.7)
    check_gradients(wrapper, lambda x: tj.cond(x > 0, lambda: x * x, lambda: tj.sin(x)), -0.7)


@WAYS
def test_cond_gives_structures(wrapper):
    @wrapper
    def f(x, c):
        return tj.cond(c, lambda: {"a": x, "b": (x + 1.0, [x])}, lambda: {"a": -x, "b": (x, [x * 3.0])})

    for c, a, b, last in ((True, 2, 3, 2), (False, -2, 2, 6)):
        out = f(tj.constant(2.0), tj.constant(c))
        assert (float(out["a"]), float(out["b"][0]), float(out["b"][1][0])) == (a, b, last)


@WAYS
def test_cond_runs_the_effects_of_one_branch(wrapper):
    v = tj.Variable(1.0)

    @wrapper
    def f(c):
        tj.cond(c, lambda: v.assign_add(1.0), lambda: v.assign(v * 10.0))
        return v.read_value()

    assert [float(f(tj.constant(c))) for c in (True, False, False, True)] == [2, 20, 200, 201]


@WAYS
def test_cond_with_a_python_condition(wrapper):
    f = wrapper(lambda x: tj.cond(True, lambda: x + 1.0, lambda: x.no_such_attribute))
    assert float(f(tj.constant(1.0))) == 2.0


def test_cond_refuses_structures_that_differ():
    f = tj.function(lambda x: tj.cond(x > 0, lambda: (x, x), lambda: x))
    with pytest.raises((tj.errors.TracejitError, TypeError, ValueError)):
        f(tj.constant(1.0))


@WAYS
def test_case(wrapper):
    @wrapper
    def f(x):
        return tj.case(
            [(x < 0, lambda: x * 10.0), (x < 1, lambda: x + 100.0), (x < 5, lambda: -x)], default=lambda: x * 0.0
        )

    assert [float(f(tj.constant(k))) for k in (-1.0, 0.5, 3.0, 9.0)] == [-10, 100.5, -3, 0]


@WAYS
def test_case_without_default_and_exclusive(wrapper):
    f = wrapper(lambda x: tj.case([(x < 0, lambda: x), (x < 5, lambda: x * 2.0)]))
    assert [float(f(tj.constant(k))) for k in (-1.0, 2.0)] == [-1, 4]
    with pytest.raises((tj.errors.TracejitError, AssertionError)):
        f(tj.constant(7.0))
    g = wrapper(lambda x: tj.case([(x < 0, lambda: x), (x < 5, lambda: x * 2.0)], exclusive=True))
    assert float(g(tj.constant(2.0))) == 4.0


@WAYS
def test_switch_case(wrapper):
    def f(i, x):
        return tj.switch_case(i, [lambda: x, lambda: x * x, lambda: tj.exp(x)])

    def g(i, x):
        return tj.switch_case(i, {1: lambda: x, 0: lambda: -x}, default=lambda: x * 0.0)

    x = tj.constant(2.0)
    # an index outside the list takes its last function
    got = [float(wrapper(f)(tj.constant(i), x)) for i in (0, 1, 2, 7, -1)]
    close(got, [2, 4, np.exp(2), np.exp(2), np.exp(2)], 1e-6)
    assert [float(wrapper(g)(tj.constant(i), x)) for i in (1, 0, 2, -1)] == [2, -2, 0, 0]
    for i in range(3):
        check_gradients(wrapper, lambda x: f(tj.constant(i), x), 0.7)


# --- while_loop -------------------------------------------------------------------------------------------------------
@WAYS
def test_while_loop(wrapper):
    @wrapper
    def f(n, x):
        i, y = tj.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * x), (tj.constant(0), tj.ones_like(x)))
        return i, y

    for n in (0, 1, 5):
        i, y = f(tj.constant(n), tj.constant(1.5))
        assert (int(i), float(y)) == (n, 1.5**n)


@WAYS
def test_while_loop_keeps_structures(wrapper):
    @wrapper
    def f(x):
        state = {"k": tj.constant(0), "parts": [x, (x, x * 0.0)]}
        out = tj.while_loop(
            lambda s: s["k"] < 3,
            lambda s: ({"k": s["k"] + 1, "parts": [s["parts"][1][0], (s["parts"][0] * 2.0, s["parts"][1][1] + 1.0)]},),
            (state,),
        )
        return out[0]

    out = f(tj.constant(1.0))
    assert int(out["k"]) == 3
    assert [float(out["parts"][0]), *map(float, out["parts"][1])] == [2, 4, 3]


@WAYS
def test_while_loop_stops_at_the_most_iterations(wrapper):
    f = wrapper(lambda x: tj.while_loop(lambda x: x > 0, lambda x: (x + 1.0,), (x,), maximum_iterations=4)[0])
    assert [float(f(tj.constant(k))) for k in (1.0, -1.0)] == [5, -1]


@WAYS
def test_gradients_of_while_loop(wrapper):
    def f(x, v):
        return tj.while_loop(
            lambda i, y, v: tj.reduce_sum(y * y) < 50.0,
            lambda i, y, v: (i + 1, y * x + v, v * 0.5),
            (tj.constant(0), v, tj.sin(v)),
        )[1]

    check_gradients(wrapper, f, 1.7, V)


@WAYS
def test_second_order_gradients_of_while_loop(wrapper):
    def power(x, n):
        return tj.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * x), (tj.constant(0), tj.ones_like(x)))[1]

    @wrapper
    def second(x, n):
        with tj.GradientTape() as outer:
            outer.watch(x)
            with tj.GradientTape() as inner:
                inner.watch(x)
                y = power(x, n)
            first = inner.gradient(y, x)
        return first, outer.gradient(first, x)

    for n in (2, 5):
        first, other = second(tj.constant(1.3, tj.float64), tj.constant(n))
        close(first, n * 1.3 ** (n - 1))
        close(other, n * (n - 1) * 1.3 ** (n - 2))


# --- scan and folds ---------------------------------------------------------------------------------------------------
@WAYS
def test_scan(wrapper):
    f = wrapper(lambda v: tj.scan(lambda a, x: a + x, v))
    close(f(tj.constant(V)), np.cumsum(V))
    close(f(tj.constant(V[:1])), V[:1])
    g = wrapper(lambda v, a: tj.scan(lambda a, x: a * 0.5 + x, v, initializer=a))
    want, a = [], 4.0
    for x in V:
        a = a * 0.5 + x
        want.append(a)
    close(g(tj.constant(V), tj.constant(4.0, tj.float64)), want)
    backwards = wrapper(lambda v: tj.scan(lambda a, x: a + x, v, reverse=True))
    close(backwards(tj.constant(V)), np.cumsum(V[::-1])[::-1])


@WAYS
def test_scan_over_structures(wrapper):
    @wrapper
    def fibonacci(n):
        return tj.scan(lambda a, _: (a[1], a[0] + a[1]), tj.range(n), initializer=(tj.constant(0), tj.constant(1)))

    a, b = fibonacci(tj.constant(6))
    assert a.numpy().tolist() == [1, 1, 2, 3, 5, 8]
    assert b.numpy().tolist() == [1, 2, 3, 5, 8, 13]

    @wrapper
    def pairs(v, w):
        return tj.scan(lambda a, x: a + x[0] * x[1], (v, w), initializer=tj.constant(0.0, tj.float64))

    close(pairs(tj.constant(V), tj.constant(V + 1.0)), np.cumsum(V * (V + 1)))


@WAYS
def test_gradients_of_scan(wrapper):
    def f(v, a):
        return tj.scan(lambda a, x: tj.tanh(a * x + 0.5), v, initializer=a)

    check_gradients(wrapper, f, V, np.array([0.3, -0.2]))
    check_gradients(wrapper, lambda m: tj.scan(lambda a, row: a * row + row, m) * 0.5, M)


@WAYS
def test_scan_with_branches(wrapper):
    def f(v):
        def step(a, x):
            if x > 0:
                return a + x
            return a * 0.5

        return tj.scan(step, v, initializer=tj.constant(1.0, tj.float64))

    close(wrapper(f)(tj.constant(V)), [1.5, 0.75, 2.75, 3.0])
    check_gradients(wrapper, f, V)


@WAYS
def test_folds(wrapper):
    left = wrapper(lambda v: tj.foldl(lambda a, x: a * 2.0 + x, v))
    right = wrapper(lambda v: tj.foldr(lambda a, x: a * 2.0 + x, v))
    started = wrapper(lambda v: tj.foldl(lambda a, x: a - x, v, initializer=tj.constant(10.0, tj.float64)))
    close(left(tj.constant(V)), ((0.5 * 2 - 1) * 2 + 2) * 2 + 0.25)
    close(right(tj.constant(V)), ((0.25 * 2 + 2) * 2 - 1) * 2 + 0.5)
    close(started(tj.constant(V)), 10 - V.sum())
    check_gradients(wrapper, lambda v: tj.foldl(lambda a, x: tj.sin(a) + x * x, v), V)
    check_gradients(wrapper, lambda v: tj.foldr(lambda a, x: tj.sin(a) + x * x, v), V)


# --- maps -------------------------------------------------------------------------------------------------------------
MAPS = pytest.mark.parametrize("name", ["map_fn", "vectorized_map"])


@MAPS
@WAYS
def test_maps(wrapper, name):
    many = getattr(tj, name)
    f = wrapper(lambda m: many(lambda row: tj.reduce_sum(row * row) + row, m))
    close(f(tj.constant(M)), (M * M).sum(1, keepdims=True) + M)
    signature = {"fn_output_signature": tj.float64} if name == "map_fn" else {}  # another structure than the elements'
    pair = wrapper(lambda v, m: many(lambda t: t[0] * t[1], (v, m), **signature))
    close(pair(tj.constant(V[:3]), tj.constant(M)), V[:3, None] * M)
    check_gradients(wrapper, lambda m, v: many(lambda row: tj.tanh(row @ v), m), M, np.array([0.5, -1.5]))


@MAPS
@WAYS
def test_maps_with_branches(wrapper, name):
    many = getattr(tj, name)

    def f(v):
        return many(lambda x: tj.cond(x > 0, lambda: tj.sqrt(x), lambda: x * 3.0), v)

    close(wrapper(f)(tj.constant(V)), np.where(V > 0, np.sqrt(np.abs(V)), V * 3))
    check_gradients(wrapper, f, V)


def settle(x):
    """Halve until small; each lane takes a number of steps of its own."""
    n = 0
    while tj.abs(x) > 0.3:
        x = x / 2.0
        n += 1
    return x * 1.0, x * 0.0 + n


@MAPS
def test_maps_with_loops_of_different_lengths(name):
    many = getattr(tj, name)
    signature = {"fn_output_signature": (tj.float64, tj.float64)} if name == "map_fn" else {}
    x, n = tj.function(lambda v: many(settle, v, **signature))(tj.constant(V))
    steps = np.maximum(np.ceil(np.log2(np.abs(V) / 0.3)), 0)
    assert len(set(steps)) > 2
    close(n, steps)
    close(x, V / 2**steps)


@WAYS
def test_a_map_to_another_dtype_and_structure(wrapper):
    @wrapper
    def f(v):
        return tj.map_fn(lambda x: (x > 0, x * 2.0), v, fn_output_signature=(tj.bool, tj.float64))

    positive, twice = f(tj.constant(V))
    assert positive.numpy().tolist() == [True, False, True, True]
    close(twice, V * 2)


@WAYS
def test_a_map_over_nothing(wrapper):
    f = wrapper(lambda v: tj.map_fn(lambda x: x * 2.0, v))
    assert f(tj.constant(V[:0])).shape == (0,)
    assert f(tj.constant(V)).shape == (4,)


# --- TensorArray ------------------------------------------------------------------------------------------------------
@WAYS
def test_tensor_array_operations(wrapper):
    @wrapper
    def f(m):
        ta = tj.TensorArray(tj.float64, size=0, dynamic_size=True, clear_after_read=False)
        ta = ta.unstack(m)
        ta = ta.write(ta.size(), m[0] * 2.0)
        return ta.stack(), ta.read(1), ta.size(), ta.gather([3, 0]), ta.concat()

    stacked, second, size, some, joined = f(tj.constant(M))
    want = np.concatenate([M, M[:1] * 2])
    close(stacked, want)
    close(second, M[1])
    assert int(size) == 4
    close(some, want[[3, 0]])
    close(joined, want.reshape(-1))


@WAYS
def test_gradients_through_a_tensor_array(wrapper):
    def f(v, n=4):
        ta = tj.TensorArray(tj.float64, size=n, clear_after_read=False)
        for i in tj.range(n):
            ta = ta.write(i, tj.sin(v[i]) * v[n - 1 - i])
        return ta.stack() * ta.read(1)

    check_gradients(wrapper, f, V)


@WAYS
def test_a_tensor_array_in_a_while_loop(wrapper):
    @wrapper
    def f(n):
        ta = tj.TensorArray(tj.int32, size=0, dynamic_size=True)
        _, ta = tj.while_loop(lambda i, ta: i < n, lambda i, ta: (i + 1, ta.write(i, i * i)), (tj.constant(0), ta))
        return ta.stack()

    assert f(tj.constant(5)).numpy().tolist() == [0, 1, 4, 9, 16]
    assert f(tj.constant(1)).numpy().tolist() == [0]


@WAYS
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_tensor_array_with_elements_grows_in_a_loop(wrapper, steps):
    def f(x, n):
        ta = tj.TensorArray(tj.float64, size=0, dynamic_size=True).write(0, x)
        for i in tj.range(n):
            ta = ta.write(i + 1, x * tj.cast(i + 2, tj.float64))
        return ta.stack()

    @wrapper
    def both(x, n):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, n)
        return y, tape.gradient(y, x)

    y, g = both(tj.constant([1.0, 3.0], tj.float64), tj.constant(steps))
    counts = np.arange(1.0, steps + 2)
    close(y, np.outer(counts, [1.0, 3.0]))
    close(g, [counts.sum()] * 2)


@WAYS
def test_a_loop_writes_over_the_elements_of_a_tensor_array_that_may_grow(wrapper):
    @wrapper
    def f(x, n):
        ta = tj.TensorArray(tj.float64, size=3, dynamic_size=True, element_shape=())
        for i in tj.range(n):
            ta = ta.write(i, x * tj.cast(i, tj.float64))
        return ta.stack()

    close(f(tj.constant(2.0, tj.float64), tj.constant(2)), [0.0, 2.0, 0.0])


# --- gradients to higher order through converted code -----------------------------------------------------------------
def test_third_order_through_a_while():
    def tower(x):
        y = x
        while y < 20.0:
            y = y * y * x
        return y

    def third(x):
        with tj.GradientTape() as a:
            a.watch(x)
            with tj.GradientTape() as b:
                b.watch(x)
                with tj.GradientTape() as c:
                    c.watch(x)
                    y = tower(x)
                g = c.gradient(y, x)
            h = b.gradient(g, x)
        return y, g, h, a.gradient(h, x)

    x = tj.constant(1.5, tj.float64)  # x, x³, x⁷, x¹⁵ …
    steps, y = 1, 1.5
    while y < 20:
        y, steps = y * y * 1.5, 2 * steps + 1
    n = steps
    want = [1.5**n, n * 1.5 ** (n - 1), n * (n - 1) * 1.5 ** (n - 2), n * (n - 1) * (n - 2) * 1.5 ** (n - 3)]
    for got in (third(x), tj.function(third)(x)):
        close(got, want, 1e-10)
