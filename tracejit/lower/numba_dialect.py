"""What differs between Numba's targets: headers, decorators, loops over tasks, and where functions come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tracejit.lower.numba_expr import Writer

_NUMPY = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "asinh": "arcsinh", "acosh": "arccosh",
    "atanh": "arctanh", "round": "rint", "pow": "power",
}  # fmt: skip
_OWN = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sqrt floor ceil trunc isnan isinf isfinite "
    "copysign fmod maximum minimum sign"
)


@dataclass(frozen=True)
class Dialect:
    """How kernels are written for one target.

    imports     the first lines of a module
    module      the prefix of functions such as exp
    functions   the scalar protocol's names → functions; for those that are missing the printer writes its own
    row_buffers whether a kernel may allocate memory for the values of a row
    chunks      whether a kernel may have a second stage, after all tasks are done
    """

    name: str
    imports: tuple[str, ...]
    module: str
    functions: Mapping[str, str]
    decorators: Mapping[str, str]
    loop: str
    row_buffers: bool = True
    chunks: bool = True
    taken: frozenset[str] = field(default_factory=frozenset)

    def decorator(self, text: str) -> str:
        """The line before a kernel."""
        return self.decorators["parallel" if "prange(" in text else "serial"]

    @contextmanager
    def tasks(self, out: Writer, index: str, count: str) -> Iterator[None]:
        """A loop whose rounds run in any order, on any thread."""
        with out.block(self.loop.format(i=index, n=count)):
            yield


CPU = Dialect(
    "cpu",
    ("import numpy as np", "from numba import njit, prange"),
    "np.",
    {k: f"np.{k}" for k in _OWN.split()} | {k: f"np.{v}" for k, v in _NUMPY.items()},
    {
        "parallel": '@njit(parallel=True, error_model="numpy")',
        "serial": '@njit(error_model="numpy")',
        "helper": '@njit(error_model="numpy")',
    },
    "for {i} in prange({n}):",
)

_MATH = (
    "exp expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin acos atan atan2 asinh acosh atanh sqrt pow "
    "isnan isinf isfinite copysign fmod"
)
CUDA = Dialect(
    "cuda",
    ("import math", "", "import numpy as np", "from numba import cuda"),
    "math.",
    {k: f"math.{k}" for k in _MATH.split()},
    {"parallel": "@cuda.jit", "serial": "@cuda.jit", "helper": '@cuda.jit(device=True, inline="always")'},
    "for {i} in range(cuda.grid(1), {n}, cuda.gridsize(1)):",
    row_buffers=False,
    chunks=False,
    taken=frozenset({"cuda"}),
)
