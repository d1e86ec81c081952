"""@function: traces a Python function once per kind of arguments and runs the compiled graph from then on."""

from __future__ import annotations

import copy
import inspect
import itertools
import sys
import threading
import types as pytypes
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.arguments import Arguments, TensorSpec, as_eager, kinds_of
from tracejit.autograph import operators, places
from tracejit.autograph.attempts import Memory
from tracejit.autograph.convert import unconverted
from tracejit.autograph.effects import Effects
from tracejit.autograph.failures import recursion_explained
from tracejit.autograph.varying import varying
from tracejit.concrete import Executable
from tracejit.config import eagerly
from tracejit.context import context
from tracejit.differentiate import record_call
from tracejit.errors import (
    ArgumentError,
    ConversionError,
    ConversionWarning,
    Faults,
    RetracingWarning,
    SignatureError,
    TracedValueError,
    hide_frames,
    locate,
    user_depth,
    without_frames,
)
from tracejit.explain import explain, stats
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph
from tracejit.ir.types import as_dtype
from tracejit.passes.match import level
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.executor import prepare
from tracejit.symbols import from_specs, why, widened
from tracejit.tensor import Tensor, wrap
from tracejit.tracer import Concrete, trace_once
from tracejit.tracing import NeedStatic

TRACES = 64  # traces that a function keeps; those that were used least recently are forgotten
MANY_TRACES = 24  # traces at which a warning says why there are so many
NATIVE_PLANS = 32  # plans that a call tries natively


class _Methods:
    """The traced methods of one instance, by the function in its class. Copies of the instance begin without any."""

    def __init__(self) -> None:
        self.of: dict[tuple[Function, int], Function] = {}

    def __deepcopy__(self, memo: dict) -> _Methods:
        return _Methods()

    def __reduce__(self) -> tuple[type, tuple]:
        return _Methods, ()


