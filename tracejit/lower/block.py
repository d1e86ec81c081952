"""A graph's units in the order in which they run, and which states are written in place: a program, or a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.ir.graph import Graph, Node, Value
from tracejit.lower import compiler
from tracejit.lower.checkunit import CheckUnit
from tracejit.lower.fourierunit import FourierUnit
from tracejit.lower.hostunit import HostUnit
from tracejit.lower.matrixunits import MATRICES
from tracejit.lower.routineunits import ROUTINES, RoutineUnit
from tracejit.lower.units import CopyUnit, LoopUnit, ProductUnit, Unit
from tracejit.passes.fuse import Fuser
from tracejit.passes.groups import Group, joins
from tracejit.passes.layout import Layouts
from tracejit.passes.patches import patches_of
from tracejit.passes.placing import place_parts

NATIVE: dict[str, type[RoutineUnit]] = {
    **ROUTINES, **dict.fromkeys(("fft", "rfft", "irfft"), FourierUnit), **MATRICES
}  # fmt: skip


@dataclass
class State:
    """A place that is read and set: the parameter that reads it, and the result that it is set to, if any.

    `variable` is None for what a loop carries.
    """

    variable: Any
    read: Value
    write: Value | None


class Block:
    """A prepared graph lowered for all sizes of its symbols.

    aliased   new value of a state → the parameter whose buffer it is written to
    copied    (parameter, new value) of the other states
    turned    parameters of states that become what other states were, and of these; the latter are not written in place
    """

    def __init__(
        self, graph: Graph, states: Sequence[State], layouts: Layouts, turned: Sequence[tuple[Value, Value]] = ()
    ) -> None:
        self.graph, self.states, self.layouts, self.turned = graph, list(states), layouts, list(turned)
        self.units = self._units()
        self.aliased: dict[Value, Value] = {}
        self.copied: list[tuple[Value, Value]] = []
        self._schedule()

    def sources(self) -> list[compiler.Source]:
        return [s for u in self.units for s in u.sources()]

    def may_raise(self) -> bool:
        return any(u.may_raise() for u in self.units)

    # --- units --------------------------------------------------------------------------------------------------------
    def _units(self) -> list[Unit]:
        fuser = Fuser(self.graph)
        units: list[Unit] = []
        items = fuser.run()
        place_parts(fuser, items, self.graph, self.layouts)
        for item in items:
            i = len(units)
            if isinstance(item, Node):
                if ProductUnit.fits(item, self.layouts):
                    units.append(self._product(i, item, None, list(item.outs), fuser))
                elif joins(item):
                    units.append(CopyUnit(i, item, self.layouts))
                elif item.op.name in NATIVE and NATIVE[item.op.name].fits(item):
                    units.append(NATIVE[item.op.name](i, item, self.layouts))
                elif item.op.name == "check":
                    units.append(CheckUnit(i, item, self.layouts))
                elif item.op.family == "control":
                    units.append(CONTROL[0](i, item, self.layouts))
                else:
                    units.append(HostUnit(i, item, self.layouts))
                continue
            outputs = self._outputs(fuser, item)
            if item.anchor is not None:
                units.append(self._product(i, item.anchor, item, outputs, fuser))
            else:
                units.append(LoopUnit(i, item, outputs, self.layouts))
        self._leave_out(units, fuser)
        return units

    def _product(self, i: int, n: Node, group: Group | None, outputs: list[Value], fuser: Fuser) -> ProductUnit:
        return ProductUnit(i, n, group, outputs, self.layouts, patches_of(n, fuser, self.layouts))

    @staticmethod
    def _leave_out(units: Sequence[Unit], fuser: Fuser) -> None:
        """Copies that only products would read which take their patches from the image."""
        seen = [u.patches for u in units if isinstance(u, ProductUnit) and u.patches is not None]
        images = {p.image.base for p in seen}
        gone = {p.joined for p in seen}
        for u in reversed(units) if seen else ():
            if not isinstance(u, CopyUnit):
                continue
            v = u.node.out
            if u.node not in gone and v not in images and not fuser.is_result(v):
                users = [x for x, _ in fuser.uses(v)]
                if users and all(x in gone for x in users):
                    gone.add(u.node)
            u.needed = u.node not in gone

    def _outputs(self, fuser: Fuser, g: Group) -> list[Value]:
        """Values of a group that others read."""
        out = []
        for n in g.nodes:
            if not g.bits >> fuser.index[n] & 1:
                continue
            v = n.out
            if fuser.is_result(v) or any(not self._inside(fuser, g, v, u, x) for u, x in fuser.uses(v)):
                out.append(v)
        return out

    @staticmethod
    def _inside(fuser: Fuser, g: Group, v: Value, u: Node, x: Value) -> bool:
        """Whether a use of `v` is served within the group by the value itself."""
        return fuser.member.get(u) == [g.id] and u is not g.anchor

    def _schedule(self) -> None:
        """Order the units; let Variables be written in place where their old value is no longer read."""
        needs: dict[int, set[int]] = {u.index: set() for u in self.units}
        maker = {v: u for u in self.units for v in u.writes}
        for u in self.units:
            needs[u.index] |= {maker[v].index for v in u.reads if v in maker and maker[v] is not u}
        last: int | None = None
        for u in self.units:  # effects keep their order
            if u.may_raise():
                needs[u.index] |= {last} if last is not None else set()
                last = u.index
        for s in self.states:
            if s.write is None:
                continue
            u = maker[s.write]
            # what may raise comes first, so that a failed call leaves every Variable as it was
            others = [r for r in self.units if r is not u and (r.may_raise() or s.read in r.reads)]
            fits = isinstance(u, (LoopUnit, ProductUnit, RoutineUnit)) and not u.may_raise() and (
                u.in_place(s.read, s.write) if s.read in u.reads else True
            )
            fits = fits and all(s.read is not old for _, old in self.turned)
            if fits and not any(self._before(needs, u.index, r.index) for r in others):
                needs[u.index] |= {r.index for r in others}
                self.aliased[s.write] = s.read
            else:
                self.copied.append((s.read, s.write))
        order: list[int] = []
        done: set[int] = set()
        todo = [u.index for u in self.units]
        while todo:
            i = next(i for i in todo if needs[i] <= done)
            todo.remove(i)
            done.add(i)
            order.append(i)
        by_index = {u.index: u for u in self.units}
        self.units = [by_index[i] for i in order]

    @staticmethod
    def _before(needs: dict[int, set[int]], first: int, then: int) -> bool:
        """Whether unit `then` needs unit `first`, directly or through others."""
        stack, seen = [then], set()
        while stack:
            i = stack.pop()
            if i == first:
                return True
            if i not in seen:
                seen.add(i)
                stack += needs[i]
        return False


# control.py, which is made of blocks, enters the maker of its units here
CONTROL: list[Callable[[int, Node, Layouts], Unit]] = []
