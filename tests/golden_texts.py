"""Texts with the ids that Google's `FullTokenizer` gave them, and both golden tokenizers."""

import gzip
import json

from bert_clinical.tokenization import FullTokenizer
from tests.golden_data import golden


def golden_tokenizers():
    """Returns the tokenizers of both golden vocabularies by `do_lower_case`."""
    return {
        lower: FullTokenizer(golden(f"vocab_{'un' * lower}cased.txt"), lower)
        for lower in (False, True)
    }


def golden_texts():
    """Returns 1500 cases of `text`, `lower` and `ids`."""
    with gzip.open(golden("tokens_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
