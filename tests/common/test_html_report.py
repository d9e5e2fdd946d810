"""Reports: complete pages that need nothing else, always the same, with everything escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data_prep.common import html_report as report

VOID = {"meta", "br", "path", "use"}


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open, or the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def page() -> report.Report:
    made = report.Report("Title <1>", "of a & b")
    made.add_tiles([("notes", "1,234")])
    made.add_section(
        "Section",
        report.table(["name", "count", "share"], [["<x>", 12345, 0.25], ["all", 12345, 1.0]],
                     last_is_total=True),
        report.charts(
            report.bar_chart(["$a_b$ <c>", "d" * 80], [3, 1500], x_label="notes", caption="A & B."),
            report.histogram([1, 2, 4, 8], [5, 0, 5], x_label="words", caption="C.",
                             logarithmic=True),
            report.line_chart(
                [report.Line("<e>", [0, 1], [1.0, 5.0], [0.5, 4.0], [1.5, 6.0]),
                 report.Line("limit", [0, 1], [2.0, 2.0], is_limit=True)],
                x_label="times", y_label="bits", caption="D.", x_names=["<f>", "64"],
            ),
        ),
        text="Some <text>.",
    )  # fmt: skip
    return made


def test_page_is_complete_balanced_and_escaped() -> None:
    content = page().to_html()
    balance = Balance()
    balance.feed(content)
    assert balance.open == []
    assert {"table", "svg", "figcaption", "section"} <= balance.seen
    for raw in ("<1>", "<x>", "<c>", "<e>", "<f>", "<text>"):
        assert raw not in content
    assert "$a_b$ &lt;c&gt;" in content
    assert "12,345" in content


def test_page_needs_nothing_from_elsewhere() -> None:
    content = page().to_html()
    addresses = set(re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', content))
    assert all(address.startswith("#") for address in addresses), addresses
    assert "<script" not in content


def test_same_content_gives_same_bytes() -> None:
    assert page().to_html() == page().to_html()


def test_a_page_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    page().write(path)
    assert path.read_text() == page().to_html()
    with pytest.raises(FileNotFoundError):
        page().write(tmp_path / "nowhere" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
