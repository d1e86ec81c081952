"""Loops over Python's ranges, lists and iterators that a tensor may end: traced functions do as plain Python."""

import itertools
import math

import numpy as np
import pytest
from helpers import outcome, same

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning

VALUES = (2.0, 0.5, -3.0, 60.0)
X = [1.0, -2.0, 3.0]


# --- numbers that Python needs in each step ---------------------------------------------------------------------------
def numbers_of_a_list(x):
    parts = [1.0, 2.0, 3.0]
    for i in range(3):
        if x > 50:
            break
        x = x + parts[i]
    return x


def tensors_of_a_list(x):
    parts, s = [x, x * 2, x * 3], 0.0
    for i in range(3):
        if s > 5:
            break
        s = s + parts[i]
    return s


def a_list_written_to(x):
    parts = [x, x * 2, x * 3]
    for i in range(3):
        if x > 50:
            break
        parts[i] = parts[i] + 1
    return parts


def nested_lists(x):
    rows = [[x, 1.0], [2.0, x]]
    for i in range(2):
        for j in range(2):
            if rows[i][j] > 1.5:
                rows[i][j] = rows[i][j] * 2
                continue
            if x > 50:
                break
    return rows[0][0], rows[0][1], rows[1][0], rows[1][1]


def a_dict(x):
    parts = {0: x, 1: x * 2, 2: x + 1}
    for k in range(3):
        if x > 3:
            return x
        x = x + parts[k]
    return -x


def names_by_number(x):
    names, s = ["a", "b", "c"], 0.0
    for k in range(3):
        if s > 3:
            break
        s = s + (x if names[k] == "a" else x * 10)
    return s


def functions_of_math(x):
    for k in range(1, 4):
        if x > 5:
            break
        x = x + math.factorial(k) + 2**k + tj.zeros((k,)).shape[0]
    return x


def from_both_ends(x):
    parts, n = [x, x * 2, x * 3, x * 4], 0
    for i in range(4):
        n += 1
        if parts[i] + parts[3 - i] > 9:
            break
        parts[i] = parts[-n]
    return parts, n


def a_long_range(x):
    parts = [float(k % 7) for k in range(50)]
    for i in range(50):
        if x > 40:
            break
        x = x + parts[i]
    return x


@pytest.mark.parametrize(
    "f",
    [numbers_of_a_list, tensors_of_a_list, a_list_written_to, nested_lists, a_dict, names_by_number, functions_of_math,
     from_both_ends, a_long_range],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_a_range_that_a_tensor_ends(f):
    same(f, *VALUES)


def test_variables_of_a_list():
    def run(wrap):
        parts = [tj.Variable(1.0), tj.Variable(2.0), tj.Variable(4.0)]

        def f(x):
            for k in range(3):
                if x > 4:
                    break
                x = x + parts[k]
                parts[k].assign_add(1.0)
            return x

        f = wrap(f)
        return [[f(tj.constant(v)).numpy().tolist(), [float(p) for p in parts]] for v in VALUES]

    assert run(lambda f: tj.function(f, strict=True)) == run(lambda f: f)


def test_the_gradient_of_a_range_that_a_tensor_ends():
    def f(x):
        parts = [x, x * x, tj.sin(x)]
        for i in range(3):
            if x > 50:
                break
            x = x * parts[i]
        return x

    for v in VALUES:
        found = []
        for g in (f, tj.function(f, strict=True)):
            x = tj.constant(v)
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = g(x)
            found.append(float(tape.gradient(y, x)))
        assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_list_gone_through_to_its_end_and_not():
    parts = [float(i) for i in range(100)]

    def f(x):
        for i, v in enumerate(parts):
            x = x + v
            if x > 100:
                break
        else:
            i = -1
        return x, i

    same(f, 2.0, 99.0, 1e9, -1e6)


def test_layers_of_different_width():
    weights = [tj.ones((2, 3)), tj.ones((3, 4)), tj.ones((4, 2))]

    def f(x):
        h = tj.ones((1, 2)) * x
        for k in range(3):
            if tj.reduce_sum(h) > 10:
                break
            h = h @ weights[k]
        return h

    traced = tj.function(f, strict=True)
    for x in (0.1, 10.0, 2.0):
        np.testing.assert_allclose(traced(tj.constant(x)), f(tj.constant(x)).numpy(), rtol=1e-6)


def test_what_is_kept_has_the_shape_of_the_last_step():
    def scene(wrap):
        kept = {}

        def f(x):
            h = x
            for _ in range(3):
                h = tj.concat([h, h], 0)
                if tj.reduce_sum(h) > 10:
                    break
            kept["h"] = h
            return x

        f = wrap(f)
        out = []
        for x in (1.0, 2.0, 9.0):
            f(tj.constant([x, 1.0]))
            out.append(kept["h"].numpy().tolist())
        return out

    assert scene(lambda f: tj.function(f, strict=True)) == scene(lambda f: f)


WIDTHS = [np.ones((6, 4)), np.ones((4, 3)) * 0.5, np.ones((3, 2)) * 0.1]


def layers_until(v):
    h = v
    for w in WIDTHS:
        h = tj.tensordot(h, w, 1)
        if tj.reduce_sum(h) < 0:
            break
    return tj.reduce_sum(h) + h[0] - (h * 2)[-1]


def layers_with_a_return(v):
    h = v
    for i in range(3):
        h = tj.tanh(tj.tensordot(h, WIDTHS[i], 1))
        if h[0] < 0.5:
            return h[0] * 10
    else:
        return tj.reduce_sum(h)


def layers_after_a_test(v):
    h, used = v, 0
    for w in WIDTHS:
        if tj.reduce_sum(h) > 100:
            break
        h, used = tj.tensordot(h, w, 1), used + 1
    return tj.reduce_max(h), used, -h[:1]


def growing(v):
    for _ in range(4):
        if tj.reduce_sum(v) > 10:
            break
        v = tj.concat([v, v[:1]], 0)
    return tj.reduce_mean(v)


@pytest.mark.parametrize("f", [layers_until, layers_with_a_return, layers_after_a_test, growing])
def test_steps_of_different_shapes(f):
    v = tj.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0], tj.float64)
    traced = tj.function(f, strict=True)
    for x in (v, -v, v * 0.01, v * 10.0):
        got, want = traced(x), f(x)
        for a, b in zip(got if type(got) is tuple else (got,), want if type(want) is tuple else (want,), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_gradients_through_steps_of_different_shapes():
    v = tj.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0], tj.float64)
    found = []
    for g in (layers_until, tj.function(layers_until, strict=True)):
        with tj.GradientTape() as tape:
            tape.watch(v)
            y = g(v)
        found.append(tape.gradient(y, v).numpy())
    np.testing.assert_allclose(*found, rtol=1e-12)


