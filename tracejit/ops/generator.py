"""Generators: streams of random draws whose states are Variables, and the one that draws without any use."""

from __future__ import annotations

import enum
import importlib
import os
from typing import Any

import numpy as np

from tracejit import forks
from tracejit.context import activity, context
from tracejit.errors import ArgumentError, locate
from tracejit.fast import fast
from tracejit.ir.graph import Value
from tracejit.ir.types import float32, int32, int64, uint64
from tracejit.ops import draws as D
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_size
from tracejit.ops.define import check_kind
from tracejit.ops.draws import Source
from tracejit.publicnames import shown_value
from tracejit.tensor import Operand, Tensor, Variable, quietly, wrap
from tracejit.tracing import streams


class Algorithm(enum.IntEnum):
    """TensorFlow's numbers of algorithms; Philox is the one that there is here."""

    PHILOX = 1
    THREEFRY = 2
    AUTO_SELECT = 3


def check_algorithm(alg: Any) -> None:
    """Raises `ArgumentError` for algorithms other than Philox."""
    name = alg.lower() if isinstance(alg, str) else alg
    if name not in (None, "philox", "auto_select", Algorithm.PHILOX, Algorithm.AUTO_SELECT):
        raise locate(ArgumentError(f'alg is "philox" or "auto_select", not {shown_value(alg)}'))


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "little")


_MIX = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio: seeds that differ a little give keys that differ a lot


class Generator:
    """A stream of draws: a key and the number of the next draw, kept in a Variable.

    Two generators of one seed give the same draws in the same order, eagerly and in traced functions. `state` is a
    Variable of three uint64: the key, the number of the next draw, and what seeds of single draws are combined with. A
    copy of it saves the stream, and `reset` or `from_state` takes it up again.

    `copy_from` is a generator to copy, or a seed; `state` a saved state; without either the state is random.
    """

    def __init__(
        self, copy_from: Any = None, state: Any = None, alg: Any = None, seed: int | None = None
    ) -> None:
        check_algorithm(alg)
        if isinstance(copy_from, Generator):
            first = np.array(copy_from.state._a) if context.trace is None else E.identity(copy_from.state)
        elif state is not None:
            first = _saved(state)
        else:
            first = _state(seed if copy_from is None else copy_from)
        self._lock = forks.lock()
        self.state: Variable = Variable(first, trainable=False, name="random_state")
        streams.set(self.state, None)

    # --- where the stream begins --------------------------------------------------------------------------------------
    @classmethod
    def from_seed(cls, seed: Any, alg: Any = None) -> Generator:
        """The stream of a seed: an integer, or several that are combined."""
        return cls(seed, alg=alg)

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> Generator:
        """A stream that differs from run to run."""
        return cls(alg=alg)

    @classmethod
    def from_state(cls, state: Any, alg: Any = None) -> Generator:
        """The stream that a state was saved from, from that place on."""
        return cls(state=state, alg=alg)

    @classmethod
    def from_key_counter(cls, key: Any, counter: Any, alg: Any = None) -> Generator:
        """The stream of a key, from the draw with this number on; a second number is mixed into the first."""
        return cls(state=_key_counter(key, counter), alg=alg)

    def reset(self, state: Any) -> None:
        """Go on from a saved state."""
        self.state.assign(_saved(state))

    def reset_from_seed(self, seed: Any) -> None:
        """Begin the stream of this seed."""
        self.state.assign(_state(seed))

    def reset_from_key_counter(self, key: Any, counter: Any) -> None:
        """Go to the draw with this number in the stream of this key."""
        self.state.assign(_key_counter(key, counter))

    @property
    def algorithm(self) -> int:
        """The number of the algorithm: 1, which is Philox."""
        return int(Algorithm.PHILOX)

    @property
    def key(self) -> Tensor:
        """The key of the stream, a 0-d uint64."""
        return D.item(E.identity(self.state), 0)

    # --- other streams ------------------------------------------------------------------------------------------------
    def skip(self, delta: Any) -> Tensor:
        """Leave out `delta` draws; the new state."""
        step = E.cast(delta if isinstance(delta, Operand) else wrap(np.array(_whole(delta), np.int64)), dtype=uint64)
        self.state.assign(E.add(self.state, E.mul(step, wrap(np.array([0, 1, 0], np.uint64)))))
        return E.identity(self.state)  # type: ignore[no-any-return]

    def split(self, count: int = 1) -> list[Generator]:
        """New generators whose streams differ from each other's and from this one's."""
        n = as_size(count, "count")
        keys = self.uniform_full_int((n,), uint64)
        return [Generator(D.item(keys, i)) for i in range(n)]

    def make_seeds(self, count: int = 1) -> Tensor:
        """Seeds for stateless draws, one in each column: int64 of shape (2, count)."""
        return D.uniform(self._draw(), (2, count), None, None, int64)

    def _draw(self, seed: int | None = None) -> Source:
        """The key and the number of this draw; the state moves on."""
        if context.trace is not None:
            state = E.identity(self.state)
            self.state.assign(E.add(state, wrap(np.array([0, 1, 0], np.uint64))))
        else:
            with self._lock:
                state = self._moved()
        key, draw = D.item(state, 0), D.item(state, 1)
        if seed is None:
            return key, draw
        base = D.item(state, 2)
        own = wrap(np.array(((_whole(seed) + 1) * _MIX) % 2**64, np.uint64))
        return E.bit_xor(base, own), draw

    def _moved(self) -> Tensor:
        """The state, which moves on; to be asked under the lock."""
        variable = self.state
        if (native := fast.moved) is not None and (r := native(variable, _NEXT)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
        before = wrap(variable._a)
        after = wrap(quietly(np.add, before._a, _NEXT._a))
        if activity.busy:
            variable.assign(after)
        else:
            variable._a = after._a
        return before

    def source(self, seed: int | None = None) -> Source:
        """The same as `_draw`, as the state if that is all there is to say."""
        if seed is not None or activity.busy:
            return self._draw(seed)
        with self._lock:
            return self._moved(), None

    # --- draws --------------------------------------------------------------------------------------------------------
    def uniform(
        self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = float32, name: Any = None
    ) -> Tensor:
        """Uniform in [minval, maxval)."""
        return D.uniform(self.source(), shape, minval, maxval, dtype)

    def uniform_full_int(self, shape: Any, dtype: Any = uint64, name: str | None = None) -> Tensor:
        """Integers over the whole range of the dtype."""
        return D.uniform(self._draw(), shape, None, None, dtype)

    def normal(self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: Any = None) -> Tensor:
        """Normally distributed."""
        return D.normals(self.source, None, shape, mean, stddev, dtype)

    def truncated_normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = float32, name: str | None = None
    ) -> Tensor:
        """Normally distributed, within two standard deviations of the mean."""
        return D.truncated_normals(self.source, None, shape, mean, stddev, dtype)

    def binomial(self, shape: Any, counts: Any, probs: Any, dtype: Any = int32, name: str | None = None) -> Tensor:
        """How many of `counts` trials succeed, each with probability `probs`; both broadcast to `shape`."""
        importlib.import_module("tracejit.ops.sampled")
        return DRAWN["binomial"](self._draw, shape, counts, probs, dtype)  # type: ignore[no-any-return]


