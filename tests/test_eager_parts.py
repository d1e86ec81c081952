"""Native forms of assignments to Variables and their slices, complex operands, keys, segments, draws and rows."""

import itertools
import operator
import threading

import numpy as np
import pytest
from test_eager_attributes import looks, native, python_calls, slowly  # noqa: F401

import tracejit as tj
from tracejit.errors import MissingAttributeError, OutOfRangeError
from tracejit.fast import fast
from tracejit.ops import assign, directlinalg, quick
from tracejit.runtime import eager
from tracejit.runtime.arithmetic import Row
from tracejit.tensor import Tensor, Variable, wrap

pytestmark = pytest.mark.skipif(eager.unsupported() is not None, reason="these stay in Python here")


# --- parts of Variables -----------------------------------------------------------------------------------------------
TABLE = np.arange(12.0, dtype=np.float32).reshape(3, 4)
KEYS = [
    1, -1, 5, True, None, ..., slice(None), slice(1, 3), (1, 2), (slice(None), 1), (..., 0), [0, 2], ([0, 1], [1, 1]),
    np.int64(1), np.array([2, 0]), TABLE > 3, (), (0, 1, 2), (slice(None, None, -1), None), "no",
]  # fmt: skip
VALUES = [
    3.0, 2, -1, True, 1j, 1e300, 2**60, 2**70, np.float32(2.0), np.float64(2.0), "no", None, [1.0, 2.0, 3.0, 4.0],
    wrap(np.float32(7.0)), wrap(np.full(4, 7.0, np.float32)), wrap(np.full(1, 7.0, np.float32)),
    wrap(np.full(4, 7.0)), wrap(np.arange(4)),
]  # fmt: skip


def after(dtype, key, value, method):
    """What a Variable is after an assignment to a part of it, or the error and that nothing has changed."""
    v = Variable(TABLE.astype(dtype))
    try:
        assert getattr(v[key], method)(value) is v
    except Exception as e:
        return type(e), v.numpy().tolist()
    return v.numpy().tobytes()


@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool", "complex64", "float16"])
def test_parts(dtype, method):
    for key, value in itertools.product(KEYS, VALUES):
        assert after(dtype, key, value, method) == slowly(after, dtype, key, value, method), (key, value)


def test_elements_of_lines():
    for n, value in itertools.product((0, 1, -1, 2, -2, 5), (1.5, 2, wrap(np.float32(7.0)))):
        def element(n=n, value=value):
            v = Variable(np.arange(2.0, dtype=np.float32))
            v[n].assign(value)
            return v.numpy().tolist()

        assert looks(element) == slowly(looks, element)
    v = Variable([1.0, 2.0])
    assert python_calls(lambda: v[1].assign(5.0)) == python_calls(lambda: v[1].assign_add(5.0)) == []
    assert python_calls(lambda: v.assign([3.0, 4.0])) == ["assign"] and v.numpy().tolist() == [3.0, 4.0]


def test_what_others_hold_stays():
    v = Variable([1.0, 2.0, 3.0])
    before, view, array = v.read_value(), v.read_value()[1:], np.asarray(v)
    own = v._a
    v[1].assign(9.0)
    assert v.numpy().tolist() == [1.0, 9.0, 3.0] and v._a is not own
    assert before.numpy().tolist() == array.tolist() == [1.0, 2.0, 3.0] and view.numpy().tolist() == [2.0, 3.0]
    del before, view, array, own
    address = v._a.ctypes.data
    v[1:].assign(v[:-1])  # in place
    assert v.numpy().tolist() == [1.0, 1.0, 9.0] and v._a.ctypes.data == address
    part = v[0]
    v[0].assign(part + 1.0)
    assert part.numpy() == 1.0 and v.numpy().tolist() == [2.0, 1.0, 9.0]
    with pytest.raises(OutOfRangeError):
        v[3].assign(1.0)
    assert v.numpy().tolist() == [2.0, 1.0, 9.0]


def test_only_slices_have_the_methods():
    x, v = tj.constant([1.0, 2.0]), Variable([1.0, 2.0])
    for name in ("assign", "assign_add", "assign_sub"):
        assert hasattr(v[0], name) and not hasattr(x, name) and not hasattr(x[0], name) and not hasattr(v + 1, name)
        with pytest.raises(MissingAttributeError, match="only a Variable, or a slice of one, can be assigned"):
            getattr(x, name)
    bound = v[0].assign
    assert bound(value=4.0, read_value=False) is v and v.numpy().tolist() == [4.0, 2.0]
    with pytest.raises(TypeError):
        v[0].assign()


