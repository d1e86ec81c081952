"""Tensor and Variable, and the door through which every operation goes: eagerly with NumPy, or into a trace."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import (
    ArgumentError,
    DTypeError,
    LeakedTensorError,
    OutOfRangeError,
    ShapeError,
    TracedValueError,
    TracejitError,
    locate,
)
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import (
    DType,
    TensorType,
    _by_np,
    as_dtype,
    float32,
    float64,
    int32,
    int64,
    promote,
    promote_weak,
    show_shape,
    weak_kind,
)


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


NUMPY_UFUNCS: dict[str, Callable[..., Any]] = {}
NUMPY_FUNCTIONS: dict[str, Callable[..., Any]] = {}
_ndarray = np.ndarray
_asarray = np.asarray


class Operand:
    """What Tensor and Variable share: the payload `_a` and everything that reads it. Operators are added by the ops."""

    __slots__ = ("_a", "__dict__", "__weakref__")
    __array_priority__ = 1000
    _a: Any

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
        return len(self.shape)

    @property
    def size(self) -> int | Dim:
        return self.shape.num_elements()

    @property
    def T(self) -> Tensor:
        return OPS["transpose"](self, perm=tuple(range(self.ndim))[::-1])

    def get_shape(self) -> TensorShape:
        return self.shape

    # --- its value --------------------------------------------------------------------------------------------
    def _value(self, what: str) -> np.ndarray:
        a = self._a
        if type(a) is _ndarray:
            return a
        raise _no_value(self, what)

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array that must not be written to; it shares memory with the tensor."""
        v = self._value(".numpy()").view()
        v.flags.writeable = False
        return v if v.ndim else v[()]

    def item(self) -> Any:
        return self._value(".item()").item()

    def tolist(self) -> Any:
        return self._value(".tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self._value("a NumPy array")
        if dtype is not None and np.dtype(dtype) != a.dtype:
            return a.astype(dtype)
        if copy:
            return a.copy()
        v = a.view()
        v.flags.writeable = False
        return v

    def __dlpack__(self, **kwargs: Any) -> Any:
        """Read-only, unless the consumer is too old to be told so; it must not write then either."""
        can_be_told = (kwargs.get("max_version") or (0, 0)) >= (1, 0)
        return (self.__array__() if can_be_told else self._value("DLPack")).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.__array__())  # type: ignore[arg-type]  # a buffer in NumPy's stubs from Python 3.12 on

    def __float__(self) -> float:
        return float(self._value("float()").item()) if self._one("float()") else 0.0

    def __int__(self) -> int:
        return int(self._value("int()").item()) if self._one("int()") else 0

    def __complex__(self) -> complex:
        return complex(self._value("complex()").item())

    def __index__(self) -> int:
        a = self._value("an index")
        if a.ndim or a.dtype.kind not in "iu":
            raise TypeError(f"only a 0-d integer tensor is an index, not {self.type}")
        return int(a)

    def _one(self, what: str) -> bool:
        a = self._value(what)
        if a.size != 1:
            raise locate(ShapeError(f"{what} needs one element, the tensor is {self.type}"))
        return True

    def __bool__(self) -> bool:
        a = self._a
        if type(a) is not _ndarray:
            raise _no_value(self, "bool()")
        if a.size != 1:
            raise locate(
                ShapeError(f"the truth of {self.type} is ambiguous", remedy="use tj.reduce_any(x) or tj.reduce_all(x)")
            )
        return bool(a.item() if a.ndim else a)

    def __len__(self) -> int:
        s = self.shape
        if not s:
            raise TypeError("len() of a 0-d tensor")
        return int(s[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    def __hash__(self) -> int:
        _steers(self)
        return id(self) >> 4

    def __str__(self) -> str:
        _steers(self)
        return repr(self)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        a = self._value(f"format {spec!r}")
        if a.size != 1:
            raise TypeError(f"format {spec!r} needs one element, the tensor is {self.type}")
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
            return f(*inputs)
        return _through_numpy(f"np.{ufunc.__name__}", getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: tuple, kwargs: dict) -> Any:
        f = NUMPY_FUNCTIONS.get(func.__name__)
        if f is not None:
            try:
                return f(*args, **kwargs)
            except TypeError as e:
                if isinstance(e, TracejitError):
                    raise
        return _through_numpy(f"np.{func.__name__}", func, args, kwargs)


def _through_numpy(name: str, f: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Call NumPy itself on the values and wrap what comes back."""

    def plain(x: Any) -> Any:
        if isinstance(x, Operand):
            if type(x._a) is Value:
                raise locate(TracedValueError(f"{name} cannot be traced", remedy="use the function of tracejit's own"))
            return x._a
        if type(x) in (list, tuple):
            return type(x)([plain(y) for y in x])
        return x

    r = f(*[plain(x) for x in args], **{k: plain(v) for k, v in kwargs.items()})
    return wrap(r) if isinstance(r, (np.ndarray, np.generic)) and r.dtype in _by_np else r


class Tensor(Operand):
    """An array that never changes: eager, with its values, or traced, standing for a value of a graph.

    Made by `tj.constant`, `tj.zeros` and the like, never by calling the class.
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
            return f"tj.Tensor(<traced>, shape={show_shape(a.shape)}, dtype={a.dtype.name})"
        return f"tj.Tensor({a!s}, shape={a.shape}, dtype={self.dtype.name})"  # format() would widen 0-d float32

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "'tracejit.Tensor' object does not support item assignment; "
            "keep what changes in a tj.Variable: v[key].assign(value)"
        )

    def __reduce__(self) -> tuple[Any, tuple[np.ndarray]]:
        return wrap, (self._value("pickling"),)

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self


_new = object.__new__


def wrap(a: Any) -> Tensor:
    """A Tensor that holds this NumPy array (not copied) or this graph value."""
    if type(a) is not _ndarray and type(a) is not Value:
        a = _asarray(a)
    t = _new(Tensor)
    t._a = a
    return t


def _no_value(x: Operand, what: str) -> TracejitError:
    a = x._a
    if context.trace is not None:
        context.trace.need_value(a)
    made = f"; it was made at {a.node.loc}" if a.node is not None and a.node.loc else " (an argument)"
    if context.trace is None:
        return leaked(a)
    return locate(
        TracedValueError(
            f"{what} asks for the value of a traced tensor {a.type}, which is known only when the function runs{made}",
            remedy="use tj.where(condition, a, b), return the tensor, or call the function outside tj.function",
        )
    )


def _steers(x: Operand) -> None:
    """A Python number that was made an input is put to a use that only numbers have: it becomes a constant."""
    a = x._a
    if type(a) is Value and a.type.weak and context.trace is not None:
        context.trace.need_value(a)


def leaked(v: Value) -> TracejitError:
    loc = v.node.loc if v.node is not None else None
    line = f" made at {loc.show()[0].strip()}" if loc else " (an argument of the traced function)"
    return locate(
        LeakedTensorError(
            f"a traced tensor {v.type} is used after its trace has ended;{line}",
            remedy="return it from the function instead of storing it outside",
        )
    )


_names: dict[str, int] = {}


class Variable(Operand):
    """State: an array that can be assigned. Its shape and dtype stay.

    Parameters
    ----------
    initial_value : array-like, Tensor, or a callable that returns one
    trainable : whether tapes watch it unasked
    name : shown when it is printed
    dtype : element type; that of the value by default
    shape : must equal the value's if given

    Raises `ShapeError` or `DTypeError` when a value does not fit; the Variable then keeps its value.
    """

    __slots__ = ("trainable", "_name")

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
        shape: Sequence[int] | None = None,
        **ignored: Any,
    ) -> None:
        if initial_value is None:
            raise ArgumentError("a Variable needs an initial_value")
        if context.trace is not None:
            raise locate(
                TracedValueError(
                    "a Variable cannot be made while a function is being traced",
                    remedy="make it before the first call; the function can read and assign it from outside",
                )
            )
        value = initial_value() if callable(initial_value) else initial_value
        t = convert(value, dtype)
        a = t._value("a Variable's initial value")
        if shape is not None and tuple(shape) != a.shape:
            raise locate(ShapeError(f"initial_value has shape {a.shape}, shape= asks for {tuple(shape)}"))
        self._a = np.array(a, order="C", copy=True)
        self.trainable = bool(trainable)
        self._name = name or "Variable"

    @property
    def name(self) -> str:
        return f"{self._name}:0"

    def __repr__(self) -> str:
        body = "" if type(self._a) is Value else f", numpy={self._a!r}"
        return f"<tj.Variable '{self.name}' shape={self._a.shape} dtype={self.dtype.name}{body}>"

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "'tracejit.Variable' object does not support item assignment; write v[key].assign(value) instead"
        )

    def __deepcopy__(self, memo: dict) -> Variable:
        return Variable(self._a, self.trainable, self._name)

    def __reduce__(self) -> tuple[Any, tuple]:
        return Variable, (self._a, self.trainable, self._name)

    # --- reading ----------------------------------------------------------------------------------------------
    def _value(self, what: str) -> np.ndarray:
        if context.trace is not None:
            raise _no_value(context.trace.read(self), what)
        return self._a

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        return self._value(".numpy()").copy() if self._a.ndim else self._value(".numpy()")[()]

    def read_value(self) -> Tensor:
        """The value now, as a Tensor that later assignments do not touch."""
        return OPS["identity"](self)

    value = read_value

    # --- assigning --------------------------------------------------------------------------------------------
    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Set the value. Returns the Variable. Raises `ShapeError` or `DTypeError` and changes nothing."""
        t = self._fitting(value)
        if context.trace is not None:
            context.trace.assign(self, t)
        else:
            a = t._value("assigning it")
            # a view's memory may be part of something larger, and in-place updates need a plain block
            self._a = a if a.flags.c_contiguous and a.flags.owndata else np.array(a, order="C", copy=True)
        return self

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """`v += delta`."""
        return self.assign(OPS["add"](self, self._fitting(delta, broadcast=True)))

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """`v -= delta`."""
        return self.assign(OPS["sub"](self, self._fitting(delta, broadcast=True)))

    def _fitting_dtype(self, value: Operand) -> Tensor:
        """The value in the Variable's dtype, unless that would lose precision."""
        t = value if type(value) is Tensor else OPS["identity"](value)
        own = _by_np[self._a.dtype]
        if t.dtype is own:
            return t
        if promote(own, t.dtype) is not own and not (type(t._a) is Value and t._a.type.weak):
            raise locate(
                DTypeError(
                    f"cannot assign {t.type} to {self._label()}: it would lose precision",
                    remedy=f"tj.cast(value, tj.{own.name})",
                )
            )
        return OPS["cast"](t, dtype=own)

    def _fitting(self, value: Any, broadcast: bool = False) -> Tensor:
        t = self._fitting_dtype(value if isinstance(value, Operand) else convert(value, _by_np[self._a.dtype]))
        if t.shape != self._a.shape:
            fits = broadcast and len(t.shape) <= self._a.ndim
            if fits:
                try:
                    fits = np.broadcast_shapes(tuple(map(int, t.shape)), self._a.shape) == self._a.shape
                except ValueError:
                    fits = False
            if not fits:
                raise locate(ShapeError(f"cannot assign {t.type} to {self._label()}: the shapes differ"))
        return t

    def _label(self) -> str:
        return f"Variable '{self._name}' {TensorType(_by_np[self._a.dtype], self._a.shape)}"


