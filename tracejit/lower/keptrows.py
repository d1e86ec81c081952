"""Which values of a row a kernel keeps in a buffer for a later phase."""

from __future__ import annotations

from tracejit.lower.kernel import FULL, HEAVY, Kernel, Stmt
from tracejit.ops.forms import FORMS


def kept_values(k: Kernel) -> list[Stmt]:
    """Heavy full statements that their own phase computes and a later one reads again."""
    roots = [(s.args[0], s.phase - 1) for s in k.stmts if s.kind == "reduce"]
    roots += [(i, k.stmts[i].phase) for i in [*[i for i, _ in k.stores], *[x.stmt for x in k.lates]]]
    computed: set[int] = set()
    again: set[int] = set()
    seen: set[tuple[int, int]] = set()

    for root, phase in sorted(roots, key=lambda r: r[1]):
        stack = [root]
        while stack:
            i = stack.pop()
            s = k.stmts[i]
            if s.level < FULL or (i, phase) in seen:
                continue
            seen.add((i, phase))
            if s.kind == "op" and s.op is not None and (s.op.name in HEAVY or s.op.name in FORMS):
                if s.phase == phase:
                    computed.add(i)
                elif i in computed:
                    again.add(i)
                    continue
            stack += s.args
    return [s for s in k.stmts if s.id in again]
