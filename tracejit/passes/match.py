"""What a rewrite rule is: two sides of ordinary code and how exact it is; and how it is matched with new nodes."""

from __future__ import annotations

import enum
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.graph import Attrs, Builder, Const, Graph, Value, freeze
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import DType, TensorType, bool_, float32, limits
from tracejit.tensor import convert
from tracejit.tracing import constant, trace_graph


class Level(enum.IntEnum):
    """How far a rewrite may go.

    EXACT   the same bits for every input, infinities, NaN and signed zeros included
    FINITE  equal where operands and results are finite; the sign of a zero may differ, sums may be taken in another
            order, and a library function (pow, a sum) counts as the exact function that it approximates
    FAST    equal as real numbers: rounding, overflow and what becomes of infinities may differ
    """

    EXACT = 0
    FINITE = 1
    FAST = 2


EXACT, FINITE, FAST = Level
SMALL_CONSTANT = 4096  # elements up to which rules compute with constants
DEFAULT = FINITE


def level(numerics: str | Level) -> Level:
    return numerics if isinstance(numerics, Level) else Level[numerics.upper()]


# --- looking at values and making them ----------------------------------------------------------------------------
def producer(v: Value, name: str) -> bool:
    return v.node is not None and v.node.op.name == name


def const_of(v: Value) -> Const | None:
    n = v.node
    return n.attrs[0][1] if n is not None and n.op is constant else None


def splat_of(v: Value) -> Any:
    """The one element that a constant repeats, else None."""
    c = const_of(v)
    return None if c is None else c.splat


def literal(b: Builder, x: Any, dtype: DType, shape: tuple[Any, ...] = ()) -> Value:
    return b.emit(constant, (), (("value", Const(None, x, shape, dtype)),))[0]


def make(b: Builder, name: str, *inputs: Value, **attrs: Any) -> Value:
    return b.emit(OPS[name], inputs, freeze(attrs))[0]


def power_of_two(v: Value) -> bool:
    """Whether v is ±2ⁿ, and its reciprocal a normal number of its dtype."""
    s = splat_of(v)
    if s is None or v.dtype.kind != "f" or not math.isfinite(s) or s == 0:
        return False
    size, smallest = abs(float(s)), smallest_normal(v.dtype)
    return math.frexp(size)[0] == 0.5 and smallest <= size <= 1 / smallest


def smallest_normal(d: DType) -> float:
    return float(limits(d).smallest_normal)  # type: ignore[union-attr]


def epsilon(d: DType) -> float:
    return float(limits(d).eps)  # type: ignore[union-attr]


def constants(*names: str) -> Callable[..., bool]:
    """A side condition: the named variables are constants that fold."""

    def small(v: Value) -> bool:
        c = const_of(v)
        return c is not None and (c.array is None or c.array.size <= SMALL_CONSTANT)

    return lambda **env: all(small(env[n]) for n in names)


# --- rules --------------------------------------------------------------------------------------------------------
class Rewrite:
    """A rule written as a function `(builder, op, inputs, attrs) -> Value or None`, tried on every new `root` node.

    `root` is an op's name, or a family's as in `@elementwise`. `needs` tells the ops that must have made the first
    inputs, None for any.
    `late` rules would change what gradients flow, so they wait until there is nothing left to differentiate.
    """

    def __init__(
        self,
        name: str,
        root: str,
        level: Level,
        needs: tuple[str | None, ...],
        function: Callable[..., Any],
        late: bool = False,
    ) -> None:
        self.name, self.root, self.level, self.late = name, root, level, late
        self.needs, self.function = needs, function

    def variants(self) -> list[tuple[tuple[str | None, ...], Callable[..., Value | None]]]:
        return [(self.needs, lambda b, op, inputs, attrs: self.function(b, op, inputs, dict(attrs)))]


