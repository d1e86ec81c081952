"""What eager operations do at once gives the same as the long way, which they take while a tape listens."""

import contextlib
import itertools

import numpy as np
import pytest

import tracejit as tj
from tracejit.fast import fast
from tracejit.ir.op import OPS
from tracejit.runtime import eager

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "complex64",
]  # fmt: skip
OPERATIONS = {
    "add": tj.add, "divide": tj.divide, "less": tj.less, "equal": tj.equal, "maximum": tj.maximum, "pow": tj.pow,
    "floormod": lambda a, b: a % b, "where": lambda a, b: tj.where(tj.constant([True, False, True]), a, b),
    "concat": lambda a, b: tj.concat([a, b], 0), "stack": lambda a, b: tj.stack([a, b]),
}  # fmt: skip


NATIVE = pytest.param("native", marks=pytest.mark.skipif(eager.unsupported() is not None, reason="Python's own here"))


@pytest.fixture(scope="module", params=[NATIVE, "python"], autouse=True)
def way(request):
    """With native forms of functions and operations, and without."""
    assert (eager.activate() is None) == (eager.unsupported() is not None)
    forms = {n: getattr(fast, n) for n in fast.__slots__}
    natives = {op: op.native for op in OPS.values()}
    if request.param == "python":
        for n in forms:
            setattr(fast, n, None)
        for op in natives:
            op.native = None
    yield
    for n, form in forms.items():
        setattr(fast, n, form)
    for op, form in natives.items():
        op.native = form


def both_ways(f, *xs):
    """What f gives at once and while a tape listens, errors included."""
    out = []
    for way in (contextlib.nullcontext, tj.GradientTape):
        try:
            with way():
                y = f(*xs)
            out.append((y.dtype, y.shape, y.numpy().tobytes()))
        except Exception as e:
            said = "" if isinstance(e, tj.errors.OutOfRangeError) else str(e)  # NumPy's own words at once
            out.append((type(e), said))
    return out


def operands(dtype):
    """The same numbers as a tensor, a Variable and an array."""
    a = tj.cast(tj.constant([1, 0, 3]), dtype)
    return a, tj.Variable(a), np.array(a)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operands_of_two_dtypes(name):
    f = OPERATIONS[name]
    for d, e in itertools.product(DTYPES, DTYPES):
        a = operands(d)[0]
        for b in operands(e):
            for xs in ((a, b), (b, a)):
                quick, long = both_ways(f, *xs)
                assert quick == long, (d, e, type(b))


@pytest.mark.parametrize("number", [2, -1, 300, 2**40, 2.5, True, 10**400, 2 + 1j], ids=lambda n: str(n)[:9])
@pytest.mark.parametrize("name", OPERATIONS)
def test_numbers_beside_tensors(name, number):
    if name in ("concat", "stack"):
        return
    f = OPERATIONS[name]
    for d in DTYPES:
        a = operands(d)[0]
        for xs in ((a, number), (number, a)):
            quick, long = both_ways(f, *xs)
            assert quick == long, d


MOVES = {
    "T": lambda x: x.T,
    "transpose": tj.transpose,
    "squeeze": tj.squeeze,
    "squeeze an axis": lambda x: tj.squeeze(x, 1),
    "squeeze a long axis": lambda x: tj.squeeze(x, 0),
    "unstack": lambda x: tj.unstack(x)[-1],
    "unstack columns": lambda x: tj.unstack(x, axis=2)[1],
    "unstack of one axis": lambda x: tj.unstack(x[0, 0])[1],
    "row": lambda x: x[1],
    "columns": lambda x: x[:, 0, ::2],
    "new axis": lambda x: x[..., None, 1],
    "outside": lambda x: x[7],
    "too many": lambda x: x[0, 0, 0, 0],
    "sum": lambda x: tj.reduce_sum(x, 1, keepdims=True),
    "sum of all": lambda x: tj.reduce_sum(x, keepdims=True),
    "cast": lambda x: tj.cast(x * 1.5, tj.int32),
    "stack at the end": lambda x: tj.stack([x, x], axis=-1),
    "stack outside": lambda x: tj.stack([x, x], axis=9),
    "stack of shapes": lambda x: tj.stack([x, x[0]]),
    "concat": lambda x: tj.concat((x, x), -1),
    "concat of ranks": lambda x: tj.concat([x, x[0]], 0),
    "range": lambda x: tj.range(3, -7, -2),
    "long range": lambda x: tj.range(2**31 - 1, 2**31 + 1),
    "range without steps": lambda x: tj.range(3, 5, 0),
}


@pytest.mark.parametrize("of", [tj.constant, tj.Variable])
@pytest.mark.parametrize("name", MOVES)
def test_moves(name, of):
    x = of(np.arange(12, dtype=np.float32).reshape(3, 1, 4))
    quick, long = both_ways(MOVES[name], x)
    assert quick == long


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_casts_at_the_ends_of_a_range(source, dtype):
    d = tj.as_dtype(dtype)
    ends = [float(d.min), float(d.max), float(d.min) - 1, 1.9, -1.9, np.nan, np.inf, -np.inf]
    for x in (ends, ends[3:5], [float(d.max)], []):
        with np.errstate(over="ignore"):
            a = np.asarray(x, source)
        want = [0 if np.isnan(v) else min(max(int(np.clip(v, -1e30, 1e30)), d.min), d.max) for v in a.tolist()]
        assert tj.cast(tj.constant(a), dtype).numpy().tolist() == want


def test_results_share_no_memory_with_arrays_of_the_user():
    a, x = np.ones(3, np.float32), tj.ones((3,))
    for f in (tj.add, tj.maximum, lambda a, b: tj.concat([a, b], 0), lambda a, b: tj.where(x > 0, a, b)):
        assert not np.shares_memory(a, f(a, x).numpy())
    for f in (tj.nn.relu, tj.identity, tj.squeeze, tj.transpose, tj.floor, lambda a: tj.concat([a], 0)):
        assert not np.shares_memory(a, f(a).numpy())


@pytest.mark.skipif(eager.unsupported() is not None, reason="operators stay in Python here")
def test_inner_operations_are_native_too():
    add, calls = OPS["add"], []
    before, kept = eager.activate().function(add), add.native
    add.native = lambda *xs: calls.append(xs) or before(*xs)
    try:
        y = add(tj.constant([1.0]), tj.constant([2.0]))
        with tj.GradientTape():
            add(tj.constant([1.0]), tj.constant([2.0]))
    finally:
        add.native = kept
    assert len(calls) == 1
    assert y.numpy().tolist() == [3.0]


@pytest.mark.parametrize("f", [tj.maximum, tj.minimum])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_two_zeros_compiled_code_takes_the_second(f, dtype):
    zeros = [tj.constant(z, dtype) for z in (np.full(5, -0.0), np.zeros(5))]
    for a, b in itertools.permutations(zeros):
        y = tj.function(lambda a, b: f(a, b), numerics="exact")(a, b)
        assert (np.signbit(y.numpy()) == np.signbit(b.numpy())).all()