class Function(NativeCallable):
    """A Python function that is traced and compiled. Made by `@tj.function`."""

    def __init__(
        self, python: Callable[..., Any], input_signature: Any, numerics: str, name: str | None,
        autograph: bool = True, strict: bool = False,
    ) -> None:  # fmt: skip
        self.python_function = python
        self.autograph, self.strict = autograph, strict
        self.numerics = numerics
        self.__name__: str = name or str(getattr(python, "__name__", type(python).__name__))
        self.__doc__ = python.__doc__
        self.__wrapped__ = python
        self.__module__ = getattr(python, "__module__", "")
        self.__qualname__ = getattr(python, "__qualname__", self.__name__)
        self._arguments = Arguments(python, input_signature, self.__name__)
        self.input_signature = self._arguments.input_signature
        self.traces: dict[tuple, list[Concrete]] = {}
        self._static: dict[Any, set[int]] = {}
        self._fixed: dict[Any, set[tuple[int, int]]] = {}
        self._lock = threading.RLock()
        self._clock = itertools.count()
        self._forms: dict[tuple, Any] = {}
        self._tracing_count = 0
        self.memories: dict[tuple, Memory] = {}  # what attempts at traces have found out
        self.faults = Faults(self.__name__)
        self._unstaged: ConversionError | None = None  # why it runs as plain Python

    @property
    def _signature(self) -> inspect.Signature | None:
        return self._arguments.signature

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method, a function of its own for each instance, kept with the instance and collected with it."""
        if instance is None:
            return self
        try:
            kept = instance.__dict__.setdefault("_traced_methods", _Methods()).of
        except (AttributeError, TypeError):  # no place to keep anything
            return pytypes.MethodType(self, instance)
        key = (self, id(instance))  # a shallow copy shares what is kept
        found = kept.get(key)
        if found is None or found.python_function.__self__ is not instance:  # type: ignore[attr-defined]
            method = pytypes.MethodType(self.python_function, instance)
            found = kept[key] = Function(*self._made_of(method))
        return found

    def __repr__(self) -> str:
        return f"<tj.function {self.__qualname__}>"

    # --- copies: they are traced anew, and what the function is bound to is copied with it ----------------------------
    def __reduce__(self) -> str | tuple[Callable[..., Any], tuple]:
        m = self.python_function
        if isinstance(m, pytypes.MethodType):
            of_class = inspect.getattr_static(type(m.__self__), m.__name__, None)
            if isinstance(of_class, Function) and of_class.python_function is m.__func__:
                return getattr, (m.__self__, m.__name__)
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (Function, self._made_of(self.python_function))

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memo: dict) -> Function:
        python = copy.deepcopy(self.python_function, memo)
        return self if python is self.python_function else Function(*self._made_of(python))

    def _made_of(self, python: Callable[..., Any]) -> tuple[Callable[..., Any], Any, str, str, bool, bool]:
        return python, self.input_signature, self.numerics, self.__name__, self.autograph, self.strict

    # --- calling ------------------------------------------------------------------------------------------------------
    def _slow(self, *args: Any, **kwargs: Any) -> Any:
        """A call that no native plan takes: keywords, nests, new kinds of arguments, tapes, traces around."""
        try:
            if context.trace is not None:
                return self.traced_function()(*args, **kwargs)
            if eagerly():
                return self.python_function(*args, **kwargs)
            return self._call(args, kwargs)
        except Exception as e:
            hide_frames(e)
            raise

    def traced_function(self) -> Callable[..., Any]:
        """What runs while it is traced."""
        if self.autograph:
            return operators.callee(self.python_function)  # type: ignore[no-any-return]
        return unconverted(self.python_function, "traced with autograph=False")

    def _call(self, args: tuple, kwargs: dict) -> Any:
        leaves, structure = self._arguments.flatten(args, kwargs)
        try:
            if self._unstaged is not None:
                return self._as_python(leaves, structure)
            concrete, inputs, sizes = self._find(leaves, structure)
        except ConversionError as e:
            if self.strict:
                raise
            self._give_up(e)
            return self._as_python(leaves, structure)
        concrete.calls += 1
        if concrete.effects is not None:
            given = self._arguments.bound(args, kwargs) if concrete.effects.on_arguments else None
            return self._with_effects(concrete, concrete.effects, inputs, sizes, leaves, given)
        if context.tapes:
            return concrete.rebuild(record_call(concrete, inputs, sizes))
        exe = concrete.executable
        plan = exe.plan(sizes, concrete.returns)
        if plan is not None and concrete.reads is not None:
            concrete.reads.arm()
        result = exe.run(plan, _plan_leaves(concrete, leaves))
        if result is NotImplemented:
            return concrete.rebuild(_interpreted(exe, inputs))
        self._remember(concrete, plan, args, kwargs, leaves)
        return result

    def _with_effects(
        self, concrete: Concrete, effects: Effects, inputs: list[Any], sizes: dict[str, int], leaves: list, given: Any
    ) -> Any:
        """A call that changes Python objects: what it does to them follows when it has succeeded."""
        if concrete.once:
            self._drop(concrete)
        with effects.lock:
            effects.begin()
            if context.tapes:
                outputs: Any = record_call(concrete, inputs, sizes)
            else:
                exe = concrete.executable
                outputs = exe.run(exe.plan(sizes, concrete.returns), _plan_leaves(concrete, leaves))
                if outputs is NotImplemented:
                    outputs = _interpreted(exe, inputs)
            effects.end(outputs[len(outputs) - effects.outputs :], given)
        return concrete.rebuild(outputs)

    def _drop(self, concrete: Concrete) -> None:
        """A trace that makes Variables is for one call: the next finds them, or makes others."""
        with self._lock:
            self.traces = {k: rest for k, cs in self.traces.items() if (rest := [c for c in cs if c is not concrete])}

    def _remember(self, concrete: Concrete, plan: Any, args: tuple, kwargs: dict, leaves: list) -> None:
        """Let native code take the next call of this form."""
        form = self._arguments.form(args, kwargs)
        if form is None:
            return
        plain = not kwargs and form.args == tuple(range(len(leaves)))
        seen = (id(plan), repr(form))
        plans = self.plans
        source, known = self._forms.get(seen, (None, None))
        if source is plan and any(p is known for p in plans):
            return
        plans = tuple([p for p in plans if p.guards is None or not p.guards.ended])
        try:
            ready = (plan if plain else plan.called_as(form)).guarded(concrete.reads)
        except ArgumentError:
            return  # a form that native code does not take: such calls go on through here
        self._forms = {k: p for k, p in self._forms.items() if any(p[1] is q for q in plans)}
        self._forms[seen] = plan, ready
        self.set_plans((ready, *plans[: NATIVE_PLANS - 1]))

    def _give_up(self, error: ConversionError) -> None:
        """Run as plain Python from now on. Where warnings are errors, the error it is."""
        hide_frames(error)
        self._unstaged = error
        try:
            shown = error.where[0].show() if error.where else []
            remedy = error.remedy or "write it with tj.cond, tj.while_loop or tj.where"
            lines = [f"{self.__name__} runs as plain Python: {error.message}", *shown, f"  remedy: {remedy}"]
            warnings.warn("\n".join(lines), ConversionWarning, stacklevel=user_depth())
        except ConversionWarning:
            self._unstaged = None
            raise error from None

    def _as_python(self, leaves: list, structure: Any) -> Any:
        """The call as plain Python, with tensors where the trace has tensors."""
        args, kwargs = tree.unflatten(structure, [as_eager(x) for x in leaves])
        return self.python_function(*args, **kwargs)

    # --- traces -------------------------------------------------------------------------------------------------------
    def _find(
        self, leaves: list, structure: Any, specs: dict[int, TensorSpec] | None = None
    ) -> tuple[Concrete, list[Any], dict[str, int]]:
        """The trace for these leaves, made if need be; `specs` says which of them only stand for such tensors."""
        while True:
            kinds, shapes, inputs = kinds_of(leaves, self._static.get(structure, ()))
            key = (structure, kinds)
            wanted = [specs.get(id(x)) for x in inputs] if specs else None
            with self._lock:
                for c in self.traces.get(key, ()):
                    sizes = c.sizes(shapes)
                    if sizes is not None and (wanted is None or c.is_open(wanted)) and c.still_holds():
                        c.used = next(self._clock)
                        return c, inputs, sizes
                try:
                    c = self._trace(key, leaves, structure, kinds, shapes, wanted)
                except NeedStatic as need:
                    self._static.setdefault(structure, set()).update(need.params)
                    continue
                self._keep(key, c)
                sizes = c.sizes(shapes)
                assert sizes is not None
                return c, inputs, sizes

    def _keep(self, key: tuple, c: Concrete) -> None:
        """Add a trace, and forget those whose objects are gone."""
        self.traces.setdefault(key, []).append(c)
        c.used = next(self._clock)
        for k, kept in list(self.traces.items()):
            kept[:] = [x for x in kept if x is c or x.reads is None or not x.reads.ended]
            if not kept:
                self._forget(k)
        if len(self.concrete_functions) > TRACES:
            oldest = min(self.traces, key=lambda k: min(x.used for x in self.traces[k]))
            kept = self.traces[oldest]
            kept.remove(min(kept, key=lambda x: x.used))
            if not kept:
                self._forget(oldest)
        if self._tracing_count == MANY_TRACES:
            text = (
                f"{self.__name__} has been traced {MANY_TRACES} times, and each trace takes milliseconds; "
                f"the latest because: {c.reason}\n"
                "  remedy: pass tensors instead of Python objects made anew for each call, or give an input_signature"
            )
            warnings.warn(text, RetracingWarning, stacklevel=user_depth())

    def _forget(self, key: tuple) -> None:
        del self.traces[key]
        self._fixed.pop(key, None)
        self.memories.pop(key, None)

    def _patterns(
        self, key: tuple, shapes: list[tuple], fixed: set[tuple[int, int]], wanted: list[TensorSpec | None] | None
    ) -> tuple[list[tuple], str]:
        """Shapes for a new trace: where an earlier trace of this key differs, the size becomes a symbol."""
        if self.input_signature is not None:
            return from_specs(shapes, tree.flatten(self.input_signature)[0]), "input_signature"
        if wanted is not None:
            return from_specs(shapes, wanted), "get_concrete_function"
        earlier = self.traces.get(key, ())
        if not earlier:
            return [tuple(s) for s in shapes], "first call" if not self.traces else why(self.traces, key)
        stale = [c for c in earlier if c.sizes(shapes) is not None]
        if stale:
            stale.sort(key=lambda c: c.used)
            latest = stale[-1]
            self.memories[key].varying |= varying([c.reads for c in stale if c.reads is not None])
            changes = latest.reads.changes() if latest.reads is not None else []
            return latest.shapes, "; ".join(changes[:3]) or "a value that the function changes has another type"
        return widened(earlier[-1].shapes, shapes, fixed)

    def _trace(
        self, key: tuple, leaves: list, structure: Any, kinds: tuple, shapes: list[tuple],
        wanted: list[TensorSpec | None] | None,
    ) -> Concrete:  # fmt: skip
        fixed = self._fixed.setdefault(key, set())
        while True:
            patterns, reason = self._patterns(key, shapes, fixed, wanted)
            try:
                with places.attempt(), recursion_explained():
                    made = trace_once(self, leaves, structure, kinds, patterns, reason)
                self._tracing_count += 1
                return made
            except NeedStatic as need:
                if not need.symbols:
                    raise
                hit = {
                    (i, j) for i, p in enumerate(patterns) for j, d in enumerate(p)
                    if isinstance(d, Dim) and d.symbols & need.symbols
                }  # fmt: skip
                if hit <= fixed or wanted is not None or self.input_signature is not None:
                    raise locate(
                        TracedValueError(f"the function needs the value of a size that {reason} leaves open")
                    ) from None
                fixed |= hit

    # --- what users see -----------------------------------------------------------------------------------------------
    @without_frames
    def get_concrete_function(self, *args: Any, **kwargs: Any) -> Concrete:
        """The trace for arguments like these; a `TensorSpec` stands for a tensor of that shape and dtype."""
        specs: dict[int, TensorSpec] = {}

        def example(x: Any) -> Any:
            if not isinstance(x, TensorSpec):
                return x
            t = wrap(np.zeros([2 if d is None or isinstance(d, str) else d for d in x.shape], x.dtype.np))
            specs[id(t)] = x
            return t

        args, kwargs = tree.map_structure(example, (args, kwargs))
        leaves, structure = self._arguments.flatten(args, kwargs)
        return self._find(leaves, structure, specs)[0]

    @without_frames
    def graph(self, *args: Any, stage: str = "traced", **kwargs: Any) -> Graph:
        """The graph for arguments like these: `stage` is "traced", "optimized" or "prepared" (as fusion takes it)."""
        c = self.get_concrete_function(*args, **kwargs)
        if stage == "traced":
            return c.parts.graph
        if stage == "optimized":
            return c.executable.optimized
        if stage == "prepared":
            return c.executable.prepared
        raise locate(ArgumentError(f"stage is 'traced', 'optimized' or 'prepared', not {stage!r}"))

    def experimental_get_tracing_count(self) -> int:
        """How often the Python function was traced."""
        return self._tracing_count

    @property
    def concrete_functions(self) -> list[Concrete]:
        return [c for cs in self.traces.values() for c in cs]

    def stats(self) -> dict[str, Any]:
        """Numbers about the latest trace: milliseconds of tracing and compiling, nodes, kernels unfused and fused."""
        cs = self.concrete_functions
        return stats(cs[-1], self._tracing_count) if cs else {"traces": 0}

    @without_frames
    def explain(self, *args: Any, **kwargs: Any) -> str:
        """What became of the function for arguments like these: graph, rewrites, kernels, plan."""
        return explain(self.get_concrete_function(*args, **kwargs))

    @without_frames
    def source(self, *args: Any, **kwargs: Any) -> str:
        """The program for arguments like these as a Python module: kernels for Numba, and `main`, which calls them."""
        from tracejit.backends import numba_source

        return numba_source.source(self.get_concrete_function(*args, **kwargs)).text


def _interpreted(exe: Executable, inputs: list[Any]) -> list[Tensor]:
    """The outputs of a program that native code does not run."""
    out, new = exe.interpret(exe.all_arrays([_array(x) for x in inputs]))
    for v, a in zip(exe.parts.writes, new, strict=True):
        v._a = a
    return out


def _array(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return x._a
    return np.asarray(x, np.float64 if type(x) is float else np.int64 if type(x) is int else None)


def _plan_leaves(c: Concrete, leaves: list) -> list:
    """Argument leaves as plans take them: plain contiguous arrays."""
    out = []
    for x, info in zip(leaves, c.parts.leaves, strict=True):
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


_TENSORFLOWS = {
    "experimental_implements", "experimental_autograph_options", "experimental_attributes", "experimental_relax_shapes",
    "experimental_compile", "experimental_follow_type_hints",
}  # fmt: skip


def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    *,
    numerics: str = "finite",
    name: str | None = None,
    autograph: bool = True,
    strict: bool = False,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    **others: Any,
) -> Any:
    """Compile a function of tensors: traced once per dtype, rank and structure of its arguments, then run natively.

    Parameters
    ----------
    func : the function; without it, a decorator is returned
    input_signature : `TensorSpec`s (or nests of them); sizes given as None or by name do not retrace, but for 0 and 1
    numerics : how far simplifications may go: "exact" (bit by bit), "finite" (equal on finite values), "fast"
    autograph : convert Python's control flow, here and in the functions called; if False, decisions about tensors have
        to be written with `tj.cond`, `tj.while_loop` or `tj.where`
    strict : raise `ConversionError` for what cannot be compiled, where else the function runs as plain Python, with one
        warning
    jit_compile, reduce_retracing : taken for TensorFlow's sake; every function is compiled, and sizes that change
        become symbols by themselves

    Python numbers are inputs unless they steer Python control flow; other Python values are part of the trace's key.
    Globals, closure variables, attributes and items that the function reads are remembered: when one has changed, the
    next call traces anew, and `explain` says what it was. NumPy arrays from outside are inputs.
    What the function does to Python objects (it appends to a list, sets an attribute, global or item) happens after
    each call that succeeds, in order; numbers and tensors that it reads and writes there go on from call to call.
    Variables that it makes are kept where it keeps them; others are new in each call.
    Raises what the function raises while it is traced; a failed call changes no Variable and no object. At most 64
    traces are kept, those that were used last.
    """
    if unknown := others.keys() - _TENSORFLOWS:
        raise locate(SignatureError(f"tj.function has no parameter {sorted(unknown)[0]!r}"))
    try:
        level(numerics)
    except (KeyError, AttributeError):
        raise locate(ArgumentError(f"numerics is 'exact', 'finite' or 'fast', not {numerics!r}")) from None
    prepare()

    def make(f: Any) -> Any:
        if isinstance(f, (staticmethod, classmethod)):
            return type(f)(make(f.__func__))
        if not callable(f):
            raise locate(SignatureError(f"tj.function takes a function, not {type(f).__name__}"))
        return Function(f, input_signature, numerics, name, autograph, strict)

    return make if func is None else make(func)
