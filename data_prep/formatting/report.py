"""data_report.html: what a run of format_notes found and made, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.common import html_report as report
from data_prep.common.paths import listed
from data_prep.common.patients import MANY_PATIENTS
from data_prep.formatting.statistics import COUNTED, TextStatistics, bucket_start

_SHOWN_HEADERS = 30
_SHOWN_CATEGORIES_IN_CHART = 20
_SHOWN_FILES = 40


def write(path: Path, manifest: Mapping[str, Any], statistics: TextStatistics) -> None:
    """Writes the report.

    Args:
      path: where to.
      manifest: what `manifest.describe` returned.
      statistics: what was written.
    """
    total = statistics.total()
    names = listed(source["name"] for source in manifest["inputs"])
    version = manifest["versions"]["bert-clinical"]
    page = report.Report("Pretraining text", f"Made by bert-clinical {version} of {names}")
    dropped = sum(manifest["dropped"].values())
    page.add_tiles(
        [
            ("notes", f"{total['notes']:,}"),
            ("words", f"{total['words']:,}"),
            ("sentences", f"{total['sentences']:,}"),
            ("sections", f"{total['sections']:,}"),
            ("notes left out", f"{dropped:,}"),
            ("sections repeated", f"{statistics.repeated_section_share():.1%}"),
        ]
    )
    _add_categories(page, manifest)
    _add_drops(page, manifest)
    _add_lengths(page, statistics)
    _add_headers(page, statistics)
    _add_origin(page, manifest)
    page.write(path)


def _add_categories(page: report.Report, manifest: Mapping[str, Any]) -> None:
    categories = manifest["categories"]
    held_out = manifest["held_out_counts"]["notes"] > 0
    heads = ["category", *COUNTED, *(["held-out notes", "held-out words"] if held_out else [])]

    def row(name: str, counts: Mapping[str, int], held: Mapping[str, int]) -> list[Any]:
        return [
            name,
            *(counts[kind] for kind in COUNTED),
            *([held["notes"], held["words"]] if held_out else []),
        ]

    rows = [row(name, value, value["held_out"]) for name, value in categories.items()]
    if len(rows) > 1:
        rows.append(row("all", manifest["counts"], manifest["held_out_counts"]))
    blocks = [report.table(heads, rows, last_is_total=len(rows) > 1)]
    if len(categories) > 1:
        words = {n: v["words"] + v["held_out"]["words"] for n, v in categories.items()}
        largest = sorted(words, key=lambda name: -words[name])[:_SHOWN_CATEGORIES_IN_CHART]
        blocks.append(
            report.charts(
                report.bar_chart(
                    largest,
                    [words[name] for name in largest],
                    x_label="words",
                    caption="Words by category, the held-out ones included.",
                ),
                wide=True,
            )
        )
    page.add_section("Categories", *blocks)


def _add_drops(page: report.Report, manifest: Mapping[str, Any]) -> None:
    dropped = {n: v["dropped"] for n, v in manifest["categories"].items() if v["dropped"]}
    bad_rows = manifest["bad_rows"]
    if not dropped and not bad_rows:
        page.add_section("Left out", text="Nothing of the chosen categories was left out.")
        return
    blocks = []
    if dropped:
        reasons = manifest["dropped"]
        rows = [
            [name, *(counts.get(reason, 0) for reason in reasons), sum(counts.values())]
            for name, counts in dropped.items()
        ]
        if len(rows) > 1:
            rows.append(["all", *reasons.values(), sum(reasons.values())])
        heads = ["category", *reasons, "notes in all"]
        blocks.append(report.table(heads, rows, last_is_total=len(rows) > 1))
    if bad_rows:
        rows = [[reason, count] for reason, count in bad_rows.items()]
        blocks.append(report.table(["rows that cannot be read", "rows"], rows))
    everything = sorted((manifest["dropped"] | bad_rows).items(), key=lambda item: -item[1])
    if len(everything) > 1:
        chart = report.bar_chart(
            [reason for reason, _ in everything],
            [count for _, count in everything],
            x_label="notes",
            caption="What was left out, by reason.",
        )
        blocks.append(report.charts(chart, wide=True))
    page.add_section("Left out", *blocks)


def _add_lengths(page: report.Report, statistics: TextStatistics) -> None:
    figures = []
    for kind in ("sentence", "section", "note"):
        buckets = {bucket: n for bucket, n in statistics.lengths[kind].items() if bucket > 0}
        if not buckets:
            continue
        present = range(min(buckets), max(buckets) + 1)
        edges = [bucket_start(bucket) for bucket in (*present, max(buckets) + 1)]
        figures.append(
            report.histogram(
                edges,
                [buckets.get(bucket, 0) for bucket in present],
                x_label=f"words in a {kind}",
                caption=f"Length of {kind}s, in words; median {_median(buckets):,.0f}.",
                logarithmic=True,
            )
        )
    page.add_section(
        "Lengths",
        report.charts(*figures),
        text="Share of all in percent, on a logarithmic scale of words.",
    )


def _add_headers(page: report.Report, statistics: TextStatistics) -> None:
    headers = statistics.common_headers()[:_SHOWN_HEADERS]
    text = (
        f"Only headers that at least {MANY_PATIENTS} patients share are shown: a rarer one may be "
        "somebody's words. Where no column says whose the notes are, none is."
    )
    if not headers:
        page.add_section("Section headers", text=f"{text} There is none.")
        return
    chart = report.bar_chart(
        [header for header, _ in headers],
        [count for _, count in headers],
        x_label="notes",
        caption=f"The {len(headers)} most common section headers.",
    )
    page.add_section("Section headers", report.charts(chart, wide=True), text=text)


def _add_origin(page: report.Report, manifest: Mapping[str, Any]) -> None:
    flags = [[f"--{k}", str(v)] for k, v in manifest["flags"].items() if v is not None]
    versions = [[name, str(version)] for name, version in manifest["versions"].items()]
    outputs = [[f["name"], f["notes"], f["size_bytes"]] for f in manifest["outputs"]]
    more = len(outputs) - _SHOWN_FILES
    page.add_section(
        "Text files",
        report.table(["file", "notes", "bytes"], outputs[:_SHOWN_FILES]),
        text=f"The first {_SHOWN_FILES}; {more:,} more stand in manifest.json." if more > 0 else "",
    )
    page.add_section("Flags and versions", report.table(["name", "value"], [*flags, *versions]))


def _median(buckets: Mapping[int, int]) -> float:
    half, seen = sum(buckets.values()) / 2, 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= half:
            return round(bucket_start(bucket))
    return 0.0
