"""@function: traces a Python function once per kind of arguments and runs the compiled graph from then on."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types as pytypes
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from tracejit import tree
from tracejit.arguments import Arguments
from tracejit.autograph import operators
from tracejit.autograph.attempts import calling
from tracejit.autograph.convert import unconverted
from tracejit.autograph.effects import Effects
from tracejit.autograph.plainform import plain_form
from tracejit.concrete import interpreted, plan_leaves
from tracejit.config import eagerly
from tracejit.context import activity, context, reading
from tracejit.differentiate import record_call
from tracejit.errors import (
    ArgumentError,
    ConversionError,
    ConversionWarning,
    Faults,
    ShapeError,
    SignatureError,
    TracedValueError,
    TracejitError,
    hide_frames,
    locate,
    user_depth,
)
from tracejit.given import Kept
from tracejit.identity import IdentityMap
from tracejit.inspection import OfObject
from tracejit.leaves import as_eager, straightened
from tracejit.ops.unnamed import runs
from tracejit.passes.match import level
from tracejit.runtime.entry import NativeCallable
from tracejit.runtime.executor import prepare
from tracejit.runtime.interrupts import hold, whole
from tracejit.tracer import Concrete
from tracejit.traces import Traces
from tracejit.unconverted import may_fall_back

NATIVE_PLANS = 256  # plans that a call tries natively


class Function(NativeCallable, Traces):
    """A Python function that is traced and compiled. Made by `@tj.function`."""

    def __init__(
        self, python: Callable[..., Any], input_signature: Any, numerics: str, name: str | None,
        autograph: bool = True, strict: bool = False,
    ) -> None:  # fmt: skip
        self._python = python
        self.autograph, self.strict = autograph, strict
        self.numerics = numerics
        self.__name__: str = name or str(getattr(python, "__name__", type(python).__name__))
        self.__doc__ = python.__doc__
        self.__wrapped__ = python
        self.__module__ = getattr(python, "__module__", "")
        self.__qualname__ = getattr(python, "__qualname__", self.__name__)
        self._arguments = Arguments(python, input_signature, self.__name__)
        self.input_signature = self._arguments.input_signature
        self._start_traces()
        self._forms: dict[tuple, Any] = {}
        self.faults = Faults(self.__name__)
        self._unstaged: TracejitError | None = None  # why it runs as plain Python
        self._said = False  # whether it was told that it does while tapes listen
        self._methods = IdentityMap[Method]()  # by the object that each is of
        self.reading: Any = None  # the type in which Variables are read while it is traced, if not their own
        self._in_scopes: dict[Any, Function] = {}
        self._attribute = ""  # under which name a class has it

    @property
    def python_function(self) -> Callable[..., Any]:
        """The function as it is without tracing."""
        return self._python

    @property
    def name(self) -> str:
        return self.__name__

    @property
    def _signature(self) -> inspect.Signature | None:
        return self._arguments.signature

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name
        self._arguments.leading = 1

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: traces are each object's own, and end with it. Nothing is kept in the object."""
        if instance is None:
            return self
        found = self._methods.get(instance)
        if found is None:
            try:
                weakref.ref(instance)
            except TypeError:
                return pytypes.MethodType(self, instance)
            with self._lock:
                found = self._methods.get(instance)
                if found is None:
                    found = Method(self, instance)
                    self._methods.set(instance, found)
        return pytypes.MethodType(found, instance)

    def _is_method_of_class(self, x: Any) -> bool:
        """Whether a class calls its classmethod, which asks for no `__get__` from Python 3.13 on."""
        of_class = inspect.getattr_static(x, self.__name__, None) if isinstance(x, type) else None
        return isinstance(of_class, classmethod) and of_class.__func__ is self

    def __repr__(self) -> str:
        return f"<tj.function {self.__qualname__}>"

    # --- copies: they are traced anew, and what the function is bound to is copied with it ----------------------------
    def __reduce__(self) -> str | tuple[Any, ...]:
        m = self._python
        if _found(self.__module__, self.__qualname__) is not self:
            return _new, (), self._made_of(m)
        if type(m) is not pytypes.FunctionType:
            return self.__qualname__
        return _found_or_new, (self.pickled_name,), self.pickled_code

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            self.__init__(*state)  # type: ignore[misc]
        elif not hasattr(self, "_python"):
            options = state.__dict__.pop("options")
            state.__qualname__ = state.__qualname__.removesuffix(".pickled_code")
            self.__init__(state, *options)  # type: ignore[misc]

    @functools.cached_property
    def pickled_name(self) -> pytypes.FunctionType:
        """A function that is found under the name that it has: picklers that take functions of this module by value, as
        cloudpickle does with those of `__main__`, make another of it."""
        made = pytypes.FunctionType((lambda: None).__code__, {}, self.__name__)
        made.__module__, made.__qualname__ = self.__module__, f"{self.__qualname__}.pickled_name"
        return made

    @functools.cached_property
    def pickled_code(self) -> pytypes.FunctionType:
        """The Python function under the name that it has here, and what else this function is made of."""
        f: Any = self._python
        made = pytypes.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        functools.update_wrapper(made, f)
        del made.__dict__["__wrapped__"]
        made.__kwdefaults__, made.__qualname__ = f.__kwdefaults__, f"{self.__qualname__}.pickled_code"
        made.__dict__["options"] = self._made_of(f)[1:]
        return made

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memo: dict) -> Function:
        python = copy.deepcopy(self._python, memo)
        return self if python is self._python else Function(*self._made_of(python))

    def _made_of(self, python: Callable[..., Any]) -> tuple[Callable[..., Any], Any, str, str, bool, bool]:
        return python, self.input_signature, self.numerics, self.__name__, self.autograph, self.strict

    # --- calling ------------------------------------------------------------------------------------------------------
    def _slow(self, /, *args: Any, **kwargs: Any) -> Any:
        """A call that no native plan takes: keywords, nests, new kinds of arguments, tapes, traces around."""
        try:
            if context.trace is not None:
                if self.input_signature is not None:
                    return self._fitting(self.traced_function(), args, kwargs)
                return self.traced_function()(*args, **kwargs)
            if eagerly():
                return self._eagerly(args, kwargs)
            if context.autocast is not None:
                return self._cast(args, kwargs)
            if self.input_signature is not None and args and self._is_method_of_class(args[0]):
                return self.__get__(args[0])(*args[1:], **kwargs)
            if not activity.busy and (plain := straightened(args)) is not None:
                r = self._by_plan(plain, kwargs)
                if r is not NotImplemented:
                    return r
            return self._call(args, kwargs)
        except Exception as e:
            hide_frames(e)
            raise

    def _cast(self, args: tuple, kwargs: dict) -> Any:
        """A call in a scope that reads Variables in another type: a function of its own is traced in such scopes."""
        d = context.autocast
        with self._lock:
            if d not in self._in_scopes:
                self._in_scopes[d] = made = Function(*self._made_of(self._python))
                made._arguments, made.input_signature, made.reading = self._arguments, self.input_signature, d
        with reading(None):
            return self._in_scopes[d]._call(args, kwargs)

    def traced_function(self) -> Callable[..., Any]:
        """What runs while it is traced."""
        if self.reading is not None and context.autocast is None:
            return _in_scope(self.reading, self.traced_function)
        if self.autograph:
            return operators.callee(self._python)  # type: ignore[no-any-return]
        return unconverted(self._python, "traced with autograph=False")

    def _call(self, args: tuple, kwargs: dict) -> Any:
        leaves, structure = self._arguments.flatten(args, kwargs)
        if self._unstaged is None:
            before, calling.arguments = calling.arguments, (self._arguments, args, kwargs)
            try:
                concrete, inputs, sizes = self._find(leaves, structure)
            except (ConversionError, ShapeError, TracedValueError) as e:
                if self.strict or not may_fall_back(e):
                    raise
                if any(m.moved_on() for m in self.memories.values()):
                    e.message += ", and it has moved a generator on, so that it cannot run as plain Python either"
                    raise
                self._give_up(e)
            finally:
                calling.arguments = before
        if self._unstaged is not None:
            return self._as_python(args, kwargs, leaves, structure)
        concrete.calls += 1
        if context.told is not None:
            runs(concrete.parts)
        if context.tapes and (error := concrete.lost_to_tapes()) is not None:
            self._unheard(error)
            return self._as_python(args, kwargs, leaves, structure)
        if concrete.effects is not None:
            given = self._arguments.bound(args, kwargs) if concrete.effects.on_arguments else None
            return self._with_effects(concrete, concrete.effects, inputs, sizes, leaves, given)
        if context.tapes:
            return concrete.rebuild(record_call(concrete, inputs, sizes))
        exe = concrete.executable
        plan = exe.plan(sizes, concrete.returns)
        if plan is not None and concrete.reads is not None:
            concrete.reads.arm()
        result = exe.run(plan, plan_leaves(concrete.parts, leaves))
        if result is NotImplemented:
            return concrete.rebuild(interpreted(exe, inputs))
        self._remember(concrete, plan, args, kwargs, leaves)
        return result

    def _with_effects(
        self, concrete: Concrete, effects: Effects, inputs: list[Any], sizes: dict[str, int], leaves: list, given: Any
    ) -> Any:
        """A call that changes Python objects: what it does to them follows when it has succeeded."""
        if concrete.once:
            self._drop(concrete)
        with effects.lock, whole:
            effects.begin()
            if context.tapes:
                outputs: Any = record_call(concrete, inputs, sizes)
            else:
                exe = concrete.executable
                outputs = exe.run(exe.plan(sizes, concrete.returns), plan_leaves(concrete.parts, leaves))
                if outputs is NotImplemented:
                    outputs = interpreted(exe, inputs)
            hold()
            made = effects.end(outputs[len(outputs) - effects.outputs :], given)
        return concrete.rebuild(outputs, made)

    def _remember(self, concrete: Concrete, plan: Any, args: tuple, kwargs: dict, leaves: list) -> None:
        """Let native code take the next call of this form."""
        if concrete.only_python:
            return
        form = self._arguments.form(args, kwargs)
        if form is None:
            return
        plain = not kwargs and form.args == tuple(range(len(leaves)))
        seen = (id(plan), repr(form))
        plans = self.plans
        source, known = self._forms.get(seen, (None, None))
        alive = set(map(id, plans))
        if source is plan and id(known) in alive:
            return
        plans = tuple([p for p in plans if p.guards is None or not p.guards.ended])
        try:
            ready = (plan if plain else plan.called_as(form)).guarded(concrete.reads)
        except ArgumentError:
            return  # a form that native code does not take: such calls go on through here
        alive = set(map(id, plans))
        self._forms = {k: p for k, p in self._forms.items() if id(p[1]) in alive}
        self._forms[seen] = plan, ready
        self.set_plans((ready, *plans[: NATIVE_PLANS - 1]))

    def remembered(self) -> list[tuple[Any, Any]]:
        """Plans, each with the form of it that native code takes, the latest last."""
        return list(self._forms.values())

    def _give_up(self, error: ConversionError | ShapeError | TracedValueError) -> None:
        """Run as plain Python from now on. Where warnings are errors, the error it is."""
        hide_frames(error)
        self._unstaged = error
        try:
            self._say_plain(error)
        except ConversionWarning:
            self._unstaged = None
            raise error from None
        error.with_traceback(None).__context__ = None  # which hold what the trace has read

    def _unheard(self, error: ConversionError) -> None:
        """Run as plain Python while tapes listen, which is said once."""
        if self._said and not self.strict:
            return
        if self.strict:
            raise error
        try:
            self._say_plain(error)
        except ConversionWarning:
            raise error from None
        self._said = True

    def _say_plain(self, error: TracejitError) -> None:
        shown = error.where[0].show() if error.where else []
        remedy = error.remedy or "write it with tj.cond, tj.while_loop or tj.where"
        lines = [f"{self.__name__} runs as plain Python: {error.message}", *shown, f"  remedy: {remedy}"]
        warnings.warn("\n".join(lines), ConversionWarning, stacklevel=user_depth())

    def _as_python(self, args: tuple, kwargs: dict, leaves: list, structure: Any) -> Any:
        """The call as plain Python, with tensors where the trace has tensors."""
        new = tree.unflatten(structure, [as_eager(x) for x in leaves])
        args, kwargs = self._arguments.bound(args, kwargs)
        kept = Kept((*args, *kwargs.values()), (*new[0], *[new[1][k] for k in kwargs]))
        try:
            return self._plainly(kept.values[: len(args)], dict(zip(kwargs, kept.values[len(args) :])))
        finally:
            kept.give_back()

    def _eagerly(self, args: tuple, kwargs: dict) -> Any:
        """The call as plain Python because users want that; a signature holds all the same."""
        if self.input_signature is not None:
            return self._fitting(lambda *a, **k: self._plainly(a, k), args, kwargs)
        return self._plainly(args, kwargs)

    def _fitting(self, f: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """A call of `f` with arguments that fulfil the signature."""
        if args and self._is_method_of_class(args[0]):
            return self.__get__(args[0])(*args[1:], **kwargs)
        args, kwargs = self._arguments.fitted(args, kwargs)
        return f(*args, **kwargs)

    def _plainly(self, args: tuple, kwargs: dict) -> Any:
        """The call as plain Python, in which items of tensors may be assigned as in traced functions."""
        f = plain_form(self._python) if self.autograph else self._python
        if f is not self._python:  # an array is a tensor there
            args = tuple([as_eager(x) if isinstance(x, np.ndarray) else x for x in args])
            kwargs = {k: as_eager(x) if isinstance(x, np.ndarray) else x for k, x in kwargs.items()}
        with nullcontext() if self.reading is None else reading(self.reading):
            return f(*args, **kwargs)


def _in_scope(dtype: Any, traced: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """What `traced()` gives, run in a scope that reads Variables in this type."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with reading(dtype):
            return traced()(*args, **kwargs)

    return run


def _found(module: str, name: str) -> Any:
    """What stands under a dotted name in a module; None if nothing does."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _found_or_new(name: pytypes.FunctionType) -> Function:
    """The function that has this as its `pickled_name`; where there is none, one that gets its state next."""
    here = _found(name.__module__, name.__qualname__.removesuffix(".pickled_name"))
    known = isinstance(here, Function) and here.__dict__.get("pickled_name") is name
    return here if known else _new()


def _new() -> Function:
    """A function that gets its state next, in which it may occur itself."""
    return Function.__new__(Function)


class Method(Function):
    """A traced function as the method of one object, which is the first argument of its calls, and which it does not
    keep alive: what `object.method` gives holds both."""

    def __init__(self, of: Function, instance: Any) -> None:
        name = of._attribute if of._attribute and of.__name__ == getattr(of._python, "__name__", "") else of.__name__
        python, signature, numerics, _, autograph, strict = of._made_of(of._python)
        super().__init__(python, signature, numerics, name, autograph, strict)
        self._instance = weakref.ref(instance)
        self._arguments.leading, self._arguments.owned = 1, True

    @property
    def python_function(self) -> Callable[..., Any]:
        return pytypes.MethodType(self._python, self._instance())

    def __reduce__(self) -> str | tuple[Any, ...]:
        instance, name = self._instance(), getattr(self._python, "__name__", "")
        of_class = inspect.getattr_static(type(instance), name, None)
        if isinstance(of_class, Function) and of_class._python is self._python:
            return _method, (instance, name)
        return _new, (), self._made_of(self.python_function)

    # what is asked of `object.method` holds the object while it is answered
    get_concrete_function = property(lambda self: OfObject(self, self._instance()).get_concrete_function)  # type: ignore[assignment]
    graph = property(lambda self: OfObject(self, self._instance()).graph)  # type: ignore[assignment]
    explain = property(lambda self: OfObject(self, self._instance()).explain)  # type: ignore[assignment]
    source = property(lambda self: OfObject(self, self._instance()).source)  # type: ignore[assignment]


def _method(instance: Any, name: str) -> Method:
    return getattr(instance, name).__func__  # type: ignore[no-any-return]


_TENSORFLOWS = {
    "experimental_implements", "experimental_autograph_options", "experimental_attributes", "experimental_relax_shapes",
    "experimental_compile", "experimental_follow_type_hints",
}  # fmt: skip


def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    *,
    numerics: str = "finite",
    name: str | None = None,
    autograph: bool = True,
    strict: bool = False,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    **others: Any,
) -> Any:
    """Compile a function of tensors: traced once per dtype, rank and structure of its arguments, then run natively.

    Parameters
    ----------
    func : the function; without it, a decorator is returned
    input_signature : `TensorSpec`s (or nests of them); sizes given as None or by name do not retrace
    numerics : how far simplifications may go: "exact" (bit by bit), "finite" (equal on finite values), "fast"
    autograph : convert Python's control flow, here and in the functions called; if False, decisions about tensors have
        to be written with `tj.cond`, `tj.while_loop` or `tj.where`
    strict : raise `ConversionError` for what cannot be compiled, and `TracedValueError` where Python asks for a traced
        tensor's value; else the function runs as plain Python then, with one warning
    jit_compile, reduce_retracing : taken for TensorFlow's sake; every function is compiled, and sizes that change
        become symbols by themselves

    Python numbers are inputs unless they steer Python control flow; other Python values are part of the trace's key.
    Globals, closure variables, attributes and items that the function reads are remembered: when one has changed, the
    next call traces anew, and `explain` says what it was. NumPy arrays from outside are inputs; where NumPy
    itself computes with them, an edit of their numbers makes the next call trace anew.
    Items of tensors can be assigned in it, as NumPy has it: `x[i] = v` gives the name `x` a new tensor. That is an
    `AliasError` where something else that is used later holds the tensor too. Tensors of the caller stay as they are.
    What the function does to Python objects (it appends to a list, sets an attribute, global or item) happens after
    each call that succeeds, in order; numbers and tensors that it reads and writes there go on from call to call.
    Variables that it makes are kept where it keeps them; others are new in each call, as are the objects that it
    returns and that hold tensors. A generator, or a function that holds traced tensors, cannot be returned.
    Raises what the function raises while it is traced; a failed call changes no Variable and no object. At most 64
    traces are kept, those that were used last.
    """
    if unknown := others.keys() - _TENSORFLOWS:
        raise locate(SignatureError(f"tj.function has no parameter {sorted(unknown)[0]!r}"))
    try:
        level(numerics)
    except (KeyError, AttributeError):
        raise locate(ArgumentError(f"numerics is 'exact', 'finite' or 'fast', not {numerics!r}")) from None
    prepare()

    def make(f: Any) -> Any:
        if isinstance(f, (staticmethod, classmethod)):
            return type(f)(make(f.__func__))
        if not callable(f):
            raise locate(SignatureError(f"tj.function takes a function, not {type(f).__name__}"))
        return Function(f, input_signature, numerics, name, autograph, strict)

    return make if func is None else make(func)
