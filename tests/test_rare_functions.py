"""Decoders of sequences, samplers of classes, rarer layers and evenly spread numbers, beside what their cases show."""

import numpy as np
import pytest
from cases_rare import every_sequence, log_softmax

import tracejit as tj

BOTH = pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])


# --- decoders ---------------------------------------------------------------------------------------------------------
@BOTH
def test_greedy_decoder_of_connectionist_labels(wrap):
    classes = np.array([[1, 1, 3, 1, 2, 2], [0, 3, 3, 0, 0, 1]])  # the last class, 3, is the blank
    x = tj.constant(np.moveaxis(np.eye(4, dtype=np.float32)[classes] * 5, 0, 1))
    decode = wrap(lambda x, n: tj.nn.ctc_greedy_decoder(x, n))
    (labels,), score = decode(x, [6, 4])
    assert labels.dtype is tj.int64
    assert labels.indices.numpy().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert labels.values.numpy().tolist() == [1, 1, 2, 0, 0]
    assert labels.dense_shape.numpy().tolist() == [2, 3] and labels.shape == (2, 3)
    assert rows_of(labels) == [[1, 1, 2], [0, 0, -1]]
    assert score.numpy().tolist() == [[-30.0], [-20.0]]
    (labels,), _ = wrap(lambda x: tj.nn.ctc_greedy_decoder(x, [6, 4], merge_repeated=False))(x)
    assert rows_of(labels) == [[1, 1, 1, 2, 2], [0, 0, -1, -1, -1]]
    (labels,), _ = wrap(lambda x: tj.nn.ctc_greedy_decoder(x, [6, 0], blank_index=1))(x)
    assert rows_of(labels) == [[3, 2], [-1, -1]]


def rows_of(labels):
    return tj.sparse.to_dense(labels, default_value=-1).numpy().tolist()


@BOTH
def test_decoded_labels_are_compared_with_sparse_truth(wrap):
    def error_rate(x, n, indices, values):
        truth = tj.SparseTensor(indices, values, [2, 4])
        (labels,), _ = tj.nn.ctc_greedy_decoder(x, n)
        return tj.edit_distance(labels, truth), tj.sparse.to_dense(labels)

    classes = np.array([[1, 1, 3, 1, 2, 2], [0, 3, 3, 0, 0, 1]])
    x = tj.constant(np.moveaxis(np.eye(4, dtype=np.float32)[classes] * 5, 0, 1))
    at = tj.constant([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]], tj.int64)
    run = wrap(error_rate)
    for n, rates, dense in [([6, 4], [0.25, 0], [[1, 1, 2], [0, 0, 0]]), ([0, 0], [1, 1], [[], []])]:
        rate, rows = run(x, tj.constant(n), at, tj.constant([1, 2, 1, 2, 0, 0], tj.int64))
        np.testing.assert_allclose(rate, rates)
        assert rows.numpy().tolist() == dense


@BOTH
def test_sparse_tensors_of_tensors_and_back(wrap):
    x = np.array([[0, 1.5, 0], [2, 0, -1]])
    s = wrap(tj.sparse.from_dense)(x)
    assert s.indices.numpy().tolist() == [[0, 1], [1, 0], [1, 2]] and s.values.numpy().tolist() == [1.5, 2, -1]
    assert s.dense_shape.numpy().tolist() == [2, 3] and s.dtype is tj.float64
    np.testing.assert_array_equal(wrap(tj.sparse.to_dense)(s), x)
    np.testing.assert_array_equal(wrap(lambda s: tj.sparse.to_dense(s, 7.0))(s), np.where(x == 0, 7, x))
    values = tj.constant([1.0, 2.0])
    with tj.GradientTape() as tape:
        tape.watch(values)
        y = tj.reduce_sum(tj.sparse.to_dense(tj.SparseTensor([[0, 1], [2, 0]], values, [3, 2])) ** 2)
    assert tape.gradient(y, values).numpy().tolist() == [2, 4]
    with pytest.raises(tj.errors.ShapeError, match="one column for each"):
        tj.SparseTensor([[0, 1]], [1.0], [3])
    with pytest.raises(tj.errors.DTypeError, match="are integers"):
        tj.SparseTensor([[0.5, 1]], [1.0], [3, 2])


@BOTH
def test_beams_find_the_likeliest_labels(wrap):
    x = np.random.default_rng(0).normal(size=(5, 3, 4)) * 2
    steps = [5, 3, 0]
    found, scores = wrap(lambda x: tj.nn.ctc_beam_search_decoder(x, steps, 40, 3))(tj.constant(x))
    for i, n in enumerate(steps):
        want = every_sequence(log_softmax(x)[:n, i])[:3]
        for k, (labels, chance) in enumerate(want):
            row = rows_of(found[k])[i]
            assert row == [*labels, *[-1] * (len(row) - len(labels))]
            assert scores.numpy()[i, k] == pytest.approx(chance, rel=1e-4)  # beams that are left out
    assert np.isinf(scores.numpy()[2, 1:]).all()


