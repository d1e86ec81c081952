"""The native code that gives arrays another element type: what `cast` does, by chunks of 64-bit numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    Element,
    element_of,
    new_array,
    record_of,
    return_at_labels,
    return_unless_missed,
    size_of,
    step_of,
    words,
)
from tracejit.runtime.boundary import call, field, incref, nonzero, switch, sym
from tracejit.runtime.cache import host

_CHUNK: Final = 256
LARGEST: Final = 1 << 15  # elements; NumPy lets other threads run while it converts more
_INTEGERS: Final = {
    "bool": ("i8", "zext"), "int8": ("i8", "sext"), "int16": ("i16", "sext"), "int32": ("i32", "sext"),
    "int64": ("i64", "sext"), "uint8": ("i8", "zext"), "uint16": ("i16", "zext"), "uint32": ("i32", "zext"),
    "uint64": ("i64", "zext"),
}  # fmt: skip
_FLOATS: Final = {"float32": "float", "float64": "double"}
TAKEN: Final = (*_INTEGERS, *_FLOATS)
HALF: Final = "float16"
PAIRS: Final = {"complex64": "float32", "complex128": "float64"}  # two of these each


def _halves() -> bool:
    """Whether the machine has instructions for float16; others would call functions that there may not be."""
    features = host()[1]
    return "+f16c" in features or "+sse2" not in features


def recasts(name: str, to: str) -> bool:
    """Whether elements of one type are given another here."""
    return (name in TAKEN and (to in TAKEN or to in PAIRS)) or (name in PAIRS and to in PAIRS)


def _number(name: str) -> int:
    return int(np.dtype(name).num)


def _each(
    f: Fn, n: Val, source: tuple[Val, Val], read: str, target: tuple[Val, str], step: Callable[[Val], Val]
) -> None:
    """`target[i] = step(source[i])`, the source's elements lying so many bytes apart."""
    start, apart = source
    place, write = target

    def one(i: Val) -> None:
        v = f.load(read, f.gep(start, f.mul(i, apart)))
        f.store(step(v), f.gep(place, i, write))

    f.loop(0, n, one)


def _define_widen(m: Module) -> None:
    """`widen(type, source, step, n, wide)`: n elements as 64-bit integers, or as doubles."""
    params = [("type", "i64"), ("source", "ptr"), ("step", "i64"), ("n", "i64"), ("wide", "ptr")]
    f = m.function("widen", params, internal=True, attrs="noinline")
    kind, source, step, n, wide = f.args

    def integer(ty: str, extend: str) -> Callable[[], None]:
        return lambda: _each(f, n, (source, step), ty, (wide, "i64"), lambda v: f.cast(extend, v, "i64"))

    def floating(ty: str) -> Callable[[], None]:
        return lambda: _each(f, n, (source, step), ty, (wide, "double"), lambda v: f.cast("fpext", v, "double"))

    arms = {_number(name): integer(*how) for name, how in _INTEGERS.items()}
    arms |= {_number(name): floating(ty) for name, ty in _FLOATS.items()}
    if _halves():
        arms[_number(HALF)] = floating("half")
    switch(f, kind, arms, "end")
    f.br("end")
    f.label("end")
    f.ret_()


