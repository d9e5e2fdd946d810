"""A part of the drill `planted_word`: nothing that a program says holds a word of a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import planted_word
from tests.drills.planted_word import World, drill, special, well, wrong_files


def untold(line: str) -> None:
    """Says nothing; what is wrong is in the test's result."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("planted"))
    made.make()
    return made


def test_the_drill_sees_a_word(tmp_path: Path) -> None:
    for content in (b"x Quixzandorph y", b"QUIXZANDORPH", b"Qui ##xza ##nd", b"a/zandorph"):
        assert planted_word.has_word(content)
    assert not planted_word.has_word(b"Zandvoort, Andorra")


@pytest.mark.slow
def test_mistakes_tell_nothing(world: World) -> None:
    cases = [
        case
        for case in (*wrong_files(world), *special(world))
        if case.is_here and (" is " not in case.name or case.name.endswith((" text", "other.json")))
    ]
    assert len(cases) >= 100
    assert drill(world, cases, untold) == {}


@pytest.mark.slow
def test_nothing_is_told_where_all_goes_well(world: World) -> None:
    cases = well(world)
    assert len(cases) >= 17
    assert drill(world, cases, untold) == {}


@pytest.mark.slow
def test_ends_by_force_tell_nothing(world: World) -> None:
    names = ("SIGTERM", "SIGKILL of a worker", "ValueError on Beam", "disk full, examples",
             "MemoryError in 2 worker(s)", "standard error closed")  # fmt: skip
    cases = [case for case in special(world) if case.name in names]
    assert len(cases) == 6
    assert drill(world, cases, untold) == {}
