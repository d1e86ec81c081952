"""Statements and expressions said in plainer ones before they are converted: `match`, and `:=` where it may not run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracejit.autograph.names import SCOPES
from tracejit.autograph.raises import handled
from tracejit.autograph.source import NotConverted
from tracejit.autograph.syntax import AG, at, call, name_of, set_

_SPECIAL = (ast.In, ast.NotIn, ast.Is, ast.IsNot)
_SIMPLE = (ast.Name, ast.Constant)


class Plainer:
    """The rewriting of one function's statements; functions that stand in it have their own."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{AG}{what}{self.count}"

    # --- statements ---------------------------------------------------------------------------------------------------
    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [t for s in body for t in self.statement(s)]

    def statement(self, s: ast.stmt) -> list[ast.stmt]:
        if isinstance(s, SCOPES):
            return [s]
        if isinstance(s, ast.Match):
            return self.match(s)
        if isinstance(s, ast.Assert) and not __debug__:
            return [at(ast.Pass(), s)]
        if isinstance(s, ast.While) and any(isinstance(n, ast.NamedExpr) for n in _own(s.test)):
            return self.asked_inside(s)
        s = item_assigned(s, self.fresh)
        before = self.asserted(s) if isinstance(s, ast.Assert) else self.headed(s)
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(s, field, None), list):
                setattr(s, field, self.block(getattr(s, field)))
        for h in getattr(s, "handlers", ()):
            h.body = self.block(h.body)
        return [*before, *handled(s, self.fresh)] if type(s) is ast.Try else [*before, s]

    def headed(self, s: ast.stmt) -> list[ast.stmt]:
        """What comes before a statement so that its own expression needs it no more."""
        out: list[ast.stmt] = []
        for field in ("test", "iter", "value"):
            x = getattr(s, field, None)
            if isinstance(x, ast.expr):
                before, x = self.lifted(x)
                out += before
                setattr(s, field, x)
        rest = [x for i in getattr(s, "items", ()) for x in (i.context_expr,)]
        rest += [x for f in ("exc", "msg", "target") if isinstance(x := getattr(s, f, None), ast.expr)]
        if any(map(_needs, [*rest, *getattr(s, "targets", ())])):
            raise self.refused()
        return [at(t, s) for t in out]

    def asserted(self, s: ast.Assert) -> list[ast.stmt]:
        """The condition of an `assert` is asked for in a function of its own, where `:=` would bind a name of that."""
        if not any(isinstance(n, ast.NamedExpr) for n in _own(s.test)):
            return []
        s.ag_text = ast.unparse(s.test)  # type: ignore[attr-defined]
        before, x = self.lifted(s.test)
        name = self.fresh("ok")
        s.test = at(name_of(name), s.test)
        return [at(t, s) for t in (*before, set_(name, x))]

    def asked_inside(self, s: ast.While) -> list[ast.stmt]:
        """A loop whose condition binds names, which are for its body to see."""
        before, x = self.lifted(s.test)
        over = self.fresh("over") if s.orelse else ""
        leave: list[ast.stmt] = [*([set_(over, ast.Constant(True))] if over else []), ast.Break()]
        first = [*before, ast.If(ast.UnaryOp(ast.Not(), x), leave, [])]
        loop = at(ast.While(ast.Constant(True), [*[at(t, s.test) for t in first], *self.block(s.body)], []), s)
        if not over:
            return [loop]
        end = ast.If(name_of(over), self.block(s.orelse), [])
        return [at(set_(over, ast.Constant(False)), s), loop, at(end, s)]

    # --- expressions --------------------------------------------------------------------------------------------------
    def expression(self, x: ast.expr) -> None:
        """Refuse an expression that cannot have statements before it."""
        if _needs(x):
            raise self.refused()

    def refused(self) -> NotConverted:
        return NotConverted(f"{self.name} has a `:=` that `and`, `or` or `if` may skip, which is not converted there")

    def lifted(self, x: ast.expr) -> tuple[list[ast.stmt], Any]:
        """Statements, and an expression after them in which nothing with a `:=` may be skipped."""
        if not _needs(x):
            return [], x
        if isinstance(x, ast.BoolOp):
            return self.joined(x)
        if isinstance(x, ast.IfExp):
            name = self.fresh("either")
            before, test = self.lifted(x.test)
            parts = [[*b, set_(name, v)] for b, v in (self.lifted(x.body), self.lifted(x.orelse))]
            return self.placed(x, [*before, ast.If(test, *parts)], name_of(name))
        if isinstance(x, ast.Compare):
            return self.compared(x)
        if isinstance(x, (ast.UnaryOp, ast.NamedExpr, ast.Attribute)):
            field = "operand" if isinstance(x, ast.UnaryOp) else "value"
            before, v = self.lifted(getattr(x, field))
            setattr(x, field, v)
            return before, x
        return self.in_order(x)

    def placed(self, x: ast.expr, before: Sequence[ast.stmt], value: ast.expr) -> tuple[list[ast.stmt], ast.expr]:
        return [at(s, x) for s in before], at(value, x)

    def joined(self, x: ast.BoolOp) -> tuple[list[ast.stmt], ast.expr]:
        name = self.fresh("and" if isinstance(x.op, ast.And) else "or")
        before, first = self.lifted(x.values[0])
        rest = x.values[1] if len(x.values) == 2 else at(ast.BoolOp(x.op, x.values[1:]), x)
        inner, last = self.lifted(rest)
        test: ast.expr = name_of(name) if isinstance(x.op, ast.And) else ast.UnaryOp(ast.Not(), name_of(name))
        made = [*before, set_(name, first), ast.If(test, [*inner, set_(name, last)], [])]
        return self.placed(x, made, name_of(name))

    def compared(self, x: ast.Compare) -> tuple[list[ast.stmt], ast.expr]:
        name, left = self.fresh("compared"), self.fresh("operand")
        before, first = self.lifted(x.left)
        out = inner = [*before, set_(left, first)]
        for i, (op, y) in enumerate(zip(x.ops, x.comparators, strict=True)):
            right = self.fresh("operand")
            again, value = self.lifted(y)
            inner += [*again, set_(right, value), set_(name, ast.Compare(name_of(left), [op], [name_of(right)]))]
            left = right
            if i + 1 < len(x.ops):
                deeper: list[ast.stmt] = []
                inner.append(ast.If(name_of(name), deeper, []))
                inner = deeper
        return self.placed(x, out, name_of(name))

    def in_order(self, x: ast.expr) -> tuple[list[ast.stmt], ast.expr]:
        """An expression whose operands are all evaluated: those before the last that needs it get names."""
        places = list(_operands(x))
        if not any(_needs(_at(*p)) for p in places):
            raise self.refused()
        out: list[ast.stmt] = []
        last = max(k for k, p in enumerate(places) if _needs(_at(*p)))
        for k, (o, f, i) in enumerate(places[: last + 1]):
            before, v = self.lifted(_at(o, f, i))
            out += before
            if k < last and not isinstance(v, _SIMPLE):
                name = self.fresh("operand")
                out.append(at(set_(name, v), x))
                v = at(name_of(name), v)
            if i is None:
                setattr(o, f, v)
            else:
                getattr(o, f)[i] = v
        return out, x

    # --- match --------------------------------------------------------------------------------------------------------
    def match(self, s: ast.Match) -> list[ast.stmt]:
        """A chain of `if`s, where patterns are values and names only; else the `match` as it is."""
        before, subject = self.lifted(s.subject)
        before = [at(t, s) for t in before]
        name = self.fresh("subject")
        found = [_pattern(c.pattern, functools.partial(name_of, name)) for c in s.cases]
        if any(f is None or (c.guard is not None and f[0] is not None and f[1]) for f, c in zip(found, s.cases)):
            if any(c.guard is not None and _needs(c.guard) for c in s.cases):
                raise self.refused()
            cases = [ast.match_case(c.pattern, c.guard, self.block(c.body)) for c in s.cases]
            return [*before, at(ast.Match(subject, cases), s)]
        out: list[ast.stmt] = [*before, at(set_(name, subject), s.subject)]
        block = out
        for c, f in zip(s.cases, found, strict=True):
            assert f is not None
            test, names = f
            bind = [at(set_(n, value()), c.pattern) for n, value in names]
            if c.guard is not None and test is not None:
                test = ast.BoolOp(ast.And(), [test, c.guard])
            elif c.guard is not None:
                block += bind
                bind, test = [], c.guard
            if test is None:
                block += [*bind, *self.block(c.body)]
                break
            more, test = self.lifted(at(test, c.pattern))
            rest: list[ast.stmt] = []
            block += [*more, at(ast.If(test, [*bind, *self.block(c.body)], rest), c.pattern)]
            block = rest
        return out


