"""Footguns of control flow: each documented limitation of tracers works as in Python, or raises an error that helps."""

import numpy as np
import pytest
from python_twins import failure

import tracejit as tj
from tracejit.errors import LeakedTensorError, TracedValueError, TracejitError

X = np.array([1.0, -2.0, 3.0])
ONE, MINUS_ONE = tj.constant(1.0), tj.constant(-1.0)


def line(f, k):
    """How errors name the k-th line after a function's first."""
    return f"{__file__.rsplit('/', 1)[-1]}:{f.__code__.co_firstlineno + k}"


# --- names that are not always set ------------------------------------------------------------------------------------
def one_branch(x):
    if x > 0:
        y = x * 2.0
    return y + 1.0


def test_a_name_set_in_one_branch_fails_only_where_it_is_used_unset():
    f = tj.function(one_branch)
    assert float(f(ONE)) == 3.0
    text = failure(f, MINUS_ONE)
    assert "'y'" in text
    assert line(one_branch, 2) in text  # where it is set
    assert line(one_branch, 3) in text  # where it is used
    assert float(f(ONE * 2.0)) == 5.0


def last_of(v):
    for a in v:
        last = a * 2.0
    return last


def test_a_name_set_in_a_loop_that_does_not_run():
    f = tj.function(last_of)
    assert float(f(X)) == 6.0
    assert "'last'" in failure(f, X[:0])


