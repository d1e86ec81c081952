"""Calls back into Python from a program: printing, and functions of the user's that stay Python."""

from __future__ import annotations

import builtins
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, ConversionError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, as_dtype, float64, int64, show_shape
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, strong, wrap
from tracejit.tree import flatten, unflatten


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


class Keeping(Callback, ABC):
    """One that keeps what its derivatives are made from, and is not called again for them."""

    __slots__ = ()

    @abstractmethod
    def vjp(self, g: Any, y: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The cotangents of the operands, None for those that have none."""

    @abstractmethod
    def jvp(self, ts: Any, y: Any, xs: tuple[Any, ...]) -> Any:
        """The tangents of the results."""


class Noting(Callback):
    """One that takes note of what is done after the call, and raises nothing."""

    __slots__ = ()


class Drawn(Callback):
    """One that asks a stream of random numbers or a clock for what comes next, or sets such a stream."""

    __slots__ = ()

    def ahead(self) -> Sequence[Any]:
        """Ask before the program runs, whose first run then finds what was given."""
        call, given = self.call, self.call()
        ready = [given]
        self.call = lambda: ready.pop() if ready else call()
        return given


def _infer(*xs: TensorType, f: Callback, types: tuple[TensorType, ...]) -> Any:
    return types[0] if len(types) == 1 else types


def _run(*arrays: Any, f: Callback, types: tuple[TensorType, ...]) -> Any:
    out = f.call(*arrays)
    made = []
    for i, (x, t) in enumerate(zip(out, types, strict=True)):
        a = np.asarray(x._a if isinstance(x, Tensor) else x)
        fit(a, t, i, f.name)
        made.append(a)
    return made[0] if len(made) == 1 else tuple(made)


def _vjp(g: Any, y: Any, *xs: Tensor, f: Callback, types: tuple[TensorType, ...]) -> tuple[Any, ...]:
    wanted = [i for i, x in enumerate(xs) if x.dtype.is_inexact]
    func = f.of_tensors
    if isinstance(f, Keeping):
        return f.vjp(g, y, xs)
    if func is None or not wanted:
        return (None,) * len(xs)

    def pull(*args: Tensor) -> Sequence[Any]:
        own, gs = args[: len(xs)], args[len(xs) :]
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*[own[i] for i in wanted])
            ys = listed(func(*own), types)
        pairs = [(y, g) for y, g in zip(ys, gs, strict=True) if isinstance(y, Operand)]
        return tape.gradient(  # type: ignore[no-any-return]
            [y for y, _ in pairs], [own[i] for i in wanted], output_gradients=[g for _, g in pairs],
            unconnected_gradients="zero",
        )  # fmt: skip

    back = [TensorType(xs[i].dtype, xs[i].type.shape) for i in wanted]
    made = called(pull, (*xs, *(g if type(g) is tuple else (g,))), back, f"gradient of {f.name}")
    return tuple([made[wanted.index(i)] if i in wanted else None for i in range(len(xs))])


def _jvp(ts: Any, y: Any, *xs: Tensor, f: Callback, types: tuple[TensorType, ...]) -> Any:
    wanted = [i for i, t in enumerate(types) if t.dtype.is_inexact]
    moved = [i for i, t in enumerate(ts) if t is not None]
    func = f.of_tensors
    made: Sequence[Any] = ()
    if isinstance(f, Keeping):
        return f.jvp(ts, y, xs)
    if func is None:
        wanted = []

    def push(*args: Tensor) -> Sequence[Any]:
        own = args[: len(xs)]
        with ForwardAccumulator([own[i] for i in moved], list(args[len(xs) :])) as acc:
            ys = listed(func(*own), types)  # type: ignore[misc]
        return [acc.jvp(ys[i], "zero") if isinstance(ys[i], Operand) else np.zeros_like(ys[i]) for i in wanted]

    if wanted:
        ahead = [types[i] for i in wanted]
        made = called(push, (*xs, *[ts[i] for i in moved]), ahead, f"tangent of {f.name}")
    out = tuple([made[wanted.index(i)] if i in wanted else None for i in range(len(types))])
    return out[0] if len(out) == 1 else out


def called(
    func: Callable[..., Any], xs: Sequence[Any], types: Sequence[TensorType], label: str
) -> tuple[Any, ...]:
    """A call of a function of eager tensors, which is differentiated by calling it again."""

    def call(*arrays: Any) -> Sequence[Any]:
        with tracing(None):
            return listed(func(*[wrap(quietly(np.array, a)) for a in arrays]), types)

    made = host_call(*xs, f=Callback(call, label, func), types=tuple(types))
    return made if type(made) is tuple else (made,)


host_call = Op(
    "host_call", "control", _infer, _run, vjp=_vjp, jvp=_jvp, arity=None, dtypes="biufc", pure=False,
    doc="The results of a Python function of the operands' arrays, called once in each run, in the program's order.",
)  # fmt: skip


# --- printing ---------------------------------------------------------------------------------------------------------
class Piece:
    """A part of a text that is made from the values of tensors."""

    __slots__ = ("tensors", "fill")

    def __init__(self, tensors: Sequence[Tensor], fill: Callable[[Sequence[Any]], str]) -> None:
        self.tensors, self.fill = list(tensors), fill


class Text:
    """A string with tensors in it whose values are not known yet: strings, and pieces. It can be joined to others."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts: list[Any] = [q for p in parts for q in (p.parts if isinstance(p, Text) else [p])]

    def tensors(self) -> list[Tensor]:
        return [t for p in self.parts if not isinstance(p, str) for t in p.tensors]

    def filled(self, values: Sequence[Any]) -> str:
        it = iter(values)
        return "".join(p if isinstance(p, str) else p.fill([next(it) for _ in p.tensors]) for p in self.parts)

    def __add__(self, other: Any) -> Any:
        return Text([self, other]) if isinstance(other, (str, Text)) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return Text([other, self]) if isinstance(other, str) else NotImplemented

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in _STRING:
            raise self._unknown()
        return lambda *args, **kw: Text([Piece(self.tensors(), lambda v: getattr(self.filled(v), name)(*args, **kw))])

    def _unknown(self, *_: Any) -> Any:
        said = "a string with tensors in it is known only when the function runs"
        raise locate(ConversionError(said, remedy="do with it what needs its letters where the function is called"))

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __len__ = __iter__ = __getitem__ = __contains__ = _unknown
    __bool__ = __str__ = __format__ = __mod__ = __mul__ = __hash__ = _unknown

    def __repr__(self) -> str:
        return "<a string with traced tensors>"


class Shown(Text):
    """What an object says of itself, as a part of a container that is written."""

    def filled(self, values: Sequence[Any]) -> str:
        return AsItIs(super().filled(values))


class AsItIs(str):
    """A string that stands for an object: without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


_STRING = {
    "capitalize", "casefold", "center", "expandtabs", "ljust", "lower", "lstrip", "removeprefix", "removesuffix",
    "replace", "rjust", "rstrip", "strip", "swapcase", "title", "upper", "zfill",
}  # fmt: skip


def is_traced(x: Any) -> bool:
    return isinstance(x, Operand) and type(x._a) is Value


def python_kind(x: Operand) -> type | None:
    """The Python type of a traced number; None for tensors."""
    a = x._a
    if type(a) is not Value or not a.type.weak or a.shape:
        return None
    return {"f": float, "i": int, "u": int, "b": bool}.get(a.dtype.kind)


def exact(x: Operand) -> Tensor:
    """A traced number in the widest type of its kind."""
    kind = x._a.type.dtype.kind
    return OPS["cast"](x, dtype=float64 if kind == "f" else int64) if kind != "b" else strong(x)  # type: ignore[no-any-return,return-value]


def as_printed(x: Any, value: Tensor) -> Any:
    """What is printed in the place of a tensor of the trace: its value, which for a Variable is shown as one's."""
    if not isinstance(x, Variable):
        return value
    twin = object.__new__(Variable)
    twin.trainable, twin._name, twin._a = x.trainable, x._name, value._a
    return twin


def say(
    write: Callable[[Sequence[Any]], None], args: Sequence[Any], callback: type[Callback] = Callback
) -> None:
    """Call `write` with the arguments, tensors as eager ones: now, or each time the program runs."""
    flat, structure = flatten(list(args))
    tensors: list[Tensor] = []
    slots: list[Any] = []
    for x in flat:
        if isinstance(x, Text):
            slots.append((len(tensors), len(x.tensors())))
            tensors += x.tensors()
        elif isinstance(x, Dim) and context.trace is not None:
            slots.append((len(tensors), int))
            tensors.append(OPS["dim"](size=x))
        elif isinstance(x, Operand) and context.trace is not None:
            kind = python_kind(x)
            slots.append((len(tensors), kind))
            tensors.append(convert(x) if kind is None else exact(x))
        else:
            slots.append(None)

    def run(*arrays: Any) -> tuple[()]:
        values = [wrap(quietly(np.array, a)) for a in arrays]
        out = []
        for x, s in zip(flat, slots, strict=True):
            if s is None:
                out.append(x)
            elif isinstance(x, Text):
                out.append(x.filled(values[s[0] : s[0] + s[1]]))
            else:
                out.append(as_printed(x, values[s[0]]) if s[1] is None else s[1](values[s[0]]))
        with tracing(None):
            write(unflatten(structure, out))
        return ()

    if context.trace is None:
        write(list(args))
    else:
        host_call(*tensors, f=callback(run, "print"), types=())


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


# --- results ----------------------------------------------------------------------------------------------------------
def listed(out: Any, types: Sequence[TensorType]) -> list[Any]:
    if not types:
        return []
    values = list(out) if isinstance(out, (list, tuple)) else [out]
    if len(values) != len(types):
        raise ArgumentError(f"the function returned {len(values)} results, it was said to return {len(types)}")
    return [
        OPS["cast"](v, dtype=t.dtype) if isinstance(v, Operand) else np.asarray(v, t.dtype.np)
        for v, t in zip(values, types, strict=True)
    ]


def fit(a: Any, t: TensorType, i: int, label: str) -> None:
    """Refuse a result that is not as it was said to be."""
    fits = len(a.shape) == len(t.shape) and all(d in (None, n) for n, d in zip(a.shape, t.shape, strict=True))
    if a.dtype != t.dtype.np or not fits:
        spec = f"tj.TensorSpec({tuple(a.shape)}, tj.{as_dtype(a.dtype).name})"
        said = f"{label} returned {a.dtype.name}{show_shape(a.shape)} as result {i}, it was said to return {t}"
        raise locate(ArgumentError(said, remedy=f"say {spec} in Tout; a dtype alone stands for a 0-d tensor"))
