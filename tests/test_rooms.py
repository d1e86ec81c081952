"""Lists to which the first step of a loop adds nothing, as Python knows: they get room for what the other steps add."""

import re
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


def plain(x):
    return [plain(y) for y in x] if isinstance(x, (tuple, list)) else np.asarray(x).tolist()


def gaps(x):
    start, out = 0, []
    for i, v in enumerate(x):
        if v == 0:
            if i > start:
                out.append(i)
            start = i + 1
    return tj.stack(out)


def warm_up(x):
    out = []
    for i, v in enumerate(x):
        if i >= 3:
            out.append(v)
    return tj.stack(out)


def differences(x):
    out, prev = [], None
    for v in x:
        if prev is not None:
            out.append(v - prev)
        prev = v
    return tj.stack(out), len(out), out[-1]


def but_the_first(x):
    out, first = [], True
    for v in x:
        if first:
            first = False
            continue
        out.append(v)
    return tj.stack(out)


def two_at_once(x):
    out, s = [], 0
    for v in x:
        if s > 1:
            out.extend([v, v + 1])
        s += 1
    return tj.stack(out)


def one_then_two(x):
    out, s = [], 0
    for v in x:
        out.append(v)
        if s > 1:
            if v > 0:
                out.append(v + s)
            out.append(v)
        s += 1
        if v == 100:
            out.pop()
    return tj.stack(out)


def by_steps(x):
    out, s, i = [], 0, tj.constant(0)
    while x[i] < 5:
        if s > 1:
            out.append(x[i])
        s += 1
        i += 1
    return tj.stack(out)


def until(x):
    out, s = [], 0
    for v in x:
        if v == 6:
            break
        if s > 0:
            out.append(v)
        s += 1
    return tj.stack(out)


def within(x):
    out, s = [], False
    for _ in tj.range(2):
        for v in x:
            if s:
                out.append(v)
            s = True
    return tj.stack(out)


def pairs(x):
    out, s = [], False
    for i, v in enumerate(x):
        if s:
            out.append((i, v))
        s = v > 0
    return len(out), out[-1]


def shrinking(x):
    out, s = [x[0]], False
    for v in x:
        if s:
            out.append(v)
            if v == 1:
                out.pop()
        s = True
    return tj.stack(out)


def two_in_one_branch(x):
    out, i = [x[0]], -1
    for v in x:
        i += 1
        if i > 1:
            if v > 1:
                out.append(v)
            else:
                out.extend([v, v])
        if i > 2:
            if len(out) > 1:
                out.pop()
    return tj.stack(out)


class Log:
    def __init__(self):
        self.items, self.on = [], False

    def push(self, v):
        if self.on:
            self.items.append(v)
        self.on = v > 0


def of_an_object(x):
    log = Log()
    for v in x:
        log.push(v)
    return tj.stack(log.items)


LATER = [
    gaps, warm_up, differences, but_the_first, two_at_once, one_then_two, by_steps, until, within, pairs, shrinking,
    two_in_one_branch, of_an_object,
]  # fmt: skip


@pytest.mark.parametrize("f", LATER, ids=lambda f: f.__name__)
def test_lists_have_room_for_what_later_steps_add(f):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for x in ([1, 1, 0, 1, 1, 0, 1, 0, 6], [2, 3, 0, 5, 1, 1, 1, 0, 6], [3, 0, 0, 4, 0, 0, 1, 2, 2, 1, 0, 6, 2]):
            x = tj.constant(x)
            assert plain(traced(x)) == plain(f(x))


def filled_from_another(x):
    a, b = [x[0]], [x[0], *[x[i] for i in range(8)]]
    for v in x:
        if v > 100:
            a.pop()
            b.pop()
        a.append(v)
        a.append(v + 1)
        b.append(v)
        if v == 3:
            a = b[:]
    return tj.stack(a)


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_no_item_is_lost_of_a_list_that_gets_those_of_a_longer_one():
    x = tj.constant([1, 3, 0, 2, 3, 0, 4, 1])
    assert plain(tj.function(filled_from_another)(x)) == plain(filled_from_another(x))


def of_a_list(x):
    a = []
    if x[0] > 100:
        a.pop()
    a.append(x[1])
    return tj.stack(a)


def of_a_dict(x):
    a = {}
    if x[0] > 100:
        a.pop("k")
    a["k"] = x[1]
    return a["k"]


def removed(x):
    a = [1]
    if x[0] > 100:
        a.remove(3)
    return x[a.pop()]


def popped_in_steps(x):
    a = []
    for v in x:
        if v > 100:
            a.pop()
        a.append(v)
    return tj.stack(a)


@pytest.mark.parametrize("f", [of_a_list, of_a_dict, removed, popped_in_steps], ids=lambda f: f.__name__)
def test_what_a_branch_takes_from_an_empty_container_is_an_error_only_where_it_is_run(f):
    x = tj.constant([1, 3, 0, 2, 3, 0, 4, 1])
    traced = tj.function(f)
    assert plain(traced(x)) == plain(f(x))
    bad = tj.constant([101, 3, 0, 2, 3, 0, 4, 1])
    with pytest.raises(Exception) as plainly:
        f(bad)
    with pytest.raises(type(plainly.value), match=re.escape(str(plainly.value))):
        traced(bad)


def above_in_steps(x):
    out, n, s = [], 0, 0.0
    while s < 12:
        s += x[n]
        if n > -1:
            out.append(s)
        n += 1
    return tj.stack(out)


def above_until(x):
    out, n = [], 0
    while True:
        if n > -1:
            out.append(x[n])
        n += 1
        if x[n] > 5:
            break
    return tj.stack(out)


@pytest.mark.parametrize("f", [above_in_steps, above_until], ids=lambda f: f.__name__)
def test_what_a_condition_adds_that_is_known_in_the_first_step(f):
    x = tj.constant([1.0, 3.0, 0.0, 2.0, 3.0, 0.0, 4.0, 1.0, 6.0])
    with tj.debug():
        expected = plain(f(x))
    assert plain(tj.function(f, strict=True)(x)) == expected
