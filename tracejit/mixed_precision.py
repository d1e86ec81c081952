"""`tracejit.mixed_precision`: computing in 16 bits with Variables of 32, and scaled losses for small gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from tracejit.autograph import reads
from tracejit.context import reading
from tracejit.errors import ArgumentError, locate
from tracejit.ir.types import DType, as_dtype
from tracejit.ops import elementwise as E
from tracejit.optimizers.scaling import LossScaleOptimizer
from tracejit.tensor import Operand, convert
from tracejit.tree import flatten, unflatten

_MIXED = {"mixed_float16": ("float16", "float32"), "mixed_bfloat16": ("bfloat16", "float32")}


class Policy:
    """In which type to compute, and in which to keep Variables: "mixed_float16", "mixed_bfloat16" or a floating type.

    Products, convolutions, sums and means of 16-bit numbers are accumulated in float32 in any case.
    """

    def __init__(self, name: str | DType) -> None:
        name = name.name if isinstance(name, DType) else name
        if name not in _MIXED:
            try:
                fits = isinstance(name, str) and as_dtype(name).kind == "f"
            except TypeError:
                fits = False
            if not fits:
                known = ", ".join(map(repr, _MIXED))
                raise locate(ArgumentError(f"a policy is {known} or the name of a floating type, not {name!r}"))
        self._name = name
        self._compute, self._variable = _MIXED.get(name) or (as_dtype(name).name,) * 2

    @property
    def name(self) -> str:
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The type that operations compute in."""
        return self._compute

    @property
    def variable_dtype(self) -> str:
        """The type that Variables are kept in."""
        return self._variable

    def cast_to_compute(self, x: Any) -> Any:
        """A tensor, or a nest of them, with floating values in the compute type; other values are as they were."""
        leaves, structure = flatten(x)
        return unflatten(structure, [_cast(leaf, self._compute) for leaf in leaves])

    def __repr__(self) -> str:
        return f'<tj.mixed_precision.Policy "{self._name}">'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)


def _cast(x: Any, dtype: str) -> Any:
    if not isinstance(x, (Operand, np.ndarray, np.generic)) or x.dtype.kind not in "fV":
        return x
    x = convert(x)
    return E.cast(x, dtype=as_dtype(dtype)) if x.dtype.kind == "f" else x


class _Global:
    """Holds the global policy, which is a setting of traces that ask for it."""

    def __init__(self) -> None:
        self.policy = Policy("float32")


_state = _Global()


def global_policy() -> Policy:
    """The policy that counts where none is given."""
    reads.setting(_state, "policy")
    return _state.policy


def set_global_policy(policy: Policy | str | DType | None) -> None:
    """Set the policy that counts where none is given; None is "float32". Functions that ask for it are traced anew."""
    _state.policy = _policy(policy if policy is not None else "float32")


def _policy(x: Any) -> Policy:
    return x if isinstance(x, Policy) else Policy(x)


def autocast(policy: Policy | str | DType | None = None) -> AbstractContextManager[Policy]:
    """In this block operations read floating Variables in the policy's compute type; None is the global policy.

    Where that has 16 bits, products take their float32 operands in it, tensors as well: matmul, matvec, tensordot,
    einsum, the convolutions and their transposes, and attention, whose results have it too and whose sums are kept in
    float32. Other operations take tensors as they are, and float64 is never cast; products within decompositions and
    other functions of matrices stay in their own type. Gradients with respect to Variables and tensors have these'
    own types, and assignments and optimizers see Variables as they are. A traced function that is called in the block
    is traced for it.
    """
    return _casting(None if policy is None else _policy(policy))


@contextmanager
def _casting(policy: Policy | None) -> Iterator[Policy]:
    p = global_policy() if policy is None else policy
    with reading(as_dtype(p.compute_dtype)):
        yield p


__all__ = ["LossScaleOptimizer", "Policy", "autocast", "global_policy", "set_global_policy"]
