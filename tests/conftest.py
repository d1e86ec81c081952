"""Settings for all tests: a cache folder of their own, so that the user's is neither used nor filled."""

import importlib
import os
from pathlib import Path

import pytest

os.environ.setdefault("TRACEJIT_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "tracejit"))


def pytest_collection(session):
    """Tests that go through all rows find those too that `import tracejit` leaves for later."""
    importlib.import_module("tracejit.ops.specialmath")


def pytest_addoption(parser):
    parser.addoption("--snapshots", action="store_true", help="write the texts in tests/passes/snapshots anew")


@pytest.fixture(autouse=True, scope="session")
def unchanging():
    """Threads put no native forms in the place of kernels while tests compare bits; tests of these forms load them."""
    from tracejit.ops import frequent, quick

    frequent.WHEN_FREQUENT.clear()
    quick.WHEN_FREQUENT.clear()


@pytest.fixture
def twins(capsys):
    """Plays a scene with plain functions and with traced ones, and compares what is seen."""
    from python_twins import play  # which loads tracejit, whose cache folder has to be set before

    return lambda scene: play(scene, capsys)
