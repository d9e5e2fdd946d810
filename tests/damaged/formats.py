"""A sound file of every kind that the programs read, and how they read it."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.damaged.mutations import damaged, damaged_json
from tests.format_notes_program import made_up_notes, write_notes
from tests.golden_data import golden

Mutate = Callable[[bytes, Any], bytes]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
      name: of the kind.
      file: its name within the folder that `make` fills.
      make: fills a folder with what is read together.
      read: reads the folder; what it returns is compared.
      mutate: damages the file's bytes.
      has_checksum: damage must not go unnoticed.
      is_sound: whether damaged bytes are by chance a sound file, with other content.
      cost: how many times as long as others it takes; so many fewer are tried.
    """

    name: str
    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    mutate: Mutate = damaged
    has_checksum: bool = False
    cost: int = 1
    is_sound: Callable[[bytes], bool] = lambda content: False


def _notes_of(path: Path) -> Any:
    from data_prep.notes.csv_source import ColumnNames
    from data_prep.notes.sources import open_file

    return list(open_file(path, ColumnNames()).rows())


def _csv(folder: Path) -> None:
    write_notes(folder / "n.csv", made_up_notes(20))


def _is_gzip(content: bytes) -> bool:
    try:
        gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _csv_gz(folder: Path) -> None:
    _csv(folder)
    (folder / "n.csv.gz").write_bytes(gzip.compress((folder / "n.csv").read_bytes()))


def _parquet(folder: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    _csv(folder)
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(folder / "n.csv", parse_options=options)
    pyarrow.parquet.write_table(
        table, folder / "n.parquet", row_group_size=7, write_page_checksum=True
    )


def _pages(content: bytes, rng: Any) -> bytes:
    """Changes a byte of Parquet's pages, which have checksums; what describes them has none."""
    import io

    import pyarrow.parquet

    metadata = pyarrow.parquet.ParquetFile(io.BytesIO(content)).metadata
    column = metadata.row_group(rng.randrange(metadata.num_row_groups)).column(
        metadata.schema.names.index("TEXT")
    )
    # The last quarter of a column's bytes is data of its last page.
    end = column.data_page_offset + column.total_compressed_size
    if column.dictionary_page_offset:
        end = column.dictionary_page_offset + column.total_compressed_size
    place = end - 1 - rng.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _text(folder: Path) -> None:
    shutil.copy(golden("part_b.txt"), folder / "t.txt")


def _text_gz(folder: Path) -> None:
    (folder / "t.txt.gz").write_bytes(gzip.compress(golden("part_b.txt").read_bytes()))


def _lines_of(path: Path) -> Any:
    from data_prep.common.hashed_text import HashedText

    with HashedText(path) as text:
        return list(text.lines())


def _vocabulary(folder: Path) -> None:
    shutil.copy(golden("vocab_cased.txt"), folder / "vocab.txt")


def _read_vocabulary(folder: Path) -> Any:
    from bert_clinical.wordpieces.vocabulary import read_vocabulary

    return read_vocabulary(folder / "vocab.txt", 1000)


def _records(folder: Path) -> None:
    from bert_clinical.tfrecords.sidecars import write_sidecar

    content = golden("one_example.tfrecord").read_bytes()
    (folder / "e.tfrecord").write_bytes(content * 3)
    flags = {"max_seq_length": 128, "max_predictions_per_seq": 20, "do_lower_case": False}
    vocabulary = {"name": "vocab.txt", "entries": 1000, "sha256": "0" * 64}
    outputs = [{"name": "e.tfrecord", "size_bytes": len(content) * 3, "sha256": "0" * 64}]
    write_sidecar(
        folder / "e.tfrecord",
        {"program": "create_pretraining_data", "flags": flags, "vocabulary": vocabulary,
         "outputs": outputs, "inputs": [{"name": "t.txt", "sha256": "0" * 64}], "examples": 3},
    )  # fmt: skip
    _indexed(folder)


def _config() -> Any:
    from bert_clinical.nn.config import BertConfig

    return BertConfig.from_json_file(golden("model/bert_config.json"))


def _indexed(folder: Path) -> Any:
    from bert_clinical.pretraining.batches import PretrainingData

    data = PretrainingData(
        [folder / "e.tfrecord"], config=_config(), max_seq_length=128, max_predictions_per_seq=20,
        cache_folder=folder,
    )  # fmt: skip
    return [part.tobytes() for part in data.read_blocks(np.arange(len(data.block_sizes)))]


def _without_index(folder: Path) -> Any:
    (folder / "data_index.npz").unlink(missing_ok=True)
    return _indexed(folder)


def _with_good_checksum_of_length(content: bytes, rng: Any) -> bytes:
    """Changes the length of the first record and what vouches for it, or anything."""
    from tests.tfrecord_files import masked_crc

    if rng.random() < 0.7:
        return damaged(content, rng)
    length = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**60, 2**63, 2**64 - 1, 2**64 - 17)))
    return length + masked_crc(length) + content[12:]