_FACTOR = wrap(np.array(_MIX, np.uint64))
_NEXT = wrap(np.array([0, 1, 0], np.uint64))
DRAWN: dict[str, Any] = {}  # draws whose code is loaded when they are first asked for


def _state(seed: Any) -> Any:
    """The key, the number of the next draw, and what seeds given to single draws are combined with."""
    if seed is None:
        return np.array([_entropy(), 0, 0], np.uint64)
    if isinstance(seed, Operand) and type(seed._a) is Value:
        return _traced_state(seed)
    several = seed.numpy() if isinstance(seed, Operand) else np.asarray(seed, object)
    whole = 0
    for s in several.reshape(-1).tolist():
        whole = (whole * _MIX + _whole(s)) % 2**64
    return np.array([whole, 0, (whole * _MIX) % 2**64], np.uint64)


def _traced_state(seed: Operand) -> Tensor:
    """The same of a seed that is known when the function runs."""
    check_kind(seed.dtype, "iu", "a seed's dtype")
    numbers, whole = S.reshape(E.cast(seed, dtype=uint64), shape=(-1,)), wrap(np.array(0, np.uint64))
    for i in range(as_size(numbers.shape[0], "the number of seeds")):
        whole = E.add(E.mul(whole, _FACTOR), D.item(numbers, i))
    parts = (whole, wrap(np.array(0, np.uint64)), E.mul(whole, _FACTOR))
    return S.concat(*[S.reshape(p, shape=(1,)) for p in parts], axis=0)  # type: ignore[no-any-return]


def _saved(state: Any) -> Any:
    if isinstance(state, Operand) and type(state._a) is Value and state.dtype.kind in "iu" and state.shape == (3,):
        return E.cast(state, dtype=uint64)
    a = np.asarray(state)
    if a.shape != (3,) or a.dtype.kind not in "iu":
        raise locate(ArgumentError(f"the state of a generator is three integers, not {shown_value(state)}"))
    return a.astype(np.uint64)


def _key_counter(key: Any, counter: Any) -> np.ndarray:
    numbers = [int(c) for c in np.asarray(counter).reshape(-1)]
    if len(numbers) not in (1, 2):
        raise locate(ArgumentError(f"counter is one integer or two, not {shown_value(counter)}"))
    k, number = int(np.asarray(key)) % 2**64, numbers[0] + sum(n * _MIX for n in numbers[1:])
    return np.array([k, number % 2**64, (k * _MIX) % 2**64], np.uint64)


def create_rng_state(seed: Any, alg: Any = None) -> np.ndarray:
    """The state of a generator of this seed, as `Generator.from_state` takes it."""
    check_algorithm(alg)
    return _state(seed)


def _whole(seed: Any) -> int:
    return int(as_size(seed, "a seed"))


_global = Generator()


def get_global_generator() -> Generator:
    """The generator that draws without one use."""
    return _global


def set_global_generator(generator: Generator) -> None:
    """Let draws without a generator use this one. Functions that are traced already keep the one that they have."""
    global _global
    if not isinstance(generator, Generator):
        raise locate(ArgumentError(f"a Generator is wanted, not {shown_value(generator)}"))
    _global = generator


def set_seed(seed: int) -> None:
    """Begin the global stream of this seed: the draws that follow are the same in every run."""
    _global.reset_from_seed(seed)
