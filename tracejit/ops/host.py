"""Calls back into Python from a program: printing, and functions of the user's that stay Python."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, ShapeError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import Op
from tracejit.ir.types import DType, TensorType, as_dtype, show_shape
from tracejit.tensor import Operand, Tensor, convert, quietly, wrap
from tracejit.tree import flatten, map_structure, unflatten


class Callback:
    """A Python function of arrays as an attribute of a node: equal to itself only.

    `of_tensors` is the function on eager tensors, through which derivatives go; None where it has none.
    """

    __slots__ = ("call", "name", "of_tensors")

    def __init__(
        self, call: Callable[..., Sequence[Any]], name: str, of_tensors: Callable[..., Sequence[Any]] | None = None
    ) -> None:
        self.call, self.name, self.of_tensors = call, name, of_tensors

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _infer(*xs: TensorType, f: Callback, types: tuple[TensorType, ...]) -> Any:
    return types[0] if len(types) == 1 else types


def _run(*arrays: Any, f: Callback, types: tuple[TensorType, ...]) -> Any:
    out = f.call(*arrays)
    made = []
    for i, (x, t) in enumerate(zip(out, types, strict=True)):
        a = np.asarray(x._a if isinstance(x, Tensor) else x)
        if a.dtype != t.dtype.np or (None not in t.shape and a.shape != tuple(t.shape)):
            raise ArgumentError(
                f"{f.name} returned {a.dtype.name}{show_shape(a.shape)} as result {i}, it was said to return {t}"
            )
        made.append(a)
    return made[0] if len(made) == 1 else tuple(made)


def _vjp(g: Any, y: Any, *xs: Tensor, f: Callback, types: tuple[TensorType, ...]) -> tuple[Any, ...]:
    wanted = [i for i, x in enumerate(xs) if x.dtype.is_inexact]
    func = f.of_tensors
    if func is None or not wanted:
        return (None,) * len(xs)

    def pull(*args: Tensor) -> Sequence[Any]:
        own, gs = args[: len(xs)], args[len(xs) :]
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*[own[i] for i in wanted])
            ys = _listed(func(*own), types)
        pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if isinstance(y, Operand)]
        return tape.gradient(  # type: ignore[no-any-return]
            [y for y, _ in pairs], [own[i] for i in wanted], output_gradients=[g for _, g in pairs],
            unconnected_gradients="zero",
        )  # fmt: skip

    back = [TensorType(xs[i].dtype, xs[i].type.shape) for i in wanted]
    made = _called(pull, (*xs, *(g if type(g) is tuple else (g,))), back, f"gradient of {f.name}")
    return tuple([made[wanted.index(i)] if i in wanted else None for i in range(len(xs))])


def _jvp(ts: Any, y: Any, *xs: Tensor, f: Callback, types: tuple[TensorType, ...]) -> Any:
    wanted = [i for i, t in enumerate(types) if t.dtype.is_inexact]
    moved = [i for i, t in enumerate(ts) if t is not None]
    func = f.of_tensors
    made: Sequence[Any] = ()
    if func is None:
        wanted = []

    def push(*args: Tensor) -> Sequence[Any]:
        own = args[: len(xs)]
        with ForwardAccumulator([own[i] for i in moved], list(args[len(xs) :])) as acc:
            ys = _listed(func(*own), types)  # type: ignore[misc]
        return [acc.jvp(ys[i], "zero") if isinstance(ys[i], Operand) else np.zeros_like(ys[i]) for i in wanted]

    if wanted:
        ahead = [types[i] for i in wanted]
        made = _called(push, (*xs, *[ts[i] for i in moved]), ahead, f"tangent of {f.name}")
    out = tuple([made[wanted.index(i)] if i in wanted else None for i in range(len(types))])
    return out[0] if len(out) == 1 else out


def _called(
    func: Callable[..., Any], xs: Sequence[Any], types: Sequence[TensorType], label: str
) -> tuple[Any, ...]:
    """A call of a function of eager tensors, which is differentiated by calling it again."""

    def call(*arrays: Any) -> Sequence[Any]:
        with tracing(None):
            return _listed(func(*[wrap(quietly(np.array, a)) for a in arrays]), types)

    made = host_call(*xs, f=Callback(call, label, func), types=tuple(types))
    return made if type(made) is tuple else (made,)


host_call = Op(
    "host_call", "control", _infer, _run, vjp=_vjp, jvp=_jvp, arity=None, dtypes="biufc", pure=False,
    doc="The results of a Python function of the operands' arrays, called once in each run, in the program's order.",
)  # fmt: skip


# --- printing ---------------------------------------------------------------------------------------------------------
class Text:
    """A string with tensors in it whose values are not known yet: strings, and tensors with their formats."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)

    def tensors(self) -> list[Tensor]:
        return [p[0] for p in self.parts if not isinstance(p, str)]

    def filled(self, values: Sequence[Any]) -> str:
        it = iter(values)
        return "".join(p if isinstance(p, str) else p[1](next(it)) for p in self.parts)


def is_traced(x: Any) -> bool:
    return isinstance(x, Operand) and type(x._a) is Value


