"""A traced graph made ready to run: optimized, lowered once, bound to sizes as plans, differentiated as a graph."""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracejit import forks
from tracejit.autograph.effects import Moving
from tracejit.backends import reference
from tracejit.config import config
from tracejit.errors import ControlFlowError, Faults, TracejitError, ends_inside
from tracejit.intervals import Limits
from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Graph, Value
from tracejit.ir.sizes import size_at
from tracejit.ir.text import walk
from tracejit.ir.types import as_dtype, canonical
from tracejit.lower.exhausted import exhausted
from tracejit.lower.found import RUNNERS, received
from tracejit.lower.program import Program, State
from tracejit.passes.found_fit import misfit
from tracejit.passes.pipeline import optimize, prepare
from tracejit.passes.simplify import Report
from tracejit.passes.stretched import meeting, unstretched
from tracejit.runtime import memory, threads
from tracejit.runtime.interrupts import hold
from tracejit.runtime.records import Argument, Constant, Host, Returns, ScalarArg, StaticArg, StepRecord, TensorArg
from tracejit.tensor import Tensor, Variable, wrap
from tracejit.tracing import Trace, constant, dim

PLANS = 1024  # sizes for which a function keeps a plan
PLANS_OF_PARTS = 512  # and a part of a program whose sizes it finds out


@dataclass
class Timing:
    """What making a function ready took, in milliseconds."""

    trace_ms: float = 0.0
    optimize_ms: float = 0.0
    lower_ms: float = 0.0
    compile_ms: float = 0.0


@dataclass(frozen=True)
class Leaf:
    """How an argument leaf enters: "tensor", "scalar" (a Python number as an input), "static" or "variable".

    `value` is the object of the last two, as the trace's key has it.
    """

    kind: str
    param: int = -1
    python: type | None = None
    value: Any = None
    limits: Limits | None = None  # of an integer


    @property
    def narrowed(self) -> tuple[int, ...]:
        """Its limits, where they are not all that an input may be."""
        return (self.limits.low, self.limits.high) if self.limits is not None and self.limits.narrowed else ()


@dataclass
class Parts:
    """A traced graph with the meaning of its parameters and results.

    graph     parameters: leaves that are inputs, then captures, then Variables; results: outputs, then new values
    leaves    one per argument leaf
    captures  (parameter, array) for arrays from outside
    reads     (parameter, Variable); `writes`: Variables in the order of the last results
    """

    graph: Graph
    leaves: list[Leaf]
    captures: list[tuple[Value, Any]]
    reads: list[tuple[Value, Variable]]
    writes: list[Variable]
    outputs: int
    merged: list[Any] = field(default_factory=list)  # equal operations that the trace made one
    notes: list[str] = field(default_factory=list)  # where branches and loops promote


def parts_of(trace: Trace, leaves: list[Leaf], graph: Graph, outputs: int) -> Parts:
    captures = [(t._a, owner) for owner, t in trace.captures.values()]
    reads = [(t._a, v) for v, t in trace.reads.values()]
    return Parts(graph, leaves, captures, reads, trace.written(), outputs, trace.builder.merged, list(trace.notes))


def array_of(owner: Any) -> np.ndarray:
    return owner._a if isinstance(owner, (Tensor, Moving)) else canonical(owner)


