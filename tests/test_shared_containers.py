"""Lists and dicts that stand in several places, in tuples and results too, stay one through branches and loops."""

import dataclasses
import warnings
from collections import namedtuple

import numpy as np
import pytest

import tracejit as tj

Pair = namedtuple("Pair", "items count")


@dataclasses.dataclass
class Kept:
    items: list
    count: float


class Holder:
    def __init__(self, **kwargs):
        vars(self).update(kwargs)


# --- what is returned -------------------------------------------------------------------------------------------------
def grown_then_early_return(a, c):
    out = [a]
    if a > 0:
        out.append(c)
    if c > 0:
        return out, 1
    return out, 2


def early_return_then_append(a, c):
    out = [a]
    if c > 0:
        return out, 1
    out.append(c)
    return out, 2


def named_tuples(a, c):
    out = [a]
    if c > 0:
        return Pair(out, 1)
    out.append(c)
    return Pair(out, 2)


def nested_tuples(a, c):
    out = [a]
    if c > 0:
        return out, (out, [1])
    out.append(c)
    return out, (out, [2])


def lists_of_tuples_in_dicts(a, c):
    out = [a]
    if c > 0:
        return {"a": [(out, 1)]}
    out.append(c)
    return {"a": [(out, 2)]}


def dataclasses_with_lists(a, c):
    out = [a]
    if a > 0:
        out.append(c)
    if c > 0:
        return Kept(out, 1)
    out.append(c)
    return Kept(out, 2)


def lists_of_objects(a, c):
    h = Holder(items=[])
    if a > 0:
        h.items.append(c)
    if c > 0:
        return h.items, 1
    h.items.append(a)
    return h.items, 2


def lists_in_both_orders(a, c):
    first, second = [a], [c]
    if a > 0:
        first.append(c)
    else:
        second.append(a)
    if c > 0:
        return first, second
    return second, first


def perhaps_a_tuple(a, c):
    out, r = [a], None
    if a > 0:
        out.append(c)
        r = (out, 1)
    return r, out


def from_a_loop(a, c):
    out = [a]
    for v in tj.stack([a, c, a * c, a - c, c - 0.5]):
        if v > 0:
            out.append(v)
        if v > 1.5:
            return out, 1
    return out, 2


# --- what is changed afterwards ---------------------------------------------------------------------------------------
def changed_through_the_tuple(a, c):
    kept = [a]
    t = (kept, 1) if c > 0 else (kept, 2)
    t[0].append(c)
    return kept, len(t[0])


def changed_through_the_name(a, c):
    kept = {"n": a}
    if c > 0:
        t = (kept, 1)
    else:
        t = (kept, 2)
    kept["n"] = c
    return t[0]["n"], t[1]


def in_a_list_of_tuples(a, c):
    kept = [a]
    held = [(kept, 0)]
    if c > 0:
        held = [(kept, 1)]
    held[0][0].append(c)
    return kept, held[0][1]


def in_a_loop_of_branches(a, c):
    kept = {"n": a}
    t = (kept, 0)
    for i in tj.range(3):
        if c > i:
            t = (kept, i + 10)
        t[0]["n"] = t[0]["n"] + c
    return kept["n"], t[1]


def in_a_while_loop(a, c):
    kept = {"n": a}
    t = (kept, 0)
    while a > -1:
        t = (kept, 1)
        a = a - 1
    t[0]["n"] = t[0]["n"] + c
    return kept["n"]


def through_a_function(a, c):
    def part(items, x):
        if x > 0:
            return items, x
        items[0] = x * 5
        return items, x * 2

    items = [a]
    got, x = part(items, c)
    got[0] = got[0] + 1
    return items[0], got[0], x


FUNCTIONS = [
    grown_then_early_return, early_return_then_append, named_tuples, nested_tuples, lists_of_tuples_in_dicts,
    dataclasses_with_lists, lists_of_objects, lists_in_both_orders, perhaps_a_tuple, from_a_loop,
    changed_through_the_tuple, changed_through_the_name, in_a_list_of_tuples, in_a_loop_of_branches, in_a_while_loop,
    through_a_function,
]  # fmt: skip


