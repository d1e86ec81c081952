"""Importing the package: the garbage collector is as it was before, and what nobody asks for is not loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {
    "import": "import tracejit; print(gc.isenabled(), gc.get_freeze_count() == 0, gc.get_count()[2] == 0)",
    "switched off": "gc.disable(); import tracejit; print(not gc.isenabled(), gc.get_freeze_count() == 0, True)",
    "frozen": "gc.freeze(); import tracejit; print(gc.isenabled(), gc.get_freeze_count() > 1000, True)",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_the_collector_is_as_before(script):
    done = subprocess.run(
        [sys.executable, "-c", f"import gc, sys\n{script}"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.split() == ["True"] * 3, done.stderr


NAMED = """
before = set(sys.modules)
x, i = tj.zeros((3, 4)), tj.constant([0, 2])
f = tj.function(lambda x, i: tj.gather(x, i))
f(x, i)
print(*(m for m in set(sys.modules) - before if m in ("tracejit.signal", "tracejit.optimizers", "tracejit.special")))
try:
    f(x, tj.constant([0, 7]))
except tj.errors.TracejitError as e:
    print("tj.gather: " in str(e))
tj.signal.fft(tj.zeros(4, tj.complex64))
try:
    tj.signal.fft(tj.zeros((), tj.complex64))
except tj.errors.TracejitError as e:
    print("tj.signal.fft(" in str(e))
"""


def test_errors_name_functions_of_loaded_modules_and_load_none():
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, tracejit as tj\n{NAMED}"],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["", "True", "True"], done.stdout + done.stderr
