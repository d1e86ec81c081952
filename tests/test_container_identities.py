"""A list or dict stays the one that it is where branches and loops choose among several, and where arguments meet
attributes: what is returned, kept and changed afterwards is that of plain Python, as a picture of which are one."""

import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
from random_containers import picture

import tracejit as tj
from tracejit.errors import ConversionWarning

Entry = namedtuple("Entry", "items count")


class Other:
    def __init__(self):
        self.z = []


class S:
    def __init__(self):
        self.l, self.m, self.g, self.d, self.o = [1.0], [2.0], [[3.0], [4.0]], {}, Other()


# --- these compile ----------------------------------------------------------------------------------------------------
def changed_after_a_choice(s, x, n, p):
    a, b = [x], [x + 1]
    k = a if x > 0 else b
    a.append(1.0)
    return k


def chosen_twice(s, x, n, p):
    a, b = [x], [x + 1]
    if x > 0:
        k, j = a, a
    else:
        k, j = b, a
    k.append(1.0)
    return j


def two_names_of_one_that_a_branch_makes(s, x, n, p):
    if x > 0:
        k = [x]
        j = k
    else:
        k = [x + 1]
        j = k
    k.append(1.0)
    return j is k, [j, k]


def the_same_twice_from_a_loop(s, x, n, p):
    q = [x]
    for i in tj.range(n):
        if i == 1:
            return (q, q)
        x = x + 1
    return (q, [x])


def an_item_or_another(s, x, n, p):
    a, b = [x], [x + 1]
    d = {"k": a}
    if x > 0:
        d["k"] = b
    d["k"].append(2.0)
    return a, b


def two_attributes_become_one(s, x, n, p):
    s.m = [x]
    s.l = [x]
    if x > 0:
        s.l = s.m
    return s


def one_of_two_attributes_is_returned(s, x, n, p):
    return s.l if x > 0 else s.m


def kept_and_returned_in_one_branch(s, x, n, p):
    if x > 0:
        s.l = [x]
        r = s.l
    else:
        r = [x + 2]
    return r


def replaced_in_one_branch(s, x, n, p):
    before = s.l
    if x > 0:
        s.l = s.l + [x]
    return before


def put_into_an_item_in_one_branch(s, x, n, p):
    q = [x]
    if x > 0:
        s.g[1] = q
    else:
        s.g[0] = q
    return q


def swapped_in_a_loop(s, x, n, p):
    a, b = [x], [x]
    while x < 3:
        a, b = b, a
        x = x + 1
    a.append(x)
    return a, b


def longer_in_each_step(s, x, n, p):
    before = s.l
    for _ in tj.range(n):
        s.l = s.l + [1.0]
    return before


def an_argument_is_appended_in_a_branch(s, x, n, p):
    if x > 0:
        s.g.append(p)
        s.g.append((p, x))
    return x


def an_argument_is_appended_in_a_loop(s, x, n, p):
    for _ in tj.range(n):
        s.g.append(p)
    return x


def appended_in_a_branch_and_returned(s, x, n, p):
    q = [x]
    if x > 0:
        s.g.append([x, q])
        s.g.append((s.l, x))
    q.append(1.0)
    return q


def an_argument_becomes_an_attribute(s, x, n, p):
    s.l = p
    p.append(x)
    return x


def what_is_returned_is_the_callers(s, x, n, p):
    return p, s.l, s.g, {"d": s.d}


def returned_from_steps_that_are_written_out(s, x, n, p):
    for _ in range(2):
        s.m.append(x)
        if x > 0:
            return {"l": s.l}
    return {"l": s.l}


def turned_round_in_a_branch(s, x, n, p):
    s.g[1] = p if x > 0 else s.m
    s.g.reverse()
    if x > 5.0:
        s.g[0] = s.l
    return x


def set_by_a_loop(s, x, n, p):
    b = [x, 0.5]
    s.g = [s.g[0], s.m]
    for _ in tj.range(n):
        s.l, b = s.m, s.g[0]
    return b


def a_choice_is_changed_in_a_branch(s, x, n, p):
    k = s.l if x > 0 else s.m
    if x * x < 0.1:
        k.append(1.0)
    return x


def held_by_a_named_tuple(s, x, n, p):
    a = [x]
    e = Entry(a, x)
    s.l = a
    s.m = e.items
    if x > 0.3:
        s.d["items"] = e.items
    e = e._replace(items=[x])
    s.m = e.items
    return e.count


def exchanged_by_an_error(s, x, n, p):
    try:
        if x > 0:
            raise ValueError
        s.l = s.m
    except ValueError:
        s.m = s.l
    return s.l, s.m


def unpacked_and_exchanged(s, x, n, p):
    q = [[x], [x + 1]]
    for r in q:
        if x > 0:
            r.append(5.0)
    a, b = q
    if x > 0.4:
        a, b = b, a
    s.l = a
    return q, b


def one_list_under_two_keys(s, x, n, p):
    d = {}
    for _ in range(3):
        d.setdefault("k", []).append(x)
    if x > 0:
        d["j"] = d["k"]
    return d


def the_greatest_of_several(s, x, n, p):
    best = None
    for r in (s.l, s.m, [x]):
        if best is None or tj.reduce_sum(tj.stack(r)) > tj.reduce_sum(tj.stack(best)):
            best = r
    return best


