"""The evaluator that emits nodes instead of computing: captures, Variables as values, and the replay of a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit import context as _context
from tracejit.context import context
from tracejit.errors import Abandoned, ControlFlowError, TracejitError, locate
from tracejit.identity import IdentityMap
from tracejit.intervals import INT32, Interval, Limits, bounds, fits
from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Attrs, Builder, Const, Graph, Value, freeze
from tracejit.ir.hooks import hooks
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import size_at
from tracejit.ir.types import DType, TensorType, as_dtype, int32, int64
from tracejit.tensor import Operand, Tensor, Variable, check, leaked, wrap

constant = Op(
    "constant",
    "source",
    lambda *, value, weak=False: TensorType(value.dtype, value.shape, weak),
    lambda *, value, weak=False: value.numpy(),
    arity=0,
    doc="An array known when the function is traced.",
)
dim = Op(
    "dim",
    "source",
    lambda *, size: TensorType(int32, (), True),
    lambda *, size: np.asarray(int(size), np.int32),
    arity=0,
    doc="The size of a symbolic dimension as a 0-d tensor.",
)

unborn: IdentityMap[None] = IdentityMap()  # Variables made in traces that have no value of their own yet
streams: IdentityMap[None] = IdentityMap()  # Variables that random generators keep their states in
SMALL = 16  # elements up to which a captured array becomes part of the graph


class NeedStatic(Abandoned):
    """Raised inside a trace when Python needs the value of a number that was an input, or of a symbolic size."""

    def __init__(self, params: set[int], symbols: set[str]) -> None:
        self.params, self.symbols = params, symbols


class SameTensors(Abandoned):
    """It is asked whether tensors are one that stand at places outside, where one may stand twice."""


class Trace:
    """Stands where NumPy stood while a function is traced.

    `captures` maps what the function reads from outside (tensors, arrays) to a parameter; `reads` does so for
    Variables, `env` holds each Variable's current value. `parent` is the trace around this one.
    """

    def __init__(self, parent: Trace | None = None, at_birth: Callable[..., Any] | None = None) -> None:
        self.builder = Builder(at_birth)
        self.captures: dict[int, tuple[Any, Tensor]] = {}
        self.constants: dict[int, tuple[Tensor, Tensor]] = {}  # tensors from outside that are constants here
        self.reads: dict[int, tuple[Variable, Tensor]] = {}
        self.env: dict[int, Tensor] = {}
        self.made: dict[int, tuple[Variable, Tensor]] = {}  # Variables that the function makes, with their first values
        self.parent = parent
        self.about: Callable[[], str] | None = parent.about if parent is not None else None  # the function, for errors
        self.heard = False  # whether tapes listen outside, to which a constant in here would be nothing
        self.scalars: dict[Value, int] = {}  # parameters that are Python numbers → the argument leaf
        self.open: set[Any] = set()  # those of which conditions are left to the run, as they are of tensors
        self.numbers: dict[Value, Limits] = {}  # of parameters that are Python integers
        self.items: set[Value] = set()  # inputs that stand for tensors at places, some of which may be one
        self.notes: dict[str, None] = {}  # what `explain` says of the dtypes of branches and loops
        self.checked: set[Any] = set()  # conditions that a check was emitted for
        self.bounds: dict[Value, Interval] = {}  # of Python integers
        self.limits: dict[Value, tuple[int | Dim, int | Dim]] = {}  # between which sizes counters of loops lie
        self.told: dict[Value, Dim] = {}  # numbers that are sizes of axes, by the sizes that they are
        self.stacked: dict[Value, Tensor] = {}  # what loops have added to lists of which the rows were then taken
        self.alone = False  # whether it makes a graph of values only, in which no Variable can be assigned
        self.around: Trace | None = None  # the trace during which such a graph is made
        self.asked: bool = parent is None or parent.asked  # whether tapes may ask for gradients of its graph
        self.in_gradient: bool = parent is not None and parent.in_gradient  # whether it is that of a gradient function
        self.unasked = False  # whether it lacks gradient functions of the user's own, as no tape asks for them
        self.gradients: list[Any] = []  # what those do that it has, beyond computing
        self.in_backward: TracejitError | None = None  # why tapes outside cannot ask for gradients of it
        self.calls: list[set[int]] = []  # the Variables read after each call of a function that stays Python
        self.unnamed: list[Any] = []  # what is known of those that such functions do not name
        self.sizes: dict[str, dict[Any, Dim | None]] = {}  # what sizes are called that calls of traced functions tell
        self.keeping: dict[Any, Any] = {}  # loops that are gone through again for gradients, keeping their states

    # --- values -------------------------------------------------------------------------------------------------
    def param(self, type: TensorType, what: str | Callable[[], str] = "a value of a branch, a loop or a row") -> Tensor:
        """A new parameter; `what` says to users what it stands for."""
        return wrap(self.builder.param(type, self.origin(what)))

    def origin(self, what: str | Callable[[], str]) -> Callable[[], str] | None:
        return None if self.about is None else functools.partial(_origin, what, self.about)

    def emit(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs = ()) -> Tensor:
        return wrap(self.builder.emit(op, inputs, attrs)[0])

    def value(self, t: Tensor) -> Value:
        """The graph value that a tensor stands for in this trace."""
        a = t._a
        if type(a) is Value:
            if a.scope == self.builder.scope:
                return a
            if not self.within(a.scope):
                raise leaked(a)
            p = self.capture(t, t if self.heard else a, a.type)
            if a.type.weak and self.parent is not None:
                self.bounds.setdefault(p, self.parent.known_bounds(a))
            return p
        differs = a.dtype.kind in "fc"  # tapes tell tensors apart whose values are one
        if a.size <= SMALL and not (self.heard and differs):
            return self._constant(t, a) if differs else self.emit(constant, (), (("value", Const(a)),))._a
        return self.capture(t, t if differs else a, TensorType(as_dtype(a.dtype), a.shape))

    def _constant(self, t: Tensor, a: np.ndarray) -> Value:
        """A tensor from outside as a constant that knows which tensor it is, so that tapes outside can ask for it."""
        if id(t) not in self.constants:
            self.constants[id(t)] = (t, self.emit(constant, (), (("value", Const(a, owner=t)),)))
        return self.constants[id(t)][1]._a

    def asks_which(self, x: Any) -> None:
        """It counts which tensor it is, and not only what is in it."""
        t = self
        while t.parent is not None:
            t = t.parent
        if type(x._a) is Value and x._a in t.items:
            raise SameTensors

    def known_bounds(self, v: Value) -> Interval:
        """Of a Python integer of this trace, or of one around it."""
        if v.scope == self.builder.scope or self.parent is None:
            return bounds(v, self.bounds)
        return self.parent.known_bounds(v)

    def within(self, scope: int) -> bool:
        """Whether a scope belongs to a trace around this one."""
        t = self.parent
        while t is not None:
            if t.builder.scope == scope:
                return True
            t = t.parent
        return False

    def capture(self, owner: Any, key: Any, type: TensorType) -> Value:
        if id(key) not in self.captures:
            self.captures[id(key)] = (owner, self.param(type, "a tensor or array from outside"))
        return self.captures[id(key)][1]._a

    def lift(self, a: np.ndarray, original: Any) -> Tensor:
        """An array or Python value met while tracing. An array of the user's stays an input: later edits are seen."""
        if isinstance(original, np.ndarray) and original.dtype.newbyteorder("=") == a.dtype.newbyteorder("="):
            return wrap(self.capture(original, original, TensorType(as_dtype(a.dtype), a.shape)))
        return self.emit(constant, (), (("value", Const(a)),))

    def scalar(self, x: Any, d: DType, weak: bool) -> Tensor:
        """A Python scalar as a constant of dtype `d`."""
        attrs: Attrs = (("value", Const(None, x, (), d)),)
        return self.emit(constant, (), (*attrs, ("weak", True)) if weak else attrs)

    def need_value(self, v: Value, test: bool = False, bound: bool = False) -> None:
        """Python wants a value that follows from Python numbers only: trace again with those as constants.

        `test`: it is for a condition or the like, which can be left to the run of the program too. `bound`: it is for a
        bound of a slice, of which that is so if any of it is a number that may be left to the run.
        """
        if self.alone:  # of a graph, not of a function, which nobody traces again; what it is made from has been asked
            return
        found: set[int] = set()
        symbols: set[str] = set()
        stack, seen = [v], set()
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            if x.node is None:
                if x not in self.scalars:
                    return
                found.add(self.scalars[x])
            elif x.node.op is dim:
                if symbols_in(x.node.attr("size")) or x.node.attr("size").symbols & hooks.open:
                    return  # which only the program finds out
                symbols |= x.node.attr("size").symbols
            elif not x.node.pure:
                return
            else:
                stack += x.node.inputs
        if bound and found:
            symbols.clear()
        if test or bound:
            found -= self.open
        if found or symbols:
            raise NeedStatic(found, symbols)

    def _narrowed(self, v: Value, to: DType) -> None:
        """A Python integer becomes a tensor's dtype: one that need not hold it has to be known, to be checked."""
        if v.dtype.kind != "i" or to.kind not in "iu" or to is int64:
            return
        if to is not int32:
            self.need_value(v)
        elif not fits(bounds(v, self.bounds), INT32):
            low, high = (self.scalar(n, v.dtype, False)._a for n in INT32)
            above, below = self.emit(OPS["greater_equal"], (v, low)), self.emit(OPS["less_equal"], (v, high))
            (ok,) = self.builder.emit(OPS["logical_and"], (above._a, below._a))
            if ok.shape:  # a number of each row of a batch
                ok = self.emit(OPS["reduce_all"], (ok,), (("axis", tuple(range(len(ok.shape)))),))._a
            self.require(ok, v, "the Python integer {} does not fit int32; tj.cast(n, tj.int64) does not narrow it")

    def require(self, ok: Value, shown: Value, message: str) -> None:
        """A check that a Python integer has room, once for each condition."""
        if ok not in self.checked:
            self.checked.add(ok)
            self.builder.emit(OPS["check"], (ok, shown), freeze({"error": "DTypeError", "message": message}))

    # --- attempts -----------------------------------------------------------------------------------------------
    def mark(self) -> tuple[int, set[Any], dict[int, Tensor]]:
        """What `undo` needs: how far the trace is."""
        return len(self.builder.nodes), set(self.checked), dict(self.env)

    def undo(self, mark: tuple[int, set[Any], dict[int, Tensor]]) -> None:
        """An attempt is given up: its effects, checks and assignments go. What else it computes nobody asks for."""
        first, self.checked, env = mark
        self.builder.forget_effects(first)
        for k in self.env:
            self.env[k] = env[k] if k in env else (self.reads.get(k) or self.made[k])[1]

    # --- operations ---------------------------------------------------------------------------------------------
    def evaluate(self, op: Op, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
        values = tuple([self.value(t) for t in inputs])
        frozen = freeze(attrs)
        if not op.pure or (op, values, frozen) not in self.builder.table:
            check(op, [v.type for v in values], attrs)
        if values and values[0].type.weak and op.name == "cast":
            self._narrowed(values[0], attrs["dtype"])
        outs = self.builder.emit(op, values, frozen)
        return wrap(outs[0]) if len(outs) == 1 else tuple([wrap(v) for v in outs])

    # --- Variables ----------------------------------------------------------------------------------------------
    def read(self, v: Variable) -> Tensor:
        """The Variable's current value in this trace."""
        k = id(v)
        for after in self.calls:
            after.add(k)
        if k not in self.env:
            if v in unborn:
                self._refuse_unborn(k)
            t = self.param(TensorType(as_dtype(v._a.dtype), v._a.shape), f"the value of the Variable {v.name!r}")
            self.reads[k] = (v, t)
            self.env[k] = t
        return self.env[k]

    def assign(self, v: Variable, t: Tensor) -> None:
        self.read(v)
        x = Op.door(_op("cast"), (t,), {"dtype": as_dtype(v._a.dtype)}) if t.type.weak else t
        if tuple(t.shape) != tuple(v._a.shape):
            x = Op.door(_op("broadcast_to"), (x,), {"shape": tuple(v._a.shape)})
        # a tensor of its own, which tapes know as the Variable's, and which a gradient of the graph takes for one
        floating = v.dtype.kind in "fc"
        first = (self.reads.get(id(v)) or self.made[id(v)])[1]
        self.env[id(v)] = self.emit(_op("assigned"), (self.value(x), first._a)) if floating else wrap(x._a)

    def make(self, v: Variable, t: Tensor) -> None:
        """A Variable is made in the trace. It is a value of the trace's until it is known to outlive it."""
        born = (_op("stop_gradient"), (self.value(t),), ())
        self.builder.table.pop(born, None)  # each has a value of its own
        self.env[id(v)] = first = wrap(self.builder.emit(*born)[0])
        self.builder.table.pop(born, None)
        self.made[id(v)] = (v, first)
        unborn.set(v, None)

    def _refuse_unborn(self, k: int) -> None:
        around = self.parent
        while around is not None:
            if k in around.env:
                return
            around = around.parent
        raise locate(
            ControlFlowError(
                "a Variable made in a branch or loop, or by a call that has failed, is used outside of it",
                remedy="make it before",
            )
        )

    def written(self) -> list[Variable]:
        return [v for k, (v, t) in self.reads.items() if self.env[k] is not t]


def undoing(trace: Any) -> Callable[[], None]:
    """What gives up an attempt that begins here, in the trace if there is one."""
    if trace is None:
        return lambda: None
    mark = trace.mark()
    return lambda: trace.undo(mark)  # type: ignore[no-any-return]


def _origin(what: str | Callable[[], str], about: Callable[[], str]) -> str:
    """What a parameter stands for, and in which function."""
    return f"{what if isinstance(what, str) else what()} of {about()}"


def _op(name: str) -> Op:

    return OPS[name]


def run(trace: Trace, f: Callable[..., Any], args: Sequence[Any], keep_tapes: bool = False) -> Any:
    """Call `f` with operations going into `trace`."""
    with _context.tracing(trace, context.tapes if keep_tapes else ()):
        return f(*args)


def trace_graph(f: Callable[..., Any], types: Sequence[TensorType], name: str = "graph") -> Graph:
    """The graph of a function of tensors that touches no Variables. It returns a tensor or a tuple of tensors."""
    t = Trace()
    t.alone, t.around = True, context.trace  # type: ignore[assignment]
    args = [t.param(x) for x in types]
    out = run(t, f, args)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    with _context.tracing(t):
        results = [t.value(o) for o in outs]
    return t.builder.finish(name, results)


def at_sizes(attrs: Attrs, sizes: dict[str, int]) -> dict[str, Any]:
    """Attributes with the symbols replaced by sizes."""

    def plain(x: Any) -> Any:
        if isinstance(x, Dim):
            return size_at(x, sizes)
        if type(x) is tuple:
            return tuple([plain(y) for y in x])
        return x

    return {k: plain(v) for k, v in attrs}


def _as_weak(p: Value, x: Any) -> Any:
    """An argument of a graph as the graph was traced for it: a Python number gives way to other dtypes."""
    if not p.type.weak or context.trace is None or x.type.weak or x.dtype is not p.dtype:
        return x
    return OPS["cast"](x, dtype=p.dtype, weak=True)


def replay(graph: Graph, args: Sequence[Operand]) -> tuple[Tensor, ...]:
    """Call every op of the graph again: it runs, is inlined, or is differentiated, as the context has it."""
    env: dict[Value, Tensor] = {p: _as_weak(p, x) for p, x in zip(graph.params, args, strict=True)}
    for n in graph.nodes:
        args = [env[v] for v in n.inputs]
        if context.trace is not None and n.op.family != "control" and any(v.type.weak for v in n.outs):
            y = context.trace.evaluate(n.op, tuple(args), dict(n.attrs))  # Python numbers keep their types
        else:
            y = n.op(*args, **dict(n.attrs))
        env.update(zip(n.outs, y if type(y) is tuple else (y,), strict=True))
    return tuple([env[r] for r in graph.results])


__all__ = ["Trace", "at_sizes", "constant", "dim", "int64", "replay", "run", "trace_graph"]
