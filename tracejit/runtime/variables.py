"""The native code that assigns to Variables and to parts of them."""

from __future__ import annotations

from typing import Final

from tracejit.lower.llvm import NULL, Fn, Module, Val, const, i64
from tracejit.runtime import layout
from tracejit.runtime.arithmetic import (
    MISS,
    Element,
    Number,
    element_of,
    return_at_labels,
    row_of,
    same_shape,
    size_of,
    words,
)
from tracejit.runtime.boundary import call, decref, field, incref, nonzero, sym
from tracejit.runtime.views import integer, is_exact, items_of, move, require_quiet

PARTS: Final = ("assign", "assign_add", "assign_sub")  # methods of slices of Variables
_EXACT: Final = 2**53  # integers up to which a double is one


def _take_place(f: Fn, payload: int, variable: Val, array: Val) -> None:
    """The Variable holds this array from now on, whose reference it takes; it is returned."""
    place = f.gep(variable, payload)
    before = f.load("ptr", place)
    f.store(array, place)
    incref(f, variable)
    decref(f, before)
    f.ret_(variable)


def _require_exact(f: Fn, x: Val, overflow: Val) -> None:
    """Jump to "miss" for Python integers that are no doubles: the double, which NumPy makes of them, is not what they
    become here."""

    def exact() -> None:
        n = integer(f, x, overflow)
        f.guard(f.cmp("ule", f.add(n, i64(_EXACT)), i64(2 * _EXACT)), "miss")

    f.if_(is_exact(f, x, "tj_int"), exact)


def _variable(m: Module, name: str) -> tuple[Fn, Val]:
    f = m.function(name, [("v", "ptr"), ("x", "ptr")], "ptr", internal=True)
    require_quiet(f)
    f.guard(is_exact(f, f.args[0], "tj_variable"), "miss")
    own = f.call("payload", [f.args[0]], "ptr")
    f.guard(nonzero(f, own), "miss")
    return f, own


def _fits_place(f: Fn, own: Val, array: Val) -> Val:
    """Whether an array has the type and the shape of a Variable's."""
    alike = f.cmp("eq", field(f, own, layout.ARRAY_DESCR), field(f, array, layout.ARRAY_DESCR))
    return f.and_(alike, same_shape(f, own, array))


def _define_assign(m: Module, payload: int) -> None:
    """`ptr assign(v, x)`: the Variable, which holds the array of a tensor, or a copy of an array, from now on."""
    f, own = _variable(m, "assign")
    v, x = f.args
    foreign = is_exact(f, x, "tj_ndarray")
    array = f.select(foreign, x, f.call("payload", [x], "ptr"))
    f.guard(nonzero(f, array), "number")
    f.guard(_fits_place(f, own, array), "miss")
    plain = const("i32", layout.C_CONTIGUOUS | layout.OWNDATA)
    whole = f.cmp("eq", f.and_(field(f, array, layout.ARRAY_FLAGS, "i32"), plain), plain)

    def copied() -> list[Val]:
        made = f.call("copy", [array], "ptr")
        f.guard(f.cmp("ne", made, MISS), "miss")
        f.guard(nonzero(f, made), "error")
        return [made]

    def shared() -> list[Val]:
        incref(f, array)
        return [array]

    (taken,) = f.if_(f.or_(foreign, f.not_(whole)), copied, shared)
    _take_place(f, payload, v, taken)
    f.label("number")
    f.scopes = [{}]
    index, _ = element_of(f, own)
    made = f.call("listed", [x, index], "ptr")
    f.guard(f.cmp("ne", made, MISS), "miss")
    f.guard(nonzero(f, made), "error")
    own = f.call("payload", [v], "ptr")  # to make an array may collect garbage, and that run Python
    f.guard(nonzero(f, own), "unfit")
    f.guard(_fits_place(f, own, made), "unfit")
    _take_place(f, payload, v, made)
    f.label("unfit")
    decref(f, made)
    f.br("miss")
    return_at_labels(f)