# --- these run as plain Python, and say so ----------------------------------------------------------------------------
def one_in_one_branch_two_in_the_other(s, x, n, p):
    if x > 0:
        k = [x]
        j = k
    else:
        k, j = [x + 1], [x + 3]
    k.append(1.0)
    return j


def one_after_a_step_two_without(s, x, n, p):
    a, b = [x], [x + 1]
    for _ in tj.range(n):
        a = [x * 2]
        b = a
    a.append(1.0)
    return b


def changed_where_it_was_perhaps_kept(s, x, n, p):
    if x > 0:
        s.l = [x]
        r = s.l
    else:
        r = [x + 2]
    r.append(2.0)
    return x


def copied_in_steps_and_returned_early(s, x, n, p):
    a = [x]
    for _ in tj.range(n):
        if not x > 0.4:
            s.d = dict(s.d)
            if x < 0:
                break
        if x > 5.0:
            return a, [x, x]
    return a, [x, x + 1]


def chosen_in_a_branch_of_a_branch(s, x, n, p):
    a, o = [x], Other()
    if sum(s.g[0]) > 0.4:
        for _ in range(2):
            if x < 0:
                o = s.o
            s.g[0] = a
            o.z = o.z + [0.5]
    a.append(x)
    return x


def new_lists_of_chosen_items_in_steps(s, x, n, p):
    for _ in range(n):
        if not x > 0.4:
            s.g = [s.g[1], s.m]
    return x


def kept_and_put_into_a_list_in_a_branch(s, x, n, p):
    a = [x]
    if x < 0.4:
        if n > 0:
            s.l = a
        s.g.append(a)
    return x


COMPILED = [f for k, f in list(globals().items()) if getattr(f, "__module__", None) == __name__ and k[0].islower()]
PLAIN = [one_in_one_branch_two_in_the_other, one_after_a_step_two_without, changed_where_it_was_perhaps_kept]
PLAIN += [copied_in_steps_and_returned_early, chosen_in_a_branch_of_a_branch, new_lists_of_chosen_items_in_steps]
COMPILED = [f for f in COMPILED if f not in PLAIN and f.__code__.co_argcount == 4]
GIVEN = [(0.5, 2), (-0.5, 0), (0.25, 1), (-0.7, 3), (0.2, 0)]


def left_behind(f, given=GIVEN, what="pppp"):
    s, p, out = S(), [0.75], []
    for (x, n), which in zip(given, what):
        r = f(s, tj.constant(x), tj.constant(n), s.l if which == "l" else p)
        out.append(picture([r, s, p]))
    return out


@pytest.mark.parametrize("f", COMPILED, ids=lambda f: f.__name__)
def test_which_is_which(f):
    assert left_behind(tj.function(f, strict=True)) == left_behind(f)


@pytest.mark.parametrize("f", PLAIN, ids=lambda f: f.__name__)
def test_what_cannot_be_told_runs_as_plain_python(f):
    with pytest.warns(ConversionWarning) as said:
        got = left_behind(tj.function(f))
    assert got == left_behind(f)
    assert len(said) == 1


# --- an argument that is an attribute too -----------------------------------------------------------------------------
def both_are_changed(s, x, n, p):
    p.append(x)
    s.l.append(2.0)
    return x


def the_attribute_is_changed(s, x, n, p):
    s.l.append(x)
    return len(p) * x


def they_are_compared(s, x, n, p):
    return x if p is s.l else x + 1


def changed_in_a_branch(s, x, n, p):
    if x > 0:
        s.l.append(x)
    return p[-1] + x


def kept_and_changed(s, x, n, p):
    s.l = p
    for _ in tj.range(n):
        p.append(x)
    return len(s.l)


@pytest.mark.parametrize("what", ["lplp", "plpl", "ppll", "pppl"])
@pytest.mark.parametrize(
    "f", [both_are_changed, the_attribute_is_changed, they_are_compared, changed_in_a_branch, kept_and_changed],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_an_argument_that_is_an_attribute_too(f, what):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        assert left_behind(tj.function(f), what=what) == left_behind(f, what=what)


def test_an_attribute_that_a_branch_replaces_is_found_again():
    """What is there is part of the trace; the calls that find it as it was use the same one."""
    s = S()

    @tj.function
    def f(x):
        if x > 0:
            s.l = [x]
        return x

    for _ in range(5):
        f(tj.constant(-1.0))
    assert s.l == [1.0]
    assert f.experimental_get_tracing_count() == 1


def test_a_list_that_a_branch_lengthens_or_puts_another_in_the_place_of():
    """Its items of before stay what they are at each call, though no name leads to it but an item of another list."""

    def run(wrap):
        s, other = SimpleNamespace(g=[[4.0], [5.0]]), [7.0]

        def step(x):
            if x > 5.0:
                s.g[0] = other
            else:
                s.g[0].append(0.5)
            return x

        f, out = wrap(step), []
        for x in (1.0, 2.0, 3.0, 6.0, 1.0):
            f(tj.constant(x))
            out.append([list(y) for y in s.g])
        return out, s.g[0] is other

    assert run(lambda f: tj.function(f, strict=True)) == run(lambda f: f)
