"""Readers, encoding and batches of the fine-tuning tasks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.tasks import classification as classification_data
from bert_clinical.tasks import entities as ner_data
from bert_clinical.tasks.classification import ClassificationExample
from bert_clinical.tasks.data import (
    NO_LABEL,
    Encoded,
    batch_of,
    find_data_file,
    training_order,
)
from bert_clinical.tasks.entities import Sentence
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.errors import UserError
from tests.golden_data import golden

PLANTED = "Quixzandorph"
TSV = Path("train.tsv")


@pytest.fixture(scope="module")
def tokenizer() -> FullTokenizer:
    return FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)


@pytest.fixture(scope="module")
def encoder(tokenizer: FullTokenizer) -> TextEncoder:
    return TextEncoder(tokenizer)


def row(**changes: object) -> str:
    value = {"sentence1": f"a {PLANTED}", "sentence2": "b", "gold_label": "neutral", "pairID": "p7"}
    return json.dumps({**value, **changes})


def write(tmp_path: Path, text: str | bytes, name: str = "train.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_mednli_rows(tmp_path: Path) -> None:
    path = write(tmp_path, row() + "\n\n" + row(gold_label=None, pairID=9) + "\n")
    with pytest.raises(UserError, match="line 3: has no label"):
        classification_data.read_examples("mednli", path, labelled=True)
    path = write(tmp_path, row() + "\r\n" + row(sentence2="µg é", pairID=9))
    first, second = classification_data.read_examples("mednli", path, labelled=True)
    assert (first.guid, first.text_b, first.label, first.line) == ("p7", "b", "neutral", 1)
    assert (second.guid, second.text_b, second.line) == ("9", "µg é", 2)
    assert PLANTED not in repr(first)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "holds no example"),
        (row() + "\n{" + PLANTED, "line 2: broken JSON"),
        (f'"{PLANTED}"', "line 1: not a JSON object"),
        (row(sentence1=None), "line 1: sentence1 is missing"),
        (row() + "\n" + row(sentence2="  "), "line 2: sentence2 is missing, empty"),
        (row(gold_label=PLANTED), "line 1: gold_label is none of contradiction"),
        (row().encode() + b"\n\xff", "line 2: not UTF-8"),
        (row() + "\n" + row(pairID="a\tb"), "line 2: pairID holds a tab"),
        (row(pairID="a\nb"), "line 1: pairID holds a tab or a line break"),
        (row(pairID=["a"]), "line 1: pairID"),
    ],
)
def test_bad_mednli_rows(tmp_path: Path, text: str | bytes, fragment: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        classification_data.read_examples("mednli", path, labelled=True)
    assert fragment in str(caught.value)
    assert PLANTED not in str(caught.value).replace(str(tmp_path), "")
    assert str(path) in str(caught.value)


def test_tsv_of_one_and_of_two_sentences(tmp_path: Path) -> None:
    text = 'label\tid\tsentence1\nyes\tr1\ta "quoted word\nno\tr2\tb\n'
    one = classification_data.read_examples("tsv", write(tmp_path, text), labelled=True)
    assert [(e.guid, e.text_a, e.text_b, e.label) for e in one] == [
        ("r1", 'a "quoted word', None, "yes"),
        ("r2", "b", None, "no"),
    ]
    assert classification_data.labels_of("tsv", one, TSV) == ["no", "yes"]
    text = "id\tsentence1\tlabel\n\ta\tyes\n"
    (without,) = classification_data.read_examples("tsv", write(tmp_path, text), labelled=True)
    assert without.guid == "2"
    text = "\ufeffSentence1\tSentence2\r\na\tb\r\n"
    two = classification_data.read_examples("tsv", write(tmp_path, text), labelled=False)
    assert [(e.guid, e.text_a, e.text_b, e.label) for e in two] == [("2", "a", "b", None)]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "line 1: names no column sentence1"),
        (f"{PLANTED}\tx\n", "line 1: names no column sentence1"),
        ("sentence1\tlabel\n", "holds no example"),
        (f"sentence1\tlabel\n{PLANTED}\ta\tb\n", "line 2: 3 tab-separated fields, expected 2"),
        ("sentence1\tlabel\nx\ta\n \ta\n", "line 3: sentence1 is empty"),
        (f"sentence1\tlabel\nx\ta\n{PLANTED}\t\n", "line 3: has no label"),
        (f"sentence1\n{PLANTED}\n", "line 1: names no column label"),
        ("sentence1\tLabel\tlabel\nx\ta\tb\n", "line 1: names 2 columns label"),
        (
            f"id\tsentence1\tlabel\na\u2028{PLANTED}\tx\ta\n",
            "line 2: id holds a tab or a line break",
        ),
    ],
)
def test_bad_tsv(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        classification_data.read_examples("tsv", write(tmp_path, text), labelled=True)
    assert fragment in str(caught.value)
    assert PLANTED not in str(caught.value).replace(str(tmp_path), "")


def test_some_labels_are_a_mistake_where_none_are_needed(tmp_path: Path) -> None:
    path = write(tmp_path, "sentence1\tlabel\nx\t\ny\ta\n")
    with pytest.raises(UserError, match="line 2: has no label"):
        classification_data.read_examples("tsv", path, labelled=False)


def test_labels_that_cannot_be() -> None:
    def examples(*labels: str) -> list[ClassificationExample]:
        return [ClassificationExample("1", "a", None, label, 5) for label in labels]

    with pytest.raises(UserError, match="1 different values"):
        classification_data.labels_of("tsv", examples("a", "a"), TSV)
    with pytest.raises(UserError, match="1,001 different values"):
        classification_data.labels_of("tsv", examples(*map(str, range(1001))), TSV)
    with pytest.raises(
        UserError, match=r"train\.tsv: the column label .* more than 100 char"
    ) as long:
        classification_data.labels_of("tsv", examples("a", f"{PLANTED} " * 9), TSV)
    assert PLANTED not in str(long.value)
    with pytest.raises(UserError, match="holds 11 different values in 21 places; expected names"):
        classification_data.labels_of("tsv", examples(*"abcdefghijkabcdefghij"), TSV)
    assert len(classification_data.labels_of("tsv", examples(*"abcdefghijk" * 2), TSV)) == 11
    assert len(classification_data.labels_of("tsv", examples(*"abcdefghij"), TSV)) == 10
    with pytest.raises(UserError, match="line 5: its label is none of the 2") as caught:
        classification_data.require_known_labels(examples(PLANTED), ["a", "b"], Path("dev.tsv"))
    assert PLANTED not in str(caught.value)


def google_pair(first: list[str], second: list[str], max_seq_length: int) -> list[str]:
    """What Google's program makes of two tokenized sentences, in the plainest way."""
    first, second = list(first), list(second)
    while second and len(first) + len(second) > max_seq_length - 3:
        if len(first) > len(second):
            first.pop()
        else:
            second.pop()
    if not second:
        return ["[CLS]", *first[: max_seq_length - 2], "[SEP]"]
    return ["[CLS]", *first, "[SEP]", *second, "[SEP]"]


