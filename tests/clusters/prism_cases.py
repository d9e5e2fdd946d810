"""format_notes and create_pretraining_data on Prism, with a pool of workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import engines
from tests.clusters.engines import Cluster
from tests.clusters.nodes import network
from tests.clusters.work import (
    CREATE_PRETRAINING_DATA,
    FORMAT_NOTES,
    assert_makes_the_same,
    format_flags,
    make_notes,
    pretraining_flags,
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        network(1) as nodes,
        engines.prism(nodes, tmp_path_factory.mktemp("prism")) as made,
    ):
        yield made


def test_text_and_examples_are_those_of_one_machine(tmp_path: Path, cluster: Cluster) -> None:
    notes = make_notes(tmp_path / "notes", 240)
    text = tmp_path / "text"
    assert_makes_the_same(FORMAT_NOTES, format_flags(notes), cluster.flags, text)
    flags = pretraining_flags(text)
    assert_makes_the_same(CREATE_PRETRAINING_DATA, flags, cluster.flags, tmp_path / "examples")
