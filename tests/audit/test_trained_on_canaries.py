"""The proof: an audit finds what a model has memorised, and nothing where there is nothing."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from data_prep.canaries.canary import read_canaries
from tests.audit.trained_on_canaries import Trained, train
from tests.running import assert_success, run_here

pytestmark = pytest.mark.slow

MODULE = "bert_clinical.audit_memorization"
STEPS = 2400


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    made = train(folder, steps=STEPS, num_canaries=8, repetitions="1,5,64")
    for text in (made.members, made.others):
        # Two notes of each patient.
        documents = text.read_text().count("\n\n") + 1
        lines = [f"{text.stem} {number // 2}\n" for number in range(documents)]
        text.with_name(f"{text.name}.patients").write_text("".join(lines))
    return made


def test_what_was_planted_is_found_and_told_by_numbers(trained: Trained, tmp_path, capsys) -> None:
    out = trained.folder / "audit"
    result = run_here(
        capsys, MODULE, member_file=trained.members, non_member_file=trained.others,
        output_dir=out, **trained.flags,
    )  # fmt: skip
    assert_success(result)
    audit = json.loads((out / "audit.json").read_text())
    exposure, reference = audit["exposure"], audit["reference_exposure"]
    print({count: (found["mean_bits"], found["interval"]) for count, found in exposure.items()})

    # The oftener planted, the better known, by more than the intervals are wide; 5 times is near
    # the most that there can be.
    counts = ["0", "1", "5", "64"]
    for rarer, oftener in itertools.pairwise(counts):
        assert exposure[oftener]["mean_bits"] > exposure[rarer]["mean_bits"]
    for rarer, oftener in (("0", "1"), ("1", "64"), ("0", "5")):
        assert exposure[oftener]["interval"][0] > exposure[rarer]["interval"][1]
    assert exposure["64"]["extracted"] >= 0.5 <= exposure["64"]["together"]["extracted"]
    assert [exposure[count]["above_chance"] for count in counts] == [False, True, True, True]
    for found in (exposure["0"], *reference.values()):
        assert not found["above_chance"] and not found["together"]["above_chance"]
        assert found["interval"][0] < found["chance"]["limit"] and found["extracted"] == 0.0
    assert "it read once: the smallest repetition count" in audit["verdict"][0]

    membership = audit["membership"]
    print(membership["auc"], membership["interval"], membership["by_patient"], flush=True)
    assert membership["interval"][0] > 0.5 and membership["with_reference"]
    assert membership["by_patient"]["auc"] > membership["auc"] - 0.02
    assert membership["by_patient"]["members"] == 50
    assert audit["learnt"]["has_learnt"]
    assert not any("learnt next to nothing" in line for line in audit["warnings"])
    assert audit["inputs"]["canaries_in_record"] is True

    names = ("init_checkpoint", "bert_config_file", "vocab_file", "do_lower_case")
    converted = run_here(
        capsys, "bert_clinical.convert_to_transformers", "--noverify", output_dir=tmp_path / "to",
        **{name: trained.flags[name] for name in names},
    )  # fmt: skip
    assert_success(converted)
    card = (tmp_path / "to" / "README.md").read_text()
    assert "| Canaries | 560 planted sentences of 24 canaries |" in card
    assert "| Canaries planted 64 × | exposure 1" in card
    record = json.loads((trained.folder / "model" / "pretraining_run.json").read_text())
    assert record["canaries"]["planted_sentences"] == 560

    canaries = read_canaries(trained.folder / "canaries.json").canaries
    may_know = {"canaries.json", "train.tfrecord"}
    told = [result.stdout.encode(), result.stderr.encode(), converted.stdout.encode()]
    for folder in (trained.folder, tmp_path):
        for path in folder.rglob("*"):
            if path.is_file() and path.name not in may_know and path.parent.name != "planted":
                told.append(path.read_bytes())
    for canary in canaries:
        assert not any(canary.text.encode() in content for content in told)
        code = f'"{canary.secret[0]}"'.encode()
        assert not any(code in content for content in told)


def test_members_and_others_that_were_mixed_are_not_told_apart(
    trained: Trained, tmp_path: Path, capsys
) -> None:
    documents = [
        path.read_text().strip().split("\n\n") for path in (trained.members, trained.others)
    ]
    for name, start in (("even", 0), ("odd", 1)):
        mixed = [document for group in documents for document in group[start::2]]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(mixed) + "\n")
    result = run_here(
        capsys, MODULE, member_file=tmp_path / "even.txt", non_member_file=tmp_path / "odd.txt",
        output_dir=tmp_path / "out", **{**trained.flags, "canaries_file": None},
    )  # fmt: skip
    assert_success(result)
    membership = json.loads((tmp_path / "out" / "audit.json").read_text())["membership"]
    print(membership["auc"], membership["interval"])
    assert membership["interval"][0] < 0.5 < membership["interval"][1]
    assert abs(membership["auc"] - 0.5) < 0.08
    assert "Trained-on notes were not told from held-out ones" in result.stdout
