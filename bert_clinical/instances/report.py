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
      descriptions: sidecars, one for each shard.
    """
    total = {
        name: sum(description["counts"][name] for description in descriptions)
        for name in descriptions[0]["counts"]
    }
    settings = descriptions[0]["flags"]
    page = report.Report(
        "Pretraining data",
        f"{'uncased' if settings['do_lower_case'] else 'cased'} vocabulary of "
        f"{descriptions[0]['vocabulary']['entries']:,} entries, length "
        f"{settings['max_seq_length']}, {settings['max_predictions_per_seq']} predictions, "
        f"dupe factor {settings['dupe_factor']}",
    )
    page.add_tiles(
        [
            ("documents", f"{total['documents']:,}"),
            ("words", f"{total['words']:,}"),
            ("instances", f"{total['instances']:,}"),
            ("WordPieces a word", f"{total['wordpieces'] / max(total['words'], 1):.2f}"),
            ("random next", f"{100 * random_next_share(total):.1f}%"),
            ("[UNK]", f"{100 * total['unknown_wordpieces'] / total['wordpieces']:.2f}%"),
        ]
    )
    page.add_section(
        "Sequence lengths",
        report.charts(
            *(
                _lengths(_name(description), description)
                for description in _with_sum(descriptions)[:_MOST_SHARDS_DRAWN]
            )
        ),
        text="Share of the instances by their WordPieces, padding not counted.",
    )
    drawn = [description for description in descriptions if description["shares"]["unknown"]]
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
            [_row(description) for description in descriptions],
        ),
    )  # fmt: skip
    page.write(path)


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


def _row(description: Mapping[str, Any]) -> list[Any]:
    counts, shares = description["counts"], description["shares"]
    return [
        _name(description),
        *(counts[name] for name in ("documents", "words", "wordpieces", "instances")),
        100.0 * shares["unknown"],
        100.0 * shares["truncated_pairs"],
        100.0 * random_next_share(counts),
        100.0 * shares["padding"],
    ]
