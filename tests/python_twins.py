"""Scenes played twice, with plain Python functions and with traced ones: what is seen must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import TracejitError

Wrap = Callable[..., Any]


def seen(x: Any) -> Any:
    """An observation without tensors: arrays and Python's own values."""
    if isinstance(x, dict):
        return {k: seen(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [seen(v) for v in x]
    return x.numpy() if tj.is_tensor(x) else x


def compare(got: Any, want: Any, path: str = "") -> None:
    if isinstance(want, dict):
        assert list(got) == list(want), path
        for k in want:
            compare(got[k], want[k], f"{path}[{k!r}]")
    elif isinstance(want, list):
        assert isinstance(got, list), path
        assert len(got) == len(want), (path, got, want)
        for i, (a, b) in enumerate(zip(got, want)):
            compare(a, b, f"{path}[{i}]")
    elif isinstance(want, (np.ndarray, np.generic, float)):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-6, atol=1e-6, err_msg=path)
    else:
        assert np.all(np.asarray(got == want)), (path, got, want)


def play(scene: Callable[[Wrap], Any], capsys: Any) -> None:
    """Compare what a scene returns and prints when its functions are plain and when they are traced."""
    capsys.readouterr()
    want, printed = seen(scene(lambda f: f)), capsys.readouterr().out
    got, printed_too = seen(scene(tj.function)), capsys.readouterr().out
    compare(got, want)
    assert printed_too == printed


def failure(f: Callable[..., Any], *args: Any) -> str:
    """The text of the error that a call ends in, which is short."""
    with pytest.raises(TracejitError) as caught:
        f(*args)
    text = str(caught.value)
    assert len(text.splitlines()) <= 12, text
    return text