def test_encoding_is_googles(tokenizer: FullTokenizer, encoder: TextEncoder) -> None:
    rng = random.Random(3)
    words = ["pain", "fever", "Name3", "haemoptysis", "µg", "[SEP]", "é", "(chest)", PLANTED]
    examples = []
    for index in range(200):
        texts = [" ".join(rng.choices(words, k=rng.randint(1, 7))) for _ in range(2)]
        second = texts[1] if index % 3 else None
        examples.append(ClassificationExample("1", texts[0], second, "a", 1))
    encoded = classification_data.encode_examples(examples, encoder, {"a": 4}, 13)
    for example, inputs in zip(examples, encoded, strict=True):
        tokens = google_pair(
            tokenizer.tokenize(example.text_a), tokenizer.tokenize(example.text_b or ""), 13
        )
        assert inputs.input_ids == tokenizer.convert_tokens_to_ids(tokens)
        first = tokens.index("[SEP]") + 1
        assert inputs.segment_ids == [0] * first + [1] * (len(tokens) - first)
        assert inputs.label_ids == [4]
    assert {len(inputs) for inputs in encoded} >= {13}


def test_training_order_shows_every_example_once_a_pass() -> None:
    steps = list(training_order(7, 3, 7, seed=5))
    assert [len(step) for step in steps] == [3] * 7
    stream = np.concatenate(steps)
    passes = stream[:21].reshape(3, 7)
    for one in passes:
        assert sorted(one) == list(range(7))
    assert not np.array_equal(passes[0], passes[1])
    again = np.concatenate(list(training_order(7, 3, 7, seed=5)))
    assert np.array_equal(stream, again)
    assert not np.array_equal(stream, np.concatenate(list(training_order(7, 3, 7, seed=6))))


