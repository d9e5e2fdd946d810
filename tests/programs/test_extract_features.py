"""`extract_features` against transformers, Google's format line by line, and its mistakes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pyarrow_parquet
import pytest

from bert_clinical.inference import extract
from bert_clinical.inference import vector_files as feature_files
from bert_clinical.inference import vectors as feature_extraction
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights.pretrained import load_from_checkpoint
from bert_clinical.wordpieces.inputs import Text, TextEncoder, read_lines
from tests.conversion.test_convert import save_odd_model, to_transformers
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program
from tests.theirs import needs_transformers, theirs
from tests.wordpieces.test_inputs import as_google_cuts

pytestmark = needs_transformers

MODULE = "bert_clinical.extract_features"
TOLERANCE = 1e-5
PLANTED = "Quixzandorph"
LINES = [
    "The patient was admitted to the ICU.",
    "",
    "Chest pain ||| no shortness of breath, denies fever",
    "She was given aspirin and discharged home in good condition on the third day. " * 3,
    "a ||| b ||| c",
    "CT was negative. " * 9 + " ||| " + "Follow up in 2 weeks. " * 9,
    "  naïve \u200b\u4e2d haemoptysis  ",
]
MODEL = {
    "init_checkpoint": golden("init"),
    "bert_config_file": golden("model/bert_config.json"),
    "vocab_file": golden("vocab_cased.txt"),
    "do_lower_case": False,
    "gelu": "erf",
}


@pytest.fixture(scope="module")
def model():
    return load_from_checkpoint(
        **{name: value for name, value in MODEL.items() if name != "init_checkpoint"},
        init_checkpoint=str(MODEL["init_checkpoint"]),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return to_transformers(golden("init"), tmp_path_factory.mktemp("model") / "to", gelu="erf")


@pytest.fixture
def lines(tmp_path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n", "utf-8")
    return path


@pytest.fixture
def notes(tmp_path) -> Path:
    """Notes of very different lengths, without a category."""
    path = tmp_path / "notes.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["NOTE_ID", "TEXT"])
        for index, line in enumerate([*LINES[:2], LINES[3] * 4, PLANTED, LINES[0] + "\nNext line"]):
            rows.writerow([f"n{index}-é", line])
    return path


def hidden_states(folder, windows) -> list[np.ndarray]:
    """Returns each window's layers in transformers, one window at a time, [layers, S, H]."""
    batches = [
        {
            "input_ids": np.array([window.input_ids]),
            "token_type_ids": np.array([window.segment_ids]),
        }
        for window in windows
    ]
    return [answer["hidden_states"][1:, 0] for answer in theirs("encode", folder, batches)]


def batches_of(folder, texts) -> list[dict[str, np.ndarray]]:
    """Returns each text, or pair of texts, as a batch of its own by transformers' tokenizer."""
    answer = theirs("tokenize", folder, texts)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return [{n: np.array([answer[n][i]]) for n in names} for i in range(len(texts))]


def parts_of(line: str) -> tuple[str, str]:
    """Returns the two texts of a line, the second empty where there is one."""
    first, mark, second = line.strip().rpartition(" ||| ")
    return (first, second) if mark else (second, "")


def test_json_lines_are_googles_and_values_those_of_transformers(lines, tmp_path, model, folder):
    output = tmp_path / "out.jsonl"
    result = run_program(
        MODULE, input_file=lines, output_file=output, layers="-1,0,-2", max_seq_length=32,
        batch_size=3, **MODEL,
    )  # fmt: skip
    assert_success(result)
    assert not result.stderr
    assert "2 texts were longer than --max_seq_length=32" in result.stdout
    texts = list(read_lines(lines))
    encoder = TextEncoder(model.tokenizer())
    windows = [encoder.cut(text, 32)[0] for text in texts]
    tokenizer = FullTokenizer(MODEL["vocab_file"], do_lower_case=False)
    written = output.read_text("ascii").splitlines()
    assert len(written) == len(LINES)
    states = hidden_states(folder, windows)
    for index, (line, window, state) in enumerate(zip(written, windows, states, strict=True)):
        found = json.loads(line)
        assert list(found) == ["linex_index", "features"]
        assert found["linex_index"] == index
        tokens = [feature["token"] for feature in found["features"]]
        text_a, text_b = map(tokenizer.tokenize, parts_of(LINES[index]))
        assert tokens == as_google_cuts(text_a, text_b, 32)
        assert tokens == tokenizer.convert_ids_to_tokens(window.input_ids)
        for position, feature in enumerate(found["features"]):
            assert list(feature) == ["token", "layers"]
            assert [list(layer) for layer in feature["layers"]] == [["index", "values"]] * 3
            assert [layer["index"] for layer in feature["layers"]] == [-1, 0, -2]
            for layer in feature["layers"]:
                expected = state[layer["index"], position]
                assert np.abs(np.array(layer["values"]) - expected).max() < TOLERANCE


