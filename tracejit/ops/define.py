"""What families of ops share: elementwise rows from partial derivatives, operators on tensors, public functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import DTypeError, NoDerivativeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import fit, is_unit
from tracejit.ir.types import DType, TensorType, _by_np, bool_, broadcast_shapes
from tracejit.pynumbers import arithmetic
from tracejit.tensor import NUMPY_FUNCTIONS, NUMPY_UFUNCS, WARM, Operand, Tensor, run_silently, warm

KIND_NAMES = {
    "b": "bool", "i": "signed integers", "u": "unsigned integers", "f": "floating types", "c": "complex types",
}  # fmt: skip


def check_kind(d: DType, kinds: str, what: str = "dtype") -> None:
    if d.kind not in kinds:
        raise DTypeError(f"{what} {d.name} is not supported; it takes " + ", ".join(KIND_NAMES[k] for k in kinds))


def sum_to(g: Tensor, like: Operand) -> Tensor:
    """The transpose of broadcasting: sum `g` down to the shape of `like`."""
    shape = tuple(like.shape)
    have = tuple(g.shape)
    if have == shape:
        return g
    lead = len(have) - len(shape)
    axes = tuple(
        i for i, d in enumerate(have) if i < lead or (is_unit(shape[i - lead]) and not is_unit(d))
    )
    out = OPS["reduce_sum"](g, axis=axes) if axes else g
    return out if tuple(out.shape) == shape else OPS["reshape"](out, shape=shape)


def underivable(what: str, operand: str) -> Callable[[], Any]:
    """A partial derivative that is not known: `NoDerivativeError` where one is wanted."""

    def refuse() -> Any:
        message = f"{what} has no derivative along {operand}"
        raise locate(NoDerivativeError(message, remedy="tj.stop_gradient(...) of an operand that is a constant"))

    return refuse


SINGULAR: set[str] = set()  # rows whose result or derivative may be infinite or NaN for finite operands
_SEARCHED = 64  # nodes


def may_blow_up(t: Tensor) -> bool:
    """Whether a tensor has elements that are not finite; of a traced one, whether it may have some."""
    a = t._a
    if type(a) is not Value:
        return a.dtype.kind in "fcV" and not bool(np.isfinite(a).all())
    todo, seen = [a], {a}
    while todo and len(seen) < _SEARCHED:
        v = todo.pop()
        n = v.node
        if n is None or n.op.name in SINGULAR:
            return True  # what comes from outside may hold anything
        if n.op.name == "constant":
            c = n.attr("value")
            if not np.isfinite(c.splat if c.array is None else c.array).all():
                return True
            continue
        new = [i for i in n.inputs if i.dtype.is_inexact and i not in seen]
        seen.update(new)
        todo += new
    return bool(todo)


def _shielded(g: Tensor, p: Tensor) -> Tensor:
    """A tangent or cotangent whose own derivative is taken: where it is 0 beside an infinite partial, it stays 0."""
    if p.dtype.kind != "f":
        return g
    lost = OPS["logical_and"](OPS["equal"](g, 0), OPS["logical_not"](OPS["isfinite"](p)))
    return OPS["where"](lost, OPS["cast"](0.0, dtype=g.dtype), g)


def elementwise(
    name: str,
    numpy: Callable[..., Any],
    scalar: str | Callable[..., Any] | None,
    partials: Callable[..., tuple] | None = None,
    *,
    arity: int = 1,
    result: str = "same",
    promote: str = "common",
    dtypes: str = "biuf",
    singular: bool = False,
    operator: str = "",
    np_names: str = "",
    **row: Any,
) -> Op:
    """A row for an op that works element by element, with broadcasting.

    `partials(y, *x)` gives dy/dx_i, each a tensor, 1.0, -1.0 or None; reverse and forward mode follow from it. Instead
    of a tensor it may give a function that makes it, which is called only if that derivative is wanted.
    `singular` says that a partial may be infinite or NaN for finite operands; zero times it is then zero, so that the
    branch which `where` did not take contributes nothing. Other rows do the same behind a `where` if their operands
    may be infinite or NaN.
    `scalar` is a method of the scalar protocol, or a function over it.
    """

    def infer(*types: TensorType, **attrs: Any) -> TensorType:
        first = types[-1]
        check_kind(first.dtype, dtypes, "dtype" if len(types) == 1 else "the common dtype")
        for t in types[1 if promote == "select" else 0 :]:
            if t.dtype is not first.dtype:
                raise DTypeError(f"the operands have dtypes {', '.join(t.dtype.name for t in types)}")
        shape = types[0].shape if len(types) == 1 else broadcast_shapes(*[t.shape for t in types])
        weak = all(t.weak for t in types)
        return TensorType(bool_ if result == "bool" else first.dtype, shape, weak and result != "bool")

    if singular:
        SINGULAR.add(name)

    def product(p: Any, g: Tensor) -> Tensor:
        if type(p) is float:
            return g if p == 1.0 else OPS["neg"](g) if p == -1.0 else OPS["mul"](g, p)
        if p.dtype.kind == "c":
            p = OPS["conj"](p)
        if not singular and not (context.masked and (context.tapes or may_blow_up(p))):
            return OPS["mul"](g, p)
        return OPS["multiply_no_nan"](p, _shielded(g, p) if context.tapes else g)

    def pulled(p: Any, g: Tensor, v: Tensor) -> Any:
        if type(p) is FunctionType:
            return lambda: sum_to(product(p(), g), v)
        return None if p is None else sum_to(product(p, g), v)

    def vjp(g: Tensor, y: Tensor, *x: Tensor, **attrs: Any) -> tuple:
        return tuple([pulled(p, g, v) for p, v in zip(partials(y, *x, **attrs), x, strict=True)])  # type: ignore[misc]

    def pushed(p: Any, t: Tensor) -> Tensor:
        if type(p) is float:
            return t if p == 1.0 else OPS["neg"](t) if p == -1.0 else t * p
        return OPS["multiply_no_nan"](p, _shielded(t, p) if context.tapes else t) if singular else t * p

    def jvp(tangents: tuple, y: Tensor, *x: Tensor, **attrs: Any) -> Tensor | None:
        total = None
        for p, t in zip(partials(y, *x, **attrs), tangents, strict=True):  # type: ignore[misc]
            if p is not None and t is not None:
                p = p() if type(p) is FunctionType else p
                term = pushed(p, t)
                total = term if total is None else OPS["add"](total, term)
        return total

    body = (lambda m, *x, **attrs: getattr(m, scalar)(*x)) if isinstance(scalar, str) else scalar
    op = Op(
        name, "elementwise", infer, numpy, vjp=vjp if partials else None, jvp=jvp if partials else None, scalar=body,
        promote=promote, arity=arity, result=result, dtypes=dtypes, **row,
    )  # fmt: skip
    for method in operator.split():
        install_operator(op, method)
    for n in np_names.split():
        NUMPY_UFUNCS[n] = op
    return op


def _zero_d(r: Any) -> np.ndarray:
    """What a kernel returned instead of an array: NumPy's scalar for a 0-d result."""
    if isinstance(r, np.generic):
        return run_silently(np.asarray, r)
    raise TypeError(f"a kernel returned {type(r).__name__}")


