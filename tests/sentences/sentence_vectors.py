"""Writes the vectors that the compiled parser judges the golden notes by: float32 [tokens, width].

Run: python -m tests.sentences.sentence_vectors FILE.npy
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from data_prep.sentences.splitter import load_splitter
from data_prep.sentences.steady_math import TOKEN_KEY
from tests.format_notes_program import SPACY_MODEL
from tests.golden_data import golden


def main() -> None:
    rows = map(json.loads, golden("sections.jsonl").read_text().splitlines())
    sections = [section for row in rows for section in row["sections"] or ()]
    splitter: Any = load_splitter("spacy", SPACY_MODEL)
    docs = [splitter._nlp.make_doc(section) for section in sections]
    tokens = np.concatenate([doc.to_array(TOKEN_KEY) for doc in docs])
    vectors, numbers = splitter._sentences._parser.vectors(tokens, np.cumsum([0, *map(len, docs)]))
    np.save(sys.argv[1], vectors[numbers])


if __name__ == "__main__":
    main()
