"""What users see of the passes: the graph after each of them, and that those that are wrong are found out."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.config import config
from tracejit.errors import ArgumentError, GraphError
from tracejit.ir.graph import Graph
from tracejit.passes import pipeline
from tracejit.passes.pipeline import optimize, prepare, stages


@tj.function
def step(xs, w):
    h = tj.zeros((3, 4), tj.float64)
    for x in xs:
        h = tj.tanh(tj.exp(w) * 0.5 + h) + x
    return tj.argmax(h, axis=1), h * 1.0


XS, W = np.ones((5, 3, 4)), np.ones((3, 4))


def test_the_graph_after_each_pass_by_its_name():
    graphs = {name: step.graph(XS, W, stage=name) for name in ("traced", "simplify", "hoist", "positions", "settle")}
    text = {name: str(g) for name, g in graphs.items()}
    assert "1.0" in text["traced"] and "1.0" not in text["simplify"]
    inside = {name: t[t.index("@0 graph body") :] for name, t in text.items()}
    assert "exp(" in inside["simplify"] and "exp(" not in inside["hoist"]
    assert "argmax" in text["hoist"] and "argmax" not in text["positions"] and "copy(" in text["settle"]
    assert text["settle"] == str(step.graph(XS, W, stage="prepared"))
    assert str(step.graph(XS, W, stage="chains")) == str(step.graph(XS, W, stage="optimized"))


def test_all_passes_at_once():
    passes = step.passes(XS, W)
    assert list(passes) == ["traced", *[name for name, _ in stages(Graph("f", (), (), ()))]]
    for name, graph in passes.items():
        assert str(graph) == str(step.graph(XS, W, stage=name))
    shown = str(passes)
    assert shown.startswith("traced:\ngraph step(") and "\n\nafter hoist:\ngraph step(" in shown
    assert "after share:" not in shown
    last = shown.splitlines()[-1]
    assert last.startswith("no change by: share, ") and "complexparts" in last and "hoist" not in last
    assert len(passes.without_effect()) + shown.count("after ") == len(passes) - 1


def test_passes_of_a_method_and_of_keyword_arguments():
    class Model:
        @tj.function
        def double(self, x, scale=2.0):
            return x * scale

    assert "mul(" in str(Model().double.passes(XS, scale=3.0))


def test_an_unknown_stage_is_told_which_there_are():
    with pytest.raises(ArgumentError) as e:
        step.graph(XS, W, stage="hoits")
    for name in ("'hoits'", "'traced'", "'optimized'", "'prepared'", "'hoist'", "'complexparts'", "'simplify-2'"):
        assert name in str(e.value)


def test_a_wrong_pass_before_fusion_is_found_out(monkeypatch):
    raw = step.graph(XS, W)
    right = optimize(raw)
    other = optimize(tj.function(lambda xs, w: (tj.argmax(w, axis=1), w * 2.0)).graph(XS, W))
    monkeypatch.setattr(pipeline, "preparing", lambda graph, numerics: [("cuts", other)])
    assert prepare(right) is other
    monkeypatch.setattr(config, "check", True)
    with pytest.raises(GraphError, match="pass cuts changed result 0 of graph step"):
        prepare(right)
    with pytest.raises(GraphError, match="pass cuts changed result 1 of graph step"):  # these ones are alike
        prepare(right, arrays=[XS, W])


def test_random_arguments_do_not_run_loops_that_might_not_end(monkeypatch):
    """Such a loop is verified, and compared on arguments that are given."""
    f = tj.function(lambda x: tj.while_loop(lambda x: x != 100.0, lambda x: (x * 1.0 + 1.0,), (x,))[0])
    raw = f.graph(np.float64(1.0))
    monkeypatch.setattr(config, "check", True)
    made = prepare(optimize(raw))
    assert prepare(optimize(raw, arrays=[np.float64(7.0)]), arrays=[np.float64(7.0)]).run([np.float64(7.0)]) == (100.0,)
    assert made.run([np.float64(3.0)]) == (100.0,)


def test_effects_that_are_put_off_are_still_there(monkeypatch):
    """The verifier sees the effects in what waits for a size."""

    def f(x, i):
        y = tj.boolean_mask(x, x > 0.0)
        return y[i]

    args = [np.arange(1.0, 5.0), np.int32(2)]
    raw = tj.function(f).graph(*args)
    monkeypatch.setattr(config, "check", True)
    made = prepare(optimize(raw, arrays=args), arrays=args)
    assert "sized(" in str(made) and "check(" in str(made) and made.run(args) == (3.0,)
