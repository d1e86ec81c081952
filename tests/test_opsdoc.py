"""docs/ops.md says what the cases of the operations' table show, and leaves no public function out."""

import re
import sys

import pytest
from test_layers import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import opsdoc

sys.path.pop(0)


@pytest.fixture(scope="module")
def page():
    return opsdoc.page()


def test_the_page_is_up_to_date(page):
    assert opsdoc.PAGE.read_text() == page, "run tools/opsdoc.py --write"


def test_nothing_is_blank(page):
    for line in page.splitlines():
        if line.startswith("|"):
            assert all(cell.strip() for cell in line.strip("|").split("|")), line


def test_every_public_function_is_there(page):
    for every in opsdoc.names().values():
        assert re.search(rf"`{re.escape(every[0])}`", page), every
    assert opsdoc.NO_CASE not in page, page[page.index(opsdoc.NO_CASE) :]


def test_what_stands_below_the_table_exists():
    public = {n for every in opsdoc.names().values() for n in every}
    listed = {f"tj.{n}" for g in opsdoc.GROUPS for n in g.members}
    assert [n for n in sorted(listed) if not any(p == n or (p.startswith(n) and n[-1] == ".") for p in public)] == []
