"""Which names a piece of Python reads and writes, and which are still needed after it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
TRIES = (ast.Try, ast.TryStar)


def _own(node: ast.AST) -> Iterable[ast.AST]:
    """The nodes under `node` that belong to the scope in which it stands, itself included."""
    yield node
    if not isinstance(node, SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def written(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that these statements bind in their own scope."""
    out: set[str] = set()
    for top in nodes:
        hidden = {
            n.id for c in _own(top) if isinstance(c, COMPREHENSIONS) for g in c.generators for n in ast.walk(g.target)
            if isinstance(n, ast.Name)
        }  # fmt: skip
        for n in _own(top):
            if isinstance(n, ast.Name) and isinstance(n.ctx, (ast.Store, ast.Del)):
                if n.id not in hidden or _bound_outside(top, n):
                    out.add(n.id)
            elif isinstance(n, (*FUNCTIONS, ast.ClassDef)):
                out.add(n.name)
            elif isinstance(n, ast.ExceptHandler) and n.name:
                out.add(n.name)
            elif isinstance(n, ast.alias):
                out.add((n.asname or n.name).split(".")[0])
            elif isinstance(n, (ast.MatchAs, ast.MatchStar)) and n.name:
                out.add(n.name)
    return out


def _bound_outside(top: ast.AST, name: ast.Name) -> bool:
    """Whether this binding is not the target of a comprehension."""
    for c in _own(top):
        if isinstance(c, COMPREHENSIONS):
            for g in c.generators:
                if any(n is name for n in ast.walk(g.target)):
                    return False
    return True


def stored(nodes: Sequence[ast.AST]) -> set[str]:
    """Names whose items these statements assign in their own scope: a tensor's name gets a new tensor then."""
    out: set[str] = set()
    for n in (n for top in nodes for n in _own(top)):
        if isinstance(n, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = n.targets if isinstance(n, ast.Assign) else [n.target]
            out |= {base for t in targets for x in _leaves(t) if (base := _base(x))}
    return out


def _leaves(t: ast.expr) -> list[ast.expr]:
    if isinstance(t, (ast.Tuple, ast.List)):
        return [x for y in t.elts for x in _leaves(y)]
    return _leaves(t.value) if isinstance(t, ast.Starred) else [t]


def _base(t: ast.expr) -> str:
    """The name in front of the brackets of an item; "" if there is anything else."""
    x = t
    while isinstance(x, ast.Subscript):
        x = x.value
    return x.id if isinstance(x, ast.Name) and x is not t else ""


def read(node: ast.AST) -> set[str]:
    """Names that are read anywhere under a node, those of functions defined in it included."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} | {
        n.target.id for n in ast.walk(node) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    }


def captured(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that functions defined in these statements may read at any time."""
    out: set[str] = set()
    for top in nodes:
        for n in ast.walk(top):
            if isinstance(n, SCOPES):
                out |= read(n)
    return out


def declared(nodes: Sequence[ast.AST]) -> tuple[set[str], set[str]]:
    """Names declared global, and nonlocal, in a function's own scope."""
    g: set[str] = set()
    n: set[str] = set()
    for top in nodes:
        for x in _own(top):
            if isinstance(x, ast.Global):
                g |= set(x.names)
            elif isinstance(x, ast.Nonlocal):
                n |= set(x.names)
    return g, n


def params_of(a: ast.arguments) -> set[str]:
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *[x for x in (a.vararg, a.kwarg) if x is not None]]
    return {x.arg for x in every}


def rebound(nodes: Sequence[ast.AST]) -> set[str]:
    """Names around these statements that functions defined in them assign, at any depth."""
    out: set[str] = set()
    for f in (n for top in nodes for n in _own(top) if isinstance(n, (*FUNCTIONS, ast.ClassDef))):
        own = declared(f.body)
        out |= own[1]
        hidden = set() if isinstance(f, ast.ClassDef) else (written(f.body) | params_of(f.args)) - own[0] - own[1]
        out |= rebound(f.body) - hidden
    return out