# --- conversion ---------------------------------------------------------------------------------------------------
def to_array(x: Any, dtype: DType | None = None) -> np.ndarray:
    """A NumPy array from a Python value: floats become float32 and integers int32 unless they are too large for it.

    NumPy arrays keep their dtype. Nothing is narrowed silently: an integer that fits no type raises `DTypeError`.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        a = _asarray(x)
        if dtype is not None and a.dtype != dtype.np:
            return _converted(a, dtype)
        as_dtype(a.dtype)
        return a
    try:
        a = _asarray(x)
    except ValueError as e:
        raise locate(ShapeError(f"the nested lists have no regular shape: {e}")) from None
    if dtype is not None:
        if a.dtype.kind in "biufcV":
            return _converted(a, dtype)
    elif a.dtype == np.float64:
        return a.astype(np.float32) if _only_python(x) else a
    elif a.dtype == np.int64 and _only_python(x):
        fits = not a.size or (int(a.min()) >= -(2**31) and int(a.max()) < 2**31)
        return a.astype(np.int32) if fits else a
    elif a.dtype == np.complex128 and _only_python(x):
        return a
    elif a.dtype in _by_np:
        return a
    raise locate(DTypeError(f"a value of type {type(x).__name__} ({a.dtype}) cannot become a tensor"))


def _converted(a: np.ndarray, dtype: DType) -> np.ndarray:
    """The array in the dtype that was asked for, if its values are of that kind and in that range."""
    kind = a.dtype.kind
    if (dtype.kind in "iu" and kind == "f") or (dtype.kind in "iuf" and kind == "c"):
        values = "complex" if kind == "c" else "floating-point"
        raise locate(DTypeError(f"cannot make {dtype.name} from {values} values", remedy="tj.cast(x, dtype)"))
    if dtype.kind in "iu" and kind in "iu" and a.size:
        lo, hi = np.iinfo(dtype.np).min, np.iinfo(dtype.np).max
        if int(a.min()) < lo or int(a.max()) > hi:
            raise locate(DTypeError(f"a value is outside {dtype.name}'s range {lo} … {hi}"))
    return a.astype(dtype.np)


def _only_python(x: Any) -> bool:
    """Whether a nest holds Python numbers only (their dtype is our choice) and no NumPy ones."""
    while type(x) in (list, tuple) and x:
        if any(isinstance(y, (np.ndarray, np.generic)) for y in x):
            return False
        x = x[0]
    return not isinstance(x, (np.ndarray, np.generic))


def convert(x: Any, dtype: Any = None) -> Tensor:
    """A Tensor from a Tensor, Variable, array, Python number or nest of them. The public `convert_to_tensor`."""
    d = None if dtype is None else as_dtype(dtype)
    if isinstance(x, Operand):
        t = x if type(x) is Tensor else OPS["identity"](x)
        return t if d is None or t.dtype is d else OPS["cast"](t, dtype=d)
    if type(x) in (list, tuple) and _holds_tensors(x):
        parts = [convert(y, d) for y in x]
        return OPS["concat"](*[OPS["reshape"](p, shape=(1, *p.shape)) for p in parts], axis=0)
    trace = context.trace
    if isinstance(x, Dim) and trace is not None:
        t = OPS["dim"](size=x)
        return t if d is None or d is t.dtype else OPS["cast"](t, dtype=d)
    if hasattr(x, "__tensor__"):
        return convert(x.__tensor__(), d)
    a = to_array(x, d)
    if trace is not None:
        return trace.lift(a, x)
    if a is x or a.base is not None:
        a = a.copy()
    return wrap(a)


def _holds_tensors(x: Any) -> bool:
    return any(isinstance(y, (Operand, Dim)) or (type(y) in (list, tuple) and _holds_tensors(y)) for y in x)


# --- the door -----------------------------------------------------------------------------------------------------
def _strong(x: Any) -> DType | None:
    """The dtype that counts in promotion, None for Python scalars and weak traced values."""
    if isinstance(x, Operand):
        a = x._a
        if type(a) is Value:
            return None if a.type.weak else a.type.dtype
        return _by_np[a.dtype]
    if isinstance(x, (np.ndarray, np.generic)):
        return as_dtype(x.dtype)
    return None


def _weak_of(x: Any) -> str | None:
    if isinstance(x, Operand) and type(x._a) is Value and x._a.type.weak:
        k = x._a.type.dtype.kind
        return "i" if k in "iu" else k
    return "i" if isinstance(x, Dim) else weak_kind(x)


def common_dtype(xs: Sequence[Any]) -> tuple[DType, bool]:
    """The promoted dtype of the operands, and whether it is weak (all operands are Python scalars)."""
    strong: DType | None = None
    kinds = ""
    for x in xs:
        d = _strong(x)
        if d is None and (w := _weak_of(x)) is not None:
            kinds += w
            continue
        if d is None:
            d = convert(x).dtype
        strong = d if strong is None else promote(strong, d)
    if not kinds:
        assert strong is not None
        return strong, False
    weak = max(kinds, key="bifc".index)
    return promote_weak(strong, weak), strong is None


def _floating(d: DType, weak: bool) -> DType:
    """The floating type that an integer operand of a floating function becomes: NumPy's rule without float16."""
    if d.kind in "fc":
        return d
    return float32 if weak or d.bits <= 16 else float64


