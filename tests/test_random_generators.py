"""Generators and seeds: streams that are saved, taken up again, split and folded; draws from whole ranges."""

import numpy as np
import pytest
import scipy.stats as st

import tracejit as tj
from tracejit.errors import ArgumentError

R = tj.random
G = R.Generator
WAYS = pytest.mark.parametrize("way", [lambda f: f, tj.function], ids=["eager", "traced"])


def numbers(g, n=5):
    return g.normal((n,)).numpy().tolist()


# --- states -----------------------------------------------------------------------------------------------------------
def test_a_state_is_saved_and_taken_up_again():
    g = G.from_seed(7)
    g.normal((3,))
    saved = g.state.numpy()
    want = [numbers(g), numbers(g)]
    assert want[0] != want[1]
    for h in (G.from_state(saved, alg="philox"), G(state=saved), G.from_state(tj.constant(saved), alg=1)):
        assert [numbers(h), numbers(h)] == want
    h = G.from_seed(99)
    h.reset(saved)
    assert [numbers(h), numbers(h)] == want
    h.state.assign(saved)
    assert numbers(h) == want[0]
    copy = G(h)
    assert numbers(copy) == numbers(h)
    assert numbers(G.from_state(R.create_rng_state(7, "philox"))) == numbers(G.from_seed(7))


def test_keys_and_counters():
    g = G.from_key_counter(5, 3, "philox")
    assert g.algorithm == R.Algorithm.PHILOX == 1
    assert int(g.key) == 5
    h = G.from_key_counter(5, [0, 0], "philox")
    h.skip(3)
    assert numbers(g) == numbers(h)
    state = h.skip(tj.constant(2))
    assert numbers(g) != numbers(h)
    assert state.numpy().tolist() == [5, 6, h.state.numpy()[2]]
    assert numbers(G.from_key_counter(5, [0, 1], "philox")) != numbers(G.from_key_counter(5, [0, 0], "philox"))
    h.reset_from_key_counter(5, 4)
    numbers(h)
    assert numbers(h) == numbers(G.from_key_counter(5, 5, None))
    assert numbers(G.from_seed(5)) == numbers(G.from_key_counter(5, 0, "auto_select"))


@WAYS
def test_skipped_draws(way):
    g, h = G.from_seed(1), G.from_seed(1)
    for _ in range(4):
        g.uniform(())
    way(lambda: h.skip(4))()
    assert numbers(g) == numbers(h)


def test_seeds_of_several_numbers():
    streams = [numbers(G.from_seed(s)) for s in ([1, 2], [2, 1], [1], [0, 1], (1, 2, 3), tj.constant([4, 2]))]
    assert streams[2] == numbers(G.from_seed(1)) == streams[3]
    assert len({tuple(x) for x in streams}) == 5


@pytest.mark.filterwarnings("error::tracejit.errors.ConversionWarning")
def test_generators_that_are_made_in_a_traced_function():
    g, h = R.Generator.from_seed(3), R.Generator.from_seed(3)

    def draws(g, seed, state):
        a, b = g.split(2)
        c, d = R.Generator.from_seed(seed), R.Generator.from_state(state)
        first = a.normal((3,)), a.normal((3,)), b.uniform((2,)), c.uniform((2,)), d.uniform((2,))
        e = R.Generator(c)
        e.skip(1)
        c.reset_from_seed(seed)
        d.reset(state)
        return *first, c.uniform((2,)), d.uniform((2,)), e.uniform((2,)), *e.split(1)[0].make_seeds(2)

    traced = tj.function(draws)
    state = tj.constant(R.create_rng_state([5, 6]))
    for seed in ([3, -4], [2, 1]):
        s = tj.constant(seed)
        for a, b in zip(traced(g, s, state), draws(h, s, state), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(g.state, h.state)
    assert traced.experimental_get_tracing_count() == 1
    with pytest.raises(tj.errors.DTypeError, match="a seed's dtype"):
        tj.function(lambda x: R.Generator.from_seed(x).normal(()))(tj.constant(1.5))


def test_generators_that_a_traced_function_keeps():
    kept = []

    @tj.function
    def draw(g):
        if not kept:
            kept.extend(g.split(2))
        return kept[0].normal((2,)), kept[1].normal((2,))

    g, h = R.Generator.from_seed(7), R.Generator.from_seed(7)
    got = [draw(g) for _ in range(3)]
    own = h.split(2)
    for pair in got:
        for a, b in zip(pair, [k.normal((2,)) for k in own], strict=True):
            np.testing.assert_array_equal(a, b)


def test_generators_that_are_split():
    g, h = G.from_seed(4), G.from_seed(4)
    a, b = g.split(2), h.split(2)
    assert [numbers(x) for x in a] == [numbers(x) for x in b]
    assert numbers(g) == numbers(h)
    seeds = g.make_seeds(3)
    assert seeds.shape == (2, 3)
    assert seeds.dtype is tj.int64
    assert len({tuple(R.stateless_uniform((2,), seeds[:, i]).numpy()) for i in range(3)}) == 3


def test_the_global_generator_may_be_another_one():
    before = R.get_global_generator()
    try:
        R.set_global_generator(G.from_seed(3))
        assert R.normal((5,)).numpy().tolist() == numbers(G.from_seed(3))
        R.set_seed(8)
        assert R.normal((5,)).numpy().tolist() == numbers(G.from_seed(8))
        with pytest.raises(ArgumentError, match="a Generator is wanted"):
            R.set_global_generator(3)
    finally:
        R.set_global_generator(before)


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="three integers"):
        G.from_state([1, 2])
    with pytest.raises(ArgumentError, match="three integers"):
        G.from_seed(1).reset(np.zeros(3))
    with pytest.raises(ArgumentError, match="one integer or two"):
        G.from_key_counter(1, [1, 2, 3], None)
    for make in (
        lambda: G.from_seed(1, alg="threefry"), lambda: R.create_rng_state(1, R.Algorithm.THREEFRY),
        lambda: R.stateless_uniform((2,), [1, 2], alg="threefry"), lambda: R.split([1, 2], alg=2),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match='alg is "philox"'):
            make()
    with pytest.raises(ArgumentError, match="one integer"):
        R.fold_in([1, 2], 0.5)
    with pytest.raises(ArgumentError, match="num is 0 or more"):
        R.split([1, 2], -1)
    with pytest.raises(ArgumentError, match="seed of two integers"):
        R.split([1, 2, 3])


