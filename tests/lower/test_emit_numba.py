"""Numba source computes what native code and the reference interpreter compute, and reads as it should."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba_cases import CASES
from softmax_layer import softmax_layer

import tracejit as tj
from tracejit.backends import numba_source, reference
from tracejit.errors import ArgumentError
from tracejit.lower.numba_access import place
from tracejit.lower.numba_dialect import CUDA

SNAPSHOTS = Path(__file__).resolve().parent.parent / "snapshots"
FAST = ("sums_of_all_kinds", "special_values")  # compiled by Numba in every run of the tests
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-5, "float64": 1e-12}


def compare(got, want, tolerance, message):
    assert len(got) == len(want)
    for k, (g, w) in enumerate(zip(got, want)):
        assert (g.shape, g.dtype) == (w.shape, w.dtype), f"{message}, result {k}"
        tol = tolerance or TOLERANCE.get(g.dtype.name, 0.0)
        if g.dtype.kind in "fV":
            g, w = g.astype(np.float64), w.astype(np.float64)
        np.testing.assert_allclose(g, w, rtol=tol, atol=tol, err_msg=f"{message}, result {k}")


def check(name, compiled):
    case = CASES[name]
    f = tj.function(case.f)
    c = f.get_concrete_function(*case.args)
    got, _ = numba_source.run(c, case.args, compiled)
    exe = c.executable
    expected = reference.run(exe.optimized, exe.all_arrays([np.asarray(a) for a in case.args]))
    compare(got, expected, case.tolerance, "against the reference")
    if case.native:
        native = f(*case.args)
        native = [np.asarray(t) for t in (native if isinstance(native, (tuple, list)) else [native])]
        compare(got, native, case.tolerance, "against native code")


@pytest.mark.parametrize("name", CASES)
def test_plain_python(name):
    check(name, compiled=False)


@pytest.mark.parametrize("name", FAST)
def test_compiled(name):
    check(name, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if n not in FAST])
def test_all_compiled(name):
    check(name, compiled=True)


# --- state, numbers, symbolic sizes -----------------------------------------------------------------------------------
def training_step():
    rng = np.random.default_rng(3)
    w = tj.Variable(rng.standard_normal((20, 7)).astype("f"), name="weights")
    b = tj.Variable(np.zeros(7, "f"), name="bias")

    @tj.function
    def step(x, y, rate):
        with tj.GradientTape() as tape:
            logits = tj.nn.relu(x @ w + b)
            loss = tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        for v, g in zip((w, b), tape.gradient(loss, (w, b))):
            v.assign_sub(rate * g)
        return loss

    def batch(n):
        return rng.random((n, 20)).astype("f"), rng.integers(0, 7, n), 0.1

    return step, (w, b), batch


def step_agrees(compiled):
    step, variables, batch = training_step()
    step(*batch(8))
    step(*batch(16))  # from now on the batch size is a symbol
    for n in (5, 40):
        args = batch(n)
        c = step.get_concrete_function(*args)
        assert c.executable.symbols
        before = [v.numpy() for v in variables]
        (loss,), new = numba_source.run(c, args, compiled)
        np.testing.assert_array_equal([v.numpy().sum() for v in variables], [b.sum() for b in before])
        native = step(*args)
        np.testing.assert_allclose(loss, native.numpy(), rtol=1e-5)
        for v, a in zip(c.executable.parts.writes, new):
            np.testing.assert_allclose(a, v.numpy(), rtol=1e-5, atol=1e-6)


def test_training_step():
    step_agrees(compiled=False)


@pytest.mark.slow
def test_training_step_compiled():
    step_agrees(compiled=True)


def test_names_come_from_the_user():
    step, _, batch = training_step()
    text = step.source(*batch(4))
    assert "def main(x, y, rate, weights, bias):" in text
    assert "return result, new_weights, new_bias" in text
    assert "rate = np.float64(rate)" in text
    assert "logits = tj.nn.relu(x @ w + b)" in text, "the user's line as a comment"
    assert re.search(r"Made from step, test_emit_numba\.py:\d+\.", text)


def test_names_that_are_taken():
    @tj.function
    def f(i, n, np_, rows, range, out):
        return i * n + np_ + tj.nn.softmax(rows * range) + out["a"] - out["rows"]

    args = [np.full((2, 3), k, "f") for k in range(1, 6)] + [{"a": np.ones(3, "f"), "rows": np.ones(3, "f")}]
    c = f.get_concrete_function(*args)
    flat = [*args[:5], args[5]["a"], args[5]["rows"]]
    got, _ = numba_source.run(c, flat, compiled=False)
    np.testing.assert_allclose(got[0], f(*args).numpy(), rtol=1e-6)
    assert "def main(i, n, np_, rows, range_2, out_a, out_rows):" in numba_source.source(c).text


def test_names_that_main_needs():
    @tj.function
    def f(kernel_mul, CONSTANT, OPS):
        return tj.cumsum(kernel_mul * CONSTANT + OPS * tj.constant([1.0, 2.0, 3.0]))

    args = [np.full(3, k, "f") for k in range(1, 4)]
    got, _ = numba_source.run(f.get_concrete_function(*args), args, compiled=False)
    np.testing.assert_allclose(got[0], f(*args).numpy(), rtol=1e-6)


def lines_of_code(x, w):
    h = tj.nn.relu(x @ w)
    d = h - tj.reduce_mean(h, -1, keepdims=True)
    scale: tj.Tensor = d * 2.0
    scale += tj.sin(d)
    return tj.nn.softmax(scale), scale == h


def test_values_are_called_as_the_user_calls_them():
    text = tj.function(lines_of_code).source(np.ones((5, 6), "f"), np.ones((6, 7), "f"))
    targets = [t for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assign) for t in n.targets]
    assert {"h", "d", "scale", "mean"} <= {t.id for t in targets if isinstance(t, ast.Name)}, text
    assert "def kernel_matmul_relu(x, w, h" in text
    assert "kernel_mean_sub_to_equal" in functions(text)


def test_loops_leave_the_names_of_arrays_to_the_user():
    x = np.ones((2, 5, 6), "f")
    text = tj.function(lambda q, k, i: tj.matmul(q, k, transpose_b=True) @ i).source(x, x, x[:, :5])
    assert all(
        f"def {name}({arguments}" in text for name, arguments in [("kernel_matmul", "q, k, "), ("main", "q, k, i)")]
    )
    assert not re.search(r"\b(q|k|i)_2\b", text), text


def test_kernels_are_called_after_the_functions_that_the_user_called():
    def f(x, y, s):
        return tj.nn.layer_normalization(x, s, s), tj.nn.sigmoid_cross_entropy_with_logits(y, y) * 2.0

    text = tj.function(f).source(np.ones((5, 6), "f"), np.ones((3, 7), "f"), np.ones(6, "f"))
    assert {"kernel_layer_normalization", "kernel_sigmoid_cross_entropy_mul"} <= functions(text).keys(), text


# --- the text ---------------------------------------------------------------------------------------------------------
def functions(text):
    return {n.name: n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize("name", CASES)
def test_literals_have_a_type(name):
    """A bare 0.5 would make Numba compute in float64."""
    case = CASES[name]
    for f in functions(tj.function(case.f).source(*case.args)).values():
        if f.name == "main":
            continue
        typed = {
            id(x) for c in ast.walk(f) if isinstance(c, ast.Call) and ast.unparse(c.func).startswith("np.")
            for a in c.args for x in ast.walk(a)
        }  # fmt: skip
        bare = [x for x in ast.walk(f) if isinstance(x, ast.Constant) and type(x.value) is float and id(x) not in typed]
        assert not bare, ast.unparse(f)


@pytest.mark.parametrize("name", CASES)
def test_same_text_every_time(name):
    case = CASES[name]
    texts = [tj.function(case.f).source(*case.args) for _ in range(2)]
    assert texts[0] == texts[1]
    assert max(map(len, texts[0].splitlines())) <= 140


def test_equal_loops_are_one_kernel():
    @tj.function
    def f(x, y):
        for w in (y, y):
            x = tj.nn.relu(x @ w + 1.0)
        return x

    text = f.source(np.ones((5, 5), "f"), np.ones((5, 5), "f"))
    assert [n for n in functions(text) if n != "main"] == ["kernel_matmul_add_relu"]
    assert text.count("kernel_matmul_add_relu(") == 3


def test_helpers_are_written_once_and_only_when_used():
    @tj.function
    def f(x):
        y = tj.sigmoid(x)
        return tj.sigmoid(y * 2.0) + tj.reduce_sum(tj.sigmoid(-x))

    text = f.source(np.ones(5, "f"))
    assert text.count("def sigmoid(") == 1
    assert "softplus" not in text


def test_helpers_for_unsigned_types_lack_what_only_signed_ones_need():
    f = tj.function(lambda x: x // 3)
    assert "np.int8(-1)" in f.source(np.ones(4, np.int8))
    assert "-1" not in f.source(np.ones(4, np.uint8)) and "# signed" not in f.source(np.ones(4, np.int8))


def test_source_needs_nothing_but_numpy_and_numba():
    x, w, b = np.eye(4, 6, dtype="f"), np.ones((6, 3), "f"), np.arange(3, dtype="f")
    text = tj.function(softmax_layer).source(x, w, b)
    assert "tracejit" not in text
    space = {}
    exec(text, space)
    h = x @ w + b
    e = np.exp(h - h.max(1, keepdims=True))
    np.testing.assert_allclose(space["main"](x, w, b), e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_source_runs_as_a_file(name):
    """With Numba's own decorators, which compile nothing before the first call."""
    case = CASES[name]
    space = {"__name__": "__main__"}
    exec(compile(tj.function(case.f).source(*case.args), f"{name}.py", "exec"), space)
    assert callable(space["main"])


