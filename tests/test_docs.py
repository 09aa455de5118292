"""The documentation: its Python runs, and its links lead somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import REPOSITORY
from tests.helpers.tiny_network import save_tiny_network

DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "examples" / "README.md",
]
FRAMES = 6


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What the document's headings are called in links, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def small_checkout(tmp_path, monkeypatch) -> Path:
    """A folder with what the examples name: a network file, a tiny one, and the clip's first frames, small."""
    save_folder = tmp_path / "saves"
    save_folder.mkdir()
    save_tiny_network(save_folder / "XMem-small.pth")
    clip = REPOSITORY / "examples" / "crossing"
    for path in [*sorted((clip / "JPEGImages/crossing").iterdir())[:FRAMES], clip / "Annotations/crossing/00000.png"]:
        target = tmp_path / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((72, 40), Image.Resampling.NEAREST).save(target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_of_a_document_runs(name, small_checkout):
    blocks = python_blocks(REPOSITORY / name)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace("size=480", "size=32"), name, "exec"), namespace)
    assert namespace["labels"].shape == (40, 72)
    assert set(np.unique(namespace["labels"])) <= {0, 1, 2}


def test_the_python_of_the_python_guide_writes_what_it_says(small_checkout):
    exec(python_blocks(REPOSITORY / "docs" / "python.md")[0], {})
    written = sorted(path.name for path in (small_checkout / "output" / "python").iterdir())
    assert written == [f"{number:05d}.png" for number in range(FRAMES)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_that_are_named_exist(document):
    """Paths in backticks that begin with a folder of the project."""
    folders = "|".join(path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = re.findall(rf"`((?:{folders})/[\w/]+\.\w+)`", document.read_text(encoding="utf-8"))
    ignored = ("saves/", "output/")
    assert [path for path in named if not path.startswith(ignored) and not (REPOSITORY / path).exists()] == []
