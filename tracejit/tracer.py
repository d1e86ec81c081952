"""One trace of a function: the run that makes it, and the concrete function that comes of it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.arguments import TensorSpec
from tracejit.autodiff.gradientnodes import settle
from tracejit.autograph import places, reads
from tracejit.autograph.apart import Apart
from tracejit.autograph.attempts import Identities, MadeHere, Memory, MovingPlaces, TensorItems
from tracejit.autograph.carried import result_of
from tracejit.autograph.effects import Effects, Pending
from tracejit.autograph.ranges import TensorRange
from tracejit.autograph.recorder import Recorder
from tracejit.autograph.results import as_leaves
from tracejit.autograph.returned import Made, Returned, any_holds_traced, holds_traced, number
from tracejit.autograph.values import Optional
from tracejit.born import give_birth
from tracejit.concrete import Executable, Leaf, Parts, parts_of
from tracejit.context import context, running, tracing
from tracejit.described import Described
from tracejit.errors import (
    ConversionError,
    TracedValueError,
    UnsupportedError,
    defined,
    definition,
    entries,
    locate,
    without_frames,
)  # fmt: skip
from tracejit.fitting import Taken
from tracejit.intervals import Limits
from tracejit.ir.dim import Dim
from tracejit.ir.found import newest, untold
from tracejit.ir.graph import Graph, Value
from tracejit.ir.hooks import hooks
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, as_dtype, float64, int32, int64
from tracejit.leaves import Default, Kind, StaticArray
from tracejit.ops.found import checked_later, refuse_found
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.guards import Guards
from tracejit.runtime.records import Constant, Returns
from tracejit.symbols import axes_of, sizes_of, symbols_of
from tracejit.tensor import Operand, Tensor, Variable, strong
from tracejit.tracing import NeedStatic, SameTensors, Trace

_OUT = object()
ATTEMPTS = 512  # attempts at one trace that each find out something more, before the function runs as plain Python


class _Perhaps:
    """A leaf of a result that is None in some runs: a flag comes first, then the leaves of the value."""

    __slots__ = ("structure", "outputs")

    def __init__(self, structure: tree.Structure, outputs: list[Any]) -> None:
        self.structure, self.outputs = structure, outputs


def _described(structure: tree.Structure, outputs: list[Any], specs: Iterator[TensorSpec]) -> Any:
    """The same nest with what tells of tensors in their places, and the types of what is made for each call."""

    def one(o: Any) -> Any:
        if type(o) is Made:
            for _ in range(o.count):
                next(specs)
            return o.type
        if type(o) is not _Perhaps:
            return next(specs) if o is _OUT else o
        next(specs)
        return tree.unflatten(o.structure, [one(x) for x in o.outputs])

    return tree.unflatten(structure, [one(o) for o in outputs])


def _rebuilt(
    structure: tree.Structure, outputs: list[Any], tensors: Iterable[Tensor], made: dict[int, Any] | None = None
) -> Any:
    """A nest from its leaves, where the tensors are marked."""
    it = iter(tensors)
    made = {} if made is None else made  # an object that stands in several places is one

    def one(o: Any) -> Any:
        if type(o) is Made:
            return o.fill([next(it) for _ in range(o.count)], made)
        if type(o) is not _Perhaps:
            return next(it) if o is _OUT else o
        there = bool(next(it))
        value = tree.unflatten(o.structure, [one(x) for x in o.outputs])
        return value if there else None

    return tree.unflatten(structure, [one(o) for o in outputs])


class Concrete(NativeCallable, Described):
    """One trace of a function: its graph, ready to run for the sizes that fit it."""

    def __init__(
        self, function: Any, kinds: tuple[Kind, ...], shapes: list[tuple], parts: Parts, structure: Any,
        outputs: list[Any], guards: list[tuple[str, Dim, bool]], trace_ms: float, reason: str,
    ) -> None:  # fmt: skip
        self.function, self.kinds, self.shapes, self.parts = function, kinds, shapes, parts
        self.structure, self.marked, self.guards, self.reason = structure, outputs, guards, reason
        self.executable = Executable(parts, function.numerics, function.faults)
        self.executable.timing.trace_ms = trace_ms
        self.returns = self._returns()
        self.calls = self.used = 0
        self.limited = {i: (x.param, x.limits) for i, x in enumerate(parts.leaves) if x.limits and x.narrowed}
        self.reads: Guards | None = None  # what must be as it was outside the arguments
        self.effects: Effects | None = None  # what follows each call
        self.apart: Apart | None = None  # what it takes its arguments not to be
        self.only_python = False  # whether its key has what native code does not see, such as containers that are one
        self.once = False  # whether it makes Variables that outlive the call, and is for that call alone
        self.forward: Any = None  # how it runs while tapes listen
        self.in_backward: Any = None  # why a gradient function of the user's own cannot be compiled for tapes
        self.unasked = False  # whether it was traced without those, as no tape listened
        self.detached: ConversionError | None = None  # that a branch gives Python objects values without their gradient
        self.owner: tuple[Any, ...] = ()  # the object, if it is given out as its method
        self.given: dict[int, Any] = {}
        self.taken: Taken

    # --- results ------------------------------------------------------------------------------------------------------
    def _returns(self) -> Returns:
        items: list[int | Constant] = []
        k = 0
        if any(type(o) in (_Perhaps, Made) for o in self.marked):
            every = range(self.parts.outputs)
            return Returns("call", list(every), functools.partial(_rebuilt, self.structure, self.marked))
        for o in self.marked:
            if o is _OUT:
                items.append(k)
                k += 1
            else:
                items.append(Constant(o))
        s = self.structure
        if s.kind is None:
            if items and items[0] == 0 and not isinstance(items[0], Constant):
                return Returns("single", items)
            if self.marked[0] is None:
                return Returns("none")
        elif s.kind in (tuple, list) and all(c.kind is None for c in s.children):
            return Returns("tuple" if s.kind is tuple else "list", items)
        return Returns("call", items, functools.partial(tree.unflatten, s))

    def rebuild(self, tensors: Sequence[Tensor], made: dict[int, Any] | None = None) -> Any:
        """The function's result from its tensor leaves, with what the call has `made` before."""
        return _rebuilt(self.structure, self.marked, tensors, made)

    def lost_to_tapes(self) -> ConversionError | None:
        """Why tapes cannot follow a call; None if they can."""
        return locate(self.in_backward) if self.in_backward else self.detached  # type: ignore[return-value]

    # --- fitting ------------------------------------------------------------------------------------------------------
    def sizes(self, shapes: list[tuple]) -> dict[str, int] | None:
        """The sizes of the symbols for these argument shapes, None if they do not fit."""
        return sizes_of(self.shapes, self.guards, shapes)

    def takes(self, inputs: Sequence[Any]) -> bool:
        """Whether numbers among the inputs are where they have to be for the windows that the trace has."""
        return all(limits.hold(inputs[k]) for k, limits in self.limited.values())

    def narrowed(self) -> list[str]:
        """Of the numbers that are inputs, those that say where slices lie: from where to where they do so alike."""
        found = [(self.taken.told(i), limits) for i, (_, limits) in self.limited.items()]
        if self.effects is not None:
            found += [(m.place.name, m.limits) for m in self.effects.moving if m.limits.narrowed]
        return [f"{name} {limits}" for name, limits in found]

    def still_holds(self) -> bool:
        """Whether what was read outside the arguments is as it was."""
        held = (self.reads is None or self.reads.hold()) and (self.effects is None or self.effects.fit())
        return held and (self.apart is None or self.apart.holds())

    def asked_with(self, owner: tuple[Any, ...], given: dict[int, Any]) -> Concrete:
        """The same as a method of the object, which it holds, as the trace does not; and with the numbers that calls
        may leave out."""
        if not owner and not given:
            return self
        made = Concrete.__new__(Concrete)
        made.__dict__.update(self.__dict__)
        made.owner, made.given = owner, given
        return made

    def is_open(self, specs: Sequence[TensorSpec | None]) -> bool:
        """Whether the sizes that the specs leave open are symbols here."""
        return all(
            isinstance(p, Dim)
            for pattern, spec in zip(self.shapes, specs, strict=True)
            if spec is not None
            for p, want in zip(pattern, spec.shape or (), strict=True)
            if want is None or isinstance(want, str)
        )

    # --- what users see -----------------------------------------------------------------------------------------------
    @property
    def graph(self) -> Graph:
        return self.parts.graph

    @property
    def structured_outputs(self) -> Any:
        """The result, with a `TensorSpec` for each of its tensors."""
        return _described(self.structure, self.marked, iter(self.outputs))

    @property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(v for _, v in self.parts.reads)

    trainable_variables = property(lambda self: tuple(v for v in self.variables if v.trainable))

    @without_frames
    def _slow(self, /, *args: Any, **kwargs: Any) -> Any:
        """A call that no plan of this trace takes at once: its arguments are looked at one by one."""
        if kwargs or self.owner or not self.taken.fits_at_once(args):
            args, kwargs = self.taken.fitted((*self.owner, *args), kwargs, self.given)
        out = self.function(*args, **kwargs)
        if not self.owner:
            mine = self.executable.plans.values()
            known = [ready for plan, ready in self.function.remembered() if any(plan is p for p in mine)]
            if any(p not in self.plans for p in known):
                self.set_plans(known)
        return out

    def __repr__(self) -> str:
        return f"<ConcreteFunction {self.pretty_printed_signature(verbose=False)}>"

    def __str__(self) -> str:
        return f"ConcreteFunction {self.pretty_printed_signature()}"