def _is_unshared(f: Fn, array: Val) -> Val:
    """Whether nobody but a Variable can see an array, whose memory may be written to."""
    own = const("i32", layout.OWNDATA | layout.WRITEABLE)
    free = f.cmp("eq", f.and_(field(f, array, layout.ARRAY_FLAGS, "i32"), own), own)
    return f.and_(free, f.cmp("eq", field(f, array, layout.REFCOUNT, "i32"), const("i32", 1)))


def _put_value(f: Fn, own: Val, x: Val) -> Val:
    """What NumPy puts into an array of a Variable's type for a value; jumps to "miss" for one that is not so simple."""
    array = f.call("payload", [x], "ptr")

    def of_tensor() -> list[Val]:
        f.guard(f.cmp("eq", field(f, own, layout.ARRAY_DESCR), field(f, array, layout.ARRAY_DESCR)), "miss")
        point = f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 0))
        f.guard(f.or_(point, f.cmp("ne", size_of(f, array), i64(1))), "miss")
        return [array]

    def number() -> list[Val]:
        real, whole = is_exact(f, x, "tj_float"), is_exact(f, x, "tj_int")
        f.guard(f.or_(real, whole), "miss")
        _, kind = element_of(f, own)
        into = words(f, kind, Element.NUMBER)
        integers = f.cmp("eq", into, i64(Number.INTEGER))
        f.guard(f.and_(nonzero(f, into), f.not_(f.and_(real, integers))), "miss")
        place, overflow = f.alloca(16, 8), f.alloca(4, 4)
        f.guard(f.call("number", [x, kind, place], "i1"), "miss")  # there is such an element
        _require_exact(f, x, overflow)
        return [x]

    return f.if_(nonzero(f, array), of_tensor, number)[0]


def _define_put(m: Module, payload: int) -> None:
    """`ptr put(v, key, x)`: the Variable with its elements at a key replaced, in place where nobody can tell."""
    f = m.function("put", [(n, "ptr") for n in ("v", "key", "x")], "ptr", internal=True)
    v, key, x = f.args
    require_quiet(f)
    f.guard(is_exact(f, v, "tj_variable"), "miss")
    own = f.call("payload", [v], "ptr")
    f.guard(nonzero(f, own), "miss")
    value = _put_value(f, own, x)
    alone = _is_unshared(f, own)
    incref(f, own)  # to make an array may collect garbage, and that run Python
    incref(f, value)

    def copied() -> list[Val]:
        made = f.call("copy", [own], "ptr")
        decref(f, own)
        return [made]

    (target,) = f.if_(alone, lambda: [own], copied)
    made = f.and_(f.cmp("ne", target, MISS), nonzero(f, target))
    (done,) = f.if_(made, lambda: [f.call("put_into", [target, key, value], "i32")], lambda: [const("i32", -1)])
    decref(f, value)
    f.guard(f.cmp("ne", target, MISS), "miss")
    f.guard(nonzero(f, target), "error")
    f.guard(f.cmp("eq", done, const("i32", 0)), "failed")
    _take_place(f, payload, v, target)
    f.label("failed")
    decref(f, target)
    f.br("miss")
    return_at_labels(f)


def _put_element(f: Fn, array: Val, key: Val, value: Val) -> None:
    """Write an element of a line and return; jumps to "miss" for a position that there is not, and for a value with
    axes."""
    n, size = integer(f, key, f.alloca(4, 4)), f.load("i64", field(f, array, layout.ARRAY_DIMS))
    k = f.select(f.cmp("slt", n, i64(0)), f.add(n, size), n)
    f.guard(f.cmp("ult", k, size), "miss")
    offset = f.mul(k, f.load("i64", field(f, array, layout.ARRAY_STRIDES)))
    place = f.gep(field(f, array, layout.ARRAY_DATA), offset)
    _, kind = element_of(f, array)

    def of_array() -> None:
        f.guard(f.cmp("eq", field(f, value, layout.ARRAY_NDIM, "i32"), const("i32", 0)), "miss")
        move(f, place, field(f, value, layout.ARRAY_DATA), words(f, kind, Element.SIZE))

    def of_number() -> None:
        f.guard(f.call("number", [value, kind, place], "i1"), "miss")

    f.if_(is_exact(f, value, "tj_ndarray"), of_array, of_number)
    f.ret_(const("i32", 0))


