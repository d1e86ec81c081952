"""One trace for all sizes, 0 and 1 among them: traces are counted, and every operation is compared with eager."""

import warnings

import numpy as np
import pytest
from helpers import TOLERANCE
from hypothesis import HealthCheck, Phase, given, settings
from op_table import CASES, Case
from random_programs import programs
from test_random_programs import agree, explain, tolerance

import tracejit as tj
from tracejit.ir.dim import Dim

ROWS = [tj.TensorSpec((None, 3), tj.float64)]


def traces(f):
    return f.experimental_get_tracing_count()


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def flat(x):
    if x is None:
        return []
    return [a for y in x for a in flat(y)] if isinstance(x, (tuple, list)) else [np.asarray(x)]


def outcome(f, args):
    """What a call gives, or the class of its error."""
    try:
        return flat(f(*args))
    except Exception as e:
        return type(e)


def same(got, want, factor=1.0):
    """Equal results, or errors of one class."""
    if isinstance(got, type) or isinstance(want, type):
        assert got is want
        return
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        tol = TOLERANCE.get(a.dtype.name, 0.0) * 20 * min(factor, 100)
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


# --- counts -----------------------------------------------------------------------------------------------------------
def scores(x):
    return tj.nn.softmax(tj.nn.relu(x @ tj.ones((3, 4), tj.float64)) + 1.0) - tj.reduce_mean(x[:, :1] * 2, 1, True)


@pytest.mark.parametrize("sizes", [(3, 1, 4, 0), (1, 0, 5), (0, 1, 33), (32, 16, 1, 0, 7)])
def test_a_signature_is_traced_once(sizes):
    f = tj.function(scores, input_signature=ROWS)
    for n in sizes:
        same(flat(f(normal(n, 3))), flat(scores(tj.constant(normal(n, 3)))))
    assert traces(f) == 1


@pytest.mark.parametrize("sizes", [(32, 16, 1, 0, 7), (1, 32, 16, 0), (0, 5, 1), (1, 0, 4), (3, 1, 4, 0)])
def test_the_second_size_is_the_last_that_is_traced(sizes):
    f = tj.function(scores)
    counts = []
    for n in sizes:
        same(flat(f(normal(n, 3))), flat(scores(tj.constant(normal(n, 3)))))
        counts.append(traces(f))
    assert counts == [1, *[2] * (len(sizes) - 1)]


def test_concrete_functions_of_open_sizes_are_for_all_of_them():
    f = tj.function(scores)
    made = f.get_concrete_function(tj.TensorSpec((None, 3), tj.float64))
    for n in (1, 0, 6):
        same(flat(made(normal(n, 3))), flat(scores(tj.constant(normal(n, 3)))))
    assert traces(f) == 1


def test_gradients_under_a_tape_share_the_trace():
    f = tj.function(lambda x: tj.reduce_sum(scores(x) ** 2), input_signature=ROWS)
    for n in (4, 1, 0, 9):
        x = tj.constant(normal(n, 3))
        grads = []
        for g in (f, f.python_function):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = g(x)
            grads.append(tape.gradient(y, x))
        same(flat(grads[0]), flat(grads[1]))
    assert traces(f) == 1


def test_why_a_size_has_a_trace_of_its_own():
    f = tj.function(lambda x: tj.squeeze(x) * 2, input_signature=ROWS)
    assert f(normal(1, 3)).shape == (3,)
    assert f(normal(5, 3)).shape == (5, 3)
    assert f(normal(0, 3)).shape == (0, 3)
    assert traces(f) == 2
    assert "sizes that the function treats in a way of their own: (1, 3)" in f.explain(normal(1, 3))
    assert "input_signature" in f.explain(normal(0, 3))


def test_what_a_function_does_happens_once_where_it_is_traced_twice():
    log = []
    made = {}

    @tj.function(input_signature=ROWS)
    def f(x):
        log.append("called")
        if "v" not in made:
            made["v"] = tj.Variable(tj.zeros((3,), tj.float64))
        made["v"].assign_add(tj.ones((3,), tj.float64))
        return tj.squeeze(x) + made["v"]

    for k, n in enumerate((1, 4, 1, 0, 6), 1):
        want = np.squeeze(normal(n, 3)) + k if n == 1 else normal(n, 3) + k
        np.testing.assert_allclose(f(normal(n, 3)), want)
        assert len(log) == k


