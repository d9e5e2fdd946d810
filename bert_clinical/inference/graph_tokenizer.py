"""`FullTokenizer` as TensorFlow operations, for a SavedModel that takes text.

Follows `tokenization.py` step by step rather than `BertTokenizer` of tensorflow-text, which folds
case where Google's tokenizer lower-cases (ß becomes ss) and limits words in bytes.
"""

from __future__ import annotations

from pathlib import Path

from bert_clinical.nn.tensorflow import tf
from bert_clinical.tokenization import CLS, SEP, UNK
from bert_clinical.wordpieces.vocabulary import PAD, read_vocabulary

_DROPPED = r"[\x{00}-\x{08}\x{0B}\x{0C}\x{0E}-\x{1F}\x{7F}-\x{9F}\p{Cf}\x{FFFD}]"
"""Control and format characters but tab, newline and carriage return."""

_SPACES = r"[\t\n\r\p{Z}]+"
"""What separates words in Python, too: line and paragraph separators are not Zs."""

_IDEOGRAPHS = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}"
    r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
)
_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
_ACCENTS = r"\p{Mn}+"
_LONGEST_WORD = 200
_MOST_BYTES = 4


class GraphTokenizer(tf.Module):
    """Text to padded ids within a TensorFlow graph.

    Known differences from `FullTokenizer`: characters of which the Unicode tables of Python and of
    TensorFlow say different things.

    Args:
      vocab_file: one WordPiece a line; becomes an asset of a SavedModel.
      vocab_size: how many there are.
      do_lower_case: as the model was trained.
      max_seq_length: WordPieces of a sequence, `[CLS]` and `[SEP]` included; longer ones are cut.
    """

    def __init__(
        self, vocab_file: Path, vocab_size: int, *, do_lower_case: bool, max_seq_length: int
    ) -> None:
        super().__init__()
        import tensorflow_text

        tokens = read_vocabulary(vocab_file, vocab_size)
        self._cls, self._sep, self._pad = (tokens.index(t) for t in (CLS, SEP, PAD))
        self._do_lower_case = do_lower_case
        self._max_seq_length = max_seq_length
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(vocab_file),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
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
        import tensorflow_text

        replace = tf.strings.regex_replace
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
        text = replace(text, _DROPPED, "")
        text = replace(text, _SPACES, " ")
        text = replace(text, _IDEOGRAPHS, r" \0 ")
        if self._do_lower_case:
            # ASCII first, since the operation for Unicode heeds the server's locale.
            text = tf.strings.lower(tf.strings.lower(text), "utf-8")
            text = replace(tensorflow_text.normalize_utf8(text, "NFD"), _ACCENTS, "")
        text = replace(text, _PUNCTUATION, r" \0 ")
        return tf.strings.split(text)
