"""Containers that a call gives, in objects that it returns; and what lists that grow hold copies of."""

import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning


class Record:
    def __init__(self, value, log):
        self.value, self.log = value, log


def test_an_argument_in_a_returned_object_is_that_of_the_call():
    @tj.function(strict=True)
    def f(x, log, table):
        log.append(x)
        table["k"] = x
        return Record(x, log), Record(1, table)

    for v in (-1.0, 2.0):
        log, table = [], {}
        first, second = f(tj.constant(v), log, table)
        assert first.log is log and list(map(float, log)) == [v]
        assert second.log is table and float(table["k"]) == v


def test_without_effects():
    @tj.function(strict=True)
    def f(x, log):
        return Record(x, log)

    for log in ([], [1]):
        assert f(tj.constant(1.0), log).log is log


def test_an_argument_that_is_kept_outside():
    kept = Record(None, None)

    @tj.function(strict=True)
    def f(x, log):
        kept.log = log
        log.append(x)
        return x

    for v in (1.0, 2.0):
        log = []
        f(tj.constant(v), log)
        assert kept.log is log and len(log) == 1


def test_arguments_in_arguments():
    @tj.function(strict=True)
    def f(x, table):
        before = table["a"]
        table["a"] = [x]
        before.append(x)
        return Record(x, before)

    for v in (1.0, 2.0):
        before = []
        table = {"a": before}
        r = f(tj.constant(v), table)
        assert r.log is before and list(map(float, before)) == [v] == list(map(float, table["a"]))


