"""@function: traces a Python function once per kind of arguments and runs the compiled graph from then on."""

from __future__ import annotations

import enum
import functools
import inspect
import itertools
import threading
import time
import types as pytypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.concrete import Executable, Leaf, Parts, parts_of
from tracejit.config import config
from tracejit.context import context, tracing
from tracejit.differentiate import record_call
from tracejit.errors import ArgumentError, ShapeError, TracedValueError, TracejitError, ends_inside, locate, trim
from tracejit.ir.dim import Dim, hooks
from tracejit.ir.graph import Graph, Value
from tracejit.ir.op import OPS
from tracejit.ir.types import DType, TensorType, as_dtype, float32, float64, int32, int64, show_shape
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.records import Constant, Form, Returns
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap
from tracejit.tracing import NeedStatic, Trace

NATIVE_PLANS = 8  # plans that a call tries natively


class TensorSpec:
    """The dtype and shape that an argument must have; None in the shape is a size that may differ from call to call.

    A string in the shape names such a size: equal names must be equal sizes.
    """

    __slots__ = ("shape", "dtype", "name")

    def __init__(self, shape: Sequence[int | str | None] = (), dtype: Any = float32, name: str | None = None) -> None:
        self.shape, self.dtype, self.name = tuple(shape), as_dtype(dtype), name

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))


class _Static:
    """A Python object as part of a trace's key: by value where that is safe, else by identity."""

    __slots__ = ("value", "_by_value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._by_value = isinstance(
            value, (str, bytes, bool, int, float, complex, enum.Enum, DType, type(None), range, slice)
        )

    def __hash__(self) -> int:
        if isinstance(self.value, slice):
            return hash((self.value.start, self.value.stop, self.value.step))
        return hash(self.value) if self._by_value else id(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static):
            return False
        a, b = self.value, other.value
        if a is b:
            return True
        return self._by_value and type(a) is type(b) and a == b and not (a != a)

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class _Kind:
    """What a trace's key says of an argument leaf."""

    kind: str
    detail: Any

    def __repr__(self) -> str:
        return f"{self.kind} {self.detail}"


class _Default:
    """A number that an argument has by default."""

    __slots__ = ("value",)

    def __init__(self, value: int | float) -> None:
        self.value = value


def _numbers(x: Any, counter: Iterator[int]) -> Any:
    """A nest with leaves numbered as `tree.flatten` orders them. Raises TypeError for other containers."""
    t = type(x)
    if t is tuple or t is list:
        return t([_numbers(y, counter) for y in x])
    if t is dict:
        parts = {k: _numbers(x[k], counter) for k in sorted(x)}
        return {k: parts[k] for k in x}
    if tree.flatten(x)[1] is not tree.LEAF:
        raise TypeError(f"{t.__name__} is no container of native calls")
    return next(counter)


