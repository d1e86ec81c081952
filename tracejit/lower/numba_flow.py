"""Branches, loops, and parts of sizes that the program finds out, as statements of generated source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tracejit.errors import ArgumentError
from tracejit.ir.graph import Graph, Node, Value
from tracejit.lower import registers
from tracejit.lower.block import Block
from tracejit.lower.checkunit import CheckUnit
from tracejit.lower.control import ControlUnit, RegisterUnit
from tracejit.lower.found import FoundUnit
from tracejit.lower.numba_block import Blocks, Operand, copies, plain
from tracejit.lower.numba_dialect import CPU
from tracejit.lower.numba_expr import Names, Writer, negated, wrapped
from tracejit.lower.numba_host import host_lines, numpy_type
from tracejit.lower.numba_scalar import NumbaScalar
from tracejit.lower.numba_single import Assignment, is_name, single
from tracejit.lower.units import BasesUnit, Unit
from tracejit.passes.layout import Layouts
from tracejit.passes.prepare import prepare


class Flow(Blocks):
    """Writes regions where they stand."""

    def region(self, u: BasesUnit, block: Block) -> None:
        if self.dialect is not CPU:
            raise ArgumentError(f"{u.node.op.name} has no form in Numba's {self.dialect.name} source")
        if isinstance(u, FoundUnit):
            self._found(u)
        elif isinstance(u, RegisterUnit) and not self.inside and (not self.depth or u.node.op.name != "cond") and (
            compilable(u)
        ):
            self._function(u)
        else:
            self._control(u.node, _blocks(u), self.operands(u))

    # --- regions ------------------------------------------------------------------------------------------------------
    def _body(self, b: Block, targets: Sequence[tuple[Value, str]], also: Callable[[], None] | None = None) -> None:
        """A region's lines, with its results under the names of `targets`. `also`: lines before the names change."""
        g = b.graph
        makers: dict[Value, list[int]] = {}
        for k, u in enumerate(b.units):
            for v in {b.layouts.place(w).base for w in u.writes}:
                makers.setdefault(v, []).append(k)
        copied = {r: q for u in b.units for r, q in copies(u).items()}
        for r, q in copied.items():
            self.bind(r, self.names[q], q in self.scalars)
        kept = {self.names[copied[r]] for r, name in targets if r in copied and self.names[copied[r]] != name}
        kept |= {self.names[q] for r, q in copied.items() if r not in dict(targets)}
        for r, name in targets:
            if r in copied:
                continue
            first = makers[r][0]
            old = [p for p in g.params if self.names.get(p) == name]
            own = len(makers[r]) == 1 and _may_replace(b.units[first], old)
            later = b.units[first + own :]
            direct = name not in kept and not any(p in x.reads for p in old for x in later)
            self.names[r] = name if direct else self.local.new(_new(name))
            if plain(r):
                self.awaited.add(r)
        self.depth += 1
        self.block(b, set())
        self.depth -= 1
        if also:
            also()
        pairs = []
        for r, name in targets:
            scalar = r in self.scalars or not plain(r)
            pairs.append(Assignment(name, self.names[r] if scalar else f"{self.names[r]}[()]"))
        self.assign(pairs)

    def _control(self, n: Node, blocks: Sequence[Block], operands: Sequence[Operand]) -> None:
        if n.op.name == "cond":
            self.said_at(n.loc)
            self._cond(n, blocks, operands)
        else:
            self._loop(n, blocks, operands)

    def _cond(self, n: Node, blocks: Sequence[Block], operands: Sequence[Operand]) -> None:
        passed = [{r: b.graph.params.index(q) for u in b.units for r, q in copies(u).items()} for b in blocks]
        for i, o in enumerate(n.outs):
            at = [p[r] for b, p in zip(blocks, passed, strict=True) if (r := b.graph.results[i]) in p]
            one = operands[1 + at[0]] if len(at) == 1 else None
            taken = one is not None and any(self.names.get(x) == one.text for x in n.outs)
            self.result(o, [b.graph.results[i] for b in blocks], None if taken else one)
        parts = []
        for b in blocks:
            for p, x in zip(b.graph.params, operands[1:], strict=True):
                self.stands_for(p, x)
            with self._apart() as lines, self._deeper():
                self._body(b, [(r, self.names[o]) for r, o in zip(b.graph.results, n.outs, strict=True)])
            parts.append(lines)
        then, orelse = parts
        test = operands[0].text
        if then:
            self._lines(f"if {test}:", then)
            if orelse:
                self._lines("else:", orelse)
        elif orelse:
            self._lines(f"if {negated(test)}:", orelse)

    def _lines(self, head: str, lines: list[str]) -> None:
        self.out.line(head)
        self.out.lines += lines

    @contextmanager
    def _apart(self) -> Iterator[list[str]]:
        """Lines that are collected, to be put in their place later."""
        first = len(self.out.lines)
        lines: list[str] = []
        yield lines
        lines += self.out.lines[first:]
        del self.out.lines[first:]

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self.out.depth += 1
        yield
        self.out.depth -= 1

    # --- loops --------------------------------------------------------------------------------------------------------
    def _loop(self, n: Node, blocks: Sequence[Block], operands: Sequence[Operand]) -> None:
        """while, while_saving and scan: the states get their first values, then new ones in each step."""
        k, body = n.attr("n"), blocks[-1]
        g = body.graph
        states = []
        for i in range(k):
            taken = any(self.names.get(x) == operands[i].text for x in n.outs)
            states.append(self.result(n.outs[i], [g.results[i]], None if taken else operands[i]))
        first = []
        for i, name in enumerate(states):
            x = operands[i]
            first.append(Assignment(name, f"{x.text}[()]" if plain(n.outs[i]) and not x.scalar else x.text))
        self.assign(first)
        for b in blocks:
            for p, name in zip(b.graph.params[:k], states, strict=False):
                self.bind(p, name, plain(p))
            if n.op.name != "scan":
                for p, x in zip(b.graph.params[k:], operands[k:], strict=True):
                    self.stands_for(p, x)
        targets = list(zip(g.results[:k], states, strict=False))
        if n.op.name == "scan":
            self._scan(n, body, operands, targets)
        else:
            self._while(n, blocks, targets)

    def _while(self, n: Node, blocks: Sequence[Block], targets: list[tuple[Value, str]]) -> None:
        cond, body = blocks
        k = n.attr("n")
        rows = list(zip(body.graph.results[k:], n.outs[k + 1 :], strict=True))
        for r, o in rows:
            self.out.line(f"{self._list(r, o)} = []")
        counter = ""
        if n.op.name == "while_saving":
            counter = self.result(n.outs[k], [], None) if n.outs[k] in self.names else self.local.new("steps")
            self.bind(n.outs[k], counter, True)
            self.out.line(f"{counter} = np.int64(0)")
        answer = cond.graph.results[0]
        with self._apart() as lines, self._deeper():
            copied = {r: q for u in cond.units for r, q in copies(u).items()}
            if answer in copied:
                self.bind(answer, self.names[copied[answer]], copied[answer] in self.scalars)
            else:
                self.names[answer] = self.local.new("again")
            self.expected, before = answer, self.expected
            self.depth += 1
            self.block(cond, set())
            self.depth -= 1
            self.expected = before
            test = self.test(answer)
        simple = all(x.lstrip().startswith("#") for x in lines)
        if not simple or not lines:
            self.said_at(n.loc)
        self.out.lines += [x.removeprefix("    ") for x in lines] if simple else []
        with self.out.block(f"while {test}:" if simple else "while True:"):
            if not simple:
                self.out.lines += lines
                self.out.lines += ["    " * self.out.depth + x for x in (f"if {negated(test)}:", "    break")]

            def save() -> None:
                for r, o in rows:
                    self.out.line(f"{self.names[o]}.append({self.names[r]})")
                if counter:
                    self.out.line(f"{counter} += np.int64(1)")

            first = len(self.out.lines)
            self._body(body, targets, save)
            if len(self.out.lines) == first:
                self.out.line("pass")
        if counter:
            s = str(n.attr("steps"))
            self.symbols[s] = counter
            for r, o in rows:
                shape = self.shape(o.shape)
                self.out.line(f"{self.names[o]} = np.array({self.names[o]}, {numpy_type(r.dtype)}).reshape({shape})")

    def _list(self, r: Value, o: Value) -> str:
        """The name of the rows that a loop saves."""
        if o not in self.names:
            kept = r.node.inputs[0] if r.node is not None and r.node.op.name == "copy" else r
            name = self.names.get(kept) or self.wishes.get(r) or self.wish(r)
            self.names[o] = self.local.new(f"saved_{name}")
        return self.names[o]

    def _scan(self, n: Node, b: Block, operands: Sequence[Operand], targets: list[tuple[Value, str]]) -> None:
        k, m, g = n.attr("n"), n.attr("m"), b.graph
        i = self.local.new("i")
        for p, x in zip(g.params[k : k + m], operands[k : k + m], strict=True):
            self.bind(p, _row(x.text, i, p), plain(p))
        for p, x in zip(g.params[k + m :], operands[k + m :], strict=True):
            self.stands_for(p, x)
        for r, o in zip(g.results[k:], n.outs[k:], strict=True):
            name = self.result(o, [r], None, "rows")
            self.out.line(f"{name} = np.empty({self.shape(o.shape)}, {numpy_type(o.dtype)})")
            targets.append((r, _row(name, i, r)))
        length = f"len({operands[k].text})" if self.inside and m else self.size(n.attr("length"))
        steps = f"range({length})"
        if n.attr("reverse"):
            steps = f"range({length} - 1, -1, -1)" if self.inside else f"reversed({steps})"  # which Numba has not
        self.said_at(n.loc)
        with self.out.block(f"for {i} in {steps}:"):
            first = len(self.out.lines)
            self._body(b, targets)
            if len(self.out.lines) == first:
                self.out.line("pass")

    # --- functions of single numbers ----------------------------------------------------------------------------------
    def _function(self, u: RegisterUnit) -> None:
        """A loop or a branch among single numbers as a function that Numba compiles, and its call."""
        n = u.node
        operands = self.operands(u)
        asked = {o: self.names.pop(o) for o in n.outs if o in self.names}
        given, args = self._arguments(n, operands)
        outer = self.local, self.out, self.m, self.depth
        self.local, self.out, self.m, self.inside = Names(self.module), Writer(1), NumbaScalar(self.helpers), True
        self.helpers.local = self.local
        names = {text: self.local.new(wish) for text, wish in given.items()}
        mine = [
            x if x.value is not None else Operand(names[a], not v.shape, args.count(a) == 1, None, x.wish)
            for x, a, v in zip(operands, args, n.inputs, strict=False)
        ]
        if len(args) > len(n.inputs):
            self.symbols[str(n.attr("length"))] = names[args[-1]]
        self._control(n, _blocks(u), mine)
        results = [(o, self.names.pop(o)) for o in n.outs]
        wanted = [o for o in n.outs if self.is_read(o)]
        self.out.line(f"return {', '.join(name for o, name in results if o in wanted) or '()'}")
        body = self.out.text()
        (self.local, self.out, self.m, self.depth), self.inside = outer, False
        head = f"({', '.join(names.values())})"
        name = self._shared(f"{head}:\n{body}")
        self.names |= asked
        outs = [self.result(o, self._likes(n, i), operands[i] if n.op.name != "cond" else None)
                for i, o in enumerate(n.outs) if o in wanted]  # fmt: skip
        types = [numpy_type(o.dtype) for o in wanted]
        if len(outs) == 1:
            self.out.lines += wrapped("    " * self.out.depth, f"{outs[0]} = {types[0]}({name}(", list(given), "))")
        elif not outs:
            self.out.call(f"{name}(", list(given))
        else:
            self.out.call(f"{', '.join(outs)} = {name}(", list(given))
            typed = [(o, f"{t}({o})") for o, t in zip(outs, types, strict=True)]
            self.out.line(f"{', '.join(o for o, _ in typed)} = {', '.join(t for _, t in typed)}")

    def _likes(self, n: Node, i: int) -> list[Value]:
        return [v.results[i] for _, v in n.attrs if type(v) is Graph and i < len(v.results)]

    def _arguments(self, n: Node, operands: Sequence[Operand]) -> tuple[dict[str, str], list[str]]:
        """What is passed, and how it is called inside; then, for each operand, what is passed for it."""
        texts = [x.text if x.scalar or v.shape else f"{x.text}[()]" for x, v in zip(operands, n.inputs, strict=True)]
        if n.op.name == "scan" and not n.attr("m"):
            texts.append(self.size(n.attr("length")))
        wishes = {t: (x.text if is_name(x.text) else self.wish(v))
                  for t, x, v in zip(texts, operands, n.inputs, strict=False)}  # fmt: skip
        known = {x.text for x in operands if x.value is not None}
        return {t: wishes.get(t, "n") for t in texts if t not in known}, texts

    def _shared(self, text: str) -> str:
        """The name of a function with this text, which is written if there is none."""
        if text not in self.kernels:
            wish = self.naming.function if self.naming.function.isidentifier() else "loop"
            self.kernels[text] = self.named_globally(f"{wish}_loop" if "while " in text or "for " in text else wish)
            self.functions.append(f"{self.dialect.decorators['serial']}\ndef {self.kernels[text]}{text}")
        return self.kernels[text]

    # --- sizes that the program finds out -----------------------------------------------------------------------------
    def _found(self, u: FoundUnit) -> None:
        n = u.node
        if n.op.name != "sized":
            args = [self.shaped(v, base) for v, base in zip(n.inputs, u.bases, strict=True)]
            for line in host_lines(n, [self.label(v) for v in u.writes], args, self.size):
                self.out.line(line)
            return
        operands = self.operands(u)
        g = prepare(n.attr("body"), n.attr("numerics").lower())
        self.learn(g)
        b = Block(g, [], Layouts())
        for p, x in zip(g.params, operands, strict=True):
            self.stands_for(p, x)
        places: list[tuple[Value, Value, str]] = []  # elements of arrays, which no kernel can be given to write to
        for r, o in zip(g.results, n.outs, strict=True):
            name = self.label(o)
            if not o.shape and not is_name(name):
                places.append((r, o, name))
                name = self.local.new("value")
            self.names[r] = name
        self.block(b, set(g.params) & self.frames[-1].own)
        self.scalars.update(o for o, r in zip(n.outs, g.results, strict=True) if r in self.scalars)
        for r, o, name in places:
            self.out.line(f"{name} = {self.names[r]}{'' if r in self.scalars else '[()]'}")
            self.scalars.add(o)