def test_replaced_assignments_are_called(monkeypatch):
    seen = []
    monkeypatch.setattr(Variable, "assign", lambda self, value, *rest: seen.append(value) or self)
    v = Variable([1.0, 2.0])
    v[0].assign(3.0)
    v.scatter_update(tj.IndexedSlices(tj.constant([5.0]), tj.constant([1])))
    assert seen and seen[0].numpy().tolist() == [3.0, 2.0]


def test_tapes_and_traces_see_assignments():
    v = Variable([1.0, 2.0])
    with tj.GradientTape() as tape:
        v[1].assign(v[0] * 3.0)
        y = v[1] * v[0]
    assert y.numpy() == 3.0 and tape.gradient(y, v) is not None

    @tj.function
    def f(x):
        v[0].assign(x)
        v[1].assign_add(x)

    f(tj.constant(5.0))
    assert v.numpy().tolist() == [5.0, 8.0]


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "bool", "complex64", "float16"])
def test_numbers_and_lists_are_assigned(dtype):
    for start, value in [
        (0, 1.5), (0, 2), (0, True), (0, 2**40), (0, 1j), ([0, 1], [1, 0]), ([0, 1], [1.5, 2.5]),
        ([0, 1], [True, False]),
        ([0, 1], [1]), ([[0, 1]], [[1, 2]]), ([0, 1], 3), (0, [3]), ([0, 1], [1, "a"]),
    ]:  # fmt: skip
        def changed(start=start, value=value):
            v = Variable(np.array(start, tj.as_dtype(dtype).np))
            return v.assign(value).numpy().tolist()

        assert looks(changed) == slowly(looks, changed), value


def test_variables_are_made_of_values():
    base = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    x = tj.constant(base)
    for value in (base, base.T, x, tj.transpose(x), x[1], x[0, 1], 1.5, 3, True, [1, 2], [[1.0], [2.0]], (1, 2),
                  np.float64(2.0), lambda: x, Variable(x), np.zeros((0, 2)), np.arange(3)[::-1]):  # fmt: skip
        def made(value=value):
            v = Variable(value, trainable=False, name="w")
            assert v._a.flags.c_contiguous and v._a.flags.owndata and v._a is not value
            return v.dtype, v.shape, v.numpy().tolist(), v.trainable, v.name

        assert looks(made) == slowly(looks, made)
    v = Variable(x)
    v[0].assign(0.0)
    assert x.numpy().tolist() == base.tolist()
    array = np.ones(2, np.float32)
    v = Variable(array)
    array[0] = 5.0
    assert v.numpy().tolist() == [1.0, 1.0] and Variable(1.0).trainable and Variable(1.0).name == "Variable:0"


# --- scatters ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["update", "add", "sub", "mul", "div", "min", "max"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "complex64"])
def test_scatters(how, dtype):
    rows = np.array([[5.0, 6.0], [7.0, 8.0], [1.0, 2.0]]).astype(dtype)
    for shape, indices, updates in [
        ((3, 2), [0, 2, 0], rows), ((3, 2), [0, -1, 1], rows), ((3, 2), [0, 3, 1], rows),
        ((4,), [0, 2, 0], rows[:, 0]), ((4,), [1], rows[0, :1]), ((4,), [0, 1], np.ones(2)),
        ((4,), np.arange(2, dtype=np.uint64), rows[0]), ((4,), [4], rows[0, :1]), ((4,), [0, 1], rows[:2]),
    ]:  # fmt: skip
        delta = tj.IndexedSlices(tj.constant(updates), tj.constant(np.array(indices)))

        def scattered(shape=shape, delta=delta):
            v = Variable(np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype))
            assert getattr(v, f"scatter_{how}")(delta) is v
            return v.numpy().tobytes()

        def one_by_one(shape=shape, i=indices, u=updates):
            v = Variable(np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype))
            getattr(v, f"scatter_nd_{how}")(tj.constant(np.array(i))[..., None], tj.constant(u))
            return v.numpy().tobytes()

        with tj.GradientTape():  # where nothing is quick
            wanted = looks(scattered), looks(one_by_one)
        assert (looks(scattered)[0], looks(one_by_one)[0]) == (wanted[0][0], wanted[1][0])
        if wanted[0][0] is bytes:
            assert (looks(scattered), looks(one_by_one)) == wanted