def _prepare(op: Op, inputs: tuple) -> tuple[tuple, tuple]:
    """Operands as the op takes them: (what tapes know them by, tensors)."""
    mode = op.promote
    if mode == "none":
        keys = tuple([x if isinstance(x, Operand) else convert(x) for x in inputs])
    else:
        if op.name == "mul" and any(type(x) in (list, tuple) for x in inputs):
            for x in inputs:  # `[x] * n` repeats the list
                if isinstance(x, Operand):
                    _steers(x)
        head: tuple = ()
        rest = inputs
        if mode == "select":
            c = inputs[0] if isinstance(inputs[0], Operand) else convert(inputs[0])
            head, rest = (c if c.dtype.kind == "b" else OPS["cast"](c, dtype=as_dtype("bool")),), inputs[1:]
        d, weak = common_dtype(rest)
        if mode == "float":
            d = _floating(d, weak)
        if weak and d.kind == "i" and op.name == "pow" and not (type(inputs[1]) is int and inputs[1] >= 0):
            for x in (x for x in inputs if isinstance(x, Operand)):
                _steers(x)  # Python's n ** -1 is no integer
        if weak and op.family == "elementwise" and mode != "select" and context.trace is not None:
            d = _WIDEST[d.kind]  # Python's own arithmetic, as precise
        else:
            weak = False
        keys = head + tuple([_bring(x, d, weak) for x in rest])
    trace = context.trace
    values = tuple([k if type(k) is Tensor else trace.read(k) if trace is not None else wrap(k._a) for k in keys])
    return keys, values


