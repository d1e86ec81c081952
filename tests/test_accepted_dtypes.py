"""Eager and traced operations take the same dtypes, and give the same values in the same dtypes."""

import numpy as np
import pytest
from helpers import close, graph_of
from op_table import CASES

import tracejit as tj
from tracejit.ir.op import OPS
from tracejit.ir.types import ALL

# not by dtype alone: attributes, keys and counters
OTHERS = {
    "cast", "assigned", "philox32", "philox64", "random_quantile64", "random_normal64",
    "igamma_slope", "betainc_slope", "zeta_slope",
}  # fmt: skip
ROWS = [op for op in OPS.values() if op.family == "elementwise" and op.name not in OTHERS]


def operands(op, dtype, seed=0):
    rng = np.random.default_rng(seed)
    made = [tj.cast(tj.constant(rng.integers(0, 4, 5)), dtype) for _ in range(op.arity)]
    return [tj.constant([True, False, True, True, False]), *made[1:]] if op.promote == "select" else made


def outcome(f, args):
    """The results, or the class of the error."""
    try:
        return f(*args)
    except Exception as e:
        return type(e)


def traced(f, args):
    """The dtypes of the results in a trace, or the class of the error."""
    return outcome(lambda: [v.dtype for v in graph_of(f, *[x.type for x in args])[0].results], ())


def agree(f, args):
    """What f gives eagerly, if it is an error or has the dtypes that the trace has."""
    eager, other = outcome(f, args), traced(f, args)
    if isinstance(eager, type) or isinstance(other, type):
        assert eager is other, f"eagerly {eager}, traced {other}"
        return None
    results = list(eager) if isinstance(eager, (tuple, list)) else [eager]
    assert [t.dtype for t in results if t is not None] == other
    return results


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_rows(dtype):
    taken = {}
    for op in ROWS:
        args = operands(op, dtype)
        results = agree(op, args)
        assert (results is not None) == takes(op, dtype), op.name
        if results is not None:
            taken[op.name] = results[0]
    again = tj.function(lambda: {name: OPS[name](*operands(OPS[name], dtype)) for name in taken})
    for name, y in again().items():
        assert y.dtype is taken[name].dtype, name
        close(y.numpy(), taken[name].numpy(), 8, name)


def takes(op, dtype):
    """Whether a row says so; functions with floating values take what can become floating."""
    if op.name == "complex":
        return dtype.name in ("float32", "float64")
    if op.promote == "float" and dtype.kind in "biu":
        return True
    return dtype.kind in op.dtypes


@pytest.mark.parametrize("number", [1, 1.5, True, -1])
def test_rows_beside_python_numbers(number):
    for op in ROWS:
        if op.arity == 2 and op.name != "complex":
            for dtype in ALL:
                x = operands(op, dtype)[0]
                agree(lambda x, op=op: op(x, number), [x])
                agree(lambda x, op=op: op(number, x), [x])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_dtypes_that_operations_may_refuse(case):
    for dtype in ALL:
        if dtype.kind not in case.kinds:
            shapes = case.small()
            named = [tj.as_dtype(case.fixed[i]) if i in case.fixed else dtype for i in range(len(shapes))]
            ones = [tj.cast(tj.ones(s), d) for s, d in zip(shapes, named, strict=True)]
            agree(case.f, ones)