def _define_put_into(m: Module) -> None:
    """`i32 put_into(array, key, value)`: 0 if NumPy has put the value there; no exception is left."""
    params = [("array", "ptr"), ("key", "ptr"), ("value", "ptr")]
    f = m.function("put_into", params, "i32", internal=True, attrs="noinline")
    array, key, value = f.args
    line = f.cmp("eq", field(f, array, layout.ARRAY_NDIM, "i32"), const("i32", 1))
    f.guard(f.not_(f.and_(is_exact(f, key, "tj_int"), line)), "element")
    plain = f.call("key_of", list(items_of(f, key)), "ptr")
    f.guard(f.cmp("ne", plain, MISS), "miss")
    f.guard(nonzero(f, plain), "error")
    f.guard(f.cmp("eq", f.call("PyContext_Enter", [sym("tj_silent")], "i32"), const("i32", 0)), "inside")
    r = f.call("tj_numpy_put", [array, plain, value], "i32")
    f.if_(f.cmp("ne", r, const("i32", 0)), lambda: call(f, "PyErr_Clear"))
    f.call("PyContext_Exit", [sym("tj_silent")], "i32")
    decref(f, plain)
    f.ret_(r)
    f.label("element")
    f.scopes = [{}]
    _put_element(f, array, key, value)
    f.label("inside")
    decref(f, plain)
    f.br("error")
    f.label("error")
    f.call("PyErr_Clear", [])
    f.br("miss")
    f.label("miss")
    f.ret_(const("i32", -1))


def _define_moved(m: Module, payload: int, row: int) -> None:
    """`ptr moved(v, x)`: a Tensor with the value of a Variable, to which x is added."""
    f, own = _variable(m, "moved")
    v, x = f.args
    incref(f, own)
    before = f.call("wrap", [own], "ptr")
    f.guard(nonzero(f, before), "error")
    t = f.call("binary", [before, x, row_of(f, row)], "ptr")
    f.guard(f.and_(f.cmp("ne", t, MISS), nonzero(f, t)), "lost")
    array = f.load("ptr", f.gep(t, payload))
    place = f.gep(v, payload)
    held = f.cmp("eq", f.load("ptr", place), own)  # still
    f.guard(f.and_(held, _fits_place(f, own, array)), "unfit")
    incref(f, array)
    decref(f, t)
    f.store(array, place)
    decref(f, own)  # the Variable's reference
    f.ret_(before)
    f.label("unfit")
    decref(f, t)
    decref(f, before)
    f.br("miss")
    f.label("lost")
    decref(f, before)
    f.guard(nonzero(f, t), "error")
    f.br("miss")
    return_at_labels(f)


def _define_update(m: Module, name: str, payload: int, row: int) -> None:
    """`ptr assign_add(v, x)` and its like: the Variable, which holds the result of a row from now on."""
    f, own = _variable(m, name)
    v, x = f.args
    overflow = f.alloca(4, 4)
    f.guard(f.not_(is_exact(f, x, "tj_bool")), "miss")
    _require_exact(f, x, overflow)
    t = f.call("binary", [v, x, row_of(f, row)], "ptr")
    f.guard(f.cmp("ne", t, MISS), "miss")
    f.guard(nonzero(f, t), "error")
    array = f.load("ptr", f.gep(t, payload))
    f.guard(_fits_place(f, own, array), "unfit")
    incref(f, array)
    decref(f, t)
    _take_place(f, payload, v, array)
    f.label("unfit")
    decref(f, t)
    f.br("miss")
    return_at_labels(f)


