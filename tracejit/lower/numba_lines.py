"""What the user's lines tell about generated source: their text, the variables assigned, the functions called."""

from __future__ import annotations

import ast
import functools
import linecache
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tracejit.errors import Location
from tracejit.ir.graph import Node, Value
from tracejit.lower.numba_expr import WIDTH

HIDDEN = ("cast", "copy", "identity", "constant")  # ops that say nothing about what a kernel does


def show_line(loc: Location) -> str:
    """`train.py:14: h = x @ w`."""
    text = linecache.getline(loc.file, loc.line).strip()
    text = f"{loc}: {text}" if text else str(loc)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _split(loc: Location) -> tuple[str, str, str]:
    """A line as the expression that the location stands for, what precedes it, and what follows."""
    text = linecache.getline(loc.file, loc.line).rstrip().encode()  # Python counts columns in bytes
    if loc.columns is None or loc.columns[1] <= loc.columns[0]:
        return "", "", ""
    first, last = loc.columns
    before, inside, after = [x.decode(errors="replace") for x in (text[:first], text[first:last], text[last:])]
    return before, inside, after


@functools.lru_cache(1024)
def _function(expression: str) -> str | None:
    """`softmax` for `tj.nn.softmax(h)`."""
    try:
        e = ast.parse(expression, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(e, ast.Call):
        return None
    f = e.func
    return f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else None


def assigned(loc: Location) -> str | None:
    """The variable that gets the location's value: `h` for `x @ w` in `h = x @ w`."""
    before, text, after = _split(loc)
    if "," in before and text:
        return _one_of_several(linecache.getline(loc.file, loc.line), loc)
    if after.strip() and not after.lstrip().startswith("#"):
        return None
    m = re.fullmatch(r"\s*([A-Za-z]\w*)\s*(?::[^=]+)?=\s*", before)
    if m is None and not before.strip():
        m = re.match(r"([A-Za-z]\w*)\s*(?:[-+*/@%&|^]|//|\*\*|<<|>>)=", text)
    return m[1] if m else None


def _one_of_several(line: str, loc: Location) -> str | None:
    """`b` for `a + b` in `a, b = b, a + b`."""
    assert loc.columns is not None
    indent = len(line) - len(line.lstrip())
    try:
        s = ast.parse(line.strip()).body[0]
    except (SyntaxError, IndexError):
        return None
    if not isinstance(s, ast.Assign) or not isinstance(s.value, ast.Tuple) or not isinstance(s.targets[0], ast.Tuple):
        return None
    for t, v in zip(s.targets[0].elts, s.value.elts, strict=False):
        at = (v.col_offset + indent, (v.end_col_offset or 0) + indent)
        if at == tuple(loc.columns) and isinstance(t, ast.Name):
            return t.id
    return None


def variables(nodes: Iterable[Node]) -> dict[Value, str]:
    """The values that the user's lines assign to variables, and how these are called."""
    found = {n.out: n for n in nodes if n.loc is not None and len(n.outs) == 1}
    inner = {v for n in found.values() for v in n.inputs if v in found and _place(found[v]) == _place(n)}
    names = {v: assigned(n.loc) for v, n in found.items() if n.loc is not None and v not in inner}
    return {v: name for v, name in names.items() if name is not None}


def _place(n: Node) -> tuple[str, int] | None:
    return (n.loc.file, n.loc.line) if n.loc is not None else None


def _expression(n: Node) -> str:
    return _split(n.loc)[1] if n.loc is not None else ""


def call_results(nodes: Sequence[Node]) -> dict[Value, str]:
    """The values that the user's calls of larger functions give, and what these are called."""
    counts = Counter(map(_expression, nodes))
    inner = {v for n in nodes for v in n.inputs if v.node is not None and _expression(v.node) == _expression(n)}
    found = {v: _counted(n) or _function(_expression(n)) for n in nodes for v in n.outs if counts[_expression(n)] > 1}
    inner |= {v for n in nodes if n.op.family == "control" for v in n.outs}  # which have names of their own
    return {v: name for v, name in found.items() if name == "gradient" or (name is not None and v not in inner)}


def _counted(n: Node) -> str | None:
    """`i` for what the user's line `for i in tj.range(n):` counts."""
    if n.loc is None or n.op.family == "control" or _function(_expression(n)) != "range":
        return None
    m = re.match(r"\s*for\s+([A-Za-z]\w*)\s+in\b", linecache.getline(n.loc.file, n.loc.line))
    return m[1] if m else None


def name_of(nodes: Sequence[Node], first: str = "") -> str:
    """What nodes do: their ops, or the user's function that several of them come from; of many, the first and last."""
    counts = Counter(map(_expression, nodes))
    names = [first] if first else []
    for n in nodes:
        text = _expression(n)
        name = (_function(text) if text and counts[text] > 1 else None) or n.op.name
        names.append(name.removeprefix("reduce_").removesuffix("_with_logits"))
    short = [n for n in dict.fromkeys(names) if n not in HIDDEN] or names[:1]
    return "_".join(short if len(short) <= 4 else [*short[:2], "to", short[-1]])
