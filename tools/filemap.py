"""Brings the list of files in ARCHITECTURE.md up to date: reading order, one sentence each, from the docstrings.

    python tools/filemap.py            print what would change
    python tools/filemap.py --write    change it

Files keep their places as far as imports allow; a new file goes after the last one that it imports.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MAP = ROOT / "ARCHITECTURE.md"
ENTRY = re.compile(r"^\* `(tracejit/[\w/]+\.py)` — (.*)$")


class Import(NamedTuple):
    file: str  # what is imported: a file of this package, or the name of a foreign module
    line: int
    lazy: bool  # inside a function
    typing: bool  # for type checkers only


def files() -> list[str]:
    """All files of the package but the empty ones."""
    found = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tracejit").rglob("*.py"))
    return [f for f in found if not f.endswith("__init__.py") or any(True for _ in imports(f))]


def module_file(name: str) -> str | None:
    base = ROOT.joinpath(*name.split("."))
    for p in (base.with_suffix(".py"), base / "__init__.py"):
        if p.exists():
            return str(p.relative_to(ROOT))
    return None


def imports(file: str) -> Iterator[Import]:
    def visit(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for c in ast.iter_child_nodes(node):
            if isinstance(c, ast.Import):
                names = [a.name for a in c.names]
            elif isinstance(c, ast.ImportFrom):
                names = [n if module_file(n) else str(c.module) for n in (f"{c.module}.{a.name}" for a in c.names)]
            else:
                function = isinstance(c, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                checking = isinstance(c, ast.If) and "TYPE_CHECKING" in ast.unparse(c.test)
                yield from visit(c, lazy or function, typing or checking)
                continue
            for n in names:
                yield Import(module_file(n) or n, c.lineno, lazy, typing)

    seen = set()
    for i in visit(ast.parse((ROOT / file).read_text()), False, False):
        if i not in seen:
            seen.add(i)
            yield i


def sentence(file: str) -> str:
    return (ast.get_docstring(ast.parse((ROOT / file).read_text())) or "").split("\n")[0]


def entries() -> list[tuple[str, str]]:
    """Path and sentence of each file in ARCHITECTURE.md."""
    return [(m[1], m[2]) for m in map(ENTRY.match, MAP.read_text().splitlines()) if m]


def order(old: list[str]) -> list[str]:
    """The files so that each stands below what it imports, as near to the old order as that allows."""
    have = files()
    needs = {f: {i.file for i in imports(f) if not i.lazy and not i.typing} & set(have) - {f} for f in have}
    rank: dict[str, float] = {f: i for i, f in enumerate(old)}
    for f in have:
        if f not in rank:
            rank[f] = max([rank.get(d, 0) for d in needs[f]], default=0) + 0.5
    done: list[str] = []
    left = set(have)
    while left:
        ready = [f for f in left if needs[f].isdisjoint(left)]
        if not ready:
            raise SystemExit("these files import each other: " + ", ".join(sorted(left)))
        done.append(min(ready, key=lambda f: (rank[f], f)))
        left.remove(done[-1])
    return done


def main() -> None:
    args = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    args.add_argument("--write", action="store_true")
    write = args.parse_args().write
    lines = MAP.read_text().splitlines()
    new = order([f for f, _ in entries()])
    head: dict[str, list[str]] = {}  # the heading lines in front of a file
    pending: list[str] = []
    first = next(i for i, line in enumerate(lines) if ENTRY.match(line))
    last = max(i for i, line in enumerate(lines) if ENTRY.match(line))
    for line in lines[first : last + 1]:
        m = ENTRY.match(line)
        if m:
            head[m[1]], pending = pending, []
        else:
            pending.append(line)
    out = [x for f in new for x in (*head.get(f, []), f"* `{f}` — {sentence(f)}")]
    for line in out:
        if line not in lines:
            print(line)
    if write:
        MAP.write_text("\n".join([*lines[:first], *out, *lines[last + 1 :]]) + "\n")


if __name__ == "__main__":
    main()
