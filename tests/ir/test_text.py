"""Graphs print one line per operation, read back, and are verified."""

import textwrap

import numpy as np
import pytest

import tracejit as tj
from tracejit.autodiff.graph import vjp_graph
from tracejit.backends.reference import run
from tracejit.errors import GraphError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Const, Graph, Node, Value, freeze, next_scope
from tracejit.ir.op import OPS, Op
from tracejit.ir.text import parse, show, verify
from tracejit.ir.types import ALL, TensorType, bfloat16, complex64, float32, float64, int32
from tracejit.ops import contract, index, reduce, shape
from tracejit.ops import elementwise as E
from tracejit.tracing import constant, dim, trace_graph

n = Dim.symbol("n", 5)
f32 = lambda *s: TensorType(float32, s)  # noqa: E731


def plain(graph):
    """The text without the user's lines."""
    return "\n".join(line.split("   # ")[0].rstrip() for line in str(graph).splitlines())


def dense(x, w, b):
    return E.tanh(contract.matmul(x, w) + b) * 0.1, x


def test_a_graph_prints_one_line_per_operation():
    g = trace_graph(dense, [f32(n, 3), f32(3, 4), f32(4)], "dense")
    assert plain(g) == textwrap.dedent("""\
        graph dense(%0: f32[n,3], %1: f32[3,4], %2: f32[4]) [n=5]:
          %3 = matmul(%0, %1) : f32[n,4]
          %4 = add(%3, %2) : f32[n,4]
          %5 = tanh(%4) : f32[n,4]
          %6 = constant(0.1) : f32[]
          %7 = mul(%5, %6) : f32[n,4]
          return %7, %0""")
    line = dense.__code__.co_firstlineno + 1
    assert all(row.endswith(f"   # test_text.py:{line}") for row in str(g).splitlines()[1:-1])


def branch(x):
    return E.where(x > 0.0, x, E.exp(x))


def moves(x):
    y = shape.slice_(shape.transpose(x, perm=(1, 0)), start=(2, 0), size=(1, 2), step=(-1, 1))
    z = shape.place(y, shape=(4, 2), start=(1, 0), step=(2, 1), fill=-1.5)
    return shape.concat(z, z, axis=0), reduce.argmax(x, axis=1), shape.reshape(x, shape=(-1,))


def sizes(x):
    half = (n + 1) // 2
    line = shape.iota(shape=(3 * half * n, 2), axis=0, dtype=int32)
    tail = shape.slice_(x, start=(n - 1, 0), size=(1, 2), step=(1, 1))
    return line, tail, OPS["dim"](size=(2 * n + 3) % 7 - 2 * n)


def constants(x):
    values = [E.cast(v, dtype=float32) for v in (np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4028235e38, 0.1)]
    more = [
        E.cast(v, dtype=d)
        for v, d in ((0.1, bfloat16), (1e-300, float64), (1.5 - 2j, complex64), (7, ALL[5]), (True, ALL[0]))
    ]
    table = index.gather(x, [[2, 0], [1, 1]], axis=0)
    return (*values, *more, table, x * [[0.1, 0.2]])


