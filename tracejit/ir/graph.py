"""Value, Node and Graph, immutable, and the Builder that numbers values so that equal ones are one."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tracejit.errors import Location, called_line, user_frame
from tracejit.ir.dim import Dim
from tracejit.ir.op import Op
from tracejit.ir.sizes import size_at
from tracejit.ir.types import DType, TensorType, as_dtype

Attrs = tuple[tuple[str, Any], ...]


class _Immutable:
    """What never changes: equal operations are one node, and programs, caches and other graphs share it."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}.{name} cannot be set: what a graph is made of is immutable, since programs and "
            "other graphs share it; make a new graph with tracejit.ir.graph.Builder"
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _NewValue:
    """A Value while it is made: attributes are set at full speed, then the class changes."""

    __slots__ = ("node", "type", "scope", "index", "origin")

    def __init__(
        self, node: Node | None, type: TensorType, scope: int, index: int = 0, origin: Callable[[], str] | None = None
    ) -> None:
        self.node, self.type, self.scope, self.index, self.origin = node, type, scope, index, origin
        self.__class__ = Value


class Value(_Immutable, _NewValue):
    """What a node produces or a graph takes. Equality is identity. `scope` tells the builder that made it; `origin`
    says of a parameter what it stands for."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy refuses it, and does not compute with it as with an object

    def __new__(cls, *args: Any) -> Value:
        return _NewValue(*args)  # type: ignore[return-value]

    def __init__(self, *args: Any) -> None:
        pass

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[int | Dim, ...]:
        return self.type.shape

    @property
    def op(self) -> Op | None:
        return self.node.op if self.node is not None else None


class _NewNode:
    """A Node while it is made."""

    __slots__ = ("op", "inputs", "attrs", "outs", "loc", "pure")
    outs: tuple[Value, ...]

    def __init__(
        self, op: Op, inputs: tuple[Value, ...], attrs: Attrs, types: Sequence[TensorType], scope: int,
        loc: Location | None, pure: bool | None = None,
    ) -> None:  # fmt: skip
        self.op, self.inputs, self.attrs, self.loc = op, inputs, attrs, loc
        self.pure = is_pure(op, attrs) if pure is None else pure
        outs: Any = tuple([_NewValue(self, t, scope, i) for i, t in enumerate(types)])  # type: ignore[arg-type]
        self.outs = outs
        self.__class__ = Node


class Node(_Immutable, _NewNode):
    """One operation: what it reads, its attributes, what it makes, and the user's line."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> Node:
        return _NewNode(*args)  # type: ignore[return-value]

    def __init__(self, *args: Any) -> None:
        pass

    @property
    def out(self) -> Value:
        return self.outs[0]

    def attr(self, name: str) -> Any:
        for k, v in self.attrs:
            if k == name:
                return v
        raise KeyError(name)

    def with_attrs(self, attrs: Attrs) -> Node:
        """A node with other attributes that makes the very values that this one makes."""
        made = Node(self.op, self.inputs, attrs, (), 0, self.loc)
        object.__setattr__(made, "outs", self.outs)
        return made


