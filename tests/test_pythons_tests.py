"""The tool that runs Python's own tests as traced functions tells those apart that differ."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "pythons_tests.py"
TESTS = """
import unittest
import weakref


class Tests(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(sum([v * 2 for v in range(4)]), 12)

    def test_that_fails(self):
        self.fail()

    def test_plain(self):
        made = {}
        exec("x = 1", made)
        self.assertEqual(made["x"], 1)

    def test_frames(self):
        import sys
        self.assertEqual(len(sys._getframe().f_code.co_freevars), 0)
"""


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_differs_is_told(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tests_of_pythons.py").write_text(TESTS)
    before = signal.signal(signal.SIGALRM, tool._too_long)
    try:
        tally = tool.compare(importlib.import_module("tests_of_pythons"))
    finally:
        signal.signal(signal.SIGALRM, before)
        sys.modules.pop("tests_of_pythons")
    assert tally == {"agrees": 1, "fails as plain Python": 1, "agrees as plain Python": 1, "failed": 1}
    assert "Tests.test_frames: failed" in capsys.readouterr().out
