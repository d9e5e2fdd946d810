"""Do new entries help? The same start and steps with and without them, as a table in Markdown.

    python -m tests.benchmarks.vocabulary_extension [--notes 600] [--start_steps 2000] [--steps 500]
        [--seeds 1,2,3] [--entries 300] [--ways without,mean,random] [--hidden_size 128]
        [--learning_rate 5e-4] [--folder DIR]

A small model is trained from scratch on made-up notes with a general vocabulary of 1,000 entries,
that of the golden data. From there it is trained on, on other made-up notes: as it is, after
extend_vocab with rows that are means, and with rows drawn anew. A seed makes the notes, the masks
and the order of training. A step has as many sequences in each case; with new entries these hold
more of the text.

The loss of a WordPiece cannot be compared between vocabularies, so it is told for a word: whole
words are masked, in training and on the notes of held-out patients, and the mean loss of a
WordPiece times the WordPieces of a word is that of a word. A word that is masked as a whole has no
part left that would give it away.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bert_clinical.nn.config import BertConfig
from bert_clinical.tokenization import BasicTokenizer, FullTokenizer
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.documents import read_documents
from tests.golden_data import golden
from tests.running import assert_success, run_program

VOCAB = golden("vocab_cased.txt")
CASED = {"do_lower_case": False}
LENGTHS = {"max_seq_length": 128, "max_predictions_per_seq": 20}
ROOM = LENGTHS["max_seq_length"] - 2
TEXT, HELD_OUT = "discharge_summary.txt", "discharge_summary.held_out.txt"
WAYS = {
    "without": "without new entries",
    "mean": "with them, rows of means",
    "random": "with them, rows drawn anew",
}


class Found(NamedTuple):
    """What was measured of one way with one seed."""

    loss_of_a_word: float
    loss_of_a_piece: float
    pieces_of_a_word: float
    words_in_a_sequence: float
    share_of_a_note: float


def run(module: str, **flags: Any) -> None:
    assert_success(run_program(module, **flags))


def make_text(folder: Path, notes: int, seed: int) -> Path:
    folder.mkdir()
    run("data_prep.sample_notes", output_file=folder / "notes.csv", num_notes=notes,
        random_seed=seed)  # fmt: skip
    run("data_prep.format_notes", input_file=folder / "notes.csv", output_dir=folder,
        sentence_splitter="rules", held_out_fraction=0.1, patients_files=True)  # fmt: skip
    return folder


def make_examples(text: Path, output: Path, vocab: Path, seed: int) -> Path:
    run("bert_clinical.create_pretraining_data", input_file=text, output_file=output,
        vocab_file=vocab, dupe_factor=5, do_whole_word_mask=True, random_seed=seed, **CASED,
        **LENGTHS)  # fmt: skip
    return output


def train(
    folder: Path,
    text: Path,
    config: Path,
    vocab: Path,
    seed: int,
    steps: int,
    learning_rate: float,
    **flags: Any,
) -> dict[str, float]:
    """Trains and evaluates; returns what the evaluation found."""
    folder.mkdir()
    examples = {
        name: make_examples(text / name, folder / f"{name}.tfrecord", vocab, seed)
        for name in (TEXT, HELD_OUT)
    }
    run("bert_clinical.run_pretraining", bert_config_file=config, input_file=examples[TEXT],
        eval_input_file=examples[HELD_OUT], output_dir=folder / "model", do_train=True,
        do_eval=True, train_batch_size=32, eval_batch_size=32, max_eval_steps=40,
        learning_rate=learning_rate, num_train_steps=steps, num_warmup_steps=steps // 10,
        save_checkpoints_steps=steps, random_seed=seed, log_every=100, **LENGTHS,
        **flags)  # fmt: skip
    record = json.loads((folder / "model" / "pretraining_run.json").read_text())
    return record["evaluation"]


def sizes(text: Path, vocab: Path) -> tuple[float, float]:
    """Returns the WordPieces of a word, and the share of a note's words within one sequence."""
    tokenizer, basic = FullTokenizer(vocab, do_lower_case=False), BasicTokenizer(False)
    encoder = TextEncoder(tokenizer)
    words = pieces = fitting = 0
    for document in read_documents(text):
        room = ROOM
        for word in basic.tokenize(" ".join(document.lines)):
            size = len(encoder.encode(word))
            words += 1
            pieces += size
            room -= size
            fitting += room >= 0
    return pieces / words, fitting / words


