"""One reverse sweep over records, shared by tapes and by graphs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import FunctionType
from typing import Any

from tracejit.context import context
from tracejit.ir.op import OPS, Op
from tracejit.slices import joined
from tracejit.tensor import Operand, Tensor


class Record:
    """An operation that a tape heard: the operands as the user knows them (`keys`), their values, the results."""

    __slots__ = ("op", "keys", "values", "attrs", "outs")

    def __init__(self, op: Op, keys: tuple, values: tuple, attrs: dict[str, Any], outs: tuple) -> None:
        self.op, self.keys, self.values, self.attrs, self.outs = op, keys, values, attrs, outs


def zeros_like(t: Operand) -> Tensor:
    return OPS["broadcast_to"](OPS["cast"](0.0, dtype=t.dtype), shape=tuple(t.shape))


def backprop(
    records: Sequence[Record],
    targets: Sequence[Operand],
    seeds: Sequence[Tensor],
    sources: Sequence[Operand],
    tables: Collection[int] = (),
    dead: set[tuple[int, int]] | None = None,
) -> list[Any]:
    """The cotangent of each source, None where no path leads to it.

    Walks the records backwards and calls each op's vjp; cotangents of a value used twice are added.

    `tables` are ids of sources whose cotangent may be the rows that were read, as `IndexedSlices`. `dead` collects,
    by number, the records and their operands that got no cotangent though they have a floating dtype.
    """
    g: dict[int, Any] = {}
    rows: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for t, s in zip(targets, seeds, strict=True):
        g[id(t)] = s if id(t) not in g else OPS["add"](g[id(t)], s)
    wanted = {id(s) for s in sources}
    leading: set[int] | None = None  # found when it is first needed
    masked: set[int] = set()  # values whose cotangent came through selections only: it has zeros that must stay zero
    before = context.masked
    try:
        for at in range(len(records) - 1, -1, -1):
            r = records[at]
            gs = [g.get(id(y)) for y in r.outs]
            if all(x is None for x in gs):
                continue
            context.masked = r.op.name == "where" or all(id(y) in masked for y in r.outs)
            for y in r.outs:
                if id(y) not in wanted:
                    g.pop(id(y), None)
            if r.op.vjp is None:
                continue
            if tables and id(r.keys[0]) in tables and r.op.name == "gather" and r.attrs["axis"] == 0:
                rows.setdefault(id(r.keys[0]), []).append((gs[0], r.values[1]))  # type: ignore[arg-type]
                continue
            for j, (k, x) in enumerate(zip(r.keys, _pull(r, gs), strict=True)):
                if type(x) is FunctionType:
                    leading = _leading(records, wanted) if leading is None else leading
                    x = x() if id(k) in leading else None
                if x is None or k.dtype.kind not in "fc":
                    if dead is not None and k.dtype.kind in "fc":
                        dead.add((at, j))
                    continue
                first = id(k) not in g
                g[id(k)] = x if first else OPS["add"](g[id(k)], x)
                if not context.masked:
                    masked.discard(id(k))
                elif first:
                    masked.add(id(k))
    finally:
        context.masked = before
    for source in sources if rows else ():
        k = id(source)
        if k in rows:
            slices = joined(rows.pop(k), tuple(source.shape))
            g[k] = OPS["add"](g[k], slices) if k in g else slices
    return [g.get(id(s)) for s in sources]


def _leading(records: Sequence[Record], wanted: set[int]) -> set[int]:
    """The values that a path leads to from those wanted."""
    found = set(wanted)
    for r in records:
        if not found.isdisjoint(map(id, r.keys)):
            found.update(map(id, r.outs))
    return found


def _pull(r: Record, gs: list[Tensor | None]) -> Any:
    """The cotangents of a record's operands from those of its results."""
    pull = getattr(r.op, "pull", None)
    if pull is not None:  # it knows which operands the results that have none depend on
        return pull(tuple(gs), r.values)
    if len(r.outs) == 1:
        return r.op.vjp(gs[0], r.outs[0], *r.values, **r.attrs)  # type: ignore[misc]
    filled = tuple([zeros_like(y) if x is None else x for x, y in zip(gs, r.outs, strict=True)])
    return r.op.vjp(filled, r.outs, *r.values, **r.attrs)  # type: ignore[misc]