def plain(x):
    if isinstance(x, (tj.Tensor, int, float)):
        return float(x)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if dataclasses.is_dataclass(x):
        return plain(vars(x))
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else x


@pytest.mark.parametrize("f", FUNCTIONS)
def test_as_plain_python(f):
    traced = tj.function(f, strict=True)
    for a, c in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0), (2.0, 3.0)]:
        a, c = tj.constant(a), tj.constant(c)
        assert plain(traced(a, c)) == plain(f(a, c))


def test_one_list_in_several_places_is_one():
    @tj.function(strict=True)
    def f(a):
        out = [a]
        again, held = out, {"k": out}
        if a > 0:
            out.append(a)
        return out, again, held

    for a in (1.0, -1.0):
        first, second, third = f(tj.constant(a))
        assert first is second is third["k"]
        assert len(first) == (2 if a > 0 else 1)


def test_a_list_that_has_grown_is_put_into_one_from_outside():
    log = []

    @tj.function
    def f(a, c):
        out = [a]
        if a > 0:
            out.append(c)
        if c > 0:
            log.append(out)
        else:
            log.append(list(out))
        return a

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.errors.ConversionWarning)
        for a, c in [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)]:
            f(tj.constant(a), tj.constant(c))
    assert plain(log) == [[1, 1], [-1], [1, -1]]


# --- containers that are the caller's ---------------------------------------------------------------------------------
def test_a_list_that_is_changed_and_returned_is_the_callers():
    held = Holder(items=[])
    makers = [
        (lambda box, x: (box.append(x), box)[1], []), (lambda box, x: (box, x) if box.append(x) is None else 0, []),
    ]  # fmt: skip
    for f, box in makers:
        got = tj.function(f)(box, tj.constant(2.0))
        assert (got[0] if isinstance(got, tuple) else got) is box
        assert plain(box) == [2.0]

    @tj.function
    def into_item(box, x):
        box["k"].append(x)
        return box["k"], box

    box = {"k": []}
    items, whole = into_item(box, tj.constant(1.0))
    assert items is box["k"]
    assert whole is box

    @tj.function
    def into_attribute(x):
        if x > 0:
            held.items.append(x)
        return held.items

    for x in (1.0, -1.0, 3.0):
        assert into_attribute(tj.constant(x)) is held.items
    assert plain(held.items) == [1.0, 3.0]


def test_gradients_reach_what_a_returned_list_holds():
    @tj.function
    def f(log, x):
        log.append(x * x)
        return log

    x = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f([], x)[0]
    np.testing.assert_allclose(tape.gradient(y, x), 6.0)


def test_containers_that_one_branch_exchanges_and_the_other_changes():
    def f(s, x):
        if x > 0:
            s.grid[0], s.grid[1] = s.grid[1], s.grid[0]
        else:
            s.grid[0][0] = x
        return s.grid[0][0]

    one, two = (Holder(grid=[[1.0, 2.0], [3.0, 4.0]]) for _ in range(2))
    traced = tj.function(f)
    for x in (-1.0, 1.0, -3.0, 2.0):
        x = tj.constant(x)
        assert plain(traced(two, x)) == plain(f(one, x))
        assert plain(two.grid) == plain(one.grid)


# --- one of several, and changed later --------------------------------------------------------------------------------
def chosen_dict_with_other_keys(s, x, n):
    one, two = s.left.kept, s.right.kept
    one["z"] = x
    d = one if x > 0 else two
    d.update(z=x + 1)
    return x


def objects_exchanged_in_a_branch(s, x, n):
    a, b = s.left, s.right
    a.kept["z"] = x
    if x > 0:
        x = x + 1
    else:
        a, b = b, a
    if x > -2:
        a.kept.update(z=x + 1, q=x)
    return x


def returned_early_and_changed_later(s, x, n):
    i = 0
    while i < n:
        i = i + 1
        if x > 0.6:
            return x, s.items
    s.items[1] = x
    return x, s.items


