"""The order in which einsum contracts its operands: no other has fewer products."""

import itertools
import math
import sys
import types

import numpy as np
import pytest

import tracejit as tj
from tracejit.ops import order
from tracejit.ops.order import contraction_order


def products(terms, result, sizes, pairs):
    """How many products an order takes."""
    terms, total = [set(t) for t in terms], 0
    for i, j in pairs:
        rest = set(result).union(*[t for k, t in enumerate(terms) if k not in (i, j)])
        both = terms[i] | terms[j]
        total += math.prod(sizes[n] for n in both)
        terms = [*[t for k, t in enumerate(terms) if k not in (i, j)], both & rest]
    return total


def orders(count):
    """Every order of so many terms."""
    if count == 1:
        yield []
        return
    for pair in itertools.combinations(range(count), 2):
        for rest in orders(count - 1):
            yield [pair, *rest]


def problem(seed, count):
    rng = np.random.default_rng(seed)
    terms = [tuple(rng.choice(list("abcdef"), size=rng.integers(1, 4), replace=False)) for _ in range(count)]
    used = sorted({n for t in terms for n in t})
    result = tuple(rng.choice(used, size=rng.integers(0, min(3, len(used)) + 1), replace=False))
    return terms, result, {n: int(rng.integers(1, 6)) for n in used}


@pytest.mark.parametrize("seed", range(20))
def test_no_order_has_fewer_products(seed):
    terms, result, sizes = problem(seed, 3 + seed % 3)
    best = min(products(terms, result, sizes, o) for o in orders(len(terms)))
    assert products(terms, result, sizes, contraction_order(terms, result, sizes)) == best


@pytest.mark.parametrize("seed", range(12))
def test_values(seed):
    terms, result, sizes = problem(seed, 1 + seed % 8)
    equation = f"{','.join(''.join(t) for t in terms)}->{''.join(result)}"
    xs = [np.random.default_rng(seed + k).normal(size=[sizes[n] for n in t]) for k, t in enumerate(terms)]
    for how in ("greedy", "optimal"):
        for f in (tj.einsum, tj.function(tj.einsum)):
            np.testing.assert_allclose(f(equation, *xs, optimize=how), np.einsum(equation, *xs), rtol=1e-9, atol=1e-9)


def test_a_chain_is_taken_from_its_small_end():
    sizes = {"a": 2, "b": 100, "c": 100, "d": 100, "e": 100, "f": 100, "g": 100, "h": 100}
    chain = [(a, b) for a, b in itertools.pairwise("abcdefgh")]
    for terms in (chain[:4], chain):  # every order compared, and the smallest results first
        last = terms[-1][1]
        pairs = contraction_order(terms, ("a", last), sizes)
        assert products(terms, ("a", last), sizes, pairs) == 2 * 100 * 100 * (len(terms) - 1)


def test_vectors_without_a_common_letter_are_not_multiplied_first():
    terms = [("a",), ("b",), *[("a", "b")] * 6]
    pairs = contraction_order(terms, (), {"a": 50, "b": 50})
    assert (0, 1) not in pairs[:1]


def test_another_package_finds_the_order(monkeypatch):
    asked = []

    def contract_path(equation, *shapes, shapes_given=True, optimize=None, **how):
        asked.append((equation, optimize))
        return [(0, 1)] * (len(shapes) - 1), None

    package = types.ModuleType("opt_einsum")
    package.get_symbol = lambda i: "abcdefghijklmnop"[i]
    package.contract_path = contract_path
    monkeypatch.setitem(sys.modules, "opt_einsum", package)
    order._order.cache_clear()
    terms = [(a, b) for a, b in itertools.pairwise("abcdefgh")]
    sizes = dict.fromkeys("abcdefgh", 2)
    assert contraction_order(terms, ("a", "h"), sizes, "auto") == [(0, 1)] * 6
    assert asked == [("ab,bc,cd,de,ef,fg,gh->ah", "auto")]
    assert contraction_order(terms[:6], ("a", "g"), sizes, "auto") and len(asked) == 1
    monkeypatch.setitem(sys.modules, "opt_einsum", None)  # not installed
    order._order.cache_clear()
    assert len(contraction_order(terms, ("a", "h"), sizes, "auto")) == 6
    order._order.cache_clear()
