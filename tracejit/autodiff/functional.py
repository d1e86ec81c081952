"""Derivatives of functions: products with the Jacobian and its transpose, whole Jacobians, second derivatives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tracejit.autodiff
from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.jacobians import Size, for_basis
from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.autodiff.transforms import traced_form
from tracejit.autograph.calls import callee
from tracejit.errors import ArgumentError, GradientError, ShapeError, locate
from tracejit.ir.op import OPS
from tracejit.ir.sizes import product
from tracejit.ops.args import listed, shown_value
from tracejit.ops.array import moveaxis
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import Structure, flatten, unflatten

traced_form.append(callee)


def _callable(f: Any) -> None:
    if not callable(f):
        raise locate(ArgumentError(f"the first argument is a function, not {shown_value(f)}"))


def _of_tensors(primals: Iterable[Any]) -> tuple[Any, ...]:
    """Primals as tensors and nests of tensors; lists of numbers are tensors."""
    given = [(x, *flatten(x)) for x in primals]
    return tuple(
        [
            unflatten(s, [convert(t) for t in leaves]) if any(isinstance(t, Operand) for t in leaves) else convert(x)
            for x, leaves, s in given
        ]
    )


def _like(tangents: Sequence[Any], primals: Sequence[Any]) -> list[Tensor]:
    """A tangent for each tensor of the primals, in its dtype."""
    tangents = listed(tangents, "tangents")
    if len(tangents) != len(primals):
        raise locate(ArgumentError(f"{len(tangents)} tangents for {len(primals)} primals"))
    out = []
    for t, x in zip(tangents, primals, strict=True):
        xs, structure = flatten(x)
        ts, same = ([t], structure) if isinstance(x, Operand) else flatten(t)
        if same != structure:
            raise locate(ArgumentError("a tangent is no nest like its primal"))
        out += [convert(d, leaf.dtype) for d, leaf in zip(ts, xs, strict=True)]
    return out


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals) and its derivative in the direction of the tangents, zeros where it does not depend on them.

    Primals are tensors or nests of them, tangents alike.
    """
    _callable(f)
    args = _of_tensors(listed(primals, "primals"))
    with ForwardAccumulator(args, _like(tangents, args)) as acc:
        y = callee(f)(*args)
    return y, acc.jvp(y, "zero")


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """f(*primals) and a function from cotangents of the result to those of the primals, tensors or nests of them."""
    _callable(f)
    args = _of_tensors(primals)
    with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(*flatten(args)[0])
        y = callee(f)(*args)

    def back(cotangents: Any) -> Any:
        return tape.gradient(y, args, output_gradients=cotangents, unconnected_gradients="zero")

    return y, back


def _given(f: Callable[..., Any], args: tuple, argnums: Any) -> tuple[list[Tensor], Structure, Callable[..., Any]]:
    """The tensors to differentiate by, their structure, and the function of them alone."""
    numbers = argnums if isinstance(argnums, (tuple, list)) else (argnums,)
    if not all(type(i) is int and -len(args) <= i < len(args) for i in numbers):
        raise locate(ArgumentError(f"argnums {argnums!r} of a call with {len(args)} arguments"))
    chosen = [args[i] for i in numbers]
    leaves, structure = flatten(tuple(chosen) if isinstance(argnums, (tuple, list)) else chosen[0])
    xs = [convert(x) for x in leaves]
    for x in xs:
        if x.dtype.kind not in "fc":
            raise locate(GradientError(f"{x.type} has no derivative: only floating dtypes have"))

    def call(*own: Tensor) -> Any:
        made = unflatten(structure, list(own))
        new = list(args)
        for i, x in zip(numbers, made if isinstance(argnums, (tuple, list)) else [made], strict=True):
            new[i] = x
        return callee(f)(*new)

    return xs, structure, call


def _total(xs: Sequence[Operand]) -> Size:
    n: Size = 0
    for x in xs:
        n = n + product(tuple(x.shape))
    return n


def jacobian(f: Callable[..., Any], argnums: Any = 0, mode: str | None = None) -> Callable[..., Any]:
    """A function that gives the derivatives of all elements of `f(*args)` by all elements of an argument.

    Parameters
    ----------
    f : a function of tensors and nests of them
    argnums : number of the argument, or several
    mode : "forward" (a pass for each element of the arguments, all at once), "reverse" (one for each element of the
        result), or None: what needs fewer passes

    The result has the structure of `f`'s result, each tensor replaced by a nest as the argument is one, whose tensors
    have the shape of the result's tensor followed by that of the argument's. Where there is no dependence it is zero.
    """
    _callable(f)
    if mode not in (None, "forward", "reverse"):
        raise locate(ArgumentError(f"mode is 'forward', 'reverse' or None, not {mode!r}"))

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        xs, structure, g = _given(f, args, argnums)
        how = mode
        if how != "forward":
            with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(*xs)
                result = g(*xs)
            ys, nest = flatten(result)
            inputs, outputs = _total(xs), _total([y for y in ys if isinstance(y, Operand)])
            how = how or ("forward" if type(inputs) is type(outputs) is int and inputs < outputs else "reverse")
            if how == "reverse":
                parts = [tape.jacobian(y, xs, "zero") for y in map(convert, ys)]
                return unflatten(nest, [unflatten(structure, p) for p in parts])
        return _forward(g, xs, structure)

    return call


def _forward(f: Callable[..., Any], xs: list[Tensor], structure: Structure) -> Any:
    """The Jacobian by columns: the tangents of the results along each element of the arguments."""
    nests: list[Structure] = []

    def along(k: int) -> Callable[[Tensor], list[Tensor]]:
        def push(direction: Tensor) -> list[Tensor]:
            t = OPS["reshape"](direction, shape=tuple(xs[k].shape))
            with ForwardAccumulator(xs[k], t) as acc:
                leaves, nest = flatten(f(*xs))
            nests[:] = [nest]
            return [t if t is not None else zeros_like(y) for y in map(convert, leaves) for t in [acc.jvp(y)]]

        return push

    columns = []
    for k, x in enumerate(xs):
        made = for_basis(along(k), product(tuple(x.shape)), x.dtype, True)
        columns.append([moveaxis(t, 0, len(t.shape) - 1) for t in made])
    out = []
    for results in zip(*columns, strict=True):
        parts = [OPS["reshape"](c, shape=(*c.shape[:-1], *x.shape)) for c, x in zip(results, xs, strict=True)]
        out.append(unflatten(structure, parts))
    return unflatten(nests[0], out)


def hessian(f: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of `f(*args)` by an argument: forward over reverse mode.

    For several arguments, or nests, it is a nest of nests: the derivatives of each first derivative.
    """
    return jacobian(jacobian(f, argnums, "reverse"), argnums, "forward")


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The product of the Hessian of `f(*primals)`, a single number, with a direction: forward over reverse mode.

    One derivative for each of the primals, tensors or nests of them. It takes a few times what `f` takes, and never
    forms the Hessian.
    """
    _callable(f)
    args = _of_tensors(listed(primals, "primals"))
    with ForwardAccumulator(args, _like(tangents, args)) as acc:
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*flatten(args)[0])
            y = convert(callee(f)(*args))
        if y.ndim:
            raise locate(ShapeError(f"the function of a Hessian-vector product returns one number, not {y.type}"))
        grads = tape.gradient(y, args, unconnected_gradients="zero")
    return acc.jvp(grads, "zero")


for _f in (jvp, vjp):
    setattr(tracejit.autodiff, _f.__name__, _f)  # the package itself is imported before the operations
