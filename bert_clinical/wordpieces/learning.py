"""Learns a WordPiece vocabulary from pretraining text.

Words are those of `BasicTokenizer`, so that every entry can occur. The pieces are learned by the
`tokenizers` library, in a way that the same text always gives the same vocabulary.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bert_clinical.tokenization import UNK, BasicTokenizer, WordpieceTokenizer
from bert_clinical.wordpieces.vocabulary import SPECIAL_TOKENS
from data_prep.common.errors import UserError
from data_prep.common.hashed_text import HashedText

_LONGEST_WORD = WordpieceTokenizer({}).max_input_chars_per_word
_LINES_PER_REPORT = 20_000
_CHARACTERS_PER_SEQUENCE = 1 << 16


def count_words(
    *,
    input_files: Iterable[str | os.PathLike[str]],
    do_lower_case: bool,
    most_words: int = 4_000_000,
    advance: Callable[[int, int], None] = lambda size, words: None,
) -> Counter[str]:
    """Counts the words that `BasicTokenizer` finds.

    Memory stays bounded: whenever there are more than `most_words` different words, the rarest
    half or more are forgotten.

    Args:
      input_files: UTF-8 text, gzip or not.
      do_lower_case: as for `BasicTokenizer`.
      most_words: how many different words are kept, at about 150 bytes each.
      advance: called now and then with the bytes (as stored) and words read since.

    Raises:
      UserError: a file cannot be read or is not UTF-8.
    """
    basic = BasicTokenizer(do_lower_case)
    words: Counter[str] = Counter()
    # What stands between two spaces is tokenized by itself: see `LineEncoder`.
    parts: Counter[str] = Counter()

    def flush() -> None:
        for part, count in parts.items():
            for word in basic.tokenize(part):
                words[word] += count
        parts.clear()
        least = 1
        while len(words) > most_words:
            for word in [word for word, count in words.items() if count <= least]:
                del words[word]
            least += 1

    for path in input_files:
        with HashedText(path) as file:
            reported = seen = 0
            for number, line in enumerate(file.lines(), 1):
                found = line.split(" ")
                parts.update(found)
                seen += len(found)
                if number % _LINES_PER_REPORT == 0:
                    advance(file.bytes_read - reported, seen)
                    reported, seen = file.bytes_read, 0
                if len(parts) > most_words:
                    flush()
            advance(file.bytes_read - reported, seen)
    flush()
    return words


def learn_vocabulary(
    words: Mapping[str, int], *, vocab_size: int, min_frequency: int = 2, limit_alphabet: int = 1000
) -> list[str]:
    """Returns the entries: special tokens, characters, their continuations, then learned pieces.

    Args:
      words: how often each word occurs.
      vocab_size: the most entries.
      min_frequency: how often two pieces must meet to become one.
      limit_alphabet: how many characters are kept, the most frequent; words with others are
        left out, and will be [UNK].

    Returns:
      At most `vocab_size` entries, fewer if the text yields no more.

    Raises:
      UserError: there are no words, or `vocab_size` cannot even hold the characters.
    """
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    if not characters:
        raise UserError("found no words; expected text, a sentence a line")
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    alphabet = frozenset(ranked[:limit_alphabet])
    spelled = {
        word: words[word]
        for word in sorted(words)
        if len(word) <= _LONGEST_WORD and alphabet.issuperset(word)
    }
    # Punctuation and ideographs stand alone, so no piece continues a word with one.
    inner = frozenset(character for word in spelled for character in word[1:])
    known = [*SPECIAL_TOKENS, *sorted(alphabet), *("##" + c for c in sorted(inner))]
    if vocab_size < len(known):
        raise UserError(
            f"--vocab_size is {vocab_size}, but {len(SPECIAL_TOKENS)} special tokens and "
            f"{len(alphabet)} characters take {len(known)} entries; raise it, or lower "
            f"--limit_alphabet from {limit_alphabet}"
        )
    return _learn_pieces(spelled, known, vocab_size, min_frequency)


def _learn_pieces(
    words: Mapping[str, int], known: Sequence[str], vocab_size: int, min_frequency: int
) -> list[str]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    # The trainer numbers what it does not know in the order of a hash map, which changes from run
    # to run, and breaks ties by number. So it is told all characters beforehand, in our order.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(known),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(words), trainer)
    numbered = tokenizer.get_vocab()
    entries = sorted(numbered, key=lambda entry: numbered[entry])
    if entries[: len(known)] != list(known) or len(entries) > vocab_size:
        raise UserError(
            "the installed tokenizers library orders a vocabulary in another way than expected; "
            "install the version in requirements.txt"
        )
    return entries


def _repeated(words: Mapping[str, int]) -> Iterator[str]:
    """Yields each word as often as it occurs, in texts of bounded size."""
    for word, count in words.items():
        at_once = max(_CHARACTERS_PER_SEQUENCE // (len(word) + 1), 1)
        while count > 0:
            yield " ".join([word] * min(count, at_once))
            count -= at_once
