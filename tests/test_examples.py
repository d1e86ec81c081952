"""The scripts in examples/ run and find what they say."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_short_and_tested():
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.stem}"' in source, f"{path.name} has no test here"
        assert len(path.read_text().splitlines()) < 60


def test_linear_classifier(capsys):
    assert load("linear_classifier").main() > 0.98
    losses = [float(x) for x in re.findall(r"loss (\d\.\d{4})", capsys.readouterr().out)]
    assert len(losses) == 8
    assert losses == sorted(losses, reverse=True)


def test_digits_mlp(capsys):
    assert load("digits_mlp").main(epochs=6) > 0.93
    assert "epoch 6" in capsys.readouterr().out


def test_digits_module(capsys):
    assert load("digits_module").main(epochs=5) > 0.95
    assert "epoch 5" in capsys.readouterr().out


def test_black_scholes(capsys):
    # the textbook's value for spot = strike = 100, a year, 5 % interest, 20 % volatility
    assert load("black_scholes").main(n=10_000) == pytest.approx(10.450584, abs=1e-5)
    assert "delta 0.6368" in capsys.readouterr().out


def test_nested_gradients(capsys):
    assert load("nested_gradients").main() == pytest.approx(9.8, abs=1e-5)
    assert "after 2 s: 19.6 m/s, 9.8 m/s²" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nested_gradients"])
def test_runs_as_a_script(name):
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "9.8 m/s²" in done.stdout
