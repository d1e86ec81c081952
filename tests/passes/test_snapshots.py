"""What each pass does to a few small functions, as text that is kept in `snapshots/`, and that the results stay.

`pytest tests/passes --snapshots` writes the files anew; the diff that git then shows is what a change did.
"""

import difflib
import inspect
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pass_cases import CASES, Case

from tracejit.autodiff.graph import vjp_graph
from tracejit.autograph.convert import to_graph
from tracejit.backends import reference
from tracejit.concrete import graph_executable, run_flat
from tracejit.errors import Faults
from tracejit.ir.found import PREFIX
from tracejit.ir.graph import Graph, Node
from tracejit.ir.sizes import size_at
from tracejit.ir.text import number, show_node, symbols, verify
from tracejit.passes import pipeline
from tracejit.passes.fuse import Fuser
from tracejit.passes.groups import is_view, kind_of
from tracejit.passes.layout import Layouts
from tracejit.passes.match import RuleSet, level
from tracejit.passes.neighbours import NEIGHBOURS
from tracejit.passes.partition import partition
from tracejit.passes.placing import place_parts
from tracejit.passes.simplify import rebuild
from tracejit.passes.stretched import gathered
from tracejit.tensor import wrap
from tracejit.tracing import trace_graph

FOLDER = Path(__file__).resolve().parent / "snapshots"


def plain(graph):
    """The graph's text without the lines that it came from."""
    return "\n".join(line.split("   # ")[0].rstrip() for line in str(graph).splitlines())


def traced(case: Case) -> Graph:
    return trace_graph(to_graph(case.f), list(case.types), case.f.__name__)


def arrays(graph: Graph) -> list[np.ndarray]:
    return [pipeline.sample(p, i) for i, p in enumerate(graph.params)]


def same(graph: Graph, after, numerics: str, args=None) -> None:
    """Both compute the same from random arguments."""
    args = arrays(graph) if args is None else args
    sizes = {s: k for s, k in symbols(graph).items() if not s.startswith(PREFIX)}
    upto = level(numerics)
    want = reference.run(graph, args, sizes)
    got = reference.run(after, args, sizes) if isinstance(after, Graph) else after
    assert len(want) == len(got)
    for x, y in zip(want, got):
        assert pipeline.agree(x, y, upto), (x, y)


# --- the text for each kind of pass -----------------------------------------------------------------------------------
def in_pipeline(case: Case) -> tuple[str, str]:
    """The graph as the pass gets it in the pipeline, and as it leaves it."""
    before = graph = traced(case)
    for name, after in pipeline.stages(graph, case.numerics):
        if name == case.stage:
            break
        before = after
    else:
        raise AssertionError(f"there is no pass {case.stage}")
    verify(after)
    same(before, after, case.numerics)
    same(graph, after, case.numerics)
    return plain(before), plain(after)


def of_neighbours(case: Case) -> tuple[str, str]:
    before = rebuild(traced(case))
    after = rebuild(before, rules=RuleSet(NEIGHBOURS, level("finite"), True))
    verify(after, before)
    same(before, after, case.numerics)
    return plain(before), plain(after)


def of_partition(case: Case) -> tuple[str, str]:
    raw = traced(case)
    joint = pipeline.optimize(vjp_graph(raw, list(case.wrt)), differentiated=False)
    halves = partition(joint, len(raw.params), len(raw.results))
    verify(halves.forward)
    verify(halves.backward)
    args = arrays(joint)
    own, cotangents = args[: len(raw.params)], args[len(raw.params) :]
    ahead = reference.run(halves.forward, own)
    kept = [own[i] if where == "param" else ahead[i] for where, i in halves.kept]
    back = reference.run(halves.backward, [*kept, *cotangents])
    same(joint, (*ahead[: len(raw.results)], *back), case.numerics, args)
    passed = ", ".join(f"{where} {i}" for where, i in halves.kept)
    return plain(joint), f"{plain(halves.forward)}\n\nthe backward half begins with {passed}\n{plain(halves.backward)}"


def prepared(case: Case) -> Graph:
    """The graph as fusion takes it, which also runs natively."""
    raw = traced(case)
    args = arrays(raw)
    exe = graph_executable(raw, case.numerics, Faults(raw.name))
    assert exe.error is None
    same(raw, [t._a for t in run_flat(exe, [wrap(a) for a in args])], case.numerics, args)
    return exe.prepared


def of_fusion(case: Case) -> tuple[str, str]:
    graph = prepared(case)
    names = number(graph)
    lines, done = [], set(graph.params)
    for item in Fuser(graph).run():
        nodes = [item] if isinstance(item, Node) else [*([item.anchor] if item.anchor else []), *item.nodes]
        if isinstance(item, Node) or item.anchor:
            lines.append(f"product {names[nodes[0].out]}" + (", over whose tiles run:" if len(nodes) > 1 else ""))
            lines += [f"  {show_node(nodes[0], names)}"] if isinstance(item, Node) else []
        else:
            rows = f", row by row along {item.rows}" if item.rows is not None else ""
            lines.append(f"loop over ({', '.join(map(str, item.domain))}){rows}:")
        if not isinstance(item, Node):
            ends = {"row": "   known after each row", "late": "   known after the loop"}
            for m in item.nodes:
                kind = ends[kind_of(item, m)] if m in item.inner else ""
                lines.append(f"  {show_node(m, names)}{kind}")
        for m in nodes:
            done.update(m.outs)
    computed = {m.out for m in graph.nodes if not is_view(m) and m.op.family != "source"}
    assert computed <= done
    return plain(graph), "\n".join(lines)