def test_source_as_a_file_of_its_own(tmp_path):
    """Where tracejit cannot be imported."""
    x, w, b = np.eye(4, 6, dtype="f"), np.ones((6, 3), "f"), np.arange(3, dtype="f")
    f = tj.function(softmax_layer)
    call = "import sys\n\nsys.modules['tracejit'] = None\n"
    shown = "print(main(np.eye(4, 6, dtype='f'), np.ones((6, 3), 'f'), np.arange(3, dtype='f')).sum(0).tolist())\n"
    file = tmp_path / "layer.py"
    file.write_text(call + f.source(x, w, b) + "\n\n" + shown)
    out = subprocess.run([sys.executable, file.name], check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    np.testing.assert_allclose(ast.literal_eval(out), f(x, w, b).numpy().sum(0), rtol=1e-5)


def test_snapshot():
    text = tj.function(softmax_layer).source(np.ones((4, 20), "f"), np.ones((20, 30), "f"), np.ones(30, "f"))
    path = SNAPSHOTS / "softmax_layer.numba.txt"
    if os.environ.get("TRACEJIT_UPDATE_SNAPSHOTS"):
        path.write_text(text)
    assert text == path.read_text(), "run with TRACEJIT_UPDATE_SNAPSHOTS=1 if this is meant"


def test_numba_is_not_loaded_to_write_source():
    code = (
        "import sys, numpy as np, tracejit as tj\n"
        "text = tj.function(lambda x: tj.sigmoid(x)).source(np.ones(3, 'f'))\n"
        "assert 'prange' in text and 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_a_function_that_was_not_compiled_has_no_source():
    f = tj.function(lambda x: x * 2.0)
    c = f.get_concrete_function(np.ones(3, "f"))
    c.executable.program = None
    with pytest.raises(ArgumentError, match="not compiled"):
        numba_source.source(c)


# --- where operands lie -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "base,sizes,strides,offset,text",
    [
        ((4, 5), (20,), (1,), 0, "[i]"),
        ((4, 5), (4, 5), (5, 1), 0, "[i, j]"),
        ((4, 5), (5, 4), (1, 5), 0, "[j, i]"),
        ((4, 5), (3, 5), (5, 1), 5, "[i + 1, j]"),
        ((4, 5), (4, 5), (5, -1), 4, "[i, 4 - j]"),
        ((4, 6), (2, 3), (12, 2), 1, "[i * 2, j * 2 + 1]"),
        ((12,), (3, 4), (4, 1), 0, "[i, j]"),
        ((12,), (2, 3), (4, 1), 2, "[i * 4 + j + 2]"),
        ((4, 5), (4, 3), (0, 0), 7, "[1, 2]"),
        ((), (3,), (0,), 0, "[()]"),
        ((4, 1, 5), (4, 5), (5, 1), 0, "[i, j]"),
        ((2, 6), (4, 2), (3, 1), 1, "[i * 3 + j + 1]"),
    ],
)
def test_placement(base, sizes, strides, offset, text):
    p = place(base, sizes, strides, offset)
    assert p.text("ijk".__getitem__, str) == text
    buffer = np.arange(int(np.prod(base))).reshape([int(d) for d in p.shape])
    for index in np.ndindex(*sizes):
        at = dict(zip("ijk", index))
        want = offset + sum(i * s for i, s in zip(index, strides))
        assert eval(f"buffer{text}", {"buffer": buffer, **at}) == want


# --- CUDA -------------------------------------------------------------------------------------------------------------
IN_THE_SIMULATOR = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, tracejit as tj
from tracejit.backends import numba_source
from tracejit.lower.numba_dialect import CUDA

@tj.function
def f(x, w, b):
    h = tj.tanh(x @ w + b) * 0.5
    return tj.nn.softmax(h), tj.sigmoid(h), tj.maximum(h, 0.1)

args = [np.linspace(-1, 1, n, dtype="f").reshape(s) for n, s in ((30, (6, 5)), (35, (5, 7)), (7, (7,)))]
m = numba_source.source(f.get_concrete_function(*args), CUDA)
for got, want in zip(numba_source.load(m.text)["main"](*args), f(*args), strict=True):
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)
"""


def test_cuda_dialect_in_the_simulator():
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", IN_THE_SIMULATOR], check=True, cwd=root, env=env)


def test_cuda_dialect_says_what_it_cannot_write():
    x = np.ones((4, 5), "f")
    for f in (lambda x: tj.reduce_sum(x, 0), tj.floor):
        c = tj.function(f).get_concrete_function(x)
        with pytest.raises(ArgumentError, match="cuda source"):
            numba_source.source(c, CUDA)
