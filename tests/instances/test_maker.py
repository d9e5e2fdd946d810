"""The compiled engine against the oracle, and the oracle against Google's program."""

import dataclasses
import json
import random
import warnings

import numpy as np
import pytest

from bert_clinical.instances import kernels
from bert_clinical.instances.corpus import read_corpus
from bert_clinical.instances.maker import InstanceMaker
from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.spill import InstanceStore
from bert_clinical.instances.writer import ExampleWriter
from bert_clinical.tfrecords import encoding
from bert_clinical.tfrecords.schema import INSTANCE_IDS, instance_width, pretraining_features
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.common.errors import UsageError, UserError
from tests import reference_instances
from tests.golden_data import golden
from tests.tfrecord_files import read_examples, read_records

GOLDEN_RUNS = json.loads(golden("create_runs.json").read_text())


def settings_of(flags):
    names = {f.name for f in dataclasses.fields(InstanceSettings)}
    return InstanceSettings(**{name: value for name, value in flags.items() if name in names})


def oracle(input_files, tokenizer, settings):
    flags = reference_instances.Flags(**dataclasses.asdict(settings))
    return reference_instances.examples(input_files, tokenizer, flags)


def engine(input_files, tokenizer, settings, folder, buffer_bytes):
    """Runs the engine without files at its end; returns the examples as the oracle does."""
    typecode = settings.typecode(tokenizer.vocab)
    corpus = read_corpus(
        input_files=input_files,
        encoder=LineEncoder(tokenizer, typecode=typecode, max_cached=50),
        typecode=typecode,
    )
    maker = InstanceMaker(corpus, tokenizer.vocab, settings)
    length, predictions = settings.max_seq_length, settings.max_predictions_per_seq
    width = instance_width(length, predictions)
    examples = []
    with InstanceStore(
        width=width, dtype=typecode, folder=folder, buffer_bytes=buffer_bytes
    ) as store:
        counts = maker.make(store)
        order = maker.final_order(counts.instances)
        for instances, selection in store.in_order(order):
            examples += [as_features(row, length, predictions) for row in instances[selection]]
    assert counts.instances == len(examples)
    return corpus, counts, examples


def as_features(row, length, predictions):
    used, of_a, is_random_next, masked = row[:INSTANCE_IDS].tolist()
    ids, positions, labels = np.split(row[INSTANCE_IDS:], [length, length + predictions])
    return {
        "input_ids": ids[:used].tolist() + [0] * (length - used),
        "input_mask": [1] * used + [0] * (length - used),
        "segment_ids": [0] * of_a + [1] * (used - of_a) + [0] * (length - used),
        "masked_lm_positions": positions[:masked].tolist() + [0] * (predictions - masked),
        "masked_lm_ids": labels[:masked].tolist() + [0] * (predictions - masked),
        "masked_lm_weights": [1.0] * masked + [0.0] * (predictions - masked),
        "next_sentence_labels": [is_random_next],
    }


@pytest.mark.parametrize("name", list(GOLDEN_RUNS))
@pytest.mark.parametrize("buffer_bytes", [256 << 20, 40_000])
def test_golden_examples(name, buffer_bytes, tmp_path):
    flags = GOLDEN_RUNS[name]
    settings = settings_of(flags)
    outputs = [tmp_path / output for output in flags["output_file"].split(",")]
    ExampleWriter(
        vocab_file=golden(flags["vocab_file"]),
        do_lower_case=flags["do_lower_case"],
        settings=[settings],
        buffer_bytes=buffer_bytes,
    ).write(
        input_files=[golden(path) for path in flags["input_file"].split(",")],
        output_files={0: outputs},
    )
    for output in outputs:
        expected = read_examples(golden(output.name))
        assert len(expected) > 50
        assert read_examples(output) == expected


