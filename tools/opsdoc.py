"""Writes docs/ops.md: what each public operation does eagerly, traced, under derivatives and over rows.

    python tools/opsdoc.py            print what would change
    python tools/opsdoc.py --write    change it

Nothing in the page is stated by hand: each case of the tests' table (tests/op_table.py) is run with every dtype,
lowered, differentiated both ways and mapped over rows, and the page says what happened. A public function that has no
case stands in one of the lists below the table.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from op_case import Case  # noqa: E402
from op_table import CASES  # noqa: E402

import tracejit as tj  # noqa: E402
from tracejit import publicnames, tracing  # noqa: E402
from tracejit.errors import TracejitError  # noqa: E402
from tracejit.ir.op import OPS  # noqa: E402
from tracejit.ir.types import ALL, TensorType, as_dtype  # noqa: E402
from tracejit.lower.block import Block  # noqa: E402
from tracejit.lower.hostunit import HostUnit  # noqa: E402
from tracejit.passes.layout import Layouts  # noqa: E402
from tracejit.passes.pipeline import optimize  # noqa: E402
from tracejit.passes.prepare import prepare  # noqa: E402

PAGE = ROOT / "docs" / "ops.md"
LIMITED = "yes; "  # and what has no derivative
KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
INTRODUCTION = """\
# Operations

Made by `python tools/opsdoc.py --write` from the cases of `tests/op_table.py`; a test compares it with what it would be
now. Each line is what happened when the cases of a function were run.

* **dtypes**: those that it takes: bool, int (8 to 64 bits), uint (8 to 64 bits), float (float16, bfloat16, float32,
  float64), complex (complex64, complex128); where it takes some of a kind, these. Every function runs eagerly and in
  traced functions, with the same dtypes.
* **traced**: *native*: loops, products and routines that are compiled. *host*: NumPy's function is called from the
  compiled program, for the operations that are named. Systems of equations and factors of matrices are native in
  float32 and float64 for up to 2048 rows; LAPACK computes others, and decides what singular matrices are.
* **vjp**, **jvp**: reverse and forward mode: *yes* along every operand and to any order (the second is compared with
  differences); behind it the operands that there is no derivative along, where both modes raise; or why not.
