"""Loops over stencils take several steps in one passage through memory, with the bits of one step after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracejit as tj

COUNTS = (0, 1, 16, 50)


def swept(f: Any, *args: Any) -> bool:
    return "steps at once" in str(f.explain(*args))


def check(step: Callable[..., Any], n: int, *arrays: Any, expect: bool | None = True) -> None:
    """n steps in a loop are what n calls of one step are."""
    single = tj.function(step)

    @tj.function
    def loop(n: Any, *states: Any) -> Any:
        for _ in tj.range(n):
            states = step(*states)
        return states

    @tj.function
    def known(*states: Any) -> Any:
        for _ in tj.range(n):
            states = step(*states)
        return states

    states = tuple(map(tj.constant, arrays))
    want = states
    for _ in range(n):
        want = single(*want)
    for got in (loop(tj.constant(n), *states), known(*states)):
        for x, y in zip(got, want, strict=True):
            np.testing.assert_array_equal(x, y)
    if expect is not None and n > 4:  # few steps stand one after the other in the program
        assert swept(known, *states) is expect


def inner(u: Any) -> Any:
    return u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4.0 * u[1:-1, 1:-1]


def heat(u: Any) -> Any:
    new = u[1:-1, 1:-1] + 0.2 * inner(u)
    middle = tj.concat([u[1:-1, :1], new, u[1:-1, -1:]], axis=1)
    return (tj.concat([u[:1], middle, u[-1:]], axis=0),)


def wide(u: Any) -> Any:
    """A step that reaches three rows away."""
    return (tj.concat([u[:3], 0.5 * u[3:-3] + 0.25 * (u[:-6] + u[6:]), u[-3:]], 0),)


def one_sided(u: Any) -> Any:
    return (tj.concat([u[:1], 0.5 * (u[1:] + u[:-1])], 0),)


def line(x: Any) -> Any:
    return (tj.concat([x[:1], 0.5 * x[1:-1] + 0.25 * (x[2:] + x[:-2]), x[-1:]], 0),)


def logistic(x: Any) -> Any:
    return (2.5 * x * (1.0 - x),)


def jacobi(u: Any) -> Any:
    """The border becomes zero, whatever it was."""
    return (tj.pad(0.25 * (inner(u) + 4.0 * u[1:-1, 1:-1]), [[1, 1], [1, 1]]),)


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("step", [heat, wide, one_sided, jacobi], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(1024, 130), (333, 700)], ids=str)
def test_rows(step: Callable[..., Any], shape: tuple[int, int], n: int) -> None:
    check(step, n, np.random.default_rng(0).standard_normal(shape, np.float32))


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("step", [line, logistic], ids=lambda f: f.__name__)
def test_one_axis(step: Callable[..., Any], n: int) -> None:
    check(step, n, np.random.default_rng(0).random(300_001))


def wave(u: Any, old: Any) -> Any:
    new = 2.0 * u[1:-1, 1:-1] - old[1:-1, 1:-1] + 0.1 * inner(u)
    return tj.pad(new, [[1, 1], [1, 1]]), u


def kept_border(u: Any, old: Any) -> Any:
    new = 2.0 * u[2:-2] - old[2:-2] + 0.1 * (u[4:] + u[:-4] - 2.0 * u[2:-2])
    return tj.concat([u[:2], new, u[-2:]], 0), u


def three(u: Any, before: Any, long_before: Any) -> Any:
    new = 0.5 * u[1:-1] + 0.2 * (before[2:] - before[:-2]) + 0.1 * long_before[1:-1]
    return tj.pad(new, [[1, 1], [0, 0]], constant_values=0.5), u, before


def apart(u: Any, v: Any, w: Any) -> Any:
    """A state in place, one that changes places, and one that is what another was."""
    new = tj.concat([u[:1], u[1:-1] + 0.1 * (v[2:] - v[:-2]), u[-1:]], 0)
    return 0.9 * u + 0.1 * w, new, v


@pytest.mark.parametrize("n", (0, 1, 2, 4, 30, 46))
@pytest.mark.parametrize("step", [wave, kept_border, three, apart], ids=lambda f: f.__name__)
def test_states_before(step: Callable[..., Any], n: int) -> None:
    """States that become what others were, with borders that differ at first."""
    k = 2 if step in (wave, kept_border) else 3
    arrays = np.random.default_rng(0).standard_normal((k, 300, 200))
    check(step, n, *arrays, expect=None if step is apart else True)


def test_other_arrays_and_positions() -> None:
    a, b = np.random.default_rng(0).random((2, 500, 64))

    def step(u: Any) -> Any:
        new = u[1:-1] + a[1:-1] * (u[2:] - u[:-2]) + tj.cast(tj.range(498), tj.float64)[:, None] * 1e-3
        return (tj.concat([u[:1], new, u[-1:]], 0),)

    check(step, 40, b)


def test_what_reaches_all_rows_goes_step_by_step() -> None:
    x = np.random.default_rng(0).random((400, 64))
    check(lambda u: (0.5 * (u + u[::-1]),), 20, x, expect=False)
    check(lambda u: (u - tj.reduce_mean(u, 0),), 20, x, expect=False)
    square = x[:64]
    check(lambda u: (0.5 * (u + tj.transpose(u)),), 20, square, expect=False)
    check(lambda u: (u + 0.1 * u[:1],), 20, x, expect=False)


def test_a_counter_is_no_passage() -> None:
    def f(u: Any) -> Any:
        for i in tj.range(40):
            u = u * 0.5 + tj.cast(i, tj.float32)
        return u

    x = np.ones((500, 64), np.float32)
    np.testing.assert_array_equal(tj.function(f)(x), f(tj.constant(x)))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_stencils(data: st.DataObject) -> None:
    """Any rows above and below, any columns, one or two arrays, any count."""
    above, below, left, right = (data.draw(st.integers(0, 3)) for _ in range(4))
    rows = data.draw(st.sampled_from([20, 64, 150, 700])) + data.draw(st.integers(0, 9))
    columns = data.draw(st.sampled_from([9, 40, 3000]))
    taps = data.draw(st.lists(st.tuples(st.integers(-above, below), st.integers(-left, right)), min_size=1, max_size=4))
    u = np.random.default_rng(data.draw(st.integers(0, 99))).random((rows, columns))

    def step(u: Any) -> Any:
        new = 0.3 * u[above : rows - below, left : columns - right]
        for y, x in taps:
            new = new + 0.1 * u[above + y : rows - below + y, left + x : columns - right + x]
        new = tj.concat([u[above : rows - below, :left], new, u[above : rows - below, columns - right :]], 1)
        return (tj.concat([u[:above], new, u[rows - below :]], 0),)

    check(step, data.draw(st.integers(0, 70)), u, expect=None)
