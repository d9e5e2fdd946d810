"""Reports to look at: one HTML file with tables and charts, without network or script."""

from __future__ import annotations

import html
import io
import logging
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_prep.common import atomic_files, own_files

_INK, _ACCENT, _PALE, _GRID = "#1f2933", "#2a6f97", "#a9c6d9", "#d9dee3"

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: #1f2933;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 4px; }
p { margin: 0 0 14px; max-width: 75ch; }
.subtitle, .note, figcaption { color: #52606d; }
.card { background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 20px 24px;
  margin-top: 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 22px; }
.tile { background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 14px 18px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-weight: 650; }
.tile span { color: #52606d; font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { font-size: 13px; color: #52606d; font-weight: 600; text-align: left;
  border-bottom: 2px solid #d9dee3; }
td { border-bottom: 1px solid #eef1f4; }
th, td { padding: 6px 14px 6px 0; vertical-align: top; overflow-wrap: anywhere; }
th.number, td.number { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
tr.total td { font-weight: 650; border-top: 2px solid #d9dee3; border-bottom: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; }
.charts.wide { grid-template-columns: 1fr; }
figure { margin: 8px 0 0; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""

_CHART_STYLE = {
    "svg.hashsalt": "bert-clinical",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
}


class Line(NamedTuple):
    """A line of `line_chart`.

    Attributes:
      name: for the legend.
      x: places.
      y: values.
      low: the lower end of an interval around each value; empty for none.
      high: the upper end.
      is_limit: drawn dashed, as what the others are held against.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_limit: bool = False


class Report:
    """A report, built from top to bottom. All text is escaped.

    The same content gives the same bytes. What must not be seen must not be handed in: a report
    is copied and mailed more lightly than the notes.

    Args:
      title: its heading.
      subtitle: a line under it.
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = title
        self._parts = [
            f"<h1>{html.escape(title)}</h1>",
            f'<p class="subtitle">{html.escape(subtitle)}</p>',
        ]

    def add_tiles(self, tiles: Sequence[tuple[str, str]]) -> None:
        """Adds a row of key figures, each a name and what stands in large type."""
        cells = "".join(
            f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
            for name, value in tiles
        )
        self._parts.append(f'<div class="tiles">{cells}</div>')

    def add_section(self, title: str, *blocks: str, text: str = "") -> None:
        """Adds a card with a title, a paragraph of text, and what `table` and so on made."""
        paragraph = f'<p class="note">{html.escape(text)}</p>' if text else ""
        self._parts.append(
            f'<section class="card"><h2>{html.escape(title)}</h2>{paragraph}{"".join(blocks)}'
            "</section>"
        )

    def to_html(self) -> str:
        """Returns the whole page."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"{own_files.REPORT_MARK.decode()}"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head>\n"
            f"<body><main>{''.join(part + chr(10) for part in self._parts)}</main></body></html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the page, complete or not at all."""
        with atomic_files.atomic_write(path, "w") as stream:
            stream.write(self.to_html())


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, last_is_total: bool = False
) -> str:
    """Returns a table; numbers stand to the right, integers with their thousands apart.

    Args:
      columns: the heads.
      rows: the cells, as many in each row as there are columns.
      last_is_total: whether the last row is set off as a sum.
    """
    is_number = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        for i in range(len(columns))
    ]
    marks = [' class="number"' if number else "" for number in is_number]
    head = "".join(
        f"<th{mark}>{html.escape(name)}</th>" for mark, name in zip(marks, columns, strict=True)
    )
    lines = []
    for index, row in enumerate(rows):
        total = ' class="total"' if last_is_total and index == len(rows) - 1 else ""
        cells = "".join(
            f"<td{mark}>{html.escape(_cell(value))}</td>"
            for mark, value in zip(marks, row, strict=True)
        )
        lines.append(f"<tr{total}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def charts(*figures: str, wide: bool = False) -> str:
    """Returns charts side by side, or one below the other where `wide`."""
    return f'<div class="charts{" wide" if wide else ""}">{"".join(figures)}</div>'


def bar_chart(labels: Sequence[str], values: Sequence[float], *, x_label: str, caption: str) -> str:
    """Returns horizontal bars, the first on top, each with its value at its end.

    Args:
      labels: what each bar is.
      values: how long it is.
      x_label: what the values count.
      caption: a line below the chart, also its description for those who cannot see it.
    """
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.4, 0.8 + 0.27 * len(labels)), layout="constrained")
        axes = figure.subplots()
        places = range(len(labels))
        bars = axes.barh(places, values, color=_ACCENT, height=0.7)
        axes.bar_label(bars, [_cell(value) for value in values], padding=4)
        axes.set_yticks(places, [_shortened(label) for label in labels])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(x_label)
        axes.margins(x=0.1, y=0.02)
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.xaxis.set_major_formatter(_thousands())
        return _figure(figure, caption)


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    x_label: str,
    caption: str,
    logarithmic: bool = False,
) -> str:
    """Returns a histogram whose bars show shares, so that their areas can differ in width.

    Args:
      edges: one more than bars, ascending.
      counts: how many fell between two edges.
      x_label: what was measured, with its unit.
      caption: a line below the chart.
      logarithmic: whether the x axis is; then the first edge must be above 0.
    """
    with _style():
        from matplotlib.figure import Figure

        axes = Figure(figsize=(3.5, 2.5)).subplots(gridspec_kw=_margins(0.135, 0.185))
        total = sum(counts) or 1
        axes.stairs(
            [100 * count / total for count in counts], edges, fill=True, color=_PALE,
            edgecolor=_ACCENT, linewidth=1.1,
        )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log", base=2)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(x_label)
        axes.set_ylabel("%")
        axes.yaxis.set_major_locator(_whole_numbers())
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_formatter(_thousands())
        return _figure(axes.figure, caption)


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    caption: str,
    x_names: Sequence[str] = (),
) -> str:
    """Returns lines over a common axis, each named in a legend.

    Args:
      lines: the first in the accent colour, the others paler or dashed.
      x_label: what the x axis shows, with its unit.
      y_label: what the y axis shows, with its unit.
      caption: a line below the chart.
      x_names: names of the places 0, 1, ... on the x axis, where it has no scale.
    """
    with _style():
        from matplotlib.figure import Figure

        axes = Figure(figsize=(5.1, 3.3)).subplots(gridspec_kw=_margins(0.15, 0.14))
        for index, line in enumerate(lines):
            color = (_ACCENT, _PALE)[min(index, 1)]
            style = "--" if line.is_limit else "-"
            marker = "o" if x_names and not line.is_limit else ""
            axes.plot(
                line.x, line.y, style, marker=marker, color=_INK if line.is_limit else color,
                linewidth=1.0 if line.is_limit else 1.6, label=line.name,
            )  # fmt: skip
            if line.low and line.high:
                axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.25, linewidth=0)
        if x_names:
            axes.set_xticks(range(len(x_names)), x_names)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(frameon=False)
        return _figure(axes.figure, caption)


def _margins(left: float, bottom: float) -> dict[str, float]:
    """Returns where the axes stand: room for labels of known size, as shares of the chart.

    Matplotlib could find it out, by drawing everything twice.
    """
    return {"left": left, "right": 0.965, "bottom": bottom, "top": 0.965}


def _style() -> Any:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    return matplotlib.rc_context(_CHART_STYLE)


def _figure(figure: Any, caption: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1
    )
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=8, integer=True)


def _thousands() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")


def _shortened(label: str) -> str:
    return label if len(label) <= 44 else label[:43] + "…"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return str(value)
