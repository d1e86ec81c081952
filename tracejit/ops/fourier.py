"""Discrete Fourier transforms: three rows over any axes, and NumPy's functions of `np.fft` on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal, shown
from tracejit.ir.types import DType, TensorType, complex64, complex128, float32, float64, show_shape
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops import kernels as K
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axis, as_size, as_sizes, operand, require
from tracejit.ops.creation import counter
from tracejit.ops.define import check_kind, numpy_name
from tracejit.tensor import Operand, Tensor, convert

Axes = tuple[int, ...]

# By what a transform is divided: nothing ("backward"), its length ("forward"), the root of it ("ortho"); the inverse
# has the rest. The transpose goes the other way with the other one.
_OTHER = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


LARGE = 1 << 13  # elements from which an eager transform is worth a compiled program
# What computes a row's function of a large array and attributes natively, or gives None
NATIVE: list[Callable[[Op, np.ndarray, dict[str, Any]], np.ndarray | None]] = []


def _natively(op: Op, x: np.ndarray, out: np.ndarray | None, **attrs: Any) -> np.ndarray | None:
    return NATIVE[0](op, x, attrs) if x.size >= LARGE and out is None and NATIVE else None


def _check_axes(x: TensorType, axes: Axes) -> None:
    if not axes or any(not 0 <= a < x.rank for a in axes) or len(set(axes)) != len(axes):
        raise ShapeError(f"axes {axes} of {show_shape(x.shape)}")


# --- complex to complex -----------------------------------------------------------------------------------------------
def _fft_infer(x: TensorType, *, axes: Axes, inverse: bool, norm: str) -> TensorType:
    check_kind(x.dtype, "c")
    _check_axes(x, axes)
    return TensorType(x.dtype, x.shape)


def _nothing(shape: tuple[Any, ...], d: DType, out: np.ndarray | None) -> np.ndarray:
    """What becomes of no elements, which NumPy refuses to transform."""
    if out is None:
        return np.zeros(shape, d.np)
    out[...] = 0
    return out


def _fft(x: np.ndarray, *, axes: Axes, inverse: bool, norm: Any, out: np.ndarray | None = None) -> np.ndarray:
    if not x.size:
        return _nothing(x.shape, complex64 if x.dtype == np.complex64 else complex128, out)
    if (native := _natively(fft, x, out, axes=axes, inverse=inverse, norm=norm)) is not None:
        return native
    if len(axes) == 1:
        return (np.fft.ifft if inverse else np.fft.fft)(x, axis=axes[0], norm=norm, out=out)
    return (np.fft.ifftn if inverse else np.fft.fftn)(x, axes=axes, norm=norm, out=out)


fft: Op = Op(
    "fft", "opaque", _fft_infer, _fft,
    vjp=lambda g, y, x, *, axes, inverse, norm: (fft(g, axes=axes, inverse=not inverse, norm=_OTHER[norm]),),
    jvp=lambda t, y, x, **how: None if t[0] is None else fft(t[0], **how), dtypes="c", linear=True, special="into",
    doc="The discrete Fourier transform over axes, or its inverse.",
)  # fmt: skip


# --- real to complex, and back ----------------------------------------------------------------------------------------
def _rfft_infer(x: TensorType, *, axes: Axes, norm: str) -> TensorType:
    if x.dtype not in (float32, float64):
        raise DTypeError(f"dtype {x.dtype.name} is not supported; it takes float32 or float64")
    _check_axes(x, axes)
    return TensorType(K.complex_dtype(x.dtype), _half(x.shape, axes[-1]))


def _half(shape: Sequence[Size], axis: int) -> tuple[Size, ...]:
    return tuple([d // 2 + 1 if i == axis else d for i, d in enumerate(shape)])


def _rfft(x: np.ndarray, *, axes: Axes, norm: Any, out: np.ndarray | None = None) -> np.ndarray:
    if not x.size:
        return _nothing(_half(x.shape, axes[-1]), complex64 if x.dtype == np.float32 else complex128, out)
    if (native := _natively(rfft, x, out, axes=axes, norm=norm)) is not None:
        return native
    if len(axes) == 1:
        return np.fft.rfft(x, axis=axes[0], norm=norm, out=out)
    return np.fft.rfftn(x, axes=axes, norm=norm, out=out)


def _counted(z: Tensor, axis: int, n: Size, inner: float) -> Tensor:
    """The half of a spectrum of length n, multiplied where it stands for its mirror image too."""
    k = counter(z.shape[axis], z.ndim, axis)
    twice = E.logical_and(E.greater(k, 0), E.less(E.mul(k, 2), n))
    return E.mul(z, E.cast(E.where(twice, convert(inner, float32), convert(1.0, float32)), dtype=z.dtype))  # type: ignore[no-any-return]


def _rfft_vjp(g: Tensor, y: Tensor, x: Tensor, *, axes: Axes, norm: str) -> tuple:
    n = x.shape[axes[-1]]
    return (irfft(_counted(g, axes[-1], n, 0.5), axes=axes, n=n, norm=_OTHER[norm]),)


rfft: Op = Op(
    "rfft", "opaque", _rfft_infer, _rfft, vjp=_rfft_vjp,
    jvp=lambda t, y, x, **how: None if t[0] is None else rfft(t[0], **how), dtypes="f", linear=True, special="into",
    doc="The Fourier transform of real numbers over axes: the first half of it along the last of these.",
)  # fmt: skip


def _irfft_infer(x: TensorType, *, axes: Axes, n: Size, norm: str) -> TensorType:
    check_kind(x.dtype, "c")
    _check_axes(x, axes)
    have = x.shape[axes[-1]]
    if n < 0 or not known_equal(have, n // 2 + 1):
        raise ShapeError(f"{shown(have)} numbers along axis {axes[-1]} are not half of a spectrum of length {shown(n)}")
    return TensorType(K.real_dtype(x.dtype), _long(x.shape, axes[-1], n))


def _long(shape: Sequence[Size], axis: int, n: Size) -> tuple[Size, ...]:
    return tuple([n if i == axis else d for i, d in enumerate(shape)])


def _irfft(x: np.ndarray, *, axes: Axes, n: int, norm: Any, out: np.ndarray | None = None) -> np.ndarray:
    if not x.size or not n:
        return _nothing(_long(x.shape, axes[-1], n), float32 if x.dtype == np.complex64 else float64, out)
    if (native := _natively(irfft, x, out, axes=axes, n=n, norm=norm)) is not None:
        return native
    if len(axes) == 1:
        return np.fft.irfft(x, n, axis=axes[0], norm=norm, out=out)
    return np.fft.irfftn(x, [*[x.shape[a] for a in axes[:-1]], n], axes=axes, norm=norm, out=out)


def _irfft_vjp(g: Tensor, y: Tensor, x: Tensor, *, axes: Axes, n: Size, norm: str) -> tuple:
    if known_equal(n, 0):
        return (E.mul(x, 0.0),)
    return (_counted(rfft(g, axes=axes, norm=_OTHER[norm]), axes[-1], n, 2.0),)


irfft: Op = Op(
    "irfft", "opaque", _irfft_infer, _irfft, vjp=_irfft_vjp,
    jvp=lambda t, y, x, **how: None if t[0] is None else irfft(t[0], **how), dtypes="c", linear=True, special="into",
    doc="The n real numbers along the last of some axes whose Fourier transform begins with x.",
)  # fmt: skip


# --- arguments --------------------------------------------------------------------------------------------------------
def as_complex(x: Any) -> Operand:
    """The operand as complex numbers: complex64 for floats and integers of up to 32 and 16 bits, else complex128."""
    t = operand(x)
    d: DType = t.dtype
    if d.kind == "c":
        return t
    narrow = d.bits <= (32 if d.kind == "f" else 16)
    return E.cast(t, dtype=complex64 if narrow else complex128)  # type: ignore[no-any-return]


def as_real(x: Any, what: str) -> Operand:
    """The operand as float32 or float64. Raises `DTypeError` for complex numbers."""
    t = operand(x)
    d: DType = t.dtype
    if d.kind == "c":
        said = f"{what} takes real numbers, not {t.type}"
        raise locate(DTypeError(said, remedy="take tj.math.real of it, or use fft"))
    if d in (float32, float64):
        return t
    return E.cast(t, dtype=float32 if d.bits <= 16 else float64)  # type: ignore[no-any-return]


def resized(x: Operand, axis: int, n: Size) -> Operand:
    """The first n elements along an axis, with zeros behind if there are fewer."""
    have = x.shape[axis]
    if have is n or known_equal(have, n):
        return x
    if n < have:
        return A.cut(x, axis, 0, n)
    return S.place(x, shape=_long(x.shape, axis, n), start=(0,) * x.ndim, step=(1,) * x.ndim, fill=0)  # type: ignore[no-any-return]


def _axes_of(x: Operand, lengths: Any, axes: Any) -> tuple[Axes, tuple[Size, ...] | None]:
    """Axes from the front, and the lengths that are wanted along them; without axes those of the lengths, or all."""
    want = None if lengths is None else tuple([_length(n) for n in as_sizes(lengths, "fft_length")])
    if axes is None:
        count = x.ndim if want is None else len(want)
        require(count <= x.ndim, f"{count} lengths for a tensor of {x.ndim} axes")
        return tuple(range(x.ndim - count, x.ndim)), want
    over = tuple([as_axis(a, x.ndim) for a in as_sizes(axes, "axes")])
    require(len(set(over)) == len(over), f"axes {axes} name an axis twice")
    require(want is None or len(want) == len(over), f"{len(want or ())} lengths for {len(over)} axes")
    return over, want


def _length(n: Any) -> Size:
    size = as_size(n, "fft_length")
    require(size >= 0, f"a transform has no length {n}")
    return size


def _norm(norm: Any) -> str:
    name = "backward" if norm is None else norm
    if name not in _OTHER:
        raise locate(ArgumentError(f'norm is "backward", "ortho" or "forward", not {norm!r}'))
    return name  # type: ignore[no-any-return]


def transform(x: Any, lengths: Any = None, axes: Any = None, norm: Any = None, inverse: bool = False) -> Tensor:
    """The complex transform over axes."""
    z, name = as_complex(x), _norm(norm)
    over, want = _axes_of(z, lengths, axes)
    for a, n in zip(over, want or ()):
        z = resized(z, a, n)
    return fft(z, axes=over, inverse=inverse, norm=name) if over else E.identity(z)


def of_real(x: Any, lengths: Any = None, axes: Any = None, norm: Any = None, what: str = "rfft") -> Tensor:
    """The transform of real numbers: along the last of the axes the first half."""
    z, name = as_real(x, what), _norm(norm)
    over, want = _axes_of(z, lengths, axes)
    require(len(over) > 0, f"{what} needs one axis or more")
    for a, n in zip(over, want or ()):
        z = resized(z, a, n)
    return rfft(z, axes=over, norm=name)  # type: ignore[no-any-return]


def to_real(x: Any, lengths: Any = None, axes: Any = None, norm: Any = None, what: str = "irfft") -> Tensor:
    """The inverse of `of_real`; of a half spectrum of m numbers 2(m − 1) unless lengths are given."""
    z, name = as_complex(x), _norm(norm)
    over, want = _axes_of(z, lengths, axes)
    require(len(over) > 0, f"{what} needs one axis or more")
    if want is None:
        m = z.shape[over[-1]]
        n: Size = 0 if known_equal(m, 0) else 2 * (m - 1)
    else:
        n = want[-1]
    for a, k in zip(over, (want or ())[:-1]):
        z = resized(z, a, k)
    return irfft(resized(z, over[-1], n // 2 + 1), axes=over, n=n, norm=name)  # type: ignore[no-any-return]


def shifted(x: Any, axes: Any, back: bool) -> Tensor:
    """The first element along axes moved to the middle, or back."""
    t = operand(x)
    over = tuple(range(t.ndim)) if axes is None else tuple([as_axis(a, t.ndim) for a in as_sizes(axes, "axes")])
    for a in over:
        n = t.shape[a]
        first = n // 2 if back else n - n // 2  # the element that comes first
        t = S.concat(A.cut(t, a, first, n - first), A.cut(t, a, 0, first), axis=a)
    return t if type(t) is Tensor else E.identity(t)


# --- NumPy's names ----------------------------------------------------------------------------------------------------
def _one(n: Any) -> Any:
    return None if n is None else (n,)


@numpy_name("fft")
def _np_fft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return transform(a, _one(n), (axis,), norm)


@numpy_name("ifft")
def _np_ifft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return transform(a, _one(n), (axis,), norm, inverse=True)


@numpy_name("rfft")
def _np_rfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return of_real(a, _one(n), (axis,), norm)


@numpy_name("irfft")
def _np_irfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return to_real(a, _one(n), (axis,), norm)


@numpy_name("hfft")
def _np_hfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return to_real(E.conj(as_complex(a)), _one(n), (axis,), _OTHER[_norm(norm)])


@numpy_name("ihfft")
def _np_ihfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None) -> Tensor:
    return E.conj(of_real(a, _one(n), (axis,), _OTHER[_norm(norm)]))  # type: ignore[no-any-return]


def _many(name: str, f: Any, default: Any, **more: Any) -> None:
    def g(a: Any, s: Any = None, axes: Any = default, norm: Any = None) -> Tensor:
        return f(a, s, axes, norm, **more)  # type: ignore[no-any-return]

    numpy_name(name)(g)


for _suffix, _axes in (("2", (-2, -1)), ("n", None)):
    _many(f"fft{_suffix}", transform, _axes)
    _many(f"ifft{_suffix}", transform, _axes, inverse=True)
    _many(f"rfft{_suffix}", of_real, _axes)
    _many(f"irfft{_suffix}", to_real, _axes)


@numpy_name("fftshift")
def _np_fftshift(x: Any, axes: Any = None) -> Tensor:
    return shifted(x, axes, back=False)


@numpy_name("ifftshift")
def _np_ifftshift(x: Any, axes: Any = None) -> Tensor:
    return shifted(x, axes, back=True)
