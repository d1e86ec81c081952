"""Matrix products whose batch takes two loops: each step of the outer one is a part of the tasks, at another place."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.lower import gemmplan
from tracejit.lower.gemm import OPERANDS, STEPS, operand
from tracejit.lower.llvm import NULL, Fn, Module, Val, i64
from tracejit.lower.microkernel import Tiles

# Operands behind those of a product: by step of the outer loop how much further it lies than the batch's own strides
# tell, and its tasks. The first step has those for A before those for B.
OUTER = ("a_more", "b_more", "a_tasks", "all_a_tasks", *[f"{kind}_tasks" for kind in STEPS])
_POINTERS = ("a", "b", "scratch")
_FRAME, _IDX = len(OPERANDS), len(OPERANDS) + 1  # of a product's own frame: what finishes tiles needs


def hand_on(
    fn: Fn, t: Tiles, kind: str, tasks: list[Val], finish: tuple[Val, Val], dest: Sequence[Val] | None
) -> None:
    """Call the library's step for these tasks, with the function that finishes tiles and where they go."""
    args = [*tasks, *(finish if kind != "pack_step" else ())]
    if kind == "compute":
        args += dest or (NULL, i64(0), i64(0))
    fn.call(f"{t.prefix}_{kind}", args, declare=True)


def entry(module: Module, name: str, kind: str, t: Tiles, dest: Sequence[Val] | None, first: int) -> None:
    """A kernel that hands its tasks to the library's step, part by part, each with a frame of its own.

    `dest`: pointer, row stride and batch stride in bytes where tiles are written without an epilogue.
    """
    fn = module.functions[-1]
    frame, idx, lo, hi = fn.args
    own = fn.gep(idx, 4 * first)
    more = {x: operand(fn, frame, own, len(OPERANDS) + i) for i, x in enumerate(OUTER)}
    given = [operand(fn, frame, own, i, "ptr" if x in _POINTERS else "i64") for i, x in enumerate(OPERANDS)]
    local = fn.alloca(8 * (_IDX + 1))
    for i, x in enumerate([*given, frame, idx]):
        fn.store(x, fn.gep(local, 8 * i), 8)
    numbers = _numbers(module, t)

    def part(at: Val) -> list[Val]:
        start, tasks = i64(0), more[f"{kind}_tasks"]
        if kind == "pack_step":
            for_a = fn.cmp("slt", at, more["all_a_tasks"])
            start = fn.select(for_a, start, more["all_a_tasks"])
            tasks = fn.select(for_a, more["a_tasks"], tasks)
        o = fn.op("udiv", fn.sub(at, start), tasks)
        end = fn.intrinsic("smin", hi, fn.add(start, fn.mul(fn.add(o, i64(1)), tasks)))
        for x in ("a", "b"):
            i = OPERANDS.index(x)
            further = fn.mul(fn.mul(o, more[f"{x}_more"]), i64(t.dtype.size))
            fn.store(fn.gep(given[i], further), fn.gep(local, 8 * i), 8)
        hand_on(fn, t, kind, [local, numbers, at, end], (Val(f"@{name}_inside", "ptr"), numbers), dest)
        return [end]

    fn.while_([lo], lambda at: fn.cmp("slt", at, hi), part)
    fn.ret_()


def inside(module: Module, name: str, params: Sequence[str]) -> None:
    """The function that finishes tiles, as a product with a frame of its own calls it."""
    pointers = ("frame", "idx", "tile")
    fn = module.function(f"{name}_inside", [(n, "ptr" if n in pointers else "i64") for n in params], internal=True)
    frame, idx = (fn.load("ptr", fn.gep(fn.args[0], 8 * i), 8) for i in (_FRAME, _IDX))
    fn.call(f"{name}_finish", [frame, idx, *fn.args[2:]])
    fn.ret_()


def _numbers(module: Module, t: Tiles) -> Val:
    """The numbers 0, 1, 2, … of the operands in a frame that has nothing else."""
    name, n = f"{t.prefix}_numbers", len(OPERANDS)
    text = f"internal constant [{n} x i32] [{', '.join(f'i32 {i}' for i in range(n))}]"
    if f"@{name} = {text}" not in module.globals:
        module.global_(name, text)
    return Val(f"@{name}", "ptr")


def numbers(
    t: Tiles, sizes: tuple[int, int, int, int], outer: int, a: tuple[int, int], b: tuple[int, int]
) -> list[int]:
    """The numbers in `OUTER` for a product of sizes (m, n, k, batch); `a`, `b`: strides of the outer and inner loop."""
    inner = sizes[3] // outer
    tasks = {kind: gemmplan.tasks(t, kind, *sizes, 0) for kind in STEPS}
    for_a = gemmplan.plan(gemmplan.Ints(), t, *sizes, 0).blocks * sizes[3] if tasks["pack_step"] else 0
    tasks["pack_step"] -= for_a
    more = [s - inner * u for s, u in (a, b)]
    return [*more, for_a // outer, for_a, *[count // outer for count in tasks.values()]]
