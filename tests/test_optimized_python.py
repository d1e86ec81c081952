"""`python -O`: `assert` statements are not there, in traced functions as in Python's own."""

import os
import subprocess
import sys

import pytest

import tracejit as tj

PROGRAM = '''
import tracejit as tj

@tj.function
def whole(x):
    assert x < 0.0, "message"
    assert (n := x) < 0.0
    return x

@tj.function
def inside(x):
    for i in tj.range(2):
        if x > 0.0:
            assert tj.cast(i, tj.float32) > x
    return x

for f in whole, inside:
    for g in f, f.python_function:
        try:
            print(float(g(tj.constant(1.0))))
        except AssertionError:
            print("AssertionError")
'''


@pytest.mark.parametrize(("flag", "said"), [("-O", "1.0"), ("-OO", "1.0"), ("-B", "AssertionError")])
def test_asserts(flag, said, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.path.dirname(os.path.dirname(tj.__file__))
    run = subprocess.run(
        [sys.executable, flag, tmp_path / "program.py"], env={**os.environ, "PYTHONPATH": path, "PYTHONOPTIMIZE": ""},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.stdout.split() == [said] * 4, run.stderr