class Graph(_Immutable):
    """Parameters, nodes in execution order, results. Never changed after it is made."""

    __slots__ = ("name", "params", "nodes", "results", "pure")
    name: str
    params: tuple[Value, ...]
    nodes: tuple[Node, ...]
    results: tuple[Value, ...]
    pure: bool

    def __init__(self, name: str, params: Iterable[Value], nodes: Iterable[Node], results: Iterable[Value]) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "params", tuple(params))
        put(self, "nodes", tuple(nodes))
        put(self, "results", tuple(results))
        put(self, "pure", all(n.pure for n in self.nodes))

    def __str__(self) -> str:
        from_text = Graph.printer
        return from_text(self) if from_text else f"<graph {self.name}>"

    def run(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The results for these arrays, by the reference interpreter."""
        assert Graph.runner is not None
        return Graph.runner(self, arrays)

    printer: Callable[[Graph], str] | None = None
    runner: Callable[[Graph, Sequence[Any]], tuple[Any, ...]] | None = None


def is_pure(op: Op, attrs: Attrs) -> bool:
    """Whether a node has no effect: its op has none, nor has any of its regions."""
    return op.pure and (op.family != "control" or all(v.pure for _, v in attrs if type(v) is Graph))


class Const:
    """An array as an attribute: compared by bytes when small, by identity when large, by value when all are equal.

    One that stands for a tensor from outside has a weak reference to its `owner`, and equals no other tensor's.
    """

    __slots__ = ("array", "key", "splat", "shape", "dtype", "owner")

    def __init__(
        self, array: np.ndarray | None, splat: Any = None, shape: tuple[Any, ...] = (), dtype: DType | None = None,
        owner: Any = None,
    ) -> None:  # fmt: skip
        if array is not None:
            dtype, shape = as_dtype(array.dtype), array.shape
            if array.size == 1 or (0 < array.size <= 4096 and _all_same(array)):
                splat = array.reshape(-1)[0]
                array = None
        assert dtype is not None
        if array is None:
            splat = np.asarray(splat).astype(dtype.np)[()]
            self.key: tuple[Any, ...] = (dtype, shape, np.asarray(splat).tobytes())
        else:
            self.key = (dtype, shape, array.tobytes() if array.size <= 256 else id(array))
        self.array, self.splat, self.shape, self.dtype = array, splat, shape, dtype
        self.owner = None if owner is None else weakref.ref(owner)
        if owner is not None:
            self.key = (*self.key, id(owner))

    def without_owner(self) -> Const:
        return Const(self.array, self.splat, self.shape, self.dtype)

    def numpy(self, sizes: dict[str, int] | None = None) -> np.ndarray:
        if self.array is not None:
            return self.array
        return np.full([size_at(d, sizes or {}) for d in self.shape], self.splat, self.dtype.np)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return type(other) is Const and self.key == other.key

    def __repr__(self) -> str:
        if self.array is None:
            return str(self.splat)
        return (
            np.array2string(self.array, threshold=8, separator=",").replace("\n", "") if self.array.size <= 8 else "…"
        )


def _all_same(a: np.ndarray) -> bool:
    flat = np.ascontiguousarray(a).reshape(-1)
    b = flat.view(np.uint8).reshape(flat.size, -1)
    return bool((b == b[0]).all())


_scopes = itertools.count(1)


def next_scope() -> int:
    return next(_scopes)


def freeze(attrs: dict[str, Any]) -> Attrs:
    return tuple(sorted(attrs.items())) if len(attrs) > 1 else tuple(attrs.items())


def _symbols(x: Any) -> set[str]:
    if type(x) is tuple:
        return {s for y in x for s in _symbols(y)}
    if type(x) is Graph:
        return {s for n in x.nodes for s in _needed_by(n)}
    return x.symbols if isinstance(x, Dim) else set()


def _needed_by(n: Node) -> set[str]:
    """The symbols that a node has in its results' shapes and its attributes."""
    return {s for v in n.outs for s in _symbols(v.shape)} | {s for _, v in n.attrs for s in _symbols(v)}


class Builder:
    """Emits nodes. Equal pure nodes are one; a hook may replace a node as it is born (folding, rewrite rules)."""

    def __init__(self, at_birth: Callable[[Builder, Op, tuple[Value, ...], Attrs], Any] | None = None) -> None:
        self.params: list[Value] = []
        self.nodes: list[Node] = []
        self.table: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        self.scope = next_scope()
        self.at_birth = at_birth
        self.loc: Location | None = None  # set by passes that keep the line of the node they rewrite
        # of equal operations: which, the line of the one that stays, the line of the one that is not needed
        self.merged: list[tuple[Op, Location | None, Location | None]] = []

    def param(self, type: TensorType, origin: Callable[[], str] | None = None) -> Value:
        v = Value(None, type, self.scope, len(self.params), origin)
        self.params.append(v)
        return v

    def become_param(self, v: Value, origin: Callable[[], str] | None) -> None:
        """What a node made is given from outside instead."""
        assert v.node is not None
        if v.index == 0:  # of several results, this one is asked for first
            self.nodes.remove(v.node)
        for name, x in (("node", None), ("index", len(self.params)), ("origin", origin)):
            object.__setattr__(v, name, x)
        self.params.append(v)

    def forget_effects(self, first: int) -> None:
        """Give up the effects among the nodes from that number on, checks too, and what follows from them."""
        gone: set[Value] = set()
        kept = []
        for n in self.nodes[first:]:
            if n.pure and gone.isdisjoint(n.inputs):
                kept.append(n)
            else:
                gone.update(n.outs)
        if len(kept) < len(self.nodes) - first:
            self.nodes[first:] = kept
            self.table = {k: made for k, made in self.table.items() if gone.isdisjoint(made)}

    def emit(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs = ()) -> tuple[Value, ...]:
        """The node's results; those of an equal earlier node if there is one."""
        key = (op, inputs, attrs)
        pure = is_pure(op, attrs)
        if pure:
            found = self.table.get(key)
            if found is not None:
                if op.family != "source":
                    first = found[0].node
                    self.merged.append((op, first.loc if first else None, self.loc or user_frame(2)))
                return found
        if self.at_birth is not None:
            new: tuple[Value, ...] | None = self.at_birth(self, op, inputs, attrs)
            if new is not None:
                self.table[key] = new
                return new
        t = op.infer(*[v.type for v in inputs], **dict(attrs))
        types = t if type(t) is tuple else (t,)
        raises = op.name == "check" or op.name == "host_call"
        loc = self.loc or (called_line(2) if raises else user_frame(2))
        node: Any = _NewNode(op, inputs, attrs, types, self.scope, loc, pure)
        self.nodes.append(node)
        outs: tuple[Value, ...] = node.outs
        if pure:
            self.table[key] = outs
        return outs

    def finish(self, name: str, results: Iterable[Value]) -> Graph:
        """The graph with only the nodes that a result or an effect needs."""
        results = tuple(results)
        live: set[Node] = set()
        stack = [r.node for r in results if r.node is not None] + [n for n in self.nodes if not n.pure]
        telling = [(v, n) for n in self.nodes if "tells" in n.op.special for _, v in n.attrs if isinstance(v, Dim)]
        tellers = {s: n for v, n in telling for s in v.symbols}
        while stack:
            n = stack.pop()
            if n not in live:
                live.add(n)
                stack += [v.node for v in n.inputs if v.node is not None]
                if tellers:  # what tells the sizes that it needs
                    stack += [tellers[s] for s in _needed_by(n) & tellers.keys()]
        return Graph(name, self.params, [n for n in self.nodes if n in live], results)
