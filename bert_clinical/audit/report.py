"""audit_report.html: an audit to look at. Canaries by number, notes not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_clinical.audit.secret_scores import IN_TURN, TOGETHER
from data_prep.common import html_report as report


def write(path: Path, audit: Mapping[str, Any]) -> None:
    """Writes the page about an audit."""
    inputs = audit["inputs"]
    reference = inputs["reference"]
    page = report.Report(
        "What the model has memorised",
        f"Audit of {inputs['model']['name']}"
        + (f" against {reference['name']}" if reference else ", without a reference"),
    )
    page.add_tiles(_tiles(audit))
    if audit["warnings"]:
        page.add_section("Before you read on", _list(audit["warnings"]))
    page.add_section("Verdict", _list(audit["verdict"]))
    if audit["exposure"] is not None:
        _add_exposure(page, audit)
    if audit["membership"] is not None:
        _add_membership(page, audit["membership"])
    _add_origin(page, audit)
    page.write(path)


def _tiles(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    tiles = []
    exposure = audit["exposure"] or {}
    for count, found in exposure.items():
        name = "bits, controls" if count == "0" else f"bits, planted {int(count):,} ×"
        tiles.append((name, f"{found['mean_bits']:.1f}"))
    if audit["membership"] is not None:
        tiles.append(("AUC of membership", f"{audit['membership']['auc']:.3f}"))
    if audit["learnt"] is not None:
        tiles.append(("accuracy on held-out notes", f"{audit['learnt']['accuracy']:.1%}"))
    return tiles


def _list(lines: list[str]) -> str:
    return report.table([""], [[line] for line in lines])


def _add_exposure(page: report.Report, audit: Mapping[str, Any]) -> None:
    heads = [
        "planted", "canaries", "exposure, bits", "95% interval", "extracted",
        "all masked together, bits", "extracted then", "limit of chance", "of the reference, bits",
    ]  # fmt: skip
    reference = audit["reference_exposure"] or {}
    rows = []
    for count, found in audit["exposure"].items():
        together = found[TOGETHER]
        rows.append(
            [
                f"{int(count):,} ×", found["canaries"], found["mean_bits"],
                _range(found["interval"], 1), f"{found['extracted']:.0%}", together["mean_bits"],
                f"{together['extracted']:.0%}", found["chance"]["limit"],
                f"{reference[count]['mean_bits']:.1f}" if count in reference else "–",
            ]
        )  # fmt: skip
    page.add_section(
        "Exposure by how often a secret was planted",
        report.table(heads, rows),
        report.charts(_exposure_chart(audit)),
        text="How far the planted secrets stand out among all of their draw: 0 bits for the "
        "unlikeliest, log2 of the draw for the likeliest, 1.4 on average by chance. A secret is "
        "extracted if no other is as likely.",
    )
    page.add_section(
        "Each canary",
        report.table(
            ["canary", "planted", "rank", "of", "bits", "rank, all masked", "bits, all masked"],
            [
                [
                    canary["number"], canary["repetitions"],
                    *(canary["model"][IN_TURN][name] for name in ("rank", "of", "bits")),
                    *(canary["model"][TOGETHER][name] for name in ("rank", "bits")),
                ]
                for canary in audit["canaries"]
            ],
        ),
        text="By number; the file of canaries says which is which.",
    )  # fmt: skip


def _exposure_chart(audit: Mapping[str, Any]) -> str:
    exposure = audit["exposure"]
    places = list(range(len(exposure)))

    def line(name: str, found: Mapping[str, Any]) -> report.Line:
        values = [found[count] for count in exposure]
        return report.Line(
            name,
            places,
            [value["mean_bits"] for value in values],
            [value["interval"][0] for value in values],
            [value["interval"][1] for value in values],
        )

    lines = [line("model", exposure)]
    if audit["reference_exposure"] is not None:
        lines.append(line("reference", audit["reference_exposure"]))
    limits = [found["chance"]["limit"] for found in exposure.values()]
    lines.append(report.Line("limit of chance", places, limits, is_limit=True))
    return report.line_chart(
        lines,
        x_label="times planted",
        y_label="mean exposure, bits",
        caption="Mean exposure with its 95% interval.",
        x_names=list(exposure),
    )


def _add_membership(page: report.Report, membership: Mapping[str, Any]) -> None:
    rows = []
    for name, found in (("notes", membership), ("patients", membership["by_patient"])):
        if found is not None:
            rates = found["true_positive_rate"]
            rows.append(
                [
                    name, found["members"], found["non_members"], f"{found['auc']:.3f}",
                    _range(found["interval"], 3), *(f"{rate:.1%}" for rate in rates.values()),
                    f"{found['smallest_visible_auc']:.3f}",
                ]
            )  # fmt: skip
    curve = membership["roc"]
    false, true = curve["false_positive_rate"], curve["true_positive_rate"]
    chart = report.line_chart(
        [
            report.Line("notes", false, true),
            report.Line("chance", [0.0, 1.0], [0.0, 1.0], is_limit=True),
        ],
        x_label="false positive rate",
        y_label="true positive rate",
        caption="Trained-on notes found, against held-out notes taken for such.",
    )
    page.add_section(
        "Whose notes the model was trained on",
        report.table(
            ["by", "trained on", "held out", "AUC", "95% interval", "found at 0.1% false",
             "at 1% false", "smallest AUC to be seen"],
            rows,
        ),
        report.charts(chart),
        text="Notes are told apart by what the training has added to the log-likelihood of their "
        "WordPieces. 0.5 is chance.",
    )  # fmt: skip


def _range(interval: list[float], digits: int) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _add_origin(page: report.Report, audit: Mapping[str, Any]) -> None:
    inputs = audit["inputs"]
    rows = [[f"--{name}", str(value)] for name, value in audit["flags"].items()]
    rows += [[name, str(version)] for name, version in audit["versions"].items()]
    for name in ("model", "reference"):
        if inputs[name] is not None:
            rows.append([f"{name}, SHA-256 of its weights", inputs[name]["weights_sha256"]])
    if inputs["canaries"] is not None:
        rows.append(["canaries", inputs["canaries"]])
    for name in ("members", "non_members"):
        rows += [[name, file["name"]] for file in inputs[name]]
    page.add_section("Flags, files and versions", report.table(["name", "value"], rows))