def test_a_batch_larger_than_the_data_goes_into_the_next_pass() -> None:
    (step,) = training_order(3, 5, 1, seed=0)
    assert sorted(step[:3]) == [0, 1, 2]
    assert len(step) == 5


def test_batches_are_padded() -> None:
    examples = [Encoded([2, 7, 3], [0, 0, 1], [5, 6, 7]), Encoded([2], [0], [5])]
    batch = batch_of(examples, per_token=True)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 0, 0]]
    assert batch["input_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch["label_ids"].tolist() == [[5, 6, 7], [5, NO_LABEL, NO_LABEL]]
    assert batch_of(examples, per_token=False)["label_ids"].tolist() == [5, 5]
    wide = batch_of(examples, per_token=True, length=5, pad_label=0)
    assert wide["label_ids"].tolist() == [[5, 6, 7, 0, 0], [5, 0, 0, 0, 0]]
    assert {value.dtype for value in wide.values()} == {np.dtype(np.int32)}


def test_finding_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        find_data_file(tmp_path / "none", ["a"], "train")
    with pytest.raises(UserError, match="named a or b"):
        find_data_file(tmp_path, ["a", "b"], "train")
    (tmp_path / "b").touch()
    assert find_data_file(tmp_path, ["a", "b"], "train") == tmp_path / "b"
    (tmp_path / "a").touch()
    with pytest.raises(UserError, match="holds a and b"):
        find_data_file(tmp_path, ["a", "b"], "train")


def test_conll_keeps_the_last_sentence_and_line_numbers(tmp_path: Path) -> None:
    text = "\n\nThe O\npain\tNN  B-problem\n  \n\n. O"
    first, last = ner_data.read_sentences(write(tmp_path, text), labelled=True)
    assert first == Sentence(("The", "pain"), ("O", "B-problem"), (3, 4))
    assert last == Sentence((".",), ("O",), (7,))
    assert "pain" not in repr(first)
    predicted = [["B-x", "I-x"], ["O"]]
    assert ner_data.aligned_lines([first, last], predicted) == [
        "", "", "B-x", "I-x", "", "", "O",
    ]  # fmt: skip


def test_conll_of_words_alone(tmp_path: Path) -> None:
    (sentence,) = ner_data.read_sentences(write(tmp_path, "a\nb\n"), labelled=False)
    assert sentence == Sentence(("a", "b"), None, (1, 2))


@pytest.mark.parametrize(
    ("text", "words", "count"),
    [
        ("chest pain\tB-x\nof\tO\n", ("chest pain", "of"), 1),
        ("chest pain B-x\nof O\n", ("chest pain", "of"), 1),
        ("5\u00a0mg O\nx B-x\n", ("5\u00a0mg", "x"), 1),
        ("EU NNP B-NP B-x\nnow RB O O\n", ("EU", "now"), 0),
        ("New York NNP B-NP B-x\nnow RB O O\n", ("New York", "now"), 1),
        ("chest pain\tNN B-x\n.\t. O\n", ("chest pain", "."), 1),
    ],
)
def test_a_word_with_white_space_is_read_whole_and_counted(
    text: str, words: tuple[str, ...], count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (sentence,) = ner_data.read_sentences(write(tmp_path, text), labelled=True)
    assert sentence.words == words
    said = f"{count} words hold white space; each is read whole" in caplog.text
    assert said == (count > 0)
    assert "pain" not in caplog.text


def test_words_alone_with_white_space(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path, "a\nHepatitis B\nchest pain\nb\n")
    (sentence,) = ner_data.read_sentences(path, labelled=False)
    assert sentence == Sentence(("a", "Hepatitis B", "chest pain", "b"), None, (1, 2, 3, 4))
    assert "2 words hold white space" in caplog.text


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (f"a O\nb O\n{PLANTED}\n", "line 3: its last column is no BIO label"),
        (f"a\nb\n\n{PLANTED}\tB-x\n", "line 4: found 2 columns, where most lines hold a word"),
        (f"{PLANTED} o\npain b-x\n.\n", "2 of 3 lines hold several columns, of which the last is"),
    ],
)
def test_the_line_that_differs_is_named(text: str, fragment: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ner_data.read_sentences(write(tmp_path, text), labelled=False)
    assert fragment in str(caught.value)
    assert PLANTED not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("types", "fragment"),
    [
        (
            [f"t{n}" for n in range(1001)] * 3,
            "holds 1,001 types of entities, expected no more than",
        ),
        (["x" * 101], "types of entities of more than 100 characters"),
        (
            [f"{PLANTED}{n}" for n in range(11)],
            "11 types of entities in 11 places; expected names",
        ),
    ],
)
def test_types_are_names(types: list[str], fragment: str, tmp_path: Path) -> None:
    labels = tuple(f"B-{kind}" for kind in types)
    sentence = Sentence(("pain",) * len(labels), labels, tuple(range(1, len(labels) + 1)))
    with pytest.raises(UserError) as caught:
        ner_data.labels_of([sentence], tmp_path)
    assert fragment in str(caught.value)
    assert PLANTED not in str(caught.value)


