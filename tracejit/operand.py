"""Operand and Tensor: the payload, what is read from it, and how an array or a graph's value becomes a Tensor."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.context import activity, context, running
from tracejit.dlpack import exported
from tracejit.errors import (
    ArgumentError,
    ConversionError,
    LeakedTensorError,
    Location,
    ShapeError,
    TracedValueError,
    TracejitError,
    UnsupportedError,
    acts_for_users,
    locate,
    user_depth,
)
from tracejit.fast import fast
from tracejit.identity import Reference
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import DType, TensorType, _by_np, as_dtype, canonical, float64, int64, show_shape, weak_kind
from tracejit.quiet import aligned, our_memory, quietly, run_silently
from tracejit.unconverted import refusal


class TensorShape(tuple):
    """A shape: a tuple with TensorFlow's methods."""

    __slots__ = ()

    def as_list(self) -> list[int | Dim]:
        return list(self)

    @property
    def rank(self) -> int:
        return len(self)

    ndims = rank

    def num_elements(self) -> int | Dim:
        n: int | Dim = 1
        for d in self:
            n = n * d
        return n


_UNWRITTEN = "'where' without 'out': what the result holds elsewhere is not defined"
NUMPY_UFUNCS: dict[str, Callable[..., Any]] = {}
NUMPY_FUNCTIONS: dict[str, Callable[..., Any]] = {}
_ndarray = np.ndarray
_asarray = np.asarray


