"""What is known of a value before it is computed: its dtype, its shape, and whether its dtype is only a wish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import ml_dtypes
import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.sizes import fit, know_units, shown, surer


class DType:
    """An element type. One object exists per type; it compares equal to its name and to NumPy's dtype.

    `np` is NumPy's dtype, `short` the name in printed graphs, `llvm` the type in LLVM IR memory.
    """

    __slots__ = ("name", "np", "short", "kind", "bits", "llvm", "rank")

    def __init__(self, name: str, np_dtype: np.dtype, short: str, kind: str, llvm: str, rank: int) -> None:
        self.name, self.np, self.short, self.kind, self.llvm, self.rank = name, np_dtype, short, kind, llvm, rank
        self.bits = np_dtype.itemsize * 8

    @property
    def dtype(self) -> np.dtype:
        """Lets NumPy read this object wherever it takes a dtype."""
        return self.np

    @property
    def as_numpy_dtype(self) -> type:
        return self.np.type

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.np.itemsize

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_unsigned(self) -> bool:
        return self.kind == "u"

    @property
    def is_inexact(self) -> bool:
        return self.kind in "fc"

    @property
    def min(self) -> float | int | bool:
        return False if self.kind == "b" else float(limits(self).min) if self.kind in "fc" else int(limits(self).min)

    @property
    def max(self) -> float | int | bool:
        return True if self.kind == "b" else float(limits(self).max) if self.kind in "fc" else int(limits(self).max)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, DType) or other is None:
            return False
        try:
            return as_dtype(other) is self
        except (TypeError, DTypeError):
            return False

    def __hash__(self) -> int:
        return hash(self.np)

    def __repr__(self) -> str:
        return f"tj.{self.name}" if self.name != "bool" else "tj.bool"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return as_dtype, (self.name,)


def limits(d: DType) -> np.finfo | np.iinfo | ml_dtypes.finfo:
    if d.kind in "iu":
        return np.iinfo(d.np)
    return ml_dtypes.finfo(d.np) if d.name == "bfloat16" else np.finfo(d.np)  # type: ignore[no-untyped-call]


_rows = [
    ("bool", np.bool_, "bool", "b", "i8"),
    ("int8", np.int8, "i8", "i", "i8"),
    ("int16", np.int16, "i16", "i", "i16"),
    ("int32", np.int32, "i32", "i", "i32"),
    ("int64", np.int64, "i64", "i", "i64"),
    ("uint8", np.uint8, "u8", "u", "i8"),
    ("uint16", np.uint16, "u16", "u", "i16"),
    ("uint32", np.uint32, "u32", "u", "i32"),
    ("uint64", np.uint64, "u64", "u", "i64"),
    ("float16", np.float16, "f16", "f", "half"),
    ("bfloat16", ml_dtypes.bfloat16, "bf16", "f", "bfloat"),
    ("float32", np.float32, "f32", "f", "float"),
    ("float64", np.float64, "f64", "f", "double"),
    ("complex64", np.complex64, "c64", "c", "<2 x float>"),
    ("complex128", np.complex128, "c128", "c", "<2 x double>"),
]
ALL: Final = tuple(DType(n, np.dtype(t), s, k, ll, i) for i, (n, t, s, k, ll) in enumerate(_rows))
(
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64,
    complex64, complex128,
) = ALL  # fmt: skip
_by_np: Final[dict[np.dtype, DType]] = {d.np: d for d in ALL}
_by_name: Final[dict[str, DType]] = {d.name: d for d in ALL} | {
    "half": float16, "double": float64, "float": float64, "int": int64,
}  # fmt: skip


def as_dtype(x: object) -> DType:
    """The DType for a DType, a NumPy dtype, a name, or one of Python's `bool`, `int`, `float`, `complex`.

    Python's `float` means float32 and `int` int32, as in TensorFlow.
    Raises `DTypeError` for anything else, for example strings and objects.
    """
    if type(x) is DType:
        return x
    if isinstance(x, np.dtype):
        d = _by_np.get(x) or _by_np.get(x.newbyteorder("="))
    elif isinstance(x, str):
        d = _by_name.get(x)
    elif x is float:
        d = float32
    elif x is int:
        d = int32
    elif x is bool:
        d = bool_
    elif x is complex:
        d = complex64
    else:
        try:
            d = _by_np.get(np.dtype(x))  # type: ignore[call-overload]
        except (TypeError, ValueError):
            d = None
    if d is None:
        what = repr(x) if isinstance(x, (str, int, float, tuple, type, np.dtype)) else f"a {type(x).__name__}"
        raise DTypeError(
            f"{what} is not an element type of tracejit", remedy="one of " + ", ".join(t.name for t in ALL)
        )
    return d


def canonical(a: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order, its dtype being NumPy's own object, by which native code knows it.

    Unpickled arrays and those of `np.longlong` have equal dtypes that are other objects.
    """
    d = as_dtype(a.dtype).np
    return a if a.dtype is d else a.astype(d)


