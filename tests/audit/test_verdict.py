"""The verdict: what was shown, what could have been shown, and never that a model is clear."""

from __future__ import annotations

from bert_clinical.audit import exposure, verdict
from bert_clinical.audit.secret_scores import IN_TURN, TOGETHER, Rank
from data_prep.canaries.canary import CanarySettings, draw_canaries

NOTES = {
    "members": 1200, "non_members": 1100, "auc": 0.503, "interval": [0.48, 0.53],
    "smallest_visible_auc": 0.53, "with_reference": True, "by_patient": None,
}  # fmt: skip


def audit(ranks_of: dict[int, float], **changes) -> dict:
    """Returns an audit in which every canary of a count has the same rank."""
    canaries = draw_canaries(CanarySettings(num_canaries=8, repetitions="1,4,64")).canaries
    ranks = {}
    for canary in canaries:
        rank = Rank(ranks_of[canary.repetitions], 10_000, ranks_of[canary.repetitions] == 1)
        ranks[canary.number] = {IN_TURN: rank, TOGETHER: rank}
    return {
        "exposure": exposure.by_repetitions(canaries, ranks, 1),
        "reference_exposure": None,
        "membership": NOTES,
        "learnt": {"has_learnt": True, "accuracy": 0.5, "one_guess": 0.1},
        "inputs": {"canaries_in_record": True},
        "canaries": [],
        "on_both_sides": {"notes": 10, "of_notes": 1000, "patients": 0},
        **changes,
    }


CHANCE, KNOWN = 5000.0, 1.0


def test_the_smallest_count_that_stands_out_is_named() -> None:
    said = verdict.sentences(audit({0: CHANCE, 1: CHANCE, 4: 10.0, 64: KNOWN}))
    assert "memorised secrets that it read 4 times: the smallest repetition count" in said[0]
    assert "Up to 100% of the secrets of a count can be extracted" in said[0]
    # With which power the others were tested.
    (once,) = [line for line in said if line.startswith("Read once: not shown.")]
    assert "8 canaries show it only if their mean exposure is above 2.9 bits" in once
    assert "2 of 8 secrets are known outright" in once


def test_nothing_found_is_not_nothing_there() -> None:
    found = audit({0: CHANCE, 1: CHANCE, 4: CHANCE, 64: CHANCE})
    said = verdict.sentences(found)
    assert said[0].startswith("At none of the repetition counts 1, 4, 64")
    assert sum(line.endswith("memory would not have been seen.") for line in said) == 3
    assert said[-1].startswith("This audit can show") and "cannot show" in said[-1]
    assert any("show an AUC from about 0.53 on" in line for line in said)
    assert verdict.warnings(found) == []
    for line in said:
        assert not {"safe", "safely", "clear", "passed", "private"} & set(line.lower().split())


def test_what_was_not_tried_is_said() -> None:
    nothing = audit(dict.fromkeys((0, 1, 4, 64), CHANCE), exposure=None, membership=None)
    said = verdict.sentences(nothing)
    assert "nothing is said of single facts" in said[0]
    assert "nothing is said of whose notes" in said[1]
    alone = audit(
        dict.fromkeys((0, 1, 4, 64), CHANCE), membership={**NOTES, "with_reference": False}
    )
    assert any("a much weaker test" in line for line in verdict.sentences(alone))
    assert any("no file says whose the notes are" in line for line in verdict.sentences(alone))


def test_members_that_are_told_apart_are_named_as_such() -> None:
    known = {**NOTES, "auc": 0.7, "interval": [0.65, 0.75], "by_patient": {**NOTES, "auc": 0.6}}
    said = verdict.sentences(audit(dict.fromkeys((0, 1, 4, 64), CHANCE), membership=known))
    assert any(line.startswith("Trained-on notes can be told from held-out") for line in said)
    assert any(line.startswith("Trained-on patients were not told") for line in said)


def test_warnings() -> None:
    plateau = {"has_learnt": False, "accuracy": 0.11, "one_guess": 0.1}
    ranks = {0: KNOWN, 1: CHANCE, 4: CHANCE, 64: CHANCE}
    controls = audit(ranks, reference_exposure=audit({**ranks, 0: CHANCE, 4: KNOWN})["exposure"])
    alike = {"secrets_told_apart": 4999, "model": {IN_TURN: {"of": 10_000}}}
    for changes, expected in (
        ({"learnt": plateau}, "learnt next to nothing"),
        ({"learnt": None}, "Nothing says whether the model has learnt"),
        ({"inputs": {"canaries_in_record": False}}, "does not say that its text holds these"),
        ({"membership": {**NOTES, "non_members": 999}}, "With 999 held-out notes"),
        (
            {"on_both_sides": {"notes": 11, "of_notes": 1000, "patients": 0}},
            "Of those held out, 11 different notes of 1,000 are among those trained on too",
        ),
        (
            {"on_both_sides": {"notes": 0, "of_notes": 1000, "patients": 3}},
            "Of those held out, 3 patients are among those trained on too",
        ),
        ({"on_both_sides": {"notes": 12, "of_notes": 99, "patients": 3}}, " and 3 patients"),
        ({"canaries": [alike, alike]}, "For 2 canaries the vocabulary spells more than half"),
        ({"exposure": controls["exposure"]}, "stand out in the model"),
        ({"reference_exposure": controls["reference_exposure"]}, "The reference knows planted"),
    ):
        found = verdict.warnings(audit(dict.fromkeys((0, 1, 4, 64), CHANCE), **changes))
        assert len(found) == 1 and expected in found[0]