def values_of(graph: Graph) -> dict:
    """What the interpreter gives for every value of the graph."""
    values = [*graph.params, *[v for m in graph.nodes for v in m.outs]]
    return dict(zip(values, reference.run(Graph(graph.name, graph.params, graph.nodes, values), arrays(graph))))


def seen(base: np.ndarray, lay, shape: tuple[int, ...], sizes: dict[str, int]) -> np.ndarray:
    """The elements of a base that a layout says are those of a value."""
    at = [size_at(d, sizes) for d in (lay.offset, *lay.strides)]
    index = np.full(shape, at[0])
    for i, s in enumerate(at[1:]):
        index += (np.arange(shape[i]) * s).reshape([-1 if k == i else 1 for k in range(len(shape))])
    return base.reshape(-1)[index]


def of_layout(case: Case) -> tuple[str, str]:
    graph = traced(case)
    names, values, layouts = number(graph), values_of(graph), Layouts()
    lines = []
    for m in graph.nodes:
        lay = layouts.of(m.out)
        if not is_view(m) or lay is None:
            continue
        strides = ", ".join(map(str, lay.strides))
        lines.append(f"{names[m.out]} is {names[lay.base]} from element {lay.offset} on, with strides ({strides})")
        have = seen(values[lay.base], lay, values[m.out].shape, symbols(graph))
        np.testing.assert_array_equal(have, values[m.out])
    return plain(graph), "\n".join(lines)


def of_placing(case: Case) -> tuple[str, str]:
    graph = prepared(case)
    names, values, layouts = number(graph), values_of(graph), Layouts()
    fuser = Fuser(graph)
    place_parts(fuser, fuser.run(), graph, layouts)
    lines = []
    for v, lay in layouts.places.items():
        strides = ", ".join(map(str, lay.strides))
        lines.append(f"{names[v]} is computed in {names[lay.base]} from element {lay.offset} on, strides ({strides})")
        np.testing.assert_array_equal(seen(values[lay.base], lay, values[v].shape, symbols(graph)), values[v])
    for m in graph.nodes:
        if m.op.name in ("concat", "place", "update"):
            copied = [names[v] for v in m.inputs if (m, v) not in layouts.placed]
            lines.append(f"{names[m.out]} copies {', '.join(copied) or 'nothing'}")
    return plain(graph), "\n".join(lines)


def of_parts(case: Case) -> tuple[str, str]:
    """What waits for sizes that the program finds out, for one size that is repeated and one that is not."""
    waiting = next(n for n in dict(pipeline.stages(traced(case)))[case.stage].nodes if n.op.name == "sized")
    before: Graph = waiting.attr("body")
    after = gathered(before)
    verify(after)
    told = next(p for p in before.params if p.shape[-1:] == (0,))
    for size in (1, 3):
        sizes = dict.fromkeys(told.shape[0].symbols, size)
        known = [v.node if v.node and v.node.op.name == "constant" else None for v in waiting.inputs]
        fixed = [n and n.attr("value").numpy() for n in known]
        args = [
            np.zeros((size, 0), bool) if p is told else pipeline.sample(p, i) if c is None else c
            for i, (p, c) in enumerate(zip(before.params, fixed, strict=True))
        ]
        for x, y in zip(reference.run(before, args, sizes), reference.run(after, args, sizes), strict=True):
            np.testing.assert_array_equal(x, y)
    return plain(before), plain(after)


SPECIAL = {
    "neighbours": of_neighbours, "partition": of_partition, "fuse": of_fusion, "layout": of_layout,
    "placing": of_placing, "stretched": of_parts,
}  # fmt: skip


def text_of(case: Case) -> str:
    before, after = SPECIAL.get(case.stage, in_pipeline)(case)
    source = textwrap.dedent(inspect.getsource(case.f))
    source = source[source.index("\ndef ") + 1 :].rstrip()
    after = "the same" if after == before else after
    exact = "" if case.numerics == "finite" else f" ({case.numerics})"
    text = f"{case.stage}{exact}: {case.title}\n\n{source}\n\n--- before\n{before}\n\n--- after\n{after}\n"
    found = list(dict.fromkeys(re.findall(rf"{PREFIX}\d+", text)))  # which are counted in the whole process
    return re.sub(rf"{PREFIX}\d+", lambda m: PREFIX + str(found.index(m[0])), text)


# --- tests ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_snapshots(case, request):
    text, path = text_of(case), FOLDER / f"{case.name}.txt"
    if request.config.getoption("--snapshots"):
        path.write_text(text, encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != kept:
        diff = difflib.unified_diff(kept.splitlines(), text.splitlines(), "kept", "now", n=100, lineterm="")
        pytest.fail("\n".join(["if this is meant, run: pytest tests/passes --snapshots", *diff]), pytrace=False)


def test_no_snapshot_is_left_over():
    assert {p.stem for p in FOLDER.glob("*.txt")} == {c.name for c in CASES}


def test_every_pass_has_snapshots():
    names = [name for name, _ in pipeline.stages(Graph("f", (), (), ()))]
    assert {name.partition("-")[0] for name in names} | set(SPECIAL) == {c.stage.partition("-")[0] for c in CASES}
