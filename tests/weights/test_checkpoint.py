"""Name-based checkpoints: finding, reading, matching, writing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import HEADS, bert_variable_shapes
from bert_clinical.weights import checkpoint
from bert_clinical.weights.matching import match_variables
from data_prep.common.errors import UserError
from tests.golden_data import golden
from tests.running import HANG_SECONDS

INIT = str(golden("init") / "bert_model.ckpt")
BERTADAM = str(golden("init_bertadam") / "biobert_model.ckpt")
TRAINED = str(golden("trained") / "model.ckpt-20")
DATA = ".data-00000-of-00001"


@pytest.fixture(scope="module")
def wanted() -> dict[str, tuple[int, ...]]:
    return bert_variable_shapes(BertConfig.from_json_file(golden("model/bert_config.json")))


def copy_checkpoint(prefix: str, folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    for suffix in (".index", DATA):
        shutil.copy(prefix + suffix, folder / (name + suffix))
    return str(folder / name)


def truncate(path: str, share: float) -> None:
    os.truncate(path, int(Path(path).stat().st_size * share))


def test_the_list_of_variables_is_that_of_the_original(wanted):
    assert wanted == checkpoint.tensor_shapes(INIT)
    assert list(bert_variable_shapes(BertConfig(7, num_hidden_layers=1), heads=False)) == [
        name
        for name in bert_variable_shapes(BertConfig(7, num_hidden_layers=1))
        if name.startswith("bert/")
    ]


@pytest.mark.parametrize("suffix", ["", ".index", DATA])
def test_resolve_takes_a_prefix_or_a_file_of_it(suffix):
    assert checkpoint.resolve_checkpoint(INIT + suffix) == INIT


@pytest.mark.parametrize("prefix", [INIT, BERTADAM, TRAINED])
def test_resolve_takes_a_folder_without_a_state_file(prefix):
    assert checkpoint.resolve_checkpoint(Path(prefix).parent) == prefix


def test_resolve_follows_the_state_file_then_the_highest_step(tmp_path):
    old, new = (copy_checkpoint(TRAINED, tmp_path, f"model.ckpt-{n}") for n in (9, 10))
    assert checkpoint.resolve_checkpoint(tmp_path) == new
    checkpoint.update_checkpoint_state(tmp_path, old, [old, new])
    assert checkpoint.resolve_checkpoint(tmp_path) == old
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/elsewhere/model.ckpt-9"\n')
    assert checkpoint.latest_checkpoint(tmp_path) == old


def test_latest_passes_over_incomplete_ones(tmp_path):
    good, cut, bare = (copy_checkpoint(TRAINED, tmp_path, f"model.ckpt-{n}") for n in (1, 2, 3))
    checkpoint.update_checkpoint_state(tmp_path, bare, [good, cut, bare])
    truncate(cut + DATA, 0.99)
    Path(bare + DATA).unlink()
    (tmp_path / "model.ckpt-4.0123abcd.partial").mkdir()
    copy_checkpoint(TRAINED, tmp_path / "model.ckpt-4.0123abcd.partial", "model.ckpt-4")
    assert checkpoint.latest_checkpoint(tmp_path) == good
    Path(good + ".index").unlink()
    assert checkpoint.latest_checkpoint(tmp_path) is None
    with pytest.raises(UserError, match="2 incomplete checkpoint"):
        checkpoint.resolve_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "is empty"),
        ("no/such/model.ckpt", "found no model.ckpt.index"),
        (str(golden("model/bert_config.json")), "is no checkpoint"),
        (str(golden("tokenization")), "holds no .index file"),
    ],
)
def test_resolve_says_what_it_found_and_expected(path, message):
    with pytest.raises(UserError, match=f"{message}.*expected a prefix, an .index file or a"):
        checkpoint.resolve_checkpoint(path)


def test_resolve_misses_the_data_file(tmp_path):
    shutil.copy(INIT + ".index", tmp_path / "m.index")
    with pytest.raises(UserError, match=r"without m\.data-00000-of-00001"):
        checkpoint.resolve_checkpoint(tmp_path / "m")


def test_step_is_the_variable_then_the_name_then_zero(tmp_path):
    assert checkpoint.checkpoint_step(TRAINED) == 20
    assert checkpoint.checkpoint_step(BERTADAM) == 200000
    assert checkpoint.checkpoint_step(INIT) == 0
    assert (
        checkpoint.checkpoint_step(copy_checkpoint(INIT, tmp_path, "model.ckpt-1000000")) == 10**6
    )


@pytest.mark.parametrize("suffix", [".index", DATA])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_file_is_one_error(tmp_path, suffix, damage):
    prefix = copy_checkpoint(INIT, tmp_path, "m")
    path = Path(prefix + suffix)
    if damage == "cut":
        truncate(str(path), 0.5)
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    with pytest.raises(UserError, match="incomplete or corrupt") as caught:
        checkpoint.read_tensors(prefix)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_what_google_wrote(tmp_path):
    prefix = str(tmp_path / "model.ckpt-20")
    checkpoint.write_checkpoint(prefix, checkpoint.read_tensors(TRAINED))
    for suffix in (".index", DATA):
        assert Path(prefix + suffix).read_bytes() == Path(TRAINED + suffix).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"model.ckpt-20{DATA}",
        "model.ckpt-20.index",
    ]


def test_odd_tensors_come_back(tmp_path):
    tensors = {
        "a": np.arange(13 * 7, dtype=np.float32).reshape(13, 7),
        "b/scalar": np.int64(37),
        "c/empty": np.zeros((0, 7), np.float32),
    }
    checkpoint.write_checkpoint(tmp_path / "odd [1].ckpt", tensors)
    read = checkpoint.read_tensors(str(tmp_path / "odd [1].ckpt"))
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == np.asarray(value).dtype
    assert checkpoint.latest_checkpoint(tmp_path) == str(tmp_path / "odd [1].ckpt")
    with pytest.raises(UserError, match="no tensor d"):
        checkpoint.read_tensors(str(tmp_path / "odd [1].ckpt"), ["d"])


def test_what_kills_have_left_goes_and_the_rest_stays(tmp_path):
    kept = copy_checkpoint(TRAINED, tmp_path, "model.ckpt-1")
    copy_checkpoint(TRAINED, tmp_path, "model.ckpt-2")
    (tmp_path / "model.ckpt-2.index").unlink()
    copy_checkpoint(TRAINED, tmp_path, "other.ckpt-2")
    (tmp_path / "other.ckpt-2.index").unlink()
    (tmp_path / "model.ckpt-3.0123abcd.partial").mkdir()
    copy_checkpoint(TRAINED, tmp_path / "model.ckpt-3.0123abcd.partial", "model.ckpt-3")
    (tmp_path / "other.ckpt-3.0123abcd.partial").mkdir()
    checkpoint.remove_unfinished(tmp_path, "model.ckpt-")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{Path(kept).name}.index", f"{Path(kept).name}{DATA}",
        f"other.ckpt-2{DATA}", "other.ckpt-3.0123abcd.partial",
    }  # fmt: skip


def test_a_missing_folder_is_no_place_to_write(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        checkpoint.write_checkpoint(tmp_path / "gone" / "m", {"a": np.zeros(3)})


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint.write_checkpoint(tmp_path / "m", {"a": np.ones(3)})
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="needs 8,000 bytes and 1,000 are free"):
        checkpoint.write_checkpoint(tmp_path / "m", {"a": np.ones(1000)})
    assert checkpoint.read_tensors(str(tmp_path / "m"))["a"].tolist() == [1, 1, 1]


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    """A file size limit stops the writer as a full disk does, unannounced."""
    old = {"a": np.ones(3)}
    checkpoint.write_checkpoint(tmp_path / "m", old)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="checkpoint of 8,000,000 bytes could not be written"):
            checkpoint.write_checkpoint(tmp_path / "m", {"a": np.ones(10**6)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"m{DATA}", "m.index"]
    assert checkpoint.read_tensors(str(tmp_path / "m"))["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("prefix", "slots", "steps"),
    [
        (INIT, 0, ()),
        (TRAINED, 92, ("global_step",)),
        (BERTADAM, 92, ("beta1_power", "beta2_power", "global_step")),
    ],
)
def test_match_knows_slots_and_counters(wanted, prefix, slots, steps):
    match = match_variables(wanted, prefix)
    assert set(match.found) == set(wanted)
    assert (len(match.slots_ignored), match.step_like) == (slots, steps)
    assert match.missing == match.unknown == match.misshapen == match.missing_groups == ()


@pytest.mark.parametrize("absent", [HEADS, HEADS[:1], HEADS[1:]])
def test_match_reports_missing_heads(wanted, tmp_path, absent):
    tensors = checkpoint.read_tensors(INIT)
    kept = {name: value for name, value in tensors.items() if not name.startswith(absent)}
    checkpoint.write_checkpoint(tmp_path / "m", kept)
    match = match_variables(wanted, str(tmp_path / "m"))
    assert match.missing_groups == absent
    assert set(match.missing) == tensors.keys() - kept.keys()
    with pytest.raises(UserError, match="expected every variable"):
        match_variables(wanted, str(tmp_path / "m"), optional_groups=())


MISFITS = {
    "a variable of the encoder is missing": (
        {"bert/encoder/layer_1/output/dense/bias": None},
        "holds no bert/encoder/layer_1/output/dense/bias",
    ),
    "the whole pooler is missing": (
        {"bert/pooler/dense/bias": None, "bert/pooler/dense/kernel": None},
        "holds no bert/pooler/dense/kernel .and 1 more",
    ),
    "half a head is missing": (
        {"cls/predictions/output_bias": None},
        "holds no cls/predictions/output_bias",
    ),
    "another shape": (
        {"bert/embeddings/position_embeddings": np.zeros((64, 32), np.float32)},
        r"position_embeddings has shape \[64, 32\], expected \[128, 32\]",
    ),
    "a transposed kernel": (
        {"bert/encoder/layer_0/intermediate/dense/kernel": np.zeros((64, 32), np.float32)},
        r"has shape \[64, 32\], expected \[32, 64\]",
    ),
    "a variable too many": ({"output_weights": np.zeros(2)}, "output_weights is no variable"),
    "a layer too many": (
        {"bert/encoder/layer_2/output/dense/bias": np.zeros(32)},
        "layer_2/output/dense/bias is no variable",
    ),
    "a slot of nothing": ({"elsewhere/adam_m": np.zeros(2)}, "elsewhere/adam_m is no variable"),
    "a slot of another optimizer": (
        {"bert/pooler/dense/bias/Momentum": np.zeros(32)},
        "Momentum is no variable",
    ),
    "an object-based checkpoint": (
        {"_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(2)},
        "object-based checkpoint of TensorFlow 2",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_match_fails_on_what_does_not_fit(wanted, tmp_path, case):
    changes, message = MISFITS[case]
    tensors = {**checkpoint.read_tensors(INIT), **changes}
    kept = {name: value for name, value in tensors.items() if value is not None}
    checkpoint.write_checkpoint(tmp_path / "m", kept)
    with pytest.raises(UserError, match=message):
        match_variables(wanted, str(tmp_path / "m"))


def test_finding_a_checkpoint_needs_no_tensorflow():
    code = (
        "import sys; from bert_clinical.weights.checkpoint import resolve_checkpoint; "
        f"resolve_checkpoint({INIT!r}); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=HANG_SECONDS).returncode == 0
