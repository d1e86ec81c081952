"""Functions traced as the regions of branches and loops, and the nodes that they are closed into."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.context import context, tracing
from tracejit.errors import ControlFlowError, ConversionError, DTypeError, ShapeError, locate, user_frame
from tracejit.intervals import INT64
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh, symbols_in, told_by
from tracejit.ir.graph import Builder, Graph, Value
from tracejit.ir.hooks import hooks
from tracejit.ir.op import OPS
from tracejit.ir.sizes import now_unit, product
from tracejit.ir.types import DType, TensorType, bool_, show_shape
from tracejit.ops.control import cond_op, saving_op, scan_op, while_op
from tracejit.ops.define import same_shape
from tracejit.tensor import _WIDEST, Operand, Tensor, Variable, common_dtype, convert
from tracejit.tracing import Trace, run
from tracejit.tree import Structure, flatten

Body = Callable[..., Any]
RETURNED = "the value returned"  # what functions return, as converted code names it
_RESULT = "the result"  # and what those give that tj.cond and its like are given


class Region:
    """A function traced inside the trace at hand, not yet closed: `leaves` is its result, flat."""

    def __init__(self, f: Body, args: Sequence[TensorType], name: str) -> None:
        outer: Any = context.trace
        self.trace, self.name = Trace(outer), name
        self.chosen_by: tuple[Any, bool] = None, True  # the test that a branch is of, and what it says there
        self.joined: dict[tuple[int, int], Any] = {}  # what stands for two containers, one of each of two branches
        self.marks: dict[int, object] = {}  # of containers that it, or the other branch, has made
        self.changed = frozenset[int]()  # the identities of containers around it that it, or the other branch, changes
        self.trace.heard = bool(context.tapes) or outer.heard
        self.trace.asked = bool(context.tapes) or outer.asked
        self.params = [self.trace.param(t) for t in args]
        self.leaves, self.structure = flatten(run(self.trace, f, self.params))

    def call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `f` with its operations in this region."""
        with tracing(self.trace):
            return f(*args, **kwargs)

    def finds(self, shape: tuple) -> bool:
        """Whether the region tells a size in this shape."""
        found = symbols_in(shape)
        return bool(found) and not found.isdisjoint({s for n in self.trace.builder.nodes for s in told_by(n)})

    def keep_sizes(self, what: str, t: Tensor, of_code: bool = False) -> None:
        """Raise `ShapeError` for a result whose size only the region finds out: nothing around it can tell that. What
        is `of_code`, a loop of the user's and none of `tj.while_loop`, runs as plain Python then."""
        if self.finds(tuple(t.shape)):
            where = "a step of the loop" if self.name == "body" else "one branch"
            error = ShapeError(
                f"{what} has a shape that depends on values which {where} computes: {show_shape(t.shape)}",
                remedy="reduce it there, or keep its shape, say with tj.where(mask, x, 0)",
            )
            of_branch = self.name in ("then", "orelse") and what != _RESULT
            error.falls_back = of_branch or of_code or what.startswith(RETURNED)
            raise locate(error)

    def outside(self) -> dict[int, tuple[Any, Value]]:
        """What the region reads from around it, by identity: the operand out there, and the parameter in here."""
        found: dict[int, tuple[Any, Value]] = {k: (o, t._a) for k, (o, t) in self.trace.captures.items()}
        return found | {k: (v, t._a) for k, (v, t) in self.trace.reads.items()}

    def close(self, results: Sequence[Tensor], order: Sequence[int], types: dict[int, TensorType]) -> Graph:
        """The region as a graph whose parameters are its own and then, in this order, what is captured."""
        values = [self.trace.value(t) for t in results]
        if self.trace.parent is not None:
            self.trace.parent.notes |= self.trace.notes
        found = self.outside()
        b = Builder()
        env: dict[Value, Value] = {t._a: b.param(t.type) for t in self.params}
        for k in order:
            p = b.param(types[k])
            if k in found:
                env[found[k][1]] = p
        asked, hooks.decision = hooks.decision, None  # the decisions have been made, where the region knows its sizes
        try:
            for n in self.trace.builder.finish(self.name, values).nodes:
                b.loc = n.loc
                env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True))
        finally:
            hooks.decision = asked
        b.loc = None
        return b.finish(self.name, [env[v] for v in values])


