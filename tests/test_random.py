"""Random tensors: known answers of Philox, streams, distributions, independence of how a draw is computed."""


import numpy as np
import pytest
import scipy.stats as st
from helpers import graph_of, in_threads, run_graph

import tracejit as tj
from tracejit import tracing
from tracejit.ops.philox import philox, philox32, philox64

# counter, key, result: the reference implementation's own test vectors for philox4x32-10
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    def wide(low, high):
        return np.uint64(low | high << 32)

    low, high, k = wide(*counter[:2]), wide(*counter[2:]), wide(*key)
    assert tuple(int(w) for w in philox(low, high, k)) == words
    if int(low) < 2**62:
        at = np.arange(4, dtype=np.uint64) + np.uint64(4 * int(low))
        assert philox32(at, k, high).numpy().tolist() == list(words)
        both = philox64(np.arange(2, dtype=np.uint64) + np.uint64(2 * int(low)), k, high).numpy()
        assert both.tolist() == [int(wide(*words[:2])), int(wide(*words[2:]))]


class Integers:
    """The scalar protocol on Python integers: what generated code computes for one element."""

    def __init__(self, value, bits=64):
        self.value, self.bits = value, bits

    class M:
        @staticmethod
        def const(value, dtype):
            return Integers(value, dtype.bits)

        @staticmethod
        def cast(x, dtype):
            return Integers(x.value % 2**dtype.bits, dtype.bits)

        @staticmethod
        def select(c, a, b):
            return a if c else b

        @staticmethod
        def ne(a, b):
            return a.value != b.value

    @classmethod
    def of(cls, f):
        return staticmethod(lambda a, b: cls(f(a.value, b.value) % 2**a.bits, a.bits))


for _name, _f in {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "bit_and": lambda a, b: a & b, "bit_or": lambda a, b: a | b,
    "bit_xor": lambda a, b: a ^ b, "shift_right": lambda a, b: a >> b, "shift_left": lambda a, b: a << b,
}.items():  # fmt: skip
    setattr(Integers.M, _name, Integers.of(_f))


@pytest.mark.parametrize("row", [philox32, philox64], ids=str)
def test_scalar_form_equals_kernel(row):
    key, stream = 0x123456789ABCDEF0, 0xFEDCBA9876543210
    at = [0, 1, 2, 3, 4, 5, 1000003, 2**40 + 1, 2**63 + 7]
    expected = row(np.array(at, np.uint64), np.uint64(key), np.uint64(stream)).numpy()
    got = [row.scalar(Integers.M, Integers(i), Integers(key), Integers(stream)).value for i in at]
    assert got == expected.tolist()


def test_elements_do_not_depend_on_their_neighbours():
    key, stream = np.uint64(7), np.uint64(3)
    for row in (philox32, philox64):
        whole = row(np.arange(40000, dtype=np.uint64), key, stream).numpy()
        for at in (np.array([5, 1, 39999, 1]), np.arange(17, 3000), np.arange(0, 40000, 7), np.array([[3], [9]])):
            np.testing.assert_array_equal(row(at.astype(np.uint64), key, stream).numpy(), whole[at])
        keys = np.array([7, 8], np.uint64)[:, None]
        both = row(np.arange(10, dtype=np.uint64), keys, stream).numpy()
        np.testing.assert_array_equal(both[0], whole[:10])
        assert (both[1] != whole[:10]).all()


# --- streams ----------------------------------------------------------------------------------------------------------
def draws():
    return [
        tj.random.uniform((3, 5)), tj.random.normal((7,)), tj.random.uniform((4,), 0, 100, tj.int32),
        tj.random.truncated_normal((3,), dtype=tj.float64), tj.random.shuffle(tj.range(10)),
        tj.random.normal((2, 2), 1.0, 2.0, tj.float64), tj.random.uniform((2,), seed=5),
        tj.nn.dropout(tj.ones((9,)), 0.5),
    ]  # fmt: skip


def test_a_seed_repeats_the_stream():
    tj.random.set_seed(42)
    first = [x.numpy() for x in draws()]
    second = [x.numpy() for x in draws()]
    tj.random.set_seed(42)
    for a, b, c in zip(first, second, draws()):
        np.testing.assert_array_equal(a, c.numpy())
        assert not np.array_equal(a, b)
    tj.random.set_seed(43)
    assert not np.array_equal(first[0], tj.random.uniform((3, 5)).numpy())


