"""The native code of indexing: new arrays that show a tensor's memory, or elements taken out of it."""

from __future__ import annotations

from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    MISS,
    Element,
    element_of,
    return_at_labels,
    return_unless_missed,
    words,
)
from tracejit.runtime.boundary import decref, field, incref, nonzero, sym

RANK: Final = 64  # more axes than NumPy's arrays have
_MOST: Final = 1 << 12  # bytes that are copied at once
NOWHERE: Final = i64(-(2**63))  # is outside every axis


def require_quiet(f: Fn, label: str = "miss") -> None:
    """Jump to `label` while a trace or a tape is active in some thread."""
    f.guard(f.cmp("eq", f.load("ptr", sym("tj_busy")), sym("tj_zero")), label)


def is_exact(f: Fn, obj: Val, cls: str) -> Val:
    return f.cmp("eq", field(f, obj, layout.TYPE), sym(cls))


def rank_of(f: Fn, array: Val) -> Val:
    return f.cast("sext", field(f, array, layout.ARRAY_NDIM, "i32"), "i64")


def integer(f: Fn, obj: Val, overflow: Val, label: str = "miss") -> Val:
    """The value of an exact int; jumps to `label` if it has more than 64 bits."""
    n = f.call("PyLong_AsLongLongAndOverflow", [obj, overflow], "i64")
    f.guard(f.cmp("eq", f.load("i32", overflow), const("i32", 0)), label)
    return n


def move(f: Fn, to: Val, source: Val, size: Val) -> None:
    """Copy so many bytes."""
    name = f.module.declare("llvm.memcpy.p0.p0.i64", "void", ["ptr", "ptr", "i64", "i1"])
    f.call(name, [to, source, size, const("i1", 0)])


def _define_view(m: Module) -> None:
    """`ptr view(array, rank, dims, strides, data)`: an array that shows another's memory; null if there is none."""
    params = [("array", "ptr"), ("rank", "i64"), ("dims", "ptr"), ("strides", "ptr"), ("data", "ptr")]
    f = m.function("view", params, "ptr", internal=True, attrs="noinline")
    array, rank, dims, strides, data = f.args
    descr = field(f, array, layout.ARRAY_DESCR)
    incref(f, descr)
    flags = f.and_(field(f, array, layout.ARRAY_FLAGS, "i32"), const("i32", layout.WRITEABLE))
    args = [sym("tj_ndarray"), descr, f.cast("trunc", rank, "i32"), dims, strides, data, flags, NULL]
    out = f.call("PyArray_NewFromDescr", args, "ptr")
    f.guard(nonzero(f, out), "error")
    incref(f, array)
    f.call("PyArray_SetBaseObject", [out, array], "i32")
    f.ret_(out)
    f.label("error")
    f.ret_(NULL)


def _define_single(m: Module) -> None:
    """`ptr single(array, data)`: a 0-d array with the element of an array's that lies there, or MISS."""
    f = m.function("single", [("array", "ptr"), ("data", "ptr")], "ptr", internal=True, attrs="alwaysinline")
    array, data = f.args
    _, kind = element_of(f, array)
    descr, size = words(f, kind, Element.DESCR, "ptr"), words(f, kind, Element.SIZE)
    made = f.call("tj_array", [descr, const("i32", 0), NULL, size], "ptr")
    f.guard(nonzero(f, made), "error")
    move(f, field(f, made, layout.ARRAY_DATA), data, size)
    f.ret_(made)
    return_at_labels(f)


# --- keys of numbers, slices, new axes and dots -----------------------------------------------------------------
def items_of(f: Fn, key: Val) -> tuple[Val, Val]:
    """Where the components of a key lie, and how many there are."""
    one = f.alloca(8, 8)
    f.store(key, one)
    several = is_exact(f, key, "tj_tuple")
    items = f.select(several, f.gep(key, layout.TUPLE_ITEMS), one)
    (n,) = f.if_(several, lambda: [field(f, key, layout.SIZE, "i64")], lambda: [i64(1)])
    return items, n


def require_simple_slice(f: Fn, item: Val, label: str = "miss") -> None:
    for offset in (layout.SLICE_START, layout.SLICE_STOP, layout.SLICE_STEP):
        bound = field(f, item, offset)
        f.guard(f.or_(f.cmp("eq", bound, sym("tj_none")), is_exact(f, bound, "tj_int")), label)


