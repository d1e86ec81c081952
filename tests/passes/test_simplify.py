"""What is left of a graph after simplification, as text."""

import textwrap

import numpy as np
import pytest

from tracejit.autodiff.graph import vjp_graph
from tracejit.autodiff.tape import GradientTape
from tracejit.backends.reference import run
from tracejit.config import config
from tracejit.errors import GraphError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Const, Graph
from tracejit.ir.op import OPS, Op
from tracejit.ir.text import parse, verify
from tracejit.ir.types import TensorType, bfloat16, float32, float64, int32
from tracejit.ops import contract, index, reduce, shape
from tracejit.ops import elementwise as E
from tracejit.passes import pipeline
from tracejit.passes.pipeline import agree, optimize
from tracejit.passes.simplify import FOLD_LIMIT, Report, dce, rebuild, rules_at, uses
from tracejit.tracing import trace_graph

n = Dim.symbol("n", 8)
f32 = lambda *s: TensorType(float32, s)  # noqa: E731


@pytest.fixture(autouse=True)
def checked():
    """Every pass is verified and compared with the interpreter."""
    before, config.check = config.check, True
    yield
    config.check = before


def plain(graph):
    return "\n".join(line.split("   # ")[0].rstrip() for line in str(graph).splitlines())


def assert_text(graph, text):
    assert plain(graph) == textwrap.dedent(text).strip("\n")