def test_repeated_rows_and_plain_ones_are_told_apart():
    """A size that broadcasting repeats where it is 1 is the other operand's size elsewhere."""
    f = tj.function(lambda x, y: (x * y, x + y[:1]))
    for n, m in ((4, 4), (4, 1), (1, 4), (7, 7), (7, 1), (1, 7), (1, 1), (0, 1), (0, 0), (9, 1), (1, 9), (5, 6)):
        args = [tj.constant(normal(n, 3)), tj.constant(normal(m, 3))]
        same(outcome(f, args), outcome(f.python_function, args))
    assert traces(f) <= 7


def test_quotients_of_sizes_may_be_negative():
    d = Dim.symbol("d", 8)
    assert (d // 2).compare(0, ">=") is True
    assert ((d - 3) // 2).compare(0, ">=") is None
    assert ((d - 3) // 2 + 1).compare(0, ">") is None
    assert ((d - 3) % 2).compare(0, ">=") is True


def test_reshapes_of_sizes_leave_no_rest():
    f = tj.function(lambda x: tj.reshape(x, (-1, 2)), input_signature=[tj.TensorSpec((None, 3), tj.float64)])
    found = tj.function(lambda x: tj.reshape(x[x > 0], (-1, 3)))
    for n in (4, 1, 6, 3, 0, 5):
        x = tj.constant(normal(n, 3))
        same(outcome(f, [x]), outcome(f.python_function, [x]))
        if np.count_nonzero(np.asarray(x) > 0) % 3:
            with pytest.raises(tj.errors.ShapeError):
                found(x)
        else:
            same(flat(found(x)), flat(found.python_function(x)))


LARGEST = 20_000  # elements of an argument


# --- operations -------------------------------------------------------------------------------------------------------
def opened(case: Case):
    """Shapes whose elements of one size are to vary, and that size."""
    shapes = next(s for s in case.shapes if any(s))
    sizes = sorted({d for s in shapes for d in s if d > 1}) or [1]
    return [(shapes, size) for size in sizes]


def arrays_at(case, dtype, shapes, size, n):
    return case.arrays(dtype, [tuple(n if d == size else d for d in s) for s in shapes], seed=n)


def compare(case, f, python, dtype, shapes, size):
    for n in (5, 1, 0, 33):
        if any(np.prod([n if d == size else d for d in s]) > LARGEST for s in shapes):
            continue
        try:
            args = [tj.constant(a) for a in arrays_at(case, dtype, shapes, size, n)]
        except ValueError:  # there are no arguments of this kind
            continue
        want, got = outcome(python, args), outcome(f, args)
        if got is not tj.errors.TracedValueError:  # that Python needs the number is an error for all sizes
            same(got, want, case.factor)


WITH_AXES = [
    pytest.param(c, id=c.name) for c in CASES if any(s for v in c.shapes for s in v) and "keepdims=True" not in c.name
]
DIFFERENTIABLE = [p for p in WITH_AXES if p.values[0].differentiable and "f" in p.values[0].kinds]


@pytest.mark.parametrize("case", WITH_AXES)
def test_operations(case):
    dtype = next((d for d in case.dtypes() if d.name in ("float64", "int32")), case.dtypes()[-1])
    for shapes, size in opened(case):
        specs = [
            tj.TensorSpec([None if d == size else d for d in s], tj.as_dtype(a.dtype))
            for s, a in zip(shapes, case.arrays(dtype, shapes), strict=True)
        ]
        compare(case, tj.function(case.f, input_signature=specs), case.f, dtype, shapes, size)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_gradients_of_operations(case):
    def gradient(f):
        def run(*xs):
            with tj.GradientTape() as tape:
                tape.watch([x for i, x in enumerate(xs) if i not in case.fixed])
                y = tj.sin(flat_sum(f(*xs)))
            return tape.gradient(y, [x for i, x in enumerate(xs) if i not in case.fixed], unconnected_gradients="zero")

        return run

    shapes, size = opened(case)[0]
    compare(case, gradient(tj.function(case.f)), gradient(case.f), tj.float64, shapes, size)


def flat_sum(y):
    parts = y if isinstance(y, (tuple, list)) else [y]
    return sum(tj.reduce_sum(tj.cast(p, tj.float64)) for p in parts if p.dtype.is_floating)


# --- what depends on whether a size is 0 or 1 -------------------------------------------------------------------------
def caught(f, otherwise):
    try:
        return f()
    except tj.errors.TracejitError:
        return otherwise


def in_a_loop(x):
    total = tj.zeros((3,), tj.float64)
    for i, row in enumerate(x):
        total = tj.sin(total + row * i)
    return total


def collected(x):
    out = tj.TensorArray(tj.float64, size=x.shape[0])
    for i in tj.range(x.shape[0]):
        out = out.write(i, x[i] * 2)
    return out.stack()


def ended(x):
    total = tj.constant(0.0, tj.float64)
    for row in x:
        if row[0] > 1.0:
            break
        total = total + row[1]
    return total


def at_once(x):
    if tj.reduce_sum(x) > 0:
        return x * 2
    return x - 1


def of_a_loop(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = in_a_loop(x)
    return tape.gradient(y, x)


def jacobian(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.square(x) * 2
    return tape.batch_jacobian(y, x)


def filled(x):
    t = tj.fill((x.shape[0],), 2.0)
    return tj.reduce_sum(t), tj.reduce_prod(t), tj.reduce_all(t > 3), tj.reduce_any(t > 1), tj.reduce_mean(t)


# name: function of rows, traces at most of a signature
OF_ROWS = {
    "squeeze": (lambda x: (tj.squeeze(x), tj.squeeze(x[:, :1])), 3),
    "squeeze, axis": (lambda x: tj.squeeze(x, 0), 1),
    "one element": (lambda x: tj.reshape(x[:, 0], ()) * 2, 1),
    "a condition": (lambda x: x if x.shape[0] == 1 else -x, 2),
    "a shape": (lambda x: x * 2 if x.shape == (1, 3) else x, 2),
    "a size among others": (lambda x: x * 2 if 1 in x.shape else x, 2),
    "a length": (lambda x: x * 2 if len(x) == 1 else x, 2),
    "all sizes": (lambda x: x * 2 if all(x.shape) else tj.zeros((7,)), 2),
    "a size or one": (lambda x: x * max(x.shape[0], 1), 2),
    "nothing there": (lambda x: x if x.shape[0] else tj.zeros((2,)), 2),
    "caught, broadcasting": (lambda x: caught(lambda: x + tj.ones((5, 3), tj.float64), x), 3),
    "caught, broadcast_to": (lambda x: caught(lambda: tj.broadcast_to(x, (5, 3)), x), 3),
    "caught, squeeze": (lambda x: caught(lambda: tj.squeeze(x, 0), x), 2),
    "caught, einsum": (lambda x: caught(lambda: tj.einsum("ij,ij->i", x, tj.ones((5, 3), tj.float64)), x), 3),
    "caught, no largest": (lambda x: caught(lambda: tj.reduce_max(x, 0), x[:, 0]), 2),
    "a row for all": (lambda x: x + tj.ones((1, 3), tj.float64), 1),
    "five rows": (lambda x: x + tj.ones((5, 3), tj.float64), 2),
    "with itself": (lambda x: (x[:, None] + x[None], x[:, :1] * x, x + tj.reduce_sum(x, 0, True)), 1),
    "the first row": (lambda x: x + x[:1], 2),
    "reductions": (lambda x: (tj.reduce_mean(x, 0), tj.reduce_sum(x), tj.reduce_prod(x, 0), tj.math.reduce_std(x)), 1),
    "of columns": (lambda x: (tj.reduce_max(x, 1), tj.argmax(x, 1), tj.nn.softmax(x), tj.reduce_logsumexp(x, 1)), 1),
    "of rows": (lambda x: (tj.reduce_logsumexp(x, 0), tj.nn.softmax(x, 0)), 2),
    "largest": (lambda x: (tj.reduce_max(x, 0), tj.argmin(x, 0)), 1),
    "of one value": (filled, 1),
    "columns": (lambda x: (x[:, 1:], x[:, 0], x[:, None], x[::-1], x[:, ::2]), 1),
    "all but one": (lambda x: (x[1:], x[:-1]), 2),
    "pieces": (lambda x: (x[1:5], x[-3:], x[5:2:-1], x[::2]), 6),
    "reshapes": (lambda x: (tj.reshape(x, (-1,)), tj.reshape(x, (3, -1)), tj.reshape(x, (x.shape[0], 3, 1))), 1),
    "a rest": (lambda x: tj.reshape(x, (x.shape[0], -1)), 1),
    "pairs": (lambda x: tj.reshape(x, (-1, 2)), 2),
    "joined": (lambda x: (tj.concat([x, x], 0), tj.stack([x, x], 1), tj.tile(x, [2, 1]), tj.repeat(x, 2, 0)), 1),
    "cut": (lambda x: tj.split(x, [1, -1], axis=0), 2),
    "padded": (lambda x: tj.pad(x, [[1, 2], [0, 1]]), 1),
    "rolled": (lambda x: (tj.roll(x, 1, 0), tj.roll(x, [-5], [0])), 5),
    "products": (lambda x: (x @ tj.transpose(x), tj.transpose(x) @ x, tj.einsum("ij,kj->ik", x, x)), 1),
    "large products": (lambda x: tj.tile(x, [1, 50]) @ tj.ones((150, 200), tj.float64), 1),
    "integers": (lambda x: tj.transpose(tj.cast(x * 9, tj.int32)) @ tj.cast(x * 9, tj.int32), 1),
    "complex": (lambda x: tj.math.conj(tj.complex(x, x)) @ tj.complex(tj.transpose(x), tj.transpose(x)), 1),
    "orders": (lambda x: (tj.sort(x, axis=0), tj.argsort(x, axis=0), tj.math.top_k(x, 2)), 1),
    "running sums": (lambda x: (tj.cumsum(x, 0), tj.cumsum(x, 0, exclusive=True, reverse=True)), 1),
    "segments": (lambda x: tj.math.unsorted_segment_sum(x, tj.range(x.shape[0]) % 2, 2), 1),
    "scattered": (lambda x: tj.scatter_nd(tj.range(x.shape[0])[:, None], x, (x.shape[0] + 1, 3)), 1),
    "gathered": (lambda x: tj.gather(x, tj.argsort(x, axis=1), batch_dims=1), 1),
    "masked": (lambda x: (tj.boolean_mask(x, x[:, 0] > 0), x[x > 0], tj.where(x > 0)), 1),
    "drawn": (lambda x: tj.random.stateless_normal((x.shape[0], 3), (1, 2), dtype=tj.float64) * x, 1),
    "spaced": (lambda x: (tj.linspace(0.0, 1.0, x.shape[0] + 1), tj.linspace(0.0, 1.0, x.shape[0])), 2),
    "counted": (lambda x: (tj.range(1, x.shape[0]), tj.range(x.shape[0], 0, -1)), 2),
    "one less": (lambda x: tj.zeros((x.shape[0] - 1, 2)), 1),
    "one less, repeated": (lambda x: tj.broadcast_to(tj.ones((1, 3)), (x.shape[0] - 1, 3)), 1),
    "quotients": (lambda x: (x * (x.shape[0] // 2), x / x.shape[0], tj.zeros(((x.shape[0] - 3) // 2 + 2,))), 2),
    "by itself": (lambda x: x * ((x.shape[0] * 4) // x.shape[0]), 1),
    "a loss": (
        lambda x: tj.reduce_mean(
            tj.nn.sparse_softmax_cross_entropy_with_logits(tj.zeros((x.shape[0],), tj.int32), x)
        ), 1
    ),
    "rows one by one": (lambda x: tj.map_fn(tj.cumsum, x), 2),
    "vectorized": (lambda x: tj.vectorized_map(lambda r: tj.sort(r) * 2, x), 1),
    "carried along": (lambda x: tj.scan(lambda a, r: a + r, x, initializer=tj.zeros((3,), tj.float64)), 1),
    "folded": (lambda x: tj.foldl(lambda a, r: a + r, x), 2),
    "a loop": (in_a_loop, 2),
    "a loop, collected": (collected, 2),
    "a loop that ends": (ended, 2),
    "a loop, gradient": (of_a_loop, 2),
    "a branch": (at_once, 1),
    "a Jacobian": (jacobian, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("sizes", [(3, 1, 4, 0, 33, 2, 5), (1, 0, 5, 2)])
def test_functions_of_rows(name, sizes):
    python, most = OF_ROWS[name]
    f, g = tj.function(python, input_signature=ROWS), tj.function(python)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in sizes:
            x = tj.constant(normal(n, 3))
            with np.errstate(all="ignore"):
                want = outcome(python, [x])
            same(outcome(f, [x]), want)
            same(outcome(g, [x]), want)
    assert traces(f) <= most
    assert traces(g) <= most + 1


# --- random programs --------------------------------------------------------------------------------------------------
@settings(
    max_examples=25, deadline=None, database=None, derandomize=True, phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(programs())
def test_random_programs(program):
    """From a trace whose first sizes were 1 or 0 to ordinary ones, and back."""
    for batches in ((1, 0, 4, 33), (5, 1, 0)):
        python, variables = program.make(program.arrays(program.variables, 2, 99))
        initial = [np.array(v) for v in variables]
        f = tj.function(python)
        for seed, b in enumerate(batches):
            arrays = program.arrays(program.params, b, seed)
            results = []
            for g in (python, f):
                for v, a in zip(variables, initial):
                    v.assign(a)
                try:
                    with np.errstate(all="ignore"):
                        out = g(*[tj.constant(a) for a in arrays])
                    results.append([np.asarray(t) for t in (*out, *variables)])
                except tj.errors.TracejitError as e:
                    results.append(type(e))
            want, got = results
            if isinstance(want, type) or isinstance(got, type):
                assert got is want, f"{got} for {want} at batch size {b}\n\n{program.source}"
                continue
            fits = all(agree(x, y, tolerance(program, b)) for x, y in zip(got, want, strict=True))
            assert fits, explain("the compiled function", program, b, got, want)


def _as_number_in_branch(a, x, n):
    if n > 1:
        a = a * len(x)
    return a


def _as_number_in_rows(a, x, n):
    for _ in range(n):
        a = a * len(x) * 0.5
    return a


def _as_number_in_loop(a, x, n):
    i = 0
    while i < n:
        a = a * tj.cast(tj.shape(x)[0], tj.float32) * 0.5
        i += 1
    return a


@pytest.mark.parametrize("f", [_as_number_in_branch, _as_number_in_rows, _as_number_in_loop])
def test_gradients_know_sizes_that_only_regions_use(f):
    h = tj.function(f, input_signature=[tj.TensorSpec([]), tj.TensorSpec([None]), tj.TensorSpec([], tj.int32)])
    for length in (3, 5):
        a, x = tj.constant(2.0), tj.ones([length])
        got = []
        for g in (f, h):
            with tj.GradientTape() as tape:
                tape.watch([a, x])
                y = g(a, x, tj.constant(2))
            got.append((float(y), float(tape.gradient(y, a))))
        assert got[0] == pytest.approx(got[1])


def test_gradients_where_a_size_is_compared_with_a_narrow_integer():
    @tj.function(input_signature=[tj.TensorSpec([]), tj.TensorSpec([None]), tj.TensorSpec([], tj.uint8)])
    def f(a, x, k):
        return a * x * tj.cast(len(x) <= k, tj.float32)

    for k, wanted in ((2, 0.0), (4, 3.0)):
        a, x = tj.constant(2.0), tj.ones([3])
        with tj.GradientTape() as tape:
            tape.watch(a)
            y = f(a, x, tj.constant(k, tj.uint8))
        assert float(tape.gradient(y, a)) == wanted