def union(regions: Sequence[Region], first: Sequence[Variable]) -> tuple[list[Any], list[int], dict[int, TensorType]]:
    """What several regions capture: the operands, the Variables `first` leading, their identities and types."""
    operands: dict[int, Any] = {id(v): v for v in first}
    types: dict[int, TensorType] = {}
    for r in regions:
        for k, (o, p) in r.outside().items():
            operands.setdefault(k, o)
            types.setdefault(k, p.type)
    return list(operands.values()), list(operands), types


def written(regions: Sequence[Region]) -> list[Variable]:
    found = {id(v): v for r in regions for v in r.trace.written()}
    for r in regions:
        for v in found.values():
            r.trace.read(v)
    return list(found.values())


def assign_all(variables: Sequence[Variable], values: Sequence[Tensor]) -> None:
    trace: Any = context.trace
    for v, t in zip(variables, values, strict=True):
        trace.assign(v, t)


def is_value(x: Any) -> bool:
    """Whether control flow carries `x` as a tensor: tensors, arrays, numbers and sizes."""
    return isinstance(x, (Operand, np.ndarray, np.generic, bool, int, float, complex, Dim))


def as_test(p: Any) -> Tensor:
    """A 0-d bool for a condition. Raises `ShapeError` for anything with more or fewer than one element."""
    t = convert(p)
    count = product(tuple(t.shape))
    if not (count.fits(1) if isinstance(count, Dim) and count.is_found else now_unit(count)):
        raise locate(ShapeError(f"a condition has one element, this is {t.type}", remedy="tj.reduce_any or reduce_all"))
    if tuple(t.shape):
        t = OPS["reshape"](t, shape=())
    return t if t.dtype.kind == "b" else OPS["cast"](t, dtype=bool_)


def same(a: Any, b: Any) -> bool:
    """Whether two Python values are one, so that it need not be carried as a tensor."""
    if a is b:
        return True
    return type(a) is type(b) and isinstance(a, (bool, int, float, complex, str, bytes)) and a == b


def stage_cond(p: Any, then: Body, orelse: Body) -> tuple[list[Any], Structure]:
    """Both branches traced as regions of one node; the leaves of the result and their structure."""
    test = as_test(p)
    regions = [Region(then, (), "then"), Region(orelse, (), "orelse")]
    a, b = regions
    if a.structure != b.structure:
        raise locate(ControlFlowError(f"the branches give different structures: {a.structure} and {b.structure}"))
    pairs: list[tuple[Tensor, Tensor]] = []
    leaves: list[Any] = []
    for x, y in zip(a.leaves, b.leaves, strict=True):
        if same(x, y):
            leaves.append((x,))
        elif is_value(x) and is_value(y):
            leaves.append(None)
            pairs.append(agreed(a, x, b, y))
        else:
            raise locate(ControlFlowError(f"the branches give {x!r} and {y!r}, which no tensor can stand for"))
    it = iter(emit_cond(test, a, b, pairs))
    return [next(it) if x is None else x[0] for x in leaves], a.structure


