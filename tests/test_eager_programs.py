"""Public functions whose frequent eager calls are traced programs: the same bits, dtypes, shapes and errors."""

import threading

import numpy as np
import pytest

import tracejit as tj
from tracejit import eagerplans
from tracejit.fast import fast
from tracejit.ops import direct, quick
from tracejit.runtime import eager

pytestmark = pytest.mark.skipif(eager.unsupported() is not None, reason="Python's own here")

SPECIAL = [0.0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan, 3.0, 1e-42, 7.0, -1.0, 0.1]
DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]


def values(dtype, shape):
    n = int(np.prod(shape))
    with np.errstate(all="ignore"):
        a = np.resize(SPECIAL if dtype[0] == "f" else [0, 1, 5, 3, 2, 7, 250, 9], n)
        return tj.constant(a.astype(dtype).reshape(shape))


POSITIONS = tj.constant([2, 0, 1])
MASK = tj.constant([True, False, True] * 4)
FUNCTIONS = {
    "concat": (lambda x: tj.concat([x, x], 0), (4, 3)),
    "stack": (lambda x: tj.stack([x, x]), (4, 3)),
    "unstack": (lambda x: tj.unstack(x), (4, 3)),
    "split": (lambda x: tj.split(x, 2, 0), (4, 3)),
    "split into sizes": (lambda x: tj.split(x, [1, 3], 0), (4, 3)),
    "tile": (lambda x: tj.tile(x, (2, 1)), (4, 3)),
    "repeat": (lambda x: tj.repeat(x, 3, 1), (4, 3)),
    "reverse": (lambda x: tj.reverse(x, (0,)), (4, 3)),
    "roll": (lambda x: tj.roll(x, 2, 0), (12,)),
    "where": (lambda x: tj.where(MASK, x, tj.reverse(x, (0,))), (12,)),
    "gather": (lambda x: tj.gather(x, POSITIONS), (4, 3)),
    "gather_nd": (lambda x: tj.gather_nd(x, [[0, 1], [3, 2]]), (4, 3)),
    "pad": (lambda x: tj.pad(x, ((1, 0), (0, 2))), (4, 3)),
    "diag": (lambda x: tj.linalg.diag(x), (5,)),
    "diag_part": (lambda x: tj.linalg.diag_part(x), (2, 3, 3)),
    "set_diag": (lambda x: tj.linalg.set_diag(x, x[0]), (3, 3)),
    "tensor_diag_part": (lambda x: tj.linalg.tensor_diag_part(x), (2, 2, 2, 2)),
    "band_part": (lambda x: tj.linalg.band_part(x, 1, 0), (3, 3)),
    "is_non_decreasing": (lambda x: tj.math.is_non_decreasing(x), (5,)),
    "space_to_depth": (lambda x: tj.nn.space_to_depth(x, 2), (1, 2, 4, 3)),
    "reverse_sequence": (lambda x: tj.reverse_sequence(x, POSITIONS, 1, 0), (3, 4)),
    "tensor_scatter_nd_update": (lambda x: tj.tensor_scatter_nd_update(x, [[2], [0], [2]], x[:3]), (4,)),
    "argsort": (lambda x: tj.argsort(x, -1, "DESCENDING"), (4, 3)),
    "top_k": (lambda x: list(tj.math.top_k(x, 2)), (2, 6)),
    "tensor_scatter_nd_max": (lambda x: tj.tensor_scatter_nd_max(x, [[2], [0], [2]], x[:3]), (4,)),
}
REALS = {
    "max_pool2d": (lambda x: tj.nn.max_pool2d(x, 2, 1, "SAME"), (1, 4, 4, 1)),
    "outer": (lambda x: tj.linalg.outer(x, x), (12,)),
    "cross": (lambda x: tj.linalg.cross(x, tj.reverse(x, (0,))), (4, 3)),
    "divide_no_nan": (lambda x: tj.math.divide_no_nan(tj.reverse(x, (0,)), x), (12,)),
    "xdivy": (lambda x: tj.math.xdivy(tj.reverse(x, (0,)), x), (12,)),
    "leaky_relu": (lambda x: tj.nn.leaky_relu(x, 0.3), (12,)),
    "reciprocal_no_nan": (lambda x: tj.math.reciprocal_no_nan(x), (12,)),
    "zero_fraction": (lambda x: tj.nn.zero_fraction(x), (12,)),
    "tensor_scatter_nd_add": (lambda x: tj.tensor_scatter_nd_add(x, [[2], [0], [2]], x[1:4]), (12,)),
    "scatter_nd": (lambda x: tj.scatter_nd(tj.constant([[2], [0], [2]]), x, (5,)), (3,)),
    "segment_sum": (lambda x: tj.math.unsorted_segment_sum(x, tj.constant([0, 2, 2, 0, 1]), 3), (5,)),
    "many sums": (lambda x: tj.math.unsorted_segment_sum(x, tj.cast(tj.range(1000) % 450, "int64"), 451), (1000,)),
    "sums of rows": (lambda x: tj.math.unsorted_segment_sum(x, tj.constant([0, 2, 2, 0]), 3), (4, 3)),
    "segment_max": (lambda x: tj.math.unsorted_segment_max(x, tj.constant([0, 2, 2, 0, 1]), 3), (5,)),
    "segment_min": (lambda x: tj.math.unsorted_segment_min(x, tj.constant([0, 2, 2, 0, 1]), 4), (5,)),
    "frame": (lambda x: tj.signal.frame(x, 4, 2), (12,)),
    "clip_by_value": (lambda x: tj.clip_by_value(x, tj.reverse(x, (0,)), tj.constant(2.0, x.dtype)), (12,)),
    "complex": (lambda x: tj.bitcast(tj.complex(x, tj.reverse(x, (0,))), x.dtype), (12,)),
    "saturate_cast": (lambda x: tj.saturate_cast(x, tj.int8), (12,)),
    "truncatediv": (lambda x: tj.truncatediv(x, tj.reverse(x, (0,))), (12,)),
    "nextafter": (lambda x: tj.math.nextafter(x, tj.reverse(x, (0,))), (12,)),
    "multiply_no_nan": (lambda x: tj.math.multiply_no_nan(x, tj.reverse(x, (0,))), (12,)),
    "in_top_k": (lambda x: tj.nn.in_top_k(POSITIONS, x, 2), (3, 4)),
    "searchsorted": (lambda x: tj.searchsorted(tj.constant([-2.0, 0.0, 1.0], x.dtype), x), (12,)),
}
DRAWS = {
    "normal": lambda g: g.normal((9,), 1.0, 2.0),
    "uniform": lambda g: g.uniform((3, 3), -1.0, 2.0),
    "integers": lambda g: g.uniform((9,), 3, 20, tj.int64),
    "truncated": lambda g: g.truncated_normal((9,)),
    "normal64": lambda g: g.normal((4,), dtype=tj.float64),
}


