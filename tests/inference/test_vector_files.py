"""The files of vectors, whenever their program is killed."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np

from bert_clinical.inference import vector_files
from tests.drills import kills


def write(path: Path, names: list[str]) -> int:
    vectors = np.arange(3 * len(names), dtype=np.float32).reshape(-1, 3) + len(names[0])
    with vector_files.vector_file(path, count=len(names), dimensions=3, about={}) as add:
        add(names, vectors)
    return 0


def found(path: Path) -> tuple[str, bytes]:
    return vector_files.row_ids_file(path).read_text(), path.read_bytes()


def test_an_array_never_stands_beside_the_ids_of_another(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "v.npy", tmp_path / "new" / "v.npy"
    for path, names in ((old, ["a", "b"]), (new, ["long", "names"])):
        path.parent.mkdir()
        write(path, names)
    call = 0
    while True:
        folder = tmp_path / str(call)
        shutil.copytree(old.parent, folder)
        work = functools.partial(write, folder / "v.npy", ["long", "names"])
        if kills.run(work, folder, kill_at=call, log=tmp_path / "log").status == 0:
            break
        if (folder / "v.npy").exists():
            assert found(folder / "v.npy") in (found(old), found(new))
        write(folder / "v.npy", ["long", "names"])
        assert found(folder / "v.npy") == found(new)
        assert len(list(folder.iterdir())) == 2
        call += 1
    assert call > 5
    assert found(folder / "v.npy") == found(new)
