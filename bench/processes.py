"""Workloads that need fresh processes: import time, first calls with cold and warm caches, peak memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import Bar, Measured, Row
from peers import PACKAGES

CHILD = Path(__file__).with_name("child.py")
_IMPORT = "import time; t = time.perf_counter(); import {}; print('{{\"ms\":', (time.perf_counter() - t) * 1e3, '}}')"
# what lets each framework keep compiled code between processes
_CACHES = ("TRACEJIT_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")


def child(task: str, framework: str, cache: str) -> dict[str, float]:
    """Run one measurement with this cache directory."""
    env = {**os.environ, **dict.fromkeys(_CACHES, cache)}
    env["TRITON_CACHE_DIR"] = cache
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages come with their bytecode
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHILD.parent.parent), env.get("PYTHONPATH")]))
    # timed from before NumPy, which the child script itself needs
    what = ["-c", _IMPORT.format(PACKAGES[framework])] if task == "import" else [str(CHILD), task, framework]
    done = subprocess.run([sys.executable, *what], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _row(workload: str, framework: str, values: list[float], unit: str, note: str = "") -> Row:
    low, high = np.percentile(values, (25, 75))
    spread = (float(low), float(high))
    return Row(workload, framework, min(values), unit, statistics.median(values), spread, len(values), note)


def _in_turns(workload: str, task: str, names: list[str], rounds: int, cache: str, key: str, unit: str) -> list[Row]:
    """`rounds` processes of each framework, in turns, with an "empty", a "filled" or a "used" cache.

    A used cache is one in which another function has left what it needed.

    A turn before the others fills Python's bytecode cache, the system's file cache and the caches that are kept.
    """
    values: dict[str, list[float]] = {name: [] for name in names}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as kept:
        failed: set[str] = set()
        for turn in range(rounds + 1):
            for name in names:
                if name in failed:
                    continue
                try:
                    with tempfile.TemporaryDirectory() as empty:
                        where = os.path.join(kept, name) if cache == "filled" else empty
                        if cache == "used":
                            child("other_call", name, where)
                        result = child(task, name, where)
                except RuntimeError as error:
                    print(f"  {name} left out: {error}")
                    failed.add(name)
                    continue
                if turn:
                    values[name].append(result[key])
                    notes[name] = ", ".join(f"{k} {v:.0f}" for k, v in result.items() if k != key)
    return [_row(workload, name, values[name], unit, notes[name]) for name in names if values[name]]


def _measured(
    name: str,
    title: str,
    bar: Bar,
    task: str,
    *,
    cache: str = "empty",
    key: str = "ms",
    unit: str = "ms",
    only: str = "",
) -> Measured:
    def measure(names: list[str], quick: bool) -> list[Row]:
        chosen = [n for n in names if n in only.split()] if only else names
        return _in_turns(name, task, chosen, 2 if quick else 5, cache, key, unit)

    return Measured(name, title, bar, measure, headline=name != "first_used")


_COMPILERS = "tracejit jax tf torch.compile"
_ALL = _COMPILERS + " torch"
_FIRST = "first call of a 10-op function, {} cache"
MAKERS = {
    "first_cold": lambda: _measured(
        "first_cold", _FIRST.format("empty"), Bar("≤ 40 ms", 40.0), "first_call", only=_COMPILERS
    ),
    "first_used": lambda: _measured(
        "first_used", _FIRST.format("another function's"), Bar("", 40.0), "first_call", cache="used", only=_COMPILERS
    ),
    "first_warm": lambda: _measured(
        "first_warm", _FIRST.format("filled"), Bar("≤ 20 ms", 20.0), "first_call", cache="filled", only=_COMPILERS
    ),
    "mlp_first": lambda: _measured(
        "mlp_first",
        "MLP step, batch 128: trace, compile, first run",
        Bar("≤ 0.6x jax", 0.6, "jax"),
        "mlp_first",
        only=_COMPILERS,
    ),
    "memory": lambda: _measured(
        "memory",
        "MLP step, batch 128: peak memory",
        Bar("≤ jax", 1.0, "jax"),
        "memory",
        key="mb",
        unit="MiB",
        only=_ALL,
    ),
    "import": lambda: _measured("import", "import", Bar("≤ 200 ms", 200.0), "import", only=_ALL),
}
