"""The benchmark's bookkeeping: bars, tables, files, comparison. What it measures is not judged here."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Loads a module of bench/ and forgets it afterwards."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(BENCH)):
            del sys.modules[name]


def rows(bench, **values):
    Row = bench("harness").Row
    named = {name.replace("_", "."): value for name, value in values.items()}
    return [Row("work", name, value, "µs", value, (value, value), 3) for name, value in named.items()]


@pytest.mark.parametrize(
    ("limit", "against", "ratio", "reached"),
    [
        (0.7, "best", 0.5, True),
        (0.4, "best", 0.5, False),
        (0.3, "jax", 0.25, True),
        (2.0, None, 0.5, True),
        (0.9, None, 0.5, False),
        (1.0, "absent", None, None),
    ],
)
def test_bars(bench, limit, against, ratio, reached):
    measured = rows(bench, tracejit=1.0, jax=4.0, torch_compile=2.0)
    assert bench("harness").verdict(bench("harness").Bar("", limit, against), measured) == (ratio, reached)


def test_a_workload_checks_results_before_it_times_them(bench):
    harness = bench("harness")

    class Fake:
        def __init__(self, name, value):
            self.name, self.value = name, value

        def forget(self):
            pass

    def make(peer):
        return (lambda: np.full(3, peer.value)) if peer.value is not None else None

    work = harness.Workload("work", "", harness.Bar("", 1.0, "best"), make)
    effort = harness.Effort(rounds=2, batch=1e-5, pause=0.0)
    measured = harness.measure(work, {n: Fake(n, v) for n, v in (("a", 1.0), ("b", 1.00001), ("c", None))}, effort)
    assert {r.framework for r in measured} == {"a", "b"}
    with pytest.raises(AssertionError, match="differ"):
        harness.measure(work, {n: Fake(n, v) for n, v in (("a", 1.0), ("b", 1.1))}, effort)


def test_yardsticks_are_timed_but_are_no_peers_and_strays_are_let_through(bench):
    harness = bench("harness")
    first, other = np.arange(100.0), np.where(np.arange(100) == 7, 0.0, np.arange(100.0))

    class Fake:
        def forget(self):
            pass

    def work(strays):
        bar = harness.Bar("", 1.0, "best")
        loop = {"loop": lambda: lambda: other}
        return harness.Workload("work", "", bar, lambda p: lambda: first, strays=strays, yardsticks=loop)

    effort = harness.Effort(rounds=1, batch=1e-5, pause=0.0)
    measured = harness.measure(work(0.01), {"tracejit": Fake()}, effort)
    assert {r.framework: r.yardstick for r in measured} == {"tracejit": False, "loop": True}
    assert harness.verdict(work(0.01).bar, measured) == (None, None)
    with pytest.raises(AssertionError, match="differ"):
        harness.measure(work(0.005), {"tracejit": Fake()}, effort)


def test_numpy_and_tracejit_compute_the_same(bench):
    peers, harness, arrays, training = map(bench, ("peers", "harness", "arrays", "training"))
    opened = {name: peers.open_peer(name) for name in ("tracejit", "numpy")}
    effort = harness.Effort(rounds=1, batch=1e-5, pause=0.0)
    for name in ("dispatch_2", "dispatch_20", "compute_1e3", "linear_step"):
        make = {**arrays.MAKERS, **training.MAKERS}[name]
        assert {r.framework for r in harness.measure(make(), opened, effort)} == {"tracejit", "numpy"}


def test_tables_and_files(bench, tmp_path):
    report, harness = bench("report"), bench("harness")
    work = harness.Workload("work", "some work", harness.Bar("≤ 0.7x best", 0.7, "best"), lambda peer: None)
    done = [(work, rows(bench, tracejit=1500.0, jax=2000.0))]
    env = report.environment()
    assert "| some work | 1.5 ms | 2 ms jax | 0.75 | ≤ 0.7x best | missed |" in report.summary(done)
    assert "| work | jax | 2 ms | 2 ms | 2 ms – 2 ms | 3 |  |" in report.results(env, done, "command")

    report.write_json(tmp_path / "a.jsonl", env, done[0][1])
    assert report.read_json(tmp_path / "a.jsonl") == (env, done[0][1])

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    report.update_readme(readme, env, done)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "some work" in text
    assert "old" not in text


def test_compare(bench, tmp_path):
    report, compare = bench("report"), bench("compare")
    report.write_json(tmp_path / "a", {"commit": "1"}, rows(bench, tracejit=1.0, jax=1.0))
    report.write_json(tmp_path / "b", {"commit": "2"}, rows(bench, tracejit=2.0, jax=0.5))
    lines, slower = compare.compare(tmp_path / "a", tmp_path / "b", "")
    assert slower == 1
    assert "2.00x slower" in lines[1]
    assert "0.50x faster" in lines[2]
    assert compare.compare(tmp_path / "a", tmp_path / "b", "jax")[1] == 0


def test_lists_its_workloads():
    done = subprocess.run([sys.executable, BENCH / "run.py", "--list"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compute_1e7" in done.stdout
    assert "mlp_small" in done.stdout