def rewrite(
    table: list[Any], name: str, root: str, level: Level, *needs: str | None, late: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the decorated function to `table`."""

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        table.append(Rewrite(name, root, level, needs, f, late))
        return f

    return register


class Pattern:
    """A rule whose two sides are functions of tensors: where `lhs` is computed, compute `rhs` instead.

    Parameters
    ----------
    root : the op that `lhs` ends with
    name : how it is reported
    lhs, rhs : ordinary code over public ops; variables named p, q, r are truth values, the others numbers.
        A literal in `lhs` matches a constant of any dtype and shape that repeats it.
    level : how exact it is; tests prove it
    where : side condition over the matched values, called with the variables' names
    kinds : dtypes that it holds for
    domain : what its tests sample for a level above EXACT
    ulp : how much more error than one rounding its right side may have where library functions are involved

    The result always has the dtype and shape of what it replaces.
    """

    def __init__(
        self,
        root: str,
        name: str,
        lhs: Callable[..., Any],
        rhs: Callable[..., Any],
        level: Level,
        where: Callable[..., bool] | None = None,
        kinds: str = "iuf",
        domain: tuple[float, float] = (-4.0, 4.0),
        ulp: int = 0,
    ) -> None:
        self.root, self.name, self.lhs, self.rhs, self.level = root, name, lhs, rhs, level
        self.where, self.kinds, self.domain, self.ulp, self.late = where, kinds, domain, ulp, False
        self.variables = tuple(inspect.signature(lhs).parameters)
        used = set(inspect.signature(rhs).parameters)
        assert used == set(self.variables), f"rule {name}: the sides have different variables"

    def trace(self, side: Callable[..., Any]) -> Graph:
        types = [TensorType(bool_ if v in "pqr" else float32, ()) for v in self.variables]
        return trace_graph(lambda *x: convert(side(*x)), types, self.name)

    def variants(self) -> list[tuple[tuple[str | None, ...], Callable[..., Value | None]]]:
        """A matcher for each order of the operands of commutative ops, with the ops that its first inputs need."""
        pattern = self.trace(self.lhs)
        template = functools.cache(lambda: self.trace(self.rhs))  # of most rules it is never needed
        root = pattern.results[0].node
        assert root is not None and root.op.name == self.root, f"rule {self.name} is filed under {self.root}"
        slots = {p: i for i, p in enumerate(pattern.params)}
        out = []
        for _, _, attrs, children in _orders(pattern.results[0], slots):
            needs = tuple([None if c[0] == "var" else "constant" if c[0] == "lit" else c[1].name for c in children])
            out.append((needs, self._matcher(children, attrs, template)))
        return out

    def _matcher(
        self, children: tuple[Any, ...], attrs: Attrs, template: Callable[[], Graph]
    ) -> Callable[..., Value | None]:  # fmt: skip
        count, where, names, kinds = len(self.variables), self.where, self.variables, self.kinds

        def apply(b: Builder, op: Op, inputs: tuple[Value, ...], given: Attrs) -> Value | None:
            if given != attrs:
                return None
            env: list[Value | None] = [None] * count
            for p, v in zip(children, inputs, strict=True):
                if not _match(p, v, env):
                    return None
            number = next((v for n, v in zip(names, env, strict=True) if v is not None and n not in "pqr"), None)
            if number is not None and number.dtype.kind not in kinds:
                return None
            if where is not None and not where(**dict(zip(names, env, strict=True))):
                return None
            return _emit(b, template(), env, number.dtype if number is not None else bool_)

        return apply


def _orders(v: Value, slots: dict[Value, int]) -> list[tuple[Any, ...]]:
    """The patterns for a value: ("var", slot), ("lit", element) or ("op", op, attrs, children)."""
    if v.node is None:
        return [("var", slots[v])]
    n = v.node
    if n.op is constant:
        return [("lit", n.attrs[0][1].splat.item())]
    combined: list[tuple[Any, ...]] = [()]
    for x in n.inputs:
        combined = [(*head, tail) for head in combined for tail in _orders(x, slots)]
    if "commutative" in n.op.special:
        combined += [c[::-1] for c in combined if c[::-1] not in combined]
    return [("op", n.op, n.attrs, c) for c in combined]


def _match(p: tuple[Any, ...], v: Value, env: list[Value | None]) -> bool:
    kind = p[0]
    if kind == "var":
        bound = env[p[1]]
        if bound is None:
            env[p[1]] = v
            return True
        return bound is v
    n = v.node
    if n is None:
        return False
    if kind == "lit":
        return n.op is constant and same_literal(n.attrs[0][1].splat, p[1], v.dtype)
    if n.op is not p[1] or n.attrs != p[2]:
        return False
    for q, x in zip(p[3], n.inputs, strict=True):
        if not _match(q, x, env):
            return False
    return True


def same_literal(splat: Any, x: Any, dtype: DType) -> bool:
    """Whether a splat constant is the number x, with the sign of zero where the dtype has one."""
    if splat is None or (dtype.kind == "b") != (type(x) is bool) or splat != x:
        return False
    return bool(x != 0 or dtype.kind not in "fc" or math.copysign(1.0, splat.real) == math.copysign(1.0, x))


def _emit(b: Builder, template: Graph, matched: Sequence[Value | None], dtype: DType) -> Value | None:
    """The right side of a rule for matched values; its literals take the operands' dtype."""
    env: dict[Value, Any] = dict(zip(template.params, matched, strict=True))
    for n in template.nodes:
        if n.op is constant:
            c = n.attrs[0][1]
            env[n.out] = literal(b, c.splat, bool_ if c.dtype is bool_ else dtype)
        else:
            env[n.out] = b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs)[0]
    found: Value | None = env[template.results[0]]
    return found