def _fitting_sidecar(folder: Path) -> Any:
    from bert_clinical.pretraining.data_check import require_fitting_sidecars
    from bert_clinical.pretraining.options import TrainingOptions
    from bert_clinical.tfrecords.sidecars import doubts

    path = str(folder / "e.tfrecord")
    options = TrainingOptions(max_seq_length=128, max_predictions_per_seq=20)
    sidecars = require_fitting_sidecars([path], options, _config(), "config")
    return sidecars, doubts(sidecars.values())


def _run_settings() -> dict[str, Any]:
    from bert_clinical.pretraining.options import TrainingOptions
    from bert_clinical.pretraining.settings import decisive_settings

    return decisive_settings(TrainingOptions(), _config(), [str(golden("part_b.txt"))])


def _settings(folder: Path) -> None:
    from bert_clinical.pretraining.settings import write_settings

    write_settings(folder, _run_settings())


def _read_settings(folder: Path) -> Any:
    from bert_clinical.pretraining.settings import require_same_settings

    return require_same_settings(folder, _run_settings(), 100)


def _shards(folder: Path) -> None:
    (folder / "t.txt").write_text("He was well .\nHe went home .\n\nShe was well .\n")
    _made_shard(folder)


def _made_shard(folder: Path) -> Any:
    from bert_clinical.instances.settings import InstanceSettings
    from bert_clinical.instances.shards import make_shards, plan_shards
    from bert_clinical.instances.writer import summary

    made = make_shards(
        shards=plan_shards([folder / "t.txt"], [folder]), vocab_file=golden("vocab_cased.txt"),
        do_lower_case=False, settings=[InstanceSettings()], buffer_bytes=1 << 20, num_workers=1,
    )  # fmt: skip
    return [summary(description) for description in made]


def _bert_config(folder: Path) -> None:
    shutil.copy(golden("model/bert_config.json"), folder / "bert_config.json")


def _read_bert_config(folder: Path) -> Any:
    from bert_clinical.nn.config import BertConfig

    return BertConfig.from_json_file(folder / "bert_config.json").to_dict()


def _manifest(folder: Path) -> None:
    from data_prep.common.atomic_files import write_json

    file = {"name": "a.txt", "notes": 2, "size_bytes": 3, "sha256": "0" * 64}
    write_json(folder / "manifest.json", {**_described(), "outputs": [file]})


def _described() -> dict[str, Any]:
    return {
        "program": "data_prep.format_notes",
        "flags": {"category": "all", "num_shards": 1},
        "versions": {"bert-clinical": "0.1.0"},
        "inputs": [{"name": "n.csv", "size_bytes": 1, "sha256": "0"}],
    }


def _read_manifest(folder: Path) -> Any:
    from data_prep.common.files import Folder
    from data_prep.formatting.manifest import find_earlier

    return find_earlier(Folder(str(folder)), _described())