def test_numbers_are_rounded_as_google_rounds_them():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, 3, 50_000)).astype(np.float32)
    values[0, 0, :4] = [0.0000005, -0.0000015, 1e-9, -1e-9]
    tokens, layers = ["[CLS]", "é"], [-1, -2, 7]
    expected = {
        "linex_index": 3,
        "features": [
            {
                "token": token,
                "layers": [
                    {"index": layer, "values": [round(float(x), 6) for x in values[t, n]]}
                    for n, layer in enumerate(layers)
                ],
            }
            for t, token in enumerate(tokens)
        ],
    }
    assert feature_files.json_line(3, tokens, layers, values) == json.dumps(expected) + "\n"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_vectors_of_notes_are_those_of_transformers(
    notes, folder, model, tmp_path, capsys, monkeypatch, pooling, suffix
):
    # So few that chunks end between notes and the longest note is one of its own.
    monkeypatch.setattr(feature_extraction, "_SUMS_BATCHES", 2)
    output = tmp_path / f"vectors{suffix}"
    result = run_here(
        capsys, MODULE, model_dir=folder, input_file=notes, output_file=output, pooling=pooling,
        layers="-1,-2", max_seq_length=40, doc_stride=13, batch_size=2,
    )  # fmt: skip
    assert_success(result)
    assert PLANTED not in result.stdout + result.stderr
    with notes.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    expected = []
    encoder = TextEncoder(model.tokenizer())
    for row in rows:
        windows = encoder.windows(Text("", row["TEXT"]), 40, 13)
        states = hidden_states(folder, windows)
        parts = [
            state[:, :1] if pooling == "cls" else state[:, window.first : window.end]
            for window, state in zip(windows, states, strict=True)
        ]
        mean = np.concatenate(parts, axis=1).mean(axis=1)
        expected.append(np.concatenate([mean[-1], mean[-2]]))
    ids = [row["NOTE_ID"] for row in rows]
    if suffix == ".npy":
        vectors = np.load(output)
        with feature_files.row_ids_file(output).open(newline="", encoding="utf-8") as stream:
            found_ids = [row["row_id"] for row in csv.DictReader(stream)]
    else:
        table = pyarrow_parquet.read_table(output)
        vectors = np.stack(table["vector"].to_numpy())
        found_ids = table["row_id"].to_pylist()
        about = json.loads(table.schema.metadata[b"bert_clinical"])
        assert (about["pooling"], about["layers"], about["doc_stride"]) == (pooling, [-1, -2], 13)
    assert found_ids == ids
    assert vectors.dtype == np.float32 and vectors.shape == (len(ids), 2 * 32)
    assert np.abs(vectors - np.stack(expected)).max() < TOLERANCE
    assert len(list(tmp_path.glob("vectors*"))) == 1 + (suffix == ".npy")


def test_mean_of_a_short_text_is_the_usual_mean_pooling(lines, folder, tmp_path, capsys):
    result = run_here(
        capsys, MODULE, model_dir=folder, input_file=lines, output_file=tmp_path / "out.npy",
        pooling="mean",
    )  # fmt: skip
    assert_success(result)
    texts = [parts if parts[1] else parts[0] for parts in map(parts_of, LINES)]
    inputs = batches_of(folder, texts)
    answers = theirs("encode", folder, inputs)
    for vector, answer in zip(np.load(tmp_path / "out.npy"), answers, strict=True):
        assert np.abs(vector - answer["hidden_states"][-1, 0].mean(axis=0)).max() < TOLERANCE


