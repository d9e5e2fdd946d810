"""The judge of vocabularies: tokens, numbers, casing."""

import pytest

from bert_clinical.wordpieces.model_tokenizer import ModelTokenizer, TokenizerRules
from bert_clinical.wordpieces.vocabulary import (
    SPECIAL_TOKENS,
    case_mismatch,
    check_vocabulary,
    fits,
    read_vocabulary,
    require_case_of_release,
    require_matching_case,
    require_usable_vocab,
)
from data_prep.common.errors import UserError
from tests.golden_data import golden

CASED, UNCASED = golden("vocab_cased.txt"), golden("vocab_uncased.txt")


def words(count, capitals):
    """Returns special tokens, and words of which some hold a capital."""
    letters = [f"{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}" for i in range(count)]
    return [*SPECIAL_TOKENS, *(w.title() if i < capitals else w for i, w in enumerate(letters))]


def test_examples_need_four_special_tokens(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[CLS]\n[UNK]\n")
    with pytest.raises(UserError, match=r"--vocab_file: .* 2 entries, but \[SEP\], \[MASK\] not"):
        require_usable_vocab(path, do_lower_case=True)
    path.write_text("[CLS]\n[UNK]\n[SEP]\n[MASK]\n[CLS]\n")
    assert require_usable_vocab(path, do_lower_case=True)["[CLS]"] == 4


def test_a_model_needs_every_token_once_and_as_many_as_its_config_says(tmp_path):
    assert read_vocabulary(CASED, 1000)[0] == "[PAD]"
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in words(3, 0)) + "aa\n")
    with pytest.raises(UserError, match="lines 6 and 9 hold the same entry"):
        read_vocabulary(path, 8)
    with pytest.raises(UserError, match="holds 8 entries, but the config's vocab_size is 9"):
        check_vocabulary(words(3, 0), path, 9)
    with pytest.raises(UserError, match=r"\[PAD\] missing among 7"):
        check_vocabulary(words(3, 0)[1:], path, 7)


@pytest.mark.parametrize(
    ("count", "capitals", "lower", "fits"),
    [
        (300, 3, True, True),
        (300, 4, True, False),
        (10, 1, True, False),
        (10, 0, True, True),
        (200, 0, False, False),
        (199, 0, False, True),
        (200, 1, False, True),
    ],
)
def test_the_border_of_the_rule_for_casing(count, capitals, lower, fits):
    assert (case_mismatch(words(count, capitals), lower) is None) == fits


def test_a_vocabulary_without_letters_has_no_casing():
    assert case_mismatch([*SPECIAL_TOKENS, *map(str, range(300))], False) is None


@pytest.mark.parametrize("judge", [require_usable_vocab, None])
def test_casing_is_checked_against_the_vocabulary(judge):
    def require(path, lower):
        if judge is None:
            require_matching_case(read_vocabulary(path, 1000), lower, path)
        else:
            judge(path, lower, check_case=True)

    require(CASED, False)
    require(UNCASED, True)
    with pytest.raises(UserError, match=r"a cased model: 276 of 995 .* --do_lower_case=False"):
        require(CASED, True)
    with pytest.raises(UserError, match=r"an uncased model: none of 995 .* --do_lower_case=True"):
        require(UNCASED, False)
    assert require_usable_vocab(CASED, True)


@pytest.mark.parametrize("name", ["", "bert_model.ckpt", "bert_model.ckpt.index"])
def test_the_name_of_a_released_model_tells_its_casing(tmp_path, name):
    folder = tmp_path / "uncased_L-12_H-768_A-12"
    folder.mkdir()
    require_case_of_release(True, str(folder / name))
    with pytest.raises(UserError, match="is a lower-cased model; pass --do_lower_case=True"):
        require_case_of_release(False, str(folder / name))
    require_case_of_release(False, str(tmp_path / "biobert" / name))


@pytest.mark.parametrize(
    ("entries", "vocab_size", "answer"),
    [
        (37, 37, True),
        (37, 40, True),
        (37, 64, True),
        (28996, 29056, True),
        (30522, 30528, True),
        (30522, 30592, True),
        (37, 38, False),
        (37, 48, True),
        (37, 72, False),
        (40, 56, False),
        (40, 37, False),
        (28996, 30522, False),
    ],
)
def test_an_embedding_may_be_padded_to_a_round_size(entries, vocab_size, answer):
    assert fits(entries, vocab_size) == answer


def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"\xef\xbb\xbf" + CASED.read_bytes())
    assert read_vocabulary(path, 1000) == read_vocabulary(CASED, 1000)
    assert require_usable_vocab(path, False) == require_usable_vocab(CASED, False)


def test_a_tokenizer_of_tokens_is_that_of_their_file():
    tokenizer = ModelTokenizer(read_vocabulary(CASED, 1000), TokenizerRules(False))
    assert tokenizer.vocab == require_usable_vocab(CASED, False)
    assert not tokenizer.basic_tokenizer.do_lower_case
