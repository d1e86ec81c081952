"""Tensors: conversion, promotion, what they print, Python's and NumPy's protocols, errors."""

import array
import collections
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from helpers import in_threads

import tracejit as tj
from tracejit.errors import ArgumentError
from tracejit.ir.types import ALL, promote, promote_weak

NUMPY_TYPES = [d for d in ALL if d.name != "bfloat16"]


# --- from Python and NumPy --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "int32"), (1.0, "float32"), (True, "bool"), (1j, "complex128"), ([1, 2], "int32"), ([1, 2.5], "float32"),
        ([[True], [False]], "bool"), (2**40, "int64"), ([2**31], "int64"), (-(2**31), "int32"), ([], "float32"),
        (np.float64(1), "float64"), (np.arange(3), "int64"), (np.float16(1), "float16"),
        ([np.float64(1.0), 2.0], "float64"),
        (range(3), "int32"), ((1, (2)), "int32"), (np.array([1], np.uint16), "uint16"),
    ],
)  # fmt: skip
def test_dtype_of_a_value(value, dtype):
    t = tj.constant(value)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.asarray(value))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_every_dtype(dtype):
    t = tj.constant([0, 1, 1], dtype)
    assert t.dtype is dtype
    assert t.numpy().dtype == dtype.np
    assert tj.as_dtype(dtype.name) is dtype
    assert tj.as_dtype(dtype.np) is dtype
    assert dtype == dtype.name == dtype.np
    assert getattr(tj, dtype.name) is dtype
    assert np.zeros(2, dtype).dtype == dtype.np


def test_tensors_in_lists():
    a = tj.constant(1.0)
    t = tj.convert_to_tensor([[a, 2.0], [3.0, a]])
    assert t.numpy().tolist() == [[1, 2], [3, 1]]
    assert tj.constant([tj.Variable(1.0), 2.0]).shape == (2,)


