"""Derivatives to order 3 of functions with loops whose states are Python numbers: nests of tapes, accumulators,
Jacobians and Hessians, traced in all places against plain Python."""

import functools
import random
import warnings

import numpy as np
import pytest

import tracejit as tj

X = np.array([0.9, 0.6])
ROWS = [1.0, 1.15]


def total(x):
    return tj.reduce_sum(x)


def counted(x):
    n = 0
    while total(x * x) < 30:
        x = x * 1.4 + tj.sin(x)
        n += 1
    return total(x * x) * n


def floating(x):
    c, h = 1.5, 0.0
    while total(x) < 20 and c > 0.4:
        x = x * c + tj.sin(x)
        c *= 0.9
        h = h + total(x * x) * c
    return h + c * total(x)


def whole_first(x):
    h, n = 0, 10
    while n > 3 and total(x) < 30:
        h = h + total(tj.sin(x) * x)
        x = x * 1.2 + max(n, 8) * 0.1
        n = n // 2 if n % 2 == 0 else n - 1
    return h * (n + 0.5)


def broken(x):
    y = x
    for i in range(40):
        y = y * tj.sin(y) * 0.3 + y + x * i * 0.1
        if total(y) > 20:
            break
    return total(y * y) * i


def continued(x):
    h, n = 0.0, 0
    while n < 5:
        n += 1
        if total(x) * n < 5:
            continue
        h += total(tj.sin(x * n) * x)
        x = x * 1.1
    return h


def returning(x):
    n = 1
    while total(x) < 50:
        x = x * 1.5 + tj.sin(x)
        if total(x) > 20:
            return total(x * x) * n
        n += 1
    return total(x * x * x)


def nested(x):
    h, n = 0.0, 0
    while total(x) < 9:
        k = 0
        while total(x) * k < 6:
            x = x * 1.1 + tj.sin(x) * 0.1
            k += 1
        h = h + k * total(x * x)
        n += k
    return h + n * total(x)


def appending(x):
    out, k = [], 1
    for _ in tj.range(3):
        x = x * 1.3 + tj.sin(x) * k
        k = k * 2
        out.append(x * x)
    return total(tj.stack(out)) * k


def written(x):
    rows, n = tj.TensorArray(x.dtype, size=3), 0
    for i in tj.range(3):
        x = x * 1.3 + tj.sin(x)
        rows = rows.write(i, x * n)
        n += 1
    return total(rows.stack() ** 2)


def of_many_types(x):
    a, b, c, d = tj.constant(0), tj.constant(0, tj.int64), tj.constant(1, tj.uint8), tj.constant(1.0, tj.float64)
    while total(x) < 30 and a < 7:
        x = x * 1.4 + tj.sin(x)
        a, b, c, d = a + 1, b + 2, c + 1, d * 0.5
    return total(x * x) * tj.cast(tj.cast(a + tj.cast(c, tj.int32), tj.int64) + b, x.dtype) * tj.cast(d, x.dtype)


def in_a_branch(x):
    n = 0
    if total(x) > 0.5:
        h = 0
        while total(x) < 20:
            x = x * 1.5 + tj.sin(x)
            n += 1
            h = h + total(x)
        y = h * n
    else:
        n = 3
        y = total(x * x)
    return y * n + total(x * x)


def of_the_library(x):
    def step(i, y, h):
        return i + 1, tj.cond(total(y) > 3, lambda: y * 1.5, lambda: y * 2 + tj.sin(y)), h + total(y * y)

    i, y, h = tj.while_loop(lambda i, y, h: total(y) < 20, step, (0, x, 0.0))
    return total(y * y) * tj.cast(i, x.dtype) + tj.cast(h, x.dtype)


def scanned(x):
    def step(a, r):
        n, c = 0, 0.0
        while a < 3 * (n + 1):
            a = a * 1.5 + tj.sin(r) + 0.2
            n += 1
            c += 0.5
        return a * 0.5 + n * r + c

    return total(tj.scan(step, x, initializer=total(x)) ** 2)


def recomputed(x):
    return tj.recompute_grad(counted)(x * 1.1) * total(x)


FUNCTIONS = (
    counted, floating, whole_first, broken, continued, returning, nested, appending, written, of_many_types,
    in_a_branch, of_the_library, scanned, recomputed,
)  # fmt: skip


# --- derivatives: of a function of a vector that gives a number, another one ----------------------------------------
def w(x, *numbers):
    return tj.constant(numbers, x.dtype)