def _work(folder: Path) -> None:
    from data_prep.formatting.work_folder import WorkFolder

    WorkFolder(folder, _described())


def _read_work(folder: Path) -> Any:
    from data_prep.formatting.work_folder import WorkFolder

    return WorkFolder(folder, _described()).done


def _shard(folder: Path) -> None:
    from data_prep.formatting.work_folder import WorkFolder, cut

    work = WorkFolder(folder, _described())
    formatter = _formatter()
    for shard in cut(_to_format()):
        work.write(shard, formatter(shard.notes).content)


def _to_format() -> list[Any]:
    from data_prep.formatting.formatter import NoteToFormat

    return [NoteToFormat("A", False, text, 1) for *_, text in made_up_notes(5)]


def _formatter() -> Any:
    from data_prep.formatting.formatter import NoteFormatter

    return NoteFormatter(section_rules="fixed", sentence_splitter="rules", spacy_model="")


def _read_shard(folder: Path) -> Any:
    """Goes on as format_notes does: a shard that is not what was written is made again."""
    from data_prep.formatting.canaries import Planting
    from data_prep.formatting.work_folder import WorkFolder, cut

    work = WorkFolder(folder, _described())
    formatter = _formatter()
    for shard in cut(_to_format()):
        if not work.has(shard):
            work.write(shard, formatter(shard.notes).content)
    files, statistics = work.assemble(1, Planting(None, None), patients_files=False)
    return files, statistics.counts


def _checkpoint(folder: Path) -> None:
    for path in golden("init").iterdir():
        shutil.copy(path, folder)


def _read_checkpoint(folder: Path) -> Any:
    from bert_clinical.weights import checkpoint

    tensors = checkpoint.read_tensors(checkpoint.resolve_checkpoint(folder / "bert_model.ckpt"))
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def _safetensors(folder: Path) -> None:
    from bert_clinical.weights.safetensors_files import write_weights

    tensors = {f"bert.layer.{n}.weight": np.full((n + 1, 3), n, np.float32) for n in range(4)}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_weights(folder, shapes, tensors.items())


def _read_safetensors(folder: Path) -> Any:
    from bert_clinical.weights.transformers_folder import open_weights

    weights = open_weights(folder)
    return {name: tensor.tobytes() for name, tensor in weights.read(list(weights.shapes))}