@pytest.fixture
def learned(monkeypatch):
    """The forms that have become native; each call of one makes the next such call native."""
    made = set()

    def at_once(form, args):
        if eagerplans.learn(form, args):
            made.add(form)

    for name in fast.__slots__:
        monkeypatch.setattr(fast, name, None)
    monkeypatch.setattr(quick, "_count", at_once)
    monkeypatch.setattr(quick, "NATIVE", {})
    monkeypatch.setattr(eagerplans, "_made", {})
    return made


def said(y):
    """What a result is, in bytes."""
    return [(t.dtype, tuple(t.shape), t.numpy().tobytes()) for t in (y if isinstance(y, list) else [y])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_bits(name, dtype, learned):
    f, shape = FUNCTIONS[name]
    x = values(dtype, shape)
    with tj.GradientTape():
        long = said(f(x))
    first, second, third = f(x), f(x), f(x)
    assert learned
    assert said(first) == said(second) == said(third) == long
    again = values(dtype, (shape[0], *shape[1:]))
    assert said(f(again)) == long


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REALS)
def test_the_same_bits_of_reals(name, dtype, learned):
    f, shape = REALS[name]
    x = values(dtype, shape)
    with tj.GradientTape():
        long = [(d, s, np.frombuffer(b, np.uint8)) for d, s, b in said(f(x))]
    results = [f(x) for _ in range(3)]
    assert learned
    for y in results:
        for t, (d, s, b) in zip([y], long, strict=True):
            want = np.frombuffer(b.tobytes(), d.np).reshape(s)
            assert (t.dtype, tuple(t.shape)) == (d, s)
            nan = np.isnan(want) if d.is_floating else np.zeros(s, bool)
            np.testing.assert_array_equal(np.where(nan, 0, t.numpy()), np.where(nan, 0, want))
            np.testing.assert_array_equal(np.signbit(t.numpy())[~nan], np.signbit(want)[~nan])
            assert not d.is_floating or (np.isnan(t.numpy()) == nan).all()


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_the_same(name, learned):
    def several():
        g = tj.random.Generator.from_seed(5)
        return [said(DRAWS[name](g)) for _ in range(4)]

    with tj.GradientTape():
        long = several()
    assert several() == long
    assert learned
    assert several() == long


def test_other_arguments_go_the_long_way(learned):
    x = values("float32", (4, 3))
    for _ in range(3):
        tj.tile(x, (2, 1))
    assert learned
    assert tj.tile(x, (1, 3)).shape == (4, 9)
    assert tj.tile(x[:2], (2, 1)).shape == (4, 3)
    assert tj.tile(tj.Variable(x), (2, 1)).shape == (8, 3)
    assert tj.tile(tj.linalg.matrix_transpose(x), (2, 1)).shape == (6, 4)


