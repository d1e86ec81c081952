"""The README's code runs, its commands are what .ci/run takes them for, and it stays short."""

import linecache
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_code_runs(capsys):
    names = {}
    for i, code in enumerate(blocks("python")):
        name = f"README.md, block {i}"
        linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name  # as notebooks do
        exec(compile(code, name, "exec"), names)
    out = capsys.readouterr().out
    assert re.search(r"^loss \d\.\d{4}$", out, re.MULTILINE)
    assert "matmul(" in out
    assert "def " in out
    assert "kernels_unfused" in out
    assert "5 steps to 1.414214" in out


def test_opens_with_the_two_commands():
    demo, test = blocks("sh")
    assert demo.endswith("-m tracejit demo\n")
    assert test.endswith("pytest -n auto\n")
    assert README.index(test) < README.index("## ")
    assert "block == 2" in (ROOT / ".ci" / "run").read_text()


def test_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 180
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        if target != "bench/RESULTS.md":
            assert (ROOT / target).exists(), target