def test_a_name_deleted_in_a_branch(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            y = x * 2.0
            if x > 0:
                z = y
                del y
                y = z + 1.0
            return y

        return [f(ONE), f(MINUS_ONE)]


def none_times_two(x):
    best = None
    if x > 0:
        best = x
    return best * 2.0


def test_none_in_one_branch_fails_only_where_it_is_used():
    f = tj.function(none_times_two)
    assert float(f(ONE)) == 2.0
    with pytest.raises((TracejitError, TypeError), match="None"):
        f(MINUS_ONE)


def test_none_as_a_result_of_one_branch(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            if x > 0:
                return x
            return None

        return [f(ONE) is None, f(MINUS_ONE) is None, f(ONE)]


# --- what must not be computed ----------------------------------------------------------------------------------------
def test_an_index_out_of_range_in_a_branch_not_taken(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, n):
            if n > 3:
                return x[4]
            return x[0]

        return [f(tj.constant(X), tj.constant(k)) for k in (0, 3)]


def test_an_index_out_of_range_in_the_branch_taken():
    @tj.function
    def f(x, n):
        if n > 3:
            return x[4]
        return x[0]

    assert float(f(tj.constant(X), tj.constant(0))) == 1.0
    with pytest.raises(IndexError):
        f(tj.constant(X), tj.constant(5))


def test_a_loop_that_would_not_end_if_computed(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            if x > 0:
                while x > 1:
                    x = x - 1.0
            else:
                y = 1.0 / x
                while y > x:
                    y = y * 2.0
                x = y
            return x

        return [f(tj.constant(k)) for k in (0.5, 3.5, -0.5)]


def test_gradients_do_not_come_from_the_branch_not_taken(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x):
            if x > 0:
                return tj.math.log(x) + tj.sqrt(x)
            return x * 3.0

        out = []
        for k in (0.0, -1.0, 4.0):
            x = tj.constant(k)
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            out.append(tape.gradient(y, x))
        return out


# --- lists, dicts, shapes ---------------------------------------------------------------------------------------------
def test_a_tensor_as_a_key_that_is_the_same_object(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, y):
            d = {x: 1.0, y: 2.0}
            return x * d[y] + y * d[x]

        return f(tj.constant(3.0), tj.constant(5.0))


def test_a_dict_looked_up_with_a_tensor_is_refused():
    table = {0: 1.0, 1: 5.0}
    f = tj.function(lambda n: table[n] * 2.0)
    with pytest.raises((TracejitError, KeyError)):
        f(tj.constant(1))


def test_a_list_indexed_with_a_tensor(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, n):
            parts = [x, x * 2.0, x * 3.0]
            return parts[n]

        try:
            return [f(tj.constant(X), tj.constant(k)) for k in (0, 2, 1)]
        except TracedValueError as e:
            assert "index" in str(e)
            return [X, X * 3.0, X * 2.0]


def doubling(v, n):
    while n > 0:
        v = tj.concat([v, v + 1.0], 0)
        n = n - 1
    return v


def test_a_shape_that_grows_in_a_loop():
    f = tj.function(doubling)
    try:
        got = [f(tj.constant(X), tj.constant(k)) for k in (0, 1, 3)]
    except TracejitError as e:
        text = str(e)
        assert "(3" in text or "[3" in text
        assert "6" in text
        assert "test_footguns_flow.py" in text
        return
    for k, y in zip((0, 1, 3), got):
        np.testing.assert_allclose(y, doubling(tj.constant(X), tj.constant(k)))


def test_shapes_that_differ_between_branches():
    def g(x):
        if x[0] > 0:
            y = x
        else:
            y = x[:2]
        return tj.reduce_sum(y)

    f = tj.function(g)
    try:
        got = [float(f(tj.constant(s * X))) for s in (1.0, -1.0)]
    except TracejitError as e:
        text = str(e)
        assert "test_footguns_flow.py" in text
        return
    assert got == [2.0, 1.0]


def test_the_length_of_tensors(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(v):
            out = v * 0.0
            if len(v) > 3:
                out = out + len(v)
            for i in range(len(v)):
                out = out + v[i] * i
            return out / len(v)

        return [f(np.arange(float(k))) for k in (1, 2, 3, 4, 7)]


def test_builtins_on_tensors(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(v, x):
            a = max(x, 1.0) + min(v[0], v[1], x) + abs(-x) + pow(x, 2)
            b = sum(v) + round(x) + divmod(x, 2.0)[1]
            return a, b, isinstance(x, tj.Tensor), x is None, [a * 2.0 for a in reversed(v)]

        return [f(tj.constant(X), tj.constant(k, tj.float64)) for k in (0.25, 2.75)]


# --- values asked for while tracing -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "use", [lambda t: t.numpy(), lambda t: t.item(), lambda t: t.tolist(), lambda t: np.asarray(t).sum()]
)
def test_values_of_traced_tensors_are_refused(use):
    def f(x):
        y = tj.reduce_sum(x)
        if y > 100:
            y = y - 1.0
        return x * use(y)

    text = failure(tj.function(f), tj.constant(X))
    assert "test_footguns_flow.py" in text
    assert "remedy" in text


@pytest.mark.parametrize("convert", [float, int, bool])
def test_python_conversions_are_tensor_operations_or_refused(convert):
    def f(x):
        return x * convert(tj.reduce_sum(x))

    try:
        got = tj.function(f)(tj.constant(X))
    except TracedValueError as e:
        assert "test_footguns_flow.py" in str(e)
        return
    np.testing.assert_allclose(got, f(tj.constant(X)))


@pytest.mark.filterwarnings("default::tracejit.errors.ConversionWarning")
def test_a_tensor_leaked_from_a_branch_is_refused():
    box = {}

    def f(x):
        def keep(t):
            box["t"] = t
            return t

        return tj.cond(x > 0, lambda: keep(x * 2.0), lambda: x)

    tj.function(f)(ONE)
    if isinstance(box["t"]._a, np.ndarray):
        assert float(box["t"]) == 2.0  # replayed
    else:
        with pytest.raises(LeakedTensorError):
            box["t"] + 1.0


def test_unconnected_gradients_are_none(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, y, n):
            with tj.GradientTape() as tape:
                tape.watch([x, y])
                z = x
                while n > 0:
                    z = z * x
                    n = n - 1
            gx, gy = tape.gradient(z, [x, y])
            return gx, gy is None

        return [f(tj.constant(2.0), ONE, tj.constant(k)) for k in (0, 1, 3)]


def test_integers_have_no_gradient(twins):
    @twins
    def scene(wrap):
        @wrap
        def f(x, n):
            while n > 0:
                x = x * 2.0
                n = n - 1
            return x

        x, n = tj.constant(3.0), tj.constant(2)
        with tj.GradientTape() as tape:
            tape.watch([x])
            y = f(x, n)
        return tape.gradient(y, [x, n])