# --- seeds from seeds -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [tj.int32, tj.int64, tj.uint32, tj.uint64], ids=str)
@WAYS
def test_seeds_that_are_split_and_folded(dtype, way):
    seed = tj.constant([3, 9], dtype)
    many = way(lambda s: R.split(s, 50))(seed)
    assert many.shape == (50, 2)
    assert many.dtype is dtype
    folded = [way(R.fold_in)(seed, tj.constant(i)).numpy() for i in range(20)]
    assert folded[0].dtype == dtype.np
    assert len({tuple(s) for s in [*many.numpy().tolist(), *map(tuple, folded)]}) == 70
    np.testing.assert_array_equal(R.split(seed, 3), many[:3])
    np.testing.assert_array_equal(R.experimental.stateless_fold_in(seed, 3), folded[3])
    np.testing.assert_array_equal(R.experimental.stateless_split(seed), many[:2])
    assert R.split(seed, 0).shape == (0, 2)


def test_streams_of_new_seeds_are_independent():
    seeds = [[3, 9], *R.split([3, 9], 3).numpy(), *[R.fold_in([3, 9], i).numpy() for i in range(3)]]
    draws = [R.stateless_uniform((20_000,), s).numpy() for s in seeds]
    for i, x in enumerate(draws):
        assert st.kstest(x, "uniform").pvalue > 1e-4
        for y in draws[:i]:
            assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
            assert abs(np.corrcoef(x[1:], y[:-1])[0, 1]) < 0.03
    bits = R.stateless_uniform((20,), [3, 9], None, None, tj.int64).numpy()
    made = R.split(tj.constant([3, 9], tj.int64), 10).numpy()
    assert not set(bits.tolist()) & set(made.reshape(-1).tolist())


# --- draws ------------------------------------------------------------------------------------------------------------
@WAYS
@pytest.mark.parametrize("dtype", [tj.int8, tj.uint8, tj.int16, tj.int32, tj.uint32, tj.int64, tj.uint64], ids=str)
def test_integers_of_the_whole_range(dtype, way):
    g = G.from_seed(1)
    for f in (
        lambda: R.stateless_uniform((20_000,), [5, 6], None, None, dtype), lambda: g.uniform_full_int((20_000,), dtype)
    ):  # fmt: skip
        x = way(f)()
        assert x.dtype is dtype
        span = float(dtype.max) - float(dtype.min) + 1
        where = (x.numpy().astype(float) - float(dtype.min)) / span
        assert st.kstest(where + np.random.default_rng(0).uniform(0, 1 / span, where.shape), "uniform").pvalue > 1e-4


@WAYS
def test_stateless_shuffles(way):
    x = tj.reshape(tj.range(20), (10, 2))
    y = way(lambda x: R.stateless_shuffle(x, [1, 2]))(x).numpy()
    assert sorted(y[:, 0].tolist()) == list(range(0, 20, 2))
    assert (y[:, 1] == y[:, 0] + 1).all()
    np.testing.assert_array_equal(R.experimental.stateless_shuffle(x, [1, 2]), y)
    assert R.stateless_shuffle(tj.zeros((0, 3)), [1, 2]).shape == (0, 3)
    first = [int(R.stateless_shuffle(tj.range(4), [1, i])[0]) for i in range(2000)]
    assert st.chisquare(np.bincount(first, minlength=4)).pvalue > 1e-4


def test_binomial_numbers_of_a_generator():
    g, h = G.from_seed(2), G.from_seed(2)
    x = g.binomial((3, 4000), 20, [[0.1], [0.5], [0.9]])
    np.testing.assert_allclose(x.numpy().mean(1), [2, 10, 18], atol=0.2)
    f = tj.function(lambda: h.binomial((3, 4000), 20, [[0.1], [0.5], [0.9]]))
    np.testing.assert_array_equal(f(), x)
    np.testing.assert_array_equal(f(), g.binomial((3, 4000), 20, [[0.1], [0.5], [0.9]]))
