"""Functions that give several tensors by name, as TensorFlow's do: eagerly, traced, in branches and loops."""

import collections
import pickle

import numpy as np
import pytest

import tracejit as tj

X = tj.constant([3.0, 1.0, 2.0, 3.0, 5.0])
M = tj.constant([[4.0, 1.0], [2.0, 3.0]])
I = tj.reshape(tj.range(16.0), (1, 4, 4, 1))
CASES = {
    "tj.math.top_k": (lambda x: tj.math.top_k(x, 2), X, "TopKV2", ["values", "indices"]),
    "tj.math.approx_max_k": (lambda x: tj.math.approx_max_k(x, 2), X, "TopKV2", ["values", "indices"]),
    "tj.unique": (lambda x: tj.unique(x), X, "Unique", ["y", "idx"]),
    "tj.unique_with_counts": (lambda x: tj.unique_with_counts(x), X, "UniqueWithCounts", ["y", "idx", "count"]),
    "tj.linalg.qr": (lambda x: tj.linalg.qr(x), M, "Qr", ["q", "r"]),
    "tj.linalg.lu": (lambda x: tj.linalg.lu(x), M, "Lu", ["lu", "p"]),
    "tj.linalg.slogdet": (lambda x: tj.linalg.slogdet(x), M, "LogMatrixDeterminant", ["sign", "log_abs_determinant"]),
    "tj.nn.max_pool_with_argmax": (
        lambda x: tj.nn.max_pool_with_argmax(x, 2, 2, "VALID"), I, "MaxPoolWithArgmax", ["output", "argmax"]
    ),
    "tj.nn.fractional_max_pool": (
        lambda x: tj.nn.fractional_max_pool(x, [1.0, 1.5, 1.5, 1.0], seed=3), I, "FractionalPool",
        ["output", "row_pooling_sequence", "col_pooling_sequence"],
    ),
    "tj.random.all_candidate_sampler": (
        lambda x: tj.random.all_candidate_sampler(tj.cast(x[:, None], tj.int64), 1, 6, True), X, "Sampled",
        ["sampled_candidates", "true_expected_count", "sampled_expected_count"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_are_asked_for_by_name(name):
    f, x, kind, fields = CASES[name]
    traced = tj.function(f)
    for _ in range(2):
        made = f(x)
        for y in (made, traced(x), pickle.loads(pickle.dumps(made))):
            assert isinstance(y, tuple) and type(y).__name__ == kind and list(y._fields) == fields
            for k, field in enumerate(fields):
                assert getattr(y, field) is y[k]
                np.testing.assert_array_equal(np.asarray(y[k]), np.asarray(made[k]))


@tj.function
def best(x):
    top = tj.math.top_k(x, 2)
    for v in x:
        if v > 2:
            top = tj.math.top_k(x + top.values[0], 2)
    if x[0] > 0:
        found = tj.math.top_k(top.values, 1)
    else:
        found = tj.math.top_k(-top.values, 1)
    return found, {"all": top}


def test_they_go_through_branches_and_loops():
    found, every = best(X)
    assert type(found) is type(every["all"]) is type(tj.math.top_k(X, 1))
    assert found.values.numpy().tolist() == [20.0] and found.indices.numpy().tolist() == [0]
    assert every["all"].indices.numpy().tolist() == [4, 0]
    values, indices = every["all"]
    assert values is every["all"].values and indices is every["all"].indices


def test_a_named_tuple_without_fields_and_rows_named_by_word():
    none = collections.namedtuple("none", "")
    assert tj.function(lambda x: (none(), x))(tj.constant(1.0))[0] == none()
    rows = tj.function(lambda x: [i * v for i, v in enumerate(iterable=[x, x + 1], start=1)])(tj.constant(1.0))
    assert [float(r) for r in rows] == [1.0, 4.0]


@pytest.mark.parametrize("name", ["shape", "numpy", "no_such_thing"])
def test_asking_what_a_tensor_has_makes_no_trace_in_each_call(name):
    f = tj.function(lambda x: x * 2 if hasattr(x, name) else x + getattr(x, name, 1.0))
    for v in (1.0, 2.0, 3.0):
        assert float(f(tj.constant(v))) == (v + 1.0 if name == "no_such_thing" else v * 2)
    assert f.experimental_get_tracing_count() == 1
