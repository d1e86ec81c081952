"""A function that returns early from a loop, and else None: as in plain Python, also where the None is come to."""

# ruff: noqa: RET502, RET503

import pytest

import tracejit as tj


def first_above(v):
    for q in v:
        if q > 1.0:
            return q
    return None


def end_reached(v):
    for q in v:
        if q > 1.0:
            return q


def in_while(v):
    x = v[0]
    while x < 5.0:
        x = x + 3.0
        if x > 6.5:
            return x
    return None


def in_known_steps(v):
    x = v[0]
    for i in range(3):
        if x > i * 2:
            return x * i
        x = x + 1.0


def nested_loops(v):
    x = v[0]
    for i in range(2):
        for j in range(2):
            if x > i + j:
                return x
            x = x + 0.25


def in_try(v):
    try:
        for q in v:
            if q > 1.0:
                return q
    finally:
        pass


def in_with(v):
    with tj.name_scope("loop"):
        for i in range(len(v)):
            if v[i] > 1.0:
                return i
    return None


def inner(v):
    def find(w):
        for i, q in enumerate(w):
            if q > 1.0:
                return i, q
        return None

    found = find(v)
    return (-1, 0.0) if found is None else found


def inner_of_inner(v):
    found = first_above(v)

    def shown(w):
        again = end_reached(w)
        return found if again is None else again * 2.0

    return shown(v - 1.0), found is None


def none_from_the_loop(v):
    for q in v:
        if q > 1.0:
            return None
        if q > 0.0:
            return q
    return 1.0


def none_alone_from_the_loop(v):
    for q in v:
        if q > 1.0:
            return
    return 1.0


def none_of_a_variable(v):
    last = None
    for q in v:
        if q > 1.0:
            return last
        last = q
    return 7.0


def in_a_case(v):
    match 3:
        case 2:
            pass
        case _:
            for q in v:
                if q > 1.0:
                    return q, [q]


def without_none(v):
    def find(w):
        for q in w:
            if q > 1.0:
                return q
        else:
            return 3.0

    return find(v) + 1.0


def as_a_condition(v):
    found = first_above(v)
    if found:
        return found
    return first_above(v + 1.0) or 9.0


EVERY = [
    first_above, end_reached, in_while, in_known_steps, nested_loops, in_try, in_with, inner, inner_of_inner,
    none_from_the_loop, none_alone_from_the_loop, none_of_a_variable, in_a_case, without_none, as_a_condition,
]  # fmt: skip


def plain(x):
    return [plain(y) for y in x] if isinstance(x, (list, tuple)) else x if x is None else float(x)


@pytest.mark.parametrize("f", EVERY)
def test_the_value_returned_is_that_of_plain_python(f):
    traced = tj.function(f, strict=True)
    for v in ([-3.0, 4.0], [0.5, 0.25], [-9.0, -4.0], [3.0, -2.0], [-3.0, 1.5], [0.0, 0.0]):
        x = tj.constant(v)
        assert plain(traced(x)) == plain(f(x)), v


def test_where_no_way_gives_none_the_result_is_a_tensor():
    @tj.function(strict=True)
    def f(v):
        while True:
            for q in v:
                if q > 1.0:
                    return q
            v = v + 1.0

    assert isinstance(f(tj.constant([0.5, -1.0])), tj.Tensor)


class Doubling:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return self

    def __next__(self):
        self.x = self.x * 2.0 + 1.0
        if self.x > 30.0:
            raise StopIteration
        return self.x


class ByIndex:
    def __init__(self, x):
        self.x = x

    def __getitem__(self, i):
        if i > self.x:
            raise IndexError
        return self.x * i


@pytest.mark.parametrize("kind", [Doubling, ByIndex])
def test_an_iterator_that_a_tensor_ends_runs_as_plain_python(kind):
    def total(x):
        s = 0.0
        for q in kind(x):
            s = s + q
        return s

    x = tj.constant(2.0)
    with pytest.warns(tj.errors.ConversionWarning, match="ends an iterator"):
        assert float(tj.function(total)(x)) == float(total(x))
