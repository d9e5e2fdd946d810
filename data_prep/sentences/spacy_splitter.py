"""Sentences of clinical text as the original finds them: by a spaCy model's parser."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import spacy
from threadpoolctl import ThreadpoolController

from data_prep.common.errors import UserError, one_line
from data_prep.sentences.compiled.parser import UnknownParserError
from data_prep.sentences.compiled.sentences import CompiledSentences
from data_prep.sentences.lines import sentence_lines
from data_prep.sentences.spacy_pipeline import PipelineSentences

_log = logging.getLogger(__name__)

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

# Characters. The longest note of MIMIC-III has 55,725.
_LONGEST_PARSE = 100_000
_LONG_RUN = re.compile(r"(?:[^\w\s]|_){256}")
_CACHED_CHARACTERS = 16_000_000
_NEW_STRINGS_PER_ZONE = 200_000


class SpacySplitter:
    """Splits sections as the original workflow does, in batches.

    Each section is parsed on its own, after sentence starts were set at a title-case token that
    follows a `.` and at a token after a `-`. Then each `[**...**]` is merged into one token, which
    removes the sentence breaks inside it.

    Args:
      model: name of an installed spaCy model, or the path of one.
      as_published: write sentences of white space alone too; see `sentence_lines`.

    Raises:
      UserError: the model is not installed, cannot be loaded or has neither parser nor senter.

    Source: clinicalBERT, `lm_pretraining/format_mimic_for_BERT.py`.
    Differs: a section of more than 100,000 characters is parsed in parts, cut at line ends (the
      original cannot parse more than a million and drops the note), and so is one with 256 signs in
      a row, for which spaCy's tokenizer takes quadratic time; see also `sentence_lines`.
    """

    def __init__(self, model: str, *, as_published: bool = False) -> None:
        self._as_published = as_published
        self._nlp = _load(model)
        self._sentences = _sentences_of(self._nlp)
        self._threads = ThreadpoolController()
        self._cache = _SentenceCache(_CACHED_CHARACTERS)
        self._zone = contextlib.ExitStack()
        # The first zone begins late: within one the tokenizer keeps nothing that it has learnt.
        self._strings_at_zone_start = len(self._nlp.vocab.strings)

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

    @property
    def is_compiled(self) -> bool:
        """Whether the model is one whose parser is computed by compiled code, the fast way."""
        return isinstance(self._sentences, CompiledSentences)

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
                parts[section] = list(self._parts_to_parse(section))
        if parts:
            sentences = self._split_parts([part for some in parts.values() for part in some])
            for section, its_parts in parts.items():
                answer = [sentence for _ in its_parts for sentence in next(sentences)]
                answers[section] = answer
                self._cache.put(section, answer)
        return [list(answers[section]) for section in sections]

    def _parts_to_parse(self, section: str) -> Iterator[str]:
        """Yields a section in parts that can be parsed, as a rule the whole one."""
        for part in _parseable_parts(section):
            if self._as_published or not part.isspace():
                yield part

    def _split_parts(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Yields the sentences of each text."""
        self._renew_zone()
        # One thread: more help little at this size, and would fight those of other workers.
        with self._threads.limit(limits=1, user_api="blas"), _collector_paused():
            return iter(
                [
                    sentence_lines(some, as_published=self._as_published)
                    for some in self._sentences.split(texts)
                ]
            )

    def _renew_zone(self) -> None:
        """Forgets the words of earlier texts once there are many; spaCy would keep them all."""
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
    if "parser" in nlp.pipe_names:
        return nlp
    if "senter" not in nlp.pipe_names:
        raise UserError(
            f"--spacy_model: {model} has no parser or senter, one of which finds the sentences; "
            f"expected a model with one, like {_SCISPACY_MODEL}, or use --sentence_splitter=rules"
        )
    _log.warning(
        "--spacy_model: %s has a senter and no parser; the published sentences need the parser of "
        "%s",
        model,
        _SCISPACY_MODEL,
    )
    return nlp


def _sentences_of(nlp: Any) -> CompiledSentences | PipelineSentences:
    if "parser" not in nlp.pipe_names:
        return PipelineSentences(nlp)
    try:
        return CompiledSentences(nlp)
    except UnknownParserError:
        _log.info(
            "The spaCy model has parts that the compiled parser does not know: spaCy's own code "
            "finds the same sentences, at a ninth of the speed"
        )
        return PipelineSentences(nlp)


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
    """Yields a section in parts of bounded length and with few signs in a row."""
    start = 0
    for run in _LONG_RUN.finditer(section):
        yield from _bounded_parts(section[start : run.end()])
        start = run.end()
    yield from _bounded_parts(section[start:])


def _bounded_parts(section: str) -> Iterator[str]:
    start = 0
    while len(section) - start > _LONGEST_PARSE:
        limit = start + _LONGEST_PARSE
        end = section.rfind("\n", start, limit) + 1 or section.rfind(" ", start, limit) + 1
        end = end or limit
        yield section[start:end]
        start = end
    if start < len(section):
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
