"""Files import only what stands above them in ARCHITECTURE.md, which is the reading order and lists every file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import filemap as tree  # noqa: E402

sys.path.pop(0)
LISTED = tree.entries()
ORDER = [f for f, _ in LISTED]
LAZY = set(re.findall(r"^\* `(tracejit/\S+)` → `(\S+)`: .+$", tree.MAP.read_text(), re.MULTILINE))
HEAVY = {"numba", "matplotlib", "sklearn", "scipy"}


def test_the_map_lists_every_file_once():
    assert sorted(ORDER) == tree.files(), "run tools/filemap.py --write"


@pytest.mark.parametrize("file", ORDER)
def test_imports_point_up(file):
    above = set(ORDER[: ORDER.index(file)])
    for i in tree.imports(file):
        if i.typing:
            continue
        if i.lazy:
            assert (file, i.file) in LAZY or i.file.split(".")[0] in HEAVY, (
                f"{file}:{i.line} imports {i.file} inside a function; list it in ARCHITECTURE.md if it is slow to load"
            )
        elif i.file in ORDER:
            assert i.file in above, f"{file}:{i.line} imports {i.file}, which stands below it"


@pytest.mark.parametrize("file,sentence", LISTED, ids=ORDER)
def test_the_map_says_what_the_file_says(file, sentence):
    assert sentence == tree.sentence(file), "run tools/filemap.py --write"


def test_listed_exceptions_exist():
    found = {(f, i.file) for f in ORDER for i in tree.imports(f) if i.lazy}
    assert found >= LAZY


def test_slow_packages_are_not_loaded_by_import():
    code = f"import sys, tracejit; print(sorted({HEAVY | {'llvmlite'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.strip() == "[]"
