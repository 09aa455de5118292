"""Tables as Markdown and JSON, and all of them as one page."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from inference.config import InferenceConfig
from reproduction.claims import Claim
from reproduction.results import CellResult, TableResult, figure_text
from reproduction.tables import Column, Difference, Row
from util.files import write_text_atomically

NOTHING = "–"

Settings = Mapping[str, str]
"""What is said of all results: network, device, commit, …"""


class Footnotes:
    """Reasons why cells are empty, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        """What stands in the cell."""
        return f"[{self._numbers.setdefault(reason, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        """What stands below the table."""
        return [f"[{number}] {escaped(reason)}  " for reason, number in self._numbers.items()]


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return text.replace("*", "\\*").replace("|", "\\|")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, its first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def table_markdown(result: TableResult) -> str:
    """The table, each figure as published and as here, with what is missing, and what each row's settings are."""
    table, notes = result.table, Footnotes()
    lines = [f"## {heading(table.name)}: {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    for columns in groups(result):
        rows = [row for row in table.rows if any(not is_empty(result.cells[row.title][c.title]) for c in columns)]
        head = ["", *(f"{escaped(column.title)}, {side}" for column in columns for side in sides(result, column))]
        if rows:
            lines += [*markdown_table(head, (row_texts(result, row, columns, notes) for row in rows)), ""]
    lines += [*notes.lines(), ""] if notes.lines() else []
    if result.data_sets:
        lines += [
            "Data sets here: " + "; ".join(f"{name}: {what}" for name, what in result.data_sets.items()) + ".",
            "",
        ]
    lines += settings_lines(result)
    return "\n".join(lines).rstrip() + "\n"


def heading(name: str) -> str:
    """table7 → Table 7"""
    for kind in ("table", "figure"):
        if name.startswith(kind):
            return f"{kind.capitalize()} {name.removeprefix(kind)}"
    return {"multiscale": "Multi-scale", "speed": "Speed"}[name]


def groups(result: TableResult) -> Iterator[list[Column | Difference]]:
    """The columns that stand in one table: all, or those of one data set."""
    table = result.table
    if not table.by_data_set:
        yield list(table.columns)
        return
    for data_set in dict.fromkeys(column.data_set for column in table.measured):
        yield [column for column in table.measured if column.data_set == data_set]


def sides(result: TableResult, column: Column | Difference) -> list[str]:
    """Published and here; here alone, where nothing of the column was published."""
    has_published = any(cells[column.title].published for cells in result.cells.values())
    return ["published", "here"] if has_published else ["here"]


def is_empty(cell: CellResult) -> bool:
    return cell.published is None and cell.here is None and cell.absent is None


def row_texts(result: TableResult, row: Row, columns: Sequence[Column | Difference], notes: Footnotes) -> Iterator[str]:
    """One line of the table."""
    yield escaped(row.title)
    for column in columns:
        cell = result.cells[row.title][column.title]
        digits = cell.here.digits if cell.here else 0 if cell.published and cell.published.mean > 1000 else 1
        for side in sides(result, column):
            if side == "published":
                yield figure_text(cell.published, digits) if cell.published else NOTHING
            else:
                yield (
                    " ".join(
                        part
                        for part in (
                            str(cell.here) if cell.here else "",
                            notes.mark(cell.absent) if cell.absent else "",
                        )
                        if part
                    )
                    or NOTHING
                )


def settings_lines(result: TableResult) -> list[str]:
    """What the rows' configurations change in the published one; the whole of them is in the JSON file."""
    lines = []
    for row in result.table.rows:
        changes = {}
        for cell in result.cells[row.title].values():
            for run in cell.runs:
                changes[data_set_of_folder(run.folder)] = changed_from_published(run.config)
        texts = dict.fromkeys(
            ", ".join(f"`{name}={value}`" for name, value in change.items()) for change in changes.values()
        )
        if texts:
            lines.append(f"- {escaped(row.title)}: " + "; ".join(text or "as published" for text in texts))
    return ["Settings that differ from the published ones:", "", *lines] if lines else []


def data_set_of_folder(folder: str) -> str:
    return folder.partition("/")[0]


def changed_from_published(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `InferenceConfig` that differ from their defaults (but the offset), and further views of a frame."""
    published = {field.name: field.default for field in fields(InferenceConfig)}
    views = {name: config[name] for name in ("other_sizes", "flip_too") if config[name]}
    return {n: value for n, value in config["inference"].items() if value != published[n] and n != "mem_offset"} | views


def table_json(result: TableResult, settings: Settings) -> dict[str, Any]:
    """Everything that is known of a table."""
    return {
        "table": result.table.name,
        "title": result.table.title,
        "about": dict(settings),
        "data_sets": dict(result.data_sets),
        "rows": [
            {
                "title": row.title,
                "variant": row.variant.name if row.variant else None,
                "cells": [cell_json(column, result.cells[row.title][column.title]) for column in result.table.columns],
            }
            for row in result.table.rows
        ],
    }


def cell_json(column: Column | Difference, cell: CellResult) -> dict[str, Any]:
    """One figure, and the configurations that it comes from."""
    return {
        "column": column.title,
        "published": cell.published._asdict() if cell.published else None,
        "here": cell.here.to_json_dict() if cell.here else None,
        "absent": cell.absent,
        "runs": [
            {
                "folder": run.folder,
                "config": run.config
                | {"root": Path(run.config["root"]).name, "weights": Path(run.config["weights"]).name},
                "frames": run.frames,
                "memory": run.memory,
                "commit": run.commit,
                "hardware": run.hardware,
            }
            for run in cell.runs
        ],
    }


def claims_markdown(claims: Sequence[Claim]) -> str:
    """The claims as a table."""
    rows = ((escaped(claim.text), escaped(claim.measured), "yes" if claim.holds else "**no**") for claim in claims)
    lines = [
        "## Does the paper's shape show?",
        "",
        "As good as another counts as no worse, within the standard deviation over offsets where there is one.",
        "",
        *markdown_table(["Claim", "Here", "Holds"], rows),
    ]
    return "\n".join(lines) + "\n"


def page(title: str, statement: str, settings: Settings, sections: Sequence[str], remarks: str = "") -> str:
    """All of it as one page: what it is, first of all."""
    lines = [f"# {title}", ""]
    if statement:
        lines += [f"**{statement}**", ""]
    lines += [
        "Made by `python -m scripts.reproduce`, see `docs/reproduce.md`. *Published* is what the paper and its "
        "authors' pages say, *here* is what was measured. Where a ± follows, it is the mean over offsets of the memory "
        "insertion, with the standard deviation.",
        "",
        *markdown_table(["", ""], ((escaped(name), escaped(value)) for name, value in settings.items())),
        "",
    ]
    if remarks:
        lines += [remarks.strip(), ""]
    return "\n".join(lines) + "\n" + "\n".join(sections)


def write_table(folder: Path, result: TableResult, settings: Settings, markdown: str) -> None:
    """Write NAME.md and NAME.json.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / f"{result.table.name}.md", markdown)
    content = json.dumps(table_json(result, settings), indent=1, ensure_ascii=False)
    write_text_atomically(folder / f"{result.table.name}.json", content + "\n")