GRAPHS = {
    "dense": (dense, [f32(n, 3), f32(3, 4), f32(4)]),
    "branch": (branch, [f32(3)]),
    "moves": (moves, [f32(2, 3)]),
    "sizes": (sizes, [f32(n, 2)]),
    "constants": (constants, [f32(3, 2)]),
    "nothing": (lambda x: x, [TensorType(d, (d.bits, n)) for d in ALL][:1]),
    "empty": (lambda x: x * 1.0, [f32(0, 2)]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_printed_reads_back(name):
    f, types = GRAPHS[name]
    g = trace_graph(f, types, name)
    back = parse(show(g))
    assert show(back) == show(g)
    assert [n.op for n in back.nodes] == [n.op for n in g.nodes]
    assert [n.attrs for n in back.nodes] == [n.attrs for n in g.nodes] or name == "constants"
    assert [v.type for v in (*back.params, *back.results)] == [v.type for v in (*g.params, *g.results)]
    args = [np.ones([3 if isinstance(d, Dim) else d for d in t.shape]) for t in types]
    for x, y in zip(run(g, args), run(back, args), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("d", ALL, ids=str)
def test_parameters_of_every_dtype(d):
    g = trace_graph(lambda x: x, [TensorType(d, (2, n), True)], "same")
    assert parse(show(g)).params[0].type == TensorType(d, (2, n), True)


def test_gradient_graphs_read_back():
    g = vjp_graph(trace_graph(dense, [f32(n, 3), f32(3, 4), f32(4)], "dense"), [1, 2])
    assert show(parse(show(g))) == show(g)


def test_large_constants_show_a_check_sum():
    a = np.arange(100, dtype=np.float32)
    g = trace_graph(lambda x: x + OPS["constant"](value=Const(a)), [f32(100)], "g")
    h = trace_graph(lambda x: x + OPS["constant"](value=Const(a + 1)), [f32(100)], "g")
    assert "constant(…" in show(g) and plain(g) != plain(h)
    with pytest.raises(GraphError, match="large constant is not written out"):
        parse(show(g))


@pytest.fixture
def region_op():
    def infer(*types, body):
        return tuple(r.type for r in body.results) if len(body.results) > 1 else body.results[0].type

    def numpy(*xs, body):
        out = run(body, xs)
        return out if len(out) > 1 else out[0]

    yield Op("tested_call", "control", infer, numpy, arity=None)
    del OPS["tested_call"]


def test_regions_are_indented_and_read_back(region_op):
    inner = trace_graph(lambda x, y: (x + y, x * n), [f32(n), f32(n)], "inner")
    scope = next_scope()
    p = Value(None, f32(n), scope)
    call = Node(region_op, (p, p), freeze({"body": inner}), [r.type for r in inner.results], scope, None)
    outer = Graph("outer", [p], [call], call.outs)
    text = plain(outer)
    assert text.splitlines()[:3] == [
        "graph outer(%0: f32[n]) [n=5]:",
        "  %1, %2 = tested_call(%0, %0, body=@0) : (f32[n], f32[n])",
        "    @0 graph inner(%0: f32[n], %1: f32[n]):",
    ]
    assert show(parse(show(outer))) == show(outer)
    for g in (outer, parse(show(outer))):
        total, scaled = run(g, [np.arange(3.0)])
        assert total.tolist() == [0, 2, 4] and scaled.tolist() == [0, 3, 6]


@pytest.mark.parametrize(
    "text,why",
    [
        ("", "no graph"),
        ("graph f(%0: f32[2])\n  return %0", "a graph starts with"),
        ("graph f(%0: f99[2]):\n  return %0", "is not a type"),
        ("graph f(%0: f32[2]):\n  %1 = nothing(%0) : f32[2]\n  return %1", "no operation 'nothing'"),
        ("graph f(%0: f32[2]):\n  %1 = neg(%7) : f32[2]\n  return %1", "%7 is not defined"),
        ("graph f(%0: f32[2]):\n  %1 = neg(%0) : f32[2]", "ends with 'return'"),
        ("graph f(%0: f32[k]):\n  return %0", "'k' is not a size"),
        ("graph f(%0: f32[2]):\n  return %0\nmore", "text after the end"),
        (
            "graph f(%0: f32[2]):\n  %1 = neg(%0) : f32[3]\n  return %1",
            "recorded as f32\\[3\\], inferred as f32\\[2\\]",
        ),
    ],
)
def test_faults_in_the_text_are_named(text, why):
    with pytest.raises(GraphError, match=why):
        parse(text)


# --- the verifier ---------------------------------------------------------------------------------------------------
def broken(make):
    """A graph of two parameters with one node made by hand."""
    scope = next_scope()
    ps = [Value(None, f32(2), scope, i) for i in range(2)]
    nodes, results = make(scope, *ps)
    return Graph("broken", ps, nodes, results)


def test_the_verifier_takes_what_tracing_makes():
    for f, types in GRAPHS.values():
        verify(trace_graph(f, types))


def test_values_are_made_before_they_are_used():
    def make(scope, x, y):
        a = Node(E.neg, (x,), (), [x.type], scope, None)
        b = Node(E.neg, (a.out,), (), [x.type], scope, None)
        return [b, a], [b.out]

    with pytest.raises(GraphError, match="operand 0 is used before it is made: %2 = neg"):
        verify(broken(make))


def test_values_of_other_graphs_are_refused():
    foreign = Value(None, f32(2), next_scope())
    with pytest.raises(GraphError, match="a value of another graph"):
        verify(broken(lambda scope, x, y: ([Node(E.neg, (foreign,), (), [x.type], scope, None)], [x])))
    with pytest.raises(GraphError, match="result 0 is not made in this graph"):
        verify(broken(lambda scope, x, y: ([], [foreign])))


def test_types_are_those_that_the_operation_infers():
    with pytest.raises(GraphError, match=r"recorded as f32\[3\], inferred as f32\[2\]: %2 = add\(%0, %1\)"):
        verify(broken(lambda scope, x, y: ([Node(E.add, (x, y), (), [f32(3)], scope, None)], [x])))
    with pytest.raises(GraphError, match="the operands do not fit"):
        verify(broken(lambda scope, x, y: ([Node(contract.matmul, (x, y), (), [f32(2)], scope, None)], [x])))


def test_attributes_hash_and_are_sorted():
    with pytest.raises(GraphError, match="cannot be hashed"):
        verify(
            broken(lambda scope, x, y: ([Node(reduce.reduce_sum, (x,), (("axis", [0]),), [f32()], scope, None)], [x]))
        )
    unsorted = (("value", Const(None, 1.0, (), float32)), ("a", 1))
    with pytest.raises(GraphError, match="not sorted"):
        verify(broken(lambda scope, x, y: ([Node(constant, (), unsorted, [f32()], scope, None)], [x])))


def test_errors_name_the_users_line():
    g = trace_graph(branch, [f32(3)], "g")
    bad = Graph("bad", g.params, g.nodes[1:], g.results)
    with pytest.raises(GraphError, match=rf"# test_text.py:{branch.__code__.co_firstlineno + 1}"):
        verify(bad)


def test_a_pass_keeps_parameters_results_and_effects():
    g = trace_graph(lambda x: (x + 1.0, x), [f32(3)])
    with pytest.raises(GraphError, match="the results changed"):
        verify(Graph("g", g.params, g.nodes, g.results[:1]), g)
    with pytest.raises(GraphError, match="the parameters changed"):
        verify(trace_graph(lambda x, y: (x + 1.0, x), [f32(3), f32(3)]), g)
    effect = Op("tested_effect", "opaque", lambda x: x, lambda x: x, pure=False)
    try:
        h = trace_graph(lambda x: (effect(x), effect(x))[0], [f32(3)])
        assert len(h.nodes) == 2
        with pytest.raises(GraphError, match="the effects changed"):
            verify(Graph("h", h.params, h.nodes[:1], h.nodes[0].outs), h)
    finally:
        del OPS["tested_effect"]


def test_effects_that_never_happen_may_be_left_out(monkeypatch):
    monkeypatch.setattr(tj.config, "check", True)

    @tj.function
    def f(x, n):
        for _ in tj.range(n):
            if tj.ones_like(x) > 1.5:
                raise ValueError("x")
            x = x + 1.0
        return x

    assert float(f(tj.constant(1.0), tj.constant(3))) == 4.0


def test_dim_is_a_value():
    g = trace_graph(lambda x: dim(size=n * 2), [f32(n)])
    assert run(g, [np.zeros(7)])[0] == 14
