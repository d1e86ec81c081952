"""Objects of dataclasses stay the ones that they are where branches and loops choose among several: what is returned,
kept and changed afterwards is that of plain Python, as a picture of which are one."""

import dataclasses
import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


@dataclasses.dataclass
class Plain:
    x: Any
    n: Any = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    n: Any = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any
    n: Any = 0


class Bare:
    def __init__(self, x, n=0):
        self.x, self.n = x, n


class Holder:
    def __init__(self, kind):
        self.kind, self.kept, self.other = kind, kind(2.0), kind(3.0, 1)


# --- these compile, for all kinds -------------------------------------------------------------------------------------
def step(h, s):
    return h.kind(s.x * 0.5, s.n + 1)


def in_a_loop(h, s, x, n):
    while tj.abs(s.x) > 0.3:
        s = step(h, s)
    return s


def in_a_counted_loop(h, s, x, n):
    for _ in tj.range(n):
        s = dataclasses.replace(s, x=s.x + x)
    return s


def in_a_branch(h, s, x, n):
    if x > 0:
        s = step(h, s)
    return s


def replaced_in_both(h, s, x, n):
    if x > 0:
        s = dataclasses.replace(s, n=s.n + 2)
    else:
        s = dataclasses.replace(s, x=x)
    return s


def returned_from_a_branch(h, s, x, n):
    if x > 0:
        return s
    return h.kind(x, 3)


def returned_from_a_loop(h, s, x, n):
    for i in tj.range(n):
        s = step(h, s)
        if s.x < x:
            return s
    return h.kept


def left_by_break(h, s, x, n):
    for i in range(4):
        s = step(h, s)
        if s.n > n:
            break
    return s


def one_or_the_other(h, s, x, n):
    t = h.kind(x)
    return s if x > 0 else t


def one_of_two_kept(h, s, x, n):
    return h.kept if x > 0 else h.other


def given_or_kept(h, s, x, n):
    r = s
    if x > 0:
        r = h.kept
    return r, s


def chosen_and_kept(h, s, x, n):
    h.kept = s if x > 0 else h.kind(x)
    return h.kept


def twice_in_the_result(h, s, x, n):
    if x > 0:
        s = step(h, s)
    return s, [s]


def two_names_of_one(h, s, x, n):
    if x > 0:
        a = h.kind(x)
        b = a
    else:
        a = h.kind(-x)
        b = a
    return a, b


def two_names_in_a_loop(h, s, x, n):
    a, b = s, s
    for _ in tj.range(n):
        a = h.kind(a.x + 1)
        b = a
    return a, b, a is b


def in_a_list(h, s, x, n):
    r = [s, h.kind(x)]
    if x > 0:
        r = [s, h.kind(x * 2)]
    return r, s


def a_list_in_it(h, s, x, n):
    l = [x]
    r = h.kind(l)
    if x > 0:
        r = h.kind(l, 1)
    l.append(x)
    return r, l


def another_list_in_it(h, s, x, n):
    l, m = [x], [x + 1]
    r = h.kind(l)
    if x > 0:
        r = h.kind(m)
    return r, l, m


def one_in_another(h, s, x, n):
    r = h.kind(s)
    for _ in tj.range(n):
        r = h.kind(step(h, r.x), r.n + 1)
    return r, s


def one_in_another_in_a_branch(h, s, x, n):
    r = h.kind(s)
    if x > 0:
        r = h.kind(h.kept, 1)
    return r, s


def in_a_dict(h, s, x, n):
    d = {"s": s}
    if x > 0:
        d["s"] = h.kind(x)
    return d, s


def none_or_one(h, s, x, n):
    best = None
    for i in tj.range(n):
        if x > i:
            best = h.kind(x, i)
    return best


def the_best(h, s, x, n):
    best = s
    for i in range(3):
        t = h.kind(x * (i - 1), i)
        if t.x > best.x:
            best = t
    return best


def its_parts(h, s, x, n):
    while s.n < n:
        s = step(h, s)
    return s.x, s.n


# --- changed ----------------------------------------------------------------------------------------------------------
def changed_in_a_branch(h, s, x, n):
    if x > 0:
        s.x = s.x + x
    return s


def changed_in_a_loop(h, s, x, n):
    for _ in tj.range(n):
        s.x = s.x + x
        s.n += 1
    return s


def made_and_changed(h, s, x, n):
    r = h.kind(x)
    while r.n < n:
        r.x += x
        r.n += 1
    return r


def changed_before_a_choice(h, s, x, n):
    t = h.kind(x)
    t.x = t.x + 1
    r = s if x > 0 else t
    return r, t


def changed_after_a_choice(h, s, x, n):
    a, b = h.kind(x), h.kind(x + 1)
    k = a if x > 0 else b
    a.x = a.x + 1
    return k


def the_chosen_one_is_changed(h, s, x, n):
    a, b = h.kind(x), h.kind(x + 1)
    k = a if x > 0 else b
    k.x = k.x + 1
    return a, b, k


def the_chosen_one_of_outside_is_changed(h, s, x, n):
    k = s if x > 0 else h.kept
    k.x = k.x + 1
    return k