# --- slices -----------------------------------------------------------------------------------------------------
def _slice_of_tensor(f: Fn, obj: Val, slice_of: int, label: str) -> tuple[Val, Val]:
    """The Variable that a tensor is a copy of a part of, and the key; jumps to `label` for other objects."""
    f.guard(is_exact(f, obj, "tj_tensor"), label)
    origin = f.load("ptr", f.gep(obj, slice_of))
    f.guard(nonzero(f, origin), label)
    place = f.gep(origin, layout.TUPLE_ITEMS)
    return f.load("ptr", place), f.load("ptr", f.gep(place, 8))


def _define_part_getter(m: Module, name: str, number: int, slice_of: int) -> None:
    """`ptr get_assign(obj, closure)` and its like: the attribute of tensors that gives slices their method."""
    f = m.function(f"get_{name}", [("obj", "ptr"), ("closure", "ptr")], "ptr")
    args = f.alloca(8, 8)
    _slice_of_tensor(f, f.args[0], slice_of, "python")
    function = f.load("ptr", f.gep(sym("tj_part_methods"), 8 * number))
    f.ret_(f.call("PyMethod_New", [function, f.args[0]], "ptr"))
    f.label("python")
    f.store(f.args[0], args)
    f.ret_(f.call("PyObject_Vectorcall", [sym(f"tj_python_{name}"), args, i64(1), NULL], "ptr"))


def _define_part_method(m: Module, name: str, slice_of: int, row: int | None) -> None:
    """`ptr part_assign(self, args, nargs, names)` and its like, a C function for Python of a slice and a value."""
    params = [("self", "ptr"), ("args", "ptr"), ("nargs", "i64"), ("names", "ptr")]
    f = m.function(f"part_{name}", params, "ptr")
    _, args, nargs, names = f.args
    f.guard(f.and_(f.cmp("eq", names, NULL), f.cmp("eq", nargs, i64(2))), "python")
    require_quiet(f, "python")
    obj, x = f.load("ptr", args), f.load("ptr", f.gep(args, 8))
    v, key = _slice_of_tensor(f, obj, slice_of, "python")
    found = f.call("PyObject_GetAttr", [sym("tj_variable"), sym("tj_assign_name")], "ptr")
    f.guard(nonzero(f, found), "error")
    own = f.cmp("eq", found, sym("tj_assign"))  # nobody has replaced it
    decref(f, found)
    f.guard(own, "python")
    if row is None:
        r = f.call("put", [v, key, x], "ptr")
    else:
        part = f.call("variable_subscript", [v, key], "ptr")
        f.guard(f.cmp("ne", part, MISS), "python")
        f.guard(nonzero(f, part), "error")
        new = f.call("binary", [part, x, row_of(f, row)], "ptr")
        decref(f, part)
        f.guard(f.cmp("ne", new, MISS), "python")
        f.guard(nonzero(f, new), "error")
        r = f.call("put", [v, key, new], "ptr")
        decref(f, new)
    f.guard(f.cmp("ne", r, MISS), "python")
    f.ret_(r)
    f.label("python")
    f.ret_(f.call("PyObject_Vectorcall", [sym(f"tj_slice_{name}"), args, nargs, names], "ptr"))
    f.label("error")
    f.ret_(NULL)


def define_assignments(m: Module, payload: int, slice_of: int, rows: dict[str, int]) -> None:
    """`assign`, and the updates by their names with the numbers of their rows; the same of slices."""
    for number, name in enumerate(PARTS):
        _define_part_getter(m, name, number, slice_of)
        _define_part_method(m, name, slice_of, rows.get(name))
    _define_assign(m, payload)
    _define_put_into(m)
    _define_put(m, payload)
    _define_moved(m, payload, rows["assign_add"])
    for name, row in rows.items():
        _define_update(m, name, payload, row)
