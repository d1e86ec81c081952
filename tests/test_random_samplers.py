"""Gamma, Poisson, binomial, bounded normal numbers: distributions, derivatives, edges, one result in every way."""

import functools

import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

import tracejit as tj
from tracejit.backends import numba_source
from tracejit.errors import ArgumentError, ShapeError
from tracejit.ops import draws
from tracejit.ops.sampling import slope

R = tj.random
SEED = [11, 5]
N = 40_000
WAYS = pytest.mark.parametrize("way", [lambda f: f, tj.function], ids=["eager", "traced"])


def continuous(y, distribution):
    assert st.kstest(np.asarray(y, float), distribution.cdf).pvalue > 1e-4


def discrete(y, distribution):
    """A chi-square test over at most 40 classes."""
    low, high = distribution.ppf([0.001, 0.999])
    ends = np.unique(np.round(np.linspace(low, high, min(40, int(high - low) + 1))))
    counts = np.diff([0, *np.searchsorted(np.sort(y), ends, side="right"), len(y)])
    chances = np.diff([0, *distribution.cdf(ends), 1])
    kept = chances * len(y) > 5
    assert counts[~kept].sum() <= len(y) * chances[~kept].sum() + 20
    if kept.sum() > 1:
        counts, chances = counts[kept], chances[kept]
        assert st.chisquare(counts, chances / chances.sum() * counts.sum()).pvalue > 1e-4


# --- distributions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.2, 0.7, 1.0, 3.5, 200.0, 1e6])
def test_gamma(alpha):
    for d in (tj.float32, tj.float64):
        y = R.stateless_gamma((N,), SEED, alpha, dtype=d)
        assert y.dtype is d
        continuous(y.numpy(), st.gamma(alpha))
    continuous(R.stateless_gamma((N,), SEED, alpha, 2.5, tj.float64).numpy(), st.gamma(alpha, scale=1 / 2.5))


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (1.0, 1.0), (2.5, 0.5), (40.0, 7.0)])
def test_beta(a, b):
    for d in (tj.float32, tj.float64):
        y = R.stateless_beta((N,), SEED, a, b, d)
        assert y.dtype is d
        continuous(y.numpy(), st.beta(a, b))
    with pytest.raises(ShapeError):
        R.stateless_beta((50,), SEED, [[a]], b)
    for d in (tj.float32, tj.float64):  # log and exp may differ in float64's last bit
        f = tj.function(lambda d=d: R.stateless_beta((3, 50), SEED, [[a]], b, d))
        np.testing.assert_allclose(f(), R.stateless_beta((3, 50), SEED, [[a]], b, d), rtol=1e-14 if d.size == 8 else 0)
    assert R.beta((2, 3), [a, b], b).shape == (2, 3, 2)
    assert np.isnan(R.beta((2,), -1.0, b).numpy()).all()
    x = tj.constant([a, b], tj.float64)
    with tj.GradientTape() as tape:
        tape.watch(x)
        mean = tj.reduce_mean(R.stateless_beta((4000,), SEED, x[0], x[1], tj.float64))
    want = [b / (a + b) ** 2, -a / (a + b) ** 2]  # of the distribution's mean
    np.testing.assert_allclose(tape.gradient(mean, x), want, atol=0.05)


@pytest.mark.parametrize("lam", [0.1, 3.0, 9.99, 10.0, 45.0, 1000.0, 1e6])
def test_poisson(lam):
    y = R.stateless_poisson((N,), SEED, lam, tj.int64)
    assert y.dtype is tj.int64
    discrete(y.numpy(), st.poisson(lam))
    assert y.numpy().mean() == pytest.approx(lam, abs=5 * np.sqrt(lam / N))
    assert y.numpy().var() == pytest.approx(lam, rel=0.05)


@pytest.mark.parametrize(
    ("n", "p"), [(1, 0.5), (7, 0.3), (30, 0.9), (100, 0.5), (5000, 0.001), (400, 0.2), (10**6, 0.7), (10**12, 0.5)]
)
def test_binomial(n, p):
    y = R.stateless_binomial((N,), SEED, float(n), p, tj.int64).numpy()
    discrete(y, st.binom(n, p))
    assert y.min() >= 0
    assert y.max() <= n