def test_a_trace_draws_from_the_same_stream():
    state = tj.random.get_global_generator().state
    tj.random.set_seed(1)
    before = state.numpy()
    trace = tracing.Trace()
    outs = tracing.run(trace, draws, ())
    new = trace.env[id(state)]
    graph = trace.builder.finish("draws", [o._a for o in outs] + [new._a])
    assert state.numpy().tolist() == before.tolist()
    captured = [state.numpy() if owner is state else owner for owner, _ in trace.reads.values()]
    *got, after = run_graph(graph, captured)
    for g, e in zip(got, draws()):
        np.testing.assert_array_equal(g, e.numpy())
    np.testing.assert_array_equal(after, state.numpy())


def test_first_elements_do_not_depend_on_the_size():
    a = tj.random.stateless_uniform((1000,), [1, 2]).numpy()
    b = tj.random.stateless_uniform((10,), [1, 2]).numpy()
    np.testing.assert_array_equal(a[:10], b)
    np.testing.assert_array_equal(tj.random.stateless_uniform((2, 5), [1, 2]).numpy().reshape(-1), b)
    a, b = (tj.random.stateless_normal((n,), [1, 2]).numpy() for n in (1000, 7))
    np.testing.assert_array_equal(a[:7], b)


def test_stateless_draws_are_functions_of_the_seed():
    for f in (tj.random.stateless_uniform, tj.random.stateless_normal, tj.random.stateless_truncated_normal):
        a = f((5,), [1, 2]).numpy()
        np.testing.assert_array_equal(a, f((5,), tj.constant([1, 2])).numpy())
        assert not np.array_equal(a, f((5,), [2, 1]).numpy())
    with pytest.raises(tj.errors.ArgumentError):
        tj.random.stateless_uniform((5,), 3)


def test_stateless_draws_with_a_traced_seed():
    graph, captured = graph_of(lambda s: tj.random.stateless_normal((5,), s), tj.ir.types.TensorType(tj.int32, (2,)))
    y = run_graph(graph, [np.array([3, 4], np.int32), *captured])[0]
    np.testing.assert_array_equal(y, tj.random.stateless_normal((5,), [3, 4]).numpy())


def test_generators():
    g, h = tj.random.Generator.from_seed(1), tj.random.Generator.from_seed(1)
    np.testing.assert_array_equal(g.normal((5,)).numpy(), h.normal((5,)).numpy())
    assert not np.array_equal(g.uniform((5,)).numpy(), g.uniform((5,)).numpy())
    a, b = g.split(2)
    assert not np.array_equal(a.normal((5,)).numpy(), b.normal((5,)).numpy())
    h.reset_from_seed(1)
    np.testing.assert_array_equal(h.normal((5,)).numpy(), tj.random.Generator(1).normal((5,)).numpy())
    other = tj.random.Generator.from_non_deterministic_state()
    assert not np.array_equal(other.normal((5,)).numpy(), tj.random.Generator(1).normal((5,)).numpy())
    assert g.uniform_full_int((3,), tj.uint8).dtype is tj.uint8


def test_threads_never_share_a_draw():
    tj.random.set_seed(0)
    seen = []

    def work(_):
        seen.extend(tj.random.uniform((4,)).numpy().tobytes() for _ in range(100))

    in_threads(4, work)
    assert len(set(seen)) == 400


# --- distributions ----------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def seed():
    tj.random.set_seed(1234)


@pytest.mark.parametrize("dtype", [tj.float16, tj.bfloat16, tj.float32, tj.float64], ids=str)
def test_uniform_floats(dtype):
    x = tj.random.uniform((200_000,), dtype=dtype).numpy().astype(np.float64)
    assert x.min() >= 0
    assert x.max() < 1
    assert st.kstest(x, "uniform").statistic < 0.01
    y = tj.random.uniform((100_000,), -2.0, 5.0, dtype).numpy()
    assert (y.min() >= -2.0) and (y.max() < 5.0 or dtype is tj.bfloat16)
    assert y.astype(float).mean() == pytest.approx(1.5, abs=0.05)