def _read_after_calls(node: ast.AST) -> set[str]:
    """Names that an expression reads after a call to which it has given them."""
    loads = [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    if len({n.id for n in loads}) == len(loads):
        return set()
    others = [(set(ast.walk(e.body)), {*ast.walk(e.test), *ast.walk(e.orelse)}) for e in ast.walk(node)
              if isinstance(e, ast.IfExp)]  # fmt: skip
    out: set[str] = set()
    for c in ast.walk(node):
        if isinstance(c, ast.Call):
            given, end = read(c), (c.end_lineno or 0, c.end_col_offset or 0)
            later = [n for n in loads if n.id in given and (n.lineno, n.col_offset) >= end]
            out |= {n.id for n in later if not any(c in body and n in rest for body, rest in others)}
    return out


class Liveness:
    """For each `if` and loop of a function, the names that are read after it.

    `after[node]` are those needed once the node is done; `entry[node]` those needed when a branch, or a step, begins.
    `held[node]` are those needed after a plain statement, or after a condition, and those that it reads after it
    has handed them to a call.
    """

    def __init__(self, body: Sequence[ast.stmt], always: set[str]) -> None:
        self.after: dict[ast.AST, set[str]] = {}
        self.entry: dict[ast.AST, set[str]] = {}
        self.held: dict[ast.AST, set[str]] = {}
        self.always = always
        self.block(body, set(always))

    def block(self, body: Sequence[ast.stmt], after: set[str]) -> set[str]:
        live = set(after)
        for s in reversed(body):
            live = self.statement(s, live)
        return live

    def statement(self, s: ast.stmt, after: set[str]) -> set[str]:
        if isinstance(s, ast.If):
            self.after[s] = self.after.get(s, set()) | after
            inside = self.block(s.body, after) | self.block(s.orelse, after)
            self.entry[s] = self.entry.get(s, set()) | inside
            self._hold(s.test, inside)
            return read(s.test) | inside
        if isinstance(s, (ast.While, ast.For)):
            return self.loop(s, after)
        if isinstance(s, (ast.Return, ast.Raise)):
            self._hold(s, self.always)
            return read(s) | self.always
        if isinstance(s, (ast.With, ast.AsyncWith)):
            live = self.block(s.body, after)
            for i in reversed(s.items):  # `as name` sets it in each step anew
                bound = i.optional_vars
                self._hold(i.context_expr, live)
                live = live - ({bound.id} if isinstance(bound, ast.Name) else set()) | read(i.context_expr)
                live |= read(bound) if bound is not None else set()
            return live
        if isinstance(s, TRIES):
            end = self.block(s.finalbody, after)
            live = self.block(s.orelse, end)
            for h in reversed(s.handlers):  # after one `except*` others may follow
                live |= self.block(h.body, end | live if isinstance(s, ast.TryStar) else end) - {h.name or ""}
            return live | self.block(s.body, live | end) | end
        if isinstance(s, ast.Match):
            inside = after | {x for c in s.cases for x in self.block(c.body, after)}
            self._hold(s.subject, inside)
            return read(s.subject) | inside
        if not isinstance(s, SCOPES):
            self._hold(s, after - self._killed(s))
        gone = written([s]) if isinstance(s, ast.Delete) else set()  # which have to have a value
        return (after - self._killed(s)) | read(s) | gone

    def _hold(self, node: ast.AST, names: set[str]) -> None:
        self.held[node] = self.held.get(node, set()) | names | _read_after_calls(node)

    def lines(self) -> list[tuple[int, int, frozenset[str]]]:
        """The first and the last line of each plain statement or condition, with the names that are needed after it."""
        return [(n.lineno, n.end_lineno or n.lineno, frozenset(names)) for n, names in self.held.items()]  # type: ignore[attr-defined]

    def _killed(self, s: ast.stmt) -> set[str]:
        return written([s]) if isinstance(s, (ast.Assign, ast.AnnAssign, *FUNCTIONS)) else set()

    def loop(self, s: ast.While | ast.For, after: set[str]) -> set[str]:
        test = read(s.test) if isinstance(s, ast.While) else set()
        test |= set(getattr(s, "ag_stop", ()))
        target = written([s.target]) if isinstance(s, ast.For) else set()
        out = after | test | self.block(s.orelse, after)
        self.after[s] = self.after.get(s, set()) | out
        live = set(out)
        for _ in range(2):
            live = out | (self.block(s.body, live) - target)
        self.entry[s] = self.entry.get(s, set()) | live
        self._hold(s.iter if isinstance(s, ast.For) else s.test, live)
        return live | (read(s.iter) if isinstance(s, ast.For) else set())


def unset_somewhere(body: Sequence[ast.stmt], params: set[str]) -> set[str]:
    """Names that some path leaves without a value, as far as branches and loops go."""
    risky: set[str] = set()
    _definite(body, set(params), risky)
    return risky


def _definite(body: Sequence[ast.stmt], known: set[str], risky: set[str]) -> set[str]:
    for s in body:
        if isinstance(s, ast.If):
            a, b = _definite(s.body, set(known), risky), _definite(s.orelse, set(known), risky)
            risky |= (a ^ b) - known
            known = known | (a & b)
        elif isinstance(s, (ast.While, ast.For)):
            own = written([s.target]) if isinstance(s, ast.For) else set()
            inner = _definite(s.body, known | own, risky)
            risky |= inner - known
        elif isinstance(s, TRIES):
            parts = [_definite(p, set(known), risky) for p in (s.body, *[h.body for h in s.handlers], s.orelse)]
            for p in parts:
                risky |= p - known
            known = _definite(s.finalbody, known, risky)
        elif isinstance(s, (ast.With, ast.AsyncWith)):
            known = _definite(s.body, known | written(list(s.items)), risky)
        elif isinstance(s, ast.Match):
            ends = [_definite(c.body, known | written([c.pattern]), risky) for c in s.cases]
            if not any(isinstance(c.pattern, ast.MatchAs) and not c.pattern.pattern and not c.guard for c in s.cases):
                ends.append(known)
            known = set.intersection(*ends)
            risky |= set.union(*ends) - known
        elif isinstance(s, ast.Delete):
            gone = {t.id for t in s.targets if isinstance(t, ast.Name)}
            known = known - gone
            risky |= gone
        else:
            known = known | written([s])
    return known