def tape(f):
    def g(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = f(x)
        return total(t.gradient(y, x) * w(x, 0.7, -0.4))

    return g


def tape_twice(f):
    def g(x):
        with tj.GradientTape(persistent=True) as t:
            t.watch(x)
            y = f(x)
            first = t.gradient(y, x)
        return total(first * w(x, 0.3, 1.1)) + total(t.gradient(y, x) * w(x, -0.5, 0.2))

    return g


def accumulator(f):
    def g(x):
        with tj.autodiff.ForwardAccumulator(x, w(x, 0.3, 1.1)) as acc:
            y = f(x)
        return acc.jvp(y)

    return g


def jvp(f):
    return lambda x: tj.jvp(f, (x,), (w(x, -0.6, 0.9),))[1]


def vjp(f):
    return lambda x: total(tj.vjp(f, x)[1](w(x, 1.5)[0])[0] * w(x, 0.7, -0.4))


def jacobian(f, mode="reverse"):
    return lambda x: total(tj.jacobian(f, mode=mode)(x) * w(x, 0.3, 1.1))


forward_jacobian = functools.partial(jacobian, mode="forward")


def jacobian_of_tape(f):
    def g(x):
        with tj.GradientTape() as t:
            t.watch(x)
            y = f(x) * w(x, 0.7, -0.4)
        return total(t.jacobian(y, x) * w(x, 0.3, 1.1))

    return g


def hessian(f):
    return lambda x: total(tj.hessian(f)(x) * w(x, 0.7, -0.4)[:, None] * w(x, 0.3, 1.1))


def hvp(f):
    return lambda x: total(tj.hvp(f, (x,), (w(x, 0.7, -0.4),))[0] * w(x, -0.6, 0.9))


def hessian_of_tapes(f):
    return jacobian_of_tape(tape(f))


ONCE = (tape, tape_twice, accumulator, jvp, vjp, jacobian, forward_jacobian, jacobian_of_tape)
TWICE = (hessian, hvp, hessian_of_tapes)
WIDE = {jacobian, forward_jacobian, jacobian_of_tape, hessian, hessian_of_tapes}  # which map over vectors of a basis


def rows(f):
    return lambda x: total(tj.vectorized_map(lambda k: f(x * k) * k, tj.constant(ROWS, x.dtype)))


def one_by_one(f):
    return lambda x: sum(f(x * k) * k for k in ROWS)


def nest(rnd, order):
    """Derivatives of this order in all, with functions traced around some of them, and rows mapped over around one."""
    while True:
        chain, left = [], order
        while left:
            d = rnd.choice(ONCE + TWICE * (left > 1))
            left -= 1 + (d in TWICE)
            chain += [d, *[tj.function] * (rnd.random() < 0.3)]
        if sum(d in WIDE for d in chain) < 2:
            break
    if order < 3 and rnd.random() < 0.4:
        chain.insert(rnd.randrange(len(chain) + 1), rows)
    return chain if tj.function in chain else [*chain, tj.function]


def applied(chain, f, plain=False):
    for d in chain:
        if not plain:
            f = d(f)
        elif d is not tj.function:
            f = one_by_one(f) if d is rows else d(f)
    return f


def agree(f, chain, dtype="float64"):
    x = tj.constant(X, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = applied(chain, f)(x)
    want = applied(chain, f, plain=True)(x)
    assert got.dtype == want.dtype
    rounding = 1e-9 if dtype == "float64" else 1e-3
    said = " ".join(getattr(d, "__name__", "forward_jacobian") for d in chain)
    np.testing.assert_allclose(got, want, rtol=rounding, atol=rounding, err_msg=said)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_gradients_of_plain_python_are_differences_of_values(f):
    """What the nests are compared with."""
    gradient = tj.jacobian(f)(tj.constant(X))
    for i, h in enumerate(np.eye(2) * 1e-6):
        near = (float(f(tj.constant(X + h))) - float(f(tj.constant(X - h)))) / 2e-6
        np.testing.assert_allclose(gradient[i], near, rtol=1e-5)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_a_traced_hessian(f):
    agree(f, [hessian, tj.function])


@pytest.mark.parametrize("f", FUNCTIONS)
def test_nests_of_derivatives(f):
    rnd = random.Random(f.__name__)
    for order in (1, 2, 3):
        agree(f, nest(rnd, order), rnd.choice(["float64", "float64", "float32"]))


def test_gradients_of_a_loop_in_a_branch_that_are_asked_twice():
    agree(in_a_branch, [tape, jvp, tape_twice, tj.function])


@pytest.mark.parametrize("among", ["a branch", "a loop"])
def test_gradients_inside_and_behind(among):
    def f(x, c):
        with tj.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tj.GradientTape() as inner:
                inner.watch(x)
                y = counted(x)
            d = total(inner.gradient(y, x) ** 2)
        e = x
        if among == "a branch":
            if c > 0:
                e = outer.gradient(d, x)
        else:
            for _ in tj.range(c):
                e = e + outer.gradient(d, x)
        return e, outer.gradient(d, x)

    traced = tj.function(f)
    for c in (2, 0):
        for got, want in zip(traced(tj.constant(X), tj.constant(c)), f(tj.constant(X), tj.constant(c)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9)


def test_gradients_asked_twice_of_what_is_computed_again():
    agree(recomputed, [tape_twice, tj.function])


@pytest.mark.parametrize("chain", [(accumulator, jacobian_of_tape), (hessian,)])
def test_calls_of_one_traced_function_take_different_numbers_of_steps(chain):
    def step(x, n):
        k = 0
        while total(x) < 5 + n:
            x = x * 1.5 + tj.sin(x)
            k += n
        return x * k

    def f(x, step):
        n = 1
        while total(x) < 30:
            x = step(x, n) + x
            n += 1
        return total(x * x)

    traced, plain = functools.partial(f, step=tj.function(step)), functools.partial(f, step=step)
    x = tj.constant(X)
    np.testing.assert_allclose(applied(chain, traced)(x), applied(chain, plain)(x), rtol=1e-9)
