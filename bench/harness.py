"""What a workload is, what its bar is, and how several frameworks are timed in turns."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from peers import Call, Peer, leaves

Opened = Mapping[str, Peer]
# calls are timed together until they fill this: long enough for the timer, short enough that another process, which may
# take a core at any time, does not spoil it
_WINDOW = 40e-6


@dataclass(frozen=True)
class Bar:
    """What tracejit has to reach: `limit` in the row's unit, or times the figure of `against` ("best": any peer)."""

    text: str
    limit: float
    against: str | None = None


@dataclass(frozen=True)
class Row:
    """One measured figure of one framework. `value` is what is compared, in `unit`; smaller is better."""

    workload: str
    framework: str
    value: float
    unit: str = "µs"
    median: float | None = None
    quartiles: tuple[float, float] | None = None
    rounds: int = 1
    note: str = ""
    yardstick: bool = False


@dataclass(frozen=True)
class Workload:
    """`make(peer)` returns a call to time, None where the framework has no such thing.

    Yardsticks are hand-written loops: timed with the rest and shown, but no peers that a bar is measured against.
    `strays` is the share of a result's numbers that may differ by more than the tolerance.
    """

    name: str
    title: str
    bar: Bar
    make: Callable[[Peer], Call | None]
    tolerance: float | None = 1e-3
    headline: bool = True
    strays: float = 0.0
    yardsticks: Mapping[str, Callable[[], Call]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A workload that measures itself, in processes of its own."""

    name: str
    title: str
    bar: Bar
    measure: Callable[[list[str], bool], list[Row]]
    headline: bool = True


@dataclass
class Effort:
    """How long to measure."""

    rounds: int = 25
    batch: float = 15e-3
    pause: float = 5e-3

    @classmethod
    def quick(cls) -> Effort:
        return cls(rounds=5, batch=5e-3, pause=3e-3)


@dataclass
class Timed:
    """A call, how many fill a batch and how many a window, and the seconds per call of each window."""

    call: Call
    calls: int
    together: int
    seconds: list[float] = field(default_factory=list)


def measure(workload: Workload, peers: Opened, effort: Effort, log: Callable[[str], None] = print) -> list[Row]:
    """Check that all frameworks compute the same, then time them in turns."""
    timed: dict[str, Timed] = {}
    results: dict[str, list[np.ndarray]] = {}
    for name, make in _makers(workload, peers).items():
        try:
            call = make()
            if call is None:
                continue
            results[name] = [np.array(a) for a in leaves(call())]
            estimate = _estimate(call, effort.batch)
            timed[name] = Timed(call, *(max(1, min(100_000, int(t / estimate))) for t in (effort.batch, _WINDOW)))
        except Exception as error:
            log(f"  {name} left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    _check_equal(workload, results)
    names = list(timed)
    gc.collect()
    gc.disable()
    try:
        for turn in range(effort.rounds):
            for i in range(len(names)):
                _round(timed[names[(turn + i) % len(names)]], effort.pause)
    finally:
        gc.enable()
    rows = [_row(workload.name, name, timed[name].seconds) for name in names]
    return [replace(r, yardstick=r.framework in workload.yardsticks) for r in rows]


def _makers(workload: Workload, peers: Opened) -> dict[str, Callable[[], Call | None]]:
    """What makes the call of each framework and of each yardstick."""

    def of(peer: Peer) -> Call | None:
        peer.forget()
        return workload.make(peer)

    return {**{name: partial(of, peer) for name, peer in peers.items()}, **workload.yardsticks}


def _round(t: Timed, pause: float) -> None:
    """Let the other frameworks' threads go to sleep and wake up this one's, then time a batch of calls."""
    time.sleep(pause)
    for _ in range(max(1, t.calls // 4)):
        t.call()
    for _ in range(max(1, t.calls // t.together)):
        start = time.perf_counter()
        for _ in range(t.together):
            t.call()
        t.seconds.append((time.perf_counter() - start) / t.together)


def _estimate(call: Call, batch: float) -> float:
    """Seconds per call, roughly, after warming up."""
    for _ in range(3):
        call()
    best, n = math.inf, 1
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(n):
            call()
        best = min(best, (time.perf_counter() - start) / n)
        n = max(1, min(100_000, int(batch / 8 / best)))
    return best


def _row(workload: str, name: str, seconds: list[float]) -> Row:
    micro = sorted(s * 1e6 for s in seconds)
    low, high = np.percentile(micro, (25, 75))
    return Row(workload, name, micro[0], "µs", statistics.median(micro), (float(low), float(high)), len(micro))


def _check_equal(workload: Workload, results: Mapping[str, list[np.ndarray]]) -> None:
    """All frameworks must have computed the same thing: float32 rounding apart."""
    if workload.tolerance is None or not results:
        return
    names = list(results)
    first = results[names[0]]
    for name in names[1:]:
        other = results[name]
        if len(first) != len(other):
            raise AssertionError(f"{workload.name}: {names[0]} returns {len(first)} arrays, {name} {len(other)}")
        for i, (a, b) in enumerate(zip(first, other)):
            scale = max(1e-30, float(np.max(np.abs(a))))
            if a.size != b.size or workload.strays < np.mean(
                ~np.isclose(a.reshape(-1) / scale, b.reshape(-1) / scale, workload.tolerance, workload.tolerance)
            ):
                raise AssertionError(f"{workload.name}: result {i} of {names[0]} and {name} differ")


def best_peer(rows: list[Row], against: str | None) -> Row | None:
    """The fastest other framework, or the one that is named."""
    others = [r for r in rows if r.framework != "tracejit" and not r.yardstick]
    if against not in (None, "best"):
        others = [r for r in others if r.framework == against]
    return min(others, key=lambda r: r.value, default=None)


def verdict(bar: Bar, rows: list[Row]) -> tuple[float | None, bool | None]:
    """Tracejit's figure relative to the bar's measure, and whether it is reached; None where it was not measured."""
    mine = next((r for r in rows if r.framework == "tracejit"), None)
    if mine is None:
        return None, None
    if bar.against is None:
        peer = best_peer(rows, "best")
        return (mine.value / peer.value if peer else None), mine.value <= bar.limit
    peer = best_peer(rows, bar.against)
    if peer is None:
        return None, None
    ratio = mine.value / peer.value
    return ratio, ratio <= bar.limit