class Executable:
    """A graph that runs: natively, or in the reference interpreter when it cannot be compiled."""

    def __init__(self, parts: Parts, numerics: str, faults: Faults, optimized: Graph | None = None) -> None:
        self.parts, self.numerics, self.faults = parts, numerics, faults
        self.timing = Timing()
        self.report = Report()
        for op, first, second in parts.merged:
            self.report.merge(op.name, first, second)
        self.program: Any = None
        self.error: Exception | None = None
        self.whole = False  # whether effects follow each call, from the first new value of a Variable on
        self._lock = forks.rlock()
        self.plans: OrderedDict[tuple, Any] = OrderedDict()
        self.most = PLANS
        self.symbols = sorted({s for p in parts.graph.params for d in p.shape if isinstance(d, Dim) for s in d.symbols})
        t0 = time.perf_counter()
        try:
            self.optimized = optimize(parts.graph, numerics, self.report) if optimized is None else optimized
        except Exception as e:
            self.fail(e)
            self.optimized = parts.graph
        self.prepared = self.optimized
        self.timing.optimize_ms = (time.perf_counter() - t0) * 1e3
        if self.error is None:
            self._lower()

    def fail(self, error: Exception) -> None:
        """Run in the interpreter from now on, whatever the reason; with `config.check` on, raise it."""
        if config.check or isinstance(error, MemoryError):
            raise error
        self.error, self.program = error, None
        self.faults.add(error)

    def _lower(self) -> None:
        t0 = time.perf_counter()
        try:
            self.prepared = prepare(self.optimized, self.numerics)
            index = {p: i for i, p in enumerate(self.parts.graph.params)}
            mine = self.prepared.params
            results = self.prepared.results
            write = {id(v): results[self.parts.outputs + i] for i, v in enumerate(self.parts.writes)}
            states = [State(v, mine[index[p]], write.get(id(v))) for p, v in self.parts.reads]
            self.program = Program(self.prepared, self.parts.outputs, states)
            self.timing.compile_ms = self.program.compiled.milliseconds
            self.timing.lower_ms = (time.perf_counter() - t0) * 1e3 - self.timing.compile_ms
        except Exception as e:
            self.fail(e)

    # --- plans --------------------------------------------------------------------------------------------------------
    def plan(self, sizes: Mapping[str, int], returns: Returns) -> Any:
        """The plan for these sizes, made at the first use; None if there is none and the interpreter has to run."""
        if self.program is None:
            return None
        key = (tuple(sizes[s] for s in self.symbols), threads.get_threads())
        with self._lock:
            found = self.plans.get(key)
            if found is None:
                try:
                    found = self._bind(sizes, returns)
                except OverflowError:
                    raise exhausted(self.optimized, sizes) from None
                except Exception as e:
                    self.fail(e)
                    return None
                self.plans[key] = found
                if len(self.plans) > self.most:
                    self.plans.popitem(last=False)
            else:
                self.plans.move_to_end(key)
            return found

    def _bind(self, sizes: Mapping[str, int], returns: Returns) -> Any:
        params = self.prepared.params
        old = self.parts.graph.params
        index = {p: i for i, p in enumerate(old)}

        def arguments(b: Any) -> list[Argument]:
            out: list[Argument] = []
            for leaf in self.parts.leaves:
                if leaf.kind in ("static", "variable"):
                    out.append(StaticArg(leaf.value.get if leaf.value.weak else leaf.value.value, leaf.value.weak))
                    continue
                p = params[leaf.param]
                if leaf.kind == "scalar":
                    assert leaf.python is not None
                    out.append(ScalarArg(b.slot(p), leaf.python, p.dtype.np, *leaf.narrowed))
                else:
                    out.append(TensorArg(b.slot(p), p.dtype.np, tuple(size_at(d, sizes) for d in p.shape)))
            return out

        constants = {}
        keep = []
        refresh: list[StepRecord] = []
        for p, owner in self.parts.captures:
            a = owner._a if isinstance(owner, (Tensor, Moving)) else owner
            if not (a.flags.c_contiguous and a.flags.aligned and a.dtype.isnative):
                a = np.array(a, p.dtype.np, order="C", subok=False)
                if not isinstance(owner, Tensor):  # the user may write to it between calls
                    refresh.append(Host(functools.partial(_copy_again, a, owner)))
            keep.append(a)
            constants[params[index[p]]] = a.ctypes.data
        for n in [n for g in walk(self.prepared, "sized") for n in g.nodes]:
            if n.op is constant and n.attr("value").array is not None:
                a = np.ascontiguousarray(n.attr("value").array)
            elif n.op is dim:
                a = np.array(size_at(n.attr("size"), sizes), n.out.dtype.np)
            else:
                continue
            keep.append(a)
            constants[n.out] = a.ctypes.data

        def result(b: Any) -> Returns:
            found = frozenset(i for i, r in enumerate(b.p.results) if r in b.kept)
            if not found:
                return returns
            return Returns("call", tuple(range(len(b.p.results))), functools.partial(_received, returns, found))

        plan = self.program.bind(sizes, arguments, constants, result, _unshare, keep, hold if self.whole else None)
        return plan.preceded_by(refresh) if refresh else plan

    def run(self, plan: Any, leaves: Sequence[Any]) -> Any:
        """What a plan gives for the leaves; NotImplemented where the interpreter has to run."""
        try:
            out = NotImplemented if plan is None else plan.run(leaves)
        except MemoryError as e:
            if isinstance(e, TracejitError) or not ends_inside(e.__traceback__):
                raise
            sizes = next((k[0] for k, p in self.plans.items() if p is plan), None)
            raise exhausted(self.optimized, dict(zip(self.symbols, sizes or ()))) from None
        if out is NotImplemented and plan is not None:
            self.fail(AssertionError(f"a plan does not fit the arguments that it was made for\n{plan.describe()}"))
        return out

    # --- running ------------------------------------------------------------------------------------------------------
    def sizes_of(self, arrays: Sequence[Any]) -> dict[str, int]:
        return reference.bind(self.parts.graph, arrays) if self.symbols else {}

    def interpret(self, arrays: Sequence[np.ndarray]) -> tuple[list[Tensor], list[np.ndarray]]:
        """Outputs and new values of Variables from the reference interpreter."""
        out = reference.run(self.optimized, list(arrays))
        n = self.parts.outputs
        return [wrap(np.array(a)) for a in out[:n]], [np.array(a, order="C") for a in out[n:]]

    def all_arrays(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays for all parameters of the graph, given those of the argument leaves."""
        index = {p: i for i, p in enumerate(self.parts.graph.params)}
        out: list[Any] = [*inputs, *[None] * (len(index) - len(inputs))]
        for p, o in self.parts.captures:
            out[index[p]] = array_of(o)
        for p, v in self.parts.reads:
            out[index[p]] = v._a
        return out


def interpreted(exe: Executable, inputs: list[Any]) -> list[Tensor]:
    """The outputs of a program that native code does not run."""
    out, new = exe.interpret(exe.all_arrays([_array(x) for x in inputs]))
    if exe.whole:
        hold()
    for v, a in zip(exe.parts.writes, new, strict=True):
        v._a = a
    return out


def _array(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return x._a
    return np.asarray(x, np.float64 if type(x) is float else np.int64 if type(x) is int else None)


def plan_leaves(parts: Parts, leaves: list) -> list:
    """Argument leaves as plans take them: plain contiguous arrays."""
    out = []
    for x, info in zip(leaves, parts.leaves, strict=True):
        if info.kind == "tensor":
            a = x._a if type(x) is Tensor else np.asarray(x)
            if type(a) is not np.ndarray or not (a.flags.c_contiguous and a.flags.aligned):
                a = np.array(a, order="C", copy=True, subok=False)
            d = as_dtype(a.dtype).np
            out.append(a if a.dtype is d else a.astype(d))
        elif info.kind == "static":
            out.append(info.value.value)
        else:
            out.append(x)
    return out


def _received(returns: Returns, found: frozenset[int], items: tuple[Any, ...]) -> Any:
    """The function's result, with the arrays whose sizes the program has found out behind their handles."""
    tensors = [wrap(received(int(t._a))) if i in found else t for i, t in enumerate(items)]
    made = tuple([i.value if isinstance(i, Constant) else tensors[i] for i in returns.items])
    if returns.finish is not None:
        return returns.finish(made)
    return {"none": None, "single": made[0] if made else None, "tuple": made, "list": list(made)}[returns.kind]


def _part_of(graph: Graph, numerics: str) -> Any:
    """A function of arrays that runs a part of a program whose sizes are known now."""
    pairs = meeting(graph)
    if not pairs:
        return _form_of(graph, numerics)
    equal, every = _form_of(unstretched(graph), numerics), functools.cache(lambda: _form_of(graph, numerics))
    answers: dict[Any, bool] = {}

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        key = tuple([a.shape for a in arrays])
        if key not in answers:
            if len(answers) > PLANS_OF_PARTS:
                answers.clear()
            known = reference.bind(graph, arrays)
            told = all(symbols_in((d, e)) <= known.keys() for d, e in pairs)  # not what the part finds out itself
            answers[key] = told and all(size_at(d, known) == size_at(e, known) for d, e in pairs)
        return (equal if answers[key] else every())(arrays)  # type: ignore[no-any-return]

    return run


def _form_of(graph: Graph, numerics: str) -> Any:
    """The same for a form of the part."""
    exe = graph_executable(graph, numerics.lower(), Faults(graph.name), optimized=True)
    exe.most = PLANS_OF_PARTS
    plans: OrderedDict[Any, Any] = OrderedDict()  # by all shapes, so that nothing has to be worked out

    def refused(wrong: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the checks of a part say of sizes that it does not go with, or its results where it does not need it."""
        known = exe.sizes_of(arrays)
        try:
            out = [np.array(a) for a in reference.run(graph, list(arrays))]
        except (ValueError, IndexError) as e:
            if type(e).__module__.startswith("tracejit"):
                raise
            out = None
        if out is None or isinstance(wrong, Dim) or wrong in graph.nodes:
            said = f"is {size_at(wrong, known)}: {wrong}" if isinstance(wrong, Dim) else f"does not fit {wrong.op.name}"
            raise ControlFlowError(f"a size that was found when the function ran {said}")
        return out

    returns = Returns("tuple", tuple(range(len(graph.results))))

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        key = (threads.get_threads(), *[a.shape for a in arrays])
        plan = plans.get(key)
        if plan is None or exe.program is None:
            known = exe.sizes_of(arrays)
            wrong = misfit(graph, known)
            if wrong is not None:
                return refused(wrong, arrays)
            plans[key] = plan = exe.plan(known, returns)
            if len(plans) > PLANS_OF_PARTS:
                plans.popitem(last=False)
        ready = [a if a.flags.c_contiguous and a.flags.aligned else np.array(a, order="C") for a in arrays]
        out = exe.run(plan, ready)
        return [t._a for t in (exe.interpret(arrays)[0] if out is NotImplemented else out)]

    return run


RUNNERS.append(_part_of)


def _copy_again(to: np.ndarray, source: np.ndarray, frame: int) -> None:
    to[...] = source


def _unshare(v: Variable) -> None:
    """Give a Variable an array of its own before native code writes to it."""
    new = memory.empty(v._a.shape, v._a.dtype)
    new[...] = v._a
    v._a = new


def graph_executable(graph: Graph, numerics: str, faults: Faults, optimized: bool = False) -> Executable:
    """An executable of a graph that has no Variables: every parameter is an argument."""
    leaves = [Leaf("tensor", i) for i in range(len(graph.params))]
    parts = Parts(graph, leaves, [], [], [], len(graph.results))
    return Executable(parts, numerics, faults, graph if optimized else None)


def run_flat(exe: Executable, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run an executable without Variables on tensors; results as a tuple."""
    arrays = [t._a for t in tensors]
    returns = Returns("tuple", tuple(range(exe.parts.outputs)))
    plan = exe.plan(exe.sizes_of(arrays), returns)
    ready = [a if a.flags.c_contiguous and a.flags.aligned else np.array(a, order="C") for a in arrays]
    out = exe.run(plan, ready)
    return tuple(exe.interpret(arrays)[0] if out is NotImplemented else out)
