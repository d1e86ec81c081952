"""What became of a function, as text: why it was traced, what was merged, folded, rewritten and fused, and the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracejit.tracer import Concrete

_TITLES = {
    "merged": "merged: computed once", "folded": "folded: computed while compiling", "rewritten": "rewritten",
}  # fmt: skip


def explain(c: Concrete) -> str:
    """The stages of one trace as text."""
    exe, t = c.executable, c.executable.timing
    kept = f"{len(exe.optimized.nodes)} of {len(exe.parts.graph.nodes)} operations are left"
    lines = [
        f"{c.function.__qualname__}: traced because: {c.reason}",
        f"  trace {t.trace_ms:.1f} ms, optimize {t.optimize_ms:.1f} ms, "
        f"lower {t.lower_ms:.1f} ms, compile {t.compile_ms:.1f} ms",
        *_guards(c), "", "graph", str(exe.parts.graph), *_notes(c), *_rewrites(exe.report), "", f"optimized: {kept}",
        str(exe.optimized),
    ]  # fmt: skip
    if exe.program is not None:
        lines += _kernels(exe.program, *_counts(exe))
        for key, plan in exe.plans.items():
            lines += ["", f"plan for sizes {dict(zip(exe.symbols, key[0], strict=True))}", plan.describe()]
    elif exe.error is not None:
        lines += ["", f"runs in the interpreter: {exe.error}"]
    return "\n".join(lines)


def _guards(c: Concrete) -> Iterator[str]:
    """What the trace has read from outside, which must stay as it was."""
    if c.reads is not None and c.reads.guards:
        names = [g.label for g in c.reads.guards]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        yield f"  holds as long as these stay the same: {', '.join(names[:20])}{more}"
    if limits := c.narrowed():
        yield f"  holds for {', '.join(limits)}"


def _notes(c: Concrete) -> Iterator[str]:
    """Where values of two dtypes meet in branches and loops, and get one."""
    if c.parts.notes:
        yield from ("", "promoted: branches and steps of loops that give different dtypes")
        yield from (f"  {note}" for note in c.parts.notes)


def _rewrites(report: Any) -> Iterator[str]:
    """What was done to the graph, by kind: which operation or rule, how often, and at which lines."""
    for kind, title in _TITLES.items():
        rows = [(name, n, where) for k, name, n, where in report.rows() if k == kind]
        if not rows:
            continue
        yield from ("", title)
        width = max(len(name) for name, _, _ in rows)
        for name, n, where in rows:
            shown = ", ".join(where[:3]) + (", …" if len(where) > 3 else "")
            yield f"  {name:<{width}}  ×{n:<3} {shown}".rstrip()


def _kernels(program: Any, operations: int, kernels: int) -> Iterator[str]:
    """The steps of the program, each with the operations that it does at once and the lines that they came from."""
    units = list(program.units)
    ops = [_nodes(u) for u in units]
    more = len(units) - kernels
    rest = f", {more} more step{'s' * (more > 1)} to check or to hand on" if more else ""
    yield from ("", f"kernels: {operations} operation{'s' * (operations != 1)} fused into {kernels}{rest}")
    names = [u.describe() for u in units]
    width = min(max([len(n) for n in names], default=0), 60)
    for i, (name, nodes) in enumerate(zip(names, ops, strict=True)):
        where = list(dict.fromkeys(str(n.loc) for n in nodes if n.loc is not None))
        yield f"  {i}: {name:<{width}}  {', '.join(where[:4])}{', …' if len(where) > 4 else ''}".rstrip()


def _nodes(unit: Any) -> list[Any]:
    group, node = getattr(unit, "group", None), getattr(unit, "node", None)
    return [*([node] if node is not None else []), *(group.nodes if group is not None else [])]


def _counts(exe: Any) -> tuple[int, int]:
    """The operations that compute something, each of which would be a kernel, and the kernels that there are.

    Sources, changes of shape and checks compute nothing, unless a copy is all that there is to do.
    """
    ops = sum(n.op.family not in ("source", "shape") and n.op.name != "check" for n in exe.optimized.nodes)
    kernels = exe.program.kernels if exe.program else ops
    return max(ops, kernels), kernels


def stats(c: Concrete, traces: int) -> dict[str, Any]:
    """Numbers about a trace: milliseconds of tracing and compiling, nodes, and kernels without fusion and with it."""
    exe, t = c.executable, c.executable.timing
    unfused, kernels = _counts(exe)
    return {
        "traces": traces, "trace_ms": t.trace_ms, "optimize_ms": t.optimize_ms, "lower_ms": t.lower_ms,
        "compile_ms": t.compile_ms, "nodes": len(exe.parts.graph.nodes), "nodes_optimized": len(exe.optimized.nodes),
        "kernels_unfused": unfused, "kernels": kernels,
    }  # fmt: skip
