"""`convert_to_transformers` as its user runs it: what it says, writes and refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bert_clinical.weights import checkpoint
from bert_clinical.weights.provenance import checkpoint_fingerprint
from data_prep.common.atomic_files import sha256_of_file
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program
from tests.theirs import needs_transformers

MODULE = "bert_clinical.convert_to_transformers"
DATA = ".data-00000-of-00001"


def flags_for(folder: Path, **changes) -> dict:
    flags = {
        "init_checkpoint": golden("init"),
        "bert_config_file": golden("model/bert_config.json"),
        "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False,
        "output_dir": folder / "out",
    }
    return {**flags, **changes}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def config_with(path: Path, **changes) -> Path:
    config = json.loads(golden("model/bert_config.json").read_text())
    return write(path, json.dumps({**config, **changes}))


def checkpoint_with(folder: Path, **changes) -> Path:
    """Writes the golden weights with some changed, or left out where None."""
    tensors = {**checkpoint.read_tensors(str(golden("init") / "bert_model.ckpt")), **changes}
    kept = {name: value for name, value in tensors.items() if value is not None}
    checkpoint.write_checkpoint(folder / "m.ckpt", kept)
    return folder / "m.ckpt"


@pytest.mark.slow
def test_biobert_as_it_ships(tmp_path):
    """A folder with the checkpoint, its config and its vocabulary, and no file `checkpoint`."""
    folder = tmp_path / "biobert"
    shutil.copytree(golden("init_bertadam"), folder)
    shutil.copy(golden("model/bert_config.json"), folder)
    shutil.copy(golden("vocab_cased.txt"), folder / "vocab.txt")
    (folder / "biobert_model.ckpt.meta").write_bytes(b"a graph that nobody needs")
    result = run_program(
        MODULE,
        init_checkpoint=folder,
        bert_config_file=folder / "bert_config.json",
        vocab_file=folder / "vocab.txt",
        do_lower_case=False,
        gelu="erf",
        output_dir=tmp_path / "new" / "out",
    )
    assert_success(result)
    assert not result.stderr
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "encoder 39 39" in said
    assert "masked LM head 5 5" in said
    assert "next sentence head 2 2" in said
    assert "optimizer slots, left out 92 BERTAdam, BERTAdam_1" in said
    assert "step counters, left out 3 beta1_power, beta2_power, global_step" in said
    assert any(line.startswith("hidden states TensorFlow and transformers differ") for line in said)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
        "README.md",
        "config.json",
        "conversion.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    settings = json.loads((tmp_path / "new" / "out" / "config.json").read_text())
    assert settings["hidden_act"] == "gelu"
    assert settings["layer_norm_eps"] == 1e-12


def test_an_earlier_output_is_replaced_and_nothing_else(tmp_path, capsys):
    flags = flags_for(tmp_path, verify=False)
    assert_success(run_here(capsys, MODULE, **flags))
    assert_success(run_here(capsys, MODULE, **{**flags, "gelu": "erf"}))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["hidden_act"] == "gelu"
    write(tmp_path / "out" / "mine.txt", "a user's")
    result = run_here(capsys, MODULE, **flags)
    assert_one_line_error(result, 1, "mine.txt", "would remove")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["hidden_act"] == "gelu"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_kill_left_is_cleared_and_a_users_folder_stays(tmp_path, capsys):
    (tmp_path / "out.0123abcd.partial" / "sub").mkdir(parents=True)
    (tmp_path / "out.partial").mkdir()
    assert_success(run_here(capsys, MODULE, **flags_for(tmp_path, verify=False)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.partial"]


def run_record(folder: Path, data: dict | None = None, **flags) -> Path:
    """Makes a checkpoint folder with the record that `run_pretraining` leaves."""
    folder.mkdir()
    for suffix in (".index", DATA):
        shutil.copy(golden("trained") / f"model.ckpt-20{suffix}", folder)
    record = {
        "flags": flags,
        "data": data or {},
        "steps": 20,
        "final": {"loss": 1.25, "gradient_norm": 3.5},
        "best": {"step": 20, "masked_lm_loss": 1.75},
        "speed": {"examples_per_second": 31.24, "tokens_per_second": 3456.4, "mfu": 0.4123},
        "versions": {"tensorflow": "2.21.9"},
    }
    write(folder / "pretraining_run.json", json.dumps(record))
    return folder


def sidecar(vocab: str = "cased", **changes) -> dict:
    return {
        "flags": {"do_lower_case": False, "dupe_factor": 5},
        "vocabulary": {"entries": 1000, "sha256": sha256_of_file(golden(f"vocab_{vocab}.txt"))},
        "counts": {"documents": 12, "words": 3456, "instances": 4321},
        **changes,
    }


def test_the_recorded_form_of_gelu_is_held_to(tmp_path, capsys):
    model = run_record(tmp_path / "model", gelu="erf")
    result = run_here(capsys, MODULE, **flags_for(tmp_path, init_checkpoint=model, verify=False))
    assert_one_line_error(
        result, 1, "--gelu=tanh", "pretraining_run.json", "trained with erf; pass --gelu=erf"
    )
    flags = flags_for(tmp_path, init_checkpoint=model, verify=False, gelu="erf")
    assert_success(run_here(capsys, MODULE, **flags))


def test_the_recorded_vocabulary_and_casing_are_held_to(tmp_path, capsys):
    other = run_record(tmp_path / "other", {"a": sidecar("uncased")})
    flags = flags_for(tmp_path, init_checkpoint=other, verify=False)
    assert_one_line_error(run_here(capsys, MODULE, **flags), 1, "--vocab_file", "another file")
    lower = run_record(tmp_path / "lower", {"a": sidecar(flags={"do_lower_case": True})})
    flags = flags_for(tmp_path, init_checkpoint=lower, verify=False)
    result = run_here(capsys, MODULE, **flags)
    assert_one_line_error(result, 1, "pass --do_lower_case=True")
    assert_success(run_here(capsys, MODULE, **{**flags, "check_case": False}))


def test_the_card_tells_of_run_and_data_and_of_no_note(tmp_path, capsys):
    planted = "Quixzandorph"
    manifest = {
        "program": "data_prep.format_notes",
        "flags": {"section_rules": "fixed", "spacy_model": f"{planted} {planted}"},
        "counts": {"notes": 1234, "sections": 5678, "sentences": 91011, "words": 1213141},
        "categories": {"Discharge summary": {}, planted: {}},
    }
    write(tmp_path / "manifest.json", json.dumps(manifest))
    inputs = [{"path": str(tmp_path / "discharge_summary.txt"), "sha256": "0"}]
    canaries = {"planted_sentences": 21, "sets": {"ab": {"0": 3, "1": 2, "4": 1}}}
    description = sidecar(inputs=inputs, note=planted, canaries=canaries)
    model = run_record(
        tmp_path / "model",
        {f"/data/{planted}-{number}.tfrecord": description for number in range(3)},
        gelu="tanh",
        init_checkpoint="/data/biobert_v1.0/biobert_model.ckpt",
        learning_rate=5e-5,
        train_batch_size=32,
    )
    shutil.copy(golden("trained/eval_results.txt"), model)
    result = run_here(capsys, MODULE, **flags_for(tmp_path, init_checkpoint=model, verify=False))
    assert_success(result)
    card = (tmp_path / "out" / "README.md").read_text()
    for expected in (
        "`model.ckpt-20`, step 20",
        "`biobert_v1.0/biobert_model.ckpt`",
        "tanh approximation",
        "| `learning_rate` | 5e-05 |",
        "| `train_batch_size` | 32 |",
        "| loss of the last step | 1.2500 |",
        "| Best of the run on held-out data | `masked_lm_loss` 1.7500 |",
        "| Examples a second | 31.2 |",
        "| WordPieces a second, padding not counted | 3,456 |",
        "| Share of the devices' peak (MFU) | 41.2% |",
        "| `loss` | 9.3117 |",
        "| Files | 3 |",
        "| Instances | 4,321 |",
        "| `dupe_factor` | 5 |",
        "| Notes | 1,234 |",
        "| Words | 1,213,141 |",
        "| Categories | 2 |",
        "| Canaries | 21 planted sentences of 3 canaries |",
        "| tensorflow, training | 2.21.9 |",
        "data use",
    ):
        assert expected in card, expected
    assert planted not in card + result.stdout
    assert str(tmp_path) not in card


def test_the_card_tells_of_all_phases_of_a_training(tmp_path, capsys):
    model = run_record(
        tmp_path / "model", {}, gelu="tanh", init_checkpoint="/data/first", max_seq_length=512
    )
    record = json.loads((model / "pretraining_run.json").read_text())
    first = {"max_seq_length": 128, "learning_rate": 5e-5, "init_checkpoint": "/data/biobert"}
    canaries = {"planted_sentences": 21, "sets": {"ab": {"0": 3, "1": 2, "4": 1}}}
    record["parent"] = {
        "folder": "/data/first", "checkpoint": "model.ckpt-150000", "step": 150000,
        "flags": first, "canaries": canaries,
        "parent": {"folder": "/data/biobert", "checkpoint": "biobert_model.ckpt", "step": 0},
    }  # fmt: skip
    (model / "pretraining_run.json").write_text(json.dumps(record))
    result = run_here(capsys, MODULE, **flags_for(tmp_path, init_checkpoint=model, verify=False))
    assert_success(result)
    card = (tmp_path / "out" / "README.md").read_text()
    before, after = card.split("## Training, phase 2")
    before = before.split("## Training, phase 1")[1]
    assert "| `max_seq_length` | 128 |" in before and "| `learning_rate` | 5e-05 |" in before
    assert "| Ended with | `model.ckpt-150000`, step 150,000 |" in before
    assert "| `max_seq_length` | 512 |" in after
    assert "| loss of the last step | 1.2500 |" in after
    assert "| Base model | `biobert` |" in card
    assert "| Canaries | 21 planted sentences of 3 canaries |" in card


def test_a_card_without_anything_known(tmp_path, capsys):
    model = run_record(tmp_path / "model")
    write(model / "pretraining_run.json", '{"flags": 1, "data": {"a": {"inputs": [{}, 7]}}}')
    write(model / "eval_results.txt", "global_step = 7\nloss = 1.0\n")
    flags = flags_for(tmp_path, init_checkpoint=model, verify=False)
    assert_success(run_here(capsys, MODULE, **flags))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Evaluation" not in card and "## Notes" not in card


def test_an_evaluation_of_other_weights_is_not_told(tmp_path, capsys):
    """Of another run's checkpoint of the same step, evaluated into this run's folder."""
    model = run_record(tmp_path / "model")
    shutil.copy(golden("trained/eval_results.txt"), model)
    record = model / "pretraining_run.json"
    known = json.loads(record.read_text())
    own = checkpoint_fingerprint(str(model / "model.ckpt-20"))
    for weights, told in ((own, True), (own[:-1] + "x", False)):
        write(record, json.dumps({**known, "evaluation": {"weights": weights}}))
        flags = flags_for(tmp_path, init_checkpoint=model, verify=False)
        assert_success(run_here(capsys, MODULE, **flags))
        assert ("## Evaluation" in (tmp_path / "out" / "README.md").read_text()) is told


def test_the_best_checkpoint_of_a_run(tmp_path, capsys):
    model = run_record(tmp_path / "model")
    for suffix in (".index", DATA):
        shutil.copy(model / f"model.ckpt-20{suffix}", model / f"model.ckpt-10{suffix}")
    flags = flags_for(tmp_path, init_checkpoint=model, verify=False, best=True)
    without = run_here(capsys, MODULE, **flags)
    assert_one_line_error(without, 1, f"{model}: holds no best_checkpoint.json", "--eval_every")
    for damaged in ("[]", "{", '{"checkpoint": 3}', '{"checkpoint": "../model.ckpt-20"}'):
        write(model / "best_checkpoint.json", damaged)
        result = run_here(capsys, MODULE, **flags)
        assert_one_line_error(result, 1, "best_checkpoint.json")
    write(model / "best_checkpoint.json", '{"checkpoint": "model.ckpt-10", "step": 10}')
    assert_success(run_here(capsys, MODULE, **flags))
    assert "`model.ckpt-10`" in (tmp_path / "out" / "README.md").read_text()
    no_folder = {**flags, "init_checkpoint": model / "model.ckpt-20"}
    assert_one_line_error(run_here(capsys, MODULE, **no_folder), 1, "--best", "is no folder")


MISTAKES = {
    "no flags": (lambda d: dict.fromkeys(flags_for(d)), 2, ["init_checkpoint"]),
    "an unknown flag": (lambda d: flags_for(d, decode=1), 2, ["is no flag of this program"]),
    "an unknown form of gelu": (
        lambda d: flags_for(d, gelu="exact"),
        2,
        ["gelu", "expected one of tanh, erf"],
    ),
    "an unknown dtype": (lambda d: flags_for(d, dtype="int8"), 2, ["dtype", "float16"]),
    "an odd shard size": (lambda d: flags_for(d, max_shard_size="big"), 2, ["max_shard_size"]),
    "no such checkpoint": (
        lambda d: flags_for(d, init_checkpoint=d / "no.ckpt"),
        1,
        ["no.ckpt.index"],
    ),
    "an empty folder": (lambda d: flags_for(d, init_checkpoint=d), 1, ["holds no .index file"]),
    "no such config": (
        lambda d: flags_for(d, bert_config_file=d / "no.json"),
        1,
        ["--bert_config_file", "No such file"],
    ),
    "broken config": (
        lambda d: flags_for(d, bert_config_file=write(d / "c.json", '{"vocab_size": ')),
        1,
        ["c.json", "broken JSON"],
    ),
    "the config of another model": (
        lambda d: flags_for(d, bert_config_file=config_with(d / "c.json", hidden_size=64)),
        1,
        ["has shape", "expected", "bert_config.json"],
    ),
    "a config with fewer layers": (
        lambda d: flags_for(d, bert_config_file=config_with(d / "c.json", num_hidden_layers=1)),
        1,
        ["layer_1", "is no variable of this model"],
    ),
    "a config with more layers": (
        lambda d: flags_for(d, bert_config_file=config_with(d / "c.json", num_hidden_layers=3)),
        1,
        ["holds no bert/encoder/layer_2"],
    ),
    "a vocabulary of another size": (
        lambda d: flags_for(
            d, vocab_file=write(d / "v.txt", golden("vocab_cased.txt").read_text() + "extra\n")
        ),
        1,
        ["v.txt", "1,001 entries", "vocab_size is 1,000"],
    ),
    "an entry twice": (
        lambda d: flags_for(
            d,
            vocab_file=write(
                d / "v.txt",
                "".join(golden("vocab_cased.txt").read_text().splitlines(True)[:999]) + "[MASK]\n",
            ),
        ),
        1,
        ["lines 5 and 1,000", "same entry"],
    ),
    "no [MASK]": (
        lambda d: flags_for(
            d,
            vocab_file=write(
                d / "v.txt", golden("vocab_cased.txt").read_text().replace("[MASK]", "[MUSK]")
            ),
        ),
        1,
        ["[MASK] missing"],
    ),
    "a cased vocabulary lower-cased": (
        lambda d: flags_for(d, do_lower_case=None),
        1,
        ["--do_lower_case=False", "capitals"],
    ),
    "a variable missing": (
        lambda d: flags_for(
            d, init_checkpoint=checkpoint_with(d, **{"bert/pooler/dense/bias": None})
        ),
        1,
        ["bert/pooler/dense/bias"],
    ),
    "no heads": (
        lambda d: flags_for(
            d,
            init_checkpoint=checkpoint_with(
                d,
                **{
                    name: None
                    for name in checkpoint.tensor_shapes(str(golden("init") / "bert_model.ckpt"))
                    if name.startswith("cls/")
                },
            ),
        ),
        1,
        ["cls/predictions and no cls/seq_relationship", "--allow_missing_heads"],
    ),
    "output over a user's folder": (
        lambda d: flags_for(d, output_dir=write(d / "notes.txt", "x").parent),
        1,
        ["no output of", "choose a new folder"],
    ),
    "output over a file": (
        lambda d: flags_for(d, output_dir=write(d / "out.txt", "x")),
        1,
        ["is a file"],
    ),
    "output below a file": (
        lambda d: flags_for(d, output_dir=write(d / "f", "x") / "out", verify=False),
        1,
        ["--output_dir", "/f is a file; a folder was expected"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(tmp_path, capsys, mistake):
    make_flags, status, fragments = MISTAKES[mistake]
    flags = make_flags(tmp_path)
    result = run_here(capsys, MODULE, **flags)
    assert_one_line_error(result, status, *fragments)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))


def test_a_damaged_checkpoint_is_one_line_from_a_real_process(tmp_path):
    for suffix in (".index", DATA):
        shutil.copy(golden(f"init/bert_model.ckpt{suffix}"), tmp_path / f"m{suffix}")
    os.truncate(tmp_path / f"m{DATA}", 100_000)
    result = run_program(MODULE, **flags_for(tmp_path, init_checkpoint=tmp_path / "m"))
    assert_one_line_error(result, 1, "incomplete or corrupt")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
@needs_transformers
def test_the_check_can_be_made_alone(tmp_path, capsys):
    flags = flags_for(tmp_path)
    assert_success(run_here(capsys, MODULE, **flags, verify=False))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    result = run_program(MODULE, "--verify_only", **flags)
    assert_success(result)
    assert not result.stderr
    assert "hidden states" in result.stdout and "0 of" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{tmp_path / 'out'} gives what ")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@needs_transformers
@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        (lambda out: (out / "conversion.json").unlink(), ["expected a folder that"]),
        (lambda out: shutil.rmtree(out), ["expected a folder that"]),
        (
            lambda out: shutil.copy(golden("vocab_uncased.txt"), out / "vocab.txt"),
            ["hold different vocabularies"],
        ),
        (
            lambda out: write(out / "config.json", '{"dtype": "int4"}'),
            ["config.json", "found dtype 'int4'"],
        ),
        (
            lambda out: write(
                out / "config.json",
                (out / "config.json").read_text().replace('"gelu_new"', '"relu"'),
            ),
            ["differ by", "do not use the folder"],
        ),
    ],
    ids=["no record", "no folder", "another vocabulary", "another dtype", "another activation"],
)
def test_the_check_alone_refuses_what_differs(tmp_path, capsys, spoil, fragments):
    flags = flags_for(tmp_path)
    assert_success(run_here(capsys, MODULE, **flags, verify=False))
    spoil(tmp_path / "out")
    result = run_here(capsys, MODULE, "--verify_only", **flags)
    assert_one_line_error(result, 1, *fragments)


def test_a_check_alone_and_no_check_exclude_each_other(tmp_path, capsys):
    result = run_here(capsys, MODULE, "--verify_only", "--noverify", **flags_for(tmp_path))
    assert_one_line_error(result, 2, "--verify_only and --noverify")


@needs_transformers
def test_a_check_that_dies_is_told_from_the_conversion(tmp_path, capsys, monkeypatch):
    """Stands in for Triton beside TensorFlow, or for memory that runs out."""
    from bert_clinical.weights import in_pytorch
    from tests.weights import test_pytorch_process

    monkeypatch.setattr(in_pytorch, "model_outputs", test_pytorch_process.die_of_segv)
    result = run_here(capsys, MODULE, **flags_for(tmp_path))
    assert_one_line_error(
        result, 1, "the check in PyTorch, not the conversion, was killed by SIGSEGV",
        "nothing was written", "--noverify", "--verify_only",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert_success(run_here(capsys, MODULE, **flags_for(tmp_path), verify=False))


def test_without_torch_verify_is_a_clear_error(tmp_path, capsys, monkeypatch):
    from bert_clinical.conversion import verify as conversion_check
    from bert_clinical.weights import pytorch_process

    for module in (conversion_check, pytorch_process):
        monkeypatch.setattr(module, "is_available", lambda *_: False)
    result = run_here(capsys, MODULE, **flags_for(tmp_path, verify=True))
    assert_one_line_error(result, 1, "--verify", "pip install torch transformers", "--noverify")
    result = run_here(capsys, MODULE, **flags_for(tmp_path))
    assert_success(result)
    assert "Not compared" in result.stdout
