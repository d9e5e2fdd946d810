"""Notes that repeat earlier ones: copy-forward fills archives with the same words again."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

_WORDS_IN_SHINGLE = 3
PERMUTATIONS = 128
_NOTES_BEFORE_MERGE = 20_000
_SIGNATURES_IN_BLOCK = 4096


class ExactDuplicates:
    """Finds texts that equal an earlier one, white space and case aside.

    Memory: about 110 bytes for each different text.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_duplicate(self, text: str) -> bool:
        """Returns whether the text equals an earlier one, and remembers it if not."""
        digest = exact_digest(text)
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False


class Signature(NamedTuple):
    """What near-duplicates are told by, in place of a text.

    Attributes:
      values: uint16 [permutations], of each MinHash value the lowest bits.
      keys: uint64 [bands], a hash of each band's values.
    """

    values: np.ndarray
    keys: np.ndarray


class Signatures:
    """Makes signatures of texts.

    Args:
      threshold: the similarity for which the bands are chosen.

    Attributes:
      num_bands: how many keys a signature has.

    Source: MinHash and the choice of bands are datasketch's.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self._min_hash = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=_hash_shingle)
        # Candidates are compared, so too many cost time only, while one missed is a repeat kept.
        index = MinHashLSH(
            threshold=min(threshold, 0.99), num_perm=PERMUTATIONS, weights=(0.1, 0.9)
        )
        self.num_bands, self._band_size = index.b, index.r

    def __call__(self, text: str) -> Signature:
        """Returns the signature of a text."""
        words = _words(text)
        shingles = {
            " ".join(words[i : i + _WORDS_IN_SHINGLE]).encode(errors="surrogatepass")
            for i in range(max(1, len(words) - _WORDS_IN_SHINGLE + 1))
        }
        min_hash = self._min_hash.copy()
        min_hash.update_batch(sorted(shingles))
        values = np.asarray(min_hash.hashvalues, np.uint64)
        keys = [self._band_key(values, band) for band in range(self.num_bands)]
        # 16 bits of each value tell two apart as well as all of them, but for one in 65,536.
        return Signature((values & np.uint64(0xFFFF)).astype(np.uint16), np.array(keys, np.uint64))

    def _band_key(self, values: np.ndarray, band: int) -> int:
        part = values[band * self._band_size : (band + 1) * self._band_size]
        return int.from_bytes(hashlib.blake2b(part.tobytes(), digest_size=8).digest(), "little")


class NearDuplicates:
    """Finds texts that share most of their shingles of three words with an earlier one.

    A text is a duplicate if the estimate of its Jaccard similarity to a text that was kept reaches
    the threshold: 128 MinHash values, so the estimate's standard error is 0.035 at 0.8. Candidates
    come from locality-sensitive hashing, whose bands are chosen for the threshold; a pair at the
    very threshold is found about half of the time, one well above it practically always.

    Memory: 430 bytes for each text that is kept at the usual threshold of 0.8, 0.9 GB for two
    million texts; up to 650 bytes at lower thresholds.

    Args:
      threshold: the similarity from which on a text is a duplicate, above 0, at most 1.

    Differs: datasketch's index takes several KB for each text; here, bands lie in sorted arrays.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._signature_of = Signatures(threshold)
        num_bands = self._signature_of.num_bands
        self._signatures: list[np.ndarray] = []
        self._num_kept = 0
        self._recent: list[dict[int, int]] = [{} for _ in range(num_bands)]
        self._keys = [np.empty(0, np.uint64) for _ in range(num_bands)]
        self._owners = [np.empty(0, np.uint32) for _ in range(num_bands)]

    def is_duplicate(self, text: str) -> bool:
        """Returns whether the text is close to one that was kept, and keeps it if not."""
        return self.decide(self._signature_of(text))

    def decide(self, signature: Signature) -> bool:
        """Returns what `is_duplicate` returns for the text of a signature.

        Only texts that share a key are compared, and of those with the same key the first stands
        for all. So a text that has no key in common with any other is never a duplicate, and
        leaving it out changes no other answer.
        """
        keys = signature.keys.tolist()
        first = [self._first_of(band, key) for band, key in enumerate(keys)]
        for candidate in {number for number in first if number is not None}:
            block, row = divmod(candidate, _SIGNATURES_IN_BLOCK)
            agreeing = np.count_nonzero(self._signatures[block][row] == signature.values)
            if agreeing >= self._threshold * PERMUTATIONS:
                return True
        block, row = divmod(self._num_kept, _SIGNATURES_IN_BLOCK)
        if block == len(self._signatures):
            self._signatures.append(np.empty((_SIGNATURES_IN_BLOCK, PERMUTATIONS), np.uint16))
        self._signatures[block][row] = signature.values
        for band, key in enumerate(keys):
            # The first text of a band stands for all later ones: a note copied forward many times
            # is compared with its origin.
            if first[band] is None:
                self._recent[band][key] = self._num_kept
        self._num_kept += 1
        if self._num_kept % _NOTES_BEFORE_MERGE == 0:
            self._merge()
        return False

    def _first_of(self, band: int, key: int) -> int | None:
        """Returns the number of the first text that was kept with this key."""
        recent = self._recent[band].get(key)
        if recent is not None:
            return recent
        place = int(np.searchsorted(self._keys[band], np.uint64(key)))
        if place < len(self._keys[band]) and int(self._keys[band][place]) == key:
            return int(self._owners[band][place])
        return None

    def _merge(self) -> None:
        """Moves the recent bands from dictionaries to the sorted arrays, a tenth of their size."""
        for band, recent in enumerate(self._recent):
            keys = np.fromiter(recent.keys(), np.uint64, len(recent))
            owners = np.fromiter(recent.values(), np.uint32, len(recent))
            order = np.argsort(keys)
            places = np.searchsorted(self._keys[band], keys[order])
            self._keys[band] = np.insert(self._keys[band], places, keys[order])
            self._owners[band] = np.insert(self._owners[band], places, owners[order])
            recent.clear()


def exact_digest(text: str) -> bytes:
    """Returns 16 bytes that are the same for texts that are equal, white space and case aside."""
    words = " ".join(_words(text))
    return hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=16).digest()


def _words(text: str) -> list[str]:
    return text.lower().split()


def _hash_shingle(shingle: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(shingle, digest_size=4).digest(), "little")
