"""The rewriting of expressions: operators, calls, comprehensions and texts as calls of `operators`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Container, Iterable, Sequence
from typing import Any

from tracejit.autograph.syntax import (
    AG,
    BINARY,
    at,
    call,
    globals_call,
    is_row,
    lambda_of,
    name_of,
    places_in,
    whole_of,
)

NOT_CALLED = {
    "super", "locals", "globals", "vars", "eval", "exec", "dir",
}  # fmt: skip
MUTATORS = {
    "append", "extend", "insert", "pop", "update", "clear", "remove", "setdefault", "popitem", "reverse", "sort", "add",
    "discard", "get", "appendleft", "extendleft", "popleft", "rotate", "move_to_end", "subtract", "difference_update",
    "intersection_update", "symmetric_difference_update",
}  # fmt: skip

AT_ONCE = {"list", "max", "min", "sorted", "stack", "sum", "tuple"}  # which go through all of a generator expression


class Expressions(ast.NodeTransformer):
    """The part of a converter that knows them. `first` is the function's first parameter, `locals` are its variables
    and `risky` those that some path leaves without a value."""

    first: str
    locals: set[str]
    risky: set[str]

    # --- expressions --------------------------------------------------------------------------------------------------
    def visit_Name(self, node: ast.Name) -> Any:
        if isinstance(node.ctx, ast.Load) and node.id in self.risky and node.id in self.locals:
            return at(call("value_of", node, ast.Constant(node.id)), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        owner = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            return at(call("load", owner, ast.Constant(node.attr)), node)
        node.value = owner
        return node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Lists and sets among the operands are read; what is a float literal's partner is neither."""
        self.generic_visit(node)
        if not any(isinstance(x, ast.Constant) and type(x.value) is float for x in (node.left, node.right)):
            node.left, node.right = at(whole_of(node.left), node.left), at(whole_of(node.right), node.right)
        return at(call("binary", ast.Constant(BINARY[type(node.op)]), node.left, node.right), node)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            return node
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if any(isinstance(p, ast.Slice) for p in parts):
            node.value = at(call("sliced", node.value), node.value)
            return node
        return at(call("item", node.value, node.slice), node)

    def visit_Starred(self, node: ast.Starred) -> Any:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = at(call("each", node.value), node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> Any:
        self.generic_visit(node)
        node.values = [v if k is not None else at(call("keyed", v), v) for k, v in zip(node.keys, node.values)]
        node.keys = [k and _as_key(k) for k in node.keys]
        return at(call("made", node), node)

    def visit_List(self, node: ast.List) -> Any:
        self.generic_visit(node)
        return at(call("made", node), node) if isinstance(getattr(node, "ctx", ast.Load()), ast.Load) else node

    def visit_Set(self, node: ast.Set) -> Any:
        self.generic_visit(node)
        node.elts = [_as_key(x) for x in node.elts]
        return at(call("made", node), node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> Any:
        self.generic_visit(node)
        node.value = at(call("unpacked", node.value), node.value)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        if isinstance(node.test, ast.Constant) and hasattr(node, "ag_seen"):
            return self.generic_visit(node)
        parts = [lambda_of(self.visit(x)) for x in (node.body, node.orelse)]
        return at(call("if_exp", self.tested(node.test), *parts), node)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        name = "and_" if isinstance(node.op, ast.And) else "or_"
        return at(call(name, *[lambda_of(self.visit(v)) for v in node.values]), node)

    def tested(self, x: ast.expr) -> Any:
        """An expression of which only the truth counts: `a and b` is that of one of both, not `a` or `b` itself."""
        if not isinstance(x, ast.BoolOp):
            return self.visit(x)
        name = "and_" if isinstance(x.op, ast.And) else "or_"
        return at(call(name, *[lambda_of(at(call("asked", self.tested(v)), v)) for v in x.values]), x)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return at(call("not_", self.tested(node.operand)), node)
        self.generic_visit(node)
        if isinstance(node.operand, ast.Constant):
            return node
        return at(call("negative", ast.Constant(_SIGNS[type(node.op)]), node.operand), node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        special = (ast.In, ast.NotIn, ast.Is, ast.IsNot)
        if len(node.ops) == 1 and not isinstance(node.ops[0], special):
            self.generic_visit(node)
            left, (right,) = at(whole_of(node.left), node.left), [whole_of(x) for x in node.comparators]
            return at(call("binary", ast.Constant(_OPERATORS[type(node.ops[0])]), left, right), node)
        operands = [self.visit(x) for x in (node.left, *node.comparators)]
        names = ast.Tuple([ast.Constant(_OPERATORS[type(o)]) for o in node.ops], ast.Load())
        first, *rest = operands
        later = lambda_of if len(rest) > 1 else _lambda_with  # what `locals()` gives is seen from where it stands
        return at(call("compare", names, first, *[later(x) for x in rest]), node)

    def visit_Call(self, node: ast.Call) -> Any:
        if getattr(node.func, "id", getattr(node.func, "attr", "")) in AT_ONCE:
            for a in node.args[:1]:
                a.ag_at_once = True  # type: ignore[attr-defined]
        if isinstance(node.func, ast.Name) and node.func.id == "next":
            for a in node.args[:1]:
                a.ag_first = True  # type: ignore[attr-defined]
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.first:
            return at(ast.Call(node.func, [name_of("__class__"), name_of(self.first)], []), node)
        if is_pythons(node.func):
            kind = node.func.id  # type: ignore[attr-defined]
            if not (kind in ("vars", "dir") and node.args):
                return _of_variables(self.generic_visit(node), kind)
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == AG:
            node.args = [self.visit(a) for a in node.args]
            return node
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            unused = [ast.Constant(True)] if getattr(node, "ag_unused", False) else []
            owner = self.visit(node.func.value)
            func = at(call("method", owner, ast.Constant(node.func.attr), *unused), node.func)
        else:
            way = "effect" if getattr(node, "ag_unused", False) else "called"
            func = at(call(way, self.visit(node.func)), node.func)
        args = [self.visit(a) for a in node.args]
        words = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        for k in words:
            if k.arg is None:
                k.value = at(call("keyed", k.value), k.value)
        return at(ast.Call(func, args, words), node)

    def visit_ListComp(self, node: ast.ListComp) -> Any:
        loop = self._as_loop(node, node.elt)
        for g in node.generators:
            g.ifs = [at(call("filtered", self.visit(x)), x) for x in g.ifs]
        node.elt = self.visit(node.elt)
        if isinstance(node, ast.SetComp):
            node.elt = _as_key(node.elt)
        for g in node.generators:
            g.iter = self._rows(g)
        name = "generated" if hasattr(node, "ag_first") else "comprehended"
        return at(call("made", node), node) if loop is None else self._or_loop(node, name, loop)

    visit_GeneratorExp = visit_SetComp = visit_ListComp  # type: ignore[assignment]

    def _rows(self, g: ast.comprehension) -> Any:
        if places_in(g.target):
            return at(call("not_told", self.visit(g.iter)), g.iter)
        return at(call("rows", self.visit(g.iter), *_unpacks(g)), g.iter)

    def _or_loop(self, node: ast.ListComp | ast.DictComp, name: str, loop: list[ast.expr]) -> Any:
        """A comprehension that may become a loop, which is for `name` to say."""
        first: Any = node.generators[0]
        over, first.iter = first.iter.args[0], at(call("rows", name_of("ag__all"), *_unpacks(first)), node)
        given = ast.arguments([], [ast.arg("ag__all")], None, [], [], None, [])
        plain = ast.Lambda(given, at(call("made", node), node))
        return at(call(name, over, plain, *loop), node)

    def _as_loop(self, node: ast.ListComp | ast.DictComp, made: ast.expr) -> list[ast.expr] | None:
        """The item of a row, and whether the row has one, as functions of the row."""
        (g, *more) = node.generators
        at_once = isinstance(node, (ast.ListComp, ast.DictComp)) or hasattr(node, "ag_at_once")
        at_once = at_once or hasattr(node, "ag_first")
        if more or g.is_async or not at_once or places_in(g.target):
            return None
        if any(_binds(n) or _sees_all(n) for n in ast.walk(node)):
            return None

        def of_row(x: ast.expr) -> ast.expr:
            each = ast.comprehension(copy.deepcopy(g.target), ast.Tuple([name_of("ag__row")], ast.Load()), [], 0)
            body = ast.Subscript(ast.ListComp(self.visit(copy.deepcopy(x)), [each]), ast.Constant(0), ast.Load())
            return ast.Lambda(ast.arguments([], [ast.arg("ag__row")], None, [], [], None, []), at(body, x))

        test: ast.expr = g.ifs[0] if len(g.ifs) == 1 else ast.BoolOp(ast.And(), [*g.ifs])
        keeps = of_row(at(test, g.ifs[0])) if g.ifs else ast.Constant(None)
        return [of_row(made), keeps]

    def visit_DictComp(self, node: ast.DictComp) -> Any:
        pair = at(ast.Tuple([node.key, node.value], ast.Load()), node.key)
        loop = self._as_loop(node, pair) if node.generators[0].ifs else None
        for g in node.generators:
            g.iter = self._rows(g)
            g.ifs = [at(call("filtered", self.visit(x)), x) for x in g.ifs]
        node.key, node.value = _as_key(self.visit(node.key)), self.visit(node.value)
        return at(call("made", node), node) if loop is None else self._or_loop(node, "chosen", loop)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        parts: list[ast.expr] = []
        for v in node.values:
            if isinstance(v, ast.FormattedValue):
                spec = self.visit(v.format_spec) if v.format_spec is not None else ast.Constant("")
                parts.append(call("formatted", self.visit(v.value), ast.Constant(v.conversion), spec))
            else:
                parts.append(v)
        return at(call("joined", *parts), node)


def _unpacks(g: ast.comprehension) -> list[ast.expr]:
    return [ast.Constant(True)] if is_row(g.target) else []


def _as_key(x: ast.expr) -> ast.expr:
    """What becomes a key of a dict or set."""
    plain = isinstance(x, (ast.Constant, ast.JoinedStr, ast.Starred))
    return x if plain else at(call("key", x), x)  # type: ignore[no-any-return]


def is_pythons(func: ast.expr) -> bool:
    """Whether a call asks Python for the variables where it stands, or is one of ours."""
    if not isinstance(func, ast.Name) or getattr(func, "ag_users", False):
        return False
    return func.id in NOT_CALLED or func.id.startswith("ag__")


def mark_users(tree: ast.AST, known: Container[str]) -> None:
    """Let the functions of the user's be known that have names as those of Python's."""
    for n in ast.walk(tree):
        if isinstance(n, ast.Name) and n.id in NOT_CALLED and n.id in known:
            n.ag_users = True  # type: ignore[attr-defined]


class _Seeing(ast.NodeTransformer):
    """Lets calls that ask for all variables mention them, so that functions made of branches and loops have them."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        asks = is_pythons(node.func) and node.func.id in _ASKING  # type: ignore[attr-defined]
        if not asks or node.keywords or len(node.args) > (node.func.id in ("eval", "exec")):  # type: ignore[attr-defined]
            return node
        made = at(ast.IfExp(ast.Constant(True), node, ast.Tuple([*map(name_of, self._names)], ast.Load())), node)
        made.ag_seen = True
        return made

    def _of_its_own(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _of_its_own
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _of_its_own


def seeing(body: Sequence[ast.stmt], names: Iterable[str]) -> list[ast.stmt]:
    """Statements of which those that ask for all variables, as `locals()` and `eval` do, have these."""
    if not any(_sees_all(n) for s in body for n in ast.walk(s)):
        return list(body)
    kind = _Seeing(sorted(n for n in names if not n.startswith(AG)))
    return [kind.visit(s) for s in body]


def _of_variables(node: Any, kind: str) -> Any:
    """A call that asks for all variables. The text of `eval` and `exec` is converted when it is known."""
    if kind in ("locals", "vars", "dir") and not node.args and not node.keywords:
        return at(call("variables", at(ast.Call(name_of("locals"), [], []), node), ast.Constant(kind)), node)
    if kind not in ("eval", "exec"):
        return node
    if len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred):
        node.args[0] = at(call("evaluated", node.args[0], ast.Constant(kind), globals_call()), node.args[0])
    elif kind == "exec":
        node.func = at(call("execute").func, node.func)
    else:
        node.func, node.args = at(call("evaluate").func, node.func), [name_of(AG), *node.args]
    return node


def _binds(n: ast.AST) -> bool:
    return isinstance(n, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom))


def _lambda_with(value: ast.expr) -> ast.Lambda:
    """A function that gives what the expression is where the function is made."""
    return ast.Lambda(ast.arguments([], [ast.arg("ag__x")], None, [], [], None, [value]), name_of("ag__x"))


def _sees_all(n: ast.AST) -> bool:
    """Whether it may ask for the variables of the function that it stands in."""
    return isinstance(n, ast.Name) and n.id in _ASKING


_ASKING = ("locals", "vars", "dir", "eval", "exec")
_SIGNS: dict[type, str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_OPERATORS: dict[type, str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
