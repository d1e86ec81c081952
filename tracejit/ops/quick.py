"""Eager calls of public functions without what tracing needs: NumPy forms, and sequences of kernels kept as plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import numpy as np

from tracejit.context import listen, unlisten
from tracejit.ir.op import Op
from tracejit.ir.types import DType
from tracejit.ops.kernels import is_half
from tracejit.ops.shape import sliced
from tracejit.tensor import WARM, Tensor, Variable, run_silently, warm, wrap

_ndarray, _new, _asarray = np.ndarray, object.__new__, np.asarray


# --- traced programs --------------------------------------------------------------------------------------------------
# Forms whose every step is exact, each with the function of the same arguments that is traced for it; the programs that
# there are, which give None for other arguments; and who makes them after so many calls.
TRACED: dict[Callable[..., Any], Callable[..., Any]] = {}
NATIVE: dict[Callable[..., Any], Callable[..., Any]] = {}
WHEN_FREQUENT: list[Callable[[Callable[..., Any], tuple[Any, ...]], None]] = []
FREQUENT = 256
ANY_SIZE: set[Callable[..., Any]] = set()  # forms whose programs are much faster than NumPy, be arrays large or small
_PIECE = 12  # the logarithm of the bytes that count as a call of these
_left: dict[Callable[..., Any], int] = {}
_calls = WARM


def traced(f: Callable[..., Any], *args: Any) -> Any:
    """The public function `f` of these arguments by a traced program; None while it has none, and after an error.

    To be asked by `f` while nothing listens, if every step of it gives the same bits in such a program.
    """
    try:
        if (native := NATIVE.get(f)) is not None and (r := native(*args)) is not None:
            return r
        if f not in _left:
            exact(f)
        _count(f, args)
    except Exception:  # f does it the ordinary way, and explains what is wrong
        pass
    return None


def exact(f: Callable[..., Any], form: Callable[..., Any] | None = None, any_size: bool = False) -> None:
    """Let frequent calls of a function, asked for by its NumPy form or as a plan, be traced programs: every step gives
    the same bits there. With `any_size` also those with a large tensor as the first argument."""
    TRACED[form or f] = f
    _left[form or f] = FREQUENT
    if any_size:
        ANY_SIZE.add(form or f)


def _count(form: Callable[..., Any], args: tuple[Any, ...]) -> None:
    _left[form] = left = _left[form] - (1 + (args[0]._a.nbytes >> _PIECE) if form in ANY_SIZE else 1)
    if left <= 0:
        _left[form] = FREQUENT  # calls that no program takes until the next try, with other arguments
        for begin in WHEN_FREQUENT:
            begin(form, args)


# --- NumPy forms ------------------------------------------------------------------------------------------------------
def at_once(form: Callable[..., Any], *args: Any) -> Any:
    """What a function of NumPy's makes of the arguments, None for arguments that it refuses by raising anything.

    To be asked while nothing listens. A form takes tensors as they come, and has to refuse what the public function
    treats in another way, errors included. Its result is an array, a number, or a list or tuple of arrays.
    """
    global _calls
    _calls -= 1
    if not _calls:
        warm()
    try:
        if (native := NATIVE.get(form)) is not None and (r := native(*args)) is not None:
            return r
        if form in _left:
            _count(form, args)
        r = run_silently(form, *args)
        if type(r) is _ndarray:
            t = _new(Tensor)
            t._a = r
            return t
        return type(r)(_wrapped(r)) if type(r) is list or type(r) is tuple else wrap(r)
    except Exception:  # the caller does it the ordinary way, and explains what is wrong
        return None


def _wrapped(arrays: Iterable[Any]) -> list[Tensor]:
    out = []
    for a in arrays:
        if type(a) is not _ndarray:
            a = wrap(a)._a
        t = _new(Tensor)
        t._a = a
        out.append(t)
    return out


# --- plans ------------------------------------------------------------------------------------------------------------
PLAIN = frozenset((int, bool, str, type(None), DType))
_SEEN = 3  # calls of a kind, the last of which makes a plan
_KINDS = 2048  # of calls that are counted, and that have plans
_CONSTANTS = 1 << 14  # bytes that a plan may hold

Plan = tuple[Callable[..., Any], Callable[[Any], Any] | None]
_plans: dict[tuple[Any, ...], Plan] = {}
_counts: dict[tuple[Any, ...], int] = {}
# Of each function the latest plan for one tensor, with the tensor's dtype and shape and with the other arguments: the
# same objects are found without a key.
_latest: dict[Callable[..., Any], tuple[Any, ...]] = {}


def planned(f: Callable[..., Any], *args: Any) -> Any:
    """The public function `f` of these arguments by its plan; None while it has none, and after an error.

    To be asked by `f` while nothing listens. A plan is the sequence of kernels that `f` calls through the door,
    which for operands of the same dtypes and shapes, and equal other arguments, must not depend on their values.
    """
    key: list[Any] = [f]
    arrays: list[Any] = []
    try:
        if (native := NATIVE.get(f)) is not None and (r := native(*args)) is not None:
            return r
        if f in _left:
            _count(f, args)
        last = _latest.get(f)
        if last is not None and type(args[0]) is Tensor and last[0] is (a := args[0]._a).dtype and last[1] == a.shape:
            if all(map(is_, args[1:], last[2])):
                r = run_silently(last[3], a)
                if type(r) is _ndarray:
                    t = _new(Tensor)
                    t._a = r
                    return t
                return wrap(r) if last[4] is None else last[4](_wrapped(r))
        for x in args:
            kind = type(x)
            if kind is Tensor or kind is Variable:
                a = x._a
                arrays.append(a)
                key += a.dtype.num, a.shape  # what is traced has no such number
            elif kind in PLAIN:
                key += kind, x
            elif kind is tuple and PLAIN.issuperset(kinds := tuple(map(type, x))):
                key += kinds, x
            else:
                _add(x, key, arrays)
        plan = _plans.get(tuple(key))
        if plan is None:
            return _met(tuple(key), f, args)
        run, many = plan
        if len(arrays) == 1 and all(map(_never_changes, args[1:])):
            a = arrays[0]
            _latest[f] = a.dtype, a.shape, args[1:], run, many
        r = run_silently(run, *arrays)
        if type(r) is _ndarray:
            t = _new(Tensor)
            t._a = r
            return t
        return wrap(r) if many is None else many(_wrapped(r))
    except Exception:  # f does it the ordinary way, and explains what is wrong
        return None


def _never_changes(x: Any) -> bool:
    kind = type(x)
    return kind in PLAIN or kind is float or (kind is tuple and PLAIN.issuperset(map(type, x)))


def _add(x: Any, key: list[Any], arrays: list[Any]) -> None:
    """Continue a key with an argument of any kind. Raises `TypeError` for those that keep a call from being planned."""
    kind = type(x)
    if kind is Tensor or kind is Variable:
        arrays.append(x._a)
        key += x._a.dtype.num, x._a.shape
    elif kind in PLAIN:
        key += kind, x
    elif kind is float:
        key += kind, x.hex()  # zeros have signs
    elif kind is list or kind is tuple:
        key += kind, len(x)
        for y in x:
            _add(y, key, arrays)
    else:
        raise TypeError


def _met(key: tuple[Any, ...], f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Count a call; make the plan when it is frequent."""
    for table in (_counts, _plans):
        if len(table) >= _KINDS:
            table.clear()
    times = _counts[key] = min(_counts.get(key, 0), _SEEN) + 1
    if times == _SEEN and (plan := _recorded(f, args)) is not None:
        _plans[key] = plan
        del _counts[key]


