"""Does it learn? On made-up notes, against the unigram guess and against a start from scratch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining import batches as input_pipeline
from bert_clinical.pretraining.batches import PretrainingData
from tests.running import assert_success, run_program

STEPS = 700
LENGTHS = {"max_seq_length": 64, "max_predictions_per_seq": 10}


def examples(folder: Path) -> BertConfig:
    """Makes notes, text, a vocabulary and examples as the quickstart does; returns a config."""
    assert_success(
        run_program(
            "data_prep.sample_notes", output_file=folder / "notes.csv", num_notes=400,
            random_seed=12345,
        )
    )  # fmt: skip
    assert_success(
        run_program(
            "data_prep.format_notes", input_file=folder / "notes.csv", output_dir=folder,
            sentence_splitter="rules", held_out_fraction=0.1,
        )
    )  # fmt: skip
    assert_success(
        run_program(
            "bert_clinical.create_vocab", input_file=folder / "discharge_summary.txt",
            output_file=folder / "vocab.txt", vocab_size=2000, do_lower_case=False,
        )
    )  # fmt: skip
    for name in ("discharge_summary", "discharge_summary.held_out"):
        assert_success(
            run_program(
                "bert_clinical.create_pretraining_data", input_file=folder / f"{name}.txt",
                output_file=folder / f"{name}.tfrecord", vocab_file=folder / "vocab.txt",
                do_lower_case=False, dupe_factor=5, **LENGTHS,
            )
        )  # fmt: skip
    # The quickstart's small model with one layer; without dropout it leaves the unigram plateau
    # sooner. One guess would have 0.53 of the next sentences right.
    config = BertConfig(
        len((folder / "vocab.txt").read_text().splitlines()), hidden_size=128, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=512, max_position_embeddings=64,
        type_vocab_size=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    (folder / "bert_config.json").write_text(config.to_json_string())
    return config


def unigram_accuracy(folder: Path, config: BertConfig) -> float:
    """The share of the masked WordPieces that one guess, the most frequent, gets right."""
    path = folder / "discharge_summary.held_out.tfrecord"
    data = PretrainingData([path], config=config, cache_folder=folder, **LENGTHS)
    (batch,) = input_pipeline.sequential_batches(data, batch_size=640, steps=1)
    masked = batch["masked_lm_ids"][batch["masked_lm_weights"] > 0]
    return float(np.bincount(masked).max() / len(masked))


def pretrain(folder: Path, name: str, **changes: object) -> dict[str, float]:
    flags = {
        "bert_config_file": folder / "bert_config.json",
        "input_file": folder / "discharge_summary.tfrecord",
        "eval_input_file": folder / "discharge_summary.held_out.tfrecord",
        "do_train": True, "do_eval": True, "train_batch_size": 32, "learning_rate": 1e-3,
        "num_train_steps": STEPS, "num_warmup_steps": 100, "eval_batch_size": 32,
        "max_eval_steps": 20, "log_every": 5, "output_dir": folder / name, **LENGTHS, **changes,
    }  # fmt: skip
    assert_success(run_program("bert_clinical.run_pretraining", **flags))
    return json.loads((folder / name / "pretraining_run.json").read_text())["evaluation"]


@pytest.mark.slow
def test_it_learns_and_a_pretrained_start_is_better(tmp_path: Path) -> None:
    config = examples(tmp_path)
    learned = pretrain(tmp_path, "learned")
    guess = unigram_accuracy(tmp_path, config)
    assert learned["masked_lm_accuracy"] > 1.5 * guess
    assert learned["next_sentence_accuracy"] > 0.6
    short = {"num_train_steps": 5, "num_warmup_steps": 0, "learning_rate": 1e-5}
    scratch = pretrain(tmp_path, "scratch", **short)
    further = pretrain(tmp_path, "further", init_checkpoint=tmp_path / "learned", **short)
    print(
        f"unigram guess {guess:.3f}; learned {learned}; from scratch {scratch}; from it {further}"
    )
    assert further["loss"] < scratch["loss"] - 1.5
    assert further["masked_lm_accuracy"] > 1.5 * guess
