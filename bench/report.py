"""Measured rows as JSON lines, and as the tables of RESULTS.md and of the README."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import Measured, Row, Workload, best_peer, verdict
from peers import PACKAGES, THREADS

HERE = Path(__file__).parent
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
Done = Sequence[tuple[Workload | Measured, list[Row]]]


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {"python": platform.python_version()}
    for package in sorted({*PACKAGES.values(), "numba", "llvmlite", "jaxlib"}):
        for name in (package, f"{package}-cpu"):
            try:
                versions[package] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    if "tracejit" not in versions:
        versions["tracejit"] = "from the source tree"
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": THREADS,
        "versions": versions,
    }


def _commit() -> str:
    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    changed = "+" if git("status", "--porcelain", "../tracejit") else ""
    return (git("rev-parse", "--short", "HEAD") or "none") + changed


def _processor() -> str:
    try:
        info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        info = {k.strip(): v.strip() for k, v in info.items()}
        wide = "AVX-512" if "avx512f" in info.get("flags", "") else "AVX2" if "avx2" in info.get("flags", "") else ""
        return f"{info.get('model name', platform.machine())} family {info.get('cpu family', '?')} {wide}".strip()
    except OSError:
        return platform.processor() or platform.machine()


# --- JSON lines -------------------------------------------------------------------------------------------------------
def write_json(path: Path, env: Mapping[str, Any], rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as f:
        for row in rows:
            f.write(json.dumps({**asdict(row), **env}) + "\n")


def read_json(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """The environment of a file's first line, and its rows."""
    env: dict[str, Any] = {}
    rows = []
    names = Row.__dataclass_fields__
    for line in path.read_text().splitlines():
        record = json.loads(line)
        rows.append(Row(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in names}))
        env = env or {k: v for k, v in record.items() if k not in names}
    return env, rows


# --- tables -----------------------------------------------------------------------------------------------------------
def number(value: float, unit: str) -> str:
    """Three figures, in the unit that reads best."""
    if unit == "µs" and value >= 1000:
        value, unit = value / 1000, "ms"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def _mark(reached: bool | None) -> str:
    return {True: "reached", False: "missed", None: ""}[reached]


def summary(done: Done) -> list[str]:
    """One line per workload: tracejit, the best other, their ratio, the bar."""
    lines = ["| work | tracejit | best peer | ratio | bar | |", "|---|---:|---:|---:|---|---|"]
    for work, rows in done:
        mine = next((r for r in rows if r.framework == "tracejit"), None)
        peer = best_peer(rows, work.bar.against)
        ratio, reached = verdict(work.bar, rows)
        cells = [
            work.title,
            number(mine.value, mine.unit) if mine else "–",
            f"{number(peer.value, peer.unit)} {peer.framework}" if peer else "–",
            f"{ratio:.2f}" if ratio is not None else "–",
            work.bar.text,
            _mark(reached) if work.bar.text else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def details(done: Done) -> list[str]:
    """Every figure: the best time, the median and the quartiles."""
    lines = ["| work | framework | best | median | quartiles | timings | |", "|---|---|---:|---:|---:|---:|---|"]
    for work, rows in done:
        for r in rows:
            median = number(r.median, r.unit) if r.median is not None else ""
            spread = " – ".join(number(q, r.unit) for q in r.quartiles) if r.quartiles else ""
            cells = [work.name, r.framework, number(r.value, r.unit), median, spread, str(r.rounds), r.note]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def results(env: Mapping[str, Any], done: Done, command: str) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in env["versions"].items())
    return "\n".join(
        [
            "# Measured speed",
            "",
            f"Written by `{command}`. Commit {env['commit']}, {env['date']}.",
            f"{env['machine']}, {env['threads']} threads; {versions}.",
            "",
            "All frameworks run in one process and take turns, round by round; the best time counts, because other",
            "work on the machine only ever adds to it. Results are compared before they are timed. The ratio is",
            "tracejit's figure over that of the best other framework, or of the one that the bar names.",
            "",
            *summary(done),
            "",
            "## All figures",
            "",
            *details(done),
            "",
        ]
    )


def update_readme(path: Path, env: Mapping[str, Any], done: Done) -> None:
    """Replace the block between the two markers."""
    text = path.read_text()
    head, rest = text.split(START, 1)
    _, tail = rest.split(END, 1)
    note = f"{env['machine']}; {env['date'].split()[0]}, commit {env['commit']}"
    headlines = [(work, rows) for work, rows in done if work.headline]
    block = "\n".join([START, *summary(headlines), "", f"{note}.", END])
    path.write_text(head + block + tail)


def show_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