def emit_cond(test: Tensor, a: Region, b: Region, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The node for two traced branches, which give these pairs of results; Variables are assigned what they become."""
    writes = written((a, b))
    results = [[x for x, _ in pairs], [y for _, y in pairs]]
    for r, out in zip((a, b), results, strict=True):
        out += [r.call(r.trace.read, v) for v in writes]
        for t in out:
            r.trace.value(t)  # what a region gives as it came from outside is captured by this
    operands, order, types = union((a, b), ())
    then, orelse = [r.close(out, order, types) for r, out in zip((a, b), results, strict=True)]
    ys: Any = ()
    if results[0] or not (then.pure and orelse.pure):
        ys = cond_op(test, *operands, then=then, orelse=orelse)
        ys = ys if type(ys) is tuple else (ys,)
    k = len(ys) - len(writes)
    assign_all(writes, ys[k:])
    return list(ys[:k])


def agreed(a: Region, x: Any, b: Region, y: Any, name: str = "") -> tuple[Tensor, Tensor]:
    """Two branches' results, `name` in the user's code, with one dtype, NumPy's promotion of both, and one shape."""
    s, t = a.call(_weakly, x), b.call(_weakly, y)
    xs = [x if _is_plain(x) else s, y if _is_plain(y) else t]
    d, weak = _carried(xs)
    label = repr(str(name)) if name else _RESULT
    context.trace.notes |= _promoted(label, s, t, d, ("in one branch", "in the other"))  # type: ignore[union-attr]
    s, t = a.call(_cast, s, d, weak), b.call(_cast, t, d, weak)
    # where a branch finds a size, what has to be checked of it is no matter of those around it, even if this ends badly
    finds = next((r for r, v in ((a, s), (b, t)) if r.finds(tuple(v.shape))), None)
    same: Callable[..., bool] = _equal if name else same_shape
    asked = same if finds is None else functools.partial(finds.call, same)
    if not asked(tuple(s.shape), tuple(t.shape)):
        for r, v in ((a, s), (b, t)) if name else ():
            r.keep_sizes(_set(name), v)
        one, other = show_shape(s.shape), show_shape(t.shape)
        said = f"{_set(name)} has shape {one} in one branch and {other} in the other"
        found = any(isinstance(d, Dim) and d.is_found for d in (*s.shape, *t.shape))
        error = (ConversionError if found else ShapeError)(
            said if name else f"the branches give shapes {one} and {other}",
            remedy="let both branches give one shape, with tj.reshape, tj.broadcast_to or tj.pad",
        )
        error.of_branches = True
        if isinstance(error, ShapeError):
            error.falls_back = bool(name)
        raise locate(error)
    for r, v in ((a, s), (b, t)):
        r.keep_sizes(_set(name) if name else _RESULT, v)
    return s, b.call(_shaped, t, s)


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two shapes are one for all sizes that the program may find out: branches of code may give two."""

    def equal(x: Any, y: Any) -> bool:
        if not any(isinstance(d, Dim) and d.is_found for d in (x, y)):
            return same_shape((x,), (y,))
        apart = x - y
        return type(apart) is int and apart == 0

    return len(a) == len(b) and all(map(equal, a, b))


def _set(name: str) -> str:
    """A variable as errors call it, with the line that sets it where that is known."""
    text = name if name.startswith("the ") else repr(str(name))
    return f"{text} (set at {name.at(user_frame())})" if getattr(name, "line", 0) else text  # type: ignore[attr-defined]


def _promoted(label: str, x: Tensor, y: Tensor, d: DType, where: tuple[str, str]) -> dict[str, None]:
    """A note that values of two dtypes get the dtype `d`, with the user's line; none if that changes neither.

    A Python number that takes the dtype of a tensor of its kind is what it is.
    """
    if not any(t.dtype.kind != d.kind if t.type.weak else t.dtype is not d for t in (x, y)):
        return {}
    first, second = (f"a Python {_PYTHON[t.dtype.kind]}" if t.type.weak else t.dtype.name for t in (x, y))
    made = f"a Python {_PYTHON[d.kind]}" if x.type.weak and y.type.weak else d.name
    return {f"{user_frame() or ''}  {label} is {first} {where[0]}, {second} {where[1]}: {made}".lstrip(): None}


_PYTHON = {"i": "int", "u": "int", "f": "float", "c": "complex", "b": "bool"}


def _shaped(t: Tensor, like: Tensor) -> Tensor:
    """The tensor under a shape that is written otherwise."""
    return t if tuple(t.shape) == tuple(like.shape) else OPS["reshape"](t, shape=tuple(like.shape))


def _cast(t: Tensor, d: Any, weak: bool) -> Tensor:
    if t.dtype is d and t.type.weak == weak:
        return t
    return OPS["cast"](t, dtype=d, weak=True) if weak else OPS["cast"](t, dtype=d)


def stage_while(test: Body, body: Body, init: Sequence[Any]) -> list[Tensor]:
    """A loop as one node: `test` and `body` take the state's leaves, `body` returns as many."""
    return stage_rows(test, body, init, 0)[0]


def stage_rows(
    test: Body, body: Body, init: Sequence[Any], more: int, names: Sequence[str] = ()
) -> tuple[list[Tensor], list[Tensor]]:
    """The same with `more` further values from each step, which are stacked. `names`: what users call the values."""
    notes: dict[str, None] = {}
    trace: Any = context.trace
    given = [x if isinstance(x, Operand) else _weakly(x) for x in init]
    state: list[Any] = [trace.read(t) if isinstance(t, Variable) else t for t in given]
    for _ in range(4):
        inner = Region(body, [t.type for t in state], "body")
        if len(inner.leaves) != len(state) + more:
            raise locate(
                ControlFlowError(f"the body returns {len(inner.leaves)} values for a state of {len(state)}")
            )
        made = [inner.call(convert, x) for x in inner.leaves[len(state) :]]
        inner.leaves = inner.leaves[: len(state)]
        results, state, settled = _settled(inner, state, names, notes)
        if settled:
            break
    inner.trace.notes |= notes
    for x in made:
        inner.keep_sizes("a row of what is stacked", x, bool(names))
    outer = Region(test, [t.type for t in state], "cond")
    ok = outer.call(as_test, outer.leaves[0])
    if outer.trace.written():
        raise locate(ControlFlowError("the condition of a loop assigns to a Variable"))
    writes = written([inner])
    for v in writes:
        outer.trace.read(v)
    results = results + [inner.call(inner.trace.read, v) for v in writes]
    for r, t in [*[(inner, t) for t in (*results, *made)], (outer, ok)]:
        r.trace.value(t)
    operands, order, types = union([inner, outer], writes)
    body_graph = inner.close([*results, *made], order, types)
    n = len(state) + len(writes)
    attrs: dict[str, Any] = {"cond": outer.close([ok], order, types), "body": body_graph, "n": n}
    ys = saving_op(*state, *operands, **attrs, steps=fresh()) if more else while_op(*state, *operands, **attrs)
    ys = ys if type(ys) is tuple else (ys,)
    assign_all(writes, ys[len(state) : n])
    return list(ys[: len(state)]), list(ys[n + 1 :])


def _weakly(x: Any) -> Tensor:
    """A Python number as a tensor whose dtype is still open; anything else converted."""
    if isinstance(x, Operand):
        return x if type(x) is Tensor else convert(x)
    if type(x) in (bool, int, float, complex):
        d, weak = _carried([x])
        if type(x) is int and abs(x) > INT64[1]:
            raise locate(DTypeError(f"the Python integer {x} does not fit int64"))
        return context.trace.scalar(x, d, weak and d.kind != "b")  # type: ignore[union-attr]
    return convert(x)


def _is_plain(x: Any) -> bool:
    """Whether it is a value by itself; what becomes one does so in the region that it belongs to."""
    return not isinstance(x, Operand) and is_value(x)


def _carried(xs: Sequence[Any]) -> tuple[DType, bool]:
    """The dtype in which branches and loops carry values: Python's numbers as precise as Python has them."""
    d, weak = common_dtype(xs)
    return (_WIDEST[d.kind], True) if weak else (d, False)


def _settled(
    inner: Region, state: list[Tensor], names: Sequence[str], notes: dict[str, None]
) -> tuple[list[Tensor], list[Tensor], bool]:
    """The body's results in the types of the state, or the state in wider types and False."""
    out, wider, same = [], [], True
    for i, (t, x) in enumerate(zip(state, inner.leaves, strict=True)):
        y = inner.call(_weakly, x)
        d, weak = _carried([t, x if _is_plain(x) else y])
        label = _set(names[i]) if names and names[i] else f"value {i} of the loop's state"
        equal: Callable[..., bool] = _equal if names else same_shape
        asked = functools.partial(inner.call, equal) if inner.finds(tuple(y.shape)) else equal
        if not asked(tuple(y.shape), tuple(t.shape)):
            if names:
                inner.keep_sizes(label, y, True)
            one, other = show_shape(t.shape), show_shape(y.shape)
            error = ShapeError(
                f"{label} has shape {one} before a step of the loop and {other} after it",
                remedy="let it keep its shape, or append what is added to a list",
            )
            error.falls_back = bool(names) and any(isinstance(d, Dim) and d.is_found for d in (*t.shape, *y.shape))
            raise locate(error)
        inner.keep_sizes(label, y, bool(names))
        if d is not t.dtype or weak != t.type.weak:
            same = False
        label = repr(str(names[i])) if names else f"value {i} of the state"
        notes |= _promoted(label, t, y, d, ("before a step of the loop", "after it"))
        out.append(inner.call(_cast, inner.call(_shaped, y, t), d, weak))
        wider.append(_cast(t, d, weak))
    return out, wider, same


def stage_scan(
    body: Body, init: Sequence[Any], rows: Sequence[Tensor], length: int | Dim, reverse: bool,
    names: Sequence[str] = (),
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """A loop over rows as one node: `body(states, rows)` returns the new states and what is to be stacked, as lists."""
    state = [x if type(x) is Tensor else _weakly(x) if not isinstance(x, Operand) else convert(x) for x in init]
    n, notes = len(state), dict[str, None]()
    row_types = [TensorType(t.dtype, t.type.shape[1:]) for t in rows]
    for _ in range(4):
        inner = Region(lambda *a: body(list(a[:n]), list(a[n:])), [*[t.type for t in state], *row_types], "body")
        if inner.structure.kind is not tuple or len(inner.leaves) < n:
            raise locate(ControlFlowError("the body of a scan returns its states and what is to be stacked"))
        made = [inner.call(convert, x) for x in inner.leaves[n:]]
        inner.leaves = inner.leaves[:n]
        results, state, settled = _settled(inner, state, names, notes)
        if settled:
            break
    inner.trace.notes |= notes
    for x in made:
        inner.keep_sizes("a row of what is stacked", x, bool(names))
    writes = written([inner])
    news = [inner.call(inner.trace.read, v) for v in writes]
    for t in [*results, *news, *made]:
        inner.trace.value(t)
    operands, order, types = union([inner], writes)
    total = n + len(writes)
    # Variables are states too: they stand between the states and the rows
    graph = _moved(inner, results, news, made, order, types, n, len(writes))
    ys = scan_op(
        *state, *operands[: len(writes)], *rows, *operands[len(writes) :],
        body=graph, n=total, m=len(rows), length=length, reverse=reverse,
    )  # fmt: skip
    ys = ys if type(ys) is tuple else (ys,)
    assign_all(writes, ys[n:total])
    return list(ys[:n]), list(ys[total:])


def _moved(
    inner: Region, results: list[Tensor], news: list[Tensor], made: list[Tensor], order: list[int],
    types: dict[int, TensorType], n: int, w: int,
) -> Graph:  # fmt: skip
    g = inner.close([*results, *news, *made], order, types)
    own = len(inner.params)
    params = (*g.params[:n], *g.params[own : own + w], *g.params[n:own], *g.params[own + w :])
    return Graph(g.name, params, g.nodes, g.results)