# The methods that are operators, by name; and public functions, each with what gives it a native form.
INSTALLED: dict[str, Callable[..., Any]] = {}
FUNCTIONS: list[tuple[Any, Callable[[Callable[..., Any]], None]]] = []


def _fast_kinds(op: Op) -> str:
    """The kinds of operands that the kernel may be called with at once, as NumPy's letters; empty: all."""
    return "".join(k for k in "fc" if k in op.dtypes) if op.promote == "float" else op.kinds


def _unary(op: Op, door: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[[Callable[..., Any]], None]]:
    """The op on one operand; an eager tensor with nobody listening goes to the kernel at once.

    The second result sets a native form to be asked first; it returns NotImplemented for what it does not do.
    """
    kernel, kinds = op.numpy, _fast_kinds(op)
    ndarray, new, run = np.ndarray, object.__new__, run_silently
    native: Callable[..., Any] | None = None
    calls = WARM

    def f(x: Any, name: str | None = None) -> Tensor:
        nonlocal calls
        if native is not None and (r := native(x)) is not NotImplemented:
            return r
        if type(x) is Tensor and not activity.busy:
            calls -= 1
            if calls <= 0:
                calls = WARM
                warm()
            a = x._a
            if not kinds or a.dtype.kind in kinds:
                try:
                    r = run(kernel, a)
                    t = new(Tensor)
                    t._a = r if type(r) is ndarray else _zero_d(r)
                    return t
                except Exception:  # the door explains it, once this is no longer what it arises from
                    pass
        return door(op, (x,), {})

    def accelerate(function: Callable[..., Any]) -> None:
        nonlocal native
        native = function

    return f, accelerate


