"""An Op says everything tracejit knows about one operation; calling it is the only way anything happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPS: dict[str, Op] = {}


class Op:
    """One row of the table.

    name       canonical name, the one printed in graphs
    family     elementwise | reduce | shape | contract | index | source | control | opaque
    infer      (*TensorType, **attrs) -> TensorType, or a tuple for several results; raises ShapeError or DTypeError
    numpy      (*ndarray, **attrs) -> ndarray(s): the eager kernel, the reference, the constant folder
    vjp        (g, y, *x, **attrs) -> one cotangent or None per input, in public ops, or a function that makes it and is
               called if it is wanted; None: not differentiable
    jvp        (tangents, y, *x, **attrs) -> tangent of y; an absent tangent is None
    scalar     (m, *x, **attrs) -> one element, over the scalar protocol of `lower.scalar`
    promote    how inputs are brought together: "common", "float" (integers become floats), "select", "none"
    domain     where tests may sample inputs, for each input or one for all
    dtypes     kinds that the op takes, letters of "biufc"
    kinds      the same as NumPy's letters where eager operands have to be asked for them, else empty
    special    names of numerical facts used by rules: commutative, idempotent, preserves_zero, …; `into` says that
               `numpy` takes an array to write to, `out`
    native     the eager op in native code, once it is loaded; NotImplemented for what is not simple
    doc        one sentence for the generated page
    """

    __slots__ = (
        "name", "family", "infer", "numpy", "vjp", "jvp", "scalar", "promote", "domain", "dtypes", "special", "doc",
        "pure", "arity", "result", "evaluate", "linear", "lower", "kinds", "native",
    )  # fmt: skip
    door: Callable[..., Any]

    def __init__(
        self,
        name: str,
        family: str,
        infer: Callable[..., Any],
        numpy: Callable[..., Any],
        *,
        vjp: Callable[..., Any] | None = None,
        jvp: Callable[..., Any] | None = None,
        scalar: Callable[..., Any] | None = None,
        promote: str = "none",
        domain: Any = (-2.0, 2.0),
        dtypes: str | None = None,
        special: str = "",
        doc: str = "",
        pure: bool = True,
        arity: int | None = 1,
        result: str = "same",
        linear: bool = False,
    ) -> None:
        if name in OPS:
            raise ValueError(f"op {name!r} is defined twice")
        self.name, self.family, self.infer, self.numpy = name, family, infer, numpy
        self.vjp, self.jvp, self.scalar, self.promote = vjp, jvp, scalar, promote
        self.domain, self.dtypes, self.doc, self.pure, self.arity = domain, dtypes or "biuf", doc, pure, arity
        # V: bfloat16
        self.kinds = "" if dtypes is None or len(dtypes) == 5 else dtypes + "V" if "f" in dtypes else dtypes
        self.special = frozenset(special.split())
        self.result, self.linear = result, linear
        self.native: Callable[..., Any] | None = None
        OPS[name] = self

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        return Op.door(self, inputs, attrs)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return OPS.__getitem__, (self.name,)