@pytest.mark.parametrize("name", list(GOLDEN_RUNS))
def test_oracle_gives_the_golden_examples(name):
    flags = GOLDEN_RUNS[name]
    tokenizer = FullTokenizer(golden(flags["vocab_file"]), flags["do_lower_case"])
    files = [golden(path) for path in flags["input_file"].split(",")]
    made = oracle(files, tokenizer, settings_of(flags))
    outputs = flags["output_file"].split(",")
    for number, output in enumerate(outputs):
        assert made[number :: len(outputs)] == read_examples(golden(output))


def random_vocab(rng):
    """Letters, pieces, special tokens, and at times blank, doubled or odd lines."""
    lines = ["[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    lines += rng.sample("abcdeABCDE123.,é", k=rng.randrange(2, 16))
    lines += ["##" + piece for piece in rng.sample("abcdeABCDE123é", k=rng.randrange(1, 14))]
    lines += ["".join(rng.choices("abcde", k=rng.randrange(2, 4))) for _ in range(rng.randrange(9))]
    lines += rng.choices(["", "##", "[CLS]", "a", "##b", " [MASK] ", "[PAD]"], k=rng.randrange(5))
    rng.shuffle(lines)
    return lines


def random_text(rng):
    documents = []
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        sentences = []
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            words = rng.choice([0, 1, 1, 3, 10, 60])
            sentences.append(
                " ".join(
                    "".join(rng.choices("abcdeABCDE123.,é\u0301\x00\r", k=rng.randrange(1, 8)))
                    for _ in range(words)
                )
            )
        documents.append("\n".join(sentences))
    text = rng.choice(["\n\n", "\n \t\n\n"]).join(documents)
    text += rng.choice(["", "\n", "\n\n", "\n\r"])
    # A file with carriage returns and no line feed is refused, see tests/common/test_contents.py.
    return text if "\n" in text else f"{text}\n"


def random_settings(rng):
    length = rng.choice([5, 6, 7, 13, 32, 128])
    return InstanceSettings(
        max_seq_length=length,
        max_predictions_per_seq=rng.choice([0, 1, 2, 5, 20, length, 2 * length]),
        random_seed=rng.randrange(-5, 1 << 40),
        dupe_factor=rng.choice([1, 1, 2, 5]),
        masked_lm_prob=rng.choice([0.0, 0.15, 0.5, 1.0, rng.random()]),
        short_seq_prob=rng.choice([0.0, 0.1, 0.5, 1.0]),
        do_whole_word_mask=rng.random() < 0.5,
    )


@pytest.mark.slow
def test_engine_equals_oracle_in_thousands_of_cases(tmp_path):
    seen = {"examples": 0, "truncated": 0, "spilled": 0, "words": 0, "several_files": 0}
    cases = 0
    for seed in range(3000):
        rng = random.Random(seed)
        vocab = tmp_path / "vocab.txt"
        vocab.write_text("\n".join(random_vocab(rng)), encoding="utf-8")
        files = [tmp_path / f"{number}.txt" for number in range(rng.choice([1, 1, 1, 2, 3]))]
        for path in files:
            path.write_text(random_text(rng), encoding="utf-8", newline="")
        tokenizer = FullTokenizer(vocab, do_lower_case=rng.random() < 0.5)
        settings = random_settings(rng)
        expected = oracle(files, tokenizer, settings)
        if not expected:
            continue
        buffer_bytes = rng.choice([1 << 20, 1 << 20, 3000, 1])
        corpus, counts, made = engine(files, tokenizer, settings, tmp_path, buffer_bytes)
        assert made == expected, f"seed {seed}"
        cases += 1
        seen["examples"] += len(made)
        seen["truncated"] += counts.truncated_pairs
        seen["spilled"] += buffer_bytes < 1 << 20 and len(made) > 20
        seen["words"] += corpus.words
        seen["several_files"] += len(files) > 1
    # What the cases are there for did occur.
    assert cases > 2500
    assert min(seen.values()) > 300, seen


def test_tiny_and_huge_documents(tmp_path):
    rng = random.Random(5)
    vocab = golden("vocab_cased.txt")
    tokenizer = FullTokenizer(vocab, do_lower_case=False)
    words = golden("part_b.txt").read_text().split()

    def sentence(length):
        return " ".join(rng.choices(words, k=length))

    huge_sentence = sentence(3000)
    huge_document = "\n".join(sentence(rng.randrange(1, 9)) for _ in range(3000))
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(["one", huge_sentence, "a\nb", huge_document, "I\n.\nA"]) + "\n")
    for whole_words in (False, True):
        settings = InstanceSettings(
            max_seq_length=512, max_predictions_per_seq=77, dupe_factor=3,
            do_whole_word_mask=whole_words,
        )  # fmt: skip
        made = engine([path], tokenizer, settings, tmp_path, 200_000)[2]
        assert made == oracle([path], tokenizer, settings)