class Operand:
    """What Tensor and Variable share: the payload `_a` and everything that reads it. Operators are added by the ops."""

    __slots__ = ("_a", "_slice_of", "__dict__", "__weakref__")
    __array_priority__ = 1000
    _a: Any
    _slice_of: Any  # of a copy of a part of a Variable: the Variable and the key

    # --- what it is -------------------------------------------------------------------------------------------
    @property
    def type(self) -> TensorType:
        a = self._a
        return a.type if type(a) is Value else TensorType(as_dtype(a.dtype), a.shape)

    @property
    def dtype(self) -> DType:
        a = self._a
        return a.type.dtype if type(a) is Value else _by_np[a.dtype]

    @property
    def shape(self) -> TensorShape:
        a = self._a
        return TensorShape(a.type.shape if type(a) is Value else a.shape)

    @property
    def ndim(self) -> int:
        a = self._a
        return len(a.type.shape) if type(a) is Value else a.ndim

    @property
    def size(self) -> int | Dim:
        return self.shape.num_elements()

    @property
    def T(self) -> Tensor:
        quick = type(self._a) is _ndarray and not activity.busy
        return wrap(self._a.T) if quick else OPS["transpose"](self, perm=tuple(range(self.ndim))[::-1])

    def get_shape(self) -> TensorShape:
        return self.shape

    # --- its value --------------------------------------------------------------------------------------------
    def _value(self, what: str) -> np.ndarray:
        a = self._a
        if type(a) is _ndarray:
            if context.tapes:
                left_to_python(self, what)
            return a
        raise _no_value(self, what)

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array that must not be written to; it shares memory with the tensor."""
        v = self._value(".numpy()")
        return _sealed(self, v) if v.ndim else v[()]

    def item(self) -> Any:
        return self._value(".item()").item() if self._one(".item()") else None

    def tolist(self) -> Any:
        return self._value(".tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self._value("a NumPy array")
        if dtype is not None and np.dtype(dtype) != a.dtype:
            if copy is False:
                raise locate(ArgumentError(f"an array of {np.dtype(dtype)} of a tensor {self.type} is a copy"))
            return a.astype(dtype)
        if copy:
            return a.copy()
        return _sealed(self, a)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """The memory itself, read-only; a copy for consumers that cannot be told so, or do not heed it."""
        return exported(self._value("DLPack"), self.__array__, kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def ref(self) -> Reference:
        """A hashable reference, for sets and dicts: `{v.ref(): ...}`. It holds the tensor; `.deref()` gives it."""
        return Reference(self)

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.__array__())  # type: ignore[arg-type]  # a buffer in NumPy's stubs from Python 3.12 on

    def __float__(self) -> float:
        return float(self._value("float()").item()) if self._one("float()") else 0.0

    def __int__(self) -> int:
        return int(self._value("int()").item()) if self._one("int()") else 0

    def __complex__(self) -> complex:
        return complex(self._value("complex()").item()) if self._one("complex()") else 0j

    def __index__(self) -> int:
        a = self._a
        if len(a.shape) or a.dtype.kind not in "iu":
            raise locate(UnsupportedError(f"only a 0-d integer tensor is an index, not {self.type}"))
        return int(self._value("an index"))

    def _several(self) -> bool:
        """Whether it is known not to have one element."""
        a = self._a
        if type(a) is _ndarray:
            return a.size != 1
        if context.trace is None:
            raise leaked(a)
        return any(type(d) is int and d != 1 for d in a.shape)

    def _one(self, what: str) -> bool:
        if self._several():
            raise locate(ShapeError(f"{what} needs one element, the tensor is {self.type}"))
        return True

    def __bool__(self) -> bool:
        a = self._a
        if type(a) is not _ndarray and not self._several():
            error = _no_value(self, "bool()")
            raise locate((isinstance(error, TracedValueError) and refusal(f"a tensor {self.type}")) or error)
        if type(a) is not _ndarray or a.size != 1:
            raise locate(
                ShapeError(f"the truth of {self.type} is ambiguous", remedy="use tj.reduce_any(x) or tj.reduce_all(x)")
            )
        return bool(a.item() if a.ndim else a)

    def __len__(self) -> int:
        s = self.shape
        if not s:
            raise locate(UnsupportedError(f"len() of a 0-d tensor {self.type}, which has no axes"))
        return int(s[0])

    def __iter__(self) -> Iterator[Tensor]:
        if (native := fast.elements) is not None and (few := native(self)) is not NotImplemented:
            return iter(few)
        if not self.shape:
            raise locate(UnsupportedError(f"iteration over a 0-d tensor {self.type}, which has no axes"))
        return map(self.__getitem__, range(len(self)))

    def __hash__(self) -> int:
        only_known(self, "hash()")
        asks_which(self)
        return id(self) >> 4

    def __str__(self) -> str:
        _steers(self)
        return repr(self)

    def __format__(self, spec: str) -> str:
        """The bare value, as NumPy writes it; of a traced tensor what `str` says."""
        if not spec:
            _steers(self)
            return str(self) if type(self._a) is Value or context.trace is not None else str(self._a)
        if self._several():
            raise locate(UnsupportedError(f"format {spec!r} needs one element, the tensor is {self.type}"))
        a = self._value(f"format {spec!r}")
        return format(a.item(), spec)

    def __copy__(self) -> Operand:
        return self

    if TYPE_CHECKING:  # the ops install them

        def __add__(self, other: Any, /) -> Tensor: ...
        def __radd__(self, other: Any, /) -> Tensor: ...
        def __sub__(self, other: Any, /) -> Tensor: ...
        def __rsub__(self, other: Any, /) -> Tensor: ...
        def __mul__(self, other: Any, /) -> Tensor: ...
        def __rmul__(self, other: Any, /) -> Tensor: ...
        def __truediv__(self, other: Any, /) -> Tensor: ...
        def __rtruediv__(self, other: Any, /) -> Tensor: ...
        def __floordiv__(self, other: Any, /) -> Tensor: ...
        def __rfloordiv__(self, other: Any, /) -> Tensor: ...
        def __mod__(self, other: Any, /) -> Tensor: ...
        def __rmod__(self, other: Any, /) -> Tensor: ...
        def __divmod__(self, other: Any, /) -> tuple[Tensor, Tensor]: ...
        def __rdivmod__(self, other: Any, /) -> tuple[Tensor, Tensor]: ...
        def __pow__(self, other: Any, /) -> Tensor: ...
        def __rpow__(self, other: Any, /) -> Tensor: ...
        def __matmul__(self, other: Any, /) -> Tensor: ...
        def __rmatmul__(self, other: Any, /) -> Tensor: ...
        def __and__(self, other: Any, /) -> Tensor: ...
        def __rand__(self, other: Any, /) -> Tensor: ...
        def __or__(self, other: Any, /) -> Tensor: ...
        def __ror__(self, other: Any, /) -> Tensor: ...
        def __xor__(self, other: Any, /) -> Tensor: ...
        def __rxor__(self, other: Any, /) -> Tensor: ...
        def __lshift__(self, other: Any, /) -> Tensor: ...
        def __rlshift__(self, other: Any, /) -> Tensor: ...
        def __rshift__(self, other: Any, /) -> Tensor: ...
        def __rrshift__(self, other: Any, /) -> Tensor: ...
        def __lt__(self, other: Any, /) -> Tensor: ...
        def __le__(self, other: Any, /) -> Tensor: ...
        def __gt__(self, other: Any, /) -> Tensor: ...
        def __ge__(self, other: Any, /) -> Tensor: ...
        def __eq__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __round__(self, digits: int | None = None, /) -> Tensor: ...
        def __floor__(self) -> Tensor: ...
        def __ceil__(self) -> Tensor: ...
        def __trunc__(self) -> Tensor: ...
        def __getitem__(self, key: Any, /) -> Tensor: ...

    # --- NumPy's protocols ------------------------------------------------------------------------------------
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        f = NUMPY_UFUNCS.get(ufunc.__name__)
        if method == "__call__" and f is not None and not kwargs:
            return f(*_as_numpy(inputs))
        if method == "at" and isinstance(inputs[0], Operand):  # it writes to arrays that are read-only, too
            raise _written(f"np.{ufunc.__name__}.at")
        if method == "__call__" and "out" not in kwargs and kwargs.get("where", True) is not True:
            warnings.warn(_UNWRITTEN, UserWarning, stacklevel=user_depth())
            kwargs["out"] = None  # NumPy itself would name our line
        return _through_numpy(f"np.{ufunc.__name__}", getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: tuple, kwargs: dict) -> Any:
        f = NUMPY_FUNCTIONS.get(func.__name__)
        if func.__module__ == "numpy.linalg":  # it has some of the same names
            f = NUMPY_FUNCTIONS.get(f"linalg.{func.__name__}", f)
        if f is not None:
            try:
                return f(*args, **kwargs)
            except TypeError as e:
                if isinstance(e, TracejitError):
                    raise
        return _through_numpy(f"np.{func.__name__}", func, args, kwargs)


def _as_numpy(inputs: tuple) -> tuple:
    """Python numbers that a trace takes as NumPy sees numbers; beside tensors they stay what they are."""
    if context.trace is None or any(_weak_of(x) is None for x in inputs):
        return inputs
    return tuple([OPS["cast"](x, dtype=_WIDEST[x.dtype.kind]) if isinstance(x, Operand) else x for x in inputs])


def _through_numpy(name: str, f: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Call NumPy itself on the values, which it cannot change, and wrap what comes back, unless the user gave it."""
    given: list[np.ndarray] = []

    def plain(x: Any) -> Any:
        if isinstance(x, Operand):
            if type(x._a) is Value:
                raise locate(TracedValueError(f"{name} cannot be traced", remedy="use the function of tracejit's own"))
            return x.__array__()
        if type(x) in (list, tuple):
            return type(x)([plain(y) for y in x])
        if isinstance(x, np.ndarray):
            given.append(x)
        return x

    out = kwargs.get("out")
    if any(isinstance(x, Operand) for x in (out if type(out) is tuple else (out,))):
        raise _written(name)
    try:
        with our_memory():
            r = f(*[plain(x) for x in args], **{k: plain(v) for k, v in kwargs.items()})
    except ValueError as e:
        ours = "read-only" in str(e) and all(x.flags.writeable for x in given)
        raise (_written(name) if ours else e) from None
    if not isinstance(r, (np.ndarray, np.generic)) or r.dtype not in _by_np or any(r is x for x in given):
        return r
    owned = isinstance(r, np.ndarray) and r.flags.owndata
    return wrap(quietly(canonical, r) if owned else quietly(np.array, r, as_dtype(r.dtype).np))