def test_uniform_below_the_open_end():
    x = tj.random.uniform((200_000,), 1.0, np.nextafter(np.float32(1.0), np.float32(2.0))).numpy()
    assert (x == 1.0).all()


@pytest.mark.parametrize("dtype", [tj.int8, tj.uint8, tj.int32, tj.uint32, tj.int64, tj.uint64], ids=str)
def test_uniform_integers(dtype):
    low, high = (0, 10) if dtype.kind == "u" else (-5, 5)
    x = tj.random.uniform((100_000,), low, high, dtype).numpy()
    assert x.dtype == dtype.np
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == list(range(low, high))
    assert st.chisquare(counts).pvalue > 1e-4


def test_uniform_integers_over_large_ranges():
    x = tj.random.uniform((10_000,), -(2**62), 2**62, tj.int64).numpy()
    assert abs(x.astype(float).mean()) < 2**62 * 0.03
    y = tj.random.uniform((3, 4), tj.constant([0, 10, 20, 30]), tj.constant([5, 15, 25, 35]), tj.int32).numpy()
    assert ((y >= [0, 10, 20, 30]) & (y < [5, 15, 25, 35])).all()
    with pytest.raises(tj.errors.ArgumentError, match="maxval"):
        tj.random.uniform((3,), 5, dtype=tj.int32)
    with pytest.raises(tj.errors.ArgumentError, match="below"):
        tj.random.uniform((3,), 5, 5, tj.int32)


@pytest.mark.parametrize("dtype", [tj.float32, tj.float64], ids=str)
def test_normal(dtype):
    x = tj.random.normal((300_001,), 3.0, 2.0, dtype).numpy().astype(np.float64)
    assert st.kstest((x - 3) / 2, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(x[:-1:2] ** 2, x[1::2] ** 2)[0, 1]) < 0.02
    assert tj.random.normal((), dtype=dtype).shape == ()
    assert tj.random.normal((0, 3), dtype=dtype).shape == (0, 3)
    assert tj.random.normal((2,), dtype=tj.bfloat16).dtype is tj.bfloat16
    with pytest.raises(tj.errors.ArgumentError):
        tj.random.normal((2,), dtype=tj.int32)


def test_truncated_normal():
    x = tj.random.truncated_normal((200_000,)).numpy().astype(np.float64)
    assert np.abs(x).max() <= 2
    assert st.kstest(x, st.truncnorm(-2, 2).cdf).pvalue > 1e-4
    y = tj.random.truncated_normal((1000,), 10.0, 0.5).numpy()
    assert (y >= 9).all()
    assert (y <= 11).all()


def test_shuffle():
    x = tj.random.shuffle(tj.reshape(tj.range(20), (10, 2))).numpy()
    assert sorted(x[:, 0].tolist()) == list(range(0, 20, 2))
    assert (x[:, 1] == x[:, 0] + 1).all()
    first = [int(tj.random.shuffle(tj.range(4))[0]) for _ in range(2000)]
    assert st.chisquare(np.bincount(first, minlength=4)).pvalue > 1e-4


def test_categorical():
    p = np.array([0.1, 0.2, 0.7])
    x = tj.random.categorical(np.log(p)[None], 50_000).numpy()
    assert x.shape == (1, 50_000)
    np.testing.assert_allclose(np.bincount(x[0]) / 50_000, p, atol=0.01)


def test_draws_are_not_differentiated():
    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(tj.random.normal((3,), mean=x, stddev=0.0))
    assert float(tape.gradient(y, x)) == 3.0


@pytest.mark.parametrize("maxval", [300, 2**40, [5, 300], tj.constant(2**40)], ids=str)
def test_integers_outside_the_dtype_are_refused(maxval):
    for run in (lambda f: f, tj.function):
        with pytest.raises(tj.errors.ArgumentError, match="uniform of int8"):
            run(lambda: tj.random.uniform((2,), maxval=maxval, dtype=tj.int8))()
    assert tj.reduce_max(tj.random.uniform((5000,), maxval=128, dtype=tj.int8)) == 127