Found = tuple[str, Callable[..., "Value | None"]]


class RuleSet:
    """Rules of one level, found by the op of a new node and the ops that made its first three inputs."""

    def __init__(self, rules: Iterable[Rewrite | Pattern], upto: Level = DEFAULT, late: bool = True) -> None:
        self.upto = upto
        self.rules = [r for r in rules if r.level <= upto and (late or not r.late)]
        self.roots = {r.root for r in self.rules}
        self._ready: dict[str, list[tuple[tuple[str | None, ...], Found]]] = {}
        self._found: dict[tuple[Op | None, ...], tuple[Found, ...]] = {}

    def commutes(self, op: Op) -> bool:
        """Whether operands may be swapped. Which zero max(0, −0) gives depends on their order."""
        return "commutative" in op.special and (self.upto >= FINITE or "idempotent" not in op.special)

    def candidates(self, op: Op, inputs: tuple[Value, ...]) -> tuple[Found, ...]:
        key = (op, *[v.node.op if v.node is not None else None for v in inputs[:3]])
        found = self._found.get(key)
        if found is None:
            made = [o.name if o is not None else "" for o in key[1:]]
            found = tuple([f for needs, f in self._of(op.name) if _fits(needs, made)])
            found += tuple([f for needs, f in self._of("@" + op.family) if _fits(needs, made)])
            self._found[key] = found
        return found

    def _of(self, root: str) -> list[tuple[tuple[str | None, ...], Found]]:
        """The matchers filed under a root; patterns are traced when their root is first met."""
        if root not in self._ready:
            matchers = [(needs, (r.name, f)) for r in self.rules if r.root == root for needs, f in r.variants()]
            self._ready[root] = matchers
        return self._ready[root]

    def apply(self, b: Builder, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[str, Value] | None:
        """The name of the first rule that fires and the value that stands for the node; None if none does."""
        for name, f in self.candidates(op, inputs):
            v = f(b, op, inputs, attrs)
            if v is not None:
                t = op.infer(*[x.type for x in inputs], **dict(attrs))
                if v.dtype is not t.dtype:
                    continue
                if v.shape != t.shape:
                    v = make(b, "broadcast_to", v, shape=t.shape)
                return name, v
        return None


def _fits(needs: tuple[str | None, ...], made: list[str]) -> bool:
    return len(needs) <= len(made) and all(n is None or n == m for n, m in zip(needs, made, strict=False))


def is_finite(v: Value, depth: int = 4) -> bool:
    """Whether no element of v can be infinite or NaN, whatever the parameters hold."""
    n = v.node
    if v.dtype.kind in "biu":
        return True
    if n is None or depth == 0:
        return False
    c = const_of(v)
    if c is not None:
        return bool(np.isfinite(c.array if c.array is not None else c.splat).all())
    if n.op.name == "cast":
        d = n.inputs[0].dtype
        return d.kind == "b" or (d.kind in "iu" and float(d.max) <= v.dtype.max)
    if n.op.name in _KEEPS_FINITE:
        return all(is_finite(x, depth - 1) for x in n.inputs)
    return n.op.name in ("isnan", "iota")


_KEEPS_FINITE = {
    "neg", "abs", "sign", "maximum", "minimum", "where", "relu", "tanh", "sigmoid", "identity", "stop_gradient", "sin",
    "cos", "reshape", "transpose", "broadcast_to", "slice", "concat", "reduce_max", "reduce_min", "gather",
}  # fmt: skip