class OtherSizes(Exception):
    """What the function decided about sizes that the call does not have does not hold for those that it has."""


def trace_once(
    function: Any, leaves: list, structure: Any, kinds: tuple, patterns: list[tuple], shapes: list[tuple], reason: str,
    open_by: str,
) -> Concrete:  # fmt: skip
    """Run the Python function with a trace in the place of NumPy, for arguments of these kinds and shapes.

    `open_by` says what leaves sizes open, so that Python cannot ask for them; "" where a trace for one size may follow.
    Raises `OtherSizes` where the trace would not hold for the shapes that the call has.
    """
    memory: Memory = function.memories.setdefault((structure, kinds), Memory())
    for _ in range(ATTEMPTS):
        try:
            return _attempt(function, leaves, structure, kinds, patterns, shapes, reason, memory, open_by)
        except (MovingPlaces, TensorItems, SameTensors, MadeHere, Identities) as e:
            memory.learn(e)
        except NeedStatic as need:
            if not memory.fix(need.params):
                raise
    raise locate(ConversionError(f"each of {ATTEMPTS} attempts at a trace has found that it must be made otherwise"))


def _attempt(
    function: Any, leaves: list, structure: Any, kinds: tuple, patterns: list[tuple], shapes: list[tuple], reason: str,
    memory: Memory, open_by: str,
) -> Concrete:  # fmt: skip
    t0, sizes_before = time.perf_counter(), newest()
    trace, fitting = Trace(), Taken(function.__name__, function._arguments, structure, kinds, patterns)
    trace.asked = bool(context.tapes)
    trace.about = functools.partial(defined, function.__name__, getattr(function.python_function, "__code__", None))
    infos, flat = _parameters(trace, leaves, kinds, patterns, fitting)
    args, kwargs = tree.unflatten(structure, flat)
    guards: list[tuple[str, Dim, bool]] = []
    before = hooks.decision, hooks.freeze, hooks.sizes, hooks.open

    def decided(relation: str, d: Dim, zero: int, answer: bool) -> None:
        if not checked_later(relation, d, answer):
            guards.append((relation, d, answer))

    hooks.decision, hooks.freeze = decided, functools.partial(_frozen, open_by, fitting, kinds, patterns)
    hooks.open = symbols_of(patterns) if open_by else frozenset()
    hooks.sizes = None if hooks.examples else sizes_of(patterns, (), shapes)
    trace.open |= function.open_numbers(structure)
    recorder = Recorder(trace, memory, (args, kwargs))
    thread = threading.get_ident()
    around, outside = running.get(thread), (context.trace, context.tapes)
    running[thread] = trace.builder.scope
    try:
        with tracing(trace), reads.recorded() as log, places.heard(recorder, recorder.log):
            recorder.begin()
            if isinstance(function.python_function, functools.partial):  # whose arguments are from outside
                log.found(function.python_function, function.__name__)
            for x, i in zip(flat, infos, strict=True):
                if i.kind == "static":  # a container that no tensor is in, such as a set
                    log.found(x, f"an argument of {function.__name__}")
            if not function.autograph:
                reads.function(getattr(function.python_function, "__func__", function.python_function))
            given_back = result_of(function.traced_function(), args, kwargs)
            settle(trace)
            try:
                tree.flatten_shared(given_back)
            except tree.Circular as e:
                raise locate(UnsupportedError(f"{function.__name__} returns {e}")) from None
            given_back = as_leaves(given_back, recorder.keeps(given_back))
            leaves_out, out = tree.flatten_shared(reads.whole(given_back))
            leaves_out = [x.tensor if type(x) is TensorRange and x.tensor is not None else x for x in leaves_out]
            del given_back  # which would be another who holds it
            effects, taken = recorder.finish(leaves_out if any_holds_traced(leaves_out, recorder.given) else [])
            returned = None
            if any_holds_traced(leaves_out, recorder.given):
                code = getattr(function.python_function, "__code__", None)
                returned = Returned(trace, leaves_out, recorder, code and definition(code))
            recorder.check_written(trace.written())
            for u in trace.unnamed:
                u.settle()
            results, outputs = _results(trace, leaves_out, returned)
            assigned = [trace.value(trace.env[id(v)]) for v in trace.written()]
            used = returned.used if returned is not None else set()
            moving = recorder.moving_among([*results, *assigned])
            if used or moving:
                effects = Effects([], Pending(), [], 0, set()) if effects is None else effects
                effects.on_arguments |= used
                effects.read_too(moving)
            for owner, _ in trace.captures.values():
                if type(owner) is np.ndarray:
                    log.form(owner)
            if sizes_of(patterns, guards, shapes) is None:
                raise OtherSizes
            if recorder.kept_variables:
                given = [x for x, i in zip(leaves, infos, strict=True) if i.kind in ("tensor", "scalar")]
                arrays = [x._a if type(x) is Tensor else np.asarray(x) for x in given]
                give_birth(trace, recorder.kept_variables, arrays)
                memory.count_births()
    finally:
        context.trace, context.tapes = outside  # an interrupt may have come while a block gave them back
        recorder.restore()
        if around is None:
            running.pop(thread, None)
        else:
            running[thread] = around
        hooks.decision, hooks.freeze, hooks.sizes, hooks.open = before
    written = [trace.value(trace.env[id(v)]) for v in trace.written()]
    results += taken
    graph = trace.builder.finish(function.__name__, [*results, *written])
    if newest() != sizes_before and untold(graph):
        said = "a size that only a branch or a step of a loop finds out is needed outside of it"
        raise locate(ConversionError(said, remedy="reduce the tensor there, or let it keep its shape"))
    parts = parts_of(trace, infos, graph, len(results))
    made = Concrete(function, kinds, patterns, parts, out, outputs, guards, (time.perf_counter() - t0) * 1e3, reason)
    unseen = structure.shared or any(type(k.detail) is StaticArray for k in kinds)
    made.in_backward, made.unasked, made.detached = trace.in_backward, trace.unasked, recorder.detached
    made.taken, made.apart = fitting, recorder.apart
    made.only_python = unseen or recorder.asks_identity or recorder.apart is not None
    recorder.told_apart.clear()
    del args, kwargs  # objects made for this trace: what was read from them is no guard
    made.reads = log.finish([x.value.get for x in infos if x.value is not None and x.value.weak])
    if effects is not None:
        made.effects, made.returns = effects, Returns("tuple", tuple(range(len(results))))
        made.once = bool(recorder.kept_variables)
        made.executable.whole = True
    return made


