"""Single numbers in generated source: loops over nothing as plain assignments, where they stand."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass

from tracejit.errors import Location
from tracejit.ir.graph import Value
from tracejit.ir.types import DType
from tracejit.lower.emit_numba import KernelPrinter
from tracejit.lower.kernel import SCALAR, Instance, Stmt
from tracejit.lower.numba_access import Placement, Size
from tracejit.lower.numba_args import Argument, Arguments, Setting
from tracejit.lower.numba_expr import Expr, Names, Scope, Writer
from tracejit.lower.numba_host import numpy_type
from tracejit.lower.numba_lines import show_line
from tracejit.lower.numba_main import Lines, is_half
from tracejit.lower.numba_scalar import NumbaScalar
from tracejit.lower.units import LoopUnit, Unit


class Outside(NumbaScalar):
    """Scalars in code that Numba does not compile: what compiled functions return gets its type back."""

    def call(self, name: str, args: tuple[Expr, ...], dtype: DType) -> Expr:
        e = super().call(name, args, dtype)
        if name in self.helpers.known.values():
            e.template = f"{numpy_type(dtype)}({e.template})"
        return e


class _Around(Arguments):
    """What such code reads: arrays and sizes as they are called around it."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines

    def add(self, v: Value, p: Placement, output: bool = False) -> str:
        return self.lines.given(Argument("", v, p))

    def size(self, d: Size) -> str:
        return self.lines.size(d)


class _Naming(Scope):
    """A scope in which some values have names before they are computed."""

    def __init__(self, out: Writer, names: Names, given: dict[Expr, str]) -> None:
        super().__init__(out, names, None, show_line)
        self.given = given

    def name(self, e: Expr, text: str | None = None) -> str:
        while e.alias:
            e = e.args[0]
        if e not in self.given or self.find(e) is not None:
            return super().name(e, text)
        text = self.own(e) if text is None else text
        self.at(e.line)
        self.known[e] = self.given[e]
        self.out.line(f"{self.known[e]} = {text}")
        return self.known[e]


class Single(KernelPrinter):
    """Writes the assignments of a unit whose results are single numbers."""

    def __init__(self, lines: Lines, setting: Setting, instance: Instance, m: NumbaScalar) -> None:
        self.lines = lines
        self.s, self.sizes, self.at = setting, list(instance.domain), list(range(len(instance.domain)))
        self.instance, self.k = instance, instance.kernel
        self.names, self.out, self.m = lines.local, lines.out, m
        setting.helpers.local = self.names
        self.args = _Around(lines)
        self.env, self.placements, self.buffers, self.loops = {}, {}, {}, []
        self.live, self.kept = self._live(), set()
        self.place_operands()

    def place_operands(self) -> None:
        for s in self.k.stmts:
            if s.kind == "load" and s.id in self.live:
                self._place(s.access, False)
            elif s.kind == "gather" and s.id in self.live:
                self._place_gather(s)

    def value(self, s: Stmt, get: Callable[[int], Expr]) -> Expr:
        e = _tidied(super().value(s, get))
        if s.op is not None and s.op.name == "cast" and e.args:
            e.line = e.args[0].line or e.line  # that of the loop around, where a counter is brought back to its type
        return e

    def load(self, v: Value, p: Placement, part: int | None = None, dtype: DType | None = None) -> Expr:
        if v in self.lines.literals:
            return self.m.const(self.lines.literals[v], v.dtype)
        return super().load(v, p, part, dtype)

    def pairs(self, fresh: set[Value]) -> list[tuple[Value, str, Expr]]:
        """The results and their expressions. Those of `fresh` names, which nothing has yet, may be read by others."""
        self.outer_values()
        assert self.instance is not None
        stores = [(self.instance.operands[a.operand], _plain(self.env[i])) for i, a in self.k.stores]
        given = {e: self.lines.label(v) for v, e in stores if v in fresh and e.args}
        scope = _Naming(self.out, self.names, given)
        scope.count([e for _, e in stores])
        shared = [e for _, e in stores if e in given and scope.uses[e] > 1]
        for e in shared:
            scope.name(e)
        out = []
        for v, e in stores:
            out.append((v, scope.text(e), e))
        return out


def _tidied(e: Expr) -> Expr:
    """Integers times one, over one, plus zero, and plus what is taken away again are what they were."""
    if e.dtype.kind not in "iu" or len(e.args) != 2 or e.args[0].dtype is not e.dtype:
        return e
    a, b = e.args
    sign = _SIGN.fullmatch(e.template)
    kind = sign[2] if sign else "//" if "floor_divide" in e.template else ""
    if b.value == {"*": 1, "//": 1, "+": 0, "-": 0}.get(kind, ""):
        return a
    if kind in ("*", "+") and a.value == (1 if kind == "*" else 0):
        return b
    if kind == "-" and b.value is not None and len(a.args) == 2 and a.args[1].value == b.value:
        inner = _SIGN.fullmatch(a.template)
        return a.args[0] if inner and inner[2] == "+" else e
    return e


_SIGN = re.compile(r"(np\.\w+\()?\{\} ([-+*]) \{\}\)?")


def _plain(e: Expr) -> Expr:
    while e.alias:
        e = e.args[0]
    return e


def single(u: Unit) -> bool:
    """Whether a unit computes nothing but single numbers, from single numbers and single elements."""
    if not isinstance(u, LoopUnit):
        return False
    k, ops = u.instance.kernel, u.instance.operands
    if k.axes or k.lates or any(ops[a.operand].shape or ops[a.operand].dtype.kind == "c" for _, a in k.stores):
        return False
    return not any(s.level != SCALAR or s.kind == "reduce" or is_half(s.dtype) for s in k.stmts)


@dataclass(frozen=True)
class Assignment:
    """A name, its new value, and the user's line that it comes from."""

    name: str
    text: str
    line: Location | None = None


def is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def in_order(left: list[Assignment]) -> list[Assignment] | None:
    """Assignments in such an order that none reads what an earlier one has set; None if there is no such order."""
    reads = {x: set(re.findall(r"[^\W\d]\w*", x.text)) for x in left}
    left, out = list(left), []
    while left:
        free = next((x for x in left if not any(x.name in reads[y] for y in left if y is not x)), None)
        if free is None:
            return None
        out.append(free)
        left.remove(free)
    return out