class Concrete:
    """One trace of a function: its graph, ready to run for the sizes that fit it."""

    def __init__(
        self, function: Function, kinds: tuple[_Kind, ...], shapes: list[tuple], parts: Parts, structure: Any,
        outputs: list[Any], guards: list[tuple[str, Dim, bool]], trace_ms: float, reason: str,
    ) -> None:  # fmt: skip
        self.function, self.kinds, self.shapes, self.parts = function, kinds, shapes, parts
        self.structure, self.outputs, self.guards, self.reason = structure, outputs, guards, reason
        self.executable = Executable(parts, function.numerics)
        self.executable.timing.trace_ms = trace_ms
        self.returns = self._returns()
        self.calls = 0
        self.forward: Any = None  # how it runs while tapes listen

    # --- results ------------------------------------------------------------------------------------------------------
    def _returns(self) -> Returns:
        items: list[int | Constant] = []
        k = 0
        for o in self.outputs:
            if o is _OUT:
                items.append(k)
                k += 1
            else:
                items.append(Constant(o))
        s = self.structure
        if s.kind is None:
            if items and items[0] == 0 and not isinstance(items[0], Constant):
                return Returns("single", items)
            if self.outputs[0] is None:
                return Returns("none")
        elif s.kind in (tuple, list) and all(c.kind is None for c in s.children):
            return Returns("tuple" if s.kind is tuple else "list", items)
        return Returns("call", items, functools.partial(tree.unflatten, s))

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """The function's result from its tensor leaves."""
        it = iter(tensors)
        return tree.unflatten(self.structure, [next(it) if o is _OUT else o for o in self.outputs])

    # --- fitting ------------------------------------------------------------------------------------------------------
    def sizes(self, shapes: list[tuple]) -> dict[str, int] | None:
        """The sizes of the symbols for these argument shapes, None if they do not fit."""
        sizes: dict[str, int] = {}
        for pattern, shape in zip(self.shapes, shapes, strict=True):
            for p, d in zip(pattern, shape, strict=True):
                if isinstance(p, Dim):
                    (name,) = p.symbols
                    if sizes.setdefault(name, d) != d or d < 2:
                        return None
                elif p != d:
                    return None
        for relation, dim, answer in self.guards:
            n = dim.evaluate(sizes)
            holds = {"==": n == 0, "<": n < 0, "<=": n <= 0, ">": n > 0, ">=": n >= 0}[relation]
            if holds != answer:
                return None
        return sizes

    def is_open(self, specs: Sequence[TensorSpec | None]) -> bool:
        """Whether the sizes that the specs leave open are symbols here."""
        return all(
            isinstance(p, Dim)
            for pattern, spec in zip(self.shapes, specs, strict=True)
            if spec is not None
            for p, want in zip(pattern, spec.shape, strict=True)
            if want is None or isinstance(want, str)
        )

    # --- what users see -----------------------------------------------------------------------------------------------
    @property
    def graph(self) -> Graph:
        return self.parts.graph

    @property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(v for _, v in self.parts.reads)

    trainable_variables = property(lambda self: tuple(v for v in self.variables if v.trainable))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<ConcreteFunction {self.function.__name__}({', '.join(map(repr, self.kinds))})>"


