"""The arguments of a call: flattened into leaves, and fitted to a signature."""

from __future__ import annotations

import inspect
import itertools
import operator
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit import tree, wrappers
from tracejit.context import context
from tracejit.errors import ArgumentError, DTypeError, ShapeError, SignatureError, TracejitError, locate
from tracejit.identity import Reference
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.types import DType, as_dtype, float32, promote_weak
from tracejit.leaves import Default
from tracejit.runtime import layout
from tracejit.runtime.records import Fields, Form
from tracejit.tensor import Operand, Tensor, convert


def _size(n: Any) -> int:
    try:
        size = operator.index(n)
    except TypeError:
        size = -1
    if size < 0:
        raise locate(ArgumentError(f"a size in a TensorSpec is an integer from 0 on, None or a name, not {n!r}"))
    return size


class TensorSpec:
    """The dtype and shape that an argument must have; None in the shape is a size that may differ from call to call.

    A string in the shape names such a size: equal names must be equal sizes. None as the shape leaves the rank open as
    well: each rank is traced once.
    """

    __slots__ = ("shape", "dtype", "name")

    def __init__(
        self, shape: Sequence[int | str | None] | None = (), dtype: Any = float32, name: str | None = None
    ) -> None:
        self.dtype, self.name = as_dtype(dtype), name
        self.shape: tuple[int | str | None, ...] | None = None
        if shape is None:
            return
        if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
            raise locate(ArgumentError(f"a TensorSpec takes a shape such as (None, 3), not {shape!r}"))
        self.shape = tuple([n if n is None or isinstance(n, str) else _size(n) for n in shape])

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """The spec that this tensor fulfils and no tensor of another shape or dtype does."""
        return cls(tuple(tensor.shape), tensor.dtype, name)

    def is_compatible_with(self, other: Any) -> bool:
        """Whether a tensor, or what another spec tells of one, fulfils this spec."""
        if self.shape is None or other.shape is None:
            return as_dtype(other.dtype) is self.dtype
        mine, its = self.shape, tuple(other.shape)
        fits = len(mine) == len(its) and all(a == b or not isinstance(a, int) for a, b in zip(mine, its, strict=True))
        return fits and as_dtype(other.dtype) is self.dtype

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorSpec) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))


def _is_number(x: Any) -> bool:
    """Whether a tensor stands for a Python number in the function that is traced."""
    return isinstance(x, Operand) and type(x._a) is Value and x._a.type.weak


def _number(x: Operand, d: DType) -> Tensor:
    if promote_weak(d, x.dtype.kind) is not d:
        raise DTypeError(f"cannot make {d.name} from a Python {'float' if x.dtype.kind == 'f' else 'number'}")
    return OPS["cast"](x, dtype=d)  # type: ignore[no-any-return]


def number_leaves(x: Any, counter: Iterator[int]) -> Any:
    """A nest with leaves numbered as `tree.flatten` orders them. Raises TypeError for other containers."""
    t = type(x)
    if t is tuple or t is list:
        return t([number_leaves(y, counter) for y in x])
    if issubclass(t, tuple) and hasattr(t, "_fields"):
        return tuple.__new__(t, [number_leaves(y, counter) for y in x])
    if t is dict:
        parts = {k: number_leaves(x[k], counter) for k in sorted(x)}
        return {k: parts[k] for k in x}
    if (names := _readable(t)) is not None and not tree.others(x, names):
        own = getattr(x, "__dict__", None)
        items = {k: number_leaves(getattr(x, k), counter) for k in names}
        return Fields(t, layout.version(t), items, None if own is None else len(own))
    if tree.flatten(x)[1] is not tree.LEAF:
        raise TypeError(f"{t.__name__} is no container of native calls")
    return next(counter)


