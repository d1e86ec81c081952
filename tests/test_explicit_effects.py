"""What the functions of explicit forms (cond, while_loop, …) do to Python objects: as plain Python does it."""

import warnings

import pytest
from helpers import eager_and_traced

import tracejit as tj


class Thing:
    n, v = 0, None


KEPT, ITEMS, THING = [], {}, Thing()


def items_in_cond(x):
    def yes():
        KEPT.append(x)
        ITEMS["yes"] = x
        return x + 1

    def no():
        ITEMS["no"] = x
        return x - 1

    return tj.cond(x > 0, yes, no)


def attribute_in_loop(x):
    def body(i, y):
        KEPT.append(y)
        THING.n += 1
        return i + 1, y * 2

    return tj.while_loop(lambda i, y: y < 10.0, body, (0, tj.abs(x)))


def attribute_in_limited_loop(x):
    def body(y):
        THING.v = y
        return y * 2

    return tj.while_loop(lambda y: y < 10.0, body, [tj.abs(x)], maximum_iterations=3)


def branch_in_cond_in_branch(x):
    def yes():
        if x > 2:
            ITEMS["large"] = x
            THING.n += 1
        THING.v = x
        return x + 1

    if x > -1:
        x = tj.cond(x > 0, yes, lambda: x)
    return x


def branch_in_loop(x):
    def body(i, y):
        if y > 3:
            KEPT.append(y)
            ITEMS["last"] = y
        else:
            THING.n += 1
        return i + 1, y * 2

    return tj.while_loop(lambda i, y: y < 10.0, body, (0, tj.abs(x)))


def list_of_the_function(x):
    rows = [x]

    def yes():
        rows.append(x)
        return x + 1

    return tj.cond(x > 0, yes, lambda: x), len(rows)


def cond_in_cond(x):
    def yes():
        def inner():
            ITEMS["inner"] = x
            return x

        return tj.cond(x > 2, inner, lambda: x + 1) + 1

    return tj.cond(x > 0, yes, lambda: x)


def with_gradient(x):
    with tj.GradientTape() as tape:
        tape.watch(x)

        def yes():
            THING.v = x * 3
            return x * x

        y = tj.cond(x > 0, yes, lambda: x * 2)
    return tape.gradient(y, x)


def one_case_of_several(x):
    def second():
        THING.n += 1
        return x * 3

    return tj.case([(x > 2, lambda: x), (x > 0, second)], default=lambda: -x)


def branch_in_rows(x):
    def body(v):
        if v > 0:
            ITEMS["n"] = v
            KEPT.append(v)
        return v * 2

    return tj.map_fn(body, tj.stack([x, x + 1]))


def list_in_fold(x):
    rows = [x]

    def body(a, v):
        rows.append(v)
        return a + v

    return tj.foldl(body, tj.stack([x, x + 1])), len(rows)


COMPILED = [
    items_in_cond, attribute_in_loop, attribute_in_limited_loop, branch_in_cond_in_branch, branch_in_loop,
    list_of_the_function, cond_in_cond, with_gradient, one_case_of_several,
]  # fmt: skip


@pytest.mark.parametrize("f", [*COMPILED, branch_in_rows, list_in_fold])
def test_effects_in_explicit_forms(f):
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error" if f in COMPILED else "ignore")
        for _ in eager_and_traced():
            KEPT.clear()
            ITEMS.clear()
            THING.__dict__.clear()
            g = tj.function(f)
            seen.append([(str(g(tj.constant(x))), str((KEPT, ITEMS, vars(THING)))) for x in (-1.0, 1.0, 5.0, -2.0)])
    assert seen[0] == seen[1]