def test_scatters_leave_what_others_hold():
    v = Variable([1.0, 2.0, 3.0])
    before = v.read_value()
    v.scatter_update(tj.IndexedSlices(tj.constant([8.0, 9.0]), tj.constant([0, 2])))
    v.scatter_add(tj.IndexedSlices(tj.constant([1.0, 1.0]), tj.constant([1, 1])))
    assert before.numpy().tolist() == [1.0, 2.0, 3.0] and v.numpy().tolist() == [8.0, 4.0, 9.0]


# --- complex numbers --------------------------------------------------------------------------------------------------
def complex_operands():
    for dtype in ("bool", "int8", "int64", "uint64", "float32", "float64", "complex64", "complex128"):
        for shape in ((), (1,), (5,), (2, 3), (300,)):
            a = (np.arange(np.prod(shape)) % 7).astype(dtype).reshape(shape)
            yield np.asarray((a * (1 - 2j)).astype(dtype) if a.dtype.kind == "c" else a)
    yield (np.arange(10) * 1j)[::2]
    yield np.arange(10, dtype=np.int32)[::2]


NUMBERS = [1, -3, 2.5, 0.0, 1j, 2 - 3j, True, complex(1e300, -0.0), 1e300, 2**70]


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.eq, operator.pow])
def test_complex_numbers_beside_others(op):
    arrays = list(complex_operands())
    both = [(a, b) for a in arrays for b in arrays if "c" in (a.dtype.kind, b.dtype.kind)]
    pairs = [(a, b) for a, b in both if a.shape == b.shape or (a.size < 7 and b.size < 7)]
    pairs += [(a, n) for a in arrays for n in NUMBERS] + [(n, a) for a in arrays for n in NUMBERS]
    for a, b in pairs:
        x, y = (tj.constant(v) if isinstance(v, np.ndarray) else v for v in (a, b))
        assert looks(op, x, y) == slowly(looks, op, x, y), (a, b)
    z = tj.constant(np.ones(3, np.complex64))
    x = tj.ones(3)
    for f in (lambda: z + 1, lambda: z * 2.0, lambda: z * 1j, lambda: z + x, lambda: tj.cast(z, "complex128")):
        f()
        assert python_calls(f) in ([], ["cast"])


def test_casts_to_complex_numbers():
    for a, to in itertools.product(complex_operands(), ("complex64", "complex128", "float32", "int32")):
        x = tj.constant(a)
        assert looks(tj.cast, x, to) == slowly(looks, tj.cast, x, to)


def test_powers_that_are_roots():
    for dtype in ("float32", "float64", "float16", "complex64", "int32", "bfloat16"):
        x = tj.cast(tj.constant([0.0, 1.0, 2.5, -1.0, np.inf, np.nan]), dtype)
        for p in (0.5, -0.5, 1.0, -1.0, 2.0, 1.5, 2, 1, 0, 0.0):
            assert looks(operator.pow, x, p) == slowly(looks, operator.pow, x, p), (dtype, p)


def test_slots_that_hold_older_code_are_known(native):  # noqa: F811
    """Better code takes the place of the first while other threads are in operators."""
    at, old = Row.WORDS * 3, native._rows[Row.WORDS * 3 + Row.OWN]
    x = tj.constant(np.zeros((0, 2)))  # of which the method is asked
    native._rows[at + Row.OLDER], native._rows[at + Row.OWN] = old, old + 1
    try:
        assert (x + x).shape == (0, 2)
    finally:
        native._rows[at + Row.OWN] = native._rows[at + Row.OLDER] = old
    assert (x + x).shape == (0, 2)


