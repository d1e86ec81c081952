"""Whether arguments are those that a concrete function was traced for, and the error that names one that is not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.arguments import Arguments
from tracejit.errors import DTypeError, ShapeError, SignatureError, TracejitError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.types import TensorType, as_dtype
from tracejit.leaves import Default, Kind, Static
from tracejit.tensor import Operand, Tensor, convert_unharmed

_NUMBERS = (bool, int, float, complex)


class Taken:
    """What one concrete function takes: the structure of its arguments, and of each leaf the kind and shape."""

    def __init__(
        self, name: str, arguments: Arguments, structure: tree.Structure, kinds: Sequence[Kind], shapes: Sequence[tuple]
    ) -> None:
        self.name, self.arguments, self.structure, self.kinds = name, arguments, structure.plain, kinds
        self.given = structure  # with dicts in the order in which they were traced
        rest = iter(shapes)
        self.shapes = [next(rest) if k.kind in ("tensor", "scalar") else None for k in kinds]
        self.plain = self._plain()

    def fitted(self, args: tuple, kwargs: dict[str, Any], numbers: dict[int, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a call as the function takes them; `numbers` are those that it may leave out, by their
        leaves. Raises the error that says what is wrong with them."""
        args, kwargs = self._completed(args, kwargs, numbers)
        leaves, structure = self.arguments.flatten(args, kwargs, self.given.shared)
        if structure.plain != self.structure:
            raise self._structure(structure)
        sizes: dict[str, tuple[Any, str]] = {}
        new = [self._leaf(i, x, sizes) for i, x in enumerate(leaves)]
        if structure == self.given and all(x is y for x, y in zip(leaves, new, strict=True)):
            return args, kwargs
        return tree.unflatten(self.given, [x.value if type(x) is Default else x for x in new])  # type: ignore[no-any-return]

    def _plain(self) -> list[list[Any]] | None:
        """Where all arguments are single tensors: the dtype, the shape, and the shape that the latest had.

        Open sizes, each of its own, are -1.
        """
        args, kwargs = self.structure.children
        alone = all(c.kind is None for c in args.children) and not kwargs.children
        if not alone or any(k.kind != "tensor" for k in self.kinds):
            return None
        open_ = [str(d) for shape in self.shapes for d in shape or () if isinstance(d, Dim)]
        if len(set(open_)) < len(open_):
            return None
        shapes = [tuple([-1 if isinstance(d, Dim) else d for d in shape or ()]) for shape in self.shapes]
        return [[as_dtype(k.detail[0]).np, s, s] for k, s in zip(self.kinds, shapes, strict=True)]

    def fits_at_once(self, args: tuple) -> bool:
        """Whether these are all of the arguments, single tensors, and fit. False where there is more to ask."""
        plain = self.plain
        if plain is None or len(args) != len(plain):
            return False
        for x, known in zip(args, plain):
            if type(x) is not Tensor or x._a.dtype is not known[0]:
                return False
            if x._a.shape != known[2]:
                if not _open_to(x._a.shape, known[1]):
                    return False
                known[2] = x._a.shape
        return True

    @functools.cached_property
    def _names(self) -> list[str]:
        """What each argument is called."""
        args, kwargs = self.structure.children
        own = ["the object"] * self.arguments.leading
        return [*own, *map(self.arguments.label, range(len(args.children) - len(own))), *map(str, kwargs.keys)]

    @functools.cached_property
    def labels(self) -> list[str]:
        """What each leaf is called: the argument, and where it stands in it."""
        return [path for name, c in zip(self._names, _parts(self.structure), strict=True) for path in c.paths(name)]

    def told(self, i: int) -> str:
        """A leaf, as errors call it."""
        return f"argument {self.labels[i]!r}"

    def _error(self, kind: type[TracejitError], i: int, found: str, wanted: str) -> TracejitError:
        text = f"{self.told(i)} of the concrete function {self.name} is {found}, it was traced for {wanted}"
        return locate(kind(text, remedy=f"call {self.name} itself, which is traced for each kind of arguments"))

    def _structure(self, found: tree.Structure) -> TracejitError:
        pairs = [*zip(self._names, _parts(found), _parts(self.structure), strict=False)]
        name, x, y = next(((n, x, y) for n, x, y in pairs if x != y), (None, found, self.structure))
        at = f"argument {name!r}: " if name is not None else ""
        text = f"{at}the concrete function {self.name} was traced for {_nest(y)}, not for {_nest(x)}"
        return locate(SignatureError(text))

    def _completed(
        self, args: tuple, kwargs: dict[str, Any], numbers: dict[int, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """The arguments with the Python values that the function was traced for, where they are left out."""
        signature = self.arguments.signature
        if signature is None:
            return args, kwargs
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError as e:
            raise locate(SignatureError(f"{self.name}() {e}")) from None
        given = bound.arguments
        fixed = {i: k.detail.value for i, k in enumerate(self.kinds) if k.kind in ("static", "variable")} | numbers
        blank = [fixed[i] if i in fixed else _Open() for i in range(len(self.kinds))]
        own, named = tree.unflatten(self.structure, blank)
        known = signature.bind(*own, **named).arguments
        more: dict[str, Any] = {}
        for name, p in signature.parameters.items():
            if p.kind is p.VAR_KEYWORD and name in known:
                more[name] = {k: x for k, x in known[name].items() if not _asked(x)} | given.get(name, {})
            if name in given or name not in known or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                continue
            asked = _asked(known[name])
            if asked and p.default is p.empty:
                raise locate(SignatureError(f"{self.name}() missing a required argument: {name!r}"))
            if not asked and known[name] is not p.default:
                more[name] = known[name]
        if not more:
            return args, kwargs
        given.update(more)
        bound.arguments = {name: given[name] for name in signature.parameters if name in given}
        return bound.args, bound.kwargs

    # --- leaves -------------------------------------------------------------------------------------------------------
    def _leaf(self, i: int, x: Any, sizes: dict[str, tuple[Any, str]]) -> Any:
        kind = self.kinds[i]
        if kind.kind == "tensor":
            return self._tensor(i, x, sizes)
        value = x.value if type(x) is Default else x
        if kind.kind == "scalar":
            weak = isinstance(value, Operand) and value.type.weak
            if type(x) is Default:
                text = f"{self.told(i)} of the concrete function {self.name} is missing"
                why = f"it was traced for any Python {kind.detail} there, so each call gives one"
                raise locate(SignatureError(f"{text}: {why}"))
            if not (weak or type(value).__name__ == kind.detail):
                if kind.detail == "float" and type(x) is int:
                    return float(x)
                raise self._error(DTypeError, i, _shown(value), f"a Python {kind.detail}")
        elif value is not kind.detail.value and Static(value) != kind.detail:
            raise self._error(SignatureError, i, _shown(value), _shown(kind.detail.value))
        return x

    def _tensor(self, i: int, x: Any, sizes: dict[str, tuple[Any, str]]) -> Any:
        dtype, shape = as_dtype(self.kinds[i].detail[0]), self.shapes[i] or ()
        wanted = f"{dtype.short}[{','.join(map(str, shape))}]"
        if type(x) in _NUMBERS and not shape:
            return convert_unharmed(x, dtype)
        if type(x) is Default:
            x = x.value
        if not isinstance(x, (Operand, np.ndarray, np.generic)):
            raise self._error(DTypeError, i, _shown(x), f"a tensor {wanted}")
        found = x.type if isinstance(x, Operand) else TensorType(as_dtype(x.dtype), np.shape(x))
        if found.dtype is not dtype:
            raise self._error(DTypeError, i, str(found), wanted)
        if len(found.shape) != len(shape):
            raise self._error(ShapeError, i, str(found), wanted)
        for axis, (n, want) in enumerate(zip(found.shape, shape, strict=True)):
            if not isinstance(want, Dim):
                if n != want:
                    raise self._error(ShapeError, i, str(found), wanted)
                continue
            size, label = sizes.setdefault(str(want), (n, self.labels[i]))
            if size != n:
                text = f"{wanted} with {want} = {size}, as in {label!r}; axis {axis} has {n}"
                raise self._error(ShapeError, i, str(found), text)
        return x


def _open_to(shape: tuple, wanted: tuple) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, n) for n, w in zip(shape, wanted, strict=True))


class _Open:
    """Stands for a tensor or number that a call has to give."""


def _asked(x: Any) -> bool:
    return any(type(y) is _Open for y in tree.flatten(x)[0])


def _parts(s: tree.Structure) -> list[tree.Structure]:
    return [part for side in s.children for part in side.children]


def _nest(s: tree.Structure) -> str:
    return "a single value" if s.kind is None else f"the structure {s}"


def _shown(x: Any) -> str:
    if isinstance(x, Operand):
        return f"a tensor {x.type}"
    text = repr(x)
    return f"{type(x).__name__} {text}" if len(text) <= 60 else f"a {type(x).__name__}"
