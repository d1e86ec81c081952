"""Functions of square matrices: exponentials, logarithms, roots and powers, batched over leading axes.

A derivative of any of them is the function of a matrix twice the size (R. Mathias, "A chain rule for matrix functions
and applications", SIAM J. Matrix Anal. Appl. 17, 1996): f([[a, d], [0, a]]) = [[f(a), f'(a; d)], [0, f(a)]], whence
derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.ir.op import Op
from tracejit.ir.types import int64
from tracejit.ops import elementwise as E
from tracejit.ops import matrixkernels as K
from tracejit.ops import shape as S
from tracejit.ops.args import as_size, require
from tracejit.ops.array import concat, cut
from tracejit.ops.extents import computed, numbers
from tracejit.ops.linalg import own_matmul as matmul
from tracejit.ops.regions import stage_cond, stage_while
from tracejit.ops.solve import adjoint, brought, check_square, given, identity_like, inv_op, square
from tracejit.tensor import Tensor, convert


def _along(op: Op, a: Tensor, d: Tensor) -> Tensor:
    """The derivative of a function of matrices at `a` along `d`."""
    n, rows, columns = a.shape[-1], a.ndim - 2, a.ndim - 1
    zero = S.broadcast_to(convert(0, a.dtype), shape=tuple(a.shape))
    y = op(concat([concat([a, d], -1), concat([zero, a], -1)], -2))
    return cut(cut(y, rows, 0, n), columns, n, n)


def _function(name: str, kernel: Callable[..., Any], doc: str) -> Op:
    op: Op

    def vjp(g: Tensor, y: Tensor, a: Tensor) -> tuple:
        return (_along(op, adjoint(a), g),)

    def jvp(t: tuple, y: Tensor, a: Tensor) -> Tensor:
        return _along(op, a, t[0])

    op = Op(name, "opaque", square, kernel, vjp=vjp, jvp=jvp, dtypes="fc", doc=doc)
    return op


expm_op = _function("expm", K.expm, "The exponentials of square matrices.")
sqrtm_op = _function("sqrtm", K.sqrtm, "The principal square roots of square matrices; NaN where there is none.")
logm_op = _function("logm", K.logm, "The principal logarithms of square matrices; NaN where there is none.")


def expm(input: Any, name: str | None = None) -> Tensor:
    """The exponentials of the square matrices in the last two axes: Σ inputᵏ / k!."""
    (a,), d = brought(input)
    return given(expm_op(a), d)


def logm(input: Any, name: str | None = None) -> Tensor:
    """The principal logarithms of the square matrices in the last two axes: expm(logm(a)) = a.

    Real matrices, too, are taken, and have real logarithms; the logarithm of one with an eigenvalue ≤ 0 is not real,
    and NaN: cast to complex first.
    """
    (a,), d = brought(input)
    return given(logm_op(a), d)


def sqrtm(input: Any, name: str | None = None) -> Tensor:
    """The principal square roots of the square matrices in the last two axes: sqrtm(a) · sqrtm(a) = a.

    That of a real matrix with an eigenvalue < 0 is not real, and NaN: cast to complex first. So is that of a singular
    matrix which has none.
    """
    (a,), d = brought(input)
    return given(sqrtm_op(a), d)


def matrix_power(a: Any, n: Any) -> Tensor:
    """Products of n factors, of the inverse for negative n, by repeated squaring; the identity for n = 0."""
    (x,), d = brought(a)
    check_square(x.type)
    if computed(n):
        return given(_power_later(x, numbers(n, "n")[0]), d)
    count = as_size(n, "n")
    require(isinstance(count, int), "matrix_power needs a Python integer n")
    if not count:
        return given(E.mul(S.broadcast_to(identity_like(x), shape=tuple(x.shape)), 1.0), d)
    y: Any = None
    factor: Any = inv_op(x) if count < 0 else x
    count = abs(int(count))
    while count:
        if count & 1:
            y = factor if y is None else matmul(y, factor)
        count >>= 1
        if count:
            factor = matmul(factor, factor)
    return given(y if type(y) is Tensor else E.identity(y), d)


def _power_later(x: Any, n: Any) -> Tensor:
    """The same where the program computes n: as many squarings as it has binary digits."""
    n = E.cast(n, dtype=int64)
    (factor,), _ = stage_cond(E.less(n, 0), lambda: inv_op(x), lambda: E.identity(x))
    one = E.identity(S.broadcast_to(identity_like(x), shape=tuple(x.shape)))

    def step(left: Any, y: Any, f: Any) -> tuple[Any, ...]:
        odd = E.equal(E.bit_and(left, 1), 1)
        return E.shift_right(left, 1), E.where(odd, matmul(y, f), y), E.where(E.greater(left, 1), matmul(f, f), f)

    return stage_while(lambda left, *_: E.greater(left, 0), step, [E.abs_(n), one, factor])[1]