def test_reshaping_constants():
    assert tj.constant([1, 2, 3, 4], shape=(2, 2)).numpy().tolist() == [[1, 2], [3, 4]]
    assert tj.constant(1, shape=(2, 2)).numpy().tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tj.constant("text"), tj.errors.DTypeError, "str"),
        (lambda: tj.constant(None), tj.errors.DTypeError, "NoneType"),
        (lambda: tj.constant([[1], [2, 3]]), tj.errors.ShapeError, "regular"),
        (lambda: tj.constant(1.5, tj.int32), tj.errors.DTypeError, "int32"),
        (lambda: tj.constant(300, tj.uint8), tj.errors.DTypeError, "0 … 255"),
        (lambda: tj.constant(-1, tj.uint64), tj.errors.DTypeError, "uint64"),
        (lambda: tj.constant(2**70), tj.errors.DTypeError, "int"),
        (lambda: tj.constant(1, "string"), tj.errors.DTypeError, "string"),
        (lambda: tj.constant(np.array(["a"])), tj.errors.DTypeError, "element type"),
        (lambda: tj.constant([1, 2, 3], shape=(2, 2)), tj.errors.ShapeError, "3 elements"),
        (lambda: tj.Tensor(3), TypeError, "constant"),
    ],
)
def test_what_cannot_become_a_tensor(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_tensor_does_not_share_memory_with_the_array():
    a = np.array([1.0, 2.0])
    t = tj.constant(a)
    a[0] = 9.0
    assert t.numpy().tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(t)[0] = 5.0


# --- promotion --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("a", NUMPY_TYPES, ids=str)
@pytest.mark.parametrize("b", NUMPY_TYPES, ids=str)
def test_promotion_is_numpys(a, b):
    expected = np.result_type(a.np, b.np)
    if expected in [d.np for d in ALL]:
        assert promote(a, b).np == expected
        y = tj.constant([1], a) * tj.constant([1], b)
        assert y.dtype.np == expected
        assert (np.ones(1, a.np) * tj.constant([1], b)).dtype.np == expected


@pytest.mark.parametrize("d", NUMPY_TYPES, ids=str)
def test_python_numbers_are_weak(d):
    for x in (True, 1, 1.0, 1j):
        expected = np.result_type(np.ones(1, d.np), x)
        if type(x) is float and d.kind in "biu":
            expected = np.dtype("float32" if d.kind == "b" or d.bits <= 16 else "float64")
        if type(x) is complex and d.kind in "biu":
            expected = np.dtype("complex128")
        if type(x) is complex and d == "float16":
            expected = np.dtype("complex64")
        assert promote_weak(d, {bool: "b", int: "i", float: "f", complex: "c"}[type(x)]).np == expected
        assert (tj.constant([1], d) * x).dtype.np == expected
        assert (x * tj.constant([1], d)).dtype.np == expected


def test_bfloat16_promotion():
    b = tj.constant([1.0], tj.bfloat16)
    assert (b * 2.5).dtype is tj.bfloat16
    assert (b * 2).dtype is tj.bfloat16
    assert (b + tj.constant([1.0], tj.float16)).dtype is tj.float32
    assert (b + tj.constant([1.0], tj.float32)).dtype is tj.float32
    assert (b + tj.constant([1], tj.int8)).dtype is tj.bfloat16
    assert (b + tj.constant([True])).dtype is tj.bfloat16


def test_python_integers_that_do_not_fit_raise():
    with pytest.raises(tj.errors.DTypeError, match="300"):
        tj.constant([1], tj.uint8) + 300
    with pytest.raises(tj.errors.DTypeError, match="-1"):
        tj.constant([1], tj.uint8) * -1


def test_true_division_of_integers():
    assert (tj.constant([1, 2]) / 2).dtype is tj.float64
    assert (tj.constant([1], tj.int8) / tj.constant([2], tj.int8)).dtype is tj.float32
    assert (tj.constant([7]) // 2).dtype is tj.int32


# --- what it says -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("t", "text"),
    [
        (lambda: tj.constant([1, 2, 4]), "tj.Tensor([1 2 4], shape=(3,), dtype=int32)"),
        (lambda: tj.constant(54.0), "tj.Tensor(54.0, shape=(), dtype=float32)"),
        (lambda: tj.constant([[True]]), "tj.Tensor([[ True]], shape=(1, 1), dtype=bool)"),
        (lambda: tj.zeros((0, 2)), "tj.Tensor([], shape=(0, 2), dtype=float32)"),
        (lambda: tj.constant([1.5], tj.bfloat16), "tj.Tensor([1.5], shape=(1,), dtype=bfloat16)"),
    ],
)
def test_repr(t, text):
    assert repr(t()) == str(t()) == text


def test_formats():
    assert f"{tj.constant(3)}" == "3"
    assert f"{tj.constant(0.1)}" == "0.1"
    assert f"{tj.constant([1, 2])}" == f"{tj.Variable([1, 2])}" == "[1 2]"
    assert f"{tj.constant(True)} {tj.Variable(2.5)} {tj.constant([[1.5], [2.0]])}" == "True 2.5 [[1.5]\n [2. ]]"
    assert f"{tj.constant(0.1, tj.bfloat16)}" == "0.100098"
    assert f"{tj.constant(3.14159):.2f}" == "3.14"
    assert f"{tj.constant([7]):03d}" == "007"
    with pytest.raises(TypeError, match="one element"):
        f"{tj.constant([1.0, 2.0]):.2f}"


def test_attributes():
    t = tj.zeros((2, 3))
    assert (t.shape, t.ndim, t.size, t.dtype) == ((2, 3), 2, 6, tj.float32)
    assert t.shape.as_list() == [2, 3]
    assert t.shape.rank == 2
    assert t.shape.num_elements() == 6
    assert t.get_shape() == (2, 3)
    assert t.T.shape == (3, 2)
    assert t.device == "cpu"
    t.note = "mine"
    assert t.note == "mine"


def test_python_protocols():
    assert float(tj.constant([2.5])) == 2.5
    assert int(tj.constant(3)) == 3
    assert complex(tj.constant(1j)) == 1j
    assert bool(tj.constant(0.0)) is False
    assert [10, 20, 30][tj.constant(1)] == 20
    assert len(tj.zeros((4, 2))) == 4
    assert [int(x) for x in tj.constant([1, 2])] == [1, 2]
    assert round(tj.constant(2.567), 2).numpy() == np.float32(2.57)
    assert float(round(tj.constant(2.5))) == 2.0
    assert tj.constant([1, 2]).tolist() == [1, 2]
    assert tj.constant(5).item() == 5
    for f in (float, int, bool):
        with pytest.raises(ValueError):
            f(tj.constant([1.0, 2.0]))
    with pytest.raises(TypeError):
        len(tj.constant(1.0))
    with pytest.raises(TypeError):
        [1, 2][tj.constant(1.0)]


def test_equality_is_elementwise_and_hash_by_identity():
    a, b = tj.constant([1, 2]), tj.constant([1, 3])
    assert (a == b).numpy().tolist() == [True, False]
    assert (a != b).numpy().tolist() == [False, True]
    assert (a == 1).numpy().tolist() == [True, False]
    assert (a == None) is False  # noqa: E711
    assert (a != None) is True  # noqa: E711
    assert (a == "text") is False
    assert len({a, b, a}) == 2
    assert {a: 1}[a] == 1
    v = tj.Variable([1, 2])
    assert (v == a).numpy().all()
    assert {v: 1}[v] == 1


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b, "divmod": lambda a, b: divmod(a, b)[1],
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
BITS = {
    "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
}  # fmt: skip


@pytest.mark.parametrize("sign", [*OPERATORS, *BITS])
def test_operators_in_all_combinations(sign):
    f = OPERATORS.get(sign) or BITS[sign]
    x, y = (np.array([5, 7, 9], np.int32), np.array([2, 1, 3], np.int32))
    if sign in OPERATORS and sign != "divmod":
        x, y = x.astype(np.float32), y.astype(np.float32)
    expected = f(x, y)
    a, b = tj.constant(x), tj.constant(y)
    for left, right in (
        (a, b),
        (a, y),
        (x, b),
        (tj.Variable(x), b),
        (a, tj.Variable(y)),
        (tj.Variable(x), tj.Variable(y)),
    ):
        z = f(left, right)
        assert isinstance(z, tj.Tensor)
        np.testing.assert_array_equal(z.numpy(), expected)
    np.testing.assert_array_equal(f(a, 2).numpy(), f(x, 2))
    np.testing.assert_array_equal(f(2, a).numpy(), f(2, x))
    np.testing.assert_array_equal(f(a, [2, 1, 3]).numpy(), expected)


def test_unary_operators():
    a = tj.constant([1, -2])
    assert (-a).numpy().tolist() == [-1, 2]
    assert (+a) is a
    assert abs(a).numpy().tolist() == [1, 2]
    assert (~a).numpy().tolist() == [-2, 1]
    assert (~tj.constant([True])).numpy().tolist() == [False]


def test_in_place_operators_make_new_tensors():
    a = tj.constant([1.0])
    b = a
    a += 1
    a *= 3
    assert (float(a), float(b)) == (6.0, 1.0)


def test_foreign_operands():
    class Foreign:
        def __radd__(self, other):
            return "mine"

    assert tj.constant(1) + Foreign() == "mine"
    with pytest.raises(TypeError, match="unsupported operand"):
        tj.constant(1) + "text"
    with pytest.raises(TypeError, match="not supported"):
        tj.constant(1) < None


def test_item_assignment_says_what_to_do():
    with pytest.raises(TypeError, match="does not support item assignment") as e:
        tj.ones((2,))[0] = 1
    assert "tj.Variable" in str(e.value)


def test_copies_pickles_and_weak_references():
    t = tj.constant([1.0, 2.0])
    assert copy.copy(t) is t
    assert copy.deepcopy([t])[0] is t
    p = pickle.loads(pickle.dumps(t))
    assert p.dtype is t.dtype
    assert p.numpy().tolist() == [1.0, 2.0]
    assert (p + t).numpy().tolist() == [2.0, 4.0]
    r = weakref.ref(t)
    del t, p
    gc.collect()
    assert r() is None


# --- exchanging memory ------------------------------------------------------------------------------------------------
def test_dlpack():
    t = tj.constant(np.arange(6.0).reshape(2, 3))
    a = np.from_dlpack(t)
    assert a.tolist() == t.numpy().tolist()
    assert t.__dlpack_device__() == (1, 0)


class Consumer:
    """What another library gets of an object with `__dlpack__`, as its own function asks for it."""

    def __init__(self, x, module="other", **kwargs):
        space = {"__name__": module, "x": x, "kwargs": kwargs}
        exec("def take(): return x.__dlpack__(**kwargs)", space)
        self.capsule = space["take"]()

    def __dlpack__(self, **kwargs):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


@pytest.mark.parametrize("make", [tj.constant, tj.Variable])
def test_memory_goes_only_to_those_who_cannot_write_to_it(make):
    x = make([1.0, 2.0, 3.0])
    told = np.from_dlpack(Consumer(x, max_version=(1, 0)))
    assert not told.flags.writeable and np.shares_memory(told, np.asarray(x))
    for taken in (Consumer(x), Consumer(x, stream=None), Consumer(x, "torch.utils.dlpack", max_version=(1, 0)),
                  Consumer(x, max_version=(1, 0), copy=True)):  # fmt: skip
        a = np.from_dlpack(taken)
        assert not np.shares_memory(a, np.asarray(x)) and a.tolist() == [1.0, 2.0, 3.0]
    asked = np.from_dlpack(Consumer(x, "torch.utils.dlpack", max_version=(1, 0), copy=False))
    assert np.shares_memory(asked, np.asarray(x))
    with pytest.raises(BufferError):
        Consumer(x, copy=False)

    @tj.function
    def f(y):
        return y.__dlpack__()

    with pytest.raises(tj.errors.TracedValueError):
        f(tj.constant(1.0))


def test_bfloat16_goes_by_dlpack():
    x = tj.constant([[1.0, 2.5], [-3.0, 0.0]], tj.bfloat16)
    with pytest.raises(RuntimeError):
        np.from_dlpack(x)  # which has no such type
    for t in (x, x[:, 1], tj.transpose(x), tj.Variable(x), tj.zeros((0, 2), tj.bfloat16), x[0, 0]):
        y = tj.from_dlpack(t)
        assert (y.dtype, y.shape, y.numpy().tolist()) == (tj.bfloat16, t.shape, t.numpy().tolist())
    for kwargs in ({}, {"max_version": (1, 0)}):  # old and new capsules
        assert tj.from_dlpack(Consumer(x, **kwargs)).numpy().tolist() == x.numpy().tolist()
    assert tj.from_dlpack(tj.constant([1, 2], tj.uint16)).dtype is tj.uint16

    class Elsewhere:
        def __dlpack__(self, **kwargs):
            raise BufferError("not here")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(ArgumentError, match="cannot read this Elsewhere"):
        tj.from_dlpack(Elsewhere())


def test_pickles_keep_attributes():
    x, y = tj.constant([1.0, 2.0]), tj.constant(3)
    x.label, x.other = "mine", [1, 2]
    for t in (pickle.loads(pickle.dumps(x)), pickle.loads(pickle.dumps(x, 2)), pickle.loads(pickle.dumps([x]))[0]):
        assert (t.label, t.other, t.numpy().tolist()) == ("mine", [1, 2], [1.0, 2.0])
    assert vars(pickle.loads(pickle.dumps(y))) == {}


def test_array_protocol():
    t = tj.constant([1.0, 2.0])
    assert np.asarray(t).dtype == np.float32
    assert np.asarray(t, np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(t), t._a)
    b = np.array(t)
    b[0] = 7.0
    assert float(t[0]) == 1.0


def test_objects_with_a_tensor_inside():
    class Wrapper:
        def __tensor__(self):
            return tj.constant([1.0, 2.0])

    assert tj.reduce_sum(Wrapper()).numpy() == 3.0
    assert (tj.constant([1.0, 1.0]) + Wrapper()).numpy().tolist() == [2.0, 3.0]


# --- shapes and axes in other forms -----------------------------------------------------------------------------------
def test_shapes_in_all_forms():
    x = tj.zeros((2, 3))
    for shape in (
        (3, 2),
        [3, 2],
        np.array([3, 2]),
        tj.constant([3, 2]),
        tj.zeros((3, 2)).shape,
        (np.int64(3), tj.constant(2)),
    ):
        assert tj.reshape(x, shape).shape == (3, 2)
        assert tj.zeros(shape).shape == (3, 2)
    assert tj.reshape(x, 6).shape == (6,)
    for axis in (1, -1, [1], (-1,), np.int64(1), tj.constant(1), np.array([1])):
        assert tj.reduce_sum(x, axis=axis).shape == (2,)
    with pytest.raises(tj.errors.DTypeError):
        tj.zeros((2.0,))
    with pytest.raises(tj.errors.ShapeError, match="twice"):
        tj.reduce_sum(x, axis=[0, 0])


def test_name_arguments_are_taken():
    x = tj.constant([1.0], name="x")
    tj.add(x, x, name="sum")
    tj.reduce_sum(x, name="s")
    tj.exp(x, name="e")
    assert tj.add(x=x, y=x).shape == (1,)


def test_import_is_lean():
    import subprocess
    import sys

    code = "import sys, tracejit; print([m for m in ('numba', 'llvmlite', 'matplotlib', 'scipy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_numpys_error_settings_are_the_users_own():
    x = tj.constant([0.0, 1e38])
    with np.errstate(all="raise"):
        y = (x * 10 / x).numpy()
        assert np.isnan(y[0])
        assert np.isinf(y[1])
        with pytest.raises(FloatingPointError):
            np.ones(1) / np.zeros(1)


def test_operations_in_several_threads():
    x = tj.constant(np.ones(200_000, np.float32))
    results = []

    def work(_):
        results.extend(float(tj.reduce_sum(x * 2.0 + x)) for _ in range(20))

    in_threads(4, work)
    assert results == [600_000.0] * 80


class _Foreign:
    """An array of another library."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (_Foreign([0.1]), "float64"),
        (_Foreign([2]), "int64"),
        (array.array("d", [0.1]), "float64"),
        (memoryview(np.ones(2)), "float64"),
        ([[1.0], [np.float64(0.1)]], "float64"),
        ([[np.float64(0.1)], [1.0]], "float64"),
        (collections.deque([0.1, 0.2]), "float32"),
        (collections.deque([np.float64(0.1)]), "float64"),
        (range(3), "int32"),
        ([[1.5], [2]], "float32"),
    ],
)
def test_what_brings_a_dtype_along_keeps_it(value, dtype):
    assert tj.convert_to_tensor(value).dtype.name == dtype
    assert (tj.constant(value) + tj.constant(0, dtype)).dtype.name == dtype
    assert tj.function(lambda: tj.convert_to_tensor(value))().dtype.name == dtype


def test_references_stand_for_tensors_in_dicts():
    a, v = tj.constant([1.0, 2.0]), tj.Variable([1.0, 2.0])
    known = {a.ref(): "a", v.ref(): "v"}
    assert known[a.ref()] == "a" and known[v.ref()] == "v" and tj.constant([1.0, 2.0]).ref() not in known
    assert a.ref() == a.ref() != v.ref() and a.ref().deref() is a and v.ref().deref() is v

    @tj.function
    def f(x):
        y = x + 1.0
        slots = {x.ref(): x, y.ref(): y}
        return slots[y.ref()] - slots[x.ref()]

    assert f(a).numpy().tolist() == [1.0, 1.0]


def test_arrays_come_by_dlpack():
    source = np.arange(6.0).reshape(2, 3)
    t = tj.from_dlpack(source.T)
    source[0, 0] = 9.0
    assert t.numpy().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] and t.dtype == tj.float64
    assert tj.from_dlpack(t).numpy().tolist() == t.numpy().tolist()
    with pytest.raises(ArgumentError, match="__dlpack__, not list"):
        tj.from_dlpack([1.0])
