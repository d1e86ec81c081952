"""Programs of many kernels are compiled in parts, side by side."""

import threading

import numpy as np
import pytest

import tracejit as tj
from tracejit.lower import compiler, engine
from tracejit.runtime import cache, modules


def many_kernels(x, y):
    """Products and reductions, which do not fuse into one loop nest."""
    for k in range(6):
        x = tj.tanh(x @ y + (k + 0.5))
        x = x - tj.reduce_mean(x, axis=k % 2, keepdims=True) * (k + 1.25)
    return x


def plain(x, y):
    for k in range(6):
        x = np.tanh(x @ y + (k + 0.5))
        x = x - x.mean(axis=k % 2, keepdims=True) * (k + 1.25)
    return x


A, B = (np.random.default_rng(i).normal(size=(9, 9)) for i in range(2))


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """An empty cache on disk, nothing in memory, and the texts that are compiled."""
    disk = cache.DiskCache(tmp_path)
    monkeypatch.setattr(cache, "shared", lambda: disk)
    monkeypatch.setattr(compiler, "_known", {})
    texts, real = [], engine.compile_ir

    def compile_ir(text, *args):
        texts.append(text)
        return real(text, *args)

    monkeypatch.setattr(engine, "compile_ir", compile_ir)
    return texts


def kernels(texts):
    return [t for t in texts if "@k0" in t]


@pytest.mark.parametrize("threads, parts", [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_as_many_parts_as_threads(compilations, threads, parts):
    with tj.threads(threads):
        f = tj.function(many_kernels)
        np.testing.assert_allclose(f(A, B), plain(A, B), rtol=1e-12)
    assert len(kernels(compilations)) == parts


def test_parts_are_found_on_disk(compilations, monkeypatch):
    with tj.threads(3):
        first = tj.function(many_kernels)(A, B)
        n = len(compilations)
        assert n >= 2
        monkeypatch.setattr(compiler, "_known", {})
        np.testing.assert_array_equal(tj.function(many_kernels)(A, B), first)
    assert len(compilations) == n


def test_no_more_threads(compilations, monkeypatch):
    monkeypatch.setattr(modules, "in_thread", lambda work: None)
    with tj.threads(3):
        np.testing.assert_allclose(tj.function(many_kernels)(A, B), plain(A, B), rtol=1e-12)
    assert len(kernels(compilations)) == 2


def test_an_error_in_a_thread_is_raised(compilations, monkeypatch):
    real = engine.compile_ir

    def broken(text, *args):
        if threading.current_thread() is not threading.main_thread() and "@k0" in text:
            raise RuntimeError("LLVM is out of luck")
        return real(text, *args)

    monkeypatch.setattr(engine, "compile_ir", broken)
    with tj.threads(3), pytest.warns(UserWarning, match="out of luck"):
        np.testing.assert_allclose(tj.function(many_kernels)(A, B), plain(A, B), rtol=1e-12)


def test_parts_have_about_equal_work_and_lose_nothing():
    texts = ["x" * (40 * k) for k in range(12)]
    sources = [compiler.Source(t) for t in texts]
    with tj.threads(5):
        parts = compiler._parts(sources)
        assert len(parts) == 4
        assert sorted(s.text for p in parts for s in p) == sorted(texts)
        sizes = [sum(8 + len(s.text) / 80 for s in p) for p in parts]
        assert max(sizes) < 1.2 * min(sizes)
        assert compiler._parts(sources) == parts
        assert len(compiler._parts(sources[:2])) == 1
