"""`eval` and `exec`: the expressions of a text mean what they mean in the function; what may do more is refused."""

from __future__ import annotations

import ast
import builtins
import collections
from typing import Any

from tracejit.autograph import reads
from tracejit.autograph.expressions import Expressions
from tracejit.autograph.syntax import AG
from tracejit.autograph.values import Optional, Undefined
from tracejit.errors import ConversionError, locate

_TOP = (ast.Module, ast.Expression, ast.Expr, ast.Assign, ast.Pass)
# Functions of their own, which do not see what is around a text, and what binds names within an expression.
_OTHERS = (
    ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr, ast.Await, ast.Yield,
    ast.YieldFrom,
)  # fmt: skip


class _Refused(Exception):
    """Why a text is not converted."""


class _Text(Expressions):
    """The rewriting of a text. What would need functions of its own asks tensors as Python does."""

    first, locals, risky = "", set(), set()

    def visit(self, node: ast.AST) -> Any:
        kind = type(node).__name__
        if isinstance(node, _OTHERS) or (isinstance(node, (ast.stmt, ast.mod)) and not isinstance(node, _TOP)):
            raise _Refused(f"it has a {kind}")
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            raise _Refused(f"it assigns to a {kind}")
        return super().visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        node.value.ag_unused = True  # type: ignore[attr-defined]
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        return super().visit_Compare(node) if len(node.ops) == 1 else self.generic_visit(node)

    visit_IfExp = visit_BoolOp = Expressions.generic_visit  # type: ignore[assignment]


def refused(why: str) -> Exception:
    return locate(ConversionError(f"a text is executed that is not converted: {why}", "write it in the function"))


def evaluated(source: Any, kind: str, around: dict[str, Any]) -> Any:
    """What `eval` or `exec`, the `kind`, executes in the place of `source` among the variables of the function."""
    if not reads.are_recorded():
        return source
    reads.evaluated(source, around)
    return _converted(source, kind)


def evaluate(operators: Any, source: Any, space: dict[str, Any], variables: Any = None, /) -> Any:
    """`eval` of `source` in a namespace."""
    if not reads.are_recorded():
        return eval(source, space, variables)
    own: Any = space if variables is None else variables
    for x in (space, own):
        if isinstance(x, dict):
            reads.evaluated(source, x)
    return eval(_converted(source, "eval"), space, collections.ChainMap({"ag__": operators}, own))


def execute(*args: Any, **kwargs: Any) -> Any:
    """`exec` in a namespace, which it changes."""
    if reads.are_recorded():
        raise refused("it changes a namespace")
    return exec(*args, **kwargs)


def variables(found: dict[str, Any], kind: str) -> Any:
    """What `locals()`, `vars()` or `dir()`, the `kind`, gives of the user's variables."""
    own, given = found.setdefault(f"{AG}own", ({}, set()))  # up to Python 3.12 all calls in a function give one dict
    for n in given - found.keys():
        own.pop(n, None)
    given.update(found)
    for n, x in found.items():
        if type(x) is Optional and not x.none:
            raise locate(ConversionError(f"{kind}() is asked for, and a tensor decides whether {n!r} has a value"))
        if type(x) is Undefined:
            own.pop(n, None)
        elif not n.startswith(AG):
            own[n] = x
    return sorted(own) if kind == "dir" else own


def _converted(source: Any, kind: str) -> Any:
    if not isinstance(source, (str, bytes)):
        raise refused("it is code without its text")
    try:
        tree = ast.parse(source.strip() if kind == "eval" else source, mode=kind)
    except SyntaxError:
        return source  # of which Python complains
    try:
        made = _Text().visit(tree)
    except _Refused as e:
        why = str(e)
    else:
        return builtins.compile(ast.fix_missing_locations(made), "<string>", kind)
    raise refused(why)
