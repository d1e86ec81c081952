"""What a kernel's source is made with: arguments and their names, sizes of loops, and what a module's kernels share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.errors import Location
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.lower.numba_access import Placement, Size, same
from tracejit.lower.numba_dialect import Dialect
from tracejit.lower.numba_expr import Names, Writer, wrapped
from tracejit.lower.numba_scalar import Helpers


@dataclass(frozen=True)
class Argument:
    """What a kernel is called with: an array under a shape, a number, or a size."""

    name: str
    value: Value | None
    placement: Placement | None = None
    size: Size | None = None


@dataclass(frozen=True)
class Written:
    """A kernel's body and its arguments."""

    body: str
    arguments: list[Argument]

    def text(self, name: str) -> str:
        """The whole function."""
        head = wrapped("", f"def {name}(", [a.name for a in self.arguments], "):")
        return "\n".join([*head, self.body])


@dataclass(frozen=True)
class Setting:
    """What kernels of one module share.

    label    what a buffer is called
    number   whether a value is passed as a number
    wishes   the user's names of values
    comment  the text of a user's line
    """

    dialect: Dialect
    helpers: Helpers
    label: Callable[[Value], str]
    number: Callable[[Value], bool]
    wishes: Mapping[Value, str]
    comment: Callable[[Location], str] | None = None


class Arguments:
    """A kernel's arguments by what they stand for, and the names of the sizes of its loops."""

    def __init__(self, setting: Setting, names: Names, sizes: Sequence[Size]) -> None:
        self.setting, self.names, self.sizes = setting, names, list(sizes)
        self.arrays: dict[Any, Argument] = {}
        self.outputs: dict[Any, Argument] = {}
        self.extra: dict[Size, Argument] = {}
        self.loops: list[str] = []  # names of the loop indices
        self.counts: list[str] = []  # names of the loop sizes

    def add(self, v: Value, p: Placement, output: bool = False) -> str:
        """The name of a buffer under the placement's shape."""
        key = (v, p.shape, p.flat)
        known = self.outputs.get(key) or self.arrays.get(key)
        if known is None:
            known = Argument(self.names.new(self.setting.label(v)), v, p)
            (self.outputs if output else self.arrays)[key] = known
        return known.name

    def list(self) -> list[Argument]:
        return [*self.arrays.values(), *self.outputs.values(), *self.extra.values()]

    def size(self, d: Size) -> str:
        """A size as text: a literal, the size of a loop, or an argument."""
        if not isinstance(d, Dim):
            return str(d)
        for name, s in zip(self.counts, self.sizes, strict=False):
            if same(s, d):
                return name
        return self._given(d, "size")

    def _given(self, d: Size, wish: str) -> str:
        if d not in self.extra:
            self.extra[d] = Argument(self.names.new(wish), None, None, d)
        return self.extra[d].name

    def open(self, out: Writer, wishes: Sequence[str]) -> None:
        """Name the sizes of the loops, from the shapes of arrays where one has them."""
        self.counts = [self.names.new(w) if w else "1" for w in wishes]
        missing = [a for a, w in enumerate(wishes) if w]
        placed = [a for a in [*self.arrays.values(), *self.outputs.values()] if a.placement and a.placement.shape]
        for x in placed:
            assert x.placement is not None
            if [p for p in x.placement.axes(self.sizes) if p[0] in missing] == [(a, k) for k, a in enumerate(missing)]:
                if len(x.placement.shape) == len(missing):
                    left = ", ".join([self.counts[a] for a in missing])
                    out.line(f"{left} = {x.name}.shape" + ("[0]" if len(missing) == 1 else ""))
                    return
        for a in missing:
            found = next(((x, k) for x in placed for b, k in x.placement.axes(self.sizes) if a == b), None)  # type: ignore[union-attr]
            if found:
                out.line(f"{self.counts[a]} = {found[0].name}.shape[{found[1]}]")
            else:
                self.names.taken.discard(self.counts[a])
                self.counts[a] = self._given(self.sizes[a], wishes[a])