def test_batches_change_neither_order_nor_values(lines, folder, tmp_path, capsys):
    found = []
    for batch_size in (1, 2, 32):
        output = tmp_path / f"{batch_size}.jsonl"
        flags = {"model_dir": folder, "input_file": lines, "output_file": output, "layers": "-1"}
        assert_success(run_here(capsys, MODULE, batch_size=batch_size, **flags))
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["linex_index"] for row in rows] == list(range(len(LINES)))
        values = [f["layers"][0]["values"] for row in rows for f in row["features"]]
        found.append(np.array(values))
    assert np.abs(found[0] - found[1]).max() < TOLERANCE
    assert np.abs(found[0] - found[2]).max() < TOLERANCE


def test_a_model_without_pooler_and_rows_without_ids(tmp_path, capsys):
    bare = save_odd_model(tmp_path / "bare", "BertForMaskedLM")
    path = tmp_path / "notes.csv"
    path.write_text("Summary\nw1 w2\n\nw3\n")
    result = run_here(
        capsys, MODULE, model_dir=bare, input_file=path, output_file=tmp_path / "out.npy",
        pooling="cls", text_column="summary", max_seq_length=41,
    )  # fmt: skip
    assert_success(result)
    answers = theirs("encode", bare, batches_of(bare, ["w1 w2", "w3"]), pooler=False)
    for vector, answer in zip(np.load(tmp_path / "out.npy"), answers, strict=True):
        assert np.abs(vector - answer["hidden_states"][-1, 0, 0]).max() < TOLERANCE
    assert (tmp_path / "out.row_ids.csv").read_text() == "row_id\n0\n1\n"


def test_an_unfinished_file_has_no_name(tmp_path):
    for name in ("a.npy", "a.parquet"):
        (tmp_path / name).write_bytes(b"before")
        with (
            pytest.raises(KeyboardInterrupt),
            feature_files.vector_file(tmp_path / name, count=2, dimensions=3, about={}) as write,
        ):
            write(["1"], np.zeros((1, 3), np.float32))
            raise KeyboardInterrupt
        assert (tmp_path / name).read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "a.parquet"]


