"""Documents → sentence pairs → masked instances, in the order of Google's program.

The same `random.Random` stream, drawn in the same order, gives the same instances; the work is done
by compiled loops on flat arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bert_clinical.instances import kernels
from bert_clinical.instances.corpus import Corpus
from bert_clinical.instances.kernels import CorpusArrays, InstanceRules
from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.spill import InstanceStore
from bert_clinical.tokenization import CLS, MASK, SEP
from data_prep.common.errors import UserError


@dataclass
class InstanceCounts:
    """What was made.

    Attributes:
      instances: how many.
      truncated_pairs: pairs that were cut to fit.
      random_next: instances whose second sentence is from elsewhere.
      masked_wordpieces: in all instances.
      padding_share: of all positions.
      sequence_lengths: how many instances have which length, for lengths that occur.
    """

    instances: int = 0
    truncated_pairs: int = 0
    random_next: int = 0
    masked_wordpieces: int = 0
    padding_share: float = 0.0
    sequence_lengths: dict[int, int] = field(default_factory=dict)


class InstanceMaker:
    """Makes all instances of a corpus and then their final order.

    Args:
      corpus: the documents.
      vocab: token → id, as `load_vocab` gives it.
      settings: how instances are cut and masked.

    Source: google-research/bert `create_pretraining_data.py`.
    """

    def __init__(
        self, corpus: Corpus, vocab: Mapping[str, int], settings: InstanceSettings
    ) -> None:
        self._settings = settings
        self._generator = kernels.generator_state(settings.random_seed)
        order = np.arange(corpus.documents, dtype=np.int64)
        kernels.shuffle(self._generator, order)
        self._corpus = CorpusArrays(
            corpus.token_ids, corpus.sentence_starts, corpus.document_starts, order
        )
        self._rules = _rules(vocab, settings)

    def make(
        self,
        store: InstanceStore,
        *,
        keep: bool = True,
        advance: Callable[[int], None] = lambda documents: None,
    ) -> InstanceCounts:
        """Puts the instances of all passes into `store`.

        Args:
          store: takes them.
          keep: whether it keeps them; else they are only counted.
          advance: called now and then with the documents gone through since.
        """
        settings = self._settings
        counts = np.zeros(3, np.int64)
        lengths = np.zeros(settings.max_seq_length + 1, np.int64)
        documents = len(self._corpus.document_order)
        for _ in range(settings.dupe_factor):
            cursor = np.zeros(3, np.int64)
            before = 0
            while cursor[0] < documents:
                made = kernels.make_instances(
                    self._corpus, self._rules, self._generator, cursor, store.free_rows(),
                    counts, lengths,
                )  # fmt: skip
                store.add(made if keep else 0)
                advance(int(cursor[0]) - before)
                before = int(cursor[0])
        instances = int(lengths.sum())
        positions = instances * settings.max_seq_length
        used = int(lengths @ np.arange(len(lengths)))
        return InstanceCounts(
            instances=instances,
            truncated_pairs=int(counts[kernels.TRUNCATED]),
            random_next=int(counts[kernels.RANDOM_NEXT]),
            masked_wordpieces=int(counts[kernels.MASKED]),
            padding_share=1 - used / positions if positions else 0.0,
            sequence_lengths={int(n): int(lengths[n]) for n in np.flatnonzero(lengths)},
        )

    def final_order(self, instances: int) -> np.ndarray:
        """Returns which instance stands at each place of the output: uint32 [instances].

        Draws on: it is called once, after `make`.

        Raises:
          UserError: there are too many instances for one draw of 32 bits.
        """
        if instances >= 1 << 32:
            raise UserError(
                f"the input makes {instances:,} instances, and fewer than {1 << 32:,} can be "
                "shuffled at once; give the files as shards with --output_dir"
            )
        order = np.arange(instances, dtype=np.uint32)
        kernels.shuffle(self._generator, order)
        return order


def _rules(vocab: Mapping[str, int], settings: InstanceSettings) -> InstanceRules:
    continues_word = np.zeros(max(vocab.values()) + 1, np.bool_)
    for token, index in vocab.items():
        continues_word[index] = token.startswith("##")
    predictions = [
        min(settings.max_predictions_per_seq, max(1, round(length * settings.masked_lm_prob)))
        for length in range(settings.max_seq_length + 1)
    ]
    return InstanceRules(
        max_seq_length=settings.max_seq_length,
        max_predictions=settings.max_predictions_per_seq,
        short_seq_prob=float(settings.short_seq_prob),
        whole_words=settings.do_whole_word_mask,
        predictions_by_length=np.array(predictions, np.int64),
        continues_word=continues_word,
        random_ids=np.array(list(vocab.values()), np.int64),
        cls_id=vocab[CLS],
        sep_id=vocab[SEP],
        mask_id=vocab[MASK],
    )