def test_positions_outside_are_still_errors(learned):
    x = values("float32", (4, 3))
    for _ in range(3):
        tj.gather(x, POSITIONS)
    with pytest.raises(tj.errors.OutOfRangeError):
        tj.gather(x, tj.constant([0, 4, 1]))


def test_tapes_and_traces_see_the_steps(learned):
    x = values("float64", (4, 3))
    f = FUNCTIONS["concat"][0]
    for _ in range(3):
        f(x)
    assert learned
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x) * 2.0
    np.testing.assert_array_equal(tape.gradient(y, x), np.full((4, 3), 4.0))
    np.testing.assert_array_equal(tj.function(f)(x), f(x))


def test_padding_with_a_traced_number_keeps_what_is_not_a_number():
    x = values("float32", (4, 3))
    f = tj.function(lambda x, c: tj.pad(x, ((1, 0), (0, 2)), constant_values=c))
    assert f(x, tj.constant(0.0)).numpy().tobytes() == tj.pad(x, ((1, 0), (0, 2))).numpy().tobytes()


def test_no_programs_for_half_precision_and_large_arrays(learned):
    for x in (values("float32", (3, 4)), tj.zeros((4096, 3)), tj.Variable([1.0])):
        x = tj.cast(x, tj.float16) if x.shape == (3, 4) else x
        for _ in range(3):
            tj.reverse(x, (0,))
    assert not learned


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_orders_of_large_arrays_are_native_too(dtype, learned):
    x = np.random.default_rng(2).integers(-999, 999, (3, 20_000)).astype(dtype)
    t = tj.constant(x)
    wanted = said(tj.argsort(t)), said(list(tj.math.top_k(t, 7)))
    for _ in range(2):
        assert (said(tj.argsort(t)), said(list(tj.math.top_k(t, 7)))) == wanted
    assert learned == {direct.argsort, direct.top_k}
    order = np.frombuffer(wanted[0][0][2], np.int32).reshape(x.shape)
    np.testing.assert_array_equal(order, np.argsort(x, -1, "stable"))


def test_a_program_is_made_once(learned):
    x = values("int32", (64,))
    for _ in range(2 * eagerplans._MOST):
        eagerplans.learn(direct.argsort, (x, -1, "ASCENDING"))
    assert len(eagerplans._made[direct.argsort].plans) == 1
    assert eagerplans.learn(direct.argsort, (x[:5], -1, "ASCENDING"))
    assert quick.NATIVE[direct.argsort](x[:5], -1, "ASCENDING") is not None


def test_large_calls_count_for_many(monkeypatch):
    asked = []
    monkeypatch.setattr(quick, "WHEN_FREQUENT", [lambda form, args: asked.append(form)])
    monkeypatch.setattr(quick, "_left", dict.fromkeys(quick._left, quick.FREQUENT))
    monkeypatch.setattr(quick, "NATIVE", {})
    tj.argsort(tj.ones(quick.FREQUENT << quick._PIECE, tj.int8))
    assert asked == [direct.argsort]
    tj.reverse(tj.ones(quick.FREQUENT << quick._PIECE, tj.int8), (0,))
    assert asked == [direct.argsort]


def test_the_thread_makes_the_program(monkeypatch):
    monkeypatch.setattr(quick, "NATIVE", {})
    monkeypatch.setattr(quick, "WHEN_FREQUENT", [eagerplans._begin])
    done = []
    monkeypatch.setattr(eagerplans, "learn", lambda form, args: done.append(form))
    x = values("float32", (3, 4))
    for _ in range(5 * quick.FREQUENT):
        tj.reverse(x, (0,))
    for t in threading.enumerate():
        if t.name == "tracejit eager programs":
            t.join()
    assert done


def test_ranges_of_floats(learned):
    calls = [(0.0, 8.0, 1.0), (0.0, 5.0, 0.5), (1.5, 9.25, 0.75), (4.0, 0.0, -1.0), (0.0, 0.0, 1.0), (0.1, 1.0, 0.1)]
    with tj.GradientTape():
        long = [said(tj.range(*c)) for c in calls]
    for _ in range(3):
        assert [said(tj.range(*c)) for c in calls] == long
    assert learned


def test_every_kind_of_call_is_learned_in_turn(monkeypatch):
    """Calls that no program takes count anew after each try."""
    asked = []
    monkeypatch.setattr(quick, "WHEN_FREQUENT", [lambda form, args: asked.append(args)])
    monkeypatch.setattr(quick, "_left", dict(quick._left))
    for k in (1, 2):
        for _ in range(quick.FREQUENT):
            tj.nn.space_to_depth(tj.ones((1, 2, 2 * k, 1)), 2)
    assert len(asked) == 2 and asked[0][0].shape != asked[1][0].shape
