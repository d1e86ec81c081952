"""Compares two runs of bench/run.py: `python bench/compare.py BEFORE.jsonl AFTER.jsonl`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from report import number, read_json  # noqa: E402

# less than this is noise on a shared machine
NOISE = 0.05


def compare(before: Path, after: Path, framework: str) -> tuple[list[str], int]:
    """The lines to print, and how many workloads became slower."""
    (env0, rows0), (env1, rows1) = read_json(before), read_json(after)
    old = {(r.workload, r.framework): r for r in rows0}
    lines = [f"{env0.get('commit')} ({env0.get('date')}) -> {env1.get('commit')} ({env1.get('date')})"]
    slower = 0
    for r in rows1:
        was = old.get((r.workload, r.framework))
        if was is None or (framework and r.framework != framework):
            continue
        ratio = r.value / was.value
        verdict = "slower" if ratio > 1 + NOISE else "faster" if ratio < 1 - NOISE else ""
        slower += verdict == "slower"
        change = f"{number(was.value, was.unit):>12} -> {number(r.value, r.unit):<12}"
        lines.append(f"{r.workload:<20} {r.framework:<16} {change} {ratio:6.2f}x {verdict}")
    return lines, slower


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("before", type=Path)
    p.add_argument("after", type=Path)
    p.add_argument("--framework", default="tracejit", help="whose rows (default: %(default)s; empty: all)")
    p.add_argument("--fail", action="store_true", help="exit with 1 if anything became slower")
    opts = p.parse_args()
    lines, slower = compare(opts.before, opts.after, opts.framework)
    print("\n".join(lines))
    return int(opts.fail and slower > 0)


if __name__ == "__main__":
    sys.exit(main())