_OUT = object()


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

    def __init__(self, python: Callable[..., Any], input_signature: Any, numerics: str, name: str | None) -> None:
        self.python_function = python
        self.numerics = numerics
        self.__name__: str = name or str(getattr(python, "__name__", type(python).__name__))
        self.__doc__ = python.__doc__
        self.__wrapped__ = python
        self.__module__ = getattr(python, "__module__", "")
        self.__qualname__ = getattr(python, "__qualname__", self.__name__)
        self.input_signature = None if input_signature is None else tuple(input_signature)
        self.traces: dict[tuple, list[Concrete]] = {}
        self._static: dict[Any, set[int]] = {}
        self._fixed: dict[Any, set[tuple[int, int]]] = {}
        self._lock = threading.RLock()
        self._forms: dict[tuple, Any] = {}
        self._tracing_count = 0
        self._signature: inspect.Signature | None
        try:
            # a ufunc does not take all of its own defaults together
            self._signature = None if isinstance(python, np.ufunc) else inspect.signature(python)
        except (TypeError, ValueError):
            self._signature = None
        self._plain = self._signature is not None and all(
            p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in self._signature.parameters.values()
        )

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
            found = kept[key] = Function(method, self.input_signature, self.numerics, self.__name__)
        return found

    def __repr__(self) -> str:
        return f"<tj.function {self.__qualname__}>"

    # --- calling ------------------------------------------------------------------------------------------------------
    def _slow(self, *args: Any, **kwargs: Any) -> Any:
        """A call that no native plan takes: keywords, nests, new kinds of arguments, tapes, traces around."""
        if config.functions_run_eagerly or context.trace is not None:
            return self.python_function(*args, **kwargs)
        try:
            return self._call(args, kwargs)
        except TracejitError as e:
            raise e.with_traceback(trim(e.__traceback__)) from None
        except Exception as e:
            if not ends_inside(e.__traceback__):
                raise e.with_traceback(trim(e.__traceback__))  # noqa: B904
            raise

    def _call(self, args: tuple, kwargs: dict) -> Any:
        leaves, structure = self._flatten(args, kwargs)
        concrete, inputs, sizes = self._find(leaves, structure)
        concrete.calls += 1
        if context.tapes:
            return concrete.rebuild(record_call(concrete, inputs, sizes))
        exe = concrete.executable
        if exe.program is None:
            out, new = exe.interpret(exe.all_arrays([_array(x) for x in inputs]))
            for v, a in zip(exe.parts.writes, new, strict=True):
                v._a = a
            return concrete.rebuild(out)
        plan = exe.plan(sizes, concrete.returns)
        result = plan.run(_plan_leaves(concrete, leaves))
        if result is NotImplemented:
            raise AssertionError(
                f"{self!r}: the plan does not fit the arguments that it was made for\n{plan.describe()}"
            )
        self._remember(plan, args, kwargs, leaves)
        return result

    def _remember(self, plan: Any, args: tuple, kwargs: dict, leaves: list) -> None:
        """Let native code take the next call of this form."""
        form = self._form(args, kwargs)
        if form is None:
            return
        plain = not kwargs and form.args == tuple(range(len(leaves)))
        seen = (id(plan), repr(form))
        plans = self.plans
        if seen in self._forms and any(p is self._forms[seen] for p in plans):
            return
        try:
            plan = plan if plain else plan.called_as(form)
        except ArgumentError:
            return  # a form that native code does not take: such calls go on through here
        self._forms = {k: p for k, p in self._forms.items() if any(p is q for q in plans)}
        self._forms[seen] = plan
        self.set_plans((plan, *plans[: NATIVE_PLANS - 1]))

    def _form(self, args: tuple, kwargs: dict) -> Form | None:
        """How the leaves stand in this call, by number; None if it holds containers that native code does not know."""
        if self._signature is None:
            given, named = args, kwargs
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given, named = bound.args, bound.kwargs
        counter = itertools.count()
        try:
            numbered = [_numbers(x, counter) for x in given]
            by_name = {k: _numbers(named[k], counter) for k in sorted(named)}
        except TypeError:
            return None
        if self._signature is not None:
            names = [p.name for p in self._signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            by_name |= dict(zip(names, numbered, strict=False))
        return Form(tuple(numbered[: len(args)]), {k: by_name[k] for k in kwargs})

    def _flatten(self, args: tuple, kwargs: dict) -> tuple[list, Any]:
        """The leaves of all arguments, those by default included, and their structure."""
        if self._signature is not None and not (
            self._plain and not kwargs and len(args) == len(self._signature.parameters)
        ):
            bound = self._signature.bind(*args, **kwargs)
            given = set(bound.arguments)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
            if len(given) < len(self._signature.parameters):
                args, kwargs = self._defaults_static(given, args, kwargs)
        if self.input_signature is not None:
            args = self._to_signature(args)
        return tree.flatten((args, kwargs))

    def _defaults_static(self, given: set[str], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Numbers that come from defaults are constants: the call does not mention them."""
        assert self._signature is not None
        out = list(args)
        for i, p in enumerate(self._signature.parameters.values()):
            if p.name in given:
                continue
            if p.kind is p.POSITIONAL_OR_KEYWORD and i < len(out) and type(out[i]) in (int, float):
                out[i] = _Default(out[i])
            elif p.kind is p.KEYWORD_ONLY and type(kwargs[p.name]) in (int, float):
                kwargs = {**kwargs, p.name: _Default(kwargs[p.name])}
        return tuple(out), kwargs

    def _to_signature(self, args: tuple) -> tuple:
        assert self.input_signature is not None
        if len(args) < len(self.input_signature):
            raise ArgumentError(f"{self.__name__} takes {len(self.input_signature)} arguments, {len(args)} were given")
        out = []
        names: dict[str, tuple[int, int]] = {}
        for i, x in enumerate(args):
            if i >= len(self.input_signature):
                out.append(x)
                continue
            flat_specs, s = tree.flatten(self.input_signature[i])
            flat_x, sx = tree.flatten(x)
            if len(flat_specs) != len(flat_x):
                raise locate(ArgumentError(f"argument {i} has the structure {sx}, the signature wants {s}"))
            out.append(tree.unflatten(sx, [self._fit(v, t, i, names) for v, t in zip(flat_x, flat_specs, strict=True)]))
        return tuple(out)

    def _fit(self, x: Any, spec: TensorSpec, i: int, names: dict[str, tuple[int, int]]) -> Tensor:
        t = convert(x) if isinstance(x, Operand) or isinstance(x, (np.ndarray, np.generic)) else convert(x, spec.dtype)
        ok = t.dtype is spec.dtype and len(t.shape) == len(spec.shape)
        if ok:
            for d, want in zip(t.shape, spec.shape, strict=True):
                if isinstance(want, str):
                    seen = names.setdefault(want, (int(d), i))
                    if seen[0] != d:
                        raise locate(
                            ShapeError(f"argument {i}: dimension '{want}' is {d}, but argument {seen[1]} has {seen[0]}")
                        )
                elif want is not None and want != d:
                    ok = False
        if not ok:
            raise locate(ArgumentError(f"argument {i} of {self.__name__} is {t.type}, the signature wants {spec}"))
        return t

    # --- traces -------------------------------------------------------------------------------------------------------
    def _kinds(self, leaves: list, structure: Any) -> tuple[tuple[_Kind, ...], list[tuple], list[Any]]:
        """The key's part for each leaf, the shapes of the inputs, and the inputs themselves."""
        static = self._static.get(structure, ())
        kinds, shapes, inputs = [], [], []
        for i, x in enumerate(leaves):
            if type(x) is Tensor or isinstance(x, (np.ndarray, np.generic)):
                a = x._a if type(x) is Tensor else np.asarray(x)
                d = as_dtype(a.dtype)
                ones = tuple(n == 1 for n in a.shape) if 1 in a.shape else ()
                kinds.append(_Kind("tensor", (d.name, a.ndim, ones)))
                shapes.append(a.shape)
                inputs.append(x)
            elif type(x) is _Default:
                kinds.append(_Kind("static", _Static(x.value)))
            elif isinstance(x, Variable):
                kinds.append(_Kind("variable", _Static(x)))
            elif type(x) in (int, float) and i not in static and _in_range(x):
                kinds.append(_Kind("scalar", type(x).__name__))
                shapes.append(())
                inputs.append(x)
            else:
                kinds.append(_Kind("static", _Static(x)))
        return tuple(kinds), shapes, inputs

    def _find(
        self, leaves: list, structure: Any, specs: dict[int, TensorSpec] | None = None
    ) -> tuple[Concrete, list[Any], dict[str, int]]:
        """The trace for these leaves, made if need be; `specs` says which of them only stand for such tensors."""
        while True:
            kinds, shapes, inputs = self._kinds(leaves, structure)
            key = (structure, kinds)
            wanted = [specs.get(id(x)) for x in inputs] if specs else None
            with self._lock:
                for c in self.traces.get(key, ()):
                    sizes = c.sizes(shapes)
                    if sizes is not None and (wanted is None or c.is_open(wanted)):
                        return c, inputs, sizes
                try:
                    c = self._trace(key, leaves, structure, kinds, shapes, wanted)
                except NeedStatic as need:
                    self._static.setdefault(structure, set()).update(need.params)
                    continue
                self.traces.setdefault(key, []).append(c)
                sizes = c.sizes(shapes)
                assert sizes is not None
                return c, inputs, sizes

    def _patterns(
        self, key: tuple, shapes: list[tuple], fixed: set[tuple[int, int]], wanted: list[TensorSpec | None] | None
    ) -> tuple[list[tuple], str]:
        """Shapes for a new trace: where an earlier trace of this key differs, the size becomes a symbol."""
        if self.input_signature is not None:
            return self._from_specs(shapes, tree.flatten(self.input_signature)[0]), "input_signature"
        if wanted is not None:
            return self._from_specs(shapes, wanted), "get_concrete_function"
        earlier = self.traces.get(key, ())
        if not earlier:
            return [tuple(s) for s in shapes], "first call" if not self.traces else self._why(key)
        last = earlier[-1].shapes
        names: dict[tuple, Dim] = {}
        out = []
        for i, (old, new) in enumerate(zip(last, shapes, strict=True)):
            dims: list[int | Dim] = []
            for j, (o, n) in enumerate(zip(old, new, strict=True)):
                was = o.hint if isinstance(o, Dim) else o
                if (was != n or isinstance(o, Dim)) and n > 1 and was > 1 and (i, j) not in fixed:
                    tag = (str(o) if isinstance(o, Dim) else o, n)
                    if tag not in names:
                        names[tag] = Dim.symbol(f"d{len(names)}", n)
                    dims.append(names[tag])
                else:
                    dims.append(n)
            out.append(tuple(dims))
        changed = ", ".join(show_shape(p) for p in out if any(isinstance(d, Dim) for d in p))
        return out, f"sizes changed: {changed or 'one became 0 or 1'}"

    def _from_specs(self, shapes: list[tuple], specs: Sequence[TensorSpec | None]) -> list[tuple]:
        out = []
        for i, shape in enumerate(shapes):
            spec = specs[i] if i < len(specs) else None
            dims: list[int | Dim] = []
            for j, n in enumerate(shape):
                want = spec.shape[j] if spec is not None else n
                if want is None or isinstance(want, str):
                    dims.append(Dim.symbol(want or f"d{i}_{j}", n) if n > 1 else n)
                else:
                    dims.append(n)
            out.append(tuple(dims))
        return out

    def _why(self, key: tuple) -> str:
        """The difference to the closest earlier key."""
        structure, kinds = key
        best, where = None, ""
        for s, k in self.traces:
            if s != structure:
                continue
            diff = [i for i, (a, b) in enumerate(zip(k, kinds, strict=True)) if a != b]
            if best is None or len(diff) < best:
                best = len(diff)
                paths = list(structure.paths("args"))
                where = "; ".join(f"{paths[i]}: {k[i]} -> {kinds[i]}" for i in diff[:3])
        return where or "the structure of the arguments differs"

    def _trace(
        self, key: tuple, leaves: list, structure: Any, kinds: tuple, shapes: list[tuple],
        wanted: list[TensorSpec | None] | None,
    ) -> Concrete:  # fmt: skip
        fixed = self._fixed.setdefault(key, set())
        while True:
            patterns, reason = self._patterns(key, shapes, fixed, wanted)
            try:
                return self._trace_at(leaves, structure, kinds, patterns, reason)
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

    def _trace_at(self, leaves: list, structure: Any, kinds: tuple, patterns: list[tuple], reason: str) -> Concrete:
        t0 = time.perf_counter()
        trace = Trace()
        infos: list[Leaf] = []
        args: list[Any] = []
        scalars: dict[Value, int] = {}
        k = 0
        for i, (x, kind) in enumerate(zip(leaves, kinds, strict=True)):
            if kind.kind == "tensor":
                a = x._a if type(x) is Tensor else np.asarray(x)
                t = trace.param(TensorType(as_dtype(a.dtype), patterns[k]))
                infos.append(Leaf("tensor", k))
                args.append(t)
                k += 1
            elif kind.kind == "scalar":
                t = trace.param(TensorType(float64 if type(x) is float else int32, (), True))
                scalars[t._a] = i
                infos.append(Leaf("scalar", k, type(x)))
                # arithmetic among Python integers must not overflow where Python's does not
                wide = (("dtype", int64), ("weak", True))
                args.append(t if type(x) is float else trace.emit(OPS["cast"], (t._a,), wide))
                k += 1
            else:
                plain = x.value if type(x) is _Default else x
                infos.append(Leaf(kind.kind, value=plain))
                args.append(plain)
        guards: list[tuple[str, Dim, bool]] = []
        trace.scalars = scalars
        a, kw = tree.unflatten(structure, args)
        result, results, outputs, out_structure = self._run_trace(trace, a, kw, guards)
        graph = trace.builder.finish(
            self.__name__, [*results, *[trace.value(trace.env[id(v)]) for v in trace.written()]]
        )
        parts = parts_of(trace, infos, graph, len(results))
        self._tracing_count += 1
        ms = (time.perf_counter() - t0) * 1e3
        del result
        return Concrete(self, kinds, patterns, parts, out_structure, outputs, guards, ms, reason)

    def _run_trace(
        self, trace: Trace, args: tuple, kwargs: dict, guards: list
    ) -> tuple[Any, list[Value], list[Any], Any]:
        def decided(relation: str, d: Dim, zero: int, answer: bool) -> None:
            guards.append((relation, d, answer))

        def frozen(d: Dim) -> int:
            raise NeedStatic(set(), d.symbols)

        before = hooks.decision, hooks.freeze
        hooks.decision, hooks.freeze = decided, frozen
        try:
            with tracing(trace):
                result = self.python_function(*args, **kwargs)
                flat, structure = tree.flatten(result)
                outputs: list[Any] = []
                results: list[Value] = []
                for x in flat:
                    if isinstance(x, Dim):
                        x = convert(x)
                    if isinstance(x, Operand):
                        t = x if type(x) is Tensor else trace.read(x)  # type: ignore[arg-type]
                        v = trace.value(t)
                        if v.type.weak:
                            d = float32 if v.dtype.kind == "f" else int32 if v.dtype.kind in "iu" else v.dtype
                            v = trace.value(_cast(wrap(v), d))
                        results.append(v)
                        outputs.append(_OUT)
                    else:
                        outputs.append(x)
        finally:
            hooks.decision, hooks.freeze = before
        return result, results, outputs, structure

    # --- what users see -----------------------------------------------------------------------------------------------
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
        leaves, structure = self._flatten(args, kwargs)
        return self._find(leaves, structure, specs)[0]

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
        if not cs:
            return {"traces": 0}
        exe = cs[-1].executable
        t = exe.timing
        ops = [n for n in exe.optimized.nodes if n.op.family not in ("source", "shape")]
        return {
            "traces": self._tracing_count, "trace_ms": t.trace_ms, "optimize_ms": t.optimize_ms, "lower_ms": t.lower_ms,
            "compile_ms": t.compile_ms, "nodes": len(exe.parts.graph.nodes),
            "nodes_optimized": len(exe.optimized.nodes), "kernels_unfused": len(ops),
            "kernels": exe.program.kernels if exe.program else len(ops),
        }  # fmt: skip

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """What became of the function for arguments like these: graph, rewrites, kernels, plan."""
        c = self.get_concrete_function(*args, **kwargs)
        return explain(c)

    def source(self, *args: Any, **kwargs: Any) -> str:
        """The program for arguments like these as a Python module: kernels for Numba, and `main`, which calls them."""
        from tracejit.backends import numba_source

        return numba_source.source(self.get_concrete_function(*args, **kwargs)).text


def explain(c: Concrete) -> str:
    """The stages of one trace as text."""
    exe = c.executable
    t = exe.timing
    lines = [f"{c.function.__qualname__}: traced because: {c.reason}"]
    lines += [
        f"  trace {t.trace_ms:.1f} ms, optimize {t.optimize_ms:.1f} ms, "
        f"lower {t.lower_ms:.1f} ms, compile {t.compile_ms:.1f} ms"
    ]
    lines += ["", "graph", str(exe.parts.graph), "", "merged, folded, rewritten"]
    lines += [f"  {x}" for x in exe.report.lines()] or ["  nothing"]
    lines += ["", "optimized", str(exe.optimized)]
    if exe.program is not None:
        lines += ["", "kernels"]
        lines += [f"  {x}" for x in exe.program.describe().splitlines()]
        for key, plan in exe.plans.items():
            lines += ["", f"plan for sizes {dict(zip(exe.symbols, key[0], strict=True))}", plan.describe()]
    elif exe.error is not None:
        lines += ["", f"runs in the interpreter: {exe.error}"]
    return "\n".join(lines)


def _cast(t: Tensor, d: DType) -> Tensor:
    return OPS["cast"](t, dtype=d)


def _in_range(x: Any) -> bool:
    """Whether a Python number can be an input; integers that do not fit int32 are constants, checked as eagerly."""
    return type(x) is float or -(2**31) <= x < 2**31


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
            out.append(info.value)
        else:
            out.append(x)
    return out


def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    *,
    numerics: str = "finite",
    name: str | None = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    **ignored: Any,
) -> Any:
    """Compile a function of tensors: traced once per dtype, rank and structure of its arguments, then run natively.

    Parameters
    ----------
    func : the function; without it, a decorator is returned
    input_signature : `TensorSpec`s (or nests of them); sizes given as None or by name do not retrace, but for 0 and 1
    numerics : how far simplifications may go: "exact" (bit by bit), "finite" (equal on finite values), "fast"
    autograph, jit_compile, reduce_retracing : taken for TensorFlow's sake; every function is compiled, and sizes that
        change become symbols by themselves

    Python numbers are inputs unless they steer Python control flow; other Python values are part of the trace's key.
    Raises what the function raises while it is traced; a failed call changes no Variable.
    """

    import tracejit.lower.program  # noqa: F401 - the compiler, with llvmlite, is loaded with the first function

    def make(f: Callable[..., Any]) -> Function:
        return Function(f, input_signature, numerics, name)

    return make if func is None else make(func)