# --- iterators --------------------------------------------------------------------------------------------------------
def test_counting_without_an_end():
    def alone(x):
        for i in itertools.count():
            x = x * 0.5 + i
            if x > 4:
                break
        return x, i

    def nested(x):  # noqa: RET503
        s = x
        for i in itertools.count(1, 2):
            for j in itertools.count(i):
                s = s + j
                if s > 5 * (i + 1):
                    break
            if i > 3 + x:
                return s, i, j

    def of_numbers(x):
        numbers = itertools.count(1)
        a = next(numbers)
        for i in numbers:
            if i > 4:
                break
            a += i
        return a + next(numbers), x

    for f in (alone, nested, of_numbers):
        same(f, *VALUES[:3])


def test_a_count_that_is_used_after_a_tensor_has_ended_its_loop_falls_back():
    def f(x):
        numbers = itertools.count(1)
        for i in numbers:
            x = x + i
            if x > 20:
                break
        return x + next(numbers)

    with pytest.warns(ConversionWarning, match=r"itertools\.count"):
        same(f, 2.0, -1.0, strict=False)


def test_zip_with_what_has_no_length():
    def f(xs):
        s = 0.0
        for k, v in zip(itertools.count(), xs):
            s = s + k * v
        for v, (a, b), c in zip(xs, {1: 2, 3: 4}.items(), (q for q in "abcdef")):
            s = s + v * a * b + len(c)
        for v, k in zip(xs, map(abs, [1, -2])):
            s = s + v * k
        return s

    same(f, X)


def test_zip_strict():
    def uneven(xs):
        s = 0.0
        for a, b in zip(xs, xs[:2], strict=True):
            s = s + a * b
        return s

    def ended(xs):
        s = 0.0
        for a, b in zip(xs, [1, 2], strict=True):
            s = s + a * b
            if s < -2.5:
                break
        return s

    def even(xs):
        s = 0.0
        for a, b in zip(xs, xs * 2, strict=True):
            s = s + a * b
        return s

    assert outcome(tj.function(uneven), tj.constant(X)) is ValueError
    same(uneven, X)
    same(ended, X)
    same(even, X, [1.0] * 7)

    def counted(n, xs):
        s = 0.0
        for i, a in zip(tj.range(n), xs, strict=True):
            s = s + a * tj.cast(i, tj.float32)
        return s

    f = tj.function(counted)
    assert float(f(tj.constant(3), tj.constant(X))) == 4.0
    with pytest.raises(ArgumentError, match=r"zip\(\)"):
        f(tj.constant(2), tj.constant(X))


def test_endless_generators():
    def f(x):
        def forever():
            while True:
                yield x

        s = 0.0
        for v in forever():
            s = s + v
            if s > 60:
                break
        return s

    same(f, 2.0, 3.0)


# --- sizes that the program finds out ---------------------------------------------------------------------------------
def test_loops_over_what_a_mask_has_left():
    def by_number(v):
        w, s = v[v > 0], 1.0
        for i in range(len(w)):
            s = s * w[i] + i
        for i in range(1, w.shape[0]):
            s = s + w[i] - w[i - 1]
        for i in range(len(w) - 1, -1, -1):
            s = s * 2 + w[i]
        return s, w

    def by_row(v):
        w, s = v[v > 0], 0.0
        for a in w:
            s = s + a
        for i, a in enumerate(w):
            s = s + i * a
        for a, b in zip(w, w * 2):
            s = s + a * b
        return s, tj.size(w)

    def by_tensor(v):
        w, s = v[v > 0], 0.0
        for i in tj.range(tj.size(w)):
            s = s + w[i] * tj.cast(i, tj.float32)
        return s

    def ended(v):
        w, s = v[v > 0], 0.0
        for i in range(len(w)):
            if s > 5:
                break
            s = s + w[i]
        return s, len(w)

    def compared(v):
        w, s = v[v > 0], 0.0
        n = len(w)
        while n > 0:
            s, n = s + w[n - 1] * n, n - 1
        if len(w) > 1:
            s = -s
        return s, 0 < len(w) < 3

    for f in (by_number, by_row, by_tensor, ended, compared):
        same(f, X, [-1.0, -2.0], [5.0, 6.0, 7.0, 8.0])
