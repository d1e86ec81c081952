"""`tracejit.random`: random tensors, under TensorFlow's names."""

import importlib
import types
import typing

from tracejit.ops.generator import (
    Algorithm,
    Generator,
    create_rng_state,
    get_global_generator,
    set_global_generator,
    set_seed,
)
from tracejit.ops.random import categorical, normal, shuffle, truncated_normal, uniform
from tracejit.ops.stateless import (
    fold_in,
    split,
    stateless_categorical,
    stateless_fold_in,
    stateless_normal,
    stateless_shuffle,
    stateless_split,
    stateless_truncated_normal,
    stateless_uniform,
)

if typing.TYPE_CHECKING:
    from tracejit.ops.candidates import (
        all_candidate_sampler,
        fixed_unigram_candidate_sampler,
        log_uniform_candidate_sampler,
        uniform_candidate_sampler,
    )
    from tracejit.ops.sampled import (
        beta,
        gamma,
        poisson,
        stateless_beta,
        stateless_binomial,
        stateless_gamma,
        stateless_parameterized_truncated_normal,
        stateless_poisson,
    )

# Loaded when they are first asked for, so that `import tracejit` stays quick
_SAMPLERS = (
    "all_candidate_sampler", "fixed_unigram_candidate_sampler", "log_uniform_candidate_sampler",
    "uniform_candidate_sampler",
)  # fmt: skip
_LATER = (
    *_SAMPLERS, "beta", "gamma", "poisson", "stateless_beta", "stateless_binomial", "stateless_gamma",
    "stateless_parameterized_truncated_normal", "stateless_poisson",
)  # fmt: skip


def __getattr__(name: str) -> typing.Any:
    if name in _LATER:
        file = "candidates" if name in _SAMPLERS else "sampled"
        globals()[name] = getattr(importlib.import_module(f"tracejit.ops.{file}"), name)
        return globals()[name]
    raise AttributeError(f"module 'tracejit.random' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


experimental = types.SimpleNamespace(
    Algorithm=Algorithm, Generator=Generator, create_rng_state=create_rng_state,
    get_global_generator=get_global_generator, set_global_generator=set_global_generator,
    stateless_fold_in=fold_in, stateless_shuffle=stateless_shuffle, stateless_split=split,
)  # fmt: skip

__all__ = [
    "Algorithm", "all_candidate_sampler", "beta", "categorical", "create_rng_state", "experimental",
    "fixed_unigram_candidate_sampler", "fold_in", "gamma", "Generator", "get_global_generator",
    "log_uniform_candidate_sampler", "normal", "poisson", "set_global_generator", "set_seed", "shuffle", "split",
    "stateless_beta", "stateless_binomial", "stateless_categorical", "stateless_fold_in", "stateless_gamma",
    "stateless_normal", "stateless_parameterized_truncated_normal", "stateless_poisson", "stateless_shuffle",
    "stateless_split", "stateless_truncated_normal", "stateless_uniform", "truncated_normal", "uniform",
    "uniform_candidate_sampler",
]  # fmt: skip
