"""Sentences of clinical text as the original finds them: by a spaCy model's parser."""

from __future__ import annotations

import contextlib
import gc
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import spacy
from spacy.attrs import IDX, LENGTH, ORTH, SENT_START
from spacy.vectors import Vectors
from threadpoolctl import ThreadpoolController

from data_prep.program import UserError, one_line
from data_prep.sentence_lines import sentence_lines
from data_prep.steady_math import make_steady

_SCISPACY_MODEL = "en_core_sci_md"
_INSTALL_SCISPACY_MODEL = (
    "pip install --no-deps https://s3-us-west-2.amazonaws.com/ai2-s2-scispacy/releases/v0.5.4/"
    "en_core_sci_md-0.5.4.tar.gz"
)

# Sentences do not depend on these. Whatever else a model has stays.
_NOT_NEEDED = (
    "tagger", "ner", "attribute_ruler", "lemmatizer", "morphologizer", "entity_ruler",
    "entity_linker", "textcat", "textcat_multilabel",
)  # fmt: skip

_DEIDENTIFIED = re.compile(r"\[\*\*.{0,15}.*?\*\*\]")

# Characters. The longest note of MIMIC-III has 55,725.
_LONGEST_PARSE = 100_000
_TOKENS_PER_BATCH = 1_500
_CACHED_CHARACTERS = 16_000_000
_NEW_STRINGS_PER_ZONE = 200_000