def _readable(t: type) -> tuple[str, ...] | None:
    """The fields of a class whose objects are containers, if reading them runs no Python code."""
    names = tree.fields_of(t)
    if names is None or issubclass(t, (tuple, list, dict)) or not layout.version(t):
        return None
    if t.__getattribute__ is not object.__getattribute__ or hasattr(t, "__getattr__"):
        return None
    of_class = [inspect.getattr_static(t, k, None) for k in names]
    plain = all(isinstance(a, types.MemberDescriptorType) or not hasattr(type(a), "__get__") for a in of_class)
    return names if plain else None


def _checked(signature: Any) -> tuple:
    if isinstance(signature, TensorSpec) or not isinstance(signature, (list, tuple)):
        raise locate(SignatureError(f"input_signature is a list of TensorSpecs, not {signature!r}"))
    for spec in tree.flatten(tuple(signature))[0]:
        if not isinstance(spec, TensorSpec):
            raise locate(SignatureError(f"input_signature holds TensorSpecs, not {spec!r}"))
    return tuple(signature)


def _defaults_of(python: Any) -> list[Reference]:
    """What a function has for parameters that may be left out."""
    f = inspect.unwrap(python)
    by_name = getattr(f, "__kwdefaults__", None) or {}
    return [Reference(x) for x in (*(getattr(f, "__defaults__", None) or ()), *by_name.values())]


