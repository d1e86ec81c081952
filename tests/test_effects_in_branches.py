"""What branches and loops do to containers that hold containers, and to objects: as plain Python does it."""

import copy
import warnings

import numpy as np
import pytest

import tracejit as tj


class State:
    def __init__(self):
        self.log, self.grid, self.a = [], [[1.0, 2.0], [3.0, 4.0]], 1.0
        self.items = {"k": [], "m": {"n": 0.0}}


class Item:
    def __init__(self, value):
        self.value = value


def augmented_attribute(s, x):
    if x < 0:
        s.log += [x]


def augmented_item(s, x):
    if x < 0:
        s.items["k"] += [x]
    else:
        s.items["k"] *= 2


def augmented_row(s, x):
    if x < 0:
        s.grid[0] += [x]


def two_lists(s, x):
    if x < 0:
        s.grid[0][1] = x
    else:
        s.grid[1][0] += x
        s.items["m"]["n"] = x


def merged_dict(s, x):
    if x < 0:
        s.items |= {"z": x}


def key_of_one_branch(s, x):
    if x < 0:
        s.items["z"] = x
    else:
        s.items.pop("z", None)


def updated_and_popped(s, x):
    if x < 0:
        s.items.update(z=x, y=1)
    else:
        s.items.pop("z", None)


def default_made_in_a_branch(s, x):
    if x < 0:
        s.items.setdefault("new", []).append(x)


def attribute_deleted(s, x):
    if x < 0:
        if hasattr(s, "a"):
            del s.a
    else:
        s.a = x


def lists_in_a_loop(s, x):
    i = 0
    while i < abs(x):
        s.items["k"] += [x + i]
        s.grid[0][1] = x * i
        i += 1


def branch_in_a_loop(s, x):
    for i in tj.range(tj.cast(abs(x), "int32")):
        if i < 2:
            s.items["k"] += [x]
            s.grid[1][0] = x
        else:
            s.grid[0][1] = x + 1


COMPILED = [
    augmented_attribute, augmented_item, augmented_row, two_lists, merged_dict, key_of_one_branch, updated_and_popped,
    default_made_in_a_branch, lists_in_a_loop, branch_in_a_loop,
]  # fmt: skip


def row_replaced_or_changed(s, x):
    if x < 0:
        s.grid[0] = [x, x]
    else:
        s.grid[0][0] = x


def object_added(s, x):
    if x < 0:
        s.log.append(Item(x))


def one_of_two_lists(s, x):
    a = s.grid[0]
    if x < 0:
        a = s.grid[1]
    a.append(x)


def lists_swapped(s, x):
    if x < 0:
        s.grid[0], s.grid[1] = s.grid[1], s.grid[0]


PLAIN = [attribute_deleted, row_replaced_or_changed, object_added, one_of_two_lists, lists_swapped]


def seen(x):
    if isinstance(x, tj.Tensor):
        return float(x)
    if isinstance(x, (State, Item)):
        return seen(vars(x))
    if isinstance(x, dict):
        return {k: seen(v) for k, v in x.items()}
    return [seen(v) for v in x] if isinstance(x, list) else x


def compare(f, **options):
    s, wanted = State(), State()
    held = copy.copy(vars(s)), s.grid[0], s.items["k"]
    traced = tj.function(lambda x: f(s, x), **options)
    for v in (-1.0, 3.0, -2.0, -2.5, 0.0, 2.0):
        traced(tj.constant(v))
        f(wanted, tj.constant(v))
        assert seen(s) == seen(wanted)
    assert s.log is held[0]["log"] and s.items is held[0]["items"] and s.items["k"] is held[2]
    return s, held


@pytest.mark.parametrize("f", COMPILED, ids=lambda f: f.__name__)
def test_compiled(f):
    s, held = compare(f, strict=True)
    assert s.grid[0] is held[1]


@pytest.mark.parametrize("f", PLAIN, ids=lambda f: f.__name__)
def test_as_plain_python_where_it_cannot_be_compiled(f):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.errors.ConversionWarning)
        compare(f)


def test_own_containers():
    @tj.function(strict=True)
    def f(x):
        d, s = {"u": x, "w": []}, Item([x])
        if x < 0:
            d["w"] += [x]
            s.value += [x * 2]
        return sum(d["w"]) + sum(s.value) + x

    assert [float(f(tj.constant(v))) for v in (-1.0, 1.0)] == [-5.0, 2.0]


def test_own_lists_that_change_places():
    @tj.function(strict=True)
    def f(x, n):
        a, b = [x], [x * 2]
        for _ in tj.range(n):
            a, b = b, a
            a[0] = a[0] + 1
        if x < 0:
            a = b
        a.append(x)
        return a[0] + a[1], b[0]

    for x in (-3.0, 2.0):
        for n in range(4):
            given = tj.constant(x), tj.constant(n)
            assert np.allclose(f(*given), f.python_function(*given))