class _Cut:
    """Writes the walk over a key's components: it fills the dims and strides of the view that the key means."""

    def __init__(self, f: Fn, array: Val) -> None:
        self.f = f
        self.rank = rank_of(f, array)
        self.dims, self.strides = field(f, array, layout.ARRAY_DIMS), field(f, array, layout.ARRAY_STRIDES)
        self.new_dims, self.new_strides = f.alloca(8 * RANK, 8), f.alloca(8 * RANK, 8)
        self.bounds = [f.alloca(8, 8) for _ in range(3)]
        self.overflow, self.dotted = f.alloca(4, 4), f.alloca(4, 4)

    def axis(self, axis: Val) -> tuple[Val, Val]:
        f = self.f
        f.guard(f.cmp("slt", axis, self.rank), "miss")
        return f.load("i64", f.gep(self.dims, axis, "i64")), f.load("i64", f.gep(self.strides, axis, "i64"))

    def put(self, at: Val, dim: Val, stride: Val) -> None:
        f = self.f
        f.store(dim, f.gep(self.new_dims, at, "i64"))
        f.store(stride, f.gep(self.new_strides, at, "i64"))

    def number(self, item: Val, axis: Val, out: Val, offset: Val) -> list[Val]:
        f = self.f
        size, stride = self.axis(axis)
        plain = is_exact(f, item, "tj_int")
        (n,) = f.if_(plain, lambda: [integer(f, item, self.overflow)], lambda: [f.call("position", [item], "i64")])
        k = f.select(f.cmp("slt", n, i64(0)), f.add(n, size), n)
        f.guard(f.cmp("ult", k, size), "miss")
        return [f.add(axis, i64(1)), out, f.add(offset, f.mul(k, stride))]

    def slice(self, item: Val, axis: Val, out: Val, offset: Val) -> list[Val]:
        f = self.f
        require_simple_slice(f, item)
        size, stride = self.axis(axis)
        f.guard(f.cmp("sge", f.call("PySlice_Unpack", [item, *self.bounds], "i32"), const("i32", 0)), "clear")
        step = f.load("i64", self.bounds[2])
        n = f.call("PySlice_AdjustIndices", [size, self.bounds[0], self.bounds[1], step], "i64")
        some = f.cmp("sgt", n, i64(0))  # of no elements NumPy keeps the place where the axis begins
        start = f.select(some, f.load("i64", self.bounds[0]), i64(0))
        self.put(out, f.select(some, n, i64(0)), f.mul(stride, f.select(some, step, i64(1))))
        return [f.add(axis, i64(1)), f.add(out, i64(1)), f.add(offset, f.mul(start, stride))]

    def rest(self, axis: Val, out: Val, n: Val) -> None:
        """The next n axes as they are."""
        f = self.f
        f.loop(0, n, lambda i: self.put(f.add(out, i), *self.axis(f.add(axis, i))))


def _is_number(f: Fn, item: Val) -> Val:
    """Whether a component of a key is an exact int, or another integer that `position` reads."""
    plain = is_exact(f, item, "tj_int")
    return f.if_(plain, lambda: [plain], lambda: [f.cmp("ne", f.call("position", [item], "i64"), NOWHERE)])[0]


def _own_copy(f: Fn, array: Val, rank: Val, c: _Cut, data: Val) -> None:
    """Return a copy of the elements that lie there one after the other; jumps to "view" for others."""
    _, kind = element_of(f, array, "view")
    size = words(f, kind, Element.SIZE)

    def axis(k: Val, expected: Val) -> list[Val]:
        at = f.sub(f.sub(rank, i64(1)), k)
        dim, stride = (f.load("i64", f.gep(a, at, "i64")) for a in (c.new_dims, c.new_strides))
        f.guard(f.or_(f.cmp("eq", stride, expected), f.cmp("eq", dim, i64(1))), "view")
        return [f.mul(expected, dim)]

    (total,) = f.loop(0, rank, axis, [size])
    f.guard(f.cmp("ult", f.sub(total, i64(1)), i64(_MOST)), "view")
    args = [words(f, kind, Element.DESCR, "ptr"), f.cast("trunc", rank, "i32"), c.new_dims, total]
    copy = f.call("tj_array", args, "ptr")
    f.guard(nonzero(f, copy), "error")
    move(f, field(f, copy, layout.ARRAY_DATA), data, total)
    f.ret_(copy)
    f.label("error")
    f.ret_(NULL)


