"""Dimensions are polynomials that compare equal, different or unknown."""

import itertools

import pytest

from tracejit.errors import ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.hooks import hooks
from tracejit.ir.sizes import divide, hint, known_equal, product, size_at

n, m = Dim.symbol("n", 6), Dim.symbol("m", 4)


@pytest.fixture
def decisions():
    seen = []
    before = hooks.decision
    hooks.decision = lambda relation, d, k, answer: seen.append((relation, str(d), k, answer))
    yield seen
    hooks.decision = before


EXPRESSIONS = {
    "sum": lambda n, m: n + m + 3,
    "difference": lambda n, m: 2 * n - m - 1,
    "product": lambda n, m: (n + 1) * (m - 2),
    "negative": lambda n, m: -n + 5 * m,
    "quotient": lambda n, m: (4 * n + 8) // 4,
    "inexact quotient": lambda n, m: (n + m) // 3 + n,
    "rest": lambda n, m: (n + 2) % 5 + (2 * m) % 2,
    "nested": lambda n, m: ((n // 2 + 1) * 3) // 4,
    "mixed": lambda n, m: 2 + n * m - m * n + n,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_polynomials_are_what_they_say_for_all_sizes(name):
    f = EXPRESSIONS[name]
    d = f(n, m)
    assert hint(d) == f(6, 4)
    for a, b in itertools.product((0, 1, 2, 5, 31), repeat=2):
        assert size_at(d, {"n": a, "m": b}) == f(a, b)


def test_equal_polynomials_are_equal_and_hash_alike():
    assert n + m == m + n and hash(n * 2 + m) == hash(m + n + n)
    assert n + 1 != n and n != 6
    assert n - n == 0 and type(n - n) is int
    assert (n + 3) - n == 3


def test_comparisons_know_what_holds_for_all_sizes(decisions):
    assert (n + 1 > 0) and not (n + 1).equals(0) and n >= 0 and n + m + 2 > 1
    assert known_equal(n * m, m * n) and not known_equal(n + 1, n)
    assert decisions == []
    assert n.compare(3, "==") is None


def test_what_depends_on_the_size_follows_the_hint_and_is_recorded(decisions):
    assert n > 3 and not known_equal(n, m) and bool(n)
    assert [(r, a) for r, _, _, a in decisions] == [(">", True), ("==", False), ("==", False)]


def test_int_freezes():
    frozen = []
    before = hooks.freeze
    hooks.freeze = lambda d: frozen.append(d) or d.hint
    try:
        assert int(n) == 6 and range(10)[n] == 6 and n / 4 == 1.5
    finally:
        hooks.freeze = before
    assert frozen == [n, n, n]


def test_shapes_divide():
    assert product((n, 3, m)) == 3 * n * m and product(()) == 1
    assert divide(12 * n, n) == 12 and divide(6 * n, 3) == 2 * n and divide(12, 4) == 3
    with pytest.raises(ShapeError, match="7 elements"):
        divide(7, 2)


def test_text():
    assert str(2 * n + m - 1) == "m+2*n-1" and str(n - m) == "-1*m+n"
    assert str((n + 1) // 2 * 3) == "3*(n+1)//2"
    assert str(Dim({}, 0)) == "0"


def test_bounds_decide():
    d = Dim.symbol("d", 5)
    n, m = Dim.symbol("n", 5040, 7), Dim.symbol("m", 5040, d)
    assert n.compare(7, "<=") is True and n.compare(8, "<") is True and (7 - n).compare(0, ">=") is True
    assert n.compare(6, "<=") is None and n.compare(0, ">") is None
    assert (d - m).compare(0, ">=") is True and (d + 1 - m).compare(0, ">") is True and m.compare(d + 1, "==") is False
    k = Dim.symbol("k", 5040, d - m)  # of what is left
    assert (d - m - k).compare(0, ">=") is True and (m + k).compare(d, "<=") is True
    assert (4 * k - Dim.symbol("i", 9, 4) * k).compare(0, ">=") is True
    assert (m + 2).evaluate({"m": 3}) == 5 and m.symbols == {"m"}


def test_the_smaller_of_a_size_and_a_number():
    d = Dim.symbol("d", 5)
    assert d.upto(3).evaluate({"d": 2}) == 2 and d.upto(3).evaluate({"d": 9}) == 3
    assert d.upto(0) == 0 and (d + 4).upto(3) == 3 and Dim.symbol("n", 9, 3).upto(4).terms == {("n",): 1}
    assert (d - d.upto(3)).compare(0, ">=") is True and (3 - d.upto(3)).compare(0, ">=") is True
    assert d.upto(3).compare(2, "<=") is None
    assert (d - d.upto(3)).same(d - d.upto(3)) and d.upto(3).symbols == {"d"}
