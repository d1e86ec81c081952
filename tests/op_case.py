"""What a case of the operations' table is, and the shapes that cases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from helpers import sample

import tracejit as tj
from tracejit.ir.types import ALL, DType

FLOATS = [d for d in ALL if d.kind == "f"]


@dataclass(frozen=True)
class Case:
    """One way to call one operation.

    f           on tensors
    reference   on arrays; its result is cast to the dtype of f's
    shapes      of the arguments, several variants
    kinds       kinds of the dtypes that the arguments may have
    domains     one per argument, or one for all
    differentiable   with respect to floating arguments
    factor      by which the tolerance is widened
    fixed       dtypes of arguments that are not varied, by position
    own_sizes   whether the function names a size itself, so that arguments of other sizes do not fit
    """

    name: str
    f: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: Sequence[Sequence[tuple[int, ...]]]
    kinds: str = "f"
    domains: Sequence[tuple[float, float]] = ((-2.0, 2.0),)
    differentiable: bool = True
    second: bool = True
    factor: float = 1.0
    fixed: dict[int, str] = field(default_factory=dict)
    own_sizes: bool = False

    def dtypes(self) -> list[DType]:
        return [d for d in ALL if d.kind in self.kinds]

    def domain(self, i: int) -> tuple[float, float]:
        return self.domains[i] if i < len(self.domains) else self.domains[-1]

    def arrays(self, dtype: DType, shapes: Sequence[tuple[int, ...]], seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [
            sample(rng, s, tj.as_dtype(self.fixed[i]) if i in self.fixed else dtype, self.domain(i))
            for i, s in enumerate(shapes)
        ]

    def small(self) -> Sequence[tuple[int, ...]]:
        """The first variant of shapes: small enough for finite differences."""
        return self.shapes[0]


UNARY = [[(3,)], [()], [(0,)], [(1,)], [(2, 0, 3)], [(4, 5)], [(1000,)]]
BINARY = [
    [(3,), (3,)], [(), ()], [(0,), (0,)], [(1,), (1,)], [(4, 5), (4, 5)], [(4, 5), (5,)], [(4, 1), (1, 5)], [(), (3,)],
    [(3, 1, 2), (4, 1)], [(0, 3), (1, 3)], [(1000,), (1000,)],
]  # fmt: skip
TERNARY = [[(3,), (3,), (3,)], [(4, 5), (5,), ()], [(), (2, 3), (3,)], [(0,), (0,), (0,)]]
POS, UNIT = (0.1, 4.0), (-0.9, 0.9)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)