def gradient(f):
    def df(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return df


def names(graph):
    return [k.op.name for k in graph.nodes]


# --- snapshots ------------------------------------------------------------------------------------------------------
def test_common_subexpressions_are_computed_once():
    def compute(a, b, c):
        d = a * b + c
        e = a * b * c
        return d, e

    report = Report()
    made = optimize(trace_graph(compute, [f32(n)] * 3, "compute"), report=report)
    assert_text(
        made,
        """
        graph compute(%0: f32[n], %1: f32[n], %2: f32[n]) [n=8]:
          %3 = mul(%0, %1) : f32[n]
          %4 = add(%3, %2) : f32[n]
          %5 = mul(%3, %2) : f32[n]
          return %4, %5
        """,
    )


def test_operands_of_commutative_operations_may_be_swapped():
    made = optimize(trace_graph(lambda a, b: (a * b + 1.0, 1.0 + b * a), [f32(3), f32(3)], "f"))
    assert names(made) == ["mul", "constant", "add"] and made.results[0] is made.results[1]


def test_gradient_of_a_dense_tanh_layer():
    def layer(x, w, b):
        return E.tanh(contract.matmul(x, w) + b)

    made = optimize(vjp_graph(trace_graph(layer, [f32(n, 3), f32(3, 4), f32(4)], "layer"), [0, 1, 2]))
    assert_text(
        made,
        """
        graph vjp_layer(%0: f32[n,3], %1: f32[3,4], %2: f32[4], %3: f32[n,4]) [n=8]:
          %4 = matmul(%0, %1) : f32[n,4]
          %5 = add(%4, %2) : f32[n,4]
          %6 = tanh(%5) : f32[n,4]
          %7 = square(%6) : f32[n,4]
          %8 = constant(1.0) : f32[]
          %9 = sub(%8, %7) : f32[n,4]
          %10 = mul(%3, %9) : f32[n,4]
          %11 = reduce_sum(%10, axis=(0,)) : f32[4]
          %12 = matmul(%10, %1, tb=True) : f32[n,3]
          %13 = matmul(%0, %10, ta=True) : f32[3,4]
          return %6, %12, %13, %11
        """,
    )


def test_first_and_second_derivative_of_a_square():
    f = lambda x: E.square(E.sinh(x))  # noqa: E731
    assert_text(
        optimize(trace_graph(gradient(f), [f32(n)], "d1")),
        """
        graph d1(%0: f32[n]) [n=8]:
          %1 = sinh(%0) : f32[n]
          %2 = constant(2.0) : f32[]
          %3 = mul(%1, %2) : f32[n]
          %4 = cosh(%0) : f32[n]
          %5 = multiply_no_nan(%4, %3) : f32[n]
          return %5
        """,
    )
    assert_text(
        optimize(trace_graph(gradient(gradient(f)), [f32(n)], "d2")),
        """
        graph d2(%0: f32[n]) [n=8]:
          %1 = sinh(%0) : f32[n]
          %2 = constant(2.0) : f32[]
          %3 = mul(%1, %2) : f32[n]
          %4 = cosh(%0) : f32[n]
          %5 = constant(0.0) : f32[]
          %6 = equal(%3, %5) : bool[n]
          %7 = isfinite(%4) : bool[n]
          %8 = logical_not(%7) : bool[n]
          %9 = logical_and(%6, %8) : bool[n]
          %10 = where(%9, %5, %3) : f32[n]
          %11 = where(%9, %5, %4) : f32[n]
          %12 = multiply_no_nan(%1, %10) : f32[n]
          %13 = mul(%11, %2) : f32[n]
          %14 = multiply_no_nan(%4, %13) : f32[n]
          %15 = add(%12, %14) : f32[n]
          return %15
        """,
    )


def test_a_mean_squared_error_step():
    def step(w, b, x, y):
        with GradientTape() as tape:
            tape.watch(w, b)
            error = contract.matmul(x, w) + b - y
            loss = reduce.reduce_sum(E.square(error), axis=(0, 1)) / 64.0
        dw, db = tape.gradient(loss, [w, b])
        return loss, w - dw * 0.125, b - db * 0.125

    made = optimize(trace_graph(step, [f32(2, 1), f32(1), f32(64, 2), f32(64, 1)], "step"))
    assert_text(
        made,
        """
        graph step(%0: f32[2,1], %1: f32[1], %2: f32[64,2], %3: f32[64,1]):
          %4 = matmul(%2, %0) : f32[64,1]
          %5 = add(%4, %1) : f32[64,1]
          %6 = sub(%5, %3) : f32[64,1]
          %7 = square(%6) : f32[64,1]
          %8 = reduce_sum(%7, axis=(0, 1)) : f32[]
          %9 = constant(0.015625) : f32[]
          %10 = mul(%8, %9) : f32[]
          %11 = constant(0.03125) : f32[]
          %12 = mul(%6, %11) : f32[64,1]
          %13 = reduce_sum(%12, axis=(0,)) : f32[1]
          %14 = matmul(%2, %12, ta=True) : f32[2,1]
          %15 = constant(0.125) : f32[]
          %16 = mul(%14, %15) : f32[2,1]
          %17 = sub(%0, %16) : f32[2,1]
          %18 = mul(%13, %15) : f32[1]
          %19 = sub(%1, %18) : f32[1]
          return %10, %17, %19
        """,
    )


def test_broadcasting_of_cotangents_disappears():
    made = optimize(trace_graph(gradient(lambda x: reduce.reduce_sum(E.square(x), axis=(0, 1))), [f32(n, 4)], "f"))
    assert_text(
        made,
        """
        graph f(%0: f32[n,4]) [n=8]:
          %1 = constant(2.0) : f32[]
          %2 = mul(%0, %1) : f32[n,4]
          return %2
        """,
    )


def test_bias_of_a_sum_becomes_its_count():
    def f(b):
        return reduce.reduce_sum(shape.broadcast_to(b, shape=(n, 4)), axis=(0, 1))

    made = optimize(trace_graph(gradient(f), [f32(4)], "f"))
    assert names(made) == ["dim", "cast", "broadcast_to"]
    assert run(made, [np.zeros(4)], {"n": 5})[0].tolist() == [5] * 4


# --- folding --------------------------------------------------------------------------------------------------------
def fold(f, *types, numerics="finite"):
    return rebuild(trace_graph(f, types, "f"), rules=rules_at(numerics))


def test_constants_fold_and_repeated_ones_stay_one_element():
    huge = lambda x: x * (E.exp(shape.broadcast_to(E.cast(0.5, dtype=x.dtype), shape=(10**6, 10**6))) - 1.0)  # noqa: E731
    made = fold(huge, f32(10**6, 10**6))
    assert names(made) == ["constant", "mul"] and made.nodes[0].attrs[0][1].shape == ()
    small = fold(lambda x: x + reduce.reduce_sum(E.square(E.cast([1, 2, 3], dtype=float32)), axis=(0,)), f32(2))
    assert names(small) == ["constant", "add"] and small.nodes[0].attrs[0][1].splat == 14


def test_folding_is_bounded():
    def f(x):
        line = OPS["constant"](value=Const(np.arange(float(FOLD_LIMIT + 1), dtype=np.float32)))
        return x + E.square(line)

    assert names(fold(f, f32(FOLD_LIMIT + 1))) == ["constant", "square", "add"]
    assert "broadcast_to" in names(
        fold(lambda x: x + shape.broadcast_to(E.cast([1, 2], dtype=float32), shape=(3, 2)), f32(2, 1, 1))
    )


def test_folding_gives_what_eager_gives():
    c = lambda v, d: OPS["constant"](value=Const(None, v, (), d))  # noqa: E731
    for d in (float32, float64, bfloat16):
        made = fold(lambda x: x - (c(0.1, d) + c(0.2, d)), TensorType(d, (1,)))
        assert made.nodes[0].attrs[0][1].splat == d.np.type(0.1) + d.np.type(0.2)


def test_what_cannot_be_computed_now_is_left_for_the_run():
    made = fold(lambda x: index.gather(E.cast([1.0, 2.0], dtype=float32), E.cast([7], dtype=int32), axis=0) + x, f32(1))
    assert "gather" in names(made)


def test_positions_and_effects_do_not_fold():
    effect = Op("tested_tick", "opaque", lambda x: x, lambda x: x, pure=False)
    try:
        made = fold(
            lambda x: (effect(E.cast(1.0, dtype=float32)), x, shape.iota(shape=(3,), axis=0, dtype=int32))[1:], f32(3)
        )
        assert names(made) == ["constant", "tested_tick", "iota"]
    finally:
        del OPS["tested_tick"]


def test_the_weakness_of_python_scalars_is_dropped():
    made = fold(lambda x: (x + 1, E.cast(2.0, dtype=float32) * 3), f32(3))
    assert all(not v.type.weak for v in (*made.params, *[v for k in made.nodes for v in k.outs]))


# --- levels ---------------------------------------------------------------------------------------------------------
LEVELS = {
    "exact": ["constant", "add", "sub", "log", "exp", "div"],
    "finite": ["constant", "sub", "log", "exp", "div"],
    "fast": ["constant", "mul"],
}


@pytest.mark.parametrize("numerics", LEVELS)
def test_levels(numerics):
    f = lambda x: (x + 0.0, (x - x), E.exp(E.log(x)), x / 3.0)  # noqa: E731
    made = fold(f, f32(3), numerics=numerics)
    assert sorted(set(names(made))) == sorted(set(LEVELS[numerics]))


def test_the_default_keeps_finite_results_bit_for_bit():
    def f(x, y):
        z = (x - 0.0) * 1.0 + (-y) + x / 8.0
        return E.square(z) * 2.0 - (-z) / 3.0, reduce.reduce_sum(z * z, axis=(0,))

    raw = trace_graph(f, [f32(6), f32(6)], "f")
    args = [np.random.default_rng(i).normal(size=6).astype(np.float32) for i in range(2)]
    for a, b in zip(run(raw, args), run(optimize(raw), args), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stop_gradient_stays_while_there_is_something_to_differentiate():
    raw = trace_graph(lambda x: E.stop_gradient(x) * x, [f32(3)], "f")
    assert names(optimize(raw)) == ["square"]
    assert names(optimize(raw, differentiated=False)) == ["stop_gradient", "mul"]


# --- chains ---------------------------------------------------------------------------------------------------------
def test_sums_of_sums_are_one_sum_unless_both_are_read():
    f = lambda x: reduce.reduce_sum(reduce.reduce_sum(x, axis=(1,)), axis=(0, 1))  # noqa: E731
    assert plain(optimize(trace_graph(f, [f32(2, n, 3)], "f"))).splitlines()[1:-1] == [
        "  %1 = reduce_sum(%0, axis=(0, 1, 2)) : f32[]"
    ]

    def both(x):
        rows = reduce.reduce_sum(x, axis=(1,))
        return rows, reduce.reduce_sum(rows, axis=(0,))

    assert names(optimize(trace_graph(both, [f32(2, 3)], "f"))) == ["reduce_sum", "reduce_sum"]
    assert len(optimize(trace_graph(f, [f32(2, n, 3)], "f"), "exact").nodes) == 2


def test_a_transposed_product_is_the_product_of_transposes():
    f = lambda x, y: shape.transpose(contract.matmul(x, y, tb=True), perm=(0, 2, 1))  # noqa: E731
    made = optimize(trace_graph(f, [f32(5, 2, 3), f32(5, 4, 3)], "f"))
    assert plain(made).splitlines()[1] == "  %2 = matmul(%1, %0, tb=True) : f32[5,4,2]"


def test_scales_leave_sums_in_fast_mode():
    f = lambda x: reduce.reduce_sum(-(x * 3.0), axis=(0,))  # noqa: E731
    assert names(optimize(trace_graph(f, [f32(5, 2)], "f"), "fast")) == ["constant", "reduce_sum", "mul"]
    assert names(optimize(trace_graph(f, [f32(5, 2)], "f"))) == ["constant", "mul", "reduce_sum"]


# --- rebuilding -----------------------------------------------------------------------------------------------------
def test_lines_of_the_user_are_kept():
    def f(x):
        y = x * 1.0 + 2.0
        return y / 4.0

    made = optimize(trace_graph(f, [f32(3)], "f"))
    first = f.__code__.co_firstlineno
    assert {k.op.name: k.loc.line - first for k in made.nodes if k.op.name != "constant"} == {"add": 1, "mul": 2}


def test_a_visitor_may_replace_nodes():
    raw = trace_graph(lambda x: E.exp(x) + E.exp(x * 2.0), [f32(3)], "f")
    made = rebuild(raw, lambda b, k, xs: b.emit(E.expm1, xs) if k.op is E.exp else None)
    assert names(made) == ["expm1", "constant", "mul", "expm1", "add"]


def test_without_rules_only_equal_nodes_are_merged():
    raw = parse(
        "graph f(%0: f32[2]):\n  %1 = neg(%0) : f32[2]\n  %2 = neg(%0) : f32[2]\n"
        "  %3 = neg(%1) : f32[2]\n  return %2, %3"
    )
    report = Report()
    assert names(rebuild(raw, report=report)) == ["neg", "neg"]
    assert report.lines() == ["merged     neg  ×1"]


def test_dead_code_and_uses():
    raw = trace_graph(lambda x: (E.exp(x), E.neg(x)), [f32(3)], "f")
    half = Graph("f", raw.params, raw.nodes, raw.results[1:])
    assert names(dce(half)) == ["neg"] and dce(half).nodes[0] is raw.nodes[1]
    assert uses(raw) == {raw.params[0]: 2, raw.results[0]: 1, raw.results[1]: 1}


def test_regions_are_simplified_too():
    def infer(*types, body):
        return body.results[0].type

    op = Op("tested_region", "control", infer, lambda *xs, body: run(body, xs)[0], arity=None)
    try:
        total = reduce.reduce_sum
        body = trace_graph(lambda x: total(total(x * 1.0, axis=(0,)), axis=(0,)), [f32(3, 2)])
        raw = trace_graph(lambda x: op(x, body=body), [f32(3, 2)], "f")
        made = optimize(raw)
        assert names(made.nodes[0].attr("body")) == ["reduce_sum"]
        assert run(made, [np.ones((3, 2))])[0] == 6
    finally:
        del OPS["tested_region"]


def test_the_report_tells_what_was_done_and_where():
    report = Report()
    optimize(
        trace_graph(lambda x: (x * 1.0 + E.exp(E.cast(0.0, dtype=float32)), 2.0 * x * 1.0), [f32(3)], "f"),
        report=report,
    )
    text = str(report)
    assert "rewritten  x · 1  ×2   (test_simplify.py:" in text
    assert "folded     exp  ×1" in text and "kept       4 of 9 operations  ×1" in text


def test_check_mode_catches_a_pass_that_is_wrong(monkeypatch):
    raw = trace_graph(lambda x: x + 1.0, [f32(3)], "f")
    other = trace_graph(lambda x: x + 2.0, [f32(3)], "f")
    monkeypatch.setattr(pipeline, "rebuild", lambda graph, **_: other)
    with pytest.raises(GraphError, match="pass simplify changed result 0 of graph f"):
        optimize(raw)
    monkeypatch.setattr(pipeline, "rebuild", lambda graph, **_: Graph("f", raw.params, [], raw.results))
    with pytest.raises(GraphError, match="after pass simplify: graph f: result 0 is not made"):
        optimize(raw)
    config.check = False
    assert optimize(raw).nodes == ()


def test_agreement_of_results():
    x = np.array([1.0, np.nan, np.inf, 0.0], np.float32)
    levels = rules_at("exact").upto, rules_at("finite").upto
    assert agree(x, x.copy(), levels[0]) and not agree(x, x + 1e-6, levels[0]) and agree(x, x + 1e-6, levels[1])
    assert not agree(x, x + 1.0, levels[1]) and not agree(x, x.astype(np.float64), levels[1])


def test_results_of_many_programs_stay():
    def mixed(x, y):
        z = shape.concat(x, y, axis=0)
        top = shape.slice_(z, start=(0, 0), size=(2, 3), step=(1, 1))
        hot = E.cast(E.equal(shape.iota(shape=(2, 3), axis=1, dtype=int32), 1), dtype=float32)
        return E.where(top > 0.0, top * hot, E.multiply_no_nan(top, hot)), reduce.reduce_max(z, axis=(0,)), z**2 / z

    raw = trace_graph(mixed, [f32(2, 3), f32(n, 3)], "f")
    made = optimize(raw)
    verify(made, raw)
    args = [np.random.default_rng(i).normal(size=(k, 3)).astype(np.float32) for i, k in enumerate((2, 5))]
    for a, b in zip(run(raw, args), run(made, args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
