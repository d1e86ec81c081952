"""Work that needs no state leaves the loop: products of rows come before it, products that are only summed after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autodiff.batchloops import replay_rows
from tracejit.autodiff.batchrules import Batch, rule_of
from tracejit.ir.found import symbols_of, told_within
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import hint
from tracejit.passes.match import make
from tracejit.passes.partition import repeatable
from tracejit.passes.scans import Loop, emit_scan, found_sizes, inlined, loop_of, nbytes, regraph, renewed, within
from tracejit.tracing import trace_graph

STACK = 1 << 28  # bytes that one value of all steps may take,
SMALL = 1 << 24  # which it may in any case,
SHARE = 4  # and which it may beside each byte that the loop reads and writes anyway
# Operations on whole arrays that no number can make fail: they may run even if the loop takes no step.
NEVER_FAIL = frozenset(
    "argsort bitcast complex conj convolved correlated cumprod cumsum fft imag irfft largest real rfft search sort "
    "top_k unconvolved".split()
)
DEPTH = 16  # summands from which a product is worth its result's way through memory


# --- before the loop --------------------------------------------------------------------------------------------------
def hoist(graph: Graph, reorder: bool = True) -> Graph:
    """What the steps compute from the loop's operands only is computed before it.

    Values that are the same in every step are computed once. Products of rows are one product if `reorder` allows
    another order of the sums in it; elementwise operations on rows stay, where they join what else the steps compute.
    """
    graph = within(graph, lambda g: hoist(g, reorder))  # what leaves an inner loop may leave the outer one too
    found = found_sizes(graph)

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        loop = loop_of(n)
        if loop is None or not loop.body.nodes:
            return None
        ahead = _ahead(loop, reorder and n.op.name == "scan" and not _has(loop.length, found), found)
        return _hoisted(b, loop, env, ahead) if ahead else None

    return renewed(graph, visit)


def _has(size: Any, found: set[str]) -> bool:
    return bool(getattr(size, "symbols", frozenset()) & found)


def _ahead(loop: Loop, rows: bool, found: set[str]) -> list[Value]:
    """The values to be computed before the loop: what the rest of the steps reads of them."""
    fixed = set(loop.captured)  # the same in every step
    free = fixed | set(loop.rows if rows else ())
    worth: set[Value] = set()  # values not to be computed in the steps if it can be helped
    found = found | told_within(loop.body)
    runs = loop.node.op.name == "scan" and type(loop.length) is int and loop.length > 0
    for n in loop.body.nodes:
        if not _movable(n, runs) or not all(x in free for x in n.inputs) or symbols_of(n) & found:
            continue
        same = all(x in fixed for x in n.inputs)
        if not same and hint(loop.length) * nbytes(n.out) > _room(loop):
            continue
        free.add(n.out)
        if same:
            fixed.add(n.out)
        if n.op.family != "source" and (not repeatable(n.op) if same else _deep(n)):
            worth.add(n.out)
    if not worth:
        return []
    read = {x for n in loop.body.nodes if not set(n.outs) <= worth or not n.outs for x in n.inputs}
    read |= set(loop.body.results)
    return [v for n in loop.body.nodes for v in n.outs if v in worth and v in read]


def _movable(n: Node, runs: bool) -> bool:
    """Whether a node may come before the loop. `runs` says that the loop takes a step."""
    if n.op.family == "opaque" and not runs and n.op.name not in NEVER_FAIL:
        return False
    if not n.pure or len(n.outs) != 1 or "random" in n.op.special or n.op.name in ("custom_vjp", "barrier"):
        return False
    return n.op.family in ("elementwise", "shape", "source", "contract", "reduce", "index", "opaque") and (
        n.op.family == "source" or rule_of(n.op) is not None
    )


def _room(loop: Loop) -> int:
    """The bytes that a value of all steps may take: who writes a loop over blocks does not want all of them at once."""
    moved = sum(nbytes(x) for x in (*loop.node.inputs, *loop.node.outs))
    return min(STACK, max(SMALL, SHARE * moved))


def _deep(n: Node) -> bool:
    """Whether a product of rows has summands enough."""
    return n.op.name == "matmul" and hint(n.inputs[0].shape[-2 if dict(n.attrs).get("ta") else -1]) >= DEPTH


def _hoisted(b: Builder, loop: Loop, env: dict[Value, Value], ahead: list[Value]) -> tuple[Value, ...]:
    """The loop with these values among its operands."""
    node, body = loop.node, loop.body
    inputs = [env[x] for x in node.inputs]
    own = [*loop.rows, *loop.captured]
    values, has = _all_at_once(b, regraph(body, own, ahead), inputs[loop.n :], loop.m, loop.m and loop.length)
    rows = [v for v, h in zip(ahead, has, strict=True) if h]
    once = [v for v, h in zip(ahead, has, strict=True) if not h]
    given = dict(zip(ahead, values, strict=True))
    at = loop.n + loop.m
    params = [*body.params[:at], *rows, *loop.captured, *once]
    attrs = dict(node.attrs)
    attrs["body"] = regraph(body, params, body.results)
    if node.op.name == "scan":
        attrs["m"] = loop.m + len(rows)
    elif once:
        attrs["cond"] = _with_params(attrs["cond"], once)
    operands = (*inputs[:at], *[given[v] for v in rows], *inputs[at:], *[given[v] for v in once])
    return b.emit(node.op, operands, tuple(sorted(attrs.items())))


def _with_params(g: Graph, more: Sequence[Value]) -> Graph:
    """The graph with parameters that it does not read."""
    b = Builder()
    env = [b.param(p.type) for p in g.params]
    for v in more:
        b.param(v.type)
    return b.finish(g.name, inlined(b, g, env))


def _all_at_once(
    b: Builder, part: Graph, operands: Sequence[Value], rows: int, length: Any
) -> tuple[tuple[Value, ...], list[bool]]:
    """The results of a part of the steps, for all rows where they depend on rows, and which of them do.

    The first operands, `rows` in number, are stacked.
    """
    part = Graph(part.name, part.params, [n for n in part.nodes if n.pure], part.results)  # effects stay in the steps
    marks = [True] * rows + [False] * (len(operands) - rows)
    has: list[bool] = []

    def f(*xs: Any) -> tuple[Any, ...]:
        ys, found = replay_rows(part, xs, marks, Batch(length if rows else 1))
        has.extend(found)
        return tuple(ys)

    made = trace_graph(f, [x.type.strong() for x in operands], "ahead")
    return inlined(b, made, operands), has


# --- after the loop ---------------------------------------------------------------------------------------------------
def sums(graph: Graph) -> Graph:
    """A state to which every step only adds a product is one product over all steps, after the loop.

    The factors are stacked, the summands of the products below one another. It pays where a factor is smaller than the
    state, which each step would read and write. The sum is taken in another order.
    """
    found = found_sizes(graph)

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        loop = loop_of(n)
        if loop is None or n.op.name != "scan" or _has(loop.length, found):
            return None
        plan = _Sums(loop)
        return plan.emit(b, env) if plan.terms else None

    return within(renewed(graph, visit), sums)


def sink(graph: Graph) -> Graph:
    """Products with what is the same in every step, of which the steps only stack the results, come after the loop.

    Their factors that differ from step to step are stacked instead, if they are not larger or are stacked anyway.
    """
    found = found_sizes(graph)

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        loop = loop_of(n)
        if loop is None or n.op.name != "scan" or _has(loop.length, found):
            return None
        late = _late(loop)
        return _sunk(b, loop, env, late) if late else None

    return within(renewed(graph, visit), sink)


def _late(loop: Loop) -> list[Value]:
    """The products that come after the loop."""
    read = [x for n in loop.body.nodes for x in n.inputs] + list(loop.body.results)
    there, found = {*loop.rows, *loop.made}, told_within(loop.body)
    out = []
    for v in loop.made:
        if v.node is None or v.node.op.name != "matmul" or dict(v.node.attrs).get("ta") or read.count(v) != 1:
            continue
        if symbols_of(v.node) & found:
            continue
        x, y = v.node.inputs
        varies = x not in loop.captured and (x.node is None or x.node.op.family != "source")
        if y in loop.captured and varies and len(y.shape) == 2 and (x in there or nbytes(x) <= nbytes(v)):
            out.append(v)
    return out


def _sunk(b: Builder, loop: Loop, env: dict[Value, Value], late: list[Value]) -> tuple[Value, ...]:
    node, body, at = loop.node, loop.body, loop.n + loop.m
    factors = {v: v.node.inputs for v in late if v.node is not None}
    new = dict.fromkeys([x for x, _ in factors.values() if x not in loop.rows])
    made = list(dict.fromkeys([*[v for v in loop.made if v not in late], *new]))
    inputs = [env[x] for x in node.inputs]
    graph = regraph(body, body.params, [*body.results[: loop.n], *made])
    outs = emit_scan(b, node, inputs[: loop.n], inputs[loop.n : at], inputs[at:], graph)
    stacked = dict(zip(loop.rows, inputs[loop.n : at], strict=True)) | dict(zip(made, outs[loop.n :], strict=True))
    for v, (x, y) in factors.items():
        operands = [stacked[x], env[loop.operand(y)]]
        (stacked[v],), _ = _all_at_once(b, regraph(body, [x, y], [v]), operands, 1, loop.length)
    return (*outs[: loop.n], *[stacked[v] for v in loop.made])


class _Sums:
    """Which summands of which states leave a scan, and what is stacked for them."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.results = list(loop.body.results[: loop.n])
        self.made = list(loop.made)
        self.terms: list[tuple[int, Node]] = []  # state, product or sum
        self.uses: dict[Value, int] = {}
        for v in [*[x for n in loop.body.nodes for x in n.inputs], *loop.body.results]:
            self.uses[v] = self.uses.get(v, 0) + 1
        self.rest: dict[int, list[Value]] = {}
        late: list[tuple[int, Node]] = []
        for i, p in enumerate(loop.states):
            terms = self._summands(p, loop.body.results[i])
            gone = [t for t in terms if self._product(t, p)] if terms else []
            late += [(i, t.node) for t in terms or () if t.node is not None and t.node.op.name == "reduce_sum"]
            self.rest[i] = [t for t in terms or () if t not in gone]
            self.terms += [(i, t.node) for t in gone if t.node is not None]
        for i, n in late:
            if self.uses[n.out] == 1 and self._ready(n.inputs[0]):
                self.terms.append((i, n))
                self.rest[i].remove(n.out)

    def _summands(self, state: Value, result: Value) -> list[Value] | None:
        """What a step adds to a state that nothing else reads."""
        out, todo, seen = [], [result], 0
        while todo:
            v = todo.pop()
            if v is state:
                seen += 1
            elif v.node is not None and v.node.op.name == "add" and self.uses[v] == 1 and _alike(v):
                todo += v.node.inputs[::-1]
            else:
                out.append(v)
        return out if seen == 1 == self.uses[state] and result is not state else None

    def _ready(self, v: Value) -> bool:
        return v in self.loop.rows or v in self.made

    def _product(self, v: Value, state: Value) -> bool:
        """Whether a product leaves the loop; its factors are then stacked."""
        n = v.node
        if n is None or n.op.name != "matmul" or self.uses[v] != 1 or any(len(x.shape) != 2 for x in n.inputs):
            return False
        if symbols_of(n) & told_within(self.loop.body):
            return False
        new = [x for x in n.inputs if not self._ready(x)]
        if any(x in self.loop.captured or (x.node is not None and x.node.op.family == "source") for x in new):
            return False
        if not all(nbytes(x) <= nbytes(state) and hint(self.loop.length) * nbytes(x) <= _room(self.loop) for x in new):
            return False
        self.made += dict.fromkeys(new)
        return True

    def emit(self, b: Builder, env: dict[Value, Value]) -> tuple[Value, ...]:
        """The scan without these summands, and what they come to after it."""
        loop, node = self.loop, self.loop.node
        left = {i for i, _ in self.terms}
        stay = [i for i in range(loop.n) if i not in left or self.rest[i]]
        inputs = [env[x] for x in node.inputs]
        at = loop.n + loop.m
        first = [inputs[i] for i in stay]
        outs = emit_scan(b, node, first, inputs[loop.n : at], inputs[at:], self._body(left, stay))
        states = dict(enumerate(inputs[: loop.n])) | dict(zip(stay, outs, strict=False))
        stacked = dict(zip(self.made, outs[len(stay) :], strict=True))
        stacked.update(zip(loop.rows, inputs[loop.n : at], strict=True))
        for i, n in self.terms:
            states[i] = make(b, "add", states[i], _total(b, n, stacked))
        return (*[states[i] for i in range(loop.n)], *outs[len(stay) : len(stay) + len(loop.made)])

    def _body(self, left: set[int], stay: list[int]) -> Graph:
        """The steps with the states that stay; to these is added what does not leave."""
        loop = self.loop
        b = Builder()
        params = [*[loop.states[i] for i in stay], *loop.rows, *loop.captured]
        env = {p: b.param(p.type) for p in params}
        for n in loop.body.nodes:
            if all(x in env for x in n.inputs):
                b.loc = n.loc
                env.update(zip(n.outs, b.emit(n.op, tuple([env[x] for x in n.inputs]), n.attrs), strict=True))
        results = []
        for i in stay:
            y = env[loop.states[i]] if i in left else env[self.results[i]]
            for t in self.rest[i] if i in left else ():
                y = make(b, "add", y, env[t])
            results.append(y)
        b.loc = None
        return b.finish(loop.body.name, [*results, *[env[v] for v in self.made]])


def _alike(v: Value) -> bool:
    """Whether an operation broadcasts none of its operands."""
    return v.node is not None and all(x.shape == v.shape for x in v.node.inputs)


def _total(b: Builder, n: Node, stacked: dict[Value, Value]) -> Value:
    """The sum over all steps of a product, or of a sum, of values that are stacked."""
    if n.op.name == "reduce_sum":
        return make(b, "reduce_sum", stacked[n.inputs[0]], axis=(0, *[a + 1 for a in n.attr("axis")]))
    attrs = dict(n.attrs)
    x, y = [stacked[v] for v in n.inputs]
    if not attrs.get("ta", False):
        x = make(b, "transpose", x, perm=(0, 2, 1))
    if attrs.get("tb", False):
        y = make(b, "transpose", y, perm=(0, 2, 1))
    x, y = [make(b, "reshape", v, shape=(v.shape[0] * v.shape[1], v.shape[2])) for v in (x, y)]
    return make(b, "matmul", x, y, ta=True)