def test_vocabulary_beyond_16_bits(tmp_path):
    vocab = tmp_path / "vocab.txt"
    specials = ["[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    vocab.write_text("\n".join([*(f"w{i}" for i in range(140_000)), *specials]) + "\n")
    text = tmp_path / "a.txt"
    text.write_text("\n".join(f"w{i * 4_671} w{i} x" for i in range(30)) + "\n")
    settings = InstanceSettings(max_seq_length=40, max_predictions_per_seq=6, dupe_factor=3)
    tokenizer = FullTokenizer(vocab, do_lower_case=False)
    output = tmp_path / "a.tfrecord"
    ExampleWriter(vocab_file=vocab, do_lower_case=False, settings=[settings]).write(
        input_files=[text], output_files={0: [output]}
    )
    made = read_examples(output)
    assert made == oracle([text], tokenizer, settings)
    assert max(max(example["input_ids"]) for example in made) > 1 << 16


def test_encoding_equals_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    features = pretraining_features(300, 7)
    rng = np.random.default_rng(3)
    instances = rng.integers(0, 65536, (40, instance_width(300, 7)), np.uint16)
    for row in instances:
        length = rng.integers(3, 301)
        row[:INSTANCE_IDS] = length, rng.integers(2, length), length % 2, 5
        row[INSTANCE_IDS + 300 :][:5] = sorted(rng.integers(0, length, 5))
    selection = rng.permutation(40)[:30].astype(np.int64)
    bound = encoding.framed_size_bound(300, 7, 65535)
    out = np.full(30 * bound, 255, np.uint8)
    size = encoding.encode_examples(instances, selection, 300, 7, out)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(out[:size].tobytes())
    spec = {
        name: tf.io.FixedLenFeature([length], dtype) for name, (dtype, length) in features.items()
    }
    examples = [
        {
            name: value.numpy().tolist()
            for name, value in tf.io.parse_single_example(r, spec).items()
        }
        for r in tf.data.TFRecordDataset(str(path))
    ]
    assert examples == [as_features(row, 300, 7) for row in instances[selection]]
    # Each is as long as TensorFlow itself would make it.
    for record in read_records(path):
        again = tf.train.Example.FromString(record).SerializeToString(deterministic=True)
        assert len(again) == len(record)


def test_draws_are_those_of_python():
    for seed in (0, 1, 12345, -3, 1 << 70):
        for count in (1, 2, 3, 64, 65, 5000):
            expected = list(range(count))
            random.Random(seed).shuffle(expected)
            for dtype in (np.int64, np.uint32):
                items = np.arange(count, dtype=dtype)
                kernels.shuffle(kernels.generator_state(seed), items)
                assert items.tolist() == expected


def test_generator_goes_on_where_it_was():
    generator, expected = kernels.generator_state(7), random.Random(7)
    for count in (1000, 3, 500):
        items, wanted = np.arange(count), list(range(count))
        kernels.shuffle(generator, items)
        expected.shuffle(wanted)
        assert items.tolist() == wanted
    assert tuple(generator.tolist()) == expected.getstate()[1]


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_masking_rates(rate, tmp_path):
    tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
    settings = InstanceSettings(
        max_seq_length=37, max_predictions_per_seq=37, masked_lm_prob=rate, dupe_factor=1
    )
    examples = engine([golden("part_b.txt")], tokenizer, settings, tmp_path, 1 << 20)[2]
    for example in examples:
        length, masked = sum(example["input_mask"]), sum(example["masked_lm_weights"])
        # All but [CLS] and the two [SEP], or the one that is always masked.
        assert masked == (length - 3 if rate else 1)


def test_shuffled_store_gives_every_instance_once(tmp_path):
    rng = np.random.default_rng(0)
    for rows, buffer_rows in ((1, 4), (4, 4), (5, 4), (1000, 7), (1000, 1000), (9000, 8500)):
        with InstanceStore(
            width=3, dtype=np.uint16, folder=tmp_path, buffer_bytes=buffer_rows * 6
        ) as store:
            values = rng.integers(0, 65536, (rows, 3)).astype(np.uint16)
            done = 0
            while done < rows:
                free = store.free_rows()
                count = min(len(free), rows - done, int(rng.integers(1, 50)))
                free[:count] = values[done : done + count]
                store.add(count)
                done += count
            assert len(store) == rows
            order = rng.permutation(rows).astype(np.uint32)
            found = [instances[selection] for instances, selection in store.in_order(order)]
        assert np.array_equal(np.concatenate(found), values[order])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("max_seq_length", 4),
        ("max_predictions_per_seq", -1),
        ("dupe_factor", -1),
        ("masked_lm_prob", 1.01),
        ("masked_lm_prob", -0.1),
        ("short_seq_prob", float("nan")),
    ],
)
def test_settings_without_meaning(flag, value):
    with pytest.raises(UsageError, match=f"--{flag} is "):
        dataclasses.replace(InstanceSettings(), **{flag: value}).require_valid()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_reading(name, tmp_path):
    import gzip
    import hashlib

    text = "one two\r\n\r\n\x1c\nthree\x0bfour\x85five\u2028six  \n\x00\n\ufeff\nseven"
    opener = gzip.open if name.endswith(".gz") else open
    path = tmp_path / name
    with opener(path, "wb") as stream:
        stream.write(text.encode())
    tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
    reported = []
    corpus = read_corpus(
        input_files=[path],
        encoder=LineEncoder(tokenizer, typecode="H"),
        typecode="H",
        advance=lambda *counts: reported.append(counts),
    )
    # Only \n ends a line; white space and file separators alone are a blank line, but lines
    # of dropped characters are not.
    assert (corpus.documents, corpus.sentences) == (2, 3)
    assert corpus.sha256 == (hashlib.sha256(path.read_bytes()).hexdigest(),)
    assert np.sum(reported, axis=0).tolist() == [path.stat().st_size, corpus.words]


