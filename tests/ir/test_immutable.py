"""What a graph is made of cannot be changed: programs, caches and other graphs share it."""

import copy

import pytest

import tracejit as tj
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, as_dtype


@tj.function
def f(x, y):
    return tj.tanh(x) * y + x


GRAPH = f.graph(tj.ones(3), tj.ones(3))
NODE = GRAPH.nodes[0]
SETS = [
    *[(NODE, name) for name in ("op", "inputs", "attrs", "outs", "loc", "pure", "other")],
    *[(NODE.out, name) for name in ("node", "type", "scope", "index", "origin", "other")],
    *[(GRAPH.params[0], name) for name in ("node", "type")],
    *[(GRAPH, name) for name in ("name", "params", "nodes", "results", "pure", "other")],
]


@pytest.mark.parametrize(("x", "name"), SETS, ids=[f"{type(x).__name__}.{name}" for x, name in SETS])
def test_no_attribute_can_be_set_or_deleted(x, name):
    before, text = getattr(x, name, None), str(GRAPH)
    for change in (lambda: setattr(x, name, None), lambda: delattr(x, name)):
        with pytest.raises(AttributeError, match=rf"{type(x).__name__}\.{name} cannot be set: .* is immutable"):
            change()
    assert getattr(x, name, None) is before and str(GRAPH) == text


def test_values_and_nodes_made_by_hand_are_immutable_too():
    t = TensorType(as_dtype("float32"), (3,))
    v = Value(None, t, 1, 0)
    n = Node(OPS["tanh"], (v,), (), [t], 1, None)
    assert type(v) is Value and type(n) is Node and type(n.out) is Value
    assert (v.node, v.type, v.scope, v.index) == (None, t, 1, 0) and n.out.node is n and n.pure
    for x, name in ((v, "index"), (n, "inputs"), (n.out, "node"), (Graph("g", [v], [n], [n.out]), "nodes")):
        with pytest.raises(AttributeError):
            setattr(x, name, ())


def test_copies_are_the_thing_itself():
    for x in (GRAPH, NODE, NODE.out):
        assert copy.copy(x) is x and copy.deepcopy([x])[0] is x


def test_a_node_with_other_attributes_makes_the_same_values():
    other = NODE.with_attrs((("x", 1),))
    assert other.outs is NODE.outs and other.attr("x") == 1 and other.inputs == NODE.inputs and NODE.out.node is NODE