def item_assigned(s: ast.stmt, fresh: Callable[[str], str]) -> ast.stmt:
    """A statement that assigns to an item by `__setitem__` or as the target of a loop, with an assignment for that."""
    if isinstance(s, ast.Expr) and (assigned := _set_item(s.value)) is not None:
        return at(assigned, s)  # type: ignore[no-any-return]
    if isinstance(s, ast.For) and any(isinstance(n, ast.Subscript) for n in _own(s.target)):
        name = fresh("item")
        s.body.insert(0, at(ast.Assign([s.target], name_of(name)), s.target))
        s.target = at(name_of(name, True), s.target)
    return s


class ItemsAssigned(ast.NodeTransformer):
    """The same for all statements of a function, but for functions in it."""

    def __init__(self, body: Sequence[ast.stmt]) -> None:
        self.namer = Plainer("")
        self.body = [self.visit(s) for s in body]

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (*SCOPES, ast.expr)):
            return node
        return self.generic_visit(item_assigned(node, self.namer.fresh) if isinstance(node, ast.stmt) else node)


def _set_item(x: ast.expr) -> ast.stmt | None:
    """`x.__setitem__(key, value)` as the assignment that it is."""
    if not (isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute) and x.func.attr == "__setitem__"):
        return None
    if len(x.args) != 2 or x.keywords or any(isinstance(a, ast.Starred) for a in x.args):
        return None
    if isinstance(x.func.value, ast.Call):  # super().__setitem__
        return None
    key, value = x.args
    return ast.Assign([ast.Subscript(x.func.value, key, ast.Store())], value)