def _define_cut(m: Module, name: str = "cut", own: bool = False) -> None:
    """`ptr cut(array, key, shows)`: a new reference to the array that a key means, null with an exception, or MISS;
    whether it shows the memory of the other is stored in `shows`. `own_cut` rather copies, where that is simple."""
    f = m.function(name, [("array", "ptr"), ("key", "ptr"), ("shows", "ptr")], "ptr", internal=True, attrs="noinline")
    array, key, shows = f.args
    items, n = items_of(f, key)
    c = _Cut(f, array)
    f.guard(f.cmp("ult", n, i64(RANK // 2)), "miss")
    f.store(const("i32", 0), c.dotted)

    def used(i: Val, k: Val) -> list[Val]:
        item = f.load("ptr", f.gep(items, i, "ptr"))
        number, part = _is_number(f, item), is_exact(f, item, "tj_slice")
        dots = f.cmp("eq", item, sym("tj_dots"))
        f.guard(f.or_(f.or_(number, part), f.or_(dots, f.cmp("eq", item, sym("tj_none")))), "fancy")
        f.if_(dots, lambda: f.store(f.add(f.load("i32", c.dotted), const("i32", 1)), c.dotted))
        return [f.add(k, f.cast("zext", f.or_(number, part), "i64"))]

    (taken,) = f.loop(0, n, used, [i64(0)])
    dots = f.load("i32", c.dotted)
    f.guard(f.cmp("ule", dots, const("i32", 1)), "miss")
    f.guard(f.cmp("sle", taken, c.rank), "miss")

    def component(i: Val, axis: Val, out: Val, offset: Val) -> list[Val]:
        item = f.load("ptr", f.gep(items, i, "ptr"))

        def new_axis() -> list[Val]:
            c.put(out, i64(1), i64(0))
            return [axis, f.add(out, i64(1)), offset]

        def all_others() -> list[Val]:
            k = f.sub(c.rank, taken)
            c.rest(axis, out, k)
            return [f.add(axis, k), f.add(out, k), offset]

        def no_number() -> list[Val]:
            part = is_exact(f, item, "tj_slice")
            return f.if_(part, lambda: c.slice(item, axis, out, offset), no_axis)

        def no_axis() -> list[Val]:
            return f.if_(f.cmp("eq", item, sym("tj_none")), new_axis, all_others)

        return f.if_(_is_number(f, item), lambda: c.number(item, axis, out, offset), no_number)

    axis, out, offset = f.loop(0, n, component, [i64(0), i64(0), i64(0)])
    left = f.sub(c.rank, axis)
    c.rest(axis, out, left)
    rank = f.add(out, left)
    data = f.gep(field(f, array, layout.ARRAY_DATA), offset)
    single = f.and_(f.cmp("eq", rank, i64(0)), f.cmp("eq", dots, const("i32", 0)))
    f.guard(f.not_(single), "element")
    f.store(const("i32", 0), shows)
    if own:
        _own_copy(f, array, rank, c, data)
        f.label("view")
    f.store(const("i32", 1), shows)
    f.ret_(f.call("view", [array, rank, c.new_dims, c.new_strides, data], "ptr"))
    f.label("element")
    f.store(const("i32", 0), shows)
    f.ret_(f.call("single", [array, data], "ptr"))
    f.label("fancy")
    f.store(const("i32", 0), shows)
    f.ret_(f.call("pick", [array, items, n], "ptr"))
    f.label("clear")
    f.call("PyErr_Clear", [])
    f.br("miss")
    f.label("miss")
    f.ret_(MISS)


# --- tensors and keys -------------------------------------------------------------------------------------------
def _part(f: Fn, array: Val, key: Val, shows: Val, cut: str = "cut") -> Val:
    """What `cut` gives for a key, which most often is a number that goes with a line."""
    line = f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 1))

    def element(n: Val) -> list[Val]:
        size = f.load("i64", field(f, array, layout.ARRAY_DIMS))
        k = f.select(f.cmp("slt", n, i64(0)), f.add(n, size), n)
        f.guard(f.cmp("ult", k, size), "miss")
        offset = f.mul(k, f.load("i64", field(f, array, layout.ARRAY_STRIDES)))
        made = f.call("single", [array, f.gep(field(f, array, layout.ARRAY_DATA), offset)], "ptr")
        f.store(const("i32", 0), shows)
        return [made]

    def other() -> list[Val]:
        of_numpy = f.or_(is_exact(f, key, "tj_int64"), is_exact(f, key, "tj_int32"))
        return f.if_(f.and_(of_numpy, line), lambda: element(f.call("position", [key], "i64")),
                     lambda: [f.call(cut, [array, key, shows], "ptr")])  # fmt: skip

    simple = f.and_(is_exact(f, key, "tj_int"), line)
    return f.if_(simple, lambda: element(integer(f, key, shows)), other)[0]


def _define_subscript(m: Module) -> None:
    """`ptr subscript(obj, key)`: `x[key]` of a Tensor, or MISS."""
    f = m.function("subscript", [("obj", "ptr"), ("key", "ptr")], "ptr", internal=True)
    obj, key = f.args
    shows = f.alloca(4, 4)
    require_quiet(f)
    f.guard(is_exact(f, obj, "tj_tensor"), "miss")
    array = f.call("payload", [obj], "ptr")
    f.guard(nonzero(f, array), "miss")
    return_unless_missed(f, _part(f, array, key, shows))


def _define_variable_subscript(m: Module, slice_of: int) -> None:
    """`ptr variable_subscript(obj, key)`: `v[key]` of a Variable: a copy that knows which part it is of, or MISS."""
    f = m.function("variable_subscript", [("obj", "ptr"), ("key", "ptr")], "ptr", internal=True)
    obj, key = f.args
    shows = f.alloca(4, 4)
    require_quiet(f)
    f.guard(is_exact(f, obj, "tj_variable"), "miss")
    array = f.call("payload", [obj], "ptr")
    f.guard(nonzero(f, array), "miss")
    incref(f, array)  # the Variable may let go of it meanwhile
    part = f.call("part_of", [array, key, shows], "ptr")
    decref(f, array)
    f.guard(f.cmp("ne", part, MISS), "miss")
    f.guard(nonzero(f, part), "error")

    def own() -> list[Val]:
        copy = f.call("copy", [part], "ptr")
        decref(f, part)
        f.guard(f.cmp("ne", copy, MISS), "miss")
        f.guard(nonzero(f, copy), "error")
        return [copy]

    (a,) = f.if_(nonzero(f, f.load("i32", shows)), own, lambda: [part])
    t = f.call("wrap", [a], "ptr")
    f.guard(nonzero(f, t), "error")
    origin = f.call("PyTuple_New", [i64(2)], "ptr")
    f.guard(nonzero(f, origin), "lost")
    for k, x in enumerate((obj, key)):
        incref(f, x)
        f.store(x, f.gep(origin, layout.TUPLE_ITEMS + 8 * k))
    f.store(origin, f.gep(t, slice_of))
    f.ret_(t)
    f.label("lost")
    decref(f, t)
    f.br("error")
    return_at_labels(f)


def _define_part_of(m: Module) -> None:
    """`ptr part_of(array, key, shows)`: what `own_cut` gives, or MISS."""
    f = m.function("part_of", [("array", "ptr"), ("key", "ptr"), ("shows", "ptr")], "ptr", internal=True)
    array, key, shows = f.args
    f.ret_(_part(f, array, key, shows, "own_cut"))
    f.label("miss")
    f.ret_(MISS)


def _define_masked(m: Module) -> None:
    """`ptr masked(x, mask)`: the elements of a tensor where a tensor of truths over its first axes is true, or MISS."""
    f = m.function("masked", [("x", "ptr"), ("mask", "ptr")], "ptr", internal=True)
    arrays = []
    require_quiet(f)
    for obj in f.args:
        f.guard(is_exact(f, obj, "tj_tensor"), "miss")
        arrays.append(f.call("payload", [obj], "ptr"))
        f.guard(nonzero(f, arrays[-1]), "miss")
    a, mask = arrays
    index, _ = element_of(f, mask)
    f.guard(f.cmp("eq", index, i64(0)), "miss")
    rank = rank_of(f, mask)
    f.guard(nonzero(f, rank), "miss")
    f.guard(f.cmp("sle", rank, rank_of(f, a)), "miss")
    theirs, own = field(f, a, layout.ARRAY_DIMS), field(f, mask, layout.ARRAY_DIMS)

    def same(i: Val) -> None:
        f.guard(f.cmp("eq", *[f.load("i64", f.gep(dims, i, "i64")) for dims in (theirs, own)]), "miss")

    f.loop(0, rank, same)
    place = f.alloca(8, 8)
    f.store(mask, place)

    def chosen() -> list[Val]:
        return [f.call("chosen", arrays, "ptr")]

    (out,) = f.if_(f.cmp("eq", rank, rank_of(f, a)), chosen, lambda: [MISS])
    f.guard(f.cmp("eq", out, MISS), "made")
    return_unless_missed(f, f.call("pick", [a, place, i64(1)], "ptr"))
    f.label("made")
    f.guard(nonzero(f, out), "error")
    f.ret_(f.call("wrap", [out], "ptr"))


def define_views(m: Module, slice_of: int) -> None:
    """`cut` and the functions of a tensor and a key; tensors keep at the offset `slice_of` what they are slices of."""
    _define_view(m)
    _define_single(m)
    _define_cut(m)
    _define_cut(m, "own_cut", own=True)
    _define_subscript(m)
    _define_part_of(m)
    _define_variable_subscript(m, slice_of)
    _define_masked(m)
