"""Python numbers that say where slices begin and end, and have another value in each call: one trace serves all."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import RetracingWarning, ShapeError

ROWS, COLUMNS = 12, 5
DATA = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
FEW = 4 + 3  # a trace for each of four values, then one each for windows inside and beyond either end
TEXT, NUMBERS = "abcdefghijklmno", list(range(ROWS))




# --- of a length that is known ----------------------------------------------------------------------------------------
def ahead(x: Any, i: int) -> Any:
    return x[i : i + 4]


def batch(x: Any, i: int) -> Any:
    return x[i * 4 : (i + 1) * 4]


def behind(x: Any, i: int) -> Any:
    return x[i - 3 : i]


def from_the_end(x: Any, i: int) -> Any:
    return x[-i - 4 : -i]


def mirrored(x: Any, i: int) -> Any:
    return x[ROWS - 3 * i : ROWS - 3 * i + 3]


def stepped(x: Any, i: int) -> Any:
    return x[i : i + 7 : 2]


def columns(x: Any, i: int) -> Any:
    return x[..., i : i + 2]


def new_axis(x: Any, i: int) -> Any:
    return x[None, i : i + 2]


def of_part(x: Any, i: int) -> Any:
    return x[2:][i : i + 4][1:3]


def beside_rows(x: Any, i: int) -> Any:
    return x[i : i + 3, [0, 2]]


def beside_item(x: Any, i: int) -> Any:
    return x[1, i : i + 2]


def larger_than_the_axis(x: Any, i: int) -> Any:
    return x[i : i + 100]


def sizes(x: Any, i: int) -> Any:
    part = x[i : i + 4]
    return len(part), part.shape[0] * 2, part


def arithmetic(x: Any, i: int) -> Any:
    return x[i : i + 3] * i + x[i : i + 3] // 3


def looked_at(x: Any, i: int) -> Any:
    part = x[i : i + 4]
    if len(part) < 4:
        return part * 0
    return part


# --- of other lengths -------------------------------------------------------------------------------------------------
def first(x: Any, n: int) -> Any:
    return x[:n]


def rest(x: Any, n: int) -> Any:
    return x[n:]


def but_last(x: Any, n: int) -> Any:
    return x[:-n]


def last(x: Any, n: int) -> Any:
    return x[-n:]


def from_five(x: Any, n: int) -> Any:
    return x[5:n]


def backwards(x: Any, i: int) -> Any:
    return x[i + 4 : i : -1]


def every(x: Any, k: int) -> Any:
    return x[:: abs(k) + 1], x[:: -abs(k) - 1]


def far(x: Any, i: int) -> Any:
    return x[i : i + 2**40], x[: i + 2**33], x[i - 2**40 : i]


def ends(x: Any, i: int) -> Any:
    return x[i:None], x[None:i]


@pytest.mark.parametrize("f", (
    ahead, batch, behind, from_the_end, mirrored, stepped, columns, new_axis, of_part, beside_rows, beside_item,
    larger_than_the_axis, sizes, arithmetic, looked_at, first, rest, but_last, last, from_five, backwards, every, far,
    ends,
), ids=lambda f: f.__name__)  # fmt: skip
def test_slices(f: Callable[..., Any]) -> None:
    x, g, rng = tj.constant(DATA), tj.function(f), random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            i = rng.randint(-ROWS - 4, ROWS + 4)
            same(g(x, i), f(DATA, i))
    assert g.stats()["traces"] <= FEW


def same(got: Any, want: Any) -> None:
    if isinstance(want, (tuple, list)):
        assert type(got) is type(want) and len(got) == len(want)
        for a, b in zip(got, want):
            same(a, b)
        return
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype.kind == want.dtype.kind
    np.testing.assert_allclose(got, want)


def test_bounds_that_change_together() -> None:
    x, rng = tj.constant(DATA), random.Random(1)
    between = tj.function(lambda x, a, b: x[a:b])
    window = tj.function(lambda x, a, b: x[a : a + 2, b : b + 3])
    summed = tj.function(lambda x, a, b: x[a + b : a + b + 2])
    for _ in range(60):
        a, b = rng.randint(-16, 16), rng.randint(-8, 8)
        same(between(x, a, b), DATA[a:b])
        same(window(x, a, b), DATA[a : a + 2, b : b + 3])
        same(summed(x, a, b), DATA[a + b : a + b + 2])
    assert between.stats()["traces"] <= 5 and summed.stats()["traces"] <= 5
    assert window.stats()["traces"] <= 4 + 9


def test_a_number_that_stays_and_one_that_changes() -> None:
    x, g = tj.constant(DATA), tj.function(lambda x, i, size: x[i : i + size])
    for i in range(20):
        same(g(x, i % 10, 3), DATA[i % 10 : i % 10 + 3])
    assert g.stats()["traces"] <= FEW


def test_sizes_of_the_argument_change_too() -> None:
    g, rng = tj.function(lambda x, i: x[i : i + 4] * 2), random.Random(2)
    for _ in range(40):
        a, i = DATA[: rng.randint(2, ROWS)], rng.randint(-4, ROWS)
        same(g(tj.constant(a), i), a[i : i + 4] * 2)
    assert g.stats()["traces"] <= 2 * FEW


def test_calls_go_to_the_trace_that_fits() -> None:
    """Within limits and out of them in turn, also through the native table, a concrete function and keywords."""
    x, g = tj.constant(DATA), tj.function(lambda x, i: tj.reduce_sum(x[i : i + 4], 0))
    order = [0, 1, 2, 3, 4, 20, -7, 5, -9, 8, 9, 11, 12, 0, -1, 30, 7]
    for i in order * 3:
        same(g(x, i), DATA[i : i + 4].sum(0))
        same(g(x, i=i), DATA[i : i + 4].sum(0))
    assert g.stats()["traces"] <= FEW
    concrete = g.get_concrete_function(x, 6)
    assert "from 0 to 8" in g.explain(x, 6) and "from 9 on" in g.explain(x, 10) and "up to -1" in g.explain(x, -2)
    for i in order:
        same(concrete(x, i), DATA[i : i + 4].sum(0))
    for i in (2**31, -(2**40), True):
        same(g(x, i), DATA[i : i + 4].sum(0))


# --- state ------------------------------------------------------------------------------------------------------------
class Loader:
    def __init__(self, data: Any) -> None:
        self.data, self.pos, self.size = data, 0, 5

    def next(self) -> Any:
        part = self.data[self.pos : self.pos + self.size]
        self.pos += self.size
        if self.pos >= ROWS:
            self.pos = 0
        return part * 2.0

    def counted(self) -> int:
        """What no operation needs the number for."""
        n = len(self.data[self.pos : self.pos + 5])
        self.pos = (self.pos + 5) % 15
        return n


@pytest.mark.parametrize("method", ("next", "counted"))
def test_loader(method: str) -> None:
    plain, traced = Loader(DATA), Loader(tj.constant(DATA))
    g = tj.function(getattr(traced, method))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):
            same(g(), getattr(plain, method)())
            assert traced.pos == plain.pos
    assert g.stats()["traces"] <= FEW


def test_position_that_others_set() -> None:
    plain, rng = Loader(DATA), random.Random(3)
    traced = Loader(tj.constant(DATA))
    look = tj.function(lambda: traced.data[traced.pos : traced.pos + 3])
    for _ in range(40):
        traced.pos = rng.randint(-5, 15)
        same(look(), plain.data[traced.pos : traced.pos + 3])
    assert look.stats()["traces"] <= FEW + 1  # that it steers is found out when it has become an input


def test_an_argument_and_an_attribute_at_once() -> None:
    plain, traced, rng = Loader(DATA), Loader(tj.constant(DATA)), random.Random(7)

    def f(loader: Any, i: int) -> Any:
        loader.pos = (loader.pos + 2) % 5
        return loader.data[loader.pos + i : loader.pos + i + 2], loader.data[..., loader.pos - i : 3]

    g = tj.function(lambda i: f(traced, i))
    for _ in range(30):
        i = rng.randint(-9, 9)
        same(g(i), f(plain, i))
        assert traced.pos == plain.pos
    assert g.stats()["traces"] <= 12


class Ring:
    def __init__(self, buffer: Any) -> None:
        self.buffer, self.pos, self.n = buffer, 0, 0

    @tj.function
    def add(self, row: Any) -> Any:
        self.buffer[self.pos].assign(row)
        self.pos = (self.pos + 1) % ROWS
        self.n = min(self.n + 1, ROWS)
        return tj.reduce_sum(self.buffer[: self.n])


def test_ring() -> None:
    ring, seen = Ring(tj.Variable(tj.zeros((ROWS, COLUMNS)))), np.zeros((ROWS, COLUMNS), np.float32)
    for i in range(30):
        seen[i % ROWS] = i
        np.testing.assert_allclose(ring.add(tj.ones(COLUMNS) * i), seen[: min(i + 1, ROWS)].sum())
    assert ring.add.stats()["traces"] <= 8


class Wrapping:
    """A loader that begins anew where too few rows are left."""

    def __init__(self, data: Any) -> None:
        self.data, self.pos = data, 0

    def next(self) -> Any:
        if self.pos + 5 > ROWS:
            self.pos = 0
        part = self.data[self.pos : self.pos + 5]
        self.pos += 5
        return part * 2.0


def test_loader_that_begins_anew() -> None:
    plain, traced = Wrapping(DATA), Wrapping(tj.constant(DATA))
    g = tj.function(traced.next)
    for _ in range(30):
        same(g(), plain.next())
        assert traced.pos == plain.pos
    assert g.stats()["traces"] <= 8


# --- what works within the axis only ----------------------------------------------------------------------------------
@pytest.mark.parametrize("attribute", (False, True))
def test_last_part_that_has_to_be_known(attribute: bool) -> None:
    """Where a part of a size that only the run finds out does not do, its number has a trace of its own."""
    x, at = tj.constant(DATA), Loader(None)
    by_argument = tj.function(lambda i: tj.unstack(x[i : i + 5])[-1])
    by_attribute = tj.function(lambda: tj.unstack(x[at.pos : at.pos + 5])[-1])
    g = by_attribute if attribute else by_argument
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in [*range(9), *range(10)] * 2:
            at.pos = i
            same(g() if attribute else g(i=i), DATA[i : i + 5][-1])
    assert g.stats()["traces"] <= 8


def test_last_part_that_does_not_fit() -> None:
    x, w = tj.constant(DATA), tj.ones((5, COLUMNS))
    g = tj.function(lambda i: x[i : i + 5] * w)
    for _ in range(2):
        for i in range(8):
            same(g(i=i), DATA[i : i + 5])
        with pytest.raises(ShapeError):
            g(i=9)
    assert g.stats()["traces"] <= FEW


# --- assignments, gradients, parts of the trace -----------------------------------------------------------------------
def test_assignments() -> None:
    v, want, rng = tj.Variable(DATA), DATA.copy(), random.Random(4)

    @tj.function
    def put(i: int) -> None:
        v[i : i + 3].assign(v[i : i + 3] * 2.0)
        v[:i].assign_add(tj.ones_like(v[:i]))

    @tj.function
    def changed(x: Any, i: int) -> Any:
        x = x + 0.0
        x[i : i + 3] = 7.0
        x[i:, 1:3] -= 1.0
        return x

    for _ in range(40):
        i = rng.randint(-ROWS - 2, ROWS + 2)
        put(i)
        want[i : i + 3] *= 2
        want[:i] += 1
        np.testing.assert_allclose(v.numpy(), want)
        if abs(want).max() > 1e6:
            want[:] = DATA
            v.assign(DATA)
        other = DATA.copy()
        other[i : i + 3] = 7
        other[i:, 1:3] -= 1
        same(changed(DATA, i), other)
    assert put.stats()["traces"] <= FEW and changed.stats()["traces"] <= FEW


@pytest.mark.parametrize("outside", (False, True))
def test_gradients(outside: bool) -> None:
    x, rng = tj.constant(DATA), random.Random(5)

    def loss(x: Any, i: int) -> Any:
        return tj.reduce_sum(x[i : i + 4] ** 2) + tj.reduce_sum(x[:i] * 3.0)

    traced = tj.function(loss)

    def gradient(x: Any, i: int, f: Any) -> Any:
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, i)
        return tape.gradient(y, x)

    g = tj.function(lambda x, i: gradient(x, i, loss))
    for _ in range(30):
        i = rng.randint(-ROWS - 2, ROWS + 2)
        got = gradient(x, i, traced) if outside else g(x, i)
        want = np.zeros_like(DATA)
        want[i : i + 4] = 2 * DATA[i : i + 4]
        want[:i] += 3
        np.testing.assert_allclose(got, want)
    assert (traced if outside else g).stats()["traces"] <= FEW


def test_in_branches_and_loops() -> None:
    def f(x: Any, i: int, on: Any) -> Any:
        y = tj.zeros((2, COLUMNS))
        if on:
            y = y + x[i : i + 2]
        for t in tj.range(3):
            y = y + x[i + t : i + t + 2] * 2.0
        return y

    x, g = tj.constant(DATA), tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in (*range(9), 3, 0):
            for on in (True, False):
                want = (DATA[i : i + 2] if on else 0) + 2 * sum(DATA[i + t : i + t + 2] for t in range(3))
                same(g(x, i, tj.constant(on)), want)
    assert g.stats()["traces"] <= FEW


def test_block_and_strided_slice() -> None:
    x = tj.constant(DATA)
    block = tj.function(lambda x, i: tj.slice(x, [i, 0], [4, 3]))
    strided = tj.function(lambda x, i: tj.strided_slice(x, [i, 0], [i + 4, 3]))
    for i in range(9):
        same(block(x, i), DATA[i : i + 4, :3])
        same(strided(x, i), DATA[i : i + 4, :3])
    for i in (9, -1):
        with pytest.raises(ShapeError):
            block(x, i)
    assert block.stats()["traces"] <= 5 and strided.stats()["traces"] <= FEW


# --- what stays Python's ----------------------------------------------------------------------------------------------
def test_lists_texts_and_arrays() -> None:
    def f(x: Any, i: int) -> Any:
        return [n * 2 for n in NUMBERS[i : i + 3]], TEXT[i : i + 2], DATA[i : i + 2], x[i : i + 2]

    x, g, rng = tj.constant(DATA), tj.function(f), random.Random(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RetracingWarning)
        for _ in range(12):
            i = rng.randint(-8, ROWS)
            got, want = g(x, i), f(DATA, i)
            assert got[1] == want[1] and [int(n) for n in got[0]] == want[0]
            same(got[2:], want[2:])


def test_unfit_bounds() -> None:
    g, x = tj.function(lambda x, i: x[i : i + 2]), tj.constant(DATA)
    for i in range(6):
        same(g(x, i), DATA[i : i + 2])
    with pytest.raises(TypeError):
        g(x, 1.5)
    same(g(x, 7), DATA[7:9])