def test_what_decoders_refuse():
    x = tj.zeros((2, 1, 3))
    with pytest.raises(tj.errors.ShapeError, match="3: times, batch, classes"):
        tj.nn.ctc_greedy_decoder(tj.zeros((2, 3)), [1])
    with pytest.raises(tj.errors.ShapeError, match="sequence_length"):
        tj.nn.ctc_greedy_decoder(x, [1, 2])
    with pytest.raises(tj.errors.ArgumentError, match="blank_index 3"):
        tj.nn.ctc_greedy_decoder(x, [1], blank_index=3)
    with pytest.raises(tj.errors.ArgumentError, match="top_paths"):
        tj.nn.ctc_beam_search_decoder(x, [1], 2, 3)


@BOTH
def test_unique_labels_and_edit_distances(wrap):
    rows, number = wrap(lambda x: tj.nn.ctc_unique_labels(x))(tj.constant([[3, 4, 4, 3], [5, 5, 5, 1]]))
    assert rows.numpy().tolist() == [[3, 4, 0, 0], [5, 1, 0, 0]]
    assert number.numpy().tolist() == [[0, 1, 1, 0], [0, 0, 0, 1]]
    assert (rows.dtype, number.dtype) == (tj.int64, tj.int32)
    h = tj.constant([[1, 2, 3, -1], [1, 1, 1, 1], [-1, 0, 0, 0], [-1] * 4, [1, -1, -1, -1]])
    t = tj.constant([[1, 3, -1], [2, 2, 2], [1, -1, -1], [-1] * 3, [-1] * 3])
    d = wrap(lambda h, t: tj.edit_distance(h, t))(h, t)
    np.testing.assert_allclose(d.numpy(), [0.5, 4 / 3, 1, 0, np.inf], rtol=1e-6)
    assert wrap(lambda: tj.edit_distance([1, 2, 3], [2, 3, 4, 5], False))().numpy() == 3.0


# --- samples of classes -----------------------------------------------------------------------------------------------
def _zipf(n):
    return np.log1p(1 / np.arange(1, n + 1)) / np.log(n + 1)


SAMPLERS = {
    "uniform": (tj.random.uniform_candidate_sampler, {}, np.full(12, 1 / 12)),
    "log uniform": (tj.random.log_uniform_candidate_sampler, {}, _zipf(12)),
    "unigrams": (
        tj.random.fixed_unigram_candidate_sampler,
        {"unigrams": list(range(1, 12)), "num_reserved_ids": 1, "distortion": 0.5},
        np.sqrt(np.arange(12)) / np.sqrt(np.arange(12)).sum(),
    ),
}


