"""tj.benchmark compares eager with traced, restores Variables, and refuses results that differ."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.benchmark import BenchmarkResult, ResultsDiffer, Timing, _compare, show


def test_times_a_plain_function():
    result = tj.benchmark(lambda x, y: tj.tanh(x) * y, tj.ones((3, 4)), 2.0, repeat=3, min_time=1e-4, name="tanh")
    assert result.name == "tanh"
    assert len(result.eager.rounds) == len(result.traced.rounds) == 3
    assert result.eager.median > 0
    assert result.difference < 1e-5


def test_times_a_decorated_function_with_keywords_and_structures():
    @tj.function
    def f(batch, scale=1.0):
        return {"sum": tj.reduce_sum(batch["x"]) * scale, "parts": [batch["x"] + 1, batch["x"] > 0]}

    result = tj.benchmark(f, {"x": tj.constant([1.0, -2.0])}, scale=3.0, repeat=2, min_time=1e-4)
    assert result.name == "f"
    assert {"trace_ms", "compile_ms", "nodes", "kernels", "kernels_unfused"} <= result.stats.keys()


def test_variables_keep_their_values():
    w = tj.Variable([1.0, 2.0])
    given = tj.Variable(5.0)

    def step(v):
        w.assign_sub(0.5 * w)
        v.assign_add(1.0)
        return tj.reduce_sum(w)

    tj.benchmark(step, given, repeat=2, min_time=1e-4)
    assert w.numpy().tolist() == [1.0, 2.0]
    assert float(given) == 5.0


def test_variables_keep_their_values_when_the_function_fails():
    w = tj.Variable(1.0)

    def step():
        w.assign(7.0)
        raise KeyError("no")

    with pytest.raises(KeyError):
        tj.benchmark(step)
    assert float(w) == 1.0


def test_no_rounds_is_an_error():
    with pytest.raises(ValueError, match="repeat=0"):
        tj.benchmark(lambda: tj.ones(()), repeat=0)


@pytest.mark.parametrize(
    ("eager", "traced"),
    [
        (np.float32(1), np.float32(1.1)),
        (np.ones(3, np.float32), np.ones(4, np.float32)),
        (np.ones(3, np.float32), np.ones(3, np.float64)),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([np.nan]), np.array([0.0])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array([1e-3, 0.0]), np.array([1e-3, 1e-8])),
    ],
)
def test_results_that_differ_are_refused(eager, traced):
    with pytest.raises(ResultsDiffer):
        _compare("f", [np.asarray(eager)], [np.asarray(traced)])


@pytest.mark.parametrize(
    "value",
    [np.ones(3, np.float16), np.array([np.nan, np.inf]), np.array([1 + 2j]), np.array([True]), np.ones((0, 2))],
)
def test_equal_results_pass(value):
    assert _compare("f", [np.asarray(value)], [np.asarray(value)]) == 0.0


def test_rounding_passes_and_is_reported():
    a = np.linspace(1, 100, 50, dtype=np.float32)
    worst = _compare("f", [a], [a * np.float32(1 + 3e-7)])
    assert 0 < worst < 1e-6


def test_reads_well():
    stats = {"trace_ms": 1.0, "compile_ms": 2.0}
    text = str(BenchmarkResult("f", Timing((2e-3, 4e-3)), Timing((1e-5, 1e-5)), 0.0, stats))
    assert "f: eager against traced, 2 rounds" in text
    assert "300.00x" in text
    assert "compiled in 2.0 ms" in text
    assert [show(t) for t in (1.5, 2e-3, 3.25e-6, 4e-9)] == ["1.5 s", "2 ms", "3.25 µs", "4 ns"]
