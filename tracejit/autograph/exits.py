"""return, break and continue rewritten as assignments: what follows them moves into branches, or behind flags."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tracejit.autograph.names import TRIES
from tracejit.autograph.syntax import at, call, lambda_of, name_of, set_

Block = ast.With | ast.Match | ast.Try | ast.TryStar
VALUE, RETURNED = "ag__value", "ag__returned"


class Exits:
    """The rewriting of one function. `flags` are the names it made."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.count = 0
        self.overridden: list[str] = []  # flags of a `try` that a `break` or `continue` in its `finally` takes back
        self.plain = False  # whether `return` stands at the end only, and may stay

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """A body whose only `return` stands at its end."""
        last = body[-1]
        ends = isinstance(last, ast.Return) or not leaves([last], ast.Return)
        self.plain = ends and not leaves(body[:-1], ast.Return)
        if not self.plain and not _always(body):
            body = [*body, at(ast.Return(ast.Constant(None)), last)]
        out, _ = self.block(body, None, True)
        if self.plain:
            return out
        return [*out, at(ast.Return(call("returned", name_of(VALUE))), last)]

    # --- blocks -------------------------------------------------------------------------------------------------------
    def block(self, body: Sequence[ast.stmt], loop: tuple[str, str] | None, tail: bool) -> tuple[list[ast.stmt], bool]:
        """The statements without exits, and whether control always leaves through one of them.

        `loop` are the flags of the innermost loop; `tail` says that the function ends where the block ends.
        """
        out: list[ast.stmt] = []
        for i, s in enumerate(body):
            rest = list(body[i + 1 :])
            if isinstance(s, ast.Return):
                if self.plain:
                    return [*out, s], True
                value = s.value or at(ast.Constant(None), s)
                out.append(at(set_(VALUE, value), s))
                if not tail:
                    out.append(at(set_(self.flag(RETURNED), ast.Constant(True)), s))
                return out, True
            if isinstance(s, (ast.Break, ast.Continue)) and loop is not None:
                name = loop[0] if isinstance(s, ast.Break) else loop[1]
                out += [at(set_(n, ast.Constant(False)), s) for n in self.overridden if n != name]
                if name:
                    out.append(at(set_(name, ast.Constant(True)), s))
                return out, True
            if isinstance(s, ast.If) and leaves([s], EXITS):
                made, always = self.branch(s, rest, loop, tail)
                return [*out, *made], always
            if isinstance(s, (ast.While, ast.For)):
                made, names = self.loop(s, loop)
                out += made
                if names and rest:
                    return [*out, *self.guarded(names, rest, loop, tail, s)], False
                continue
            if isinstance(s, ast.If):  # loops in it have exits of their own
                then, _ = self.block(s.body, loop, False)
                orelse, _ = self.block(s.orelse, loop, False)
                out.append(at(ast.If(s.test, then, orelse), s))
                continue
            if isinstance(s, (ast.With, ast.Match, *TRIES)):
                one, names = self.inside(s, loop)
                out.append(one)
                if rest and names:
                    return [*out, *self.guarded(names, rest, loop, tail, s)], False
                continue
            out.append(s)
        return out, False

    def branch(
        self, s: ast.If, rest: list[ast.stmt], loop: tuple[str, str] | None, tail: bool
    ) -> tuple[list[ast.stmt], bool]:
        """An `if` with exits: what follows goes to the branch that does not leave."""
        then_leaves, else_leaves = _always(s.body), _always(s.orelse)
        if then_leaves or else_leaves or not rest:
            then, a = self.block(s.body if then_leaves or not rest else [*s.body, *rest], loop, tail)
            orelse, b = self.block(s.orelse if else_leaves or not rest else [*s.orelse, *rest], loop, tail)
            new = at(ast.If(s.test, then or [at(ast.Pass(), s)], orelse), s)
            new.ag_uneven = loop is not None
            return [new], a and b
        names = self.names_of([s], loop)
        then, _ = self.block(s.body, loop, False)
        orelse, _ = self.block(s.orelse, loop, False)
        new = at(ast.If(s.test, then or [at(ast.Pass(), s)], orelse), s)
        return [new, *self.guarded(names, rest, loop, tail, s)], False

    def guarded(
        self, names: Sequence[str], rest: list[ast.stmt], loop: tuple[str, str] | None, tail: bool, s: ast.stmt
    ) -> list[ast.stmt]:
        """`rest`, unless one of the flags is set."""
        for n in names:
            self.flag(n)
        body, _ = self.block(rest, loop, tail)
        return [at(ast.If(_unless(names), body or [ast.Pass()], []), s)]

    def names_of(self, body: Sequence[ast.AST], loop: tuple[str, str] | None) -> list[str]:
        """The flags that these statements may set."""
        names = [RETURNED] if leaves(body, ast.Return) else []
        if loop is not None:
            names += [loop[0]] if loop[0] and leaves(body, ast.Break) else []
            names += [loop[1]] if loop[1] and leaves(body, ast.Continue) else []
        return names

    def flag(self, name: str) -> str:
        if name not in self.flags:
            self.flags.append(name)
        return name

    def inside(self, s: Block, loop: tuple[str, str] | None) -> tuple[ast.stmt, list[str]]:
        names = self.names_of([s], loop)
        if isinstance(s, ast.Match):
            cases = [
                ast.match_case(c.pattern, c.guard, self.block(c.body, loop, False)[0] or [at(ast.Pass(), s)])
                for c in s.cases
            ]
            return at(ast.Match(s.subject, cases), s), names
        if isinstance(s, ast.With):
            return at(ast.With(s.items, self.block(s.body, loop, False)[0]), s), names
        handlers = [
            at(ast.ExceptHandler(h.type, h.name, self.block(h.body, loop, False)[0] or [ast.Pass()]), h)
            for h in s.handlers
        ]
        left = self.names_of(s.body, loop)
        parts = [self.block(p, loop, False)[0] for p in (s.body, () if left else s.orelse)]
        before: list[ast.AST] = [*s.body, *s.orelse, *s.handlers]
        around, self.overridden = self.overridden, self.names_of(before, loop)
        parts.append(self.block(s.finalbody, loop, False)[0])
        self.overridden = around
        if left and s.orelse:  # which an exit in the body passes over
            parts[1] = self.guarded(left, s.orelse, loop, False, s)
        made = at(type(s)(parts[0] or [ast.Pass()], handlers, parts[1], parts[2]), s)
        ends = [self.flag(n) for n in self.names_of(s.finalbody, loop)]
        if not ends:
            return made, names
        asked = lambda_of(ast.Tuple([name_of(n) for n in ends], ast.Load()))
        return at(ast.With([ast.withitem(call("leaving", asked))], [made]), s), names

    # --- loops --------------------------------------------------------------------------------------------------------
    def loop(self, s: ast.While | ast.For, outer: tuple[str, str] | None) -> tuple[list[ast.stmt], list[str]]:
        """A loop without exits, whose flags stand in its attribute `ag_stop`, and the flags that end more than it."""
        self.count += 1
        breaks, returns = leaves(s.body, ast.Break), leaves(s.body, ast.Return)
        continues = leaves(s.body, ast.Continue)
        stop = f"ag__break{self.count}" if breaks else ""
        skip = f"ag__continue{self.count}" if continues else ""
        around, self.overridden = self.overridden, []
        body, _ = self.block(s.body, (stop, skip), False)
        self.overridden = around
        before: list[ast.stmt] = []
        if skip:
            body = [at(set_(self.flag(skip), ast.Constant(False)), s), *body]
        if stop:
            before.append(at(set_(self.flag(stop), ast.Constant(False)), s))
        if returns:
            self.flag(RETURNED)
        body = body or [at(ast.Pass(), s)]
        if isinstance(s, ast.While):
            new: ast.While | ast.For = at(ast.While(s.test, body, []), s)
        else:
            new = at(ast.For(s.target, s.iter, body, []), s)
        stops = [n for n in (stop, RETURNED if returns else "") if n]
        new.ag_stop = stops  # type: ignore[union-attr]
        out = [*before, new]
        names = [RETURNED] if returns else []
        if s.orelse:
            orelse, _ = self.block(s.orelse, outer, False)
            out += [at(ast.If(_unless(stops), orelse or [at(ast.Pass(), s)], []), s)] if stops else orelse
            names += [n for n in self.names_of(s.orelse, outer) if n not in names]
        return out, names


