"""What all optimizers share: their state, the learning rate, what is done to gradients, and the order of a step."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np

from tracejit.autodiff.tape import GradientTape
from tracejit.autograph import reads
from tracejit.autograph.calls import callee
from tracejit.context import reading, tracing
from tracejit.conversion import to_array
from tracejit.errors import ArgumentError, GradientError, ShapeError, locate, user_depth
from tracejit.identity import IdentityMap
from tracejit.ir.types import DType, as_dtype, float32, int64
from tracejit.ops import elementwise as E
from tracejit.ops.linalg import clip_by_global_norm, clip_by_norm
from tracejit.ops.math import clip_by_value
from tracejit.optimizers.schedules import LearningRateSchedule
from tracejit.slices import IndexedSlices
from tracejit.tensor import Operand, Tensor, Variable, convert

Gradient = Any  # a tensor, IndexedSlices, or None
Pair = tuple[Gradient, Variable]


class Options(TypedDict, total=False):
    """What every optimizer takes besides its own arguments; `Optimizer` says what they mean."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    name: str | None


def computed_in(d: DType) -> DType:
    """The type that a Variable's update is computed in, and that moments of it are kept in: at least float32."""
    return float32 if d.kind == "f" and d.bits < 32 else d


class Optimizer(ABC):
    """Changes Variables along gradients. A class of its own overrides `slots` and `update_step`.

    Parameters
    ----------
    learning_rate : a number, kept in a Variable; a Variable; a schedule, called with `iterations`; or a callable
    weight_decay : before each update Variables lose this part of themselves times the learning rate (decoupled decay,
        Loshchilov & Hutter 2019), but for those that `exclude_from_weight_decay` names
    clipnorm, clipvalue, global_clipnorm : the largest norm of each gradient, size of elements, norm of all gradients
        together; at most one of them
    use_ema, ema_momentum, ema_overwrite_frequency : keep moving averages of the Variables, which take the place of
        their values after every so many steps, and when `finalize_variable_values` is called
    loss_scale_factor : what `scale_loss` multiplies the loss by, and gradients are divided by
    name : shown where the optimizer is printed

    All state is in Variables, made when a Variable is first updated (or by `build`), in traced functions too. Another
    learning rate traces nothing anew. The other settings are constants of a trace; a function that finds them changed
    is traced again. Updates of float16 and bfloat16 Variables are computed in float32, and their moments kept in it.

    Gradients may be `IndexedSlices`, which mean the same as the tensors that they stand for; where a rule leaves
    untouched rows as they are (SGD without momentum) no such tensor is made. Variables whose gradient is None are left
    as they are, with one warning.
    """

    settings: ClassVar[tuple[str, ...]] = (
        "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
        "ema_overwrite_frequency", "loss_scale_factor", "_learning_rate", "_excluded", "_excluded_names",
    )  # fmt: skip
    sparse = False  # whether `update_step` takes IndexedSlices

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ) -> None:
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {k: v for k, v in limits.items() if v is not None}
        if len(given) > 1:
            raise locate(ArgumentError(f"gradients are clipped in one way, not by {' and '.join(given)}"))
        for k, v in given.items():
            _require(v > 0, f"{k} is a number above 0, not {v!r}")
        _require(0 <= ema_momentum <= 1, f"ema_momentum lies between 0 and 1, not {ema_momentum!r}")
        every = ema_overwrite_frequency
        _require(
            every is None or (isinstance(every, int) and every >= 1),
            f"ema_overwrite_frequency is None or an integer from 1 on, not {every!r}",
        )
        self.name = name or type(self).__name__
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum, self.ema_overwrite_frequency = use_ema, ema_momentum, every
        self.loss_scale_factor = loss_scale_factor
        self.built = False
        self._own: dict[str, Variable] = {}  # state that belongs to no Variable
        self._slots: IdentityMap[dict[str, Variable]] = IdentityMap()
        self._excluded: IdentityMap[None] = IdentityMap()
        self._excluded_names: tuple[str, ...] = ()
        self._warned = False
        self._iterations = self.add_variable((), dtype=int64, name="iterations")
        self._learning_rate: Any = None
        self.learning_rate = learning_rate

    def __repr__(self) -> str:
        return f"<tj.optimizers.{type(self).__name__} '{self.name}' of {len(self._slots)} Variables>"

    # --- state --------------------------------------------------------------------------------------------------------
    @property
    def iterations(self) -> Variable:
        """How many updates there have been."""
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """The rate of the next update: the Variable that holds it, or what the schedule or callable gives."""
        self._settings_read()
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            reads.state(rate)
            return callee(rate)(self._iterations)
        return rate if isinstance(rate, Variable) else callee(rate)()

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        if isinstance(rate, (LearningRateSchedule, Variable)) or callable(rate):
            if rate is not self._own.get("learning_rate"):
                self._own.pop("learning_rate", None)
            self._learning_rate = rate
        elif isinstance(self._learning_rate, Variable):
            self._learning_rate.assign(E.cast(convert(rate), dtype=self._learning_rate.dtype))
        elif isinstance(rate, str):
            wanted = "a number, a Variable, a schedule or a callable"
            raise locate(ArgumentError(f"a learning rate is {wanted}, not {rate!r}"))
        else:
            self._learning_rate = self.add_variable((), rate, float32, "learning_rate")

    @property
    def variables(self) -> list[Variable]:
        """All state: the optimizer's own, then what is kept for each Variable."""
        return list(self._named().values())

    def _named(self) -> dict[str, Variable]:
        named = dict(self._own)
        for i, v in enumerate(self._slots.alive()):
            named |= {f"{i}/{name}": slot for name, slot in (self._slots.get(v) or {}).items()}
        return named

    def get_state(self) -> dict[str, np.ndarray]:
        """Copies of all state by name; "0/momentum" belongs to the first Variable."""
        return {name: np.array(v.numpy()) for name, v in self._named().items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `get_state` gave. Raises `ArgumentError` unless there is a value for each part of the state."""
        named = self._named()
        if named.keys() != state.keys():
            only = sorted(named.keys() ^ state.keys())
            raise locate(
                ArgumentError(
                    f"the state has {len(state)} parts, {self.name} has {len(named)}; not in both: {', '.join(only)}",
                    remedy="call build(variables) with the same Variables in the same order first",
                )
            )
        values = {k: convert(x, named[k].dtype) for k, x in state.items()}
        for k, x in values.items():
            if tuple(x.shape) != tuple(named[k].shape):
                raise locate(ShapeError(f"state {k!r} has shape {tuple(named[k].shape)}, not {tuple(x.shape)}"))
        for k, x in values.items():
            named[k].assign(x)

    # --- making state -------------------------------------------------------------------------------------------------
    def slots(self) -> dict[str, float]:
        """What is kept for each Variable, in its shape: names and first values."""
        return {}

    def real_slots(self) -> tuple[str, ...]:
        """The slots that hold real numbers for complex Variables too."""
        return ()

    def build(self, variables: Iterable[Variable]) -> None:
        """Make the state of Variables that have none. It begins eagerly, in traced functions too."""
        for v in _variables(variables):
            if v not in self._slots:
                made: dict[str, Variable] = {}
                self._slots.set(v, made)
                for name, value in (({"average": 0.0} if self.use_ema else {}) | self.slots()).items():
                    d = computed_in(v.dtype)
                    d = as_dtype(f"float{d.bits // 2}") if d.kind == "c" and name in self.real_slots() else d
                    made[name] = _made(tuple(v.shape), value, d, name)
        self.built = True

    def slot(self, variable: Variable, name: str) -> Variable:
        """The state of this name that belongs to a Variable."""
        return (self._slots.get(variable) or {})[name]

    def add_variable(
        self, shape: Sequence[int], initializer: float = 0.0, dtype: Any = None, name: str = "variable"
    ) -> Variable:
        """State of the optimizer's own, under a name."""
        self._own[name] = made = _made(tuple(shape), initializer, float32 if dtype is None else as_dtype(dtype), name)
        return made

    # --- a step -------------------------------------------------------------------------------------------------------
    def apply_gradients(self, grads_and_vars: Iterable[Pair]) -> Variable:
        """One update from pairs of a gradient and its Variable. Returns `iterations`."""
        pairs = [(g, v) for g, v in grads_and_vars]
        self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def apply(self, grads: Iterable[Gradient], trainable_variables: Iterable[Variable] | None = None) -> None:
        """One update. Without Variables the gradients are for those that the optimizer was built for, in order."""
        given = list(grads)
        if trainable_variables is None:
            if not self.built:
                raise locate(ArgumentError("apply(grads) needs Variables", remedy="call build(variables) first"))
            trainable_variables = self._slots.alive()
        variables = _variables(trainable_variables)
        if len(given) != len(variables):
            raise locate(ArgumentError(f"{len(given)} gradients for {len(variables)} Variables"))
        if not given:
            return
        self._settings_read()
        pairs = self._there(given, variables)
        if any(v not in self._slots for v in variables):
            self.build(variables)
        with reading(None):
            self._update(self._clipped(self._unscaled(pairs)))
            self._iterations.assign_add(1)

    def minimize(self, loss: Any, var_list: Iterable[Variable], tape: GradientTape | None = None) -> Variable:
        """One update along the gradient of `loss`: a callable, or a tensor that `tape` has recorded."""
        variables = _variables(var_list)
        if not callable(loss) and tape is None:
            raise locate(ArgumentError("minimize needs a callable, or the tape that has recorded the loss"))
        if callable(loss):
            with GradientTape() as tape:
                for v in variables:
                    tape.watch(v)
                loss = callee(loss)()
        assert tape is not None
        return self.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    @abstractmethod
    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        """Change one Variable and its slots."""

    def scale_loss(self, loss: Any) -> Any:
        """The loss times `loss_scale_factor`, for the gradients that are given to `apply`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def _settings_read(self) -> None:
        for c in type(self).__mro__:
            for name in vars(c).get("settings", ()):
                reads.setting(self, name)

    def _there(self, grads: Sequence[Gradient], variables: Sequence[Variable]) -> list[Pair]:
        """The pairs that have a gradient, each of which fits its Variable."""
        missing = [v.name for g, v in zip(grads, variables, strict=True) if g is None]
        if len(missing) == len(variables):
            raise locate(
                GradientError(
                    f"no gradient for any of {', '.join(missing[:5])}",
                    remedy="tape.why(loss, variable) says where the way from the loss ends",
                )
            )
        if missing and not self._warned:
            self._warned = True
            text = f"no gradients for {', '.join(missing)}, which stay as they are; tape.why(loss, variable) says why"
            warnings.warn(text, RuntimeWarning, stacklevel=user_depth())
        return [(_fitting(g, v), v) for g, v in zip(grads, variables, strict=True) if g is not None]

    def _unscaled(self, pairs: list[Pair]) -> list[Pair]:
        scale = self.loss_scale_factor
        return pairs if scale is None else [(g / scale, v) for g, v in pairs]

    def _clipped(self, pairs: list[Pair]) -> list[Pair]:
        """Gradients in the type in which updates are computed, clipped."""
        limit = self.clipvalue
        by_norm = self.clipnorm is not None or self.global_clipnorm is not None
        dense = by_norm or limit is not None or not self.sparse
        wide = [(_wide(convert(g) if dense and isinstance(g, IndexedSlices) else g, v), v) for g, v in pairs]
        grads = [g for g, _ in wide]
        if self.clipnorm is not None:
            grads = [clip_by_norm(g, self.clipnorm) for g in grads]
        elif self.global_clipnorm is not None:
            grads = clip_by_global_norm(grads, self.global_clipnorm)[0]
        elif limit is not None:
            grads = [clip_by_value(g, -limit, limit) for g in grads]
        return [(g, v) for g, (_, v) in zip(grads, pairs, strict=True)]

    def _update(self, pairs: list[Pair]) -> None:
        rate = self.learning_rate
        rate = rate if isinstance(rate, Operand) else convert(rate, float32)
        for g, v in pairs:
            lr = E.cast(rate, dtype=computed_in(v.dtype))
            if self.weight_decay is not None and self._decays(v):
                w = _wide(v, v)
                self.assign(v, w - w * self.weight_decay * lr)
            callee(self.update_step)(g, v, lr)
        if self.use_ema:
            self._average()

    def assign(self, variable: Variable, value: Any) -> None:
        """Set a Variable to a value that may be of the wider type that its update was computed in."""
        variable.assign(E.cast(value, dtype=variable.dtype) if isinstance(value, Operand) else value)

    # --- weight decay and averages ------------------------------------------------------------------------------------
    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Variables that do not decay: these, and those in whose names one of the patterns is found."""
        self._excluded = IdentityMap()
        for v in _variables(var_list or ()):
            self._excluded.set(v, None)
        self._excluded_names = tuple(var_names or ())

    def _decays(self, v: Variable) -> bool:
        return v not in self._excluded and not any(re.search(p, v.name) for p in self._excluded_names)

    def _average(self) -> None:
        first = E.equal(self._iterations, 0)
        for v in self._slots.alive():
            average, w = self.slot(v, "average"), _wide(v, v)
            momentum = E.where(first, 0.0, self.ema_momentum)
            momentum = E.cast(momentum, dtype=average.dtype)
            average.assign(momentum * average + (1.0 - momentum) * w)
            if self.ema_overwrite_frequency:
                due = E.equal((self._iterations + 1) % self.ema_overwrite_frequency, 0)
                self.assign(v, E.where(due, average, w))

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Put the moving averages in the place of the Variables' values, if there are any."""
        if self.use_ema:
            for v in _variables(var_list):
                self.assign(v, self.slot(v, "average"))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise locate(ArgumentError(message))


def _variables(given: Iterable[Any]) -> list[Variable]:
    found = list(given)
    for v in found:
        if not isinstance(v, Variable):
            raise locate(ArgumentError(f"an optimizer changes Variables, not {type(v).__name__}"))
    return found


def _made(shape: tuple[int, ...], value: Any, d: DType, name: str) -> Variable:
    """State that is there before the trace at hand, if there is one: it begins with the same value in every attempt."""
    if isinstance(value, Operand):
        value = to_array(value)
    with tracing(None):
        return Variable(np.full(shape, value, d.np), trainable=False, name=name)


def _fitting(g: Gradient, v: Variable) -> Gradient:
    g = g if isinstance(g, (Operand, IndexedSlices)) else convert(g)
    if tuple(g.shape) != tuple(v.shape):
        raise locate(ShapeError(f"a gradient {g.type} for {v._label()}"))
    return g


def _wide(x: Any, v: Variable) -> Any:
    """In the type that updates of the Variable are computed in."""
    d = computed_in(v.dtype)
    if isinstance(x, IndexedSlices):
        return IndexedSlices(E.cast(x.values, dtype=d), x.indices, x.dense_shape)
    return E.cast(x, dtype=d)


__all__ = ["Optimizer", "Options", "computed_in"]