INF, NAN = np.inf, np.nan
BOUNDS = [(-2, 2), (-1, 0.5), (0, INF), (0.5, 0.6), (1, INF), (6, INF), (8, 9), (-INF, -7), (-0.1, 3), (30, 31)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_bounded_normal_numbers(low, high):
    y = R.stateless_parameterized_truncated_normal(
        (N,), SEED, *[tj.constant(float(x), tj.float64) for x in (3.0, 2.0, 3 + 2 * low, 3 + 2 * high)]
    ).numpy()
    continuous((y - 3) / 2, st.truncnorm(low, high))
    assert y.min() >= 3 + 2 * low
    assert y.max() <= 3 + 2 * high


@pytest.mark.parametrize("row", [[INF, 1.0], [-INF, -INF], [NAN, 1.0], [1.0, NAN], [1.0, INF, INF]])
def test_categorical_gives_classes_even_of_logits_that_are_not_finite(row):
    draw = tj.function(lambda x: R.stateless_categorical(x, 50, SEED))
    for x in (draw([row]), R.stateless_categorical([row], 50, SEED)):
        assert 0 <= x.numpy().min() <= x.numpy().max() < len(row)


def test_categorical_classes():
    p = np.array([[0.1, 0.0, 0.2, 0.7], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        logits = tj.constant(np.log(p) + [[7.0], [-900.0]])
    for y in (R.stateless_categorical(logits, N, SEED), R.categorical(logits, N, seed=3)):
        assert y.shape == (2, N)
        assert y.dtype is tj.int64
        for row, chances in zip(y.numpy(), p, strict=True):
            counts = np.bincount(row, minlength=4)
            assert counts[chances == 0].sum() == 0
            kept = chances > 0
            assert st.chisquare(counts[kept], chances[kept] * N).pvalue > 1e-4
    assert R.stateless_categorical(logits, 5, SEED, tj.int32).dtype is tj.int32
    assert R.stateless_categorical(tj.zeros((0, 3)), 5, SEED).shape == (0, 5)
    assert R.stateless_categorical(tj.zeros((2, 1)), 3, SEED).numpy().tolist() == [[0] * 3] * 2
    with pytest.raises(ArgumentError, match=r"\(batch, classes\), not f32\[3\]"):
        R.categorical(tj.zeros((3,)), 2)
    with pytest.raises(ArgumentError, match="one class or more"):
        R.categorical(tj.zeros((3, 0)), 2)


@pytest.mark.parametrize("traced", [False, True])
def test_categorical_finds_the_same_classes_either_way(traced, monkeypatch):
    """Samples are compared with every class where there are few of them, and searched for where not."""
    logits = np.random.default_rng(1).normal(size=(3, 40)) * 3

    def draw():
        f = tj.function(lambda x: R.stateless_categorical(x, 300, SEED))
        return (f if traced else f.python_function)(tj.constant(logits)).numpy()

    searched = draw()
    monkeypatch.setattr(draws, "_FEW", 1000)
    np.testing.assert_array_equal(draw(), searched)


def test_neighbours_and_draws_are_independent():
    for f in (lambda s: R.stateless_gamma((N,), s, 2.0), lambda s: R.stateless_poisson((N,), s, 30.0, tj.float32)):
        x, y = f([1, 2]).numpy().astype(float), f([1, 3]).numpy().astype(float)
        assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.03
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
        assert abs(np.corrcoef(x, f([2, 2]).numpy())[0, 1]) < 0.03


# --- the same in every way --------------------------------------------------------------------------------------------
DRAWS = {
    "gamma": lambda s: R.stateless_gamma((2, 3001), s, 2.5),
    "gamma below 1": lambda s: R.stateless_gamma((3001,), s, 0.4),
    "gamma of many": lambda s: R.stateless_gamma((4, 9), s, tj.linspace(0.1, 40.0, 9), [[1.0], [2], [3], [4]]),
    "gamma, float64": lambda s: R.stateless_gamma((777,), s, 2.5, dtype=tj.float64),
    "gamma, bfloat16": lambda s: R.stateless_gamma((77,), s, 2.5, dtype=tj.bfloat16),
    "poisson": lambda s: R.stateless_poisson((5, 999), s, 4.0),
    "poisson, large": lambda s: R.stateless_poisson((999,), s, 400.0, tj.float64),
    "poisson of both": lambda s: R.stateless_poisson((400, 3), s, tj.constant([0.0, 5.0, 50.0])),
    "binomial": lambda s: R.stateless_binomial((700, 3), s, tj.constant([5.0, 100.0, 1e6]), 0.4),
    "bounded": lambda s: R.stateless_parameterized_truncated_normal((99, 3), s, 0.0, 1.0, [-2.0, 3, 1], 9.0),
    "categorical": lambda s: R.stateless_categorical(tj.reshape(tj.range(6.0), (2, 3)), 999, s),
    "shuffle": lambda s: R.stateless_shuffle(tj.range(50), s),
    "normal": lambda s: R.stateless_normal((3, 5), s),
    "truncated": lambda s: R.stateless_truncated_normal((33,), s),
    "integers": lambda s: R.stateless_uniform((33,), s, None, None, tj.int32),
    "split": lambda s: R.split(s, 5),
    "fold_in": lambda s: R.fold_in(s, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_traced_and_eager_bits_are_equal(name):
    f = DRAWS[name]
    want = f(tj.constant(SEED)).numpy()
    traced = tj.function(f)
    for threads in (1, 2):
        with tj.threads(threads):
            np.testing.assert_array_equal(traced(tj.constant(SEED)).numpy(), want)
    assert "while by rows" in traced.explain(tj.constant(SEED)) or name in (
        "categorical", "shuffle", "normal", "truncated", "integers", "split", "fold_in", "gamma of many"
    )  # fmt: skip
    assert not np.array_equal(traced(tj.constant([11, 6])).numpy(), want)
    assert name == "categorical" or traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", ["gamma below 1", "poisson of both", "binomial", "bounded", "categorical", "split"])
def test_numba_source_has_the_same_bits(name):
    def small(s):
        return DRAWS[name](s)[:9]

    f = tj.function(small)
    concrete = f.get_concrete_function(tj.constant(SEED))
    found, _ = numba_source.prepare(concrete, compiled=False)([np.array(SEED, np.int32)])
    np.testing.assert_allclose(found[0].astype(float), small(tj.constant(SEED)).numpy().astype(float), rtol=1e-6)


@WAYS
def test_rows_with_seeds_of_their_own(way):
    seeds = R.split(SEED, 4)

    def rows(s):
        return tj.vectorized_map(
            lambda one: (R.stateless_gamma((5,), one, 2.0), R.stateless_poisson((3,), one, 20.0)), s,
            fallback_to_while_loop=False,
        )  # fmt: skip

    a, b = way(rows)(seeds)
    for i in range(4):
        np.testing.assert_array_equal(a[i].numpy(), R.stateless_gamma((5,), seeds[i], 2.0).numpy())
        np.testing.assert_array_equal(b[i].numpy(), R.stateless_poisson((3,), seeds[i], 20.0).numpy())


def test_each_call_of_a_traced_function_draws_anew():
    def f():
        return R.gamma((4,), 3.0), R.poisson((4,), 100.0), R.gamma((4,), 3.0)

    traced = tj.function(f)
    R.set_seed(3)
    first = [[y.numpy() for y in f()] for _ in range(3)]
    R.set_seed(3)
    for ys in first:
        for y, z in zip(traced(), ys, strict=True):
            np.testing.assert_array_equal(y.numpy(), z)
    assert len({y.tobytes() for ys in first for y in (ys[0], ys[2])}) == 6


def test_one_trace_draws_any_number_of_elements():
    f = tj.function(
        lambda x: R.stateless_gamma(tj.shape(x), SEED, x) + R.stateless_poisson(tj.shape(x), SEED, x, tj.float32),
        input_signature=[tj.TensorSpec((None,))],
    )
    for n in (7, 0, 1, 30):
        x = tj.linspace(0.5, 20.0, n) if n else tj.zeros((0,))
        want = R.stateless_gamma((n,), SEED, x) + R.stateless_poisson((n,), SEED, x, tj.float32)
        np.testing.assert_array_equal(f(x).numpy(), want.numpy())
    assert f.experimental_get_tracing_count() == 1


# --- derivatives ------------------------------------------------------------------------------------------------------
def test_the_slope_of_quantiles():
    a = np.array([0.02, 0.1, 0.5, 1, 2, 5, 10, 50, 1e3, 1e5])
    for q in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9):
        y = sp.gammaincinv(a, q)
        h = 1e-5 * a
        want = (sp.gammaincinv(a + h, q) - sp.gammaincinv(a - h, q)) / (2 * h)
        usable = y > 1e-250
        got = slope(tj.constant(a), tj.constant(y)).numpy()
        np.testing.assert_allclose(got[usable], want[usable], rtol=1e-5)
    assert slope(tj.constant([2.0]), tj.constant([0.0])).numpy().tolist() == [0.0]


@WAYS
@pytest.mark.parametrize("alpha", [0.4, 3.0, 40.0])
def test_gradients_of_gamma_numbers(alpha, way):
    """E x = α / β and E log x = ψ(α) − log β, so the gradients of the means are 1 / β, −α / β², ψ′(α) and −1 / β."""

    def f(a, b):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch([a, b])
            y = R.stateless_gamma((N,), SEED, a, b, tj.float64)
            mean, log = tj.reduce_mean(y), tj.reduce_mean(tj.math.log(y))
        return [*tape.gradient(mean, [a, b]), *tape.gradient(log, [a, b])]

    got = way(f)(tj.constant(alpha, tj.float64), tj.constant(2.0, tj.float64))
    want = [0.5, -alpha / 4, sp.polygamma(1, alpha), -0.5]
    np.testing.assert_allclose([float(g) for g in got], want, rtol=0.05)


def test_gradients_follow_the_quantile_and_differentiate_again():
    a = np.array([0.7, 2.0, 9.0])

    def f(x):
        return R.stateless_gamma((3,), SEED, x, dtype=tj.float64)

    y = f(tj.constant(a)).numpy()
    q = sp.gammainc(a, y)
    h = 1e-4
    up, down = sp.gammaincinv(a + h, q), sp.gammaincinv(a - h, q)
    x = tj.constant(a)
    with tj.GradientTape() as outer:
        outer.watch(x)
        with tj.GradientTape() as inner:
            inner.watch(x)
            total = tj.reduce_sum(f(x))
        g = inner.gradient(total, x)
        again = tj.reduce_sum(g)
    np.testing.assert_allclose(g, (up - down) / (2 * h), rtol=1e-5)
    np.testing.assert_allclose(outer.gradient(again, x), (up - 2 * y + down) / h**2, rtol=1e-2, atol=1e-4)
    tangent = tj.jvp(f, (x,), (tj.ones_like(x),))[1]
    np.testing.assert_allclose(tangent, g, rtol=1e-12)


def test_numbers_of_events_have_no_gradient():
    lam = tj.constant(5.0)
    with tj.GradientTape() as tape:
        tape.watch(lam)
        y = tj.reduce_sum(R.poisson((3,), lam))
    assert tape.gradient(y, lam) is None


# --- edges ------------------------------------------------------------------------------------------------------------
@WAYS
def test_parameters_at_the_edges(way):
    nan, inf = np.nan, np.inf
    f64 = functools.partial(tj.constant, dtype=tj.float64)
    given = f64([nan, -1.0, 0.0, inf, 1e-8, 1e300])
    y = way(lambda a: R.stateless_gamma((6,), SEED, a, dtype=tj.float64))(given).numpy()
    assert np.isnan(y[:2]).all()
    assert y[2] == np.finfo(np.float64).tiny
    assert y[3] == inf
    assert y[4] < 1e-6
    assert float(y[5]) == pytest.approx(1e300)
    y = way(lambda a: R.stateless_poisson((6,), SEED, a, tj.float64))(f64([nan, -1.0, 0.0, inf, -0.0, 1e-300]))
    np.testing.assert_array_equal(y, [nan, nan, 0, inf, 0, 0])
    y = way(lambda a: R.stateless_poisson((2,), SEED, a))(f64([nan, -1.0]))
    assert y.dtype is tj.int32
    assert y.numpy().tolist() == [0, 0]
    y = way(lambda n, p: R.stateless_binomial((8,), SEED, n, p, tj.float64))(
        f64([nan, 5, 5, 5, -1, 5, 5, 0]), f64([0.5, nan, -0.1, 1.1, 0.5, 0, 1, 0.5])
    )
    np.testing.assert_array_equal(y, [nan] * 5 + [0, 5, 0])
    y = way(lambda a, b, s: R.stateless_parameterized_truncated_normal((5,), SEED, 0.0, s, a, b))(
        f64([1, 1, nan, 0, 0]), f64([1, 0, 1, 1, 1]), f64([1, 1, 1, -1, 0])
    )
    assert np.isnan(y.numpy()).all()


@WAYS
def test_shapes(way):
    assert way(lambda: R.gamma((2,), [1.0, 2.0, 3.0]))().shape == (2, 3)
    assert way(lambda: R.gamma((), 2.0))().shape == ()
    assert way(lambda: R.gamma((2,), tj.ones((3, 1)), tj.ones((4,))))().shape == (2, 3, 4)
    assert way(lambda: R.gamma((0, 2), 1.0))().shape == (0, 2)
    assert way(lambda: R.gamma((2,), tj.zeros((0, 3))))().shape == (2, 0, 3)
    assert way(lambda: R.poisson([2, 2], [1.0, 20.0]))().shape == (2, 2, 2)
    assert way(lambda: R.poisson((), 1.0))().shape == ()
    assert way(lambda: R.poisson((0,), 100.0, tj.int32))().shape == (0,)
    assert way(lambda: R.stateless_binomial((), SEED, 5, 0.5))().shape == ()
    assert way(lambda: R.stateless_binomial((3, 2), SEED, [5, 6], [[0.1], [0.2], [0.3]]))().shape == (3, 2)
    assert way(lambda: R.stateless_parameterized_truncated_normal((0, 3), SEED, [0.0, 1, 2]))().shape == (0, 3)
    assert way(lambda: R.get_global_generator().binomial((4,), 10, 0.5))().dtype is tj.int32


def test_errors():
    with pytest.raises(ArgumentError, match="gamma has no dtype int32"):
        R.gamma((2,), 1.0, dtype=tj.int32)
    with pytest.raises(ArgumentError, match="poisson has no dtype complex64"):
        R.poisson((2,), 1.0, dtype=tj.complex64)
    with pytest.raises(ShapeError, match=r"\(3,\) and \(2,\) do not broadcast"):
        R.stateless_gamma((2,), SEED, [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="do not broadcast"):
        R.stateless_poisson((1,), SEED, [1.0, 2.0])
    with pytest.raises(ShapeError):
        R.stateless_binomial((), SEED, [1.0], 0.5)
    with pytest.raises(ArgumentError, match="seed of two integers"):
        R.stateless_gamma((2,), 3, 1.0)
    with pytest.raises(ShapeError, match="negative"):
        R.gamma((-1,), 1.0)


def test_a_seed_whose_size_a_signature_leaves_open():
    draw = tj.function(lambda s: R.stateless_uniform((3,), s), input_signature=[tj.TensorSpec([None], tj.int32)])
    assert draw(tj.constant([1, 2])).numpy().tolist() == R.stateless_uniform((3,), [1, 2]).numpy().tolist()
    with pytest.raises(ArgumentError, match="seed of two integers"):
        draw(tj.constant([1, 2, 3]))