class SpacySplitter:
    """Splits sections as the original workflow does, in batches.

    Each section is parsed on its own, after sentence starts were set at a title-case token that
    follows a `.` and at a token after a `-`. Then each `[**...**]` is merged into one token, which
    removes the sentence breaks inside it.

    Args:
      model: name of an installed spaCy model, or the path of one.

    Raises:
      UserError: the model is not installed, cannot be loaded or has no parser.

    Source: clinicalBERT, `lm_pretraining/format_mimic_for_BERT.py`.
    Differs: a section of more than 100,000 characters is parsed in parts, cut at line ends (the
      original cannot parse more than a million and drops the note); see also `sentence_lines`.
    """

    def __init__(self, model: str) -> None:
        self._nlp = _load(model)
        for _, component in self._nlp.pipeline:
            if hasattr(component, "model"):
                make_steady(component.model)
        self._threads = ThreadpoolController()
        self._cache = _SentenceCache(_CACHED_CHARACTERS)
        strings = self._nlp.vocab.strings
        self._full_stop = strings.add(".")
        self._hyphen = strings.add("-")
        # Set as `_vectors`: setting `vectors` would add all of their strings again each time.
        self._no_vectors = Vectors(strings=strings)
        self._zone = contextlib.ExitStack()
        # The first zone begins late: within one the tokenizer keeps nothing that it has learnt.
        self._strings_at_zone_start = len(strings)

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of what decides the sentences, for a manifest."""
        meta = self._nlp.meta
        return {
            "sentence_splitter": "spacy",
            "spacy_model": f"{meta['lang']}_{meta['name']}",
            "spacy_model_version": meta["version"],
            "spacy_version": spacy.__version__,
        }

    def split(self, sections: Sequence[str]) -> list[list[str]]:
        """Returns each section's sentences as they are written, one a line."""
        answers = {}
        parts = {}
        for section in sections:
            if section in answers or section in parts:
                continue
            known = self._cache.get(section)
            if known is not None:
                answers[section] = known
            else:
                parts[section] = list(_parseable_parts(section))
        if parts:
            sentences = self._split_parts([part for some in parts.values() for part in some])
            for section, its_parts in parts.items():
                answer = [sentence for _ in its_parts for sentence in next(sentences)]
                answers[section] = answer
                self._cache.put(section, answer)
        return [list(answers[section]) for section in sections]

    def _split_parts(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Yields the sentences of each text."""
        self._renew_zone()
        # One thread: more help little at this size, and would fight those of other workers.
        with self._threads.limit(limits=1, user_api="blas"), _collector_paused():
            docs = [self._nlp.make_doc(text) for text in texts]
            by_length = sorted((doc for doc in docs if len(doc) > 1), key=len)
            for batch in _batches(by_length):
                self._parse(batch)
            with self._vectors_aside():
                return iter([sentence_lines(_sentences(doc)) for doc in docs])

    @contextlib.contextmanager
    def _vectors_aside(self) -> Iterator[None]:
        """Else merging would add a vector to the model for each de-identified span, for ever."""
        vocab = self._nlp.vocab
        vectors = vocab._vectors
        vocab._vectors = self._no_vectors
        try:
            yield
        finally:
            vocab._vectors = vectors

    def _parse(self, docs: Sequence[Any]) -> None:
        for name, component in self._nlp.pipeline:
            if name == "parser":
                for doc in docs:
                    self._start_sentences(doc)
            if hasattr(component, "pipe"):
                # spaCy's parser takes a quarter of the batch size at a time.
                list(component.pipe(docs, batch_size=4 * len(docs)))
            else:
                for doc in docs:
                    component(doc)

    def _start_sentences(self, doc: Any) -> None:
        orths = doc.to_array(ORTH)[:-2]
        for i in np.flatnonzero((orths == self._full_stop) | (orths == self._hyphen)).tolist():
            following = doc[i + 1]
            if following.is_title if orths[i] == self._full_stop else following.text != "-":
                following.is_sent_start = True

    def _renew_zone(self) -> None:
        """Forgets the words of earlier texts, once there are many; their strings never die else."""
        strings = self._nlp.vocab.strings
        if len(strings) - self._strings_at_zone_start >= _NEW_STRINGS_PER_ZONE:
            self._zone.close()
            self._strings_at_zone_start = len(strings)
            self._zone.enter_context(self._nlp.memory_zone())


class _SentenceCache:
    """Remembers the sentences of the sections asked for last. Archives repeat themselves.

    Args:
      characters: how many to keep, of sections and sentences together.
    """

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._entries: OrderedDict[str, list[str]] = OrderedDict()

    def get(self, section: str) -> list[str] | None:
        sentences = self._entries.get(section)
        if sentences is not None:
            self._entries.move_to_end(section)
        return sentences

    def put(self, section: str, sentences: list[str]) -> None:
        self._entries[section] = sentences
        self._left -= 2 * len(section)
        while self._left < 0:
            oldest, _ = self._entries.popitem(last=False)
            self._left += 2 * len(oldest)


def _load(model: str) -> Any:
    try:
        nlp = spacy.load(model, exclude=_NOT_NEEDED)
    except OSError as error:
        raise UserError(_missing_model_message(model, error)) from None
    except Exception as error:  # noqa: BLE001
        # No note has been read yet, so the message cannot quote one.
        raise UserError(
            f"--spacy_model: {model} cannot be loaded ({type(error).__name__}: "
            f"{one_line(str(error))[:200]}); install it again, for spaCy {spacy.__version__}"
        ) from None
    if "parser" not in nlp.pipe_names:
        raise UserError(
            f"--spacy_model: {model} has no parser, which finds the sentences; expected a model "
            f"with one, like {_SCISPACY_MODEL}, or use --sentence_splitter=rules"
        )
    return nlp


def _missing_model_message(model: str, error: OSError) -> str:
    if "E050" not in str(error):
        return f"--spacy_model: {model} is not a complete spaCy model; install it again"
    if model == _SCISPACY_MODEL:
        return (
            f"--spacy_model: {model} is not installed; install AI2's with"
            f" `{_INSTALL_SCISPACY_MODEL}` and never by its name, as the package of that name"
            " on PyPI (999.9.9) is not AI2's;"
            " or use --sentence_splitter=rules, which needs no model"
        )
    return (
        f"--spacy_model: {model} is neither an installed spaCy model nor the folder of one; the"
        f" original's is {_SCISPACY_MODEL}, installed with `{_INSTALL_SCISPACY_MODEL}` (the package"
        " of that name on PyPI is not AI2's); or use --sentence_splitter=rules"
    )


def _parseable_parts(section: str) -> Iterator[str]:
    """Yields a section in parts that can be parsed, as a rule the whole one; nothing if blank."""
    start = 0
    while len(section) - start > _LONGEST_PARSE:
        limit = start + _LONGEST_PARSE
        end = section.rfind("\n", start, limit) + 1 or section.rfind(" ", start, limit) + 1
        end = end or limit
        yield section[start:end]
        start = end
    if not section[start:].isspace():
        yield section[start:]


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsing makes many objects and no cycles; looking for these takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _batches(docs: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    tokens = 0
    for doc in docs:
        if batch and tokens + len(doc) > _TOKENS_PER_BATCH:
            yield batch
            batch, tokens = [], 0
        batch.append(doc)
        tokens += len(doc)
    if batch:
        yield batch


def _sentences(doc: Any) -> list[str]:
    """Returns the sentences of a parsed document, after merging its de-identified spans."""
    text = doc.text
    if "[**" in text and len(doc) > 1:
        doc.tensor = np.zeros((0, 0), np.float32)
        for match in _DEIDENTIFIED.finditer(text):
            span = doc.char_span(*match.span())
            if span is not None and len(span) > 1:
                with doc.retokenize() as retokenizer:
                    retokenizer.merge(span)
    if not len(doc):
        return []
    starts_sentence, offset, length = doc.to_array([SENT_START, IDX, LENGTH]).T.astype(np.int64)
    starts = np.flatnonzero(starts_sentence == 1)
    starts = np.concatenate([[0], starts[starts > 0]])
    lasts = np.append(starts[1:], len(doc)) - 1
    ends = offset[lasts] + length[lasts]
    return [text[i:j] for i, j in zip(offset[starts].tolist(), ends.tolist(), strict=True)]