def returned_early_by_a_function(s, x, n):
    def inner():
        for _ in tj.range(n):
            if x > 0:
                return s.items
        return s.items

    got = inner()
    s.items[0] = x
    return got[0] + s.items[1]


def returned_early_within_others(s, x, n):
    d = {"k": (s.items, 1.0)}
    while n > 0:
        n = n - 1
        if x > 0.6:
            return d
    s.items[0] = x * 7
    d["more"] = x
    return d


def kept_where_a_step_sets_it(s, x, n):
    q = None
    for _ in tj.range(n):
        if x > 0:
            q = [s.items, {"k": s.items}]
    s.items[1] = x
    return q


def kept_where_a_branch_sets_it(s, x, n):
    q = None
    if x > 0:
        q = [s.items, {"k": (s.items, x)}]
    s.items[1] = x
    return q


def lost_where_a_step_takes_it(s, x, n):
    q = s.items
    for _ in tj.range(n):
        if x > 0.6:
            q = None
    s.items[0] = x * 7
    return q


def a_list_of_each_step(s, x, n):
    q = None
    for _ in tj.range(n):
        q = [x, x * 2]
        if x > 0.6:
            break
    s.items[0] = x
    return q


def perhaps_the_argument(s, x, n):
    q = s.items
    for _ in tj.range(n):
        q = q + [x]
    q.append(x)
    return q


def added_to_after_an_early_return(s, x, n):
    for _ in tj.range(n):
        if x > 0.6:
            return x, s.items
    if s.items[1] > x:
        s.more.append(x)
    return x, s.more


def kept_is_the_chosen_one(s, x, n):
    if x > 0.6:
        s.items = s.more
    s.items[0] = x
    return x


def attribute_deleted_or_none(s, x, n):
    if x > 0 and hasattr(s, "none"):
        del s.none
    return x


def attribute_none_or_not_there(s, x, n):
    if x > 0:
        s.new = None
    return x


def attribute_deleted_in_a_loop(s, x, n):
    while n > 0:
        n = n - 1
        if x > 0.6 and hasattr(s, "none"):
            del s.none
    return 1.0 if hasattr(s, "none") else 2.0


def holder():
    left, right = Holder(kept={"p": 1.0}), Holder(kept={"p": 2.0})
    return Holder(left=left, right=right, items=[1.0, 2.0], more=[3.0, 4.0], none=None)


def seen(x):
    if isinstance(x, Holder):
        return {k: seen(v) for k, v in sorted(vars(x).items())}
    if isinstance(x, dict):
        return {k: seen(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [seen(v) for v in x]
    return None if x is None else round(float(x), 4)


@pytest.mark.parametrize(
    "f",
    [
        chosen_dict_with_other_keys, objects_exchanged_in_a_branch, returned_early_and_changed_later,
        returned_early_by_a_function, returned_early_within_others, kept_where_a_step_sets_it,
        kept_where_a_branch_sets_it, lost_where_a_step_takes_it, a_list_of_each_step, perhaps_the_argument,
        added_to_after_an_early_return, kept_is_the_chosen_one,
        attribute_deleted_or_none, attribute_none_or_not_there, attribute_deleted_in_a_loop,
    ],
)  # fmt: skip
def test_changes_reach_the_container_that_is_meant(f):
    one, two, traced = holder(), holder(), tj.function(f)
    fall_back = f in (
        perhaps_the_argument, attribute_deleted_or_none, attribute_none_or_not_there, attribute_deleted_in_a_loop,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for x, n in ((0.5, 0), (0.5, 2), (-0.5, 2), (-0.5, 0), (0.7, 0), (0.7, 3), (-0.2, 1)):
            x, n = tj.constant(x), tj.constant(n)
            assert seen(traced(two, x, n)) == seen(f(one, x, n))
            assert seen(two) == seen(one)
    assert len(said) == fall_back


def test_a_container_returned_early_is_the_callers():
    s, traced = holder(), tj.function(returned_early_and_changed_later)
    for x in (0.7, -1.0, 0.8):
        assert traced(s, tj.constant(x), tj.constant(2))[1] is s.items
