"""The rewriting of one function: its control flow as calls of `operators`, on the lines where it stood."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Sequence
from typing import Any

from tracejit.autograph.assignments import Assignments
from tracejit.autograph.exits import VALUE, Exits
from tracejit.autograph.names import Liveness, captured, declared, unset_somewhere, written
from tracejit.autograph.plainer import Plainer
from tracejit.autograph.syntax import (
    AG,
    BINARY,
    at,
    call,
    define,
    is_call,
    is_generator,
    item,
    lambda_of,
    name_of,
    params_of,
    set_,
    set_target,
    whole_of,
)  # fmt: skip

NOT_CALLED = {
    "super", "locals", "globals", "vars", "eval", "exec", "dir", "issubclass",
}  # fmt: skip
MUTATORS = {
    "append", "extend", "insert", "pop", "update", "clear", "remove", "setdefault", "popitem", "reverse", "sort", "add",
    "discard", "get", "appendleft", "extendleft", "popleft", "rotate", "move_to_end", "subtract", "difference_update",
    "intersection_update", "symmetric_difference_update",
}  # fmt: skip

AT_ONCE = {"list", "max", "min", "sorted", "stack", "sum", "tuple"}  # which go through all of a generator expression


class Converter(Assignments):
    """Rewrites the body of one function."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.generator = False  # whether what has a `yield` or an exit in it stays Python's
        self.first = ""  # the first parameter, which `super()` takes
        self.live: Liveness
        self.needed: set[str] = set()  # names of the states of constructs in the function being made
        self.risky: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.locals: set[str] = set()

    # --- functions ----------------------------------------------------------------------------------------------------
    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        body = list(node.body)
        self.globals, self.nonlocals = declared(body)
        params = params_of(node.args)
        named = [*node.args.posonlyargs, *node.args.args]
        self.first = named[0].arg if named else ""
        exits = Exits()
        self.generator = is_generator(node)
        if self.generator:
            exits.plain = True
        else:
            body = exits.function(Plainer(node.name).block(body))
        self.locals = (written(body) | params) - self.globals - self.nonlocals
        self.live = Liveness(body, captured(body) | ({VALUE} if not exits.plain else set()))
        self.risky = {n for n in unset_somewhere(body, params) if not n.startswith(AG)}
        made = self.block(body)
        first: list[ast.stmt] = []
        if not exits.plain:
            first.append(set_(VALUE, call("undefined", ast.Constant("the value returned"))))
        first += [set_(n, ast.Constant(False)) for n in exits.flags]
        names = sorted((self.needed & self.locals) - params - {VALUE} - set(exits.flags))
        first += [set_(n, call("undefined", ast.Constant(n))) for n in names]
        doc = made[:1] if ast.get_docstring(node, clean=False) is not None else []
        new = ast.FunctionDef(
            node.name, node.args, [*doc, *[at(s, node.body[0]) for s in first], *made[len(doc) :]], [], None
        )
        if sys.version_info >= (3, 12):
            new.type_params = []
        return at(new, node)

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for s in body:
            made = self.visit(s)
            out += made if isinstance(made, list) else [made]
        return out

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        inner = Converter(node.name)
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        made = inner.function(node)
        made.decorator_list = [*node.decorator_list, at(ast.Attribute(name_of(AG), "converted", ast.Load()), node)]
        made.args.defaults = [self.visit(d) for d in made.args.defaults]
        made.args.kw_defaults = [self.visit(d) if d is not None else None for d in made.args.kw_defaults]
        return made

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        Plainer("<lambda>").expression(node.body)
        inner = Converter("<lambda>")
        inner.locals = params_of(node.args)
        return at(ast.Lambda(node.args, inner.visit(node.body)), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """A class in a function: its methods are functions of their own."""
        body: list[Any] = [self.visit_FunctionDef(s) if isinstance(s, ast.FunctionDef) else s for s in node.body]
        node.body = body
        return node

    # --- state --------------------------------------------------------------------------------------------------------
    def _state(self, body: Sequence[ast.stmt], wanted: set[str], node: ast.stmt) -> tuple[list[str], list[ast.stmt]]:
        """Names of the state, and the functions that get and set it."""
        names = sorted(written(body) & wanted - self.globals - self.nonlocals)
        self.needed |= set(names)
        self.count += 1
        k = self.count
        get = define(f"ag__get{k}", [], [ast.Return(ast.Tuple([name_of(n) for n in names], ast.Load()))])
        new = "ag__new"
        sets: list[ast.stmt] = [*self._outer(names), *[set_(n, item(new, i)) for i, n in enumerate(names)]]
        put = define(f"ag__set{k}", [new], sets or [ast.Pass()])
        return names, [at(get, node), at(put, node)]

    def _outer(self, names: Sequence[str]) -> list[ast.stmt]:
        """How a function made here reaches the names of the function around it."""
        g = [n for n in names if n in self.globals]
        n = [n for n in names if n not in self.globals]
        out: list[ast.stmt] = [ast.Global(g)] if g else []
        return [*out, ast.Nonlocal(n)] if n else out

    def _part(
        self, name: str, state: Sequence[str], body: Sequence[ast.stmt], node: ast.AST, args: Sequence[str] = (),
        first: Sequence[ast.stmt] = (),
    ) -> ast.FunctionDef:  # fmt: skip
        """Statements as a function that shares the names of the state with the function around it."""
        before, self.needed = self.needed, set()
        made = self.block(body)
        names = [*state, *sorted(written(body) & (self.globals | self.nonlocals))]
        own = sorted((self.needed & self.locals) - set(names))
        self.needed = before | (self.needed - set(own))
        unset = [set_(n, call("undefined", ast.Constant(n))) for n in own]
        return at(define(name, list(args), [*self._outer(names), *unset, *first, *(made or [ast.Pass()])]), node)

    def _names(self, shown: Sequence[str], body: Sequence[ast.AST]) -> ast.expr:
        """The names of the state, each with the line where these statements set it."""
        lines: dict[str, int] = {}
        for n in (n for s in reversed(body) for n in reversed(list(ast.walk(s)))):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                lines[n.id] = n.lineno
        given = [ast.Tuple([ast.Constant(n), ast.Constant(lines.get(n, 0))], ast.Load()) for n in shown]
        return call("names", *given)

    # --- statements ---------------------------------------------------------------------------------------------------
    def _stays(self, node: ast.If | ast.While | ast.For) -> Any:
        """In a generator, a statement that cannot be a function of its own as Python's; None for all others."""
        exits = (ast.Yield, ast.YieldFrom, ast.Return, ast.Break, ast.Continue)
        if not self.generator or not any(isinstance(n, exits) for n in ast.walk(node)):
            return None
        if isinstance(node, ast.For):
            node.iter = at(call("rows", self.visit(node.iter)), node.iter)
        else:
            node.test = at(call("decided", self.visit(node.test)), node.test)
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        return node

    def visit_If(self, node: ast.If) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        after = self.live.after.get(node, set())
        state, made = self._state([*node.body, *node.orelse], after | self.live.entry.get(node, set()), node)
        shown = self._names(state, [*node.body, *node.orelse])
        test = self.visit(node.test)
        k = self.count
        then = self._part(f"ag__then{k}", state, node.body, node)
        orelse = self._part(f"ag__else{k}", state, node.orelse, node)
        dead = [n for n in state if n in self.locals and n not in after]
        made_call = call(
            "if_", test, name_of(then.name), name_of(orelse.name), name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown, ast.Tuple([ast.Constant(n) for n in dead], ast.Load()),
        )  # fmt: skip
        return [*made, then, orelse, at(ast.Expr(made_call), node.test)]

    def visit_While(self, node: ast.While) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        wanted = self.live.after.get(node, set()) | self.live.entry.get(node, set())
        state, made = self._state(node.body, wanted, node)
        k, shown = self.count, self._names(state, node.body)
        stops = getattr(node, "ag_stop", [])
        test: ast.expr = self.visit(node.test)
        if stops:
            test = call("and_", lambda_of(call("none_of", *[name_of(n) for n in stops])), lambda_of(test))
        check = at(define(f"ag__test{k}", [], [ast.Return(test)]), node.test)
        body = self._part(f"ag__body{k}", state, node.body, node)
        made_call = call(
            "while_", name_of(check.name), name_of(body.name), name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown,
        )  # fmt: skip
        return [*made, check, body, at(ast.Expr(made_call), node.test)]

    def visit_For(self, node: ast.For) -> Any:
        if (stays := self._stays(node)) is not None:
            return stays
        wanted = self.live.after.get(node, set()) | self.live.entry.get(node, set())
        state, made = self._state([*node.body, set_target(node.target)], wanted, node)
        k, shown = self.count, self._names(state, node.body)
        stops = getattr(node, "ag_stop", [])
        row = "ag__row"
        assign = at(ast.Assign([node.target], name_of(row)), node.target)
        body = self._part(f"ag__body{k}", state, node.body, node, [row], [assign])
        more: ast.expr = ast.Constant(None)
        if stops:
            goes_on = ast.Return(call("none_of", *[name_of(n) for n in stops]))
            made.append(at(define(f"ag__more{k}", [], [goes_on]), node))
            more = name_of(f"ag__more{k}")
        made_call = call(
            "for_", self.visit(node.iter), name_of(body.name), more, name_of(f"ag__get{k}"), name_of(f"ag__set{k}"),
            shown,
        )  # fmt: skip
        return [*made, body, at(ast.Expr(made_call), node.iter)]

    def visit_Delete(self, node: ast.Delete) -> Any:
        """A variable that is deleted has no value, which branches and loops can carry."""
        own = {t.id for t in node.targets if isinstance(t, ast.Name)} & self.locals
        gone = [at(set_(n, call("undefined", ast.Constant(n))), node) for n in sorted(own)]
        node.targets = [t for t in node.targets if not (isinstance(t, ast.Name) and t.id in own)]
        if not node.targets:
            return gone
        made = self._noted(node, node.targets)
        return [*gone, *(made if isinstance(made, list) else [made])]

    def visit_Return(self, node: ast.Return) -> Any:
        if node.value is None or is_call(node.value, "returned"):
            return node
        return at(ast.Return(call("returned", self.visit(node.value))), node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        self.generic_visit(node)
        if node.exc is not None:
            node.exc = at(call("raised", node.exc), node.exc)
        return node

    def visit_Match(self, node: ast.Match) -> Any:
        """Patterns are no expressions: the names in them stay as they are."""
        node.subject = self.visit(node.subject)
        for c in node.cases:
            c.guard = c.guard and self.visit(c.guard)
            c.body = self.block(c.body)
        return node

    def visit_Try(self, node: ast.Try) -> Any:
        kinds = [h.type or name_of("BaseException") for h in node.handlers]
        if node.finalbody:
            kinds = [name_of("BaseException")]
        tried = at(call("catching", lambda_of(ast.Tuple([*map(copy.deepcopy, kinds)], ast.Load()))), node)
        handlers = [
            at(ast.ExceptHandler(h.type and self.visit(h.type), h.name, self.block(h.body)), h) for h in node.handlers
        ]
        body = [at(ast.With([ast.withitem(tried)], self.block(node.body)), node)]
        if handlers:
            passing = ast.ExceptHandler(ast.Attribute(name_of(AG), "NOT_CAUGHT", ast.Load()), None, [ast.Raise()])
            handlers.insert(0, at(passing, node))
        last = self.block(node.finalbody)
        if last:
            last = [at(ast.If(ast.UnaryOp(ast.Not(), call("abandoned")), last, []), node)]
        return at(ast.Try(body, handlers, self.block(node.orelse), last), node)

    def visit_With(self, node: ast.With) -> Any:
        for i in node.items:
            i.context_expr = at(call("entered", self.visit(i.context_expr)), i.context_expr)
            i.optional_vars = i.optional_vars and self.visit(i.optional_vars)
        node.body = self.block(node.body)
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        message = lambda_of(self.visit(node.msg)) if node.msg is not None else ast.Constant(None)
        text = ast.Constant(getattr(node, "ag_text", "") or ast.unparse(node.test))
        if node.msg is not None:
            text = ast.Constant(str(node.msg.value) if isinstance(node.msg, ast.Constant) else "")
        return at(ast.Expr(call("assert_", lambda_of(self.visit(node.test)), message, text)), node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        node.value.ag_unused = True  # type: ignore[attr-defined]
        return at(ast.Expr(self.visit(node.value)), node)

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
        node.values = [v if k is not None else at(call("whole", v), v) for k, v in zip(node.keys, node.values)]
        return at(call("made", node), node)

    def visit_List(self, node: ast.List) -> Any:
        self.generic_visit(node)
        return at(call("made", node), node) if isinstance(getattr(node, "ctx", ast.Load()), ast.Load) else node

    visit_Set = visit_List  # type: ignore[assignment]

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        parts = [lambda_of(self.visit(x)) for x in (node.body, node.orelse)]
        return at(call("if_exp", self.visit(node.test), *parts), node)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        name = "and_" if isinstance(node.op, ast.And) else "or_"
        return at(call(name, *[lambda_of(self.visit(v)) for v in node.values]), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return at(call("not_", self.visit(node.operand)), node)
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
        return at(call("compare", names, first, *[lambda_of(x) for x in rest]), node)

    def visit_Call(self, node: ast.Call) -> Any:
        if getattr(node.func, "id", getattr(node.func, "attr", "")) in AT_ONCE:
            for a in node.args[:1]:
                a.ag_at_once = True  # type: ignore[attr-defined]
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.first:
            return at(ast.Call(node.func, [name_of("__class__"), name_of(self.first)], []), node)
        if isinstance(node.func, ast.Name) and (node.func.id in NOT_CALLED or node.func.id.startswith("ag__")):
            if not (node.func.id == "vars" and node.args):
                return self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == AG:
            node.args = [self.visit(a) for a in node.args]
            return node
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            unused = [ast.Constant(True)] if getattr(node, "ag_unused", False) else []
            owner = self.visit(node.func.value)
            func = at(call("method", owner, ast.Constant(node.func.attr), *unused), node.func)
        else:
            func = at(call("called", self.visit(node.func)), node.func)
        args = [self.visit(a) for a in node.args]
        words = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        for k in words:
            if k.arg is None:
                k.value = at(call("whole", k.value), k.value)
        return at(ast.Call(func, args, words), node)

    def visit_ListComp(self, node: ast.ListComp) -> Any:
        loop = self._as_loop(node)
        for g in node.generators:
            g.ifs = [at(call("filtered", self.visit(x)), x) for x in g.ifs]
        node.elt = self.visit(node.elt)
        for g in node.generators:
            g.iter = at(call("rows", self.visit(g.iter)), g.iter)
        if loop is None:
            return at(call("made", node), node)
        first: Any = node.generators[0]
        over, first.iter = first.iter.args[0], at(call("rows", name_of("ag__all")), node)
        given = ast.arguments([], [ast.arg("ag__all")], None, [], [], None, [])
        plain = ast.Lambda(given, at(call("made", node), node))
        return at(call("comprehended", over, plain, *loop), node)

    visit_GeneratorExp = visit_SetComp = visit_ListComp  # type: ignore[assignment]

    def _as_loop(self, node: ast.ListComp) -> list[ast.expr] | None:
        """The item of a row, and whether the row has one, as functions of the row."""
        (g, *more) = node.generators
        at_once = isinstance(node, ast.ListComp) or hasattr(node, "ag_at_once")
        if more or g.is_async or not at_once or any(_binds(n) for n in ast.walk(node)):
            return None

        def of_row(x: ast.expr) -> ast.expr:
            each = ast.comprehension(copy.deepcopy(g.target), ast.Tuple([name_of("ag__row")], ast.Load()), [], 0)
            body = ast.Subscript(ast.ListComp(self.visit(copy.deepcopy(x)), [each]), ast.Constant(0), ast.Load())
            return ast.Lambda(ast.arguments([], [ast.arg("ag__row")], None, [], [], None, []), at(body, x))

        test: ast.expr = g.ifs[0] if len(g.ifs) == 1 else ast.BoolOp(ast.And(), [*g.ifs])
        keeps = of_row(at(test, g.ifs[0])) if g.ifs else ast.Constant(None)
        return [of_row(node.elt), keeps]

    def visit_DictComp(self, node: ast.DictComp) -> Any:
        for g in node.generators:
            g.iter = at(call("rows", self.visit(g.iter)), g.iter)
            g.ifs = [self.visit(x) for x in g.ifs]
        node.key, node.value = self.visit(node.key), self.visit(node.value)
        return at(call("made", node), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        parts: list[ast.expr] = []
        for v in node.values:
            if isinstance(v, ast.FormattedValue):
                spec = self.visit(v.format_spec) if v.format_spec is not None else ast.Constant("")
                parts.append(call("formatted", self.visit(v.value), ast.Constant(v.conversion), spec))
            else:
                parts.append(v)
        return at(call("joined", *parts), node)



def _binds(n: ast.AST) -> bool:
    return isinstance(n, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom))


_SIGNS: dict[type, str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_OPERATORS: dict[type, str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip

