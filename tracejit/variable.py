"""Variable: an array that can be assigned, eagerly or in a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracejit.context import activity, context, reading
from tracejit.conversion import convert, convert_unharmed
from tracejit.errors import ArgumentError, DTypeError, ShapeError, TracedValueError, UnsupportedError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit
from tracejit.ir.types import TensorType, _by_np, canonical, promote, promote_weak
from tracejit.operand import Operand, Tensor, _no_value, left_to_python
from tracejit.quiet import aligned, quietly
from tracejit.slices import IndexedSlices
from tracejit.spreading import spread_to


def _refuse_in_trace() -> None:
    if context.trace is not None:
        raise locate(
            TracedValueError(
                "a Variable cannot be made while a function is being traced",
                remedy="make it before the first call; the function can read and assign it from outside",
            )
        )


def _in_its_own_type(assign: Callable[[Any], Variable], value: Any) -> Variable:
    """An assignment in a scope that reads Variables in another type than theirs."""
    with reading(None):
        return assign(value)


_PLAIN: frozenset[type] = frozenset((Tensor, np.ndarray, float, int, bool, list))  # initial values


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
        if dtype is None and shape is None and (native := fast.convert) is not None and type(initial_value) in _PLAIN:
            if (r := native(initial_value, None)) is not NotImplemented and type(r._a) is not Value:
                self.trainable, self._name = bool(trainable), name or "Variable"
                a = r._a
                if type(initial_value) is Tensor and not (a.flags.c_contiguous and a.flags.owndata):
                    a = quietly(np.array, canonical(a), order="C", copy=True)
                self._a = a
                return
        if initial_value is None:
            raise ArgumentError("a Variable needs an initial_value")
        trace: Any = context.trace
        if trace is not None and not hasattr(trace, "make"):
            _refuse_in_trace()
        value = initial_value() if callable(initial_value) else initial_value
        t = convert_unharmed(value, dtype)
        own = tuple(t.shape) if trace is None else tuple([int(d) for d in t.shape])
        if shape is not None and tuple(shape) != own:
            fixed = "the shape of a Variable does not change: make it of the largest size, or keep a tensor"
            remedy = fixed if None in tuple(shape) else None
            raise locate(ShapeError(f"initial_value has shape {own}, shape= asks for {tuple(shape)}", remedy))
        self.trainable = bool(trainable)
        self._name = name or "Variable"
        if trace is None:
            a = t._value("a Variable's initial value")
            self._a = quietly(np.array, canonical(a), order="C", copy=True)
        else:
            self._a = np.zeros(own, t.dtype.np)  # stands for the shape and dtype
            trace.make(self, t)

    @property
    def name(self) -> str:
        return f"{self._name}:0"

    def __repr__(self) -> str:
        body = "" if type(self._a) is Value else f", numpy={self._a!r}"
        return f"<tj.Variable '{self.name}' shape={self._a.shape} dtype={self.dtype.name}{body}>"

    def __setitem__(self, key: Any, value: Any) -> None:
        raise locate(
            UnsupportedError(
                "'tracejit.Variable' object does not support item assignment",
                remedy="write v[key].assign(value) instead",
            )
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        _refuse_in_trace()
        return super().__reduce_ex__(max(protocol, 2))  # all slots, those of subclasses included

    def __setstate__(self, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
        attributes, slots = state
        self.__dict__.update(attributes or {})
        for name, x in slots.items():
            setattr(self, name, x)
        self._a = aligned(self._a)

    # --- reading ----------------------------------------------------------------------------------------------
    def _value(self, what: str) -> np.ndarray:
        if context.trace is not None:
            raise _no_value(context.trace.read(self), what)
        if context.tapes:
            left_to_python(self, what)
        return self._a

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        a = self._a
        if not activity.busy and a.ndim:
            return a.copy()
        return self._value(".numpy()").copy() if self._a.ndim else self._value(".numpy()")[()]

    def read_value(self) -> Tensor:
        """The value now, as a Tensor that later assignments do not touch."""
        if (native := fast.identity) is not None and (r := native(self)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
        return OPS["identity"](self)

    value = read_value

    if TYPE_CHECKING:  # `ops.rows` installs them, and their like

        def scatter_add(self, sparse_delta: IndexedSlices, /) -> Variable: ...
        def scatter_sub(self, sparse_delta: IndexedSlices, /) -> Variable: ...

    # --- assigning --------------------------------------------------------------------------------------------
    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Set the value. Returns the Variable. Raises `ShapeError` or `DTypeError` and changes nothing."""
        if (native := fast.assign) is not None and (r := native(self, value)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
        if context.autocast is not None:
            return _in_its_own_type(self.assign, value)
        t = self._fitting(value)
        if context.trace is not None:
            context.trace.assign(self, t)
        else:
            a = canonical(t._value("assigning it"))
            if context.told is not None:
                context.told(self)
            # a view's memory may be part of something larger, and in-place updates need a plain block
            self._a = a if a.flags.c_contiguous and a.flags.owndata else quietly(np.array, a, order="C", copy=True)
        return self

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """`v += delta`; of `IndexedSlices` only the rows that they name are touched."""
        native = fast.assign_add if Variable.assign is _assign else None  # nobody has replaced it
        if native is not None and (r := native(self, delta)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
        if type(delta) is IndexedSlices:
            return self.scatter_add(delta)
        if context.autocast is not None:
            return _in_its_own_type(self.assign_add, delta)
        return self.assign(OPS["add"](self, self._fitting(delta, broadcast=True)))

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """`v -= delta`; of `IndexedSlices` only the rows that they name are touched."""
        native = fast.assign_sub if Variable.assign is _assign else None
        if native is not None and (r := native(self, delta)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
        if type(delta) is IndexedSlices:
            return self.scatter_sub(delta)
        if context.autocast is not None:
            return _in_its_own_type(self.assign_sub, delta)
        return self.assign(OPS["sub"](self, self._fitting(delta, broadcast=True)))

    def _fitting_dtype(self, value: Operand) -> Tensor:
        """The value in the Variable's dtype, unless that would lose precision."""
        t = value if type(value) is Tensor else OPS["identity"](value)
        own = _by_np[self._a.dtype]
        weak = type(t._a) is Value and t._a.type.weak  # a Python number: its kind counts
        if t.dtype is own and not weak:
            return t
        fits = promote_weak(own, "i" if t.dtype.kind in "iu" else t.dtype.kind) if weak else promote(own, t.dtype)
        if fits is not own:
            raise locate(
                DTypeError(
                    f"cannot assign {t.type} to {self._label()}: it would lose precision",
                    remedy=f"tj.cast(value, tj.{own.name})",
                )
            )
        return OPS["cast"](t, dtype=own)

    def _fitting(self, value: Any, broadcast: bool = False) -> Tensor:
        t = self._fitting_dtype(value if isinstance(value, Operand) else convert(value, _by_np[self._a.dtype]))
        if any(isinstance(d, Dim) and d.is_found for d in t.shape):
            t = self._fitting_when_run(t, broadcast)
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

    def _fitting_when_run(self, t: Tensor, broadcast: bool) -> Tensor:
        """The same for sizes that only the program knows, which checks them."""
        shape = tuple(self._a.shape)
        if broadcast:
            t = spread_to(t, shape)
        if len(t.shape) > len(shape):
            return t
        own = shape[len(shape) - len(t.shape) :]
        if (len(own) == len(shape) or broadcast) and all(map(fit, t.shape, own)):
            t = OPS["reshape"](t, shape=own)
        return t

    def _label(self) -> str:
        return f"Variable '{self._name}' {TensorType(_by_np[self._a.dtype], self._a.shape)}"


_assign = Variable.assign
