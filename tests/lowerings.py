"""A traced function in every way of running it: native code, its Numba source, the reference interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tracejit as tj
from tracejit import tree
from tracejit.backends import numba_source


def flat(result: Any) -> list[np.ndarray]:
    """The arrays of a nested result, in order."""
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in flat(r)]
    return [np.asarray(result)]


def compiled(f: Callable[..., Any], **options: Any) -> Any:
    """The traced function; falling back to the interpreter is an error."""
    warnings.simplefilter("error")
    return tj.function(f, **options)


class Lowered:
    """A function traced once per kind of arguments. `njit`: Numba compiles the source, which else is plain Python."""

    def __init__(self, f: Callable[..., Any], njit: bool = False, **options: Any) -> None:
        self.function = compiled(f, **options)
        self.njit = njit
        self.runners: dict[int, numba_source.Runner] = {}

    def results(self, *args: Any, source: bool = True) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Each way's name and its results. `source=False` leaves out the Numba source, where that takes too long."""
        yield "native code", flat(self.function(*args))
        c = self.function.get_concrete_function(*args)
        parts = c.executable.parts
        leaves, _ = tree.flatten((args, {}))
        arrays = [np.asarray(x) for x, leaf in zip(leaves, parts.leaves, strict=True) if leaf.param >= 0]
        out, _ = c.executable.interpret(c.executable.all_arrays(arrays))
        yield "the interpreter", flat(c.rebuild(out))
        if source:
            if id(c) not in self.runners:
                self.runners[id(c)] = numba_source.prepare(c, self.njit)
            found, _ = self.runners[id(c)](arrays)
            for a, r in zip(found, parts.graph.results):
                assert (a.dtype, a.ndim) == (r.dtype.np, len(r.shape)), numba_source.source(c).text
            yield "the Numba source", flat(c.rebuild([tj.tensor.wrap(a) for a in found]))


def draws(n: Any, shapes: Any) -> list[Any]:
    """Random tensors; all but those of the normal distribution have the same bits in every way of running them."""
    r, out = tj.random, []
    for shape in shapes:
        out += [r.stateless_uniform(shape, seed=[1, n], dtype=d) for d in (tj.float16, tj.float32, tj.float64)]
        out += [r.stateless_uniform(shape, [n, 3], minval=-5, maxval=17, dtype=d) for d in (tj.int32, tj.int64)]
        out += [r.stateless_normal(shape, seed=[1, n], dtype=d) for d in (tj.bfloat16, tj.float32, tj.float64)]
        out.append(r.stateless_truncated_normal(shape, seed=[2, n]))
    return out


def draws_agree(njit: bool) -> None:
    shapes = ((300,),) if njit else ((4, 5), (300,), (), (0, 3), (1,))
    want = flat(draws(tj.constant(7), shapes))
    for way, got in Lowered(lambda n: draws(n, shapes), njit).results(np.int64(7)):
        for k, (a, b) in enumerate(zip(want, got, strict=True)):
            assert a.dtype == b.dtype
            if k % 9 < 5:
                np.testing.assert_array_equal(b, a, err_msg=way)
            else:
                tol = {"bfloat16": 1e-2, "float32": 3e-7}.get(a.dtype.name, 1e-15)
                np.testing.assert_allclose(b.astype(float), a.astype(float), rtol=4 * tol, err_msg=way)
