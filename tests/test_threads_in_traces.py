"""Threads that a traced function starts: its tensors belong to the thread that traces."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ConversionWarning, LeakedTensorError


def pooled(x):
    with ThreadPoolExecutor(2) as p:
        return tj.add_n(list(p.map(tj.sin, [x, x * 2.0])))


def test_runs_as_plain_python():
    f, x = tj.function(pooled), tj.ones((3,))
    with pytest.warns(ConversionWarning, match=r"map\(\) asks for or changes what is outside of the function") as said:
        for _ in range(2):
            assert np.allclose(f(x).numpy(), np.sin(1.0) + np.sin(2.0))
    assert len(said) == 1


def test_strict_functions_raise():
    with pytest.raises(ConversionError, match="outside of the function"):
        tj.function(pooled, strict=True)(tj.ones((3,)))


def test_error_in_the_thread():
    found = []

    def work(x):
        try:
            tj.sin(x)
        except ConversionError as e:
            found.append(str(e))

    def started(x):
        t = threading.Thread(target=work, args=(x,))
        t.start()
        t.join()
        return x + 1.0

    assert tj.autograph.do_not_convert(started)(tj.ones(())) == 2.0 and not found
    tj.function(started, autograph=False)(tj.ones(()))
    assert len(found) == 1 and "another thread" in found[0]


def test_leaks_are_told_as_before():
    kept = []
    tj.function(lambda x: kept.append(x) or x, autograph=False)(tj.ones(()))
    with pytest.raises(LeakedTensorError):
        kept[0] + 1.0