* **vmap**: *rule*: all rows at once by `vectorized_map`. *rows*: one by one, for the operations that are named.
"""


@dataclass
class Facts:
    """What was seen of one public function."""

    name: str
    aliases: list[str]
    dtypes: set[str] = field(default_factory=set)
    host: set[str] = field(default_factory=set)
    vjp: list[str] = field(default_factory=list)
    jvp: list[str] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)

    def line(self) -> str:
        also = f" ({', '.join(f'`{a}`' for a in self.aliases)})" if self.aliases else ""
        traced = f"host: {', '.join(sorted(self.host))}" if self.host else "native"
        vmap = f"rows: {', '.join(sorted(self.rows))}" if self.rows else "rule"
        cells = (f"`{self.name}`{also}", "yes", traced, best(self.vjp), best(self.jvp), vmap, kinds(self.dtypes))
        return f"| {' | '.join(cells)} |"


def best(answers: list[str]) -> str:
    limited = [a for a in answers if a.startswith(LIMITED)]
    return limited[0] if limited else "yes" if "yes" in answers else answers[0]


def kinds(names: set[str]) -> str:
    out = []
    for kind, word in KINDS.items():
        mine = [d.name for d in ALL if d.kind == kind]
        have = [n for n in mine if n in names]
        out += [word] if have == mine else have
    return " ".join(out)


# --- one case ---------------------------------------------------------------------------------------------------------
def tensors(case: Case, dtype: Any) -> list[tj.Tensor]:
    return [tj.constant(a) for a in case.arrays(dtype, case.small())]


def accepted(case: Case) -> set[str]:
    found = set()
    for d in ALL:
        try:
            case.f(*tensors(case, d))
        except (TracejitError, TypeError):
            continue
        found.add(d.name)
    return found


def main_dtype(case: Case) -> Any:
    own = case.dtypes()
    return next((d for d in own if d is tj.float64), own[-1])


def on_host(case: Case) -> set[str]:
    """The operations of the lowered program that have no native form."""
    xs = case.arrays(main_dtype(case), case.small())
    graph = tracing.trace_graph(case.f, [TensorType(as_dtype(a.dtype), a.shape) for a in xs])
    return host_nodes(Block(prepare(optimize(graph, "finite"), "finite"), [], Layouts()))


def host_nodes(block: Block) -> set[str]:
    return {u.node.op.name for u in block.units if type(u) is HostUnit}


def sources(case: Case, xs: list[tj.Tensor]) -> list[tj.Tensor]:
    return [x for i, x in enumerate(xs) if i not in case.fixed and x.dtype.kind in "fc"]


def reverse(case: Case) -> str:
    xs = tensors(case, main_dtype(case))
    own = sources(case, xs)
    if not own:
        return "no: not of real numbers"
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(own)
        y = case.f(*xs)
    if y.dtype.kind not in "fc":
        return f"no: gives {KINDS[y.dtype.kind]}s"
    limits = refusals(case)
    if limits:
        return LIMITED + limits
    found = [g for g in tape.gradient(y, own) if g is not None]
    if not found:
        return "no: piecewise constant" if not case.differentiable else tape.why(y, own[0])
    return "yes" if case.differentiable else "yes, not compared with differences"


def refusals(case: Case) -> str:
    """Along which operands there is no derivative, or none of a derivative."""
    said = []
    for i in range(len(sources(case, tensors(case, main_dtype(case))))):
        xs = tensors(case, main_dtype(case))
        x = sources(case, xs)[i]
        try:
            with tj.GradientTape() as outer:
                outer.watch(x)
                with tj.GradientTape() as inner:
                    inner.watch(x)
                    y = case.f(*xs)
                g = inner.gradient(y, x)
            if g is not None and not case.second:
                outer.gradient(g, x)
        except tj.errors.GradientError as e:
            said.append(str(e).splitlines()[0].partition(": ")[2])
    return "; ".join(dict.fromkeys(said))


def forward(case: Case) -> str:
    xs = tensors(case, main_dtype(case))
    own = sources(case, xs)
    if not own:
        return "no: not of real numbers"
    limits = refusals(case)
    if limits:
        return LIMITED + limits
    with tj.autodiff.ForwardAccumulator(own, [tj.ones_like(x) for x in own]) as acc:
        y = case.f(*xs)
    if y.dtype.kind not in "fc":
        return f"no: gives {KINDS[y.dtype.kind]}s"
    if acc.jvp(y) is None:
        return "no: piecewise constant"
    return "yes" if case.differentiable else "yes, not compared with differences"


def row_by_row(case: Case) -> set[str]:
    """The operations that have no rule for many rows at once."""
    xs = [tj.stack([x, x]) for x in tensors(case, main_dtype(case))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tj.vectorized_map(lambda row: case.f(*row), xs, fallback_to_while_loop=False)
    except (TracejitError, UserWarning) as e:
        named = [n for n in OPS if f"{n} " in f"{e} " or f"'{n}'" in str(e)]
        return {max(named, key=len)} if named else {str(e).splitlines()[0]}
    return set()


# --- which functions --------------------------------------------------------------------------------------------------
def names() -> dict[Callable[..., Any], list[str]]:
    """The public functions of the namespaces, each with its names, the shortest first."""
    out: dict[Any, list[str]] = {}
    for module in publicnames._MODULES:  # many names are loaded when they are first asked for
        place = functools.reduce(getattr, module.split("."), tj) if module else tj
        for name in getattr(place, "__all__", ()):
            getattr(place, name)
    publicnames._seen.clear()  # it tells each name once
    for name, f in publicnames._functions():
        if name.startswith("tj."):
            out.setdefault(f, []).append(name)
    publicnames._seen.clear()
    return {f: sorted(set(n), key=lambda x: (x.count("."), x)) for f, n in out.items()}


def called(case: Case) -> set[str]:
    """The public functions that a case calls itself."""
    ours, seen = {str(ROOT / "tests"), str(ROOT / "tools")}, set()

    def listen(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_back and str(Path(frame.f_back.f_code.co_filename).parent) in ours:
            seen.update(n for n, f in publicnames._found(frame.f_code, frame.f_locals))

    xs = tensors(case, case.dtypes()[-1])
    sys.setprofile(listen)
    try:
        case.f(*xs)
    finally:
        sys.setprofile(None)
    return {n for n in seen if n.startswith("tj.") and n not in ("tj.constant", "tj.convert_to_tensor")}


def operations() -> Iterator[Facts]:
    """What was seen of each public function that cases call; cases that call several count for the first named."""
    public = names()
    first = {n: all_[0] for all_ in public.values() for n in all_}
    facts = {all_[0]: Facts(all_[0], all_[1:]) for all_ in public.values()}
    for case in CASES:
        mine = {first[n] for n in called(case) if n in first}
        if len(mine) > 1:
            base = case.name.split(",")[0].split(" ")[0]
            named = {n for n in mine if any(a.removeprefix("tj.").endswith(base) for a in (n, *facts[n].aliases))}
            mine = named or mine
        mine = mine if len(mine) == 1 else set()
        if not mine:
            continue
        f = facts[mine.pop()]
        f.dtypes |= accepted(case)
        f.host |= on_host(case)
        f.vjp.append(reverse(case))
        f.jvp.append(forward(case))
        f.rows |= row_by_row(case)
    return iter(sorted((f for f in facts.values() if f.vjp), key=lambda f: f.name))


def sentence(f: Callable[..., Any]) -> str:
    return " ".join((f.__doc__ or "").split("\n\n")[0].split())


NO_CASE = "## Without a case"


class Group(NamedTuple):
    """Public functions that have no line in the table, and why."""

    title: str
    reason: str
    members: list[str]  # names, or the beginnings of names

    def has(self, names: list[str]) -> bool:
        every = [f"tj.{m}" for m in self.members]
        return any(n == m or (m.endswith(".") and n.startswith(m)) for n in names for m in every)


GROUPS = [
    Group(
        "Tensors from numbers, shapes and Python values",
        "They take no tensors, or only such that say how large the result is: there is nothing to differentiate.",
        """constant convert_to_tensor from_dlpack eye fill ones zeros range rank shape shape_n size
        broadcast_static_shape broadcast_dynamic_shape required_space_to_batch_paddings
        signal.hamming_window signal.hann_window signal.kaiser_window signal.kaiser_bessel_derived_window
        signal.vorbis_window signal.linear_to_mel_weight_matrix math.sobol_sample""".split(),
    ),
    Group(
        "Random numbers",
        "They differ from call to call or from seed to seed; tests/test_random.py and its neighbours hold them to "
        "their distributions, eagerly and traced to the same numbers.",
        ["random.", "nn.dropout", "random_index_shuffle"],
    ),
    Group(
        "Checks",
        "They compute nothing; traced, they hold in every run, before any Variable changes (tests/test_checks.py).",
        ["debugging.", "ensure_shape", "Assert"],
    ),
    Group(
        "Control flow, and calls of Python",
        "They are as native, differentiable and mappable as the functions that they are given "
        "(tests/test_control_*.py).",
        """case cond switch_case while_loop scan map_fn foldl foldr vectorized_map vmap numpy_function py_function
        print""".split(),
    ),
    Group(
        "Derivatives, and functions made of functions",
        "They take functions, not tensors.",
        """function custom_gradient recompute_grad grad_pass_through jvp vjp hvp hessian jacobian benchmark
        signal.inverse_stft_window_fn""".split(),
    ),
    Group(
        "Settings, questions and names",
        "They compute no tensors.",
        """as_dtype debug get_threads set_threads threads is_tensor is_symbolic_tensor get_static_value
        executing_eagerly inside_function device group
        no_op tuple control_dependencies nest. mixed_precision.""".split(),
    ),
]


def below(rest: list[tuple[list[str], Callable[..., Any]]]) -> Iterator[str]:
    """The functions without a line in the table, by reason."""
    for g in GROUPS:
        mine = [(n, f) for n, f in rest if g.has(n)]
        if mine:
            rest = [x for x in rest if x not in mine]
            yield from ("", f"## {g.title}", "", g.reason, "")
            yield from (f"* `{n[0]}`: {sentence(f)}" for n, f in mine)
    if rest:
        yield from ("", NO_CASE, "", *(f"* `{n[0]}`: {sentence(f)}" for n, f in rest))


def page() -> str:
    found = list(operations())
    have = {f.name for f in found}
    lines = [INTRODUCTION, "| function | eager | traced | vjp | jvp | vmap | dtypes |", "|---|---|---|---|---|---|---|"]
    lines += [f.line() for f in found]
    lines += below(sorted(((n, f) for f, n in names().items() if n[0] not in have), key=lambda x: x[0]))
    return "\n".join(lines) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--write", action="store_true", help="write docs/ops.md")
    new = page()
    if p.parse_args().write:
        PAGE.write_text(new)
    else:
        old = PAGE.read_text() if PAGE.exists() else ""
        print("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)))


if __name__ == "__main__":
    main()