def _binary(op: Op, foreign: bool) -> tuple[Callable[..., Any], Callable[[Callable[..., Any]], None]]:
    """The op on two operands; eager tensors of one dtype with nobody listening go to the kernel at once.

    `foreign`: operands of unknown types are an error, not NotImplemented. The second result is as `_unary` has it.
    """
    door, kernel, kinds = Op.door if foreign else arithmetic, op.numpy, _fast_kinds(op)
    ndarray, new, run = np.ndarray, object.__new__, run_silently
    # NumPy's treatment of a Python number beside a floating array is ours
    weak = isinstance(kernel, np.ufunc) and op.promote != "none"
    native: Callable[..., Any] | None = None
    calls = WARM

    def f(x: Any, y: Any, name: str | None = None) -> Any:
        nonlocal calls
        if native is not None and (r := native(x, y)) is not NotImplemented:
            return r
        if type(x) is Tensor and not activity.busy:
            calls -= 1
            if calls <= 0:
                calls = WARM
                warm()
            a = x._a
            if type(y) is Tensor or type(y) is ndarray:
                b = y._a if type(y) is Tensor else y
                if a.dtype is b.dtype and (not kinds or a.dtype.kind in kinds):
                    try:
                        r = run(kernel, a, b)
                        t = new(Tensor)
                        t._a = r if type(r) is ndarray else _zero_d(r)
                        return t
                    except Exception:  # the door explains it
                        pass
            elif weak and (type(y) is float or type(y) is int) and a.dtype.kind == "f":
                try:
                    r = run(kernel, a, y)
                    t = new(Tensor)
                    t._a = r if type(r) is ndarray else _zero_d(r)
                    return t
                except Exception:
                    pass
        return door(op, (x, y), {}) if foreign or _operand_like(y) else NotImplemented

    def accelerate(function: Callable[..., Any]) -> None:
        nonlocal native
        native = function

    return f, accelerate


def _reflected(op: Op) -> Callable[..., Any]:
    """The op with the operands exchanged, for `2.0 * x` and the like."""
    door, kernel = arithmetic, op.numpy
    ndarray, new, run = np.ndarray, object.__new__, run_silently
    weak = isinstance(kernel, np.ufunc) and op.promote != "none"

    def f(self: Operand, other: Any) -> Any:
        if weak and (type(other) is float or type(other) is int) and type(self) is Tensor and not activity.busy:
            a = self._a
            if a.dtype.kind == "f":
                try:
                    r = run(kernel, other, a)
                    t = new(Tensor)
                    t._a = r if type(r) is ndarray else _zero_d(r)
                    return t
                except Exception:  # the door explains it
                    pass
        return door(op, (other, self), {}) if _operand_like(other) else NotImplemented

    return f


def install_operator(op: Op, method: str) -> None:
    """Give Tensor and Variable a Python operator; a reflected method swaps the operands."""
    if op.arity == 1:
        f = _unary(op, arithmetic)[0]
    elif method.startswith("__r") and method != "__rshift__":
        f = _reflected(op)
    else:
        f = _binary(op, foreign=False)[0]
    f.__name__ = method
    install_method(method, f)


def install_method(name: str, f: Callable[..., Any]) -> None:
    """Give Tensor and Variable a method that is an operator."""
    INSTALLED[name] = f
    setattr(Operand, name, f)


def _operand_like(x: Any) -> bool:
    if isinstance(x, (Operand, int, float, complex, np.ndarray, np.generic, Dim)) or type(x) in (list, tuple):
        return True
    if hasattr(x, "__own_operators__"):
        return False
    return hasattr(x, "__array__") or hasattr(x, "__tensor__")


def public(op: Op, doc: str = "") -> Callable[..., Any]:
    """The function that users call: the op with TensorFlow's `name` argument, which is taken and ignored."""
    f, accelerate = _unary(op, Op.door) if op.arity == 1 else _binary(op, foreign=True)
    f.__name__ = f.__qualname__ = op.name
    f.__doc__ = doc or op.doc
    f.op = op  # type: ignore[attr-defined]
    FUNCTIONS.append((f, accelerate))
    return f


def numpy_name(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make `np.<name>(tensor, …)` call the decorated function."""

    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        for n in names:
            NUMPY_FUNCTIONS[n] = f
        return f

    return register


def same_shape(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(x is y or fit(x, y) for x, y in zip(a, b, strict=True))


def np_dtype(d: DType) -> np.dtype:
    return d.np


def dtype_of(a: np.ndarray) -> DType:
    return _by_np[a.dtype]


cached = functools.lru_cache(maxsize=None)
