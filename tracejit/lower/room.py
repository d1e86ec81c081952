"""Memory that a function works in, too much for a thread's stack: taken from the allocator when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.lower.llvm import NULL, Fn, Val, i64

IMPORTS = {"tj_alloc": ("ptr", ["i64"]), "tj_free": ("void", ["ptr"])}
_ALIGN = 64


class Room:
    """Parts of so many bytes. Where there is no memory left, threads share a reserve of the module's, in turns."""

    def __init__(self, fn: Fn, names: Sequence[str], sizes: Sequence[int]) -> None:
        self.fn = fn
        self.starts = [sum(-(-s // _ALIGN) * _ALIGN for s in sizes[:i]) for i in range(len(sizes) + 1)]
        reserve, taken = names
        self.reserve = fn.module.global_(reserve, f"internal global [{self.starts[-1]} x i8] zeroinitializer, align 64")
        self.lock = fn.module.global_(taken, "internal global i64 0, align 8")
        for name, (result, params) in IMPORTS.items():
            fn.module.declare(name, result, params)
        self.at = fn.alloca(8, 8)
        fn.store(NULL, self.at, 8)

    def take(self) -> None:
        """Have the room from here on."""
        fn = self.fn

        def reserved() -> list[Val]:
            fn.while_(
                [i64(0)], lambda had: fn.cmp("eq", had, i64(0)), lambda had: [fn.cast("zext", self._try(), "i64")]
            )
            return [self.reserve]

        def allocated() -> None:
            p = fn.call("tj_alloc", [i64(self.starts[-1])], "ptr")
            fn.store(fn.if_(fn.cmp("eq", p, NULL), reserved, lambda: [p])[0], self.at, 8)

        fn.if_(fn.cmp("eq", fn.load("ptr", self.at, 8), NULL), allocated)

    def _try(self) -> Val:
        return self.fn.cas(self.lock, i64(0), i64(1))

    def part(self, i: int) -> Val:
        return self.fn.gep(self.fn.load("ptr", self.at, 8), i64(self.starts[i]))

    def taken(self, i: int) -> Val:
        self.take()
        return self.part(i)

    def leave(self) -> None:
        """Give it back."""
        fn = self.fn
        p = fn.load("ptr", self.at, 8)

        def unlock() -> None:
            fn.line(f"store atomic i64 0, ptr {self.lock} release, align 8")

        def free() -> None:
            fn.call("tj_free", [p])

        fn.if_(fn.cmp("ne", p, NULL), lambda: fn.if_(fn.cmp("eq", p, self.reserve), unlock, free))