entries.add(_attempt.__code__)


def _frozen(open_by: str, fitting: Taken, kinds: tuple[Kind, ...], patterns: list[tuple], d: Dim) -> int:
    """Python needs a size as a number: the next trace is for that number, unless all of them are to have one."""
    refuse_found(d)
    if not d.symbols & hooks.open:
        raise NeedStatic(set(), d.symbols)
    tensors = [fitting.told(i) for i, kind in enumerate(kinds) if kind.kind == "tensor"]
    axes = [f"axis {j} of {tensors[k]}" for k, j in axes_of(patterns, d.symbols & hooks.open)]
    raise locate(
        TracedValueError(
            f"Python needs the value of a size that {open_by} leaves open: {', '.join(axes)}",
            remedy="give that size a number there, or do with tensor operations what needs it (tj.range in loops)",
        )
    )


def _parameters(
    trace: Trace, leaves: list, kinds: tuple, patterns: list[tuple], fitting: Taken
) -> tuple[list[Leaf], list[Any]]:
    """What the argument leaves are in the trace: parameters for tensors and numbers, else the objects themselves."""
    infos: list[Leaf] = []
    args: list[Any] = []
    k = 0
    for i, (x, kind) in enumerate(zip(leaves, kinds, strict=True)):
        if kind.kind == "tensor":
            a = x._a if type(x) is Tensor else np.asarray(x)
            args.append(trace.param(TensorType(as_dtype(a.dtype), patterns[k]), functools.partial(fitting.told, i)))
            infos.append(Leaf("tensor", k))
            k += 1
        elif kind.kind == "scalar":
            number = TensorType(float64 if type(x) is float else int32, (), True)
            t = trace.param(number, functools.partial(fitting.told, i))
            trace.scalars[t._a] = i
            limits = trace.numbers.setdefault(t._a, Limits(x)) if type(x) is int else None
            infos.append(Leaf("scalar", k, type(x), limits=limits))
            # arithmetic among Python integers must not overflow where Python's does not
            wide = (("dtype", int64), ("weak", True))
            args.append(t if type(x) is float else trace.emit(OPS["cast"], (t._a,), wide))
            k += 1
        else:
            infos.append(Leaf(kind.kind, value=kind.detail))
            array = type(kind.detail) is StaticArray
            args.append(kind.detail.value if array else x.value if type(x) is Default else x)
    return infos, args


def _results(trace: Trace, leaves: list, returned: Returned | None) -> tuple[list[Value], list[Any]]:
    """The graph's results, and the leaves of what the function returned with a mark in the place of each."""
    results: list[Value] = []

    def one(x: Any) -> Any:
        if type(x) is Optional:
            results.append(trace.value(x.flag))
            parts, s = tree.flatten(x.value)
            return _Perhaps(s, [one(y) for y in parts])
        if isinstance(x, (Dim, Tensor)) and (found := number(trace, x)) is not None:
            results.append(found[1])
            return found[0]
        if not isinstance(x, Operand):
            if returned is None or not holds_traced(x, returned.given):
                return x
            made, values = returned.leaf(x)
            results.extend(values)
            return made
        results.append(trace.value(strong(x if type(x) is Tensor else trace.read(x))))  # type: ignore[arg-type]
        return _OUT

    outputs = [one(x) for x in leaves]
    return results, outputs