# --- keys -------------------------------------------------------------------------------------------------------------
def test_integers_of_all_kinds_are_keys():
    x, v, line = tj.constant(TABLE), Variable(TABLE), tj.constant([1.0, 2.0, 3.0])
    numbers = [kind(k) for kind in (np.int8, np.int64, np.uint8, np.uint64, np.intp) for k in (0, 1, 2, 3)]
    numbers += [np.int32(-1), np.int64(-5), np.uint64(2**64 - 1), np.bool_(True), np.float32(1.0), np.array(1)]
    numbers += [tj.constant(1), tj.constant(-1, tj.int8), tj.constant(9), tj.constant(2**63, tj.uint64)]
    numbers += [tj.constant(True), tj.constant(1.0), Variable(1), tj.constant([1])]
    for n in numbers:
        for key in (n, (n, 1), (slice(None), n), (..., n), (n, None), (n, [0, 1])):
            for t in (x, v, line):
                got, want = (g(operator.getitem, t, key) for g in (shown, lambda *a: slowly(shown, *a)))
                assert got == want, (n, key)


def shown(f, *args):
    """The values, or the error's type."""
    try:
        r = f(*args)
    except Exception as e:
        return type(e)
    return r.dtype, r.shape, r.numpy().tobytes()


FLAGS = [
    True, False, (True, 1), (slice(None), True), (True, True), (True, False), (True, slice(None), 1), (True, [0, 1]),
    ([0, 1], True), (..., True), (None, True, 0), np.True_, np.array(False), (1, True, 2), (0, True, slice(None)),
    (np.array([True, False, True]), True), (1, slice(None), True), (False, None), (True, 5), (0, 0, 0, True),
]  # fmt: skip


@pytest.mark.parametrize("key", FLAGS, ids=str)
def test_truth_values_in_keys(key):
    x = tj.constant(TABLE)
    try:
        want = TABLE[key]
    except IndexError:
        want = None

    def check(f):
        if want is None:
            with pytest.raises(IndexError):
                f()
            return
        y = f()
        assert tuple(y.shape) == want.shape and np.array_equal(y.numpy(), want)

    v = Variable(TABLE)
    for f in (lambda: x[key], lambda: v[key]):
        check(f)
        check(tj.function(f))
    check(lambda: tj.function(lambda y: y[key])(x))
    if want is None:
        return
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(x[key] * 2.0)
    marks = np.zeros_like(TABLE)
    np.add.at(marks, key, 2.0)
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), marks)
    new = TABLE.copy()
    new[key] = 9.0
    for assigned in (lambda w: w[key].assign(9.0), tj.function(lambda w: w[key].assign(9.0))):
        w = Variable(TABLE)
        assigned(w)
        np.testing.assert_array_equal(w.numpy(), new)


# --- segments ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "int8", "complex64", "float16"])
def test_segments(name, dtype):
    rng = np.random.default_rng(0)
    sorted_, unsorted = getattr(tj.math, f"segment_{name}"), getattr(tj.math, f"unsorted_segment_{name}")
    shapes = (8,), (5, 3), (1,), (2, 2, 2), (300,)
    for shape, numbers in itertools.product(shapes, ["int32", "int64", "uint8", "uint64"]):
        n = shape[0]
        x = rng.integers(-5, 5, shape).astype(dtype)
        if x.dtype.kind == "f" and n > 4:
            x.reshape(-1)[[1, 3]] = np.nan, -np.inf
        up, any_ = np.sort(rng.integers(0, 6, n)).astype(numbers), rng.integers(0, 6, n).astype(numbers)
        calls = [(sorted_, x, up), (sorted_, np.asfortranarray(x), up), (sorted_, x, any_), (sorted_, x[:0], up[:0])]
        calls += [(unsorted, x, any_, k) for k in (6, 4, 0, 1, -1)] + [(unsorted, x, any_.astype("int64") - 1, 6)]
        calls += [(unsorted, x, np.stack([any_] * shape[1], 1), 6)] if len(shape) > 1 else []
        for f, data, ids, *count in calls:
            args = f, tj.constant(data), tj.constant(ids), *count
            assert shown(*args) == slowly(shown, *args), (shape, ids, count)


