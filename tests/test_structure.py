"""The plan of the house: which wing may import which, and what can be taken away whole."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bert_clinical", "data_prep")
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
"""Lines, the docstring left out."""

LONGER = {
    # Compiled loops that step through one state; a call in them costs.
    "make_instances": 90,
    "_parse_text": 70,
}
"""Functions that may be longer, and how long."""

BERT_WINGS = {"instances", "pretraining", "tasks", "inference", "conversion", "audit", "extension"}
MAY_IMPORT = {
    # One wing for each program or family of programs; none imports another.
    "bert_clinical.instances": {"wordpieces", "tfrecords", "tokenization"},
    "bert_clinical.pretraining": {
        "weights", "wordpieces", "tfrecords", "nn", "modeling", "optimization", "tokenization",
    },
    "bert_clinical.tasks": {
        "weights", "wordpieces", "nn", "modeling", "optimization", "tokenization",
    },
    "bert_clinical.inference": {"weights", "wordpieces", "nn", "modeling", "tokenization"},
    "bert_clinical.conversion": {"weights", "wordpieces", "nn", "modeling", "tokenization"},
    "bert_clinical.audit": {"weights", "wordpieces", "nn", "modeling", "tokenization"},
    "bert_clinical.extension": {"weights", "wordpieces", "nn", "tokenization"},
    # What they share.
    "bert_clinical.weights": {"wordpieces", "nn", "modeling", "tokenization"},
    "bert_clinical.wordpieces": {"tokenization"},
    "bert_clinical.tfrecords": set(),
    "bert_clinical.nn": {"modeling"},
    "bert_clinical.modeling": {"nn"},
    "bert_clinical.optimization": {"nn"},
    "bert_clinical.tokenization": set(),
    "data_prep.formatting": {"sentences", "notes", "canaries", "beam", "common", "sectioning"},
    "data_prep.sentences": {"common"},
    "data_prep.notes": {"common"},
    "data_prep.synthetic": {"common"},
    "data_prep.canaries": {"common"},
    "data_prep.beam": {"common"},
    "data_prep.common": set(),
    "data_prep.sectioning": set(),
}  # fmt: skip
FROM_DATA_PREP = {"common", "beam", "notes", "canaries"}
"""What bert_clinical may use of data_prep."""

WITHOUT_TENSORFLOW = ("bert_clinical.instances", "bert_clinical.wordpieces", "data_prep")
"""And `bert_clinical.tfrecords`, which stands below the first."""

BEAM = (
    "data_prep.beam",
    "data_prep.formatting.beam",
    "bert_clinical.instances.beam",
    "bert_clinical.instances.beam_steps",
)
COMPILED = ("data_prep.sentences.compiled",)
CHOOSE_BEAM = (
    "data_prep.format_notes",
    "data_prep.worker_pool",
    "bert_clinical.create_pretraining_data",
)
"""The programs that have the flags of Beam's runners, and Beam's own."""

CHOOSE_COMPILED = ("data_prep.sentences.spacy_splitter",)

HEAVY = ("tensorflow", "tensorflow_text", "spacy", "pandas", "torch", "transformers", "matplotlib")
TENSORFLOW = "bert_clinical.nn.tensorflow"


@functools.cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__init__.py"
    }


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path, *, top_level_only: bool = False) -> frozenset[str]:
    """Returns the dotted names that a file imports, `from a import b` as both `a` and `a.b`."""
    tree = parsed(path)
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def is_program(path: Path) -> bool:
    body = parsed(path).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "cli" for node in body)


def project_imports(path: Path, **options: bool) -> frozenset[str]:
    return imports(path, **options) & set(modules())


def room(module: str) -> str:
    """Returns the wing of a module, or the module itself where it stands on top."""
    return ".".join(module.split(".")[:2])


def is_below(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


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


def test_every_room_is_in_the_plan() -> None:
    assert {room(name) for name in modules()} - set(PROGRAMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("name", sorted(set(modules()) - set(PROGRAMS)))
def test_imports_run_downward(name: str) -> None:
    here = room(name)
    package = here.split(".")[0]
    used = {room(other) for other in project_imports(modules()[name])} - {here}
    allowed = {f"{package}.{wing}" for wing in MAY_IMPORT[here]}
    if package == "bert_clinical":
        allowed |= {f"data_prep.{wing}" for wing in FROM_DATA_PREP}
    assert used <= allowed, f"{name} imports from {used - allowed}"


def test_wings_of_programs_do_not_import_each_other() -> None:
    for wing in BERT_WINGS:
        assert not MAY_IMPORT[f"bert_clinical.{wing}"] & BERT_WINGS


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_imports_a_program(name: str) -> None:
    assert not project_imports(modules()[name]) & set(PROGRAMS)


def test_every_wing_says_what_it_is_about() -> None:
    for folder in {path.parent for path in modules().values()}:
        tree = ast.parse((folder / "__init__.py").read_text())
        assert ast.get_docstring(tree), f"{folder} has no docstring"
        if folder.parent != ROOT:
            assert len(tree.body) == 1, f"{folder}/__init__.py does more than say so"


def test_tensorflow_has_one_door() -> None:
    for name, path in modules().items():
        used = imports(path)
        if name != TENSORFLOW:
            assert "tensorflow" not in used, f"{name} imports TensorFlow; use {TENSORFLOW}"
            inside = {i for i in used if i.split(".")[0] in ("tensorflow", "tensorflow_text")}
            assert not inside or TENSORFLOW in used, f"{name} imports {inside} by another door"


def test_flags_go_no_deeper_than_the_program() -> None:
    """Only programs, and the modules that define flags for several of them, see the object."""
    for name, path in modules().items():
        if "data_prep.common.program.ProgramFlags" in imports(path):
            assert name in PROGRAMS or name.endswith("flags"), name


def reached_from(name: str) -> set[str]:
    """Returns every module that importing, and calling, a module can bring in."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += project_imports(modules()[name])
    return reached