def _define_narrow(m: Module, floating: bool) -> None:
    """`narrow_…(type, unsigned, wide, n, out)`: integers wrap around; doubles become the nearest integer towards zero
    that the type has, and NaN zero."""
    params = [("type", "i64"), ("unsigned", "i1"), ("wide", "ptr"), ("n", "i64"), ("out", "ptr")]
    f = m.function("narrow_doubles" if floating else "narrow_integers", params, internal=True, attrs="noinline")
    kind, unsigned, wide, n, out = f.args
    read = "double" if floating else "i64"

    def each(ty: str, step: Callable[[Val], Val]) -> None:
        _each(f, n, (wide, i64(8)), read, (out, ty), step)

    def truth() -> None:
        test = "une" if floating else "ne"
        each("i8", lambda v: f.cast("zext", f.cmp(test, v, const(read, 0)), "i8"))

    def saturate(ty: str, extend: str) -> Callable[[Val], Val]:
        name = f"llvm.fpto{'s' if extend == 'sext' else 'u'}i.sat.{ty}.f64"
        m.declare(name, ty, ["double"])
        return lambda v: f.pure(f"call {ty} @{name}(double {v})", ty)

    def integer(ty: str, extend: str) -> Callable[[], None]:
        step = saturate(ty, extend) if floating else lambda v: f.cast("trunc", v, ty)
        return lambda: each(ty, step)

    def real(ty: str) -> Callable[[], None]:
        single = "float" if ty == "half" else ty  # as NumPy does it, which is what decides how integers are rounded

        def rounded(v: Val) -> Val:
            return f.cast("fptrunc", v, ty) if single != ty else v

        if floating:
            return lambda: each(ty, lambda v: rounded(f.cast("fptrunc", v, single)))

        def by_sign() -> None:
            def convert(opcode: str) -> Callable[[], None]:
                return lambda: each(ty, lambda v: rounded(f.cast(opcode, v, single)))

            f.if_(unsigned, convert("uitofp"), convert("sitofp"))

        return by_sign

    arms: dict[int, Callable[[], None]] = {_number("bool"): truth}
    arms |= {_number(name): integer(*how) for name, how in _INTEGERS.items() if name != "bool"}
    arms |= {_number(name): real(ty) for name, ty in (_FLOATS | ({HALF: "half"} if _halves() else {})).items()}
    switch(f, kind, arms, "end")
    f.br("end")
    f.label("end")
    f.ret_()


def is_member(f: Fn, index: Val, names: tuple[str, ...]) -> Val:
    """Whether a type number is that of one of these types."""
    mask = sum(1 << _number(name) for name in names)
    return nonzero(f, f.and_(f.op("lshr", i64(mask), index), i64(1)))


def _define_recast(m: Module) -> None:
    """`ptr recast(array, type)`: a new array with elements of this type, null with an exception, or MISS."""
    f = m.function("recast", [("array", "ptr"), ("type", "i64")], "ptr", internal=True, attrs="noinline")
    array, to = f.args
    buffer = f.alloca(8 * _CHUNK)
    index, mine = element_of(f, array)
    paired = is_member(f, to, tuple(PAIRS))
    taken = (*TAKEN, HALF) if _halves() else TAKEN
    f.guard(f.or_(is_member(f, to, taken), paired), "miss")
    f.guard(f.not_(paired), "pairs")
    f.guard(is_member(f, index, taken), "miss")
    if _halves():  # by way of float32 a double would be rounded twice
        twice = f.and_(f.cmp("eq", to, i64(_number(HALF))), f.cmp("eq", index, i64(_number("float64"))))
        f.guard(f.not_(twice), "miss")
    n = size_of(f, array)
    f.guard(f.cmp("ult", f.sub(n, i64(1)), i64(LARGEST)), "miss")
    target = record_of(f, to)
    out = new_array(f, array, n, target)
    step, size = step_of(f, array, words(f, mine, Element.SIZE)), words(f, target, Element.SIZE)
    source, place = field(f, array, layout.ARRAY_DATA), field(f, out, layout.ARRAY_DATA)
    floating, unsigned = is_member(f, index, (*_FLOATS, HALF)), f.cmp("eq", index, i64(_number("uint64")))

    def chunk(i: Val) -> None:
        k = f.intrinsic("smin", f.sub(n, i), i64(_CHUNK))
        f.call("widen", [index, f.gep(source, f.mul(i, step)), step, k, buffer])
        args = [to, unsigned, buffer, k, f.gep(place, f.mul(i, size))]
        f.if_(floating, lambda: call(f, "narrow_doubles", *args), lambda: call(f, "narrow_integers", *args))

    f.loop(0, n, chunk, step=_CHUNK)
    f.ret_(out)
    f.label("pairs")
    f.ret_(f.call("paired", f.args, "ptr"))
    return_at_labels(f)


def _parts(f: Fn, index: Val) -> Val:
    """The type of the parts of complex numbers; other types as they are."""
    for name, part in PAIRS.items():
        index = f.select(f.cmp("eq", index, i64(_number(name))), i64(_number(part)), index)
    return index


