"""Python's own tests, each as it is and as a traced function: `python tools/pythons_tests.py test_dict test_set`.

What differs is printed with the end of its traceback, then how many agree. Much of what is left asks for what a trace
does not keep: reference counts, pickles of functions, the types of generators.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import io
import shutil
import signal
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import tracejit as tj
from tracejit.errors import ConversionWarning

LIMIT = 20  # seconds for one test


class TooLong(BaseException):
    pass


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong


def modules(names: list[str], folder: Path) -> list[ModuleType]:
    """The test modules as the user's own: what stands in Python's folders is not converted."""
    home = Path(importlib.import_module("test").__path__[0])
    for path in [*home.glob("*_tests.py"), *[home / f"{n}.py" for n in names]]:
        shutil.copy(path, folder)
    sys.path.insert(0, str(folder))
    return [importlib.import_module(n) for n in names]


def outcome(case: unittest.TestCase) -> tuple[str, str]:
    """How a test ends, and the end of its traceback."""
    result = unittest.TestResult()
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            case.run(result)
    except TooLong:
        return "too long", ""
    finally:
        signal.alarm(0)
    for name, found in (("failed", result.failures), ("raised", result.errors)):
        if found:
            return name, found[0][1]
    return ("skipped" if result.skipped else "agrees"), ""


def traced(kind: type[unittest.TestCase], name: str) -> tuple[unittest.TestCase, list[str]]:
    """The test as a traced function, and what it says where it runs as plain Python."""
    case, f, said = kind(name), tj.function(getattr(kind, name)), list[str]()

    def run() -> None:
        with warnings.catch_warnings(record=True) as every:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ConversionWarning)
            try:
                f(case)
            finally:
                said.extend(str(w.message) for w in every)

    setattr(case, name, run)
    return case, said


def compare(module: ModuleType) -> dict[str, int]:
    """Prints the tests of a module that differ; how many there are of each kind."""
    tally = collections.Counter[str]()
    kinds: list[Any] = [x for x in vars(module).values() if isinstance(x, type) and issubclass(x, unittest.TestCase)]
    for kind in kinds:
        for name in unittest.TestLoader().getTestCaseNames(kind):
            if outcome(kind(name))[0] != "agrees":
                tally["fails as plain Python"] += 1
                continue
            case, said = traced(kind, name)
            end, text = outcome(case)
            tally["agrees as plain Python" if said and end == "agrees" else end] += 1
            if end != "agrees":
                print(f"{module.__name__} {kind.__name__}.{name}: {end}", *text.strip().splitlines()[-4:], sep="\n    ")
    return dict(tally)


def main(names: list[str]) -> None:
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for module in modules(names, Path(folder)):
            print(module.__name__, compare(module), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