@pytest.mark.parametrize("name", [n for n in modules() if is_below(n, WITHOUT_TENSORFLOW)])
def test_text_and_examples_never_reach_tensorflow(name: str) -> None:
    assert TENSORFLOW not in reached_from(name)


def test_beam_is_imported_in_its_folders_alone() -> None:
    for name, path in modules().items():
        if "apache_beam" in {i.split(".")[0] for i in imports(path)}:
            assert is_below(name, (*BEAM, "data_prep.common.files")), name
    top = imports(modules()["data_prep.common.files"], top_level_only=True)
    assert "apache_beam" not in {i.split(".")[0] for i in top}


@pytest.mark.parametrize(
    ("absent", "chosen_by"),
    [((*BEAM, "apache_beam"), CHOOSE_BEAM), (COMPILED, CHOOSE_COMPILED)],
    ids=["Beam", "the compiled parser"],
)
@pytest.mark.slow
def test_a_wall_can_be_taken_down(absent: tuple[str, ...], chosen_by: tuple[str, ...]) -> None:
    """Everything else is imported with a folder gone; only what chooses it may need it."""
    kept = [name for name in modules() if not is_below(name, absent) and name not in chosen_by]
    code = f"""
import importlib, sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        # spaCy takes PyTorch where there is one, which is kept away from TensorFlow.
        if any(name == p or name.startswith(p + ".") for p in {(*absent, "torch")!r}):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Gone())
for name in {kept!r}:
    importlib.import_module(name)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


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
        heavy = {i for i in top if i.split(".")[0] in HEAVY or i == TENSORFLOW}
        assert not heavy, f"{program} reaches {heavy} through {name}"
        waiting += sorted(top & set(modules()))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_help_ends_with_an_example(program: str) -> None:
    docstring = ast.get_docstring(parsed(modules()[program]))
    assert docstring is not None
    called = (
        f"python -m {program} ",
        f"bert-clinical-{program.rpartition('.')[2].replace('_', '-')} ",
    )
    assert docstring.partition("\nExample:\n")[2].strip().startswith(called)


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_and_functions_are_short(name: str) -> None:
    text = modules()[name].read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(parsed(modules()[name])):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno - body[0].lineno + 1 if body else 0
            allowed = LONGER.get(node.name, LONGEST_FUNCTION)
            assert lines <= allowed, f"{node.name} has {lines} lines"


def test_tests_mirror_the_wings() -> None:
    wings = {path.parent.name for path in modules().values()} - set(PACKAGES)
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")} - {"tests"}
    assert folders - wings <= {"programs", "clusters", "damaged", "drills"}
