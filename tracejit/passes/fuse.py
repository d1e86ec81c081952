"""Which nodes share a loop: the graph's nodes as groups, each of which becomes one kernel.

Walks the nodes from the results backwards. A node joins the group of its consumers when they all lie in one group (or
in groups that can be merged), so that it never reaches memory; cheap nodes are repeated in every group that reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import is_unit
from tracejit.passes.groups import (
    CHEAP,
    Group,
    Tags,
    along_rows,
    at_will,
    back_through,
    fusible,
    is_index_source,
    is_scalar_constant,
    is_view,
    kind_of,
    strip_units,
)
from tracejit.passes.products import has_tiles


class Fuser:
    """The state of one run over a graph. Bit i of a set of nodes stands for the i-th node."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        self.index = {n: i for i, n in enumerate(self.nodes)}
        self.results = set(graph.results)
        self.users: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in dict.fromkeys(n.inputs):
                self.users.setdefault(v, []).append(n)
        self.uses_of: dict[Value, list[tuple[Node, Value]]] = {}
        self.groups: dict[int, Group] = {}
        self.member: dict[Node, list[int]] = {}  # groups that compute the node
        self.single: list[Node] = []
        self.counter = 0
        self.after: dict[Node, int] = {}
        self.next: dict[Node, int] = {}
        self.effects = [n for n in self.nodes if not n.pure]
        following = dict(itertools.pairwise(self.effects))
        for n in reversed(self.nodes):
            near = far = 0
            if (e := following.get(n)) is not None:
                near, far = 1 << self.index[e], self.after[e]
            if not is_view(n):
                for o in n.outs:
                    for u, _ in self.uses(o):
                        near |= 1 << self.index[u]
                        far |= self.after[u]
            self.next[n], self.after[n] = near, near | far

    # --- uses, seen through views -------------------------------------------------------------------------------------
    def uses(self, v: Value) -> list[tuple[Node, Value]]:
        """Nodes other than views that read `v`, each with the operand by which it does."""
        found = self.uses_of.get(v)
        if found is None:
            found = []
            for u in self.users.get(v, ()):
                found += self.uses(u.out) if is_view(u) else [(u, v)]
            self.uses_of[v] = found
        return found

    def is_result(self, v: Value) -> bool:
        """Whether `v`, or a view of it, leaves the graph."""
        return v in self.results or any(self.is_result(u.out) for u in self.users.get(v, ()) if is_view(u))

    def tags_from(self, g: Group, v: Value) -> Tags | None:
        """The tags of `v` that its uses in the group demand; None if they disagree or a view is in the way."""
        found: Tags | None = None
        for u, x in self.uses(v):
            if g.id not in self.member.get(u, ()):
                continue
            if u is g.anchor:
                return None
            for i, y in enumerate(u.inputs):
                if y is x:
                    r = None if at_will(u, i) else back_through(x, g.operand_tags(u, i))
                    if r is None or r[0] is not v or (found is not None and r[1] != found):
                        return None
                    found = r[1]
        if found is not None:
            real = [t for t in found if t is not None]
            if len(set(real)) != len(real):
                return None
        return found

    # --- dependences --------------------------------------------------------------------------------------------------
    def cyclic(self, bits: int, near: int) -> bool:
        """Whether a path leaves this set of nodes and comes back, so that the set cannot run as one."""
        todo = near & ~bits
        if not todo:
            return False
        for n in self._members(todo):
            todo |= self.after[n]
        pending = [g for g in self.groups.values() if not g.bits & bits]
        while not todo & bits:
            hit = [g for g in pending if g.bits & todo]
            if not hit:
                return False
            pending = [g for g in pending if not g.bits & todo]
            for g in hit:
                todo |= g.far
        return True

    def _members(self, bits: int) -> Iterable[Node]:
        while bits:
            low = bits & -bits
            yield self.nodes[low.bit_length() - 1]
            bits ^= low

    # --- joining ------------------------------------------------------------------------------------------------------
    def _admit(self, g: Group, n: Node, own: bool = True) -> None:
        g.nodes.append(n)
        self.member.setdefault(n, []).append(g.id)
        if own:
            self._own(g, n)

    def _own(self, g: Group, n: Node) -> None:
        g.bits |= 1 << self.index[n]
        g.near |= self.next[n]
        g.far |= self.after[n]

    def _commit(self, g: Group, trial: Group, n: Node, own: bool = True) -> bool:
        if any(kind_of(trial, r) is None for r in trial.inner) or self._late_inside(trial, n):
            return False
        # what the others write changes only with the loops
        changed = (trial.domain, trial.rows) != (g.domain, g.rows)
        if (own or changed) and not self._each_written_once(trial, n if own else None, changed):
            return False
        if own and self.cyclic(trial.bits | (1 << self.index[n]), trial.near | self.next[n]):
            return False
        g.domain, g.rows, g.tags, g.inner = trial.domain, trial.rows, trial.tags, trial.inner
        self._admit(g, n, own)
        return True

    def _late_inside(self, g: Group, extra: Node | None = None) -> bool:
        """Whether a value known only after the loop is read inside it."""
        if not g.inner:
            return False
        inside = {*g.nodes, extra}
        return any(kind_of(g, r) == "late" and any(u in inside for u, _ in self.uses(r.out)) for r in g.inner)

    def _each_written_once(self, g: Group, extra: Node | None, every: bool = True) -> bool:
        """Whether every value that leaves the group is written by one task: one per element, or one per row."""
        whole = set(range(len(g.domain)))
        allowed = [whole, whole - set(g.rows)] if g.rows is not None and g.anchor is None else [whole]
        inside: set[Node | None] | None = None
        for n in [*(g.nodes if every else ()), *([extra] if extra else ())]:
            if n is not extra and not g.bits >> self.index[n] & 1:
                continue
            if n in g.inner and kind_of(g, n) == "late":
                continue
            if {t for t in g.tags[n.out] if t is not None} in allowed:
                continue
            inside = inside or {*g.nodes, extra}
            if self.is_result(n.out) or any(u not in inside or u is g.anchor for u, _ in self.uses(n.out)):
                return False
        return True

    def join(self, g: Group, n: Node, own: bool = True) -> bool:
        """Make a producer part of a group that reads it."""
        tags = self.tags_from(g, n.out)
        if tags is None:
            return False
        trial = g.copy()
        trial.tags[n.out] = tags
        if n.op.family == "reduce":
            if g.anchor is not None or not along_rows(n):
                return False
            inner = self._inner_tags(trial, n, tags)
            if inner is None:
                return False
            trial.inner[n] = inner
            if kind_of(trial, n) != "row":
                return False
        return self._commit(g, trial, n, own)

    def _inner_tags(self, g: Group, n: Node, out: Tags) -> Tags | None:
        """Tags of a reduction's operand, given those of its result: the reduced axes are the group's rows."""
        axis, shape = n.attr("axis"), n.inputs[0].shape
        over = [i for i in axis if not is_unit(shape[i])]
        real = {t for t in out if t is not None}
        if g.rows is None:
            rest = [i for i in range(len(g.domain)) if i not in real]
            if not rest:
                rest = list(range(len(g.domain), len(g.domain) + len(over)))
                g.domain += [shape[i] for i in over]
            g.rows = tuple(rest)
        if len(over) != len(g.rows) or any(g.domain[r] != shape[i] for r, i in zip(g.rows, over, strict=True)):
            return None
        if real & set(g.rows) or (not real and not g.small()):
            return None
        it, rows = iter(out), iter(g.rows)
        return tuple((next(rows) if i in over else None) if i in axis else next(it) for i in range(len(shape)))

    def join_beside(self, g: Group, n: Node) -> bool:
        """Make a node part of a group with the same loop that reads some of the same operands."""
        if g.anchor is not None:
            return False
        shape = n.inputs[0].shape if n.op.family == "reduce" else n.out.shape
        if strip_units(shape) != g.domain:
            return False
        if g.domain and not self._shares(g, n):
            return False
        if any(g.id in self.member.get(u, ()) for u, _ in self.uses(n.out)):
            return False
        trial = g.copy()
        it = iter(range(len(g.domain)))
        tags = tuple(None if is_unit(d) else next(it) for d in shape)
        if n.op.family == "reduce":
            trial.add_reduction(n, tags)
        else:
            trial.tags[n.out] = tags
        return self._commit(g, trial, n)

    def _shares(self, g: Group, n: Node) -> bool:
        mine = {self.base(v) for v in n.inputs}
        return any(self.base(v) in mine for m in g.nodes for v in m.inputs if v.shape)

    def base(self, v: Value) -> Value:
        while v.node is not None and is_view(v.node):
            v = v.node.inputs[0]
        return v

    def start(self, n: Node) -> Group:
        self.counter += 1
        g = self.groups[self.counter] = Group(self.counter)
        shape = n.inputs[0].shape if n.op.family == "reduce" else n.out.shape
        g.domain = strip_units(shape)
        it = iter(range(len(g.domain)))
        tags = tuple(None if is_unit(d) else next(it) for d in shape)
        if n.op.family == "reduce":
            g.add_reduction(n, tags)
            if kind_of(g, n) is None:
                g.rows = tuple(t for i, t in enumerate(tags) if i in n.attr("axis") and t is not None)
        else:
            g.tags[n.out] = tags
        self._admit(g, n)
        return g

    def merge(self, a: Group, b: Group, v: Value) -> bool:
        """Make two groups that read `v` one."""
        if a.anchor or b.anchor:
            return False
        if len(b.domain) > len(a.domain):
            a, b = b, a
        ta, tb = self.tags_from(a, v), self.tags_from(b, v)
        if ta is None or tb is None:
            return False
        if not any(t is not None for t in ta) and a.domain != b.domain:
            return False
        to: dict[int, int] = {}
        for x, y in zip(tb, ta, strict=True):
            if (x is None) != (y is None):
                return False
            if x is not None and y is not None:
                to[x] = y
        free = [i for i in range(len(a.domain)) if i not in to.values()]
        for i, d in enumerate(b.domain):
            if i not in to:
                match = next((f for f in free if a.domain[f] == d), None)
                if match is None:
                    return False
                free.remove(match)
                to[i] = match
        trial = a.copy()
        if b.rows is not None:
            rows = tuple(sorted(to[r] for r in b.rows))
            if trial.rows is not None and tuple(sorted(trial.rows)) != rows:
                return False
            trial.rows = trial.rows or rows

        def put(tags: Tags) -> Tags:
            return tuple(None if t is None else to[t] for t in tags)

        for w, t in b.tags.items():
            if w in trial.tags and trial.tags[w] != put(t):
                return False
            trial.tags[w] = put(t)
        trial.inner.update({r: put(t) for r, t in b.inner.items()})
        trial.nodes = [*a.nodes, *[n for n in b.nodes if n not in a.nodes]]
        trial.bits, trial.near, trial.far = a.bits | b.bits, a.near | b.near, a.far | b.far
        if any(kind_of(trial, r) is None for r in trial.inner) or self._late_inside(trial):
            return False
        if not self._read_in_step(trial) or not self._each_written_once(trial, None):
            return False
        if self.cyclic(trial.bits, trial.near):
            return False
        a.domain, a.rows, a.tags, a.inner = trial.domain, trial.rows, trial.tags, trial.inner
        a.nodes, a.bits, a.near, a.far = trial.nodes, trial.bits, trial.near, trial.far
        for n in b.nodes:
            ids = [i for i in self.member[n] if i != b.id]
            self.member[n] = ids if a.id in ids else [*ids, a.id]
        del self.groups[b.id]
        return True

    def merge_beside(self, a: Group, b: Group) -> bool:
        """Make two groups one whose loops are the same, and which read the same: that is then read once."""
        if any(g.anchor or g.inner or g.rows is not None for g in (a, b)) or a.domain != b.domain:
            return False
        if not set(a.nodes).isdisjoint(b.nodes) or self.cyclic(a.bits | b.bits, a.near | b.near):
            return False
        trial = a.copy()
        trial.tags.update(b.tags)
        trial.nodes = [*a.nodes, *b.nodes]
        trial.bits = a.bits | b.bits
        if not self._read_in_step(trial) or not self._each_written_once(trial, None):
            return False
        a.tags, a.nodes, a.bits = trial.tags, trial.nodes, trial.bits
        a.near, a.far = a.near | b.near, a.far | b.far
        for n in b.nodes:
            self.member[n] = [a.id if i == b.id else i for i in self.member[n]]
        del self.groups[b.id]
        return True

    def _merge_readers(self) -> None:
        """Merge the groups that read the same arrays and that no node has brought together."""
        readers: dict[Value, list[int]] = {}
        for g in self.groups.values():
            if all(n.op.name == "copy" for n in g.nodes):
                continue
            inside = {n.out for n in g.nodes}
            for v in dict.fromkeys(self.base(v) for n in g.nodes for v in n.inputs if strip_units(v.shape) == g.domain):
                if v not in inside and g.domain:
                    readers.setdefault(v, []).append(g.id)
        for ids in readers.values():
            for i, j in itertools.combinations(ids, 2):
                if i in self.groups and j in self.groups:
                    self.merge_beside(self.groups[i], self.groups[j])

    def _read_in_step(self, g: Group) -> bool:
        """Whether members read each other only at the element that the loop is at."""
        inside = set(g.nodes)
        for n in g.nodes:
            for u, x in self.uses(n.out):
                if u not in inside:
                    continue
                for i, y in enumerate(u.inputs):
                    if y is not x:
                        continue
                    if at_will(u, i) or back_through(x, g.operand_tags(u, i)) != (n.out, g.tags[n.out]):
                        return False
        return True

    def anchor(self, n: Node) -> bool:
        """Let a matmul's tiles run through the loop that is the only reader of its result."""
        v = n.out
        if v.dtype.kind != "f":  # the tiles of a product are floating
            return False
        ids = {i for u, _ in self.uses(v) for i in self.member.get(u, ())}
        if len(ids) != 1 or self.is_result(v) or any(u not in self.member for u, _ in self.uses(v)):
            return False
        g = self.groups[ids.pop()]
        tags = self.tags_from(g, v)
        if g.anchor or g.inner or tags is None or not self._in_rows(g, tags):
            return False
        trial = g.copy()
        trial.anchor = n
        if not self._each_written_once(trial, None) or self.cyclic(
            g.bits | (1 << self.index[n]), g.near | self.next[n]
        ):
            return False
        g.anchor, g.tags[v] = n, tags
        self._own(g, n)
        self.member[n] = [g.id]
        return True

    def _in_rows(self, g: Group, tags: Tags) -> bool:
        """Whether a loop goes over all elements of matrices, whose rows are its rows too."""
        real = [t for t in tags if t is not None]
        return len(real) == len(g.domain) and tags[-2] is not None and tags[-1] == len(g.domain) - 1

    # --- the walk -----------------------------------------------------------------------------------------------------
    def run(self) -> list[Group | Node]:
        for n in reversed(self.nodes):
            if is_view(n) or (n.op.family == "source" and not is_index_source(n)):
                continue
            if fusible(n):
                self.place(n)
            elif not n.outs or not has_tiles(n.out) or not self.anchor(n):
                self.single.append(n)
        self._merge_readers()
        return self.order()

    def place(self, n: Node) -> None:
        users = self.uses(n.out)
        ids = list(dict.fromkeys(i for u, _ in users for i in self.member.get(u, ())))
        stays = self.is_result(n.out) or any(u not in self.member or self._anchored(u) for u, _ in users)
        if is_index_source(n) and not stays and all(self.join(self.groups[i], n, own=False) for i in ids):
            return
        from_matmul = any(self._is_matmul(v) for i, v in enumerate(n.inputs) if not at_will(n, i))
        if not stays:
            if len(ids) > 1 and not from_matmul:
                self._merge_all(ids, n.out)
                ids = list(dict.fromkeys(i for u, _ in users for i in self.member.get(u, ())))
            apart = from_matmul and not self._reads_more(n)
            if len(ids) == 1 and not (apart and self.groups[ids[0]].inner) and self.join(self.groups[ids[0]], n):
                return
            if len(ids) > 1 and self._cheap(n) and self._everywhere(ids, n):
                return
        for g in [self.groups[i] for i in ids]:
            if not (from_matmul and g.inner) and self.join(g, n):
                return
        if not from_matmul:
            for g in list(self.groups.values()):
                if g.id not in ids and self.join_beside(g, n):
                    return
        self.start(n)

    def _everywhere(self, ids: list[int], n: Node) -> bool:
        """Repeat a cheap node in each group that reads it."""
        kept = {i: self.groups[i].copy() for i in ids}
        done: list[int] = []
        for i in ids:
            if not self.join(self.groups[i], n, own=False):
                for j in done:
                    self.groups[j] = kept[j]
                self.member.pop(n, None)
                return False
            done.append(i)
        return True

    def _merge_all(self, ids: list[int], v: Value) -> None:
        first = self.groups[ids[0]]
        for i in ids[1:]:
            b = self.groups[i]
            if self.merge(first, b, v) and first.id not in self.groups:
                first = b

    def _anchored(self, n: Node) -> bool:
        return any(self.groups[i].anchor is n for i in self.member.get(n, ()))

    def _is_matmul(self, v: Value) -> bool:
        """Whether `v` is a product of which only one node makes something: that may follow its tiles."""
        b = self.base(v)
        return has_tiles(b) and len({u for u, _ in self.uses(b)}) == 1

    def _reads_more(self, n: Node) -> bool:
        """Whether a node that makes something of a product reads another array of that size: loops do that in order."""
        return sum(v.shape == n.out.shape for v in n.inputs) > 1

    def _cheap(self, n: Node) -> bool:
        data = [v for v in n.inputs if not is_scalar_constant(self.base(v))]
        return n.op.name in CHEAP and len(data) <= 1

    def order(self) -> list[Group | Node]:
        """Groups and single nodes so that each comes after what it reads, and effects, or what is free, as written."""
        units: dict[Node, Group | Node] = {n: n for n in self.single}
        for g in self.groups.values():
            g.nodes.sort(key=self.index.__getitem__)
            for n in self._members(g.bits):
                units[n] = g
        needs: dict[Group | Node, set[Group | Node]] = {}
        for u in dict.fromkeys(units.values()):
            members = [u] if isinstance(u, Node) else [*u.nodes, *([u.anchor] if u.anchor else [])]
            needs[u] = set()
            for m in members:
                for v in m.inputs:
                    b = self.base(v)
                    if b.node is not None and b.node in units and units[b.node] is not u:
                        needs[u].add(units[b.node])
        for before, after in itertools.pairwise(self.effects):
            needs[after].add(before)
        position = {u: min(i for n, w in units.items() if w is u for i in [self.index[n]]) for u in needs}
        out: list[Group | Node] = []
        done: set[Group | Node] = set()
        todo = sorted(needs, key=position.__getitem__)
        while todo:
            ready = next((u for u in todo if needs[u] <= done), None)
            if ready is None:
                raise RuntimeError("fusion made a cycle")
            todo.remove(ready)
            done.add(ready)
            out.append(ready)
        return out


def fuse(graph: Graph) -> list[Group | Node]:
    """Groups and single nodes in an order in which they can run."""
    return Fuser(graph).run()


__all__ = [
    "Fuser", "Group", "fuse", "fusible", "is_index_source", "is_scalar_constant", "is_unit", "is_view", "kind_of",
]  # fmt: skip