class _Recorder:
    """A tape that keeps the kernels that are called, and where each operand comes from."""

    def __init__(self) -> None:
        self.steps: list[tuple[Op, list[int], dict[str, Any], int]] = []
        self.arrays: list[Any] = []  # numbered; kept, so that no other has the identity of one
        self.places: dict[int, int] = {}
        self.computed: set[int] = set()  # which depend on the arguments
        self.complete = True

    def place(self, a: Any) -> int:
        k = self.places.setdefault(id(a), len(self.arrays))
        if k == len(self.arrays):
            self.arrays.append(a)
        return k

    def take(self, x: Any) -> Any:
        """An argument in the place of one that is the caller's, each tensor as one of its own."""
        if isinstance(x, (Tensor, Variable)):
            t = wrap(x._a.view())
            self.computed.add(self.place(t._a))
            return t
        return type(x)([self.take(y) for y in x]) if type(x) in (list, tuple) else x

    def record(self, op: Op, keys: tuple, values: tuple, attrs: dict[str, Any], outs: tuple) -> None:
        inputs = [self.place(v._a) for v in values]
        if len(outs) != 1 or not op.pure:
            self.complete = False
        elif id(outs[0]._a) not in self.places:
            out = self.place(outs[0]._a)
            if self.computed.intersection(inputs):
                self.computed.add(out)
                self.steps.append((op, inputs, attrs, out))

    def leave(self, x: Any, what: str) -> None:
        """A value is read: what follows may depend on it."""
        self.complete = False

    def knows(self, x: Any) -> bool:
        return False