def say(write: Callable[[Sequence[Any]], None], args: Sequence[Any]) -> None:
    """Call `write` with the arguments, tensors as eager ones: now, or each time the program runs."""
    flat, structure = flatten(list(args))
    tensors: list[Tensor] = []
    slots: list[Any] = []
    for x in flat:
        if isinstance(x, Text):
            slots.append((len(tensors), len(x.tensors())))
            tensors += x.tensors()
        elif isinstance(x, Operand) and context.trace is not None:
            slots.append(len(tensors))
            tensors.append(convert(x))
        else:
            slots.append(None)

    def run(*arrays: Any) -> tuple[()]:
        values = [wrap(quietly(np.array, a)) for a in arrays]
        out = []
        for x, s in zip(flat, slots, strict=True):
            if s is None:
                out.append(x)
            elif isinstance(s, int):
                out.append(values[s])
            else:
                out.append(x.filled(values[s[0] : s[0] + s[1]]))
        with tracing(None):
            write(unflatten(structure, out))
        return ()

    if context.trace is None:
        write(list(args))
    else:
        host_call(*tensors, f=Callback(run, "print"), types=())


def print_python(*args: Any, **options: Any) -> None:
    """Python's `print`, for each run of the program and in its order."""
    say(lambda values: builtins.print(*values, **options), args)


def _shown(x: Any, summarize: int) -> str:
    if isinstance(x, Operand):
        a = x.numpy()
        edge = {} if summarize < 0 else {"threshold": 2 * summarize, "edgeitems": summarize}
        return str(a) if not np.ndim(a) else np.array2string(a, **edge)  # type: ignore[arg-type]
    if isinstance(x, (list, tuple)):
        inner = ", ".join(_shown(y, summarize) for y in x)
        return f"[{inner}]" if isinstance(x, list) else f"({inner})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(v, summarize)}" for k, v in x.items()) + "}"
    return str(x)


def print(
    *inputs: Any, output_stream: Any = None, summarize: int = 3, sep: str = " ", end: str = "\n",
    name: str | None = None,
) -> None:
    """Print values as TensorFlow's `tf.print` does, in a trace for each run of the program and in its order.

    `output_stream` is a stream (standard error by default) or a callable that is given the text.
    """

    def write(values: Sequence[Any]) -> None:
        text = sep.join(_shown(v, summarize) for v in values) + end
        if callable(output_stream):
            output_stream(text)
        else:
            (output_stream or sys.stderr).write(text)

    say(write, inputs)


# --- functions that stay Python ---------------------------------------------------------------------------------------
def _result_types(Tout: Any, shapes: Any, what: str) -> tuple[list[TensorType], Any, bool]:
    single = not isinstance(Tout, (list, tuple))
    specs = [Tout] if single else list(Tout)
    types = []
    for i, s in enumerate(specs):
        if hasattr(s, "dtype") and hasattr(s, "shape") and not isinstance(s, DType):
            types.append(TensorType(as_dtype(s.dtype), tuple(s.shape)))
            continue
        shape = () if shapes is None else tuple(shapes if single else shapes[i])
        types.append(TensorType(as_dtype(s), shape))
    if any(d is None for t in types for d in t.shape):
        said = f"{what} needs the shapes of its results in a trace"
        raise locate(ShapeError(said, remedy="give TensorSpecs in Tout"))
    return types, specs, single


def py_function(func: Callable[..., Any], inp: Sequence[Any], Tout: Any, name: str | None = None) -> Any:
    """`func(*inp)` as Python, with eager tensors, also inside a traced function.

    Parameters
    ----------
    Tout : dtypes, or TensorSpecs, of the results; a dtype alone stands for a 0-d tensor

    It has a gradient where `func` is made of tensor operations. Raises `ArgumentError` if it returns something else.
    """
    if context.trace is None:
        out = func(*[convert(x) for x in inp])
        return map_structure(convert, out) if out is not None else None
    types, _, single = _result_types(Tout, None, "py_function")
    label = getattr(func, "__name__", "py_function")

    made = _called(func, [convert(x) for x in inp], types, label)
    return _given_back(made if len(types) != 1 else made[0], types, single)


def numpy_function(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """`func(*inp)` as Python, with NumPy arrays, also inside a traced function. It has no gradient.

    `Tout` gives dtypes, or TensorSpecs, of the results; a dtype alone stands for a 0-d tensor.
    """
    if context.trace is None:
        out = func(*[convert(x).numpy() for x in inp])
        return map_structure(convert, out) if out is not None else None
    types, _, single = _result_types(Tout, None, "numpy_function")
    label = getattr(func, "__name__", "numpy_function")

    def call(*arrays: Any) -> Sequence[Any]:
        with tracing(None):
            return [np.asarray(y) for y in _listed(func(*[np.array(a) for a in arrays]), types)]

    made = host_call(*[convert(x) for x in inp], f=Callback(call, label), types=tuple(types))
    return _given_back(made, types, single)


def _listed(out: Any, types: Sequence[TensorType]) -> list[Any]:
    if not types:
        return []
    values = list(out) if isinstance(out, (list, tuple)) else [out]
    if len(values) != len(types):
        raise ArgumentError(f"the function returned {len(values)} results, it was said to return {len(types)}")
    return [
        v if isinstance(v, Operand) and v.dtype is t.dtype
        else np.asarray(v._a if isinstance(v, Operand) else v, t.dtype.np)
        for v, t in zip(values, types, strict=True)
    ]


def _given_back(made: Any, types: Sequence[TensorType], single: bool) -> Any:
    if not types:
        return None
    return made if single else list(made if type(made) is tuple else (made,))