# --- lists of elements ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "complex128", "bfloat16"])
def test_iteration(dtype):
    for shape in ((3,), (1,), (0,), (2, 3), (64,), (65,), (2, 0), ()):
        a = np.arange(np.prod(shape)).reshape(shape).astype(tj.as_dtype(dtype).np)
        for x in (wrap(a), wrap(a.T), Variable(a)):
            def several(x=x):
                return [(type(y), y.dtype, y.shape, y.numpy().tobytes()) for y in x]

            assert looks(several) == slowly(looks, several)
    x = tj.constant(TABLE)
    for k, row in enumerate(x):
        assert row.numpy().tolist() == TABLE[k].tolist()
    first, *rest = tj.constant([1.0, 2.0, 3.0])
    assert (float(first), len(rest), type(first)) == (1.0, 2, Tensor)
    with tj.GradientTape() as tape:
        tape.watch(x)
        _, b, _ = x
    assert tape.gradient(b, x).numpy().tolist() == [[0.0] * 4, [1.0] * 4, [0.0] * 4]


# --- draws ------------------------------------------------------------------------------------------------------------
def test_draws_are_the_same_natively_and_not():
    def drawn():
        g = tj.random.Generator.from_seed(5)
        draws = [g.normal((3,)), g.uniform((2, 2)), g.truncated_normal((4,)), g.normal((), dtype=tj.float64)]
        return [d.numpy().tobytes() for d in draws], g.state.numpy().tolist()

    assert drawn() == slowly(drawn)
    g = tj.random.Generator.from_seed(5)
    held = g.state.read_value()
    g.normal((2,))
    assert held.numpy()[1] == 0 and g.state.numpy()[1] == 1
    with pytest.raises(tj.errors.ArgumentError):
        g.normal((2,), dtype=tj.int32)
    assert g.state.numpy()[1] == 1


def test_no_draw_is_given_to_two_threads():
    g, seen = tj.random.Generator.from_seed(1), []

    def draw():
        for _ in range(200):
            seen.append(g.source()[0].numpy()[1])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(seen) == list(range(800))


def test_programs_draw_the_same(monkeypatch):
    """Frequent calls, which are native programs."""
    from tracejit import eagerplans
    from tracejit.ops import draws, random

    def drawn():
        tj.random.set_seed(3)
        x = tj.ones((6,))
        draws = tj.random.normal((4,)), tj.random.truncated_normal((4,)), tj.nn.dropout(x, 0.5), tj.nn.dropout(x, 0.25)
        return [d.numpy().tobytes() for d in draws]

    before, known = drawn(), dict(quick.NATIVE)
    state = tj.random.get_global_generator().state.read_value()
    for form, args in [
        (draws._normals, (state, None, (4,), 0.0, 1.0, tj.float32)),
        (draws._truncated_normals, (state, None, (4,), 0.0, 1.0, tj.float32)),
        (random._dropped, (state, None, tj.ones((6,)), 0.5)),
    ]:
        assert eagerplans.learn(form, args)
    try:
        assert drawn() == before
    finally:
        quick.NATIVE.clear()
        quick.NATIVE.update(known)