def changed_where_a_loop_made_it(h, s, x, n):
    for _ in tj.range(n):
        s = step(h, s)
    s.x = s.x + 10
    return s


FUNCTIONS = [f for k, f in list(globals().items()) if getattr(f, "__code__", None) and f.__code__.co_argcount == 4]
CHANGING = {f for f in FUNCTIONS if "changed" in f.__name__}
GIVEN = [(0.5, 2), (-0.5, 0), (0.25, 1), (-0.7, 3), (0.2, 0)]


def picture(x, seen=None):
    """The numbers in an object and in what it holds; containers and objects that came before, by their number."""
    seen = {} if seen is None else seen
    if x is None or isinstance(x, (str, type)):
        return x
    if id(x) in seen and not isinstance(x, tuple):
        return f"#{seen[id(x)]}"
    if isinstance(x, tuple):
        return ("tuple", *[picture(y, seen) for y in x])
    if isinstance(x, (list, dict)) or type(x).__module__ == __name__:
        seen[id(x)] = len(seen)
        if isinstance(x, list):
            return [picture(y, seen) for y in x]
        names = x if isinstance(x, dict) else ["x", "n"] if hasattr(x, "x") else vars(x)
        return type(x).__name__, {k: picture(x[k] if isinstance(x, dict) else getattr(x, k), seen) for k in names}
    return round(float(np.asarray(x)), 5)


def left_behind(f, kind):
    h, out = Holder(kind), []
    for x, n in GIVEN:
        s = kind(tj.constant(1.5))
        r = f(h, s, tj.constant(x), tj.constant(n))
        out.append(picture([r, s, h]))
    return out


def agree(f, kind):
    plain = left_behind(f, kind)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConversionWarning)
        assert left_behind(tj.function(f), kind) == plain
    return said


# of lists these run as plain Python as well
PLAIN = {returned_from_a_loop, two_names_in_a_loop, the_chosen_one_of_outside_is_changed, changed_where_a_loop_made_it}
CASES = [(f, kind) for kind in (Plain, Frozen, Slotted) for f in FUNCTIONS if kind is not Frozen or f not in CHANGING]


@pytest.mark.parametrize(("f", "kind"), CASES, ids=lambda x: x.__name__)
def test_which_is_which(f, kind):
    said = agree(f, kind)
    assert len(said) == (f in PLAIN), str(said[0].message)


LOOPS = {f for f in FUNCTIONS if "range" in f.__code__.co_names or "while" in inspect.getsource(f)}
BARE = [f for f in FUNCTIONS if "dataclasses" not in f.__code__.co_names]


@pytest.mark.parametrize("f", BARE, ids=lambda f: f.__name__)
def test_objects_of_plain_classes(f):
    """Those that steps of loops make in the place of others run as plain Python."""
    said = agree(f, Bare)
    assert len(said) <= (f in LOOPS), str(said[0].message)


def test_what_stands_for_an_argument_is_no_guard():
    f = tj.function(in_a_counted_loop, strict=True)
    h = Holder(Plain)
    for n in range(4):
        f(h, Plain(tj.constant(1.5)), tj.constant(0.5), tj.constant(n))
    assert f.experimental_get_tracing_count() == 1


def test_replacing_what_is_no_field_is_the_error_of_plain_python():
    @dataclasses.dataclass
    class Partly:
        x: Any
        y: Any = dataclasses.field(default=1.0, init=False)

    def wrong(x):
        return dataclasses.replace(Partly(x), y=x)

    def no_record(x):
        return dataclasses.replace([x], x=x)

    for f, error in ((wrong, ValueError), (no_record, TypeError)):
        with pytest.raises(error):
            f(tj.constant(1.0))
        with pytest.raises(error):
            tj.function(f)(tj.constant(1.0))


def test_a_list_and_one_of_several():
    def f(x):
        a, b = [x], [x + 1]
        k = a if x > 0 else b
        k[0] = k[0] + 1
        return a, b, k

    for x in (1.0, -1.0):
        assert picture(tj.function(f, strict=True)(tj.constant(x))) == picture(f(tj.constant(x)))


def test_the_equality_of_records_is_that_of_their_fields():
    @dataclasses.dataclass
    class Sub(Plain):
        more: Any = 1

    @dataclasses.dataclass(eq=False)
    class Loose(Plain):
        more: Any = 1

    functions = [
        lambda x: Plain(x, 1) == Plain(x + 0, 1),
        lambda x: Plain(x, 1) != Plain(x, 2),
        lambda x: Plain(x) == Plain(tj.constant(0.5)),
        lambda x: 1 if Plain(x) == Plain(x * 2) else 2,
        lambda x: Sub(x) == Plain(x),
        lambda x: Sub(x, more=x) == Sub(x, more=-x),
        lambda x: Loose(x, 1, x) == Loose(x + 0, 1, -x),
        lambda x: Plain(x) == 3,
        lambda x: Plain(x, Frozen(x)) == Plain(x, Frozen(x + 0)),
    ]
    for f in functions:
        traced = tj.function(f, strict=True)
        for x in (0.5, 0.0):
            assert float(traced(tj.constant(x))) == float(f(tj.constant(x)))