def _define_paired(m: Module) -> None:
    """`ptr paired(array, type)`: the same where the elements are to be complex numbers."""
    f = m.function("paired", [("array", "ptr"), ("type", "i64")], "ptr", internal=True, attrs="noinline")
    array, to = f.args
    wide, narrow = f.alloca(8 * _CHUNK), f.alloca(8 * _CHUNK)
    index, mine = element_of(f, array)
    pairs = is_member(f, index, tuple(PAIRS))
    f.guard(f.or_(is_member(f, index, TAKEN), pairs), "miss")
    n = size_of(f, array)
    f.guard(f.cmp("ult", f.sub(n, i64(1)), i64(LARGEST)), "miss")
    target = record_of(f, to)
    step, own = step_of(f, array, words(f, mine, Element.SIZE)), words(f, mine, Element.SIZE)
    f.guard(f.or_(f.not_(pairs), f.cmp("eq", step, own)), "miss")
    source_part, part = _parts(f, index), _parts(f, to)
    out = new_array(f, array, n, target)
    source, place = field(f, array, layout.ARRAY_DATA), field(f, out, layout.ARRAY_DATA)
    size = words(f, record_of(f, part), Element.SIZE)
    total = f.select(pairs, f.add(n, n), n)
    apart = f.select(pairs, words(f, record_of(f, source_part), Element.SIZE), step)
    way = f.select(pairs, size, f.add(size, size))  # from a part that is written to the next
    floating = f.or_(pairs, is_member(f, index, tuple(_FLOATS)))
    unsigned = f.cmp("eq", index, i64(_number("uint64")))

    def chunk(i: Val) -> None:
        k = f.intrinsic("smin", f.sub(total, i), i64(_CHUNK))
        f.call("widen", [source_part, f.gep(source, f.mul(i, apart)), apart, k, wide])
        args = [part, unsigned, wide, k, narrow]
        f.if_(floating, lambda: call(f, "narrow_doubles", *args), lambda: call(f, "narrow_integers", *args))

        def spread(ty: str) -> Callable[[], None]:
            def one(j: Val) -> None:
                at = f.gep(place, f.mul(f.add(i, j), way))
                f.store(f.load(ty, f.gep(narrow, j, ty)), at)
                f.if_(f.not_(pairs), lambda: f.store(const(ty, 0.0), f.gep(at, size)))

            def every() -> None:
                f.loop(0, k, one)

            return every

        f.if_(f.cmp("eq", size, i64(4)), spread("float"), spread("double"))

    f.loop(0, total, chunk, step=_CHUNK)
    f.ret_(out)
    return_at_labels(f)


def find_type(f: Fn, dtype: Val) -> Val:
    """The number of the type that an object stands for; jumps to "miss" for other objects."""
    names = sym("tj_dtypes")  # pairs of an object and a type number, and a null

    def other(k: Val) -> Val:
        have = f.load("ptr", f.gep(names, f.mul(k, i64(16))))
        return f.and_(nonzero(f, have), f.cmp("ne", have, dtype))

    (k,) = f.while_([i64(0)], other, lambda k: [f.add(k, i64(1))])
    entry = f.gep(names, f.mul(k, i64(16)))
    f.guard(nonzero(f, f.load("ptr", entry)), "miss")
    return f.load("i64", f.gep(entry, 8))


def _define_cast(m: Module) -> None:
    """`ptr cast(x, dtype)`: the tensor with elements of the type that an object stands for, or MISS."""
    f = m.function("cast", [("x", "ptr"), ("dtype", "ptr")], "ptr", internal=True)
    obj, dtype = f.args
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), "miss")
    x = f.call("array_of", [obj], "ptr")
    f.guard(nonzero(f, x), "miss")
    index, _ = element_of(f, x)
    to = find_type(f, dtype)

    def itself() -> list[Val]:
        incref(f, x)
        return [x]

    (out,) = f.if_(f.cmp("eq", index, to), itself, lambda: [f.call("recast", [x, to], "ptr")])
    return_unless_missed(f, out)


def define_recast(m: Module) -> None:
    _define_widen(m)
    for floating in (False, True):
        _define_narrow(m, floating)
    _define_paired(m)
    _define_recast(m)
    _define_cast(m)
