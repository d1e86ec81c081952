"""Python numbers that steer the function and have another value in each call: after a few traces one serves all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj

G = 0


class Run:
    """What a training run keeps beside its weights."""

    def __init__(self) -> None:
        self.step, self.rate, self.log, self.last = 0, 1.0, [], None


Case = tuple[Callable[..., Any], Callable[[], Any]]


def attribute() -> Case:
    run = Run()

    def f(x: Any) -> Any:
        run.step += 1
        if run.step % 5 == 0:
            print("step", run.step, f"{run.step:03d} {x:.1f}")
        if run.step < 4:
            run.log.append(x * run.step)
        elif run.step == 9:
            run.last = x
        return x * 2 if run.step % 2 else x * run.step

    return f, lambda: (run.step, run.log, run.last)


def item() -> Case:
    state: dict[str, Any] = {"t": 0, "mean": None}

    def f(x: Any) -> Any:
        state["t"] += 1
        if state["mean"] is None:
            state["mean"] = x
        else:
            state["mean"] = state["mean"] + (x - state["mean"]) / state["t"]
        if state["t"] % 3 == 0:
            print("t", state["t"], f"{state['mean']:.2f}")
        return state["mean"]

    return f, lambda: state


def module_variable() -> Case:
    def f(x: Any) -> Any:
        global G
        G += 1
        if G % 3 == 0:
            print(G)
        return x + G

    return f, lambda: G


def closure_variable() -> Case:
    n = 0

    def f(x: Any) -> Any:
        nonlocal n
        n = n + 1
        if n > 5:
            n = 0
            print("reset")
        return x * n

    return f, lambda: n


def schedule() -> Case:
    run, v = Run(), tj.Variable(1.0)

    def f(x: Any) -> Any:
        run.step += 1
        v.assign_sub((0.1 if run.step < 5 else 0.01 if run.step < 8 else 0.001) * x)
        return v + 0.0

    return f, lambda: (run.step, float(v))


def nothing_sometimes() -> Case:
    run = Run()

    def f(x: Any) -> Any:
        run.step += 1
        if run.step % 2 == 0:
            return None
        return x * run.step, run.step, run.step > 3

    return f, lambda: run.step


def loops() -> Case:
    run = Run()

    def f(x: Any) -> Any:
        run.step += 1
        for i in range(run.step):
            x = x * 1.01 + i
        k = run.step
        while k > 0:
            x, k = x + k, k - 2
        return x

    return f, lambda: run.step


def fraction() -> Case:
    run = Run()

    def f(x: Any) -> Any:
        run.rate *= 0.7
        if run.rate < 0.2:
            run.rate = 0.2
        return x * max(run.rate, 0.3)

    return f, lambda: run.rate


def shapes() -> Case:
    """What a branch on a tensor cannot do, and so stays a trace for each number."""
    run = Run()

    def f(x: Any) -> Any:
        run.step += 1
        if run.step % 3 == 0:
            return tj.ones((3,)) * x
        return tj.ones((2,)) * x

    return f, lambda: run.step


def keys() -> Case:
    run, table = Run(), {i: float(i) for i in range(20)}

    def f(x: Any) -> Any:
        run.step += 1
        if run.step > 3:
            x = x + 1
        return x * table[run.step]

    return f, lambda: run.step


CASES = (attribute, item, module_variable, closure_variable, schedule, nothing_sometimes, loops, fraction, shapes, keys)


def seen(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return [seen(y) for y in x]
    if isinstance(x, dict):
        return {k: seen(y) for k, y in x.items()}
    return x if x is None else np.asarray(x, np.float64).round(4).tolist()  # numbers that are returned are tensors


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_state(case: Callable[[], Case], capsys: pytest.CaptureFixture[str]) -> None:
    global G
    outcomes = []
    for traced in (False, True):
        G = 0
        f, state = case()
        g: Any = tj.function(f) if traced else f
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            outcomes.append(
                [(seen(g(tj.constant(i / 4))), capsys.readouterr().out, seen(state())) for i in range(14)]
            )
    assert outcomes[0] == outcomes[1]
    if case not in (shapes, keys):
        assert g.stats()["traces"] <= 6


def test_arguments() -> None:
    """The number of a step or an epoch, as an argument."""

    def f(x: Any, epoch: int, rate: float, *, warm: int = 5) -> Any:
        if epoch < warm:
            rate = rate * (epoch + 1) / warm
        for _ in range(epoch % 3):
            x = x * 1.5
        return x * rate

    g = tj.function(f)
    for epoch in range(12):
        x = tj.constant(2.0)
        np.testing.assert_allclose(g(x, epoch, 0.1), f(x, epoch, 0.1), rtol=1e-6)
    assert g.stats()["traces"] <= 6


def test_arguments_that_python_needs_stay_constants() -> None:
    names = ["a", "b", "c", "d", "e", "f", "g", "h"]
    g = tj.function(lambda x, i: {names[i]: x * 2, "n": i} if i > 2 else {names[i]: x})
    for i in range(8):
        got = g(tj.constant(1.0), i)
        assert next(iter(got)) == names[i] and float(got[names[i]]) == (2.0 if i > 2 else 1.0)
