"""A page to look at about pretraining data: numbers only, no text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical.instances.writer import random_next_share
from data_prep.common import html_report as report
from data_prep.common.paths import listed

_BARS = 16
_MOST_SHARDS_DRAWN = 60


def write_report(path: str | os.PathLike[str], descriptions: Sequence[Mapping[str, Any]]) -> None:
    """Writes an HTML page with counts, sequence lengths and unknown WordPieces, by shard.

    Args:
      path: the page.
      descriptions: sidecars, one for each shard and each length that was made of it.
    """
    by_length = _by_length(descriptions)
    of_text = next(iter(by_length.values()))
    settings = descriptions[0]["flags"]
    page = report.Report(
        "Pretraining data",
        f"{'uncased' if settings['do_lower_case'] else 'cased'} vocabulary of "
        f"{descriptions[0]['vocabulary']['entries']:,} entries, {' and '.join(by_length)}, "
        f"dupe factor {settings['dupe_factor']}",
    )
    page.add_tiles(_tiles(by_length))
    page.add_section(
        "Sequence lengths",
        report.charts(
            *(
                _lengths(_name(description) + _apart(length, by_length), description)
                for length, found in by_length.items()
                for description in _with_sum(found)[:_MOST_SHARDS_DRAWN]
            )
        ),
        text="Share of the instances by their WordPieces, padding not counted.",
    )
    drawn = [description for description in of_text if description["shares"]["unknown"]]
    if drawn:
        drawn = drawn[:_MOST_SHARDS_DRAWN]
        page.add_section(
            "Unknown WordPieces",
            report.bar_chart(
                [_name(description) for description in drawn],
                [100 * description["shares"]["unknown"] for description in drawn],
                x_label="% of WordPieces that are [UNK]",
                caption="Words that the vocabulary cannot spell, by shard. Above 1%, look for "
                "another encoding, language or casing.",
            ),
        )
    else:
        page.add_section("Unknown WordPieces", text="The vocabulary spells every word.")
    page.add_section(
        "Shards",
        report.table(
            ["input", "documents", "words", "WordPieces", "instances", "[UNK] %", "truncated %",
             "random next %", "padding %"],
            [
                _row(_name(description) + _apart(length, by_length), description)
                for length, found in by_length.items()
                for description in found
            ],
        ),
    )  # fmt: skip
    page.write(path)


def _by_length(
    descriptions: Sequence[Mapping[str, Any]],
) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the shards of each length of sequences, by what the page calls it."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for description in descriptions:
        flags = description["flags"]
        length = f"length {flags['max_seq_length']}, {flags['max_predictions_per_seq']} predictions"
        found.setdefault(length, []).append(description)
    return found


def _apart(length: str, by_length: Mapping[str, Any]) -> str:
    """Returns what tells a length from others, nothing where there is one only."""
    return f" ({length.partition(',')[0]})" if len(by_length) > 1 else ""


def _tiles(by_length: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """Returns the key figures, those of the text once and the others for each length."""
    totals = {
        _apart(length, by_length): {
            name: sum(description["counts"][name] for description in found)
            for name in found[0]["counts"]
        }
        for length, found in by_length.items()
    }
    text = next(iter(totals.values()))
    return [
        ("documents", f"{text['documents']:,}"),
        ("words", f"{text['words']:,}"),
        *((f"instances{of}", f"{total['instances']:,}") for of, total in totals.items()),
        ("WordPieces a word", f"{text['wordpieces'] / max(text['words'], 1):.2f}"),
        *(
            (f"random next{of}", f"{100 * random_next_share(total):.1f}%")
            for of, total in totals.items()
        ),
        ("[UNK]", f"{100 * text['unknown_wordpieces'] / text['wordpieces']:.2f}%"),
    ]


def _name(description: Mapping[str, Any]) -> str:
    return listed(Path(entry["path"]).name for entry in description["inputs"])


def _with_sum(descriptions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Puts the sum of all shards before them, where there are several."""
    if len(descriptions) == 1:
        return list(descriptions)
    lengths: dict[str, int] = {}
    for description in descriptions:
        for length, count in description["sequence_lengths"].items():
            lengths[length] = lengths.get(length, 0) + count
    whole = {
        "inputs": [{"path": f"all {len(descriptions)} shards"}],
        "flags": descriptions[0]["flags"],
        "sequence_lengths": lengths,
    }
    return [whole, *descriptions]


def _lengths(caption: str, description: Mapping[str, Any]) -> str:
    longest = description["flags"]["max_seq_length"]
    bars = min(_BARS, longest)
    edges = [1 + longest * bar / bars for bar in range(bars + 1)]
    counts = [0] * bars
    for length, count in description["sequence_lengths"].items():
        counts[(int(length) - 1) * bars // longest] += count
    return report.histogram(edges, counts, x_label="WordPieces", caption=caption)


def _row(name: str, description: Mapping[str, Any]) -> list[Any]:
    counts, shares = description["counts"], description["shares"]
    return [
        name,
        *(counts[kind] for kind in ("documents", "words", "wordpieces", "instances")),
        100.0 * shares["unknown"],
        100.0 * shares["truncated_pairs"],
        100.0 * random_next_share(counts),
        100.0 * shares["padding"],
    ]
