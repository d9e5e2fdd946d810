"""The commands in README.md and docs/, as the comment above each block says.

`<!-- test: run -->`: the block is run on made-up notes and a small model, in the order of the page.
`<!-- test: flags -->`: each program, script, flag and variable in it exists.
`<!-- test: none, WHY -->`: others check it, or it is not this project's.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bert_clinical.tasks.entities import read_sentences
from data_prep.common import output_mode
from data_prep.common.program import ProgramFlags
from tests.programs.test_run_scripts import make_biobert
from tests.running import HANG_SECONDS, ROOT, warm_python
from tests.test_structure import PROGRAMS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "python", "dockerfile"}
CONSOLE_SCRIPTS = {
    **{module.rpartition(".")[2]: module for module in PROGRAMS},
    "bert-clinical-worker-pool": "data_prep.worker_pool",
}
GENERAL_FLAGS = {"help", "version"}


class Block(NamedTuple):
    """A block of code, and how it is tested."""

    page: Path
    line: int
    language: str
    test: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        lines = page.read_text().splitlines()
        inside = None
        for number, line in enumerate(lines):
            if not line.startswith("```"):
                continue
            if inside is None:
                inside = number
                continue
            mark = re.fullmatch(r"<!-- test: (.+) -->", lines[inside - 1])
            code = "\n".join(lines[inside + 1 : number])
            yield Block(page, inside + 1, lines[inside][3:], mark[1] if mark else "", code)
            inside = None
        assert inside is None, page


BLOCKS = list(blocks())


def with_test(name: str) -> list[Block]:
    return [block for block in BLOCKS if block.test == name]


def test_every_block_says_how_it_is_tested() -> None:
    assert len({block.page for block in BLOCKS}) >= 7
    for block in BLOCKS:
        if block.language in LANGUAGES:
            assert re.fullmatch(r"run|flags|none, .{20,}", block.test), block
        else:
            # A picture, or what a program says.
            assert block.language == "" and block.test == "", block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            anchors = [
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in linked.read_text().splitlines()
                if line.startswith("#")
            ]
            assert heading in anchors, target


def test_the_readme_is_short_and_names_every_program_and_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 125
    for module in PROGRAMS:
        assert f"`{module}`" in text, module
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text, page.name


def commands(code: str) -> Iterator[list[str]]:
    """Yields the words of each command, without comments; quotes are taken off."""
    text = code.replace("\\\n", " ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;\n()")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;\n()"):
            if words:
                yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def flags_of(module: str) -> set[str]:
    values = ProgramFlags()
    importlib.import_module(module).define_flags(values)
    output_mode.define(values)
    return {*values, *(f"no{name}" for name in values), *GENERAL_FLAGS}


def script_text(script: Path) -> str:
    """Returns a script and what it sources."""
    text = script.read_text()
    for name in re.findall(r"source=run_scripts/(\S+)", text):
        text += script_text(ROOT / "run_scripts" / name)
    return text


def scripts_below(script: Path) -> str:
    """Returns a script, what it sources, and the scripts that it runs."""
    text = script_text(script)
    for name in re.findall(r"(?:\$ROOT/run_scripts/|queue \w+ )((?:slurm/)?\w+\.sh)", text):
        path = ROOT / "run_scripts" / name
        path = path if path.exists() else script.parent / name
        if path != script and "slurm" in str(script):
            text += script_text(path)
    return text


def check_script(script: Path, variables: list[str], flags: list[str]) -> None:
    assert script.exists() and os.access(script, os.X_OK), script
    text = scripts_below(script)
    for variable in variables:
        assert re.search(rf"\b{variable}\b", text), f"{script.name} knows no {variable}"
    known = {
        flag for module in re.findall(r'-m "?([\w.$]+)', text) for flag in module_flags(module)
    }
    for flag in flags:
        assert flag in known or f"--{flag}" in text, f"{script.name}: --{flag}"


def module_flags(module: str) -> set[str]:
    if module.endswith(".$program"):
        return flags_of("bert_clinical.run_classifier") | flags_of("bert_clinical.run_ner")
    return flags_of(module) if module in PROGRAMS else set()


def check(words: list[str]) -> bool:
    """Checks a command of this project's; returns whether it is one."""
    variables = []
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0], re.DOTALL):
        variables.append(words.pop(0).partition("=")[0])
    if not words:
        return False
    program, *arguments = words
    if program == "export":
        return False
    flags = [a[2:].partition("=")[0] for a in arguments if re.match(r"--\w", a)]
    if "-m" in arguments[:1] and Path(program).name.startswith("python"):
        module = arguments[1]
        if module.startswith("tests."):
            return importlib.util.find_spec(module) is not None
        if module in ("venv", "pip"):
            return False
        assert module in PROGRAMS, module
        assert set(flags) <= flags_of(module), (module, set(flags) - flags_of(module))
        return True
    if Path(program).name in CONSOLE_SCRIPTS:
        module = CONSOLE_SCRIPTS[Path(program).name]
        assert set(flags) <= flags_of(module), (module, set(flags) - flags_of(module))
        return True
    if program.endswith(".sh"):
        check_script(ROOT / program, variables, flags)
        return True
    return False