def test_documents_go_on_across_files(tmp_path):
    for name, text in (("a", "one\n"), ("b", "two"), ("c", ""), ("d", "\nthree\n\n")):
        (tmp_path / name).write_text(text)
    tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
    corpus = read_corpus(
        input_files=[tmp_path / name for name in "abcd"],
        encoder=LineEncoder(tokenizer, typecode="H"),
        typecode="H",
    )
    assert corpus.document_starts.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.txt", b"fine\nb\xe9d\n", r"a\.txt, line 2: not UTF-8"),
        ("a.txt.gz", b"\x1f\x8b\x08", r"a\.txt\.gz: the gzip file is cut short or corrupt"),
    ],
)
def test_text_that_cannot_be_read(name, content, what, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
    with pytest.raises(UserError, match=what) as failure:
        read_corpus(input_files=[path], encoder=LineEncoder(tokenizer), typecode="I")
    assert failure.value.__cause__ is None


def test_compiles_where_nothing_can_be_kept(monkeypatch, tmp_path):
    from data_prep.common import compiled

    def njit(**options):
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled.numba, "njit", njit)
    assert compiled.compiled(len) is len


def test_no_warning_is_raised_by_the_kernels(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
        engine([golden("part_a.txt")], tokenizer, InstanceSettings(dupe_factor=1), tmp_path, 9999)
