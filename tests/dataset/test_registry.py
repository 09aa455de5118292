"""The registry of data sets: what it says of each is what the documentation and the training code say."""

from pathlib import Path

import pytest

from dataset.registry import DATA_SETS, TRAINING_SETS
from dataset.training_sets import PUBLISHED_SETS
from tests.helpers import REPOSITORY
from util.errors import UserError


def table(document: str, heading: str) -> dict[str, list[str]]:
    """The rows of a table of the documentation by their data set's name; the table follows `heading`."""
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    (names,) = [column for column, cell in enumerate(lines[0].strip("|").split("|")) if cell.strip() == "Name"]
    return {row[names].strip("`"): row for row in rows}


def page(address: str | None) -> str:
    return f"<{address}>" if address else ""


def default(root: Path | None) -> str:
    return f"`{root}`" if root else ""


@pytest.mark.parametrize(
    ("document", "heading", "entries"),
    [
        ("evaluation.md", "Data sets", DATA_SETS),
        ("data.md", "For evaluation", DATA_SETS),
        ("data.md", "For training", TRAINING_SETS),
    ],
)
def test_tables_of_the_documentation_have_every_set(document, heading, entries):
    assert list(table(document, heading)) == list(entries)


def test_evaluation_md_has_roots_and_splits():
    for name, row in table("evaluation.md", "Data sets").items():
        entry = DATA_SETS[name]
        splits = ", ".join(entry.splits)
        assert row[1:5] == [entry.title, f"`--{entry.root_name}`", default(entry.default_root), splits]


def test_data_md_has_titles_roots_and_pages():
    for name, (_, title, root, _, address) in table("data.md", "For evaluation").items():
        entry = DATA_SETS[name]
        assert [title, root, address] == [entry.title, f"`--{entry.root_name}`", page(entry.page)]
    for name, (_, _, title, root, _, address) in table("data.md", "For training").items():
        entry = TRAINING_SETS[name]
        assert [title, root, address] == [entry.title, f"`--{entry.root_name}`", page(entry.page)]


@pytest.mark.parametrize("name", TRAINING_SETS)
def test_a_missing_training_root_is_named(tmp_path, name):
    entry = TRAINING_SETS[name]
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match=rf"^{root}.* does not exist.*; {entry.root_name} is {entry.root_holds}"):
            entry.open(root)
    with pytest.raises(UserError, match=f"^{entry.root_name} has no default: it has to be {entry.root_holds}"):
        entry.open(None)


def test_sets_that_share_a_root_agree_where_it_is():
    roots: dict[str, set[Path | None]] = {}
    for entry in (*DATA_SETS.values(), *TRAINING_SETS.values()):
        roots.setdefault(entry.root_name, set()).add(entry.default_root)
    assert all(len(defaults) == 1 for defaults in roots.values())


def test_splits_scored_by_a_server_are_splits():
    assert all(set(data_set.server_splits) <= set(data_set.splits) for data_set in DATA_SETS.values())


def test_static_sets_are_those_of_training():
    assert PUBLISHED_SETS.keys() == {name for name, entry in TRAINING_SETS.items() if entry.root_name == "static_root"}
