"""One measurement in a process of its own: `python child.py first_call|mlp_first|memory FRAMEWORK`, JSON out."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import peers
from training import mlp_step

MLP = (784, 512, 512, 10), 128


def peak_mb() -> float:
    """The most memory this process has had resident, in MiB."""
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource

        scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def ten_operations(m: Any, x: Any, y: Any) -> Any:
    a = x * y + 1.0
    b = m.tanh(a) - x
    return m.exp(b * 0.5) * y + a / (x * x + 2.0)


def other_call(name: str) -> dict[str, float]:
    """A call of another function: leaves in the cache what every function needs."""
    peer = _open(name)
    x = peer.array(np.linspace(0.1, 1.0, 1000, dtype=np.float32))
    peer.forward(lambda m, x: m.sqrt(x) - 3.0, x)()
    return {}


def first_call(name: str) -> dict[str, float]:
    peer = _open(name)
    x, y = (peer.array(np.linspace(0.1, 1.0, 100_000, dtype=np.float32)) for _ in range(2))
    start = time.perf_counter()
    call = peer.forward(ten_operations, x, y)
    call()
    return {"ms": (time.perf_counter() - start) * 1e3}


def mlp_first(name: str) -> dict[str, float]:
    """Until the first step is done: tracing, compiling, one run."""
    peer = _open(name)
    call = mlp_step(peer, *MLP)
    assert call is not None
    start = time.perf_counter()
    call()
    return {"ms": (time.perf_counter() - start) * 1e3}


def memory(name: str) -> dict[str, float]:
    """Peak memory of twenty steps, in all and beyond what the imports took."""
    peer = _open(name)
    before = peak_mb()
    call = mlp_step(peer, *MLP)
    assert call is not None
    for _ in range(20):
        call()
    return {"mb": peak_mb(), "grown_mb": peak_mb() - before}


def _open(name: str) -> peers.Peer:
    """The framework, warmed up as far as its own start goes: no compiled function yet."""
    peers.limit_threads()
    peer = peers.open_peer(name)
    if peer is None:
        raise SystemExit(f"{name} is not installed")
    peer.array(np.zeros(4, np.float32))
    return peer


TASKS = {"other_call": other_call, "first_call": first_call, "mlp_first": mlp_first, "memory": memory}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](sys.argv[2])))
