"""States of a loop that become what another state was change places with it, and are not copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj


def fibonacci(a: Any, b: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b = b, a + b
    return a, b


def chain(a: Any, b: Any, c: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b, c = tj.sin(a + c), a, b
    return a, b, c


def two_chains(a: Any, b: Any, c: Any, d: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b, c, d = a * 0.5 + d, a, c * 0.5 + b, c
    return a, b, c, d


def circle(a: Any, b: Any, c: Any, d: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b, c, d = b, c, a, d + a
    return a, b, c, d


def twice(a: Any, b: Any, c: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b, c = a * 0.5 + c, a, a
    return a, b, c


def condition(a: Any, b: Any, n: Any) -> Any:
    i = 0
    while i < n and tj.reduce_sum(a) < 1e9:
        a, b = a + 0.1 * b, a
        i += 1
    return a, b


def products(a: Any, b: Any, n: Any) -> Any:
    for _ in tj.range(n):
        a, b = a @ b * 0.1, a
    return a, b


def nested(a: Any, b: Any, n: Any) -> Any:
    for _ in tj.range(n):
        for _ in tj.range(n):
            a, b = a * 0.9 + b * 0.1, a
        a, b = b, a
    return a, b


FUNCTIONS = {fibonacci: 2, chain: 3, two_chains: 4, circle: 4, twice: 3, condition: 2, products: 2, nested: 2}


@pytest.mark.parametrize("shape", [(3, 3), (150, 150), (0, 0)], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_any_number_of_steps(f: Callable[..., Any], shape: tuple[int, int]) -> None:
    """After any number of steps each state is where it belongs; and the gradient of a found number of them."""
    arrays = [tj.constant(x) for x in np.random.default_rng(0).standard_normal((FUNCTIONS[f], *shape)) * 0.1]
    traced = tj.function(f)
    for n in (0, 1, 2, 3, 4, 5, 6, 11):
        for got, want in zip(traced(*arrays, tj.constant(n)), f(*arrays, tj.constant(n)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)

    def gradient(g: Callable[..., Any]) -> Any:
        with tj.GradientTape() as tape:
            tape.watch(arrays)
            y = tj.reduce_sum(g(*arrays, tj.constant(5))[0])
        return tape.gradient(y, arrays, unconnected_gradients="zero")

    for got, want in zip(gradient(traced), gradient(f), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_nothing_is_copied_in_the_loop() -> None:
    x = np.ones((200, 200))
    for f, copies in ((fibonacci, 0), (chain, 0), (two_chains, 0), (twice, 1)):
        traced = tj.function(f)
        traced(*[x] * FUNCTIONS[f], tj.constant(9))
        text = str(traced.explain(*[x] * FUNCTIONS[f], tj.constant(9)))
        assert text[text.rindex("if not %") :].count("copy") == copies, text
