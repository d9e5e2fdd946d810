"""`audit_memorization` as its user runs it: what it finds, says, writes and refuses."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from data_prep.canaries.canary import (
    Canaries,
    CanarySettings,
    draw_canaries,
    read_canaries,
    write_canaries,
)
from tests.conversion.test_convert import save_odd_model, to_transformers
from tests.golden_data import golden
from tests.running import (
    HANG_SECONDS,
    assert_one_line_error,
    assert_success,
    run_here,
    start_program,
    wait_until,
)
from tests.theirs import needs_transformers

MODULE = "bert_clinical.audit_memorization"
WORD = "Quixzandorph"
WORDS = "stable patient was seen on the floor with pain and given fluids"


def few_secrets() -> Canaries:
    """Canaries whose draw is small, so that a test need not ask for 10,000 secrets."""
    drawn = draw_canaries(
        CanarySettings(num_canaries=3, repetitions="1,4", secrets="digits", random_seed=1)
    )
    own = {canary.secret[0] for canary in drawn.canaries}
    others = [f"{n:04}" for n in random.Random(5).sample(range(10_000), 33)]
    values = sorted({*own, *others})
    return dataclasses.replace(drawn, draws={"digits": (tuple(values),)})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, object]:
    """Flags for an audit of a golden model with notes and canaries that it never saw."""
    canaries = few_secrets()
    write_canaries(tmp_path / "canaries.json", canaries)
    words = [
        "stable",
        "patient",
        "was",
        "seen",
        "on",
        "the",
        "floor",
        "with",
        "pain",
        "and",
        "given",
        "fluids",
    ]
    for name, first in (("members", 0), ("others", 3)):
        documents = [
            f"{WORD} {' '.join(words[(n + first) % 9 :])}.\n{' '.join(words[: 2 + n % 9])} {n}.\n"
            for n in range(20)
        ]
        # A planted sentence is nobody's note.
        documents[0] += canaries.canaries[-1].text + "\n"
        (tmp_path / f"{name}.txt").write_text("\n".join(documents))
    return {
        "init_checkpoint": golden("trained"),
        "bert_config_file": golden("model/bert_config.json"),
        "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False,
        "gelu": "tanh",
        "reference_dir": golden("init"),
        "canaries_file": tmp_path / "canaries.json",
        "member_file": tmp_path / "members.txt",
        "non_member_file": tmp_path / "others.txt",
        "max_seq_length": 32,
        "output_dir": tmp_path / "out",
    }


def assert_tells_nothing(folder: Path, said: str) -> None:
    """Checks that neither a note nor a secret stands in what was said or written."""
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    for text in (said, *texts.values()):
        assert WORD not in text
        for canary in few_secrets().canaries:
            assert canary.text not in text
            assert f" {canary.secret[0]}" not in text and f'"{canary.secret[0]}"' not in text


def test_what_it_writes(inputs, tmp_path, capsys):
    result = run_here(capsys, MODULE, **inputs)
    assert_success(result)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "audit_report.html"]
    audit = json.loads((out / "audit.json").read_text())
    assert set(audit["exposure"]) == {"0", "1", "4"}
    for found in (*audit["exposure"].values(), *audit["reference_exposure"].values()):
        low, high = found["interval"]
        assert 0 <= low <= found["mean_bits"] <= high <= 5.4
        assert found["canaries"] == 3 and 0 <= found["extracted"] <= 1
        assert not found["above_chance"]
    membership = audit["membership"]
    assert membership["members"] == membership["non_members"] == 20
    assert membership["interval"][0] <= membership["auc"] <= membership["interval"][1]
    assert set(membership["true_positive_rate"]) == {"0.001", "0.01"}
    assert membership["by_patient"] is None
    assert len(audit["canaries"]) == 9
    # A model of a few steps has learnt nothing, and that is said before all else.
    assert audit["learnt"]["has_learnt"] is False
    assert "learnt next to nothing" in result.stderr
    said = " ".join(audit["verdict"]) + " ".join(audit["warnings"])
    assert "cannot show that a model gives away nothing" in said
    page = (out / "audit_report.html").read_text()
    for text in (said, page, result.stdout):
        assert "safe" not in text.lower().replace("safetensors", "")
    assert_tells_nothing(out, result.stdout + result.stderr)

    again = run_here(capsys, MODULE, **inputs)
    assert_success(again)
    assert "complete already" in again.stdout
    other = run_here(capsys, MODULE, **{**inputs, "max_notes": 10})
    assert_one_line_error(other, 1, "audit.json is the audit of another model")


def test_patients_are_compared_where_a_file_says_whose_the_notes_are(inputs, tmp_path, capsys):
    for name in ("members", "others"):
        (tmp_path / f"{name}.txt.patients").write_text("".join(f"{n // 4}\n" for n in range(20)))
    inputs = {**inputs, "canaries_file": None}
    assert_success(run_here(capsys, MODULE, **inputs))
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    by_patient = audit["membership"]["by_patient"]
    assert by_patient["members"] == by_patient["non_members"] == 5
    assert audit["exposure"] is None


@needs_transformers
def test_the_card_of_a_transformers_folder_gets_a_section(inputs, tmp_path, capsys):
    folder = to_transformers(golden("trained"), tmp_path / "to")
    (folder / "README.md").write_text("# A model\n\n## Who may have it\n\nNobody.\n")
    flags = {name: inputs[name] for name in ("canaries_file", "max_seq_length", "output_dir")}
    assert_success(run_here(capsys, MODULE, model_dir=folder, **flags))
    card = (folder / "README.md").read_text()
    assert card.index("## Memorisation") < card.index("## Who may have it")
    assert "| Canaries planted 4 × | exposure " in card
    assert_tells_nothing(tmp_path / "out", card)
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["membership"] is None and audit["reference_exposure"] is None
    assert audit["learnt"] is None
    assert any("Nothing says whether the model has learnt" in line for line in audit["warnings"])


@needs_transformers
def test_a_checkpoint_converted_later_has_the_section_if_it_is_its_own(inputs, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(golden("trained"), model)
    flags = {"init_checkpoint": model, "output_dir": model / "audit", "reference_dir": None}
    assert_success(run_here(capsys, MODULE, **{**inputs, **flags}))
    names = ("bert_config_file", "vocab_file", "do_lower_case", "gelu")
    convert = {name: inputs[name] for name in names} | {"verify": False}
    other = tmp_path / "other"
    shutil.copytree(golden("init"), other)
    shutil.copytree(model / "audit", other / "audit")
    for source, there in ((model, True), (other, False)):
        result = run_here(
            capsys, "bert_clinical.convert_to_transformers", init_checkpoint=source,
            output_dir=tmp_path / f"to_{there}", **convert,
        )  # fmt: skip
        assert_success(result)
        card = (tmp_path / f"to_{there}" / "README.md").read_text()
        assert ("## Memorisation" in card) is there


def test_mistakes_are_one_line(inputs, tmp_path, capsys):
    broken = tmp_path / "broken.json"
    broken.write_text(f'{{"program": "{WORD}"}}')
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    (tmp_path / "file").write_text("")
    for changes, status, fragments in (
        ({"output_dir": None}, 2, ["--output_dir is missing"]),
        ({"model_dir": tmp_path}, 2, ["one of --model_dir and --init_checkpoint"]),
        ({"init_checkpoint": None}, 2, ["one of --model_dir and --init_checkpoint"]),
        ({"non_member_file": None}, 2, ["--member_file is given without --non_member_file"]),
        ({"canaries_file": None, "member_file": None}, 2, ["nothing to hold the model against"]),
        ({"canaries_file": broken}, 1, ["broken.json", "not a file of canaries"]),
        ({"canaries_file": tmp_path / "none"}, 1, ["--canaries_file", "none"]),
        (
            {"non_member_file": inputs["member_file"]},
            1,
            ["--non_member_file", "holds the text of --member_file's"],
        ),
        ({"member_file": empty}, 1, ["empty.txt", "found no text"]),
        ({"member_file": tmp_path / "no*"}, 1, ["--member_file", "no file matches"]),
        ({"max_seq_length": 129}, 1, ["--max_seq_length is 129", "128 positions"]),
        ({"max_seq_length": 7}, 2, ["max_seq_length"]),
        ({"do_lower_case": None}, 2, ["--do_lower_case is needed"]),
        ({"vocab_file": broken}, 1, ["broken.json"]),
        ({"reference_dir": tmp_path}, 1, [str(tmp_path)]),
        ({"output_dir": tmp_path / "file"}, 1, ["--output_dir", "file is a file; a folder"]),
    ):
        result = run_here(capsys, MODULE, **{**inputs, **changes})
        assert_one_line_error(result, status, *fragments)
        assert WORD not in result.stdout + result.stderr


@needs_transformers
def test_a_reference_of_another_vocabulary_is_refused(inputs, tmp_path, capsys):
    other = save_odd_model(tmp_path / "odd")
    result = run_here(capsys, MODULE, **{**inputs, "reference_dir": other})
    assert_one_line_error(result, 1, "has another vocabulary than")
    bare = save_odd_model(tmp_path / "bare", "BertModel")
    flags = {"model_dir": bare, "canaries_file": inputs["canaries_file"], "max_seq_length": 32}
    result = run_here(capsys, MODULE, output_dir=tmp_path / "out", **flags)
    assert_one_line_error(result, 1, "no masked LM head")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_audit_goes_on(inputs, tmp_path, capsys, number):
    work = tmp_path / "out" / "audit_memorization.work"
    process = start_program(MODULE, **inputs)
    wait_until(lambda: (work / "model-canary-00002.json").exists(), process)
    process.send_signal(number)
    said = "".join(process.communicate(HANG_SECONDS))
    assert process.returncode == 128 + number, said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [work.name]
    assert_tells_nothing(work, said)

    changed = run_here(capsys, MODULE, **{**inputs, "random_seed": 1})
    assert_one_line_error(changed, 1, "holds the unfinished work of an audit of another model")
    kept = (work / "model-canary-00001.json").read_bytes()
    damaged = json.loads(kept)
    damaged["in_turn"]["rank"] = 1.0
    # A figure that no model would give shows that it is taken from there.
    damaged["in_turn"]["of"] = 4096
    (work / "model-canary-00001.json").write_text(json.dumps(damaged))
    assert_success(run_here(capsys, MODULE, **inputs))
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["canaries"][0]["model"]["in_turn"]["bits"] == 12.0
    assert not work.exists()


def test_canaries_of_another_text_are_told(inputs, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(golden("trained"), model)
    own = read_canaries(inputs["canaries_file"]).name
    flags = {**inputs, "init_checkpoint": model, "member_file": None, "reference_dir": None}
    for number, (name, told) in enumerate(((own, False), ("another", True))):
        record = {"canaries": {"planted_sentences": 15, "sets": {name: {"0": 3, "1": 3}}}}
        (model / "pretraining_run.json").write_text(json.dumps(record))
        flags["output_dir"] = tmp_path / f"out{number}"
        result = run_here(capsys, MODULE, **flags)
        assert_success(result)
        assert ("does not say that its text holds these canaries" in result.stderr) is told