Subject = Callable[[], ast.expr]


def _pattern(p: ast.pattern, subject: Subject) -> tuple[ast.expr | None, list[tuple[str, Subject]]] | None:
    """What a pattern asks of the subject (None: nothing), and the names it binds; None for what stays a `match`."""
    if isinstance(p, ast.MatchValue):
        return ast.Compare(subject(), [ast.Eq()], [p.value]), []
    if isinstance(p, ast.MatchSingleton):
        return ast.Compare(subject(), [ast.Is()], [ast.Constant(p.value)]), []
    if isinstance(p, ast.MatchOr):
        found = [_pattern(q, subject) for q in p.patterns]
        if any(f is None or f[1] for f in found):
            return None
        tests = [f[0] for f in found if f is not None]
        return (None if any(t is None for t in tests) else ast.BoolOp(ast.Or(), tests)), []  # type: ignore[arg-type]
    if isinstance(p, ast.MatchAs):
        inner = (None, []) if p.pattern is None else _pattern(p.pattern, subject)
        return inner if inner is None or p.name is None else (inner[0], [*inner[1], (p.name, subject)])
    return _sequence(p, subject) if isinstance(p, ast.MatchSequence) else None


def _sequence(p: ast.MatchSequence, subject: Subject) -> tuple[ast.expr, list[tuple[str, Subject]]] | None:
    found = [_pattern(q, functools.partial(_item_of, subject, i)) for i, q in enumerate(p.patterns)]
    if any(f is None for f in found):
        return None
    every = [f for f in found if f is not None]
    test = call("is_sequence", subject(), ast.Constant(len(found)))
    tests = [t for t, _ in every if t is not None]
    return ast.BoolOp(ast.And(), [test, *tests]) if tests else test, [n for _, names in every for n in names]


def _item_of(subject: Subject, i: int) -> ast.expr:
    return ast.Subscript(subject(), ast.Constant(i), ast.Load())


def _own(x: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression that are evaluated with it."""
    yield x
    if not isinstance(x, SCOPES):
        for c in ast.iter_child_nodes(x):
            yield from _own(c)


def _needs(x: ast.AST) -> bool:
    """Whether there is a `:=` in a part of an expression that is not always evaluated, or has a function of its own."""
    return any(isinstance(m, ast.NamedExpr) for n in _own(x) for part in _apart(n) for m in _own(part))


def _apart(n: ast.AST) -> list[ast.expr]:
    if isinstance(n, ast.BoolOp):
        return n.values
    if isinstance(n, ast.IfExp):
        return [n.body, n.orelse]
    if isinstance(n, ast.Compare) and (len(n.ops) > 1 or isinstance(n.ops[0], _SPECIAL)):
        return n.comparators
    return []


def _operands(x: ast.expr) -> Iterator[tuple[Any, str, int | None]]:
    """Where the operands of an expression stand, in the order in which they are evaluated."""
    if isinstance(x, ast.BinOp):
        yield from ((x, "left", None), (x, "right", None))
    elif isinstance(x, ast.Call):
        yield x, "func", None
        yield from ((x, "args", i) for i in range(len(x.args)))
        yield from ((k, "value", None) for k in x.keywords)
    elif isinstance(x, (ast.Tuple, ast.List, ast.Set)):
        yield from ((x, "elts", i) for i in range(len(x.elts)))
    elif isinstance(x, ast.Subscript):
        yield from ((x, "value", None), (x, "slice", None))
    elif isinstance(x, (ast.Starred, ast.FormattedValue)):
        yield x, "value", None
    elif isinstance(x, ast.JoinedStr):
        yield from ((x, "values", i) for i in range(len(x.values)))


def _at(owner: Any, field: str, i: int | None) -> Any:
    return getattr(owner, field) if i is None else getattr(owner, field)[i]