def test_starts_of_documents_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    text = "-DOCSTART- -X- -X- O\n\na O\n-DOCSTART-\tO\nb B-x\n-DOCSTART-\n"
    first, second = ner_data.read_sentences(write(tmp_path, text), labelled=True)
    assert first == Sentence(("a",), ("O",), (3,))
    assert second == Sentence(("b",), ("B-x",), (5,))
    assert "3 lines of -DOCSTART- are left out" in caplog.text


def test_other_labels_are_read_as_bio_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    text = "acute\tB-a\nrenal\tI-a\nfailure\tE-a\n\npain\tS-a\n.\tO\n"
    first, second = ner_data.read_sentences(write(tmp_path, text), labelled=True)
    assert (first.labels, second.labels) == (("B-a", "I-a", "I-a"), ("B-a", "O"))
    assert "its labels are BIOES; they are read as BIO" in caplog.text


@pytest.mark.parametrize("name", ["dev.tsv", "devel.conll", "valid.txt"])
def test_names_of_dev_data(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert ner_data.data_file(tmp_path, "dev") == tmp_path / name


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("\n \n", "holds no sentence"),
        ("-DOCSTART- O\n", "holds no sentence"),
        (f"a O\n{PLANTED}\n", "line 2: its last column is no BIO label"),
        (f"a O\nO {PLANTED}\n", "line 2: its last column is no BIO label"),
        ("a X-problem\n", "line 1: its last column is no BIO label"),
        ("a O\n\tB-x\n", "line 2: its last column is no BIO label, or no word stands before it"),
        ("a B-\n", "line 1: its last column is no BIO label"),
        (b"a O\n\xff O\n", "line 2: not UTF-8"),
    ],
)
def test_bad_conll(tmp_path: Path, text: str | bytes, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        ner_data.read_sentences(write(tmp_path, text), labelled=True)
    assert fragment in str(caught.value)
    assert PLANTED not in str(caught.value).replace(str(tmp_path), "")


def test_ner_labels() -> None:
    sentence = Sentence(("a", "b"), ("I-x", "B-LOCATION-OTHER"), (1, 2))
    labels = ner_data.labels_of([sentence], TSV)
    assert labels == ["O", "B-LOCATION-OTHER", "I-LOCATION-OTHER", "B-x", "I-x"]
    assert ner_data.published_labels(["O", "B", "I"]) == [
        "[PAD]", "O", "B", "I", "X", "[CLS]", "[SEP]",
    ]  # fmt: skip
    with pytest.raises(UserError, match="all words are labelled O"):
        ner_data.labels_of([Sentence(("a",), ("O",), (1,))], TSV)


WORDS = ("pain", "haemoptysis", "\u200b", "fever", PLANTED, "of")
LABELS = ("B-p", "I-p", "O", "B-p", "O", "O")


def test_windows_lose_no_word(tokenizer: FullTokenizer, encoder: TextEncoder) -> None:
    sentences = [
        Sentence(WORDS, LABELS, tuple(range(6))),
        Sentence(("of",), ("B-unknown",), (8,)),
        Sentence(WORDS * 7, None, tuple(range(10, 52))),
    ]
    ids = {"O": 0, "B-p": 1, "I-p": 2}
    pieces = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(w)) for w in WORDS]
    assert [bool(p) for p in pieces] == [True, True, False, True, True, True]
    longest = max(map(len, pieces))
    for length in (3, 4, longest + 2, 17, 512):
        windows = ner_data.encode_windows(sentences, encoder, ids, length)
        seen = [(w.sentence, word) for w in windows for word, _ in w.places]
        assert seen == [(s, i) for s, n in ((0, 6), (1, 1), (2, 42)) for i in range(n)]
        for window in windows:
            inputs = window.encoded
            assert len(inputs) <= length
            assert len(inputs.input_ids) == len(inputs.label_ids) == len(inputs.segment_ids)
            assert (inputs.input_ids[0], inputs.input_ids[-1]) == (encoder.cls_id, encoder.sep_id)
            labelled = {place for place, label in enumerate(inputs.label_ids) if label >= 0}
            expected = {place for _, place in window.places} if window.sentence == 0 else set()
            assert labelled == expected
            for word, place in window.places:
                words = sentences[window.sentence].words
                first = pieces[WORDS.index(words[word])][:1] or [encoder.unk_id]
                assert inputs.input_ids[place] == first[0]
                if window.sentence == 0:
                    assert inputs.label_ids[place] == ids[LABELS[word]]
        if length == 512:
            whole = [id_ for p in pieces for id_ in p or [encoder.unk_id]]
            assert windows[0].encoded.input_ids[1:-1] == whole


