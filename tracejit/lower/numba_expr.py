"""Expressions of generated Python source as a graph: typed, with precedences, printed with names where shared."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tracejit.errors import Location
from tracejit.ir.types import DType

WIDTH = 100  # characters of a line
LONG = 56  # characters from which a part of an expression gets a line and a name of its own
WIDE = 80  # characters from which the longest operand gets a line
BIG = 14  # operations from which an op's scalar form becomes a function of its own


class Binds:
    """How tightly Python's operators bind."""

    CHOICE, NOT, COMPARE, OR, XOR, AND, SHIFT, SUM, TERM, SIGN, POWER, ATOM = range(1, 13)


class Expr:
    """A scalar value: a leaf (text without operands) or an operation on others.

    template  the text, with {} for the operands; `needs` says how tightly each must bind, `binds` what the whole does
    value     of a literal, else None
    label     what a variable that holds it is called
    line      the user's line that it comes from
    """

    __slots__ = ("dtype", "template", "args", "needs", "binds", "value", "label", "line", "cheap")

    def __init__(
        self, dtype: DType, template: str, args: tuple[Expr, ...] = (), needs: tuple[int, ...] = (),
        binds: int = Binds.ATOM, value: Any = None, label: str = "", line: Location | None = None, cheap: bool = False,
    ) -> None:  # fmt: skip
        self.dtype, self.template, self.args, self.binds = dtype, template, args, binds
        self.needs = needs or (0,) * len(args)
        self.value, self.label, self.line = value, label, line
        self.cheap = cheap or (not args and template.isidentifier()) or value is not None

    @property
    def alias(self) -> bool:
        """The same text as its operand, under another type."""
        return self.template == "{}"


class Names:
    """Hands out identifiers that are not taken, here or in the module around."""

    def __init__(self, module: Names | None = None, taken: Iterable[str] = ()) -> None:
        self.module = module
        self.taken = {*keyword.kwlist, *dir(builtins), "np", "math", "numba", "prange", "njit", *taken}

    def __contains__(self, name: str) -> bool:
        return name in self.taken or (self.module is not None and name in self.module)

    def new(self, wish: str) -> str:
        base = wish if wish.isidentifier() else re.sub(r"\W+", "_", wish).strip("_") or "value"
        base = f"v_{base}" if base[0].isdigit() else base
        name, k = base, 1
        while name in self:
            k += 1
            name = f"{base}_{k}"
        self.taken.add(name)
        return name


def negated(test: str) -> str:
    """The opposite of a condition."""
    loose = isinstance(ast.parse(test, mode="eval").body, (ast.BoolOp, ast.IfExp))
    return f"not ({test})" if loose else f"not {test}"


class Writer:
    """Lines of source with indentation."""

    def __init__(self, depth: int = 0) -> None:
        self.lines: list[str] = []
        self.depth = depth
        self.last: tuple[str, int] | None = None  # the user's line of the latest comment

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.depth + text if text else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """The lines written inside belong to `head`."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def text(self) -> str:
        return "\n".join(self.lines)

    def call(self, head: str, items: Iterable[str], end: str = ")") -> None:
        """`head` with a list of arguments, on several lines if it is long."""
        self.lines += wrapped("    " * self.depth, head, list(items), end)


def wrapped(indent: str, head: str, items: list[str], end: str = ")") -> list[str]:
    """The lines of a call or definition."""
    whole = f"{indent}{head}{', '.join(items)}{end}"
    if len(whole) <= WIDTH:
        return [whole]
    lines, line = [f"{indent}{head}"], ""
    for x in items:
        if line and len(indent) + len(line) + len(x) + 6 > WIDTH:
            lines.append(f"{indent}    {line.rstrip()}")
            line = ""
        line += f"{x}, "
    return [*lines, f"{indent}    {line.rstrip()}", f"{indent}{end}"]


class Scope:
    """The variables of one block of code: prints expressions, and first the lines that compute their shared parts.

    `outer` is the scope around this one, whose variables are seen; `comment` gives the text for a user's line.
    """

    def __init__(
        self, out: Writer, names: Names, outer: Scope | None = None, comment: Callable[[Location], str] | None = None
    ) -> None:
        self.out, self.names, self.outer = out, names, outer
        self.comment: Callable[[Location], str] | None = comment or (outer.comment if outer else None)
        self.known: dict[Expr, str] = {}
        self.uses: Counter[Expr] = Counter()

    def find(self, e: Expr) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if e in scope.known:
                return scope.known[e]
            scope = scope.outer
        return None

    def count(self, roots: Iterable[Expr]) -> None:
        """Say what this scope will print, so that values used more than once get a name."""
        stack = list(roots)
        while stack:
            e = stack.pop()
            while e.alias:
                e = e.args[0]
            self.uses[e] += 1
            if self.uses[e] == 1 and self.find(e) is None:
                stack += e.args

    def at(self, line: Location | None) -> None:
        """A comment with the user's line, unless it is the same as before."""
        if line is None or self.comment is None or (line.file, line.line) == self.out.last:
            return
        self.out.last = (line.file, line.line)
        self.out.line(f"# {self.comment(line)}")

    def text(self, e: Expr, needs: int = 0, user: Expr | None = None) -> str:
        """The expression, in parentheses if it binds less tightly than needed."""
        while e.alias:
            e = e.args[0]
        name = self.find(e)
        if name is not None:
            return name
        if not e.cheap and (self.uses[e] > 1 or self._apart(e, user)):
            return self.name(e)
        text = self.own(e)
        if len(text) > LONG and e.args and user is not None:
            return self.name(e, text)
        return f"({text})" if e.binds < needs else text

    def own(self, e: Expr) -> str:
        parts = [self.text(a, n, e) for a, n in zip(e.args, e.needs, strict=True)]
        text = e.template.format(*parts) if parts else e.template
        if len(text) > WIDE and len(longest := max(parts, key=len)) > WIDE // 4:
            k = parts.index(longest)
            parts[k] = self.name(e.args[k])
            text = e.template.format(*parts)
        return text

    @staticmethod
    def _apart(e: Expr, user: Expr | None) -> bool:
        """Whether the value belongs to another line of the user's than what it is used for."""
        if user is None or not e.args or e.line is None or user.line is None:
            return False
        return (e.line.file, e.line.line) != (user.line.file, user.line.line)

    def name(self, e: Expr, text: str | None = None) -> str:
        """Give the value a variable of its own; returns its name."""
        while e.alias:
            e = e.args[0]
        known = self.find(e)
        if known is not None:
            return known
        text = self.own(e) if text is None else text
        name = self.names.new(e.label or "t")
        self.at(e.line)
        self.out.line(f"{name} = {text}")
        self.known[e] = name
        return name


def operations(roots: Iterable[Expr], stop: Iterable[Expr] = ()) -> int:
    """How many operations the values take, without those of `stop`."""
    seen: set[Expr] = set(stop)
    stack = list(roots)
    n = 0
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            n += bool(e.args) and not e.alias
            stack += e.args
    return n