def fallen_back(f, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        return tj.function(f)(*args)


def item_of_a_grown_list(x):
    g = [[1.0, 2.0]]
    if x < 0:
        g.append([x, x])
    g[0][0] = 9.0
    return g[0][0]


def item_with_a_name(x):
    g = [[1.0, 2.0]]
    if x < 0:
        g.append([x, x])
    r = g[0]
    r.append(3.0)
    return g[0][0] + len(g[0])


def added_and_changed(x):
    g, r = [[1.0, 2.0]], [x, x]
    if x < 0:
        g.append(r)
    r[0] = 5.0
    return g[-1][0]


@pytest.mark.parametrize("f", [item_of_a_grown_list, item_with_a_name, added_and_changed], ids=lambda f: f.__name__)
def test_containers_in_lists_that_grow_are_one_with_what_they_were(f):
    for v in (-1.0, 1.0):
        assert float(fallen_back(f, tj.constant(v))) == float(f(tj.constant(v)))


def test_a_list_of_lists_is_never_left_changed_by_the_trace():
    s = Record(0, [[1.0, 2.0], [3.0, 4.0]])
    first = s.log[0]

    def f(s, x):
        if x < 0:
            s.log.append([x, x])
            s.log[-1][0] = 1.0
        return x

    with pytest.raises(ConversionError):
        tj.function(f, strict=True)(s, tj.constant(-1.0))
    assert s.log == [[1.0, 2.0], [3.0, 4.0]] and s.log[0] is first
    fallen_back(f, s, tj.constant(-1.0))
    assert s.log[0] is first and [[float(v) for v in r] for r in s.log] == [[1.0, 2.0], [3.0, 4.0], [1.0, -1.0]]


def test_tuples_that_branches_add_to_a_list_from_outside():
    pairs = [(1.0, 2.0)]

    @tj.function(strict=True)
    def f(x):
        if x < 0:
            pairs.append((x, x))
        y = pairs[0][0]
        if x < 0:
            pairs.append((x, y))
        return y + len(pairs)

    assert float(f(tj.constant(-1.0))) == 4
    assert [tuple(map(float, p)) for p in pairs] == [(1.0, 2.0), (-1.0, -1.0), (-1.0, 1.0)]
    assert float(f(tj.constant(1.0))) == 4 and len(pairs) == 3


# --- numbers behind branches that may end with an error ---------------------------------------------------------------
def counted_with_an_error(x):
    s = 0
    for _ in range(2):
        if x < 0:
            s += 1
        elif x < 9:
            s += 2
        else:
            raise ValueError("too much")
    return s


def counted_while(x):
    n = 0
    while n < 5:
        if x < 0:
            n += 1
        elif x < 9:
            n += 2
        else:
            raise ValueError("too much")
    return n


def halved(u, v, a):
    if u < v:
        return u * 0.5 + v
    for _ in range(2):
        u = u - v
        if u < a:
            return u
    return v


def returned_with_a_number(a):
    k = 0
    for _ in range(2):
        if a > 5.0:
            return a, k
        a = halved(2.0, a, a)
        k += 1
    return a, k


@pytest.mark.parametrize("f", [counted_with_an_error, counted_while, returned_with_a_number], ids=lambda f: f.__name__)
def test_numbers_that_branches_change(f):
    traced = tj.function(f, strict=True)
    for v in (-1.0, 1.7, 3.0):
        got, wanted = traced(tj.constant(v)), f(tj.constant(v))
        assert [float(g) for g in (got if isinstance(got, tuple) else (got,))] == [
            float(w) for w in (wanted if isinstance(wanted, tuple) else (wanted,))
        ]
    if f is not returned_with_a_number:
        with pytest.raises(ValueError, match="too much"):
            traced(tj.constant(10.0))


# --- lists that get a new value in each step, and conditions that ask for attributes ----------------------------------
def replaced_by_longer(m):
    rows = []
    for _ in tj.range(m):
        rows = rows + [1.5]
    return rows


def length_in_the_loop(m):
    rows, total = [], 0
    for _ in tj.range(m):
        total = total + len(rows)
        rows = rows + [1.5]
    return total, len(rows)


def item_replaced_in_a_branch(m):
    table = {"k": [m]}
    if m > 1:
        table["k"] = table["k"] + [m * 2]
    return sum(table["k"]), len(table["k"])


def deleted_in_a_branch(m):
    r = Record(m, None)
    if m > 1:
        del r.value
    return r.value if hasattr(r, "value") else m * 0, getattr(r, "value", m - 7)


def stacked_if_any(m):
    out = []
    for i in tj.range(m):
        if i > 1:
            out.append(i)
    return tj.stack(out) if len(out) else 0


@pytest.mark.parametrize(
    "f",
    [replaced_by_longer, length_in_the_loop, item_replaced_in_a_branch, deleted_in_a_branch, stacked_if_any],
    ids=lambda f: f.__name__,
)
def test_as_plain_python(f):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        traced = tj.function(f)
        for m in (0, 1, 2, 4):
            assert str(traced(tj.constant(m))) == str(f(tj.constant(m)))


def test_an_attribute_that_gets_a_longer_list_in_each_step():
    s = Record(0, [])

    @tj.function
    def f(m):
        for _ in tj.range(m):
            s.log = s.log + [1.0]
        s.value = len(s.log)
        return m

    for m, n in ((2, 2), (3, 5), (0, 5), (1, 6)):
        f(tj.constant(m))
        assert (len(s.log), int(s.value)) == (n, n)


TOTAL = 0.0


def test_a_global_that_is_returned_as_it_was():
    @tj.function
    def f(x):
        global TOTAL
        before = [TOTAL]
        TOTAL = x
        return before

    found = [float(f(tj.constant(v))[0]) for v in (1.0, 2.0, 3.0)]
    assert found == [0.0, 1.0, 2.0]


def test_a_new_list_that_gets_more_in_the_same_branch():
    s = Record(0, [])

    @tj.function
    def f(x):
        if x < 2:
            s.log = s.log + [x]
            s.log.append(x * 2)
        return x

    for v in (1.0, 0.5, 3.0):
        f(tj.constant(v))
    assert list(map(float, s.log)) == [1.0, 2.0, 0.5, 1.0]


def test_an_object_of_a_branch_within_a_branch_that_holds_a_number():
    s = Record(0, None)

    def f(x, b):
        b = b + 1
        if x < 5:
            if x < 0:
                s.log = Record(b * 2.0, None)
            else:
                s.log = Record(3.0, None)
        return x

    for v, wanted in ((1.0, 3.0), (-2.0, 6.0)):
        fallen_back(f, tj.constant(v), 2.0)
        assert float(s.log.value) == wanted
