"""The rooms and the directions between them: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bert_clinical", "data_prep")
# What both packages stand on; everything else of data_prep is out of bert_clinical's reach.
SHARED = {
    "data_prep.common.errors",
    "data_prep.common.json_files",
    "data_prep.common.output_folder",
    "data_prep.common.paths",
    "data_prep.common.settings_flags",
    "data_prep.common.program",
    "data_prep.common.atomic_files",
    "data_prep.common.progress",
    "data_prep.common.html_report",
    "data_prep.common.workers",
    "data_prep.common.compiled",
    # The same runners of Beam, told the same way.
    "data_prep.common.files",
    "data_prep.beam.flags",
    "data_prep.beam.launch",
    "data_prep.beam.progress",
    "data_prep.beam.steps",
    # Vectors of notes are those of the same rows, read with the same care, as the text's.
    "data_prep.notes.csv_source",
    "data_prep.notes.sources",
}
HEAVY = ("tensorflow", "tensorflow_text", "spacy", "pandas", "torch", "transformers", "matplotlib")
LOADS_TENSORFLOW = "bert_clinical.nn.tensorflow"


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    }


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Returns the dotted names that a file imports, `from a import b` as both `a` and `a.b`."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_program(path: Path) -> bool:
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == "cli" for node in tree.body)


def project_imports(path: Path) -> set[str]:
    return imports(path) & set(modules())


PROGRAMS = sorted(name for name, path in modules().items() if is_program(path))


def test_every_program_of_the_interface_exists() -> None:
    assert {
        "data_prep.format_notes",
        "bert_clinical.create_vocab",
        "bert_clinical.create_pretraining_data",
        "bert_clinical.run_pretraining",
        "bert_clinical.convert_to_transformers",
        "bert_clinical.convert_from_transformers",
    } <= set(PROGRAMS)


def test_data_prep_knows_neither_tensorflow_nor_bert_clinical() -> None:
    for name, path in modules().items():
        if name.startswith("data_prep."):
            wrong = {i for i in imports(path) if i.split(".")[0] in ("tensorflow", "bert_clinical")}
            assert not wrong, f"{name} imports {wrong}"


def test_bert_clinical_uses_only_the_shared_foundation_of_data_prep() -> None:
    for name, path in modules().items():
        if name.startswith("bert_clinical."):
            used = {i for i in project_imports(path) if i.startswith("data_prep.")}
            assert used <= SHARED, f"{name} imports {used - SHARED}"


def test_tensorflow_is_imported_in_one_place() -> None:
    """Which sets what TensorFlow reads when it is imported."""
    for name, path in modules().items():
        if name == LOADS_TENSORFLOW:
            continue
        used = imports(path)
        assert "tensorflow" not in used, f"{name} imports TensorFlow; use {LOADS_TENSORFLOW}"
        # tensorflow_text imports TensorFlow by itself.
        assert "tensorflow_text" not in used or LOADS_TENSORFLOW in used, name


def test_nothing_imports_a_program() -> None:
    for name, path in modules().items():
        wrong = project_imports(path) & set(PROGRAMS)
        assert not wrong, f"{name} imports the program(s) {wrong}"


@pytest.mark.parametrize(
    ("lower", "uppers"),
    [
        ("bert_clinical.tokenization", {"tfrecord_io", "modeling", "training", "checkpoint"}),
        ("bert_clinical.instances.maker", {"tfrecord_io", "modeling", "training"}),
        ("bert_clinical.tfrecords.files", {"modeling", "training", "checkpoint", "input_pipeline"}),
        ("bert_clinical.modeling", {"pretraining_heads", "optimization", "training"}),
        ("bert_clinical.nn.heads", {"training", "input_pipeline", "optimization"}),
        ("bert_clinical.optimization", {"training", "pretraining_heads"}),
        ("bert_clinical.weights.checkpoint", {"training", "pretraining_heads", "optimization"}),
        ("bert_clinical.pretraining.batches", {"training", "modeling"}),
    ],
)
def test_lower_rooms_do_not_import_upper_ones(lower: str, uppers: set[str]) -> None:
    used = project_imports(modules()[lower])
    assert not used & {f"bert_clinical.{upper}" for upper in uppers}


def test_imports_have_no_cycle() -> None:
    graph = {name: project_imports(path) for name, path in modules().items()}
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"imports go round: {' -> '.join((*trail, name))}"
        if name not in finished:
            for target in graph[name]:
                visit(target, (*trail, name))
            finished.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_import_nothing_heavy_before_their_flags_are_checked(program: str) -> None:
    reached: set[str] = set()
    waiting = [program]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        top = imports(modules()[name], top_level_only=True)
        heavy = {i for i in top if i.split(".")[0] in HEAVY or i == LOADS_TENSORFLOW}
        assert not heavy, f"{program} reaches {heavy} through {name}"
        waiting += sorted(top & set(modules()))
