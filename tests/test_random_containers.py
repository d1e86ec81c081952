"""Random programs over lists and dicts that stand in several places leave behind what plain Python leaves behind."""

import pytest
from random_containers import container_program, draws, outcomes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("containers")


# what a trace cannot follow runs as plain Python
pytestmark = pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")


def check(seed, folder, calls=4):
    program = container_program(seed, 2 + seed % 10)
    given = draws(seed, calls)
    found = outcomes(program, folder, given)
    for i, (got, want) in enumerate(zip(found.got, found.want, strict=True)):
        assert got == want, f"call {i} of {given}\n\n{program.source}"


@pytest.mark.parametrize("seed", range(50))
def test_what_is_left_behind_agrees(seed, folder):
    check(seed, folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50, 800))
def test_much_that_is_left_behind_agrees(seed, folder):
    check(seed, folder)