EXITS = (ast.Return, ast.Break, ast.Continue)


def leaves(body: Sequence[ast.AST], kinds: type | tuple[type, ...]) -> bool:
    """Whether such an exit stands in the statements: `break` and `continue` of loops further in do not count."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    for s in body:
        if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(s, kinds):
            return True
        if isinstance(s, (ast.While, ast.For)):
            if ast.Return in kinds and leaves(s.body, ast.Return):
                return True
            if leaves(s.orelse, kinds):
                return True
            continue
        if leaves(list(ast.iter_child_nodes(s)), kinds):
            return True
    return False


def _always(body: Sequence[ast.stmt]) -> bool:
    """Whether control cannot reach the end of these statements."""
    for s in body:
        if isinstance(s, (*EXITS, ast.Raise)):
            return True
        if isinstance(s, ast.If) and s.orelse and _always(s.body) and _always(s.orelse):
            return True
        if isinstance(s, ast.With) and _always(s.body):
            return True
        if isinstance(s, TRIES):
            if _always(s.finalbody) or all(map(_always, (s.body, *[h.body for h in s.handlers]))):
                return True
        if isinstance(s, (ast.For, ast.While)) and not leaves(s.body, ast.Break):
            endless = isinstance(s, ast.While) and isinstance(s.test, ast.Constant) and bool(s.test.value)
            if endless or _always(s.orelse):
                return True
        if isinstance(s, ast.Match) and _is_any(s.cases[-1]) and all(_always(c.body) for c in s.cases):
            return True
    return False


def _is_any(c: ast.match_case) -> bool:
    """Whether a case takes whatever the ones before it leave."""
    return c.guard is None and isinstance(c.pattern, ast.MatchAs) and c.pattern.pattern is None


def _unless(names: Sequence[str]) -> ast.expr:
    return call("none_of", *[name_of(n) for n in names])