# --- small functions --------------------------------------------------------------------------------------------------
Z = np.array([1 + 2j, -1j, 0], np.complex64)
CALLS = {
    "stop_gradient": lambda x: tj.stop_gradient(x),
    "ensure_shape": lambda x: tj.ensure_shape(x, (4,)),
    "ensure_none": lambda x: tj.ensure_shape(x, (None,)),
    "ensure_wrong": lambda x: tj.ensure_shape(x, (3,)),
    "zeros_of_a_size": lambda x: tj.zeros(3, x.dtype),
    "zeros_like": tj.zeros_like, "ones_like": tj.ones_like,
    "constant": lambda x: tj.constant(2, x.dtype, (2, 2)),
    "constant_wrong": lambda x: tj.constant(1.5, x.dtype, (2, 2)),
    "constant_large": lambda x: tj.constant(2**40, shape=(2,)),
    "constant_true": lambda x: tj.constant(True, shape=[2]),
    "constant_negative": lambda x: tj.constant(1.0, shape=(-2,)),
    "reshape": lambda x: tj.reshape(x, -1), "reshape_wrong": lambda x: tj.reshape(x, 3),
    "saturate": lambda x: tj.saturate_cast(x, tj.uint8),
    "clip": lambda x: tj.clip_by_value(x, x[1], x[::-1]),
    "conj": tj.math.conj, "squares": lambda x: tj.math.squared_difference(x, x[::-1]),
    "xlogy": lambda x: tj.math.xlogy(x, tj.abs(x)), "xlog1py": lambda x: tj.math.xlog1py(x, tj.abs(x)),
    "no_nan": lambda x: tj.math.multiply_no_nan(x / 0, x), "truncatediv": lambda x: tj.truncatediv(x, 2),
    "nextafter": lambda x: tj.math.nextafter(x, x[::-1]),
    "cumsum": lambda x: tj.cumsum(x, reverse=True), "cumprod": lambda x: tj.math.cumprod(x, -1, False, True),
    "tensordot": lambda x: tj.tensordot(x, x, 1),
    "tensordot_matrix": lambda x: tj.tensordot(x, tj.reshape(x, (4, 1)), 1),
    "tensordot_wrong": lambda x: tj.tensordot(x, x[1:], 1), "dot": lambda x: np.dot(x, x),
    "convert": tj.convert_to_tensor,
    "range": lambda x: tj.range(0.5, 4.5, 1.25), "range_down": lambda x: tj.range(4.0, 0.0, -1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_small_functions(name):
    f = CALLS[name]
    singles = np.array([3.0, -1.5, 0.0, 300.0], np.float32)
    for a in (singles, np.array([3, -1, 0, 300]), np.array([1.5, np.nan, -np.inf, 0])):
        for x in (tj.constant(a), Variable(a)):
            want = slowly(shown, f, x)
            assert shown(f, x) == want
            traced = shown(tj.function(f), x)
            if not isinstance(want, type) and not isinstance(traced, type):
                assert traced[:2] == want[:2]
                got, expected = (np.frombuffer(r[2], want[0].np) for r in (traced, want))
                np.testing.assert_allclose(got, expected, 1e-6)


def test_gradients_flow_through_quick_functions():
    x = tj.constant([1.0, 2.0])
    for f, want in [(tj.stop_gradient, None), (lambda y: tj.ensure_shape(y, (2,)), 1.0), (tj.math.conj, 1.0),
                    (lambda y: tj.cumsum(y, reverse=True), None), (lambda y: tj.nn.dropout(y, 1e-9), 1.0)]:  # fmt: skip
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(f(x))
        g = tape.gradient(y, x)
        assert (g is None) == (f is tj.stop_gradient)
        if want is not None:
            np.testing.assert_allclose(g.numpy(), [want] * 2)


# --- equations --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equations(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(5, 2)).astype(dtype)
    t = (rng.normal(size=(4, 4)) + 4 * np.eye(4)).astype(dtype)
    c = rng.normal(size=(4, 2)).astype(dtype)
    close = {"rtol": 1e-3 if dtype == np.float32 else 1e-9}
    np.testing.assert_allclose(tj.linalg.lstsq(a, b).numpy(), np.linalg.lstsq(a, b)[0], **close)
    np.testing.assert_allclose(tj.linalg.lstsq(*map(tj.constant, (a, b))).numpy(), np.linalg.lstsq(a, b)[0], **close)
    for lower, adjoint in itertools.product((True, False), repeat=2):
        part = np.tril(t) if lower else np.triu(t)
        got = tj.linalg.triangular_solve(tj.constant(t), tj.constant(c), lower, adjoint)
        np.testing.assert_allclose(got.numpy(), np.linalg.solve(part.T if adjoint else part, c), **close)
        assert got.numpy().tobytes() == tj.linalg.triangular_solve(t, c, lower=lower, adjoint=adjoint).numpy().tobytes()
    t[0, 3] = np.nan  # in the triangle that is not read
    assert np.isfinite(tj.linalg.triangular_solve(tj.constant(t), tj.constant(c)).numpy()).all()
    t[0, 3], t[1, 1] = 0, 0
    with pytest.raises(tj.errors.ArgumentError, match="diagonal has a zero"):
        tj.linalg.triangular_solve(tj.constant(t), tj.constant(c))
    with pytest.raises(tj.errors.ArgumentError):
        tj.linalg.lstsq(tj.zeros((3, 2), dtype), tj.zeros((3, 1), dtype))
    with pytest.raises(directlinalg.Refused):
        directlinalg.lstsq(tj.constant(a), tj.constant(b), 0.5, True)


def test_functions_of_slices_are_known_to_errors():
    assert set(assign.SLICE_METHODS) == {"assign", "assign_add", "assign_sub"} and fast.put is not None
