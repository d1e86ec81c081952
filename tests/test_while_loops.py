"""`while` loops of converted code: what is found out late about their variables, and counters of Python's."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning, UnrollingWarning


def halved_until(x):
    n = 0
    while True:
        x = x * 0.5
        n += 1
        if x < 1:
            break
        if n > 3:
            return x * 10
    return x


def test_a_return_that_a_counter_of_pythons_decides_on_in_an_endless_loop():
    f = tj.function(halved_until, strict=True)
    for x in (100.0, 5.0, 1.0):
        assert float(f(tj.constant(x))) == halved_until(x)


def halved_with_count(x):
    n = 0
    while True:
        x = x * 0.5
        n += 1
        if x < 1:
            break
        if n > 3:
            return -1.0, n
    return x, n


def test_a_returned_tuple_that_a_counter_of_pythons_decides_on_in_an_endless_loop():
    f = tj.function(halved_with_count, strict=True)
    for x in (100.0, 5.0):
        y, n = f(tj.constant(x))
        assert (float(y), int(n)) == halved_with_count(x)


# --- counters of Python's ---------------------------------------------------------------------------------------------
def counted(x):
    i = 0
    while i < 1000:
        x = tj.sin(x) + i
        i += 1
    return x * i


def counted_with_exits(x):
    i, items = 0, []
    while i < 300:
        i += 1
        if i % 7 == 0:
            continue
        if x > 1e9:
            break
        x = tj.sin(x) + i
        items.append(x)
    return tj.stack(items), i


@pytest.mark.parametrize("f", [counted, counted_with_exits])
def test_a_long_loop_with_a_counter_of_pythons_is_one_loop(f):
    g = tj.function(f, strict=True)
    x = tj.constant(1.0, tj.float64)
    for got, wanted in zip(tj.nest.flatten(g(x)), tj.nest.flatten(f(x)), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(wanted))
    assert g.stats()["nodes"] < 60


def nested(x):
    n, k = x.shape[0], 0
    while k < 3:
        i = 1
        while i < n - 1:
            j = 1
            while j < n - 1:
                x[i, j] = (x[i - 1, j] + x[i + 1, j]) * 0.5
                j += 1
            i += 1
        k += 1
    return x


def test_loops_within_loops_with_counters_of_pythons_are_few_operations():
    f = tj.function(nested)
    a = np.random.default_rng(0).normal(size=(30, 30))
    np.testing.assert_allclose(np.asarray(f(tj.constant(a))), nested(a.copy()))
    assert f.stats()["nodes"] < 500


def test_a_long_loop_whose_sizes_change_stays_a_row_of_steps():
    @tj.function(strict=True)
    def f(x):
        i = 0
        while i < 100:
            x = tj.concat([x, x[:1]], 0)
            i += 1
        return x

    assert f(tj.ones([1])).shape == (101,)


def test_a_short_loop_with_a_counter_of_pythons_keeps_it_a_number():
    @tj.function(strict=True)
    def f(x):
        parts, i = (x, x * 2.0, x * 3.0), 0
        while i < 3:
            x = x + parts[i]
            i += 1
        return tj.zeros([i]) + x

    assert f(tj.constant(1.0)).numpy().tolist() == [7.0, 7.0, 7.0]


def test_very_many_steps_that_cannot_become_a_loop_are_told_of():
    @tj.function
    def f(x):
        for part in [x[:1]] * 1100:
            x = tj.concat([x, part + 1.0], 0)
        return x

    with pytest.warns(UnrollingWarning, match=r"tj.range"):
        assert f(tj.ones([1])).shape == (1101,)


def test_a_condition_that_nothing_carried_changes_is_asked_for_step_by_step():
    left = iter(range(80, -1, -1))

    @tj.function
    def f(x):
        n = 0.0
        while next(left) > 0:
            x, n = x + 1.0, n + 1.0
        return x, n

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [float(v) for v in f(tj.constant(0.0))] == [80.0, 80.0]


# --- shapes that change -----------------------------------------------------------------------------------------------
def lengthened(x):
    shapes = (tj.TensorShape([]), tj.TensorShape([None]))
    step = lambda i, y: (i + 1, tj.concat([y, [x * tj.cast(i, tj.float32)]], 0))  # noqa: E731
    return tj.while_loop(lambda i, y: i < 3, step, (tj.constant(0), tj.reshape(x, [1])), shape_invariants=shapes)[1]


def test_a_while_loop_whose_shape_invariants_let_shapes_change():
    with pytest.warns(ConversionWarning, match="shape_invariants"):
        got = tj.function(lengthened)(tj.constant(2.0))
    assert got.numpy().tolist() == lengthened(tj.constant(2.0)).numpy().tolist() == [2.0, 0.0, 2.0, 4.0]
    with pytest.raises(ConversionError, match=r"\(1,\).*\(2,\)"):
        tj.function(lengthened, strict=True)(tj.constant(2.0))


def test_returns_of_other_shapes_run_as_python():
    def f(a, b):
        items = [a]
        if a > 0:
            items.append(b)
        if b > 0:
            return tj.stack(items)
        items.append(a * b)
        return tj.stack(items)

    g = tj.function(f)
    with pytest.warns(ConversionWarning, match="value returned"):
        assert g(1.0, tj.constant(2.0)).shape == (2,)
    for a, b in ((-1.0, 2.0), (-1.0, -2.0), (1.0, -9.0)):
        a, b = tj.constant(a), tj.constant(b)
        assert g(a, b).numpy().tolist() == f(a, b).numpy().tolist()


# --- items that are None at first, or later ---------------------------------------------------------------------------
def returned_from_within(x, n):
    best = None
    for _ in range(n):
        for _ in range(n):
            if best is None:
                return x, best
            x = x * 2.0
        best = x
    return x, best


def returned_late(x, n):
    best = None
    for _ in range(n):
        for j in range(n):
            if x > 20.0:
                return x, best
            x = x * 2.0 + j
        if x > 3.0:
            best = x * x
    return x, best


def pair_gets_an_item(x, n):
    pair = (x, None)
    for _ in range(n):
        if x > 4.0:
            pair = (x, x * 3.0)
        x = x * 2.0
    return pair


def pair_loses_an_item(x, n):
    pair = (x, x)
    for i in range(n):
        if i == 3:
            pair = (x, None)
        x = x * 2.0
        if i == 5:
            pair = (x, x * 3.0)
    return pair


@pytest.mark.parametrize("f", [returned_from_within, returned_late, pair_gets_an_item, pair_loses_an_item])
def test_items_of_tuples_that_are_none_in_some_steps(f):
    g = tj.function(f, strict=True)
    for n in (0, 1, 2, 4, 8):
        for x in (0.5, 3.0):
            got, wanted = g(tj.constant(x), tj.constant(n)), f(x, n)
            assert [v is None for v in got] == [v is None for v in wanted]
            assert [float(v) for v in got if v is not None] == [v for v in wanted if v is not None]


def test_gradients_of_an_item_that_is_none_at_first():
    g = tj.function(lambda x, n: returned_late(x, n)[1], strict=True)
    x = tj.constant(1.5)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = g(x, tj.constant(3))
    low, high = (returned_late(v, 3)[1] for v in (1.499, 1.501))
    assert float(tape.gradient(y, x)) == pytest.approx((high - low) / 0.002)
