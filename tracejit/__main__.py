"""The command line: `python -m tracejit demo` and `python -m tracejit bench FILE.py:FUNCTION`."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tracejit as tj
from tracejit.benchmark import benchmark
from tracejit.errors import ArgumentError, TracejitError, hide_frames, is_internal

BENCH_HELP = """\
Time FUNCTION of FILE.py eagerly and traced, after checking that both give the same.

Its arguments are, whichever is there first:
  --args VALUE ...     Python literals; lists become tensors
  FUNCTION_args()      a function of the file that returns a tuple of arguments, or a dict of keyword arguments
  make_args()          the same, for every function of the file
  ARGS                 such a tuple or dict itself
  nothing              the function is called without arguments
"""


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module; files beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ArgumentError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def find_function(target: str) -> tuple[ModuleType, Callable[..., Any]]:
    """The module and function that `FILE.py:FUNCTION` names, or `FILE.py:Class.method`."""
    file, colon, name = target.rpartition(":")
    if not colon or not name:
        raise ArgumentError(f"{target!r} does not name a function", remedy="write FILE.py:FUNCTION")
    module = load_file(Path(file))
    fn: Any = module
    for part in name.split("."):
        fn = getattr(fn, part, None)
    if not callable(fn):
        raise ArgumentError(f"{file} has no function {name!r}")
    return module, fn


def find_arguments(
    module: ModuleType, name: str, literals: Sequence[str] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, from the command line or from the file."""
    given: Any = ()
    if literals is not None:
        values = [_literal(text) for text in literals]
        given = tuple(tj.constant(v) if isinstance(v, list) else v for v in values)
    else:
        for source in (f"{name.rpartition('.')[2]}_args", "make_args", "ARGS"):
            if hasattr(module, source):
                given = getattr(module, source)
                given = given() if callable(given) else given
                break
    if isinstance(given, dict):
        return (), given
    return (tuple(given), {}) if isinstance(given, (tuple, list)) else ((given,), {})


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ArgumentError(f"{text!r} is no Python literal", remedy="quote text: --args \"'x'\" 2.5 [1,2]") from None


def bench(options: argparse.Namespace) -> None:
    module, fn = find_function(options.target)
    name = options.target.rpartition(":")[2]
    args, kwargs = find_arguments(module, name, options.args)
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError as e:
        remedy = f"give the arguments with --args, or define {name}_args() in the file, which returns them"
        raise ArgumentError(f"{name}() {e}", remedy=remedy) from None
    except ValueError:
        pass  # a function that does not tell its parameters
    print(benchmark(fn, *args, repeat=options.repeat, **kwargs))


def demo(options: argparse.Namespace) -> None:
    # matplotlib and scikit-learn are slow to import, and only the demonstration wants them
    from tracejit.demo import run

    run(Path(options.out), fast=options.fast, plots=not options.no_plots)


def _version() -> str:
    try:
        return importlib.metadata.version("tracejit")
    except importlib.metadata.PackageNotFoundError:
        return "from a source tree"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tracejit", description="tracejit's demonstration and benchmark.")
    top.add_argument("--version", action="version", version=f"tracejit {_version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    d = commands.add_parser("demo", help="train two classifiers eagerly and traced, and compare")
    d.add_argument("--out", default="demo-output", metavar="DIR", help="where the pictures go (default: %(default)s)")
    d.add_argument("--fast", action="store_true", help="fewer steps: seconds instead of half a minute")
    d.add_argument("--no-plots", action="store_true", help="write no pictures")
    d.set_defaults(run=demo)

    b = commands.add_parser(
        "bench",
        help="time a function of a file eagerly and traced",
        description=BENCH_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    b.add_argument("target", metavar="FILE.py:FUNCTION")
    b.add_argument("--args", nargs="*", metavar="VALUE", help="arguments as Python literals")
    b.add_argument("--repeat", type=int, default=20, metavar="N", help="rounds (default: %(default)s)")
    b.set_defaults(run=bench)
    return top


def _is_loading(file: str) -> bool:
    return is_internal(file) or file.startswith("<frozen importlib")


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        options.run(options)
    except TracejitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # of the user's file
        hide_frames(error)
        tb = error.__traceback__
        while tb is not None and _is_loading(tb.tb_frame.f_code.co_filename):
            tb = tb.tb_next
        traceback.print_exception(error.with_traceback(tb))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
