"""Notes that repeat earlier ones: copy-forward fills archives with the same words again."""

from __future__ import annotations

import hashlib

import numpy as np

_WORDS_IN_SHINGLE = 3
_PERMUTATIONS = 128
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
        digest = hashlib.blake2b(" ".join(_words(text)).encode(), digest_size=16).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False


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

    Source: MinHash and the choice of bands are datasketch's. Differs: its index takes several KB
    for each text; here, bands lie in sorted arrays.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self._threshold = threshold
        self._min_hash = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=_hash_shingle)
        # Candidates are compared, so too many cost time only, while one missed is a repeat kept.
        index = MinHashLSH(
            threshold=min(threshold, 0.99), num_perm=_PERMUTATIONS, weights=(0.1, 0.9)
        )
        self._num_bands, self._band_size = index.b, index.r
        self._signatures: list[np.ndarray] = []
        self._num_kept = 0
        self._recent: list[dict[int, int]] = [{} for _ in range(self._num_bands)]
        self._keys = [np.empty(0, np.uint64) for _ in range(self._num_bands)]
        self._owners = [np.empty(0, np.uint32) for _ in range(self._num_bands)]

    def is_duplicate(self, text: str) -> bool:
        """Returns whether the text is close to one that was kept, and keeps it if not."""
        words = _words(text)
        shingles = {
            " ".join(words[i : i + _WORDS_IN_SHINGLE]).encode()
            for i in range(max(1, len(words) - _WORDS_IN_SHINGLE + 1))
        }
        min_hash = self._min_hash.copy()
        min_hash.update_batch(sorted(shingles))
        values = np.asarray(min_hash.hashvalues, np.uint64)
        # 16 bits of each value tell two apart as well as all of them, but for one in 65,536.
        signature = (values & np.uint64(0xFFFF)).astype(np.uint16)
        keys = [self._band_key(values, band) for band in range(self._num_bands)]
        for candidate in self._candidates(keys):
            block, row = divmod(candidate, _SIGNATURES_IN_BLOCK)
            agreeing = np.count_nonzero(self._signatures[block][row] == signature)
            if agreeing >= self._threshold * _PERMUTATIONS:
                return True
        self._keep(signature, keys)
        return False

    def _band_key(self, values: np.ndarray, band: int) -> int:
        part = values[band * self._band_size : (band + 1) * self._band_size]
        return int.from_bytes(hashlib.blake2b(part.tobytes(), digest_size=8).digest(), "little")

    def _candidates(self, keys: list[int]) -> set[int]:
        found = set()
        for band, key in enumerate(keys):
            recent = self._recent[band].get(key)
            if recent is not None:
                found.add(recent)
            place = int(np.searchsorted(self._keys[band], np.uint64(key)))
            if place < len(self._keys[band]) and int(self._keys[band][place]) == key:
                found.add(int(self._owners[band][place]))
        return found

    def _keep(self, signature: np.ndarray, keys: list[int]) -> None:
        block, row = divmod(self._num_kept, _SIGNATURES_IN_BLOCK)
        if block == len(self._signatures):
            self._signatures.append(np.empty((_SIGNATURES_IN_BLOCK, _PERMUTATIONS), np.uint16))
        self._signatures[block][row] = signature
        for recent, key in zip(self._recent, keys, strict=True):
            # The first text of a band stands for all later ones: a note copied forward many times
            # is compared with its origin.
            recent.setdefault(key, self._num_kept)
        self._num_kept += 1
        if self._num_kept % _NOTES_BEFORE_MERGE == 0:
            self._merge()

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


def _words(text: str) -> list[str]:
    return text.lower().split()


def _hash_shingle(shingle: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(shingle, digest_size=4).digest(), "little")