def with_seed(
    folder: Path, start: Path, config: Path, seed: int, options: argparse.Namespace
) -> dict[str, Found]:
    """Returns what was measured of every way."""
    folder.mkdir()
    text = make_text(folder / "text", options.notes, seed)
    found = {}
    for way in options.ways.split(","):
        model = {"init_checkpoint": start, "bert_config_file": config, "vocab_file": VOCAB}
        if way != "without":
            extended = folder / f"extended_{way}"
            run("bert_clinical.extend_vocab", input_file=text / TEXT, output_dir=extended,
                num_new_entries=options.entries, min_documents=20, new_rows=way, **model,
                **CASED)  # fmt: skip
            model = {
                "init_checkpoint": extended,
                "bert_config_file": extended / "bert_config.json",
                "vocab_file": extended / "vocab.txt",
            }
        evaluation = train(
            folder / way, text, model["bert_config_file"], model["vocab_file"], seed,
            options.steps, options.learning_rate, init_checkpoint=model["init_checkpoint"],
        )  # fmt: skip
        per_word, share = sizes(text / HELD_OUT, model["vocab_file"])
        loss = evaluation["masked_lm_loss"]
        found[way] = Found(loss * per_word, loss, per_word, ROOM / per_word, share)
        print(f"seed {seed}, {way}: {found[way]}", flush=True)
    return found


def table(results: list[dict[str, Found]]) -> str:
    """Returns means and deviations over the seeds."""
    rows: list[tuple[str, Callable[[Found], float], str]] = [
        ("held-out loss of a word, nats", lambda found: found.loss_of_a_word, "{:.2f}"),
        ("held-out loss of a WordPiece, not comparable", lambda f: f.loss_of_a_piece, "{:.2f}"),
        ("WordPieces of a word", lambda found: found.pieces_of_a_word, "{:.3f}"),
        ("words in 128 WordPieces", lambda found: found.words_in_a_sequence, "{:.1f}"),
        ("share of a note in 128 WordPieces", lambda found: 100 * found.share_of_a_note, "{:.1f}%"),
    ]
    ways = list(results[0])
    heads = [WAYS[way] for way in ways]
    lines = [
        f"| mean ± deviation of the seeds | {' | '.join(heads)} |",
        f"|---|{'---|' * len(ways)}",
    ]
    for name, value, form in rows:
        cells = []
        for way in ways:
            values = [value(result[way]) for result in results]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{form.format(statistics.mean(values))} ± {form.format(deviation)}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--notes", type=int, default=600)
    parser.add_argument("--start_steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--entries", type=int, default=300)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--hidden_size", type=int, default=128, help="Of the model's two layers.")
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--folder", type=Path, help="An empty or new one; else a temporary one.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        # As in the test of learning: without dropout so small a model learns soon.
        config = BertConfig(
            1000, hidden_size=options.hidden_size, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=4 * options.hidden_size, max_position_embeddings=128,
            type_vocab_size=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        path = folder / "bert_config.json"
        path.write_text(config.to_json_string())
        text = make_text(folder / "start_text", options.notes, 99)
        evaluation = train(
            folder / "start", text, path, VOCAB, 99, options.start_steps, options.learning_rate
        )
        print(f"start: {evaluation}", flush=True)
        results = [
            with_seed(folder / f"seed_{seed}", folder / "start" / "model", path, int(seed), options)
            for seed in options.seeds.split(",")
        ]
    print(table(results))


if __name__ == "__main__":
    main()
