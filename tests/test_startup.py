"""Importing the package: the garbage collector is as it was before, whatever happens."""

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