def compilable(u: BasesUnit) -> bool:
    """Whether a node of control flow can be a function that Numba compiles: of single numbers, and errors that name
    no floating ones."""
    if not all(map(plain, u.node.outs)) or u.node.op.name not in ("cond", "while", "scan"):
        return False
    for x in (x for b in _blocks(u) for x in b.units):
        if isinstance(x, CheckUnit):
            ok = all(v.dtype.kind in "biu" and plain(v) for v in x.node.inputs)
        else:
            ok = single(x) or (isinstance(x, RegisterUnit) and compilable(x))
        if not ok:
            return False
    return not registers.sizes(u.node) or u.node.op.name == "scan"


def _row(text: str, i: str, v: Value) -> str:
    """A row of an array; without axes it is a scalar, or still an array where the type needs its bits."""
    return f"{text}[{i}]" if v.shape or plain(v) else f"{text}[{i}, ...]"


def _new(name: str) -> str:
    return f"new_{name}" if is_name(name) else f"new_{name.partition('[')[0]}"


def _blocks(u: BasesUnit) -> list[Block]:
    """The regions of a node of control flow; loops: the condition, then the body."""
    if isinstance(u, ControlUnit) and not any(b.turned for b in u.blocks):  # names change places by themselves
        return u.blocks
    names = {"cond": ("then", "orelse"), "while": ("cond", "body"), "scan": ("body",)}[u.node.op.name]
    return [Block(u.node.attr(name), [], Layouts()) for name in names]


def _may_replace(u: Unit, old: Sequence[Value]) -> bool:
    """Whether a unit can give its result the name of values that it reads itself."""
    if single(u) or isinstance(u, RegisterUnit) or set(old).isdisjoint(u.reads):
        return True
    if not isinstance(u, BasesUnit) or isinstance(u, FoundUnit):
        return False
    return u.node.op.name == "cond" or set(old).isdisjoint(u.bases[u.node.attr("n") :])