def _bring(x: Any, d: DType, weak: bool) -> Operand:
    if isinstance(x, Operand):
        a = x._a
        if type(a) is Value:
            same = a.type.dtype is d and (not a.type.weak or weak)
        else:
            same = a.dtype is d.np or a.dtype == d.np
        return x if same else OPS["cast"](x, dtype=d, weak=True) if weak else OPS["cast"](x, dtype=d)
    if weak_kind(x) is not None:
        if weak:
            return context.trace.scalar(x, d, True)  # type: ignore[union-attr]
        if type(x) is int and d.kind in "iu" and not _fits(x, d):
            raise locate(DTypeError(f"the Python integer {x} does not fit {d.name}", remedy="cast the tensor first"))
        if context.trace is not None:
            return context.trace.scalar(x, d, False)
        return wrap(_asarray(x, d.np))
    return convert(x, d)


_WIDEST = {"b": as_dtype("bool"), "i": int64, "f": float64, "c": as_dtype("complex128")}


def _fits(x: int, d: DType) -> bool:
    return d.min <= x <= d.max


def _at_once(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """The result where the operands are eager tensors that need no conversion, None otherwise and after an error."""
    arrays = []
    for x in inputs:
        if type(x) is not Tensor and type(x) is not Variable:
            return None
        a = x._a
        if type(a) is not _ndarray:
            return None
        arrays.append(a)
    mode = op.promote
    if mode != "none":
        d = arrays[-1].dtype
        for a in arrays[1 if mode == "select" else 0 : -1]:
            if a.dtype is not d:
                return None
        if (mode == "float" and d.kind not in "fc") or (mode == "select" and arrays[0].dtype.kind != "b"):
            return None
    try:
        r = run_silently(op.numpy, *arrays, **attrs)
    except Exception:
        return None
    return tuple([wrap(y) for y in r]) if type(r) is tuple else wrap(r)


def door(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """Bring the operands together, evaluate, tell the tapes."""
    if not activity.busy:
        out = _at_once(op, inputs, attrs)
        if out is not None:
            return out
    keys, values = _prepare(op, inputs)
    trace = context.trace
    out = _eager(op, values, attrs) if trace is None else trace.evaluate(op, values, attrs)
    if context.tapes:
        outs = out if type(out) is tuple else (out,)
        for tape in context.tapes:
            tape.record(op, keys, values, attrs, outs)
    return out


Op.door = staticmethod(door)


# np.errstate costs four times what a small np.add does; a context that holds its setting costs a tenth of it
_silent = contextvars.Context()
_silent.run(lambda: np.errstate(all="ignore").__enter__())
run_silently = _silent.run


def quietly(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `f` without NumPy's warnings of overflow, division by zero and the like."""
    try:
        return run_silently(f, *args, **kwargs)
    except RuntimeError:  # another thread, or a finalizer in this one, is in that context
        with np.errstate(all="ignore"):
            return f(*args, **kwargs)


def _eager(op: Op, values: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    try:
        r = quietly(op.numpy, *[v._a for v in values], **attrs)
    except TracejitError as e:
        raise locate(e) from None
    except Exception as e:
        for v in values:
            if type(v._a) is Value:
                raise leaked(v._a) from None
        raise _explained(op, values, attrs, e) from None
    return tuple([wrap(x) for x in r]) if type(r) is tuple else wrap(r)


def check(op: Op, types: Sequence[TensorType], attrs: dict[str, Any]) -> Any:
    """The op's result type, with its name and the operands in any error."""
    try:
        return op.infer(*types, **attrs)
    except TracejitError as e:
        shown = ", ".join(map(str, types))
        if not e.message.startswith(op.name):
            e.message = f"{op.name}({shown}): {e.message}"
        raise locate(e)  # noqa: B904


def _explained(op: Op, values: Sequence[Tensor], attrs: dict[str, Any], error: Exception) -> Exception:
    """What the shape rule says of operands that the kernel refused; the kernel's own words if it finds no fault."""
    try:
        check(op, [v.type for v in values], attrs)
    except TracejitError as e:
        return e
    shown = ", ".join(str(v.type) for v in values)
    kind = OutOfRangeError if isinstance(error, IndexError) else ArgumentError
    return locate(kind(f"{op.name}({shown}): {error}"))


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor or a Variable."""
    return isinstance(x, Operand)


def default_dtypes() -> tuple[DType, DType, DType]:
    return float32, int32, int64
