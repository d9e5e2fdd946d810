"""`FullTokenizer` as TensorFlow operations, for a SavedModel that takes text.

Follows `tokenization.py` step by step rather than `BertTokenizer` of tensorflow-text, which folds
case where Google's tokenizer lower-cases (ß becomes ss) and limits words in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bert_clinical.nn.tensorflow import import_tensorflow_text, tf
from bert_clinical.tokenization import CLS, SEP, UNK
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE
from bert_clinical.wordpieces.model_tokenizer import (
    AddedToken,
    ModelTokenizer,
    TokenizerRules,
    alternatives,
    normalized_contents,
)
from bert_clinical.wordpieces.vocabulary import PAD
from data_prep.common.errors import UserError

_DROPPED = r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}\p{Cf}\x{FFFD}]"
"""Control and format characters but tab, newline and carriage return."""

_SPACES = r"[\t\n\r\p{Z}]"
"""What separates words in Python, too: line and paragraph separators are not Zs."""

_IDEOGRAPHS = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}"
    r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
)
_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
_ACCENTS = r"\p{Mn}+"
_LONGEST_WORD = 200
_MOST_BYTES = 4

_MARK, _DROPPED_TOO = "\x01", "\x00"
"""The mark before an added token, and what stands for it in a text, where it means nothing."""


class GraphTokenizer(tf.Module):
    """Text to padded ids within a TensorFlow graph.

    Known differences from `FullTokenizer`: characters of which the Unicode tables of Python and of
    TensorFlow say different things.

    Args:
      folder: where `vocab.txt` is written, which becomes an asset of a SavedModel.
      tokens: the model's vocabulary in the order of the ids.
      rules: of the model's tokenizer.
      max_seq_length: WordPieces of a sequence, `[CLS]` and `[SEP]` included; longer ones are cut.

    Raises:
      UserError: the rules have something that a graph cannot do.
    """

    def __init__(
        self, folder: Path, tokens: Sequence[str], rules: TokenizerRules, *, max_seq_length: int
    ) -> None:
        super().__init__()
        tensorflow_text = import_tensorflow_text()
        if any(token.single_word for token in rules.added_tokens):
            raise UserError(
                "an added token of the model is found as a single word only (single_word), which a "
                "SavedModel cannot do; use extract_features"
            )
        self._cls, self._sep, self._pad = (list(tokens).index(t) for t in (CLS, SEP, PAD))
        self._rules = rules
        self._max_seq_length = max_seq_length
        # No word has brackets, so that none is split by these.
        entries = {t.content: f"[added{i}]" for i, t in enumerate(rules.added_tokens) if t.outside}
        plain = {t.content: entries.get(t.content, t.content) for t in rules.added_tokens}
        basic = ModelTokenizer(tokens, rules).basic_tokenizer
        self._as_written = _Finder(
            {t.content: t for t in rules.added_tokens if not t.normalized}, plain
        )
        self._normalized = _Finder(normalized_contents(rules, basic), plain)
        vocab_file = folder / VOCAB_FILE
        vocab_file.write_text("".join(f"{entries.get(t, t)}\n" for t in tokens), "utf-8")
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(vocab_file),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
            # Else it would be known in the SavedModel by the path of the file.
            experimental_is_anonymous=True,
        )
        self._wordpiece = tensorflow_text.WordpieceTokenizer(
            self._table,
            max_bytes_per_word=_LONGEST_WORD * _MOST_BYTES,
            token_out_type=tf.int64,
            unknown_token=UNK,
        )

    def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the ids of texts.

        Args:
          text: string [B], UTF-8.

        Returns:
          `input_ids` and `input_mask`, int32 [B, S], S the longest sequence of the batch; and
          `num_wordpieces`, int32 [B], the length of each before it was cut.
        """
        words = self.words(text)
        # [UNK] is an entry like any other to the table, and cannot come from the text.
        too_long = tf.strings.length(words.flat_values, "UTF8_CHAR") > _LONGEST_WORD
        words = words.with_flat_values(tf.where(too_long, UNK, words.flat_values))
        pieces = tf.cast(self._wordpiece.tokenize(words).merge_dims(1, 2), tf.int32)
        ends = tf.ones_like(text, tf.int32)[:, None]
        kept = pieces[:, : self._max_seq_length - 2]
        rows = tf.concat([ends * self._cls, kept, ends * self._sep], axis=1)
        input_mask = tf.ones_like(rows).to_tensor()
        num_wordpieces = tf.cast(pieces.row_lengths(), tf.int32) + 2
        return rows.to_tensor(self._pad), input_mask, num_wordpieces

    def words(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the words and punctuation characters of texts, string [B, (words)]."""
        replace = tf.strings.regex_replace
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
        if not self._rules.added_tokens:
            return tf.strings.split(replace(self._normalize(text), _PUNCTUATION, r" \0 "))
        text = replace(text, _MARK, _DROPPED_TOO)
        parts = tf.RaggedTensor.from_tensor(text[:, None])
        parts = _of_unmarked(parts, self._as_written)
        parts = _of_unmarked(parts, lambda part: self._normalized(self._normalize(part)))
        words = _of_unmarked(
            parts, lambda part: tf.strings.split(replace(part, _PUNCTUATION, r" \0 "))
        )
        return words.with_flat_values(replace(words.flat_values, f"^{_MARK}", ""))

    def _normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Returns texts cleaned, lower-cased, without accents, string [B]."""
        tensorflow_text = import_tensorflow_text()
        replace = tf.strings.regex_replace
        text = replace(text, _DROPPED, "")
        text = replace(text, _SPACES, " ")
        if self._rules.tokenize_chinese_chars:
            text = replace(text, _IDEOGRAPHS, r" \0 ")
        if self._rules.do_lower_case:
            # ASCII first, since the operation for Unicode heeds the server's locale.
            text = tf.strings.lower(tf.strings.lower(text), "utf-8")
        if self._rules.strips_accents:
            text = replace(tensorflow_text.normalize_utf8(text, "NFD"), _ACCENTS, "")
        return text


class _Finder(tf.Module):
    """Splits texts at added tokens, which get the mark and the name of their entry."""

    def __init__(self, patterns: Mapping[str, AddedToken], entries: Mapping[str, str]) -> None:
        super().__init__()
        self._pattern = f"({alternatives(patterns)})" if patterns else ""
        if patterns:
            marked = [_MARK + entries[token.content] for token in patterns.values()]
            self._table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(list(patterns), marked), default_value=""
            )

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns string [N, (parts)] for string [N]."""
        tensorflow_text = import_tensorflow_text()
        if not self._pattern:
            return tf.RaggedTensor.from_tensor(texts[:, None])
        parts = tensorflow_text.regex_split(texts, self._pattern, self._pattern)
        marked = self._table.lookup(parts.flat_values)
        return parts.with_flat_values(tf.where(marked == "", parts.flat_values, marked))


def _of_unmarked(
    parts: tf.RaggedTensor, split: Callable[[tf.Tensor], tf.RaggedTensor]
) -> tf.RaggedTensor:
    """Returns string [B, (parts)] with the parts split further, but for marked ones."""
    flat = parts.flat_values
    is_marked = tf.strings.substr(flat, 0, 1) == _MARK
    kept = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(flat, is_marked), tf.cast(is_marked, tf.int64)
    )
    found = tf.concat([split(tf.where(is_marked, "", flat)), kept], axis=1)
    return parts.with_values(found).merge_dims(1, 2)