@pytest.mark.parametrize("block", with_test("flags"), ids=str)
def test_what_a_block_names_exists(block: Block) -> None:
    ours = [check(words) for words in commands(block.code)]
    assert any(ours), f"{block} names no program of this project"


def test_a_misspelling_would_be_found() -> None:
    for line in (
        "python -m data_prep.fromat_notes",
        "python -m data_prep.format_notes --inputfile=x",
        "run_scripts/fromat_notes.sh",
        "NOTE=x run_scripts/format_notes.sh",
        "run_scripts/format_notes.sh --skip_bad_row",
        "/opt/bin/create_vocab --vocab_sizes=3",
    ):
        with pytest.raises(AssertionError):
            list(map(check, commands(line)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up notes and a small model, and this project's scripts."""
    place = tmp_path_factory.mktemp("docs")
    (place / "run_scripts").symlink_to(ROOT / "run_scripts")
    # Its vocabulary stands in the place of BioBERT's.
    make_biobert(place / "biobert")
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(warm_python())
    return place


@pytest.mark.slow
@pytest.mark.parametrize("page", list(dict.fromkeys(b.page for b in with_test("run"))),
                         ids=lambda page: page.name)  # fmt: skip
def test_blocks_run(page: Path, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(folder, work, symlinks=True)
    if page.name == "model.md":
        run_block(
            work, "python -m data_prep.sample_notes --output_file=NOTEEVENTS.csv --num_notes=4"
        )
        run_block(work, "INIT_CHECKPOINT=biobert OUTPUT_DIR=clinical_bert/transformers "
                  "run_scripts/convert_to_transformers.sh --noverify")  # fmt: skip
    if page.name == "evaluation.md":
        write_trials(work / "NeuroTrialNER" / "data" / "annotated_data" / "data_splits")
    for block in with_test("run"):
        if block.page == page:
            run_block(work, block.code)

    if page.name == "evaluation.md":
        for part in ("train", "dev", "test"):
            (trial,) = read_sentences(
                work / f"public_tasks/neurotrialner/{part}.tsv", labelled=True
            )
            assert trial.words == ("of", "migraine") and trial.labels == ("O", "B-COND")


def write_trials(folder: Path) -> None:
    """Writes files in the form of NeuroTrialNER's."""
    folder.mkdir(parents=True)
    trial = {"tokens": ["of", "\n\n", "migraine"], "ner_tags": ["O", "O", "B-COND"]}
    for name in ("train_data_873", "dev_data_110", "test_data_110"):
        (folder / f"ct_neuro_{name}.json").write_text(json.dumps(trial) + "\n")


def run_block(work: Path, code: str) -> None:
    environment = {
        **os.environ, "PATH": f"{work / 'bin'}:{os.environ['PATH']}", "PYTHON": str(warm_python()),
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }  # fmt: skip
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=work, env=environment, capture_output=True,
        text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"


def seconds(time: str) -> float:
    number, unit = time.split()
    return float(number) * {"min": 60, "h": 3600, "days": 86400}[unit]


def amount(text: str) -> float:
    number, *scale = text.replace(" words/s", "").replace(" examples/s", "").split()
    return float(number) * {"million": 1e6, "thousand": 1e3}.get(scale[0] if scale else "", 1)


def test_the_times_for_mimic_follow_from_the_rates_that_were_measured() -> None:
    measured = (ROOT / "docs" / "speed.md").read_text()
    rows = re.findall(
        r"^\| (?:text|examples|training)[^|]*\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        (ROOT / "docs" / "mimic.md").read_text(), re.MULTILINE,
    )  # fmt: skip
    assert len(rows) == 6
    for what, rate, time in rows:
        expected = amount(what.removesuffix(" words").removesuffix(" examples")) / amount(rate)
        assert seconds(time) == pytest.approx(expected, rel=0.05), (what, rate, time)
        if rate.endswith("words/s"):
            assert rate in measured
        else:
            # A step of 8 of the larger model.
            assert amount(rate) == pytest.approx(8 / 3.26, rel=0.01) and "| 3.26 s |" in measured


def test_the_picture_is_small_and_asks_for_nothing() -> None:
    """It is made by `python docs/draw_quickstart.py quickstart_output`."""
    picture = (ROOT / "docs" / "quickstart.svg").read_text()
    assert len(picture) < 150_000
    assert "<script" not in picture and "<image" not in picture
    for shown in ("Words of each text", "Masked LM accuracy", "held out"):
        assert shown in picture