def test_mistakes_are_one_line(lines, notes, folder, tmp_path, capsys):
    out, npy = tmp_path / "out.jsonl", tmp_path / "out.npy"
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"good\n" + PLANTED.encode() + b" \xe9\n")
    quotes = tmp_path / "quotes.csv"
    quotes.write_text(f'ROW_ID,TEXT\n1,fine\n2,"{PLANTED} is "not" closed\n')
    half = tmp_path / "half.csv"
    half.write_text(f"ROW_ID,TEXT\n1,fine\n,{PLANTED}\n")
    empty = tmp_path / "empty.txt"
    empty.touch()
    names = sorted(path.name for path in tmp_path.iterdir())
    to_json = {"model_dir": folder, "input_file": lines, "output_file": out}
    to_npy = {"model_dir": folder, "input_file": notes, "output_file": npy, "pooling": "mean"}
    checkpoint = {**MODEL, "input_file": lines, "output_file": out}
    for flags, status, fragments in (
        ({**to_json, "input_file": None}, 2, ["input_file"]),
        ({**to_json, "model_dir": None}, 2, ["--init_checkpoint is missing"]),
        ({**checkpoint, "vocab_file": None}, 2, ["--vocab_file is missing"]),
        ({**checkpoint, "model_dir": folder}, 2, ["--model_dir and --init_checkpoint"]),
        ({**to_json, "use_tpu": True}, 2, ["TPUs are not supported"]),
        ({**to_json, "num_tpu_cores": 8}, 2, ["TPUs are not supported"]),
        ({**to_json, "layers": "-1,last"}, 2, ["--layers is", "expected integers"]),
        ({**to_json, "max_seq_length": 2}, 2, ["max_seq_length"]),
        ({**to_json, "doc_stride": 5}, 2, ["--pooling"]),
        ({**to_json, "input_file": notes}, 2, ["give --pooling"]),
        ({**to_json, "output_file": npy}, 2, ["--pooling=mean or --pooling=cls"]),
        ({**to_json, "text_column": "text"}, 2, ["--text_column belongs to notes"]),
        ({**to_npy, "output_file": out}, 2, ["ends in .npy or .parquet"]),
        ({**to_npy, "pooling": "max"}, 2, ["pooling"]),
        ({**to_npy, "doc_stride": 127}, 2, ["--doc_stride is 127", "holds 126"]),
        ({**to_json, "gelu": "erf"}, 2, ["--gelu belongs to a checkpoint"]),
        ({**to_json, "layers": "-1,-3"}, 1, ["names -3", "has 2 layers", "-2 to 1"]),
        ({**to_json, "layers": "2"}, 1, ["names 2"]),
        ({**to_json, "max_seq_length": 129}, 1, ["takes 128 positions"]),
        ({**to_json, "input_file": tmp_path / "none.txt"}, 1, ["none.txt"]),
        ({**to_json, "input_file": empty}, 1, ["holds no text"]),
        ({**to_json, "input_file": latin}, 1, ["latin.txt, line 2: not UTF-8 at byte 14"]),
        ({**to_json, "output_file": lines}, 1, ["would be lost"]),
        ({**to_json, "output_file": __file__ + "/x"}, 1, [f"--output_file: {__file__} is a file"]),
        ({**checkpoint, "do_lower_case": True}, 1, ["--do_lower_case is true"]),
        ({**to_npy, "text_column": "body"}, 1, ["named body", "--text_column"]),
        ({**to_npy, "id_column": "subject"}, 1, ["named subject", "--id_column"]),
        ({**to_npy, "input_file": quotes}, 1, ["row 2", "quotes do not match"]),
        ({**to_npy, "input_file": half}, 1, ["row 2 has no row id"]),
    ):
        result = run_here(capsys, MODULE, **flags)
        assert_one_line_error(result, status, *fragments)
        assert PLANTED not in result.stdout + result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy", "out.parquet"])
def test_an_input_that_is_gone_the_second_time(lines, folder, tmp_path, capsys, monkeypatch, name):
    reads = iter([[Text("0", PLANTED), Text("1", PLANTED)], [Text("0", PLANTED)]])
    monkeypatch.setattr(extract, "read_lines", lambda _: next(reads))
    result = run_here(
        capsys, MODULE, model_dir=folder, input_file=lines, output_file=tmp_path / name,
        layers="-1", pooling=None if name == "out.jsonl" else "mean",
    )  # fmt: skip
    assert_one_line_error(result, 1, "2 texts at first and 1 later")
    assert PLANTED not in result.stdout + result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


def test_a_full_disk_leaves_nothing(notes, folder, tmp_path, capsys, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out.npy"))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", refuse)
    result = run_here(
        capsys, MODULE, model_dir=folder, input_file=notes, output_file=tmp_path / "out.npy",
        pooling="mean",
    )  # fmt: skip
    assert_one_line_error(result, 1, "No space left", "free some space")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.csv"]


def test_a_folder_with_a_checkpoint_is_a_model_too(lines, tmp_path, capsys):
    folder = tmp_path / "biobert"
    shutil.copytree(golden("init_bertadam"), folder)
    shutil.copy(MODEL["bert_config_file"], folder)
    shutil.copy(MODEL["vocab_file"], folder / "vocab.txt")
    flags = {"input_file": lines, "layers": "-1"}
    named, found = tmp_path / "named.jsonl", tmp_path / "found.jsonl"
    assert_success(run_here(capsys, MODULE, output_file=named, **flags, **MODEL))
    result = run_here(capsys, MODULE, model_dir=folder, output_file=found, **flags)
    assert_one_line_error(result, 2, "--do_lower_case is needed")
    flags |= {"do_lower_case": False, "gelu": "erf"}
    assert_success(run_here(capsys, MODULE, model_dir=folder, output_file=found, **flags))
    assert found.read_bytes() == named.read_bytes()