def _header(content: bytes, rng: Any) -> bytes:
    """Changes a value of the header of a safetensors file, or anything."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    (size,) = struct.unpack_from("<Q", content)
    header = damaged_json(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _transformers(folder: Path) -> None:
    from bert_clinical.modeling import create_variables
    from bert_clinical.nn.config import BertConfig
    from bert_clinical.weights.safetensors_files import write_weights
    from bert_clinical.weights.transformers_names import to_transformers_config, transformers_name
    from bert_clinical.weights.transformers_tokenizer import write_tokenizer
    from bert_clinical.wordpieces.model_tokenizer import TokenizerRules

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]
    config = BertConfig(
        vocab_size=7, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=5, max_position_embeddings=8, type_vocab_size=2,
    )  # fmt: skip
    settings = to_transformers_config(
        config, gelu="erf", architecture="BertForSequenceClassification", dtype="float32",
        pad_token_id=0,
    )  # fmt: skip
    settings["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(settings))
    write_tokenizer(folder, tokens, rules=TokenizerRules(False), max_length=8)
    weights = {
        name: (value.numpy().T if transformers_name(name).transposed else value.numpy())
        for name, value in create_variables(config, random_seed=0).items()
        if name.startswith("bert/")
    }
    named = {transformers_name(name).name: value for name, value in weights.items()}
    named["classifier.weight"] = np.zeros((2, 4), np.float32)
    named["classifier.bias"] = np.zeros(2, np.float32)
    write_weights(folder, {n: v.shape for n, v in named.items()}, named.items())


def _read_transformers(folder: Path) -> Any:
    from bert_clinical.tasks.folder import load_fine_tuned
    from bert_clinical.weights.pretrained import load_from_transformers

    load_from_transformers(folder, do_lower_case=None, check_case=False)
    model = load_fine_tuned(folder, "BertForSequenceClassification", check_case=False)
    return model.labels, model.pretrained.tokens, model.pretrained.config.to_dict()


def _without_vocabulary(folder: Path) -> None:
    _transformers(folder)
    (folder / "vocab.txt").unlink()


def _sharded(folder: Path) -> None:
    _safetensors(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {f"bert.layer.{n}.weight": "model-00001-of-00001.safetensors"
                            for n in range(4)}}  # fmt: skip
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _run(folder: Path) -> None:
    from data_prep.common.atomic_files import write_json

    sidecar = {"flags": {"do_lower_case": False}, "vocabulary": {"sha256": "0" * 64}}
    flags = {"gelu": "erf", "input_file": "e.tfrecord", "max_seq_length": 128}
    write_json(
        folder / "pretraining_run.json",
        {"program": "run_pretraining", "flags": flags, "data": {"e.tfrecord": sidecar},
         "versions": {"tensorflow": "2"}, "bert_config": {}, "steps": 3, "final": {"loss": 1.0}},
    )  # fmt: skip
    write_json(folder / "conversion.json", {"program": "p", "gelu": "erf", "files": ["a"]})


def _read_run(folder: Path) -> Any:
    from bert_clinical.weights import provenance
    from data_prep.common import output_folder

    run = provenance.read_run(folder)
    output_folder.read_record(folder)
    sidecars = provenance.data_sidecars(run, training_only=True)
    return sidecars, provenance.recorded_gelu(folder), provenance.canaries_in(sidecars)


def _tsv(folder: Path) -> None:
    rows = [f"{n}\tA sentence .\tAnother {n} .\t{'ab'[n % 2]}" for n in range(20)]
    text = "\n".join(["id\tsentence1\tsentence2\tlabel", *rows]) + "\n"
    (folder / "train.tsv").write_text(text)


def _read_tsv(folder: Path) -> Any:
    from bert_clinical.tasks import classification

    examples = classification.read_examples("tsv", folder / "train.tsv", labelled=True)
    return examples, classification.labels_of("tsv", examples, folder / "train.tsv")


def _mednli(folder: Path) -> None:
    row = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral", "pairID": "x"}
    (folder / "train.jsonl").write_text((json.dumps(row) + "\n") * 9)


def _json_lines(content: bytes, rng: Any) -> bytes:
    if rng.random() < 0.5:
        return damaged(content, rng)
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = damaged_json(lines[place], rng)
    return b"\n".join(lines)


def _read_mednli(folder: Path) -> Any:
    from bert_clinical.tasks import classification

    return classification.read_examples("mednli", folder / "train.jsonl", labelled=True)


def _conll(folder: Path) -> None:
    (folder / "train.tsv").write_text("He\tO\nhas\tO\npain\tB-problem\n\nNo\tO\n\n" * 8)


def _read_conll(folder: Path) -> Any:
    from bert_clinical.tasks import entities

    sentences = entities.read_sentences(folder / "train.tsv", labelled=True)
    return sentences, entities.labels_of(sentences, folder / "train.tsv")


def _lines_to_encode(folder: Path) -> Any:
    from bert_clinical.instances.corpus import read_corpus
    from bert_clinical.tokenization import FullTokenizer
    from bert_clinical.wordpieces.line_encoder import LineEncoder

    encoder = LineEncoder(FullTokenizer(golden("vocab_cased.txt"), False), typecode="H")
    corpus = read_corpus(input_files=[folder / "t.txt"], encoder=encoder, typecode="H")
    return corpus.token_ids.tobytes()


def _canaries(folder: Path) -> None:
    from data_prep.canaries.canary import CanarySettings, draw_canaries, write_canaries

    write_canaries(folder / "canaries.json", draw_canaries(CanarySettings()))


def _read_canaries(folder: Path) -> Any:
    from data_prep.canaries.canary import read_canaries

    return read_canaries(folder / "canaries.json")


def _sql(folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "n.db") as connection:
        connection.execute("create table notes (row_id, subject_id, category, iserror, text)")
        for number, note in enumerate(made_up_notes(40)):
            connection.execute("insert into notes values (?, ?, ?, ?, ?)", (number, *note))
    connection.close()


def _read_sql(folder: Path) -> Any:
    from data_prep.notes.csv_source import ColumnNames
    from data_prep.notes.sources import open_table

    return list(open_table(f"sqlite:///{folder / 'n.db'}", "notes", ColumnNames()).rows())


FORMATS = (
    Format("csv", "n.csv", _csv, lambda folder: _notes_of(folder / "n.csv")),
    Format("csv.gz", "n.csv.gz", _csv_gz, lambda folder: _notes_of(folder / "n.csv.gz"),
           has_checksum=True, is_sound=_is_gzip),
    Format("parquet", "n.parquet", _parquet, lambda folder: _notes_of(folder / "n.parquet")),
    Format("parquet pages", "n.parquet", _parquet, lambda folder: _notes_of(folder / "n.parquet"),
           _pages, has_checksum=True),
    Format("database", "n.db", _sql, _read_sql, cost=5),
    Format("text", "t.txt", _text, _lines_to_encode, cost=5),
    Format("text.gz", "t.txt.gz", _text_gz, lambda folder: _lines_of(folder / "t.txt.gz"),
           has_checksum=True, is_sound=_is_gzip),
    Format("vocabulary", "vocab.txt", _vocabulary, _read_vocabulary),
    Format("TFRecord", "e.tfrecord", _records, _without_index, _with_good_checksum_of_length,
           has_checksum=True),
    Format("index of TFRecords", "data_index.npz", _records, _indexed, has_checksum=True),
    Format("sidecar, trained on", "e.tfrecord.json", _records, _fitting_sidecar, damaged_json),
    Format("sidecar, made before", "t.tfrecord.json", _shards, _made_shard, damaged_json),
    Format("settings of a run", "training_flags.json", _settings, _read_settings, damaged_json),
    Format("bert_config.json", "bert_config.json", _bert_config, _read_bert_config, damaged_json),
    Format("manifest", "manifest.json", _manifest, _read_manifest, damaged_json),
    Format("settings of a work folder", "format_notes.work/settings.json", _work, _read_work,
           damaged_json),
    Format("work shard", "format_notes.work/shard-*.jsonl", _shard, _read_shard, has_checksum=True,
           cost=5),
    Format("checkpoint's index", "bert_model.ckpt.index", _checkpoint, _read_checkpoint,
           has_checksum=True, cost=5),
    Format("checkpoint's data", "bert_model.ckpt.data-00000-of-00001", _checkpoint,
           _read_checkpoint, has_checksum=True, cost=5),
    Format("safetensors", "model.safetensors", _safetensors, _read_safetensors, _header),
    Format("index of safetensors", "model.safetensors.index.json", _sharded, _read_safetensors,
           damaged_json),
    Format("config.json", "config.json", _transformers, _read_transformers, damaged_json, cost=3),
    Format("tokenizer_config.json", "tokenizer_config.json", _transformers, _read_transformers,
           damaged_json, cost=3),
    Format("tokenizer.json", "tokenizer.json", _without_vocabulary, _read_transformers,
           damaged_json, cost=3),
    Format("record of a run", "pretraining_run.json", _run, _read_run, damaged_json),
    Format("record of a conversion", "conversion.json", _run, _read_run, damaged_json),
    Format("TSV", "train.tsv", _tsv, _read_tsv),
    Format("JSON lines", "train.jsonl", _mednli, _read_mednli, _json_lines),
    Format("CoNLL", "train.tsv", _conll, _read_conll),
    Format("canaries", "canaries.json", _canaries, _read_canaries, damaged_json),
)  # fmt: skip
