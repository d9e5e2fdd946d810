"""Texts as the encoder's inputs: pairs cut as Google cuts them, windows that lose nothing."""

import pytest

from bert_clinical.tokenization import FullTokenizer
from bert_clinical.wordpieces.inputs import Text, TextEncoder
from tests.golden_data import golden


@pytest.fixture(scope="module")
def tokenizer():
    return FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)


def as_google_cuts(a: list[str], b: list[str], max_seq_length: int) -> list[str]:
    """Returns the sequence of two texts' WordPieces, cut one at a time as Google does."""
    a, b = list(a), list(b)
    if b:
        while len(a) + len(b) > max_seq_length - 3:
            (a if len(a) > len(b) else b).pop()
    else:
        a = a[: max_seq_length - 2]
    return ["[CLS]", *a, "[SEP]", *b, *["[SEP]"] * bool(b)]


def test_segment_ids_part_the_texts_of_a_pair(tokenizer):
    encoder = TextEncoder(tokenizer)
    window, _ = encoder.cut(Text("0", "pain", "fever"), 32)
    ends = [i for i, piece in enumerate(window.input_ids) if piece == encoder.sep_id]
    first, second = ends
    assert list(window.segment_ids) == [0] * (first + 1) + [1] * (second - first)


@pytest.mark.parametrize("length_a", [0, 1, 6, 7, 8, 13, 40])
def test_pairs_are_cut_as_google_cuts_them(tokenizer, length_a):
    for max_seq_length in (3, 4, 5, 9, 16, 17):
        encoder = TextEncoder(tokenizer)
        for length_b in (0, 1, 5, 6, 7, 8, 29):
            window, lost = encoder.cut(Text("0", "a " * length_a, "b " * length_b), max_seq_length)
            expected = as_google_cuts(["a"] * length_a, ["b"] * length_b, max_seq_length)
            tokens = tokenizer.convert_ids_to_tokens(window.input_ids)
            assert tokens == expected
            assert lost == length_a + length_b - tokens.count("a") - tokens.count("b")


@pytest.mark.parametrize("room", [6, 7])
def test_transformers_cuts_other_ends_where_an_odd_number_fits(tokenizer, room):
    """What the model card says of it."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    theirs = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.enable_truncation(room, strategy="longest_first")
    encoder = TextEncoder(tokenizer)
    for length_a in range(1, 13):
        for length_b in range(1, 13):
            texts = "a " * length_a, "b " * length_b
            window, _ = encoder.cut(Text("0", *texts), room + 3)
            kept_b = sum(window.segment_ids) - 1
            kept_a = len(window.input_ids) - kept_b - 3
            differs = room % 2 and length_a <= length_b and length_a > room // 2
            ids = theirs.encode(*texts).ids
            other = (kept_a - 1, kept_b + 1) if differs else (kept_a, kept_b)
            assert (ids.count(0), ids.count(1)) == other


@pytest.mark.parametrize("max_seq_length", [3, 4, 9, 16])
def test_every_wordpiece_counts_once_where_it_stands_best(tokenizer, max_seq_length):
    room = max_seq_length - 2
    encoder = TextEncoder(tokenizer)
    words = [t for t in tokenizer.vocab if t.isalpha() and t.isascii()]
    for length in (0, 1, room - 1, room, room + 1, 2 * room, 41):
        chosen = words[:length]
        ids = tokenizer.convert_tokens_to_ids(chosen)
        for doc_stride in {1, max(room // 2, 1), room}:
            windows = encoder.windows(Text("0", " ".join(chosen)), max_seq_length, doc_stride)
            counted = [piece for w in windows for piece in w.input_ids[w.first : w.end]]
            cls, sep = windows[0].input_ids[0], windows[0].input_ids[-1]
            assert counted == [cls, *ids, sep]
            assert all(len(w.input_ids) == min(length, room) + 2 for w in windows)
            best: dict[int, int] = {}
            for window in windows:
                for position, piece in enumerate(window.input_ids):
                    distance = min(position, len(window.input_ids) - 1 - position)
                    best[piece] = max(best.get(piece, 0), distance)
            for number, window in enumerate(windows):
                for position in range(window.first, window.end):
                    first, last = number == 0, number == len(windows) - 1
                    distance = min(position, len(window.input_ids) - 1 - position)
                    middle = len(window.input_ids) / 2
                    # At the text's own ends there is no neighbour to stand farther from.
                    if not (first and position < middle) and not (last and position >= middle):
                        assert distance >= best[window.input_ids[position]] - 1