class Arguments:
    """How a Python function is called: its own signature, and the one that was asked for."""

    def __init__(self, python: Callable[..., Any], input_signature: Any, name: str) -> None:
        self.name = name
        self.leading = 0  # arguments that the signature does not tell of: the object of a method
        self.owned = False  # whether the first argument is such an object, which is no nest of arguments then
        self.input_signature = None if input_signature is None else _checked(input_signature)
        self.signature: inspect.Signature | None
        specs_given = input_signature is not None  # they are told by the names of what they are for
        try:
            # a ufunc does not take all of its own defaults together
            self.signature = None if isinstance(python, np.ufunc) else wrappers.signature(python, specs_given)
            own = wrappers.signature(python) if specs_given else None
        except (TypeError, ValueError):
            self.signature = own = None
        self._own = own if own is not None and own != self.signature else None
        self._plain = self.signature is not None and all(
            p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in self.signature.parameters.values()
        )
        self._python, self._defaults = python, _defaults_of(python)
        self._matched = -1  # with how many leading arguments the signatures have been found to match
        if self.input_signature is not None and len(self.input_signature) > len(self.positional()):
            self._match()

    def positional(self) -> list[inspect.Parameter]:
        """The parameters that the signature tells of."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        every = [] if self.signature is None else [p for p in self.signature.parameters.values() if p.kind in kinds]
        return every[self.leading :]

    def _match(self) -> None:
        """Raises `SignatureError` if there is a spec without a parameter, or a parameter without a spec or value."""
        assert self.input_signature is not None
        self._matched = self.leading
        if self.signature is None:
            return
        taken, given = self.positional(), len(self.input_signature)
        many = any(p.kind is p.VAR_POSITIONAL for p in self.signature.parameters.values())
        missing = [p.name for p in taken[given:] if p.default is p.empty]
        if (missing or given > len(taken)) and self._own is not None:  # the wrapper gives others, or takes some away
            self.signature, self._own = self._own, None
            self._match()
            return
        names = ", ".join(p.name for p in taken)
        specs = f"input_signature has {given} TensorSpec{'s' * (given != 1)}"
        takes = f"{self.name}({names}) takes {len(taken)} argument{'s' * (len(taken) != 1)}"
        if given > len(taken) and not many:
            raise locate(SignatureError(f"{specs}, but {takes}", remedy="give one for each argument"))
        if missing:
            shown = " or ".join(map(repr, missing))
            raise locate(SignatureError(f"{specs}, but {takes}: there is none for {shown}", remedy="add the spec"))

    def signature_or_none(self) -> tuple:
        """The arguments where none are given: those of the signature. Raises `SignatureError` if there is none."""
        if self.input_signature is not None:
            self._match()
            return self.input_signature
        needed = [p.name for p in self.positional() if p.default is p.empty]
        if needed:
            shown = " and ".join(map(repr, needed))
            raise locate(
                SignatureError(
                    f"{self.name} has no input_signature, and no value or tj.TensorSpec is given for {shown}",
                    remedy=f"give one for each, such as tj.TensorSpec((None,), tj.float32) for {needed[0]!r}",
                )
            )
        return ()

    def bound(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """All arguments, those by default included, as they are given."""
        if self.signature is None:
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        self._fill(bound)
        return bound.args, bound.kwargs

    def _fill(self, bound: inspect.BoundArguments) -> None:
        """Give what is not given its default; a wrapper finds its own, but for those that specs tell of."""
        if self._own is None:
            bound.apply_defaults()
            return
        for p in self.positional()[: len(self.input_signature or ())]:
            bound.arguments.setdefault(p.name, p.default)

    def fitted(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """All arguments, as the signature that was asked for wants them."""
        if self._matched != self.leading:
            self._match()
        try:
            args, kwargs = self.bound(args, kwargs)
        except TypeError as e:
            raise locate(SignatureError(f"{self.name}() {e}")) from None
        return self._to_signature(args), kwargs

    def flatten(self, args: tuple, kwargs: dict, shared: bool = True) -> tuple[list, Any]:
        """The leaves of all arguments, those by default included, and their structure.

        With `shared`, a container that stands in several places is one.
        """
        if self._defaults and self._defaults != (now := _defaults_of(self._python)):
            self.signature, self._defaults = wrappers.signature(self._python, self.input_signature is not None), now
        if self.input_signature is not None and self._matched != self.leading:
            self._match()
        if self.signature is not None and not (
            self._plain and not kwargs and len(args) == len(self.signature.parameters)
        ):
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError as e:
                raise locate(SignatureError(f"{self.name}() {e}")) from None
            given = set(bound.arguments)
            self._fill(bound)
            args, kwargs = bound.args, bound.kwargs
            if len(given) < len(self.signature.parameters):
                args, kwargs = self._defaults_static(given, args, kwargs)
        if self.input_signature is not None:
            args = self._to_signature(args)
        if self.owned:
            args = (Default(args[0]), *args[1:])
        try:
            leaves, structure = (tree.flatten_shared if shared else tree.flatten)((args, kwargs))
        except (tree.Circular, RecursionError):
            raise self._circular(args, kwargs) from None
        return leaves, structure.ordered()

    def _circular(self, args: tuple, kwargs: dict) -> TracejitError:
        text, every = "", {**dict(enumerate(args[self.leading :])), **kwargs}
        for k, x in every.items():
            try:
                tree.flatten_shared(x)
            except (tree.Circular, RecursionError) as e:
                what = str(e) if isinstance(e, tree.Circular) else "nested too deeply"
                name = self.label(k) if isinstance(k, int) else k
                text = f"argument {name} of {self.name} is {what}"
                break
        return locate(ArgumentError(text, remedy="pass its parts as arguments of their own"))

    def _defaults_static(self, given: set[str], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Numbers and tensors that come from defaults are constants: the call does not mention them."""
        assert self.signature is not None
        out = list(args)
        for i, p in enumerate(self.signature.parameters.values()):
            if p.name in given:
                continue
            if p.kind is p.POSITIONAL_OR_KEYWORD and i < len(out) and self._constant(out[i]):
                out[i] = Default(out[i])
            elif p.kind is p.KEYWORD_ONLY and p.name in kwargs and self._constant(kwargs[p.name]):
                kwargs = {**kwargs, p.name: Default(kwargs[p.name])}
        return tuple(out), kwargs

    def _constant(self, x: Any) -> bool:
        """Whether a default is part of the trace; tensors are not while tapes listen, which may watch them."""
        if type(x) is Tensor:
            return self.input_signature is None and not context.tapes
        return type(x) in (int, float)

    def _to_signature(self, args: tuple) -> tuple:
        assert self.input_signature is not None
        own, given = args[: self.leading], args[self.leading :]
        count, named = len(self.input_signature), len(self.positional())
        if len(given) < count or len(given) > max(count, named):
            raise locate(SignatureError(f"{self.name}() is given {len(given)} arguments, the signature has {count}"))
        out = list(given)
        names: dict[str, tuple[int, str]] = {}
        for i, (x, specs) in enumerate(zip(given, self.input_signature, strict=False)):
            out[i] = self._fitted(x, specs, self.label(i), names)
        return (*own, *out)

    def _fitted(self, x: Any, specs: Any, label: str, names: dict[str, tuple[int, str]]) -> Any:
        """An argument as tensors that fulfil its specs; where one spec stands, nested lists are one tensor."""
        if type(x) is Default:
            return Default(self._fitted(x.value, specs, label, names))
        if isinstance(specs, TensorSpec):
            return self._fit(x, specs, label, names)
        flat_specs, s = tree.flatten(specs)
        flat_x, sx = tree.flatten(x)
        if list(s.paths()) == list(sx.paths()):
            leaves = zip(flat_x, flat_specs, s.paths(label), strict=True)
            return tree.unflatten(sx, [self._fit(v, t, path, names) for v, t, path in leaves])
        if type(x) is type(specs) and type(x) in (list, tuple) and len(x) == len(specs):
            parts = enumerate(zip(x, specs, strict=True))
            return type(x)([self._fitted(v, t, f"{label}[{k}]", names) for k, (v, t) in parts])
        if type(x) is type(specs) is dict and x.keys() == specs.keys():
            return {k: self._fitted(v, specs[k], f"{label}[{k!r}]", names) for k, v in x.items()}
        raise locate(ArgumentError(f"argument {label} of {self.name} has the structure {sx}, the signature wants {s}"))

    def label(self, i: int) -> str:
        """What the parameter at a position after the leading ones is called."""
        names = [p.name for p in self.positional()]
        if i < len(names):
            return names[i]
        every = self.signature.parameters.values() if self.signature is not None else ()
        rest = [p.name for p in every if p.kind is p.VAR_POSITIONAL]
        return f"{rest[0]}[{i - len(names)}]" if rest else str(i)

    def _fit(self, x: Any, spec: TensorSpec, name: str, names: dict[str, tuple[int, str]]) -> Tensor:
        try:
            known = isinstance(x, (Operand, np.ndarray, np.generic))
            t = _number(x, spec.dtype) if _is_number(x) else convert(x) if known else convert(x, spec.dtype)
        except (DTypeError, ShapeError) as e:
            text = f"argument {name} of {self.name} cannot become what the signature wants, {spec}: {e.message}"
            raise locate(ArgumentError(text, remedy=e.remedy)) from None
        ok = t.dtype is spec.dtype and (spec.shape is None or len(t.shape) == len(spec.shape))
        if ok and spec.shape is not None:
            for d, want in zip(t.shape, spec.shape, strict=True):
                if isinstance(want, str):
                    seen = names.setdefault(want, (d, name))
                    if seen[0] != d:
                        text = f"argument {name} of {self.name}: dimension '{want}' is {d}, but {seen[1]} has {seen[0]}"
                        raise locate(ShapeError(text))
                elif want is not None and want != d:
                    ok = False
        if not ok:
            raise locate(ArgumentError(f"argument {name} of {self.name} is {t.type}, the signature wants {spec}"))
        return t

    def form(self, args: tuple, kwargs: dict) -> Form | None:
        """How the leaves stand in this call, by number; None if it holds containers that native code does not know."""
        if self.signature is None:
            given, named = args, kwargs
        else:
            bound = self.signature.bind(*args, **kwargs)
            self._fill(bound)
            given, named = bound.args, bound.kwargs
        counter = itertools.count()
        try:
            own = [next(counter)] if self.owned else []
            numbered = [*own, *[number_leaves(x, counter) for x in given[len(own) :]]]
            by_name = {k: number_leaves(named[k], counter) for k in sorted(named)}
        except TypeError:
            return None
        if self.signature is not None:
            names = [p.name for p in self.signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            by_name |= dict(zip(names, numbered, strict=False))
        return Form(tuple(numbered[: len(args)]), {k: by_name[k] for k in kwargs})