@BOTH
@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_with_repetition(name, wrap):
    sampler, more, chances = SAMPLERS[name]
    true = np.arange(12)[:, None]
    drawn, expected, own = wrap(lambda: sampler(true, 1, 20_000, False, 12, **more))()
    counts = np.bincount(drawn.numpy(), minlength=12)
    assert drawn.dtype is tj.int64
    assert np.all(np.abs(counts - 20_000 * chances) <= 5 * np.sqrt(20_000 * chances) + 1e-9)
    np.testing.assert_allclose(expected.numpy()[:, 0], 20_000 * chances, rtol=1e-5)
    np.testing.assert_array_equal(own.numpy(), expected.numpy()[drawn.numpy(), 0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_without_repetition(name):
    sampler, more, _ = SAMPLERS[name]
    true = np.arange(12)[:, None]
    draw = tj.function(lambda: sampler(true, 1, 5, True, 12, **more))
    inside, expected, rounds = np.zeros(12), np.zeros(12), 800
    for _ in range(rounds):
        drawn, e, _ = draw()
        assert len(set(drawn.numpy().tolist())) == 5
        inside[drawn.numpy()] += 1
        expected += e.numpy()[:, 0]
    np.testing.assert_allclose(expected / rounds, inside / rounds, atol=0.1)


def test_all_classes_hits_and_refusals(tmp_path):
    drawn, expected, own = tj.random.all_candidate_sampler([[0], [1]], 1, 3, True)
    assert (drawn.numpy().tolist(), expected.shape, own.numpy().tolist()) == ([0, 1, 2], (2, 1), [1, 1, 1])
    rows, columns, weights = tj.nn.compute_accidental_hits([[0, 1], [2, 5]], [5, 1, 0], 2)
    assert (rows.numpy().tolist(), columns.numpy().tolist()) == ([0, 0, 1], [1, 2, 0])
    assert (weights.numpy() < -1e38).all()
    file = tmp_path / "words"
    file.write_text("a,3\nb,0\nc,1\n")
    drawn, *_ = tj.random.fixed_unigram_candidate_sampler([[0]], 1, 100, False, 3, vocab_file=str(file))
    assert set(drawn.numpy().tolist()) == {0, 2}
    drawn, *_ = tj.random.fixed_unigram_candidate_sampler(
        [[0]], 1, 100, False, 3, unigrams=[1, 1, 1], num_shards=2, shard=1
    )
    assert set(drawn.numpy().tolist()) == {1}
    for refused in (
        lambda: tj.random.uniform_candidate_sampler([[0]], 1, 5, True, 4),
        lambda: tj.random.uniform_candidate_sampler([[0]], 2, 3, True, 4),
        lambda: tj.random.fixed_unigram_candidate_sampler([[0]], 1, 3, True, 4, unigrams=[1, 2]),
        lambda: tj.random.uniform_candidate_sampler([[4]], 1, 3, True, 4),
    ):
        with pytest.raises(tj.errors.TracejitError):
            refused()


@BOTH
@pytest.mark.parametrize("loss", [tj.nn.nce_loss, tj.nn.sampled_softmax_loss])
def test_losses_draw_their_own_samples(loss, wrap):
    w, b, x = tj.Variable(tj.ones((50, 4)) * 0.1), tj.Variable(tj.zeros(50)), tj.ones((6, 4))
    labels = tj.constant([[3], [3], [4], [49], [0], [1]])

    def step():
        with tj.GradientTape() as tape:
            y = loss([w], b, labels, x, 8, 50)
        return y, *tape.gradient(y, [w, b])

    y, gw, gb = wrap(step)()
    assert y.shape == (6,) and np.isfinite(y.numpy()).all()
    assert tj.convert_to_tensor(gw).shape == (50, 4) and tj.convert_to_tensor(gb).shape == (50,)


# --- numbers that are spread evenly -----------------------------------------------------------------------------------
@BOTH
def test_points_of_sobols_sequence(wrap):
    x = wrap(lambda: tj.math.sobol_sample(3, 5))()
    want = [[4, 4, 4], [6, 2, 2], [2, 6, 6], [3, 3, 5], [7, 7, 1]]  # eighths
    np.testing.assert_array_equal(x.numpy() * 8, want)
    more = tj.math.sobol_sample(64, 255, dtype=tj.float64).numpy()
    np.testing.assert_array_equal(tj.math.sobol_sample(64, 55, skip=200, dtype=tj.float64).numpy(), more[200:])
    for column in more.T:  # with the origin, one point in each of 256 intervals
        assert sorted(np.append(column, 0.0) * 256 // 1) == list(range(256))
    with pytest.raises(tj.errors.ArgumentError, match="dim is"):
        tj.math.sobol_sample(65, 2)


@BOTH
@pytest.mark.parametrize("last", [0, 1, 9, 1000])
def test_orders_of_indices(last, wrap):
    i = np.arange(last + 1)
    at = wrap(lambda i: tj.random_index_shuffle(i, [1, 2, 3], last))(tj.constant(i)).numpy()
    np.testing.assert_array_equal(np.sort(at), i)
    for k in i[:5]:
        assert int(tj.random_index_shuffle(int(k), [1, 2, 3], last)) == at[k]
    if last == 1000:
        other = tj.random_index_shuffle(i, [1, 2, 4], last).numpy()
        assert np.count_nonzero(at == other) < 20
    with pytest.raises(tj.errors.OutOfRangeError):
        tj.random_index_shuffle(last + 1, [1, 2, 3], last)


# --- cells, fits, names -----------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize("regular", [True, False])
def test_cells_of_fractional_pools(regular, wrap):
    x = tj.reshape(tj.range(2.0 * 11 * 10), (2, 11, 10, 1))
    pool = wrap(lambda x: tj.nn.fractional_avg_pool(x, (1, 1.44, 1.7, 1), regular))
    seen = set()
    for _ in range(12):
        y, rows, columns = pool(x)
        assert y.shape == (2, 7, 5, 1)
        for edges, n, small in ((rows, 11, 1), (columns, 10, 2)):
            edges = edges.numpy()
            assert (edges[0], edges[-1]) == (0, n) and set(np.diff(edges)) <= {small, small + 1}
        seen.add(tuple(rows.numpy().tolist()))
    assert len(seen) > 1
    same = [wrap(lambda x: tj.nn.fractional_max_pool(x, 1.5, regular, seed=3))(x)[1].numpy().tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_isotonic_fits_have_the_derivatives_of_means():
    x = tj.constant([3.0, 1.0, 2.0, 5.0, 0.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y, segments = tj.nn.isotonic_regression(x)
    np.testing.assert_allclose(y.numpy(), [3, 8 / 3, 8 / 3, 8 / 3, 0], rtol=1e-6)
    assert segments.numpy().tolist() == [0, 1, 1, 1, 2]
    want = np.zeros((5, 5))
    want[0, 0] = want[4, 4] = 1
    want[1:4, 1:4] = 1 / 3
    np.testing.assert_allclose(tape.jacobian(y, x).numpy(), want, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "decreasing", "want"),
    [
        ([3, 1, 2, 2, 5], False, [0, 0, 1, 2, 3]), ([1, 1, 1], True, [0, 1, 2]), ([0.1, 0.1, 0.1], False, [0, 1, 2]),
        ([2, 2, 1, 1, 3, 3], True, [0, 1, 2, 2, 2, 2]), ([2, 2, 1, 1, 3, 3], False, [0, 0, 0, 0, 1, 2]),
        ([5, 4, 4, 4, 2, 6, 6], True, [0, 1, 1, 1, 1, 1, 1]), ([7], True, [0]), ([], True, []),
    ],
)  # fmt: skip
def test_isotonic_segments_end_between_neighbours_that_fit(x, decreasing, want):
    """As TensorFlow's."""
    f = lambda x: tj.nn.isotonic_regression(x, decreasing)[1]  # noqa: E731
    for way in (f, tj.function(f)):
        assert way(tj.constant(x, tj.float32)).numpy().tolist() == want


@pytest.mark.parametrize("right", [False, True])
def test_places_in_rows_that_are_not_in_order_are_the_same_everywhere(right):
    rng = np.random.default_rng(0)
    f = lambda s, v: tj.searchsorted(s, v, "right" if right else "left")  # noqa: E731
    traced = tj.function(f)
    for dtype in ("int32", "float32", "float64"):
        s, v = rng.integers(-4, 5, (6, 9)).astype(dtype), rng.integers(-5, 6, (6, 20)).astype(dtype)
        if dtype != "int32":
            s[1, 3] = s[2, 8] = v[:3, 0] = np.nan
        s[3:] = np.sort(s[3:])
        got = f(tj.constant(s), tj.constant(v)).numpy()
        np.testing.assert_array_equal(got, traced(tj.constant(s), tj.constant(v)))
        for k in range(3, 6):
            np.testing.assert_array_equal(got[k], np.searchsorted(s[k], v[k], "right" if right else "left"))
        for _ in range(100):
            again = f(tj.constant(s[0]), tj.constant(v[0]))
        np.testing.assert_array_equal(again, got[0])


def test_arguments_that_are_refused():
    x, two = tj.ones((3, 3)), np.array([True, False])
    for call, name in (
        (lambda: tj.transpose(x, [1, 0], conjugate=two), "conjugate"),
        (lambda: tj.transpose(x, None, two), "conjugate"),
        (lambda: tj.linalg.matvec(x, x[0], adjoint_a=two), "adjoint_a"),
        (lambda: tj.matmul(x, x, transpose_b=two), "transpose_b"),
    ):  # fmt: skip
        with pytest.raises(tj.errors.ShapeError, match=f"{name} is True or False, not an array of shape \\(2,\\)"):
            call()
    for times in (-1, [-1], np.array([-1])):
        for _ in range(70):
            with pytest.raises(tj.errors.ArgumentError, match="repeats must not be negative"):
                tj.repeat(tj.zeros((0,)), times, axis=0)
    for f in (tj.histogram_fixed_width, tj.histogram_fixed_width_bins):
        for way in (f, tj.function(f)):
            with pytest.raises(tj.errors.ArgumentError, match="values must not hold NaN"):
                way(tj.constant([0.5, np.nan]), tj.constant([0.0, 5.0]), 5)


def test_names_at_the_top():
    a = tj.constant([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(np.sort(tj.eigvals(a).numpy().real), [1, 3], rtol=1e-6)
    assert tj.eig(a)[0].shape == (2,)
    r = tj.matrix_square_root(a)
    np.testing.assert_allclose((r @ r).numpy(), a.numpy(), rtol=1e-5)
    x = tj.complex(a, a)
    np.testing.assert_allclose(tj.ifftnd(tj.fftnd(x)).numpy(), x.numpy(), rtol=1e-5)
    np.testing.assert_allclose(tj.irfftnd(tj.rfftnd(a)).numpy(), a.numpy(), rtol=1e-5)
    np.testing.assert_allclose(tj.nn.l2_normalize(tj.constant([3 + 4j, 0])).numpy(), [0.6 + 0.8j, 0])