_promotions: dict[tuple[DType, DType], DType] = {}


def promote(a: DType, b: DType) -> DType:
    """NumPy 2's promotion of two strong dtypes; bfloat16 with float16 gives float32.

    Comparisons of signed integers with uint64, which would meet in float64, are exact instead.
    """
    if a is b:
        return a
    key = (a, b)
    if key not in _promotions:
        if {a, b} == {bfloat16, float16}:
            r = float32
        elif bfloat16 in key:
            o = b if a is bfloat16 else a
            r = bfloat16 if o.kind == "b" or (o.kind in "iu" and o.bits == 8) else o if o.kind in "fc" else float32
            r = float64 if o.kind in "iu" and o.bits > 16 else r
        else:
            r = as_dtype(np.promote_types(a.np, b.np))
        _promotions[key] = r
    return _promotions[key]


def weak_kind(x: object) -> str | None:
    """The kind of a Python scalar, whose dtype gives way to an array's: 'b', 'i', 'f', 'c', or None."""
    t = type(x)
    return "b" if t is bool else "i" if t is int else "f" if t is float else "c" if t is complex else None


_KINDS: Final = "biufc"


def promote_weak(strong: DType | None, weak: str) -> DType:
    """The dtype of `strong` with a Python scalar of kind `weak`; without a strong one, TensorFlow's defaults."""
    if strong is None:
        return {"b": bool_, "i": int32, "f": float32, "c": complex64}[weak]
    order = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
    if order[weak] <= order[strong.kind]:
        return strong
    if weak == "i":
        return int64 if strong.kind == "b" else strong
    if weak == "f":
        return float32 if strong.kind == "b" or strong.bits <= 16 else float64
    if strong.kind == "f":
        return complex64 if strong.bits <= 32 else complex128
    return complex128


Shape = tuple["int | Dim", ...]


class TensorType:
    """dtype and shape of a value; `weak` marks a Python scalar's, which gives way in promotion. Immutable."""

    __slots__ = ("dtype", "shape", "weak", "_hash")

    def __init__(self, dtype: DType, shape: Iterable[int | Dim], weak: bool = False) -> None:
        self.dtype, self.shape, self.weak = dtype, tuple(shape), weak
        self._hash = hash((dtype, self.shape, weak))

    @property
    def rank(self) -> int:
        return len(self.shape)

    def with_shape(self, shape: Iterable[int | Dim]) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def strong(self) -> TensorType:
        """The same dtype and shape, whoever's they are."""
        return TensorType(self.dtype, self.shape) if self.weak else self

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, TensorType)
            and self.dtype is other.dtype
            and self.shape == other.shape
            and self.weak == other.weak
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{self.dtype.short}{'~' if self.weak else ''}[{','.join(map(str, self.shape))}]"

    def __str__(self) -> str:
        """As errors show it: the symbols with their sizes in this call."""
        return f"{self.dtype.short}{'~' if self.weak else ''}[{','.join(map(shown, self.shape))}]"


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's broadcasting. A symbolic dimension against 1 gives the dimension; against another size it must be equal.

    Raises `ShapeError` that names the axis and the sizes.
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(map(len, shapes))
    out: list[int | Dim] = []
    for axis in range(rank):
        d: int | Dim = 1
        for s in shapes:
            i = axis - rank + len(s)
            if i < 0 or (type(s[i]) is int and s[i] == 1):
                continue
            if type(d) is int and d == 1:
                d = s[i]
            elif fit(d, s[i]):
                d = surer(d, s[i])
            else:
                know_units((d, s[i]))
                raise ShapeError(
                    "shapes " + " and ".join(show_shape(x) for x in shapes) + f" do not broadcast: axis {axis - rank}"
                    f" has {shown(d)} and {shown(s[i])}"
                )
        out.append(d)
    return tuple(out)


def show_shape(shape: Iterable[object], sizes: bool = True) -> str:
    """A shape as Python writes a tuple, with symbols by name, and with their sizes in this call."""
    s = [shown(d) if sizes else str(d) for d in shape]
    return "(" + ", ".join(s) + ("," if len(s) == 1 else "") + ")"
