"""Generators that a loop goes through: the loop's body stands in the place of each `yield`, so that both are one."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import calls, places
from tracejit.autograph.branches import Part
from tracejit.autograph.hostcalls import Yields
from tracejit.autograph.logic import not_
from tracejit.autograph.places import Place
from tracejit.autograph.rewrite import Converter
from tracejit.autograph.source import NoSource, NotConverted
from tracejit.autograph.syntax import at, name_of
from tracejit.identity import IdentityMap

GIVE = "ag__give"  # the parameter that takes what is yielded, and says whether the loop has ended
_known: IdentityMap[types.CodeType | NoSource] = IdentityMap()


class _Given(ast.NodeTransformer):
    """`yield x` as a statement becomes a call, after which the generator may end."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Yield):
            return self.given(node.value.value or ast.Constant(None), node)
        if isinstance(node.value, ast.YieldFrom):
            self.count += 1
            row = f"ag__yielded{self.count}"
            body = [self.given(name_of(row), node)]
            return at(ast.For(name_of(row, True), node.value.value, body, []), node)
        return self.generic_visit(node)

    def given(self, x: ast.expr, node: ast.stmt) -> ast.stmt:
        self.generic_visit(x)
        test = ast.Call(name_of(GIVE), [x], [])
        return at(ast.If(test, [ast.Return(None)], []), node)

    def refuse(self, node: ast.AST) -> Any:
        raise NotConverted(f"{self.name} is a generator with a `yield` in an expression, or in a `try` or `with`")

    visit_Yield = visit_YieldFrom = refuse

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return node  # which yields for itself

    visit_Lambda = visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Try(self, node: ast.Try) -> Any:
        """An error of the loop's body is none of the generator's."""
        return self.refuse(node) if node.handlers and _yields(node) else self.generic_visit(node)

    def visit_With(self, node: ast.With) -> Any:
        return self.refuse(node) if _yields(node) else self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> Any:
        return at(ast.Return(None), node)


def _yields(node: ast.AST) -> bool:
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(node))


class Giving(Converter):
    """Converts a generator to a function that calls what it is given with all that it would yield."""

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        given = _Given(node.name)
        body: list[Any] = []
        for s in node.body:
            made = given.visit(s)
            body += made if isinstance(made, list) else [made]
        node.body = body
        node.args.kwonlyargs.append(ast.arg(GIVE))
        node.args.kw_defaults.append(None)
        return super().function(node)


class _Variable(Place):
    """A variable of the loop's body, as seen from the generator."""

    __slots__ = ("_get", "_put")

    def __init__(self, get: Part, put: Part, name: str, i: int) -> None:
        super().__init__("variable", name, get, i)
        self._get, self._put = get, put

    def get(self) -> Any:
        return self._get()[self.at]

    def put(self, value: Any) -> None:
        values = list(self._get())
        values[self.at] = value
        self._put(values)


def go_through(it: Yields, body: Part, more: Part | None, get: Part, put: Part, names: Sequence[str]) -> bool:
    """Run the loop `for … in it` as one with the generator; whether that can be."""
    original = getattr(it.function, "ag_original", None)
    if it.started or type(original) is not types.FunctionType:
        return False
    try:
        f: Callable[..., Any] = calls.keep["converted_as"](original, _known, Giving)  # type: ignore[call-arg]
    except NoSource:
        return False
    places.made(get)
    variables = [_Variable(get, put, n, i) for i, n in enumerate(names)]

    def give(row: Any) -> Any:
        for v in variables:
            places.remember(v)
        body(row)
        return False if more is None else not_(more())

    give.ag_original = give  # type: ignore[attr-defined]
    it.ends(more is None)
    f(*it.args, **it.kwargs, **{GIVE: give})
    return True



