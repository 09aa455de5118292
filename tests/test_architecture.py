"""Imports go one way: every package knows only of those that its line in LAYERS names."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

LAYERS = {  # package → the packages it may import, beside itself
    "util": set(),
    "dataset": {"util"},
    "scoring": {"dataset", "util"},
    "model": {"util"},
    "training": {"dataset", "model", "util"},
    "inference": {"model", "util"},
    "export": {"dataset", "inference", "model", "util"},
    "evaluation": {"dataset", "export", "inference", "model", "scoring", "util"},
    "xmem": {"dataset", "evaluation", "inference", "model", "util"},
    "interactive": {"dataset", "evaluation", "inference", "model", "util"},
    "reproduction": {"dataset", "evaluation", "inference", "model", "scoring", "training", "util"},
}
EDGES = {"scripts", "tests"}  # programs and tests may import anything; only they may import programs


def source_files() -> Iterator[Path]:
    """The project's modules: programs at the root, and what lies in its packages."""
    yield from sorted(REPOSITORY.glob("*.py"))
    for package in (*LAYERS, *EDGES):
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def module_name(path: Path, root: Path) -> str:
    """a/b.py → a.b, a/__init__.py → a."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, modules: set[str]) -> set[str]:
    """Which of `modules` the source imports, wherever in it that stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be searched for"
            # `from a import b` imports the module a.b if there is one, else the name b of a.
            names.update(
                inner if (inner := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
            )
    return names & modules


def misplaced(module: str, imported: set[str], programs: set[str]) -> list[str]:
    """What this module imports, and may not."""
    package = module.partition(".")[0]
    if package in EDGES:
        return []
    allowed = LAYERS.keys() if package in programs else LAYERS[package] | {package}
    return sorted(name for name in imported if name.partition(".")[0] not in allowed)


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Every module of the project with the project's modules that it imports."""
    paths = {module_name(path, REPOSITORY): path for path in source_files()}
    return {name: imported_modules(path.read_text(encoding="utf-8"), set(paths)) for name, path in paths.items()}


@pytest.fixture(scope="module")
def programs() -> set[str]:
    return {path.stem for path in REPOSITORY.glob("*.py")}


def test_every_package_has_its_layer():
    """A new folder of Python files is given a place in LAYERS, and in docs/architecture.md."""
    folders = {path.parent.name for path in REPOSITORY.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert folders - EDGES <= LAYERS.keys()
    documented = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in sorted(folders) if f"`{name}/`" not in documented] == []


def test_imports_go_one_way(imports, programs):
    found = {name: wrong for name, imported in imports.items() if (wrong := misplaced(name, imported, programs))}
    assert found == {}


def test_no_module_imports_itself_in_a_circle(imports):
    assert len(list(TopologicalSorter(imports).static_order())) == len(imports)  # raises CycleError with the circle


def test_the_layers_themselves_go_one_way():
    assert len(list(TopologicalSorter(LAYERS).static_order())) == len(LAYERS)


def test_imports_are_found_wherever_they_stand():
    modules = {"a", "a.b", "c", "d.e"}
    source = "import c, os\nfrom a import b, x\ndef f():\n    from d.e import y\n    import os.path\n"
    assert imported_modules(source, modules) == {"a", "a.b", "c", "d.e"}


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("model.network", {"inference.config"}, ["inference.config"]),
        ("model.network", {"util.errors", "model.config"}, []),
        ("scoring.davis", {"dataset.frames", "model.network"}, ["model.network"]),
        ("evaluation.evaluate", {"eval", "scripts.score"}, ["eval", "scripts.score"]),
        ("eval", {"evaluation.evaluate", "scripts.score"}, ["scripts.score"]),
        ("scripts.demo", {"eval", "model.network"}, []),
    ],
)
def test_what_is_misplaced_is_named(module, imported, wrong):
    assert misplaced(module, imported, {"eval"}) == wrong


@pytest.mark.parametrize(
    ("program", "slow_to_import"),
    [
        ("scripts.score", ["torch"]),
        ("eval", ["torchvision", "torch._dynamo"]),
        ("interactive_demo", ["torchvision", "torch._dynamo"]),
        ("xmem", ["torchvision", "torch._dynamo"]),
    ],
)
def test_programs_start_without_what_takes_seconds_to_import(program, slow_to_import):
    """PyTorch takes a second and a half and 500 MiB, its compiler (which torchvision imports) another and 160."""
    source = f"import sys, {program}; print(*(name for name in {slow_to_import} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
