"""What differs between Numba's targets: headers, decorators, loops over tasks, and where functions come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

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
    decorators  of kernels with and without parallel tasks, and of helper functions
    loop        the head of the loop over tasks
    launches    what comes between a kernel's name and its arguments, with and without parallel tasks
    row_buffers whether a kernel may allocate memory for the values of a row
    chunks      whether a kernel may have a second stage, after all tasks are done
    missing     helper functions that the target cannot compile
    """

    name: str
    imports: tuple[str, ...]
    module: str
    functions: Mapping[str, str]
    decorators: Mapping[str, str]
    loop: str
    launches: Mapping[str, str]
    row_buffers: bool = True
    chunks: bool = True
    missing: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()

    def kind(self, text: str) -> str:
        """Whether a kernel has tasks: "parallel" or "serial"."""
        return "parallel" if self.loop.partition("{n}")[0].partition("in ")[2] in text else "serial"

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
    {"parallel": "", "serial": ""},
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
    {"parallel": "[64, 128]", "serial": "[1, 1]"},
    row_buffers=False,
    chunks=False,
    missing=frozenset({"floor_divide_real"}),
    taken=frozenset({"cuda"}),
)
