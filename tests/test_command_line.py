"""`python -m tracejit` demonstrates and measures."""

import io
import re
import sys

import pytest

from tracejit import demo
from tracejit.__main__ import main
from tracejit.progress import Progress


@pytest.fixture(autouse=True)
def import_state(monkeypatch):
    """Loading a user's file changes the import state of the process; undo it."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name in ("script_of_a_user", "beside"):
        sys.modules.pop(name, None)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script_of_a_user.py"
    path.write_text(
        "import tracejit as tj\n"
        "import beside\n"
        "def product(x, y): return x * y\n"
        "def product_args(): return tj.ones((3,)), 2.0\n"
        "def total(x, scale): return tj.reduce_sum(x) * scale\n"
        "def make_args(): return {'x': tj.ones((3,)), 'scale': beside.SCALE}\n"
        "not_a_function = 3\n"
        "class K:\n"
        "    @staticmethod\n"
        "    def product(x, y): return x * y\n"
    )
    (tmp_path / "beside.py").write_text("SCALE = 2.0\n")
    return path


def test_demo_trains_prints_and_draws(tmp_path, capsys):
    assert main(["demo", "--fast", "--out", str(tmp_path / "pictures")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"speed-up +[\d.]+x +[\d.]+x", out)
    assert re.search(r"kernels +\d+ -> \d+ +\d+ -> \d+", out)
    for name in ("points", "losses", "times"):
        picture = tmp_path / "pictures" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert str(picture) in out


def test_demo_learns(capsys):
    linear, digits = demo.run(demo.Path("unused"), fast=True, plots=False)
    for c in (linear, digits):
        assert c.difference < 1e-2
        assert c.traced.losses[-1] < c.traced.losses[0]
    assert linear.traced.accuracy > 0.98
    assert digits.traced.accuracy > 0.8
    assert "Pictures" not in capsys.readouterr().out


def test_demo_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "load_digits", None)
    monkeypatch.setattr(demo, "matplotlib", None)
    assert len(demo.run(tmp_path / "none", fast=True)) == 1
    out = capsys.readouterr().out
    assert "scikit-learn" in out
    assert "matplotlib" in out
    assert not (tmp_path / "none").exists()


def test_demo_fails_when_traced_and_eager_differ(monkeypatch):
    honest = demo.mlp
    seeds = iter([0, 1])
    monkeypatch.setattr(demo, "mlp", lambda rng: honest(demo.np.random.default_rng(next(seeds))))
    with pytest.raises(AssertionError, match="differ"):
        demo.demo_digits(fast=True)


@pytest.mark.parametrize(
    ("function", "options"),
    [("product", []), ("product", ["--args", "[1.0, 2.0]", "3.0"]), ("total", [])],
    ids=["own arguments", "literals", "make_args"],
)
def test_bench(script, function, options, capsys):
    assert main(["bench", f"{script}:{function}", "--repeat", "2", *options]) == 0
    assert f"{function}: eager against traced, 2 rounds" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["{}", "{}:missing", "{}:not_a_function", "{}.gone:f"])
def test_bench_explains_a_wrong_target(script, target, capsys):
    assert main(["bench", target.format(script)]) == 1
    assert "ArgumentError" in capsys.readouterr().err


def test_progress_is_sparse_in_a_log():
    stream = io.StringIO()
    with Progress("training", 1000, stream) as progress:
        for _ in range(1000):
            progress.step()
    assert stream.getvalue().splitlines() == [f"training: {p} %  " for p in (25, 50, 75, 100)]


def test_progress_is_a_bar_on_a_terminal():
    stream = io.StringIO()
    stream.isatty = lambda: True
    with Progress("training", 2, stream) as progress:
        progress.step("loss 2")
        progress.step("loss 1")
    frames = stream.getvalue().split("\r")
    assert "2/2  loss 1" in frames[-1]
    assert frames[-1].endswith("\n")


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and re.match(r"tracejit (\d+\.\d+|from a source tree)", capsys.readouterr().out)


def test_errors_of_the_file_show_its_lines_only(tmp_path, capsys):
    (tmp_path / "wrong.py").write_text("def f(:\n    pass\n")
    assert main(["bench", f"{tmp_path / 'wrong.py'}:f"]) == 1
    text = capsys.readouterr().err
    assert "wrong.py" in text and "SyntaxError" in text and "importlib" not in text and "__main__" not in text
    (tmp_path / "fails.py").write_text("x = 1 / 0\n")
    assert main(["bench", f"{tmp_path / 'fails.py'}:f"]) == 1
    text = capsys.readouterr().err
    assert "x = 1 / 0" in text and "ZeroDivisionError" in text and "importlib" not in text and "__main__" not in text


def test_bench_of_a_method(script, capsys):
    assert main(["bench", f"{script}:K.product", "--repeat", "2"]) == 0
    assert main(["bench", f"{script}:K.nothing"]) == 1
    assert "no function 'K.nothing'" in capsys.readouterr().err
