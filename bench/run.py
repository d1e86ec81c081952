"""Measures tracejit beside other frameworks: `python bench/run.py [NAME ...] [--quick] [--readme]`, names by --list."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peers

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
peers.limit_threads()

import arrays  # noqa: E402
import bandwidth  # noqa: E402
import control  # noqa: E402
import convolution  # noqa: E402
import eager  # noqa: E402
import eager_functions  # noqa: E402
import fourier  # noqa: E402
import matrices  # noqa: E402
import nested  # noqa: E402
import processes  # noqa: E402
import report  # noqa: E402
import training  # noqa: E402
import transformer  # noqa: E402
from harness import Effort, Measured, Row, Workload, measure  # noqa: E402

MAKERS: dict[str, Callable[[], Workload | Measured]] = {
    **arrays.MAKERS,
    **eager.MAKERS,
    **eager_functions.MAKERS,
    "bandwidth": bandwidth.workload,
    **training.MAKERS,
    **convolution.MAKERS,
    **transformer.MAKERS,
    **fourier.MAKERS,
    **matrices.MAKERS,
    **control.MAKERS,
    **nested.MAKERS,
    **processes.MAKERS,
}
IN_PROCESS = {
    **arrays.MAKERS, **eager.MAKERS, **eager_functions.MAKERS, **training.MAKERS, **convolution.MAKERS,
    **transformer.MAKERS, **fourier.MAKERS, **matrices.MAKERS, **control.MAKERS,
    **nested.MAKERS,
}  # fmt: skip


def options() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME", help="workloads, wildcards allowed (default: all)")
    p.add_argument("--list", action="store_true", help="print the names of the workloads")
    p.add_argument("--peers", default=",".join(peers.PACKAGES), help="frameworks to compare (default: %(default)s)")
    p.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    p.add_argument("--rounds", type=int, help="rounds per workload")
    p.add_argument("--out", type=Path, default=HERE / "out" / "latest.jsonl", help="JSON lines (default: %(default)s)")
    p.add_argument("--merge", action="store_true", help="keep the rows of other workloads that the file already has")
    p.add_argument("--results", action="store_true", help="write RESULTS.md too")
    p.add_argument("--readme", action="store_true", help="write RESULTS.md and the README's table too")
    return p.parse_args()


def chosen(patterns: list[str]) -> list[str]:
    if not patterns:
        return list(MAKERS)
    unknown = [p for p in patterns if not fnmatch.filter(MAKERS, p)]
    if unknown:
        sys.exit(f"no workload is called {', '.join(unknown)}; --list prints the names")
    return [n for n in MAKERS if any(fnmatch.fnmatch(n, p) for p in patterns)]


def run(name: str, opened: dict[str, peers.Peer], wanted: list[str], opts: argparse.Namespace) -> list[Row]:
    work = MAKERS[name]()
    effort = Effort.quick() if opts.quick else Effort()
    if opts.rounds:
        effort = replace(effort, rounds=opts.rounds)
    if isinstance(work, Measured):
        rows = work.measure(wanted, opts.quick)
    else:
        rows = measure(work, opened, effort, report.show_progress)
    shown = "  ".join(f"{r.framework} {report.number(r.value, r.unit)}" for r in rows)
    report.show_progress(f"{name:<20} {shown}")
    return rows


def main() -> None:
    opts = options()
    if opts.list:
        print("\n".join(f"{name:<20} {make().title}" for name, make in MAKERS.items()))
        return
    names = chosen(opts.names)
    wanted = opts.peers.split(",")
    opened = {}
    if any(n in IN_PROCESS for n in names):
        opened = {n: peer for n in wanted if (peer := peers.open_peer(n)) is not None}
        wanted = list(opened)
    else:
        wanted = [n for n in wanted if peers.installed(n)]
    rows: dict[str, list[Row]] = {}
    if opts.merge and opts.out.exists():
        for row in report.read_json(opts.out)[1]:
            rows.setdefault(row.workload, []).append(row)
    env = report.environment()
    for name in names:
        rows[name] = run(name, opened, wanted, opts)
        report.write_json(opts.out, env, [r for rs in rows.values() for r in rs])
    done = [(MAKERS[n](), rows[n]) for n in MAKERS if rows.get(n)]
    print("\n".join(report.summary(done)))
    if opts.results or opts.readme:
        text = report.results(env, done, " ".join(["python bench/run.py", *opts.names, "--quick" * opts.quick]).strip())
        (HERE / "RESULTS.md").write_text(text)
    if opts.readme:
        report.update_readme(HERE.parent / "README.md", env, done)


if __name__ == "__main__":
    main()