def _recorded(f: Callable[..., Any], args: tuple[Any, ...]) -> Plan | None:
    """The plan of a call, None if it has none or fails."""
    tape = _Recorder()
    given = [tape.take(x) for x in args]
    count = len(tape.arrays)
    listen(tape)
    try:
        r = f(*given)
    except Exception:
        return None
    finally:
        unlisten(tape)
    results = list(r) if type(r) in (list, tuple) else [r]
    if not tape.complete or not all(type(y) is Tensor and id(y._a) in tape.places for y in results):
        return None
    outs = [tape.places[id(y._a)] for y in results]
    _drop_unread(tape, outs)
    constants = {k for _, inputs, _, _ in tape.steps for k in inputs} - tape.computed
    if not tape.computed.issuperset(outs) or sum(tape.arrays[k].nbytes for k in constants) > _CONSTANTS:
        return None
    return _compiled(tape, count, outs, type(r) is not Tensor), type(r) if type(r) is not Tensor else None


def _drop_unread(tape: _Recorder, outs: list[int]) -> None:
    read, kept = set(outs), []
    for step in reversed(tape.steps):
        if step[3] in read:
            read.update(step[1])
            kept.append(step)
    tape.steps = kept[::-1]


def _compiled(tape: _Recorder, count: int, outs: list[int], many: bool) -> Callable[..., Any]:
    """The kernels as a Python function of the argument arrays. Names are used again, which frees what they named."""
    last = {k: at for at, (_, inputs, _, _) in enumerate(tape.steps) for k in inputs}
    last.update(dict.fromkeys(outs, len(tape.steps)))
    exact = {k for op, inputs, _, _ in tape.steps if not isinstance(op.numpy, np.ufunc) for k in inputs}
    names = {k: f"v{k}" for k in range(count)}
    space: dict[str, Any] = {"asarray": _asarray}
    lines = [f"def plan({', '.join(names.values())}):"]
    free: list[str] = []
    for at, (op, inputs, attrs, out) in enumerate(tape.steps):
        for k in inputs:
            if k not in names:
                names[k] = f"c{k}"
                space[names[k]] = tape.arrays[k]
        operands = [names[k] for k in inputs]
        free += {names[k] for k in inputs if last[k] == at and k in tape.computed}
        names[out] = free.pop() if free else f"v{out}"
        call = _call(op, operands, [tape.arrays[k] for k in inputs], attrs, space, at)
        if out in exact and not tape.arrays[out].ndim:
            call = f"asarray({call})"  # NumPy's scalars are arrays to ufuncs only
        lines.append(f"    {names[out]} = {call}")
    lines.append(f"    return {'[%s]' if many else '%s'}" % ", ".join(names[k] for k in outs))
    exec("\n".join(lines), space)
    return space["plan"]  # type: ignore[no-any-return]


def _call(op: Op, names: list[str], arrays: list[Any], attrs: dict[str, Any], space: dict[str, Any], at: int) -> str:
    """The call of a kernel, or what it does for operands of these dtypes and ranks."""
    x, a = names[0], arrays[0]
    k = space[f"k{at}"] = _plainer(op, arrays, attrs)
    if type(k) is tuple and op.name == "slice":
        return f"{x}[k{at}]"
    if isinstance(k, (tuple, np.dtype)):
        return f"{x}.{'astype' if op.name == 'cast' else op.name}(k{at})"
    if type(k) is np.ufunc and op.name == "matmul":
        turn = [".swapaxes(-1, -2)" if attrs.get(t) else "" for t in ("ta", "tb")]
        return f"k{at}({x}{turn[0]}, {names[1]}{turn[1]})"
    for name, value in attrs.items():
        space[f"{name}{at}"] = value
    if type(k) is np.ufunc and op.family == "reduce":
        space[f"k{at}"], space[f"type{at}"] = k.reduce, a.dtype
        return f"k{at}({x}, axis{at}, type{at})"
    return f"k{at}({', '.join([*names, *(f'{name}={name}{at}' for name in attrs)])})"


_REDUCED = {"reduce_sum": np.add, "reduce_prod": np.multiply, "reduce_max": np.maximum, "reduce_min": np.minimum}


def _plainer(op: Op, arrays: list[Any], attrs: dict[str, Any]) -> Any:
    """A method's argument, or a ufunc, if that is all that the kernel calls for such operands; else the kernel."""
    if op.name in ("reshape", "transpose"):
        return attrs["shape" if op.name == "reshape" else "perm"]
    if op.name == "slice":
        return sliced(**attrs)
    kinds = {a.dtype.kind for a in arrays}
    if op.name == "cast":
        to: DType = attrs["dtype"]
        return to.np if kinds <= set("biu") or (kinds == {"f"} and to.kind == "f") else op.numpy
    if op.name in _REDUCED and not is_half(arrays[0].dtype):
        return _REDUCED[op.name]
    if op.name == "matmul" and kinds <= set("fc"):
        return np.matmul
    return op.numpy