def test_published_encoding_is_the_originals(tokenizer: FullTokenizer) -> None:
    encoder = TextEncoder(tokenizer)
    words, labels = ("pain", "haemoptysis", "of", "haemoptysis"), ("B-p", "I-p", "O", "O")
    classes = ner_data.published_labels(["O", "B-p", "I-p"])
    ids = {name: number for number, name in enumerate(classes)}
    pieces = [tokenizer.tokenize(word) for word in words]
    tokens = [piece for word in pieces for piece in word]
    names = [
        label if place == 0 else "X"
        for word, label in zip(pieces, labels, strict=True)
        for place in range(len(word))
    ]
    for length in range(4, len(tokens) + 5):
        (window,) = ner_data.encode_as_published(
            [Sentence(words, labels, (1, 2, 3, 4))], encoder, ids, length
        )
        kept = tokens[: length - 2] if len(tokens) >= length - 1 else tokens
        expected = ["[CLS]", *kept, "[SEP]"]
        assert window.encoded.input_ids == tokenizer.convert_tokens_to_ids(expected)
        assert [classes[i] for i in window.encoded.label_ids] == [
            "[CLS]", *names[: len(kept)], "[SEP]",
        ]  # fmt: skip
        whole = [i for i in range(4) if sum(map(len, pieces[: i + 1])) <= len(kept)]
        assert [word for word, _ in window.places] == whole


def test_predictions_go_back_to_words(encoder: TextEncoder) -> None:
    sentences = [Sentence(WORDS, LABELS, tuple(range(6)))]
    classes = ner_data.published_labels(["O", "B-p", "I-p"])
    windows = ner_data.encode_windows(sentences, encoder, {}, 8)
    wanted = ["B-p", "X", "[PAD]", "I-p", "O", "[SEP]"]
    logits = []
    for window in windows:
        # Whatever is no word's first WordPiece says B-p, and must not be heard.
        values = np.tile(np.eye(len(classes))[classes.index("B-p")], (len(window.encoded), 1))
        for word, place in window.places:
            values[place] = np.eye(len(classes))[classes.index(wanted[word])]
        logits.append(values)
    assert ner_data.word_labels(sentences, windows, logits, classes) == [
        ["B-p", "O", "O", "I-p", "O", "O"]
    ]
