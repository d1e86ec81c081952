"""After each pass, over many programs, the graph keeps the rules of the IR and computes what it did before."""

import control_flow_algorithms
import control_flow_branches
import control_flow_lists
import control_flow_loops
import control_flow_state
import numpy as np
import pytest
from control_flow_corpus import CASES as CONTROL
from hypothesis import HealthCheck, Phase, given, settings
from op_table import CASES
from random_control import control_program
from random_programs import programs

import tracejit as tj
from tracejit.autodiff.graph import vjp_graph
from tracejit.concrete import Executable
from tracejit.config import config
from tracejit.errors import ConversionError
from tracejit.passes.pipeline import optimize, prepare

TOPICS = control_flow_algorithms, control_flow_branches, control_flow_lists, control_flow_loops, control_flow_state
LEVELS = "exact", "finite", "fast"


@pytest.fixture(autouse=True, scope="module")
def traced_only():
    """Functions are traced, not compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executable, "_lower", lambda self: None)
        yield


def run_passes(f, args, levels=LEVELS, gradient=False):
    """Trace a function and run all passes on it, each of which is checked on these arguments."""
    try:
        concrete = f.get_concrete_function(*[tj.constant(a) for a in args])
    except ConversionError:  # what cannot be converted runs as Python
        return
    graph, arrays = concrete.parts.graph, concrete.executable.all_arrays(args)
    graphs = [(graph, arrays)]
    floats = [i for i, a in enumerate(args) if a.dtype.kind == "f"]
    if gradient and floats and all(r.dtype.kind == "f" for r in graph.results):
        rng = np.random.default_rng(0)
        cotangents = [rng.uniform(0.5, 1.0, r.shape).astype(r.dtype) for r in graph.run(arrays)]
        graphs.append((vjp_graph(graph, floats), [*arrays, *cotangents]))
    config.check = True
    try:
        for g, values in graphs:
            for level in levels:
                prepare(optimize(g, level, arrays=values), level, arrays=values)
                optimize(g, level, differentiated=False, arrays=values)
    finally:
        config.check = False


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operations(case):
    dtypes = case.dtypes()
    for k, dtype in enumerate(dict.fromkeys([dtypes[0], dtypes[-1], *[d for d in dtypes if d.name == "float64"]])):
        shapes = case.shapes[k % len(case.shapes)]
        smooth = case.differentiable and dtype.name == "float64"
        run_passes(tj.function(case.f), case.arrays(dtype, shapes, k), gradient=smooth)


EVERY = {
    "deadline": None, "database": None, "derandomize": True,
    "phases": (Phase.generate, Phase.shrink), "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@settings(max_examples=40, **EVERY)
@given(programs())
def test_random_programs(program):
    """For sizes that are known, and for any."""
    python, _ = program.make(program.arrays(program.variables, 2, 99))
    f = tj.function(python)
    for seed, b in enumerate((3, 5)):
        if b >= program.smallest:
            run_passes(f, program.arrays(program.params, b, seed), ["exact", "finite"])


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_random_control_flow(seed, tmp_path):
    program = control_program(seed, 4 + seed // 2)
    f = program.function(tmp_path)

    def slopes(x, y, v, n):
        with tj.GradientTape() as tape:
            tape.watch((x, y, v))
            a, b, c, _ = f(x, y, v, n)
            loss = a + 2.0 * b + 3.0 * c * c
        return tape.gradient(loss, [x, y, v], unconnected_gradients="zero")

    (args,) = program.draws(1)
    run_passes(tj.function(f), args, ["exact", "finite"])
    run_passes(tj.function(slopes), args, ["finite"])


@pytest.mark.parametrize("name", [name for name, c in CONTROL.items() if not c.python][::2])
def test_control_flow(name):
    case = CONTROL[name]
    f = tj.function(lambda *args: case.f(tj, *args))
    run_passes(f, case.draw(0), ["exact", "finite"])