def _sealed(x: Operand, a: np.ndarray) -> np.ndarray:
    """The array of a tensor as one that cannot be made writeable: that NumPy refuses where what it shows is not."""
    if (native := fast.sealed) is not None and (r := native(x)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    bits = a if a.dtype.kind != "V" else a.view(np.uint16)  # bfloat16, which no buffer has
    r = _asarray(memoryview(bits).toreadonly())  # type: ignore[arg-type]  # a buffer in NumPy's stubs from 3.12 on
    return r if bits is a else r.view(a.dtype)


def _written(name: str) -> TracejitError:
    return locate(
        ArgumentError(
            f"{name} would write to a tensor, and only assign changes what tensors and Variables hold",
            remedy="let it write to a NumPy array, np.array(x), or use its result",
        )
    )


class Tensor(Operand):
    """An array that never changes: eager, with its values, or traced, standing for a value of a graph.

    Made by `tj.constant`, `tj.zeros` and the like, never by calling the class. The buffer protocol (`memoryview(x)`) is
    there from Python 3.12 on, the first in which Python code can offer it; in 3.11 write `memoryview(x.numpy())`.
    """

    __slots__ = ()

    def __new__(cls, *args: Any) -> Tensor:
        if args:
            raise TypeError("Tensor is not made by calling it; use tj.constant(value)")
        return object.__new__(cls)

    @property
    def name(self) -> str:
        return self.__dict__.get("name", "Tensor")

    @property
    def device(self) -> str:
        return "cpu"

    def __repr__(self) -> str:
        a = self._a
        if type(a) is Value:
            return f"tj.Tensor(<traced>, shape={show_shape(a.shape, sizes=False)}, dtype={a.dtype.name})"
        return f"tj.Tensor({a!s}, shape={a.shape}, dtype={self.dtype.name})"  # format() would widen 0-d float32

    def __setitem__(self, key: Any, value: Any) -> None:
        raise locate(
            UnsupportedError(
                f"'tracejit.Tensor' object does not support item assignment (it is {self.type})",
                remedy="keep what changes in a tj.Variable: v[key].assign(value); make another tensor with "
                "tj.tensor_scatter_nd_update; or assign in a function that @tj.function converts",
            )
        )

    def __delitem__(self, key: Any) -> None:
        raise locate(UnsupportedError(f"'tracejit.Tensor' object does not support item deletion (it is {self.type})"))

    def __reduce__(self) -> tuple[Any, ...]:
        made = _restored, (self._value("pickling"),)
        return (*made, dict(self.__dict__)) if self.__dict__ else made

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self


def _restored(a: np.ndarray) -> Tensor:
    return wrap(aligned(a))


_new = object.__new__


def wrap(a: Any) -> Tensor:
    """A Tensor that holds this NumPy array (not copied) or this graph value."""
    if type(a) is not _ndarray and type(a) is not Value:
        try:
            a = run_silently(_asarray, a)
        except RuntimeError:
            a = quietly(_asarray, a)
    t = _new(Tensor)
    t._a = a
    return t


def left_to_python(x: Operand, what: str) -> None:
    """Tapes are told that Python or NumPy reads a value: no gradient flows through what they compute from it."""
    for tape in context.tapes:
        if hasattr(tape, "leave"):
            tape.leave(x, what)


_METHODS_AT = ("operand.py", "tensor.py", "variable.py")  # where the methods are that ask for values


def _no_value(x: Operand, what: str) -> TracejitError:
    a = x._a
    if context.trace is not None:
        context.trace.need_value(a)
    if context.trace is None:
        return leaked(a)
    made = _source(a, lambda loc: f"; it was made at {loc}")
    error = locate(
        TracedValueError(
            f"{what} asks for the value of a traced tensor {a.type}, which is known only when the function runs{made}",
            remedy="use tj.where(condition, a, b), return the tensor, or call the function outside tj.function",
        )
    )
    asking: Any = sys._getframe(1)
    while asking is not None and os.path.basename(asking.f_code.co_filename) in _METHODS_AT:
        asking = asking.f_back
    if asking is not None and acts_for_users(asking.f_code.co_filename):
        context.refused = error
    return error


def _steers(x: Operand) -> None:
    """A Python number that was made an input is put to a use that only numbers have: it becomes a constant."""
    a = x._a
    if type(a) is Value and a.type.weak and context.trace is not None:
        context.trace.need_value(a)


def only_known(x: Operand, what: str) -> None:
    """The same, where nothing else will do."""
    _steers(x)
    a = x._a
    if type(a) is Value and a.type.weak and context.trace is not None:
        raise _no_value(x, what)


def asks_which(x: Operand) -> None:
    """It counts which tensor it is, and not only what is in it."""
    if (told := getattr(context.trace, "asks_which", None)) is not None and type(x._a) is Value:
        told(x)


def _source(v: Value, at: Callable[[Location], str]) -> str:
    """Where a traced tensor comes from: what it stands for, or the line that made it."""
    n = v.node
    if n is not None and n.op.name == "cast" and n.inputs[0].origin is not None and v.type.weak:
        v = n.inputs[0]  # a Python integer
    if v.origin is not None:
        return f"; it is {v.origin()}"
    return at(n.loc) if n is not None and n.loc is not None else " (an argument)"


def leaked(v: Value) -> TracejitError:
    line = _source(v, lambda loc: f"; made at {loc.show()[0].strip()}")
    if any(v.scope >= scope and thread != threading.get_ident() for thread, scope in running.copy().items()):
        text = f"a traced tensor {v.type} is used in another thread than that which traces the function{line}"
        return locate(ConversionError(text, remedy="let the thread that calls the function do all operations of it"))
    if v.scope > running.get(threading.get_ident(), sys.maxsize):
        return locate(ConversionError(f"a tensor {v.type} of a branch or loop is used behind it{line}"))
    return locate(
        LeakedTensorError(
            f"a traced tensor {v.type} is used after its trace has ended{line}",
            remedy="return it from the function instead of storing it outside",
        )
    )


def _weak_of(x: Any) -> str | None:
    if isinstance(x, Operand) and type(x._a) is Value and x._a.type.weak:
        k = x._a.type.dtype.kind
        return "i" if k in "iu" else k
    return "i" if isinstance(x, Dim) else weak_kind(x)


_WIDEST = {"b": as_dtype("bool"), "i": int64, "f": float64, "c": as_dtype("complex128")}
