"""Functions that give several tensors by name, as TensorFlow's do: eagerly, traced, in branches and loops."""

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
