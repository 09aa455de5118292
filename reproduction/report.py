"""The report: one page with every table and figure, and each of them in files of its own (Markdown, JSON, PNG, SVG)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from inference.config import InferenceConfig
from model.checkpoint import read_checkpoint
from reproduction.plan import Run
from reproduction.profiles import CannotRunError
from reproduction.results import FEWEST_VIDEOS, MARGIN, RESAMPLES, Cell, Claim, TableResult, check_claims, fill
from reproduction.runs import GROWTH_BETWEEN, Runner, RunRecord, Trace, checksum
from reproduction.tables import TRACE_FIGURES, TRACED_VARIANTS, Column, Difference, Row, published_results, table_of
from util.figures import COLOURS, drawing
from util.files import write_text_atomically

PARTS = "results"
"""The folder beside the page with tables and figures."""
NOTHING = "–"


def make_report(names: Iterable[str], runner: Runner, folder: Path, remarks: Path | None = None) -> Path:
    """Write results.md and the folder results; return the page.

    Args:
        names: tables and figures, in the order in which they are to stand.
        remarks: a Markdown file that somebody wrote about these results, to stand near the top.

    Raises:
        UserError: matplotlib is not installed, or a record is damaged.
        OSError: something cannot be written.
    """
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    traces, untraced = collect_traces(runner)
    results: dict[str, TableResult] = {}
    sections = []
    for name in names:
        text = ""
        if table := table_of(name, runner.profile.lengths):
            results[name] = fill(table, runner)
            text = table_markdown(results[name])
            about = facts(runner, results[name].records)
            content = json.dumps(table_json(results[name], about), indent=1, ensure_ascii=False)
            write_text_atomically(parts / f"{name}.json", content + "\n")
        if name == "figure7":
            text += draw_lengths(results[name], runner.profile.lengths, parts)
        if name in TRACE_FIGURES:
            text += trace_markdown(name, traces, untraced) + draw_traces(name, traces, parts)
        write_text_atomically(parts / f"{name}.md", text)
        sections.append(text.replace(f"]({name}.", f"]({PARTS}/{name}."))
    if claims := check_claims(results, traces):
        sections.insert(0, claims_markdown(claims))
    records = list({record.folder: record for result in results.values() for record in result.records}.values())
    lines = ["# Results", ""]
    if statement := f"{runner.profile.statement} {statement_of_training(runner, records)}".strip():
        lines += [f"**{statement}**", ""]
    lines += [
        "Made by `python -m scripts.reproduce`, see `docs/reproduce.md`. *Published* is what the paper and its "
        "authors' pages say, *here* is what was measured. Where a ± follows, it is the mean over offsets of the memory "
        "insertion, with the standard deviation.",
        "",
        *markdown_table(["", ""], ([escaped(each) for each in fact] for fact in facts(runner, records).items())),
        "",
        *([remarks.read_text(encoding="utf-8").strip(), ""] if remarks else []),
    ]
    page = folder / "results.md"
    write_text_atomically(page, "\n".join(lines) + "\n" + "\n".join(sections))
    return page


def facts(runner: Runner, records: Sequence[RunRecord]) -> dict[str, str]:
    """Return what is said of these runs; of the present program and device, if there are none."""
    now = runner.provenance
    facts = {
        "Network": f"{runner.model.name}, SHA-256 {checksum(runner.model)}",
        "Profile": runner.profile.name,
        "Hardware": "; ".join(sorted({record.hardware for record in records} or {now["hardware"]})),
        "Commit": ", ".join(sorted({record.commit for record in records} or {now["commit"]})),
    }
    if records:
        facts["Time of the runs"] = f"{sum(record.seconds for record in records) / 60:.0f} min"
    return facts


def statement_of_training(runner: Runner, records: Sequence[RunRecord]) -> str:
    """Return which of the videos were in the network's training, according to its metadata; "" for none."""
    metadata = read_checkpoint(runner.model).metadata
    seen = sorted({name for record in records for name in record.memory} & set(metadata.get("videos_seen", ())))
    return f"The network was trained on {', '.join(seen)}: figures on them are no measure of anything." if seen else ""


def collect_traces(runner: Runner) -> tuple[dict[str, Trace], dict[str, str]]:
    """Return the traces there are, by their names in figures, and why others are not there."""
    traces, absent = {}, {}
    for title, variant in TRACED_VARIANTS.items():
        if (data_set := runner.profile.data_sets.get("trace")) is None:
            absent[title] = f"data: the profile {runner.profile.name} has no video for it"
            continue
        run = Run(variant, data_set, traced=True)
        try:
            if trace := runner.trace(run):
                traces[title] = trace
            else:
                absent[title] = runner.absent.get(run.name, "not run")
        except CannotRunError as error:
            absent[title] = str(error)
    return traces, absent


# --- Tables -----------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Return text that Markdown leaves as it is."""
    return text.replace("*", "\\*").replace("|", "\\|")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table with its first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def table_markdown(result: TableResult) -> str:
    """Return the table, every figure as published and as here, with footnotes on what is missing and with settings."""
    table = result.table
    reasons: dict[str, int] = {}  # footnotes: reason → number
    lines = [f"## {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    parts: list[Sequence[Column | Difference]] = [table.columns]
    if table.by_data_set:
        parts = [[*columns] for _, columns in groupby(table.measured, key=lambda column: column.data_set)]
    for columns in parts:
        head, rows = [""], {}
        for title, cells in result.cells.items():
            if any(cells[column.title] != Cell() for column in columns):
                rows[title] = [escaped(title)]
        for column in columns:
            cells = {title: result.cells[title][column.title] for title in result.cells}
            was_published = any(cell.published for cell in cells.values())
            head += [
                f"{escaped(column.title)}, {side}" for side in ("published", "here") if was_published or side == "here"
            ]
            for title, texts in rows.items():
                cell = cells[title]
                if was_published:
                    texts.append(str(cell.published or NOTHING))
                here = [str(cell.here)] if cell.here else []
                if cell.absent:
                    here.append(f"[{reasons.setdefault(cell.absent, len(reasons) + 1)}]")
                texts.append(" ".join(here) or NOTHING)
        if rows:
            lines += [*markdown_table(head, rows.values()), ""]
    if reasons:
        lines += [*(f"[{number}] {escaped(reason)}  " for reason, number in reasons.items()), ""]
    if result.data_sets:
        data_sets = "; ".join(f"{name}: {title}" for name, title in result.data_sets.items())
        lines += [f"Data sets here: {data_sets}.", ""]
    settings = [line for row in table.rows for line in settings_of(result, row)]
    if settings:
        lines += ["Settings that differ from the published ones:", "", *settings]
    return "\n".join(lines).rstrip() + "\n"


def settings_of(result: TableResult, row: Row) -> list[str]:
    """Return a line on what a row changes in the published configuration; the whole of it is in the JSON file."""
    published = InferenceConfig().settings()
    changes = {}
    for cell in result.cells[row.title].values():
        for record in cell.records:
            views = {name: record.config[name] for name in ("other_sizes", "flip_too") if record.config[name]}
            settings = record.config["inference"].items()
            changed = {name: value for name, value in settings if published.get(name) != value and name != "mem_offset"}
            data_set, *_ = record.folder.split("/")
            changes[data_set] = ", ".join(f"`{name}={value}`" for name, value in (changed | views).items())
    texts = dict.fromkeys(text or "as published" for text in changes.values())
    return [f"- {escaped(row.title)}: {'; '.join(texts)}"] if texts else []


def table_json(result: TableResult, about: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that is known of a table, with the configuration of every run."""
    cells = {row: {column: asdict(cell) for column, cell in columns.items()} for row, columns in result.cells.items()}
    table = {"table": result.table.name, "title": result.table.title, "about": dict(about)}
    return table | {"data_sets": dict(result.data_sets), "cells": cells}


def claims_markdown(claims: Sequence[Claim]) -> str:
    """Return the claims as a table."""
    verdicts = {True: "yes", False: "**no**", None: "cannot be told"}
    rows = [[escaped(claim.text), escaped(claim.measured), verdicts[claim.holds]] for claim in claims]
    lines = [
        "## Do the paper's claims hold here?",
        "",
        f"A difference of J&F is followed by the interval that holds 95 % of its {RESAMPLES:,} resamples: videos and "
        "offsets of the memory insertion drawn with replacement, the same for both variants. A claim holds, or does "
        f"not, if the whole interval says so, and there are at least {FEWEST_VIDEOS} videos. No worse is at most "
        f"{MARGIN:.1f} below the other. (Long-time Video has three videos.)",
        "",
        *markdown_table(["Claim", "Here", "Holds"], rows),
    ]
    return "\n".join(lines) + "\n"


def trace_markdown(name: str, traces: Mapping[str, Trace], absent: Mapping[str, str]) -> str:
    """Return what was measured frame by frame as a table."""
    begin, end = GROWTH_BETWEEN
    lines = ["## Figure 1, left: memory over the length of a video", ""]
    if name == "speed":
        lines = ["", "### Over the length of a video", ""]
    rows = []
    for title, trace in traces.items():
        texts = [escaped(title), str(len(trace.seconds)), NOTHING, NOTHING, NOTHING, NOTHING]
        if seconds := trace.seconds[1:] or trace.seconds:  # memory is not read for the first frame
            tenth = max(len(seconds) // 10, 1)
            texts[2] = f"{occupied_mebibytes(trace)[-1]:.1f} MiB"
            texts[4:] = [f"{tenth / sum(part):.1f}" for part in (seconds[:tenth], seconds[-tenth:])]
        if (growth := trace.growth_per_frame()) is not None:
            texts[3] = f"{growth / 1024:.1f} KiB"
        rows.append([*texts, f"{trace.peak_process_bytes / 2**20:.0f} MiB"])
    if rows:
        head = ["", "frames", "memory at the end", f"growth a frame, {begin} to {end}"]
        head += ["FPS, first tenth", "FPS, last tenth", "peak of the process"]
        lines += [*markdown_table(head, rows), ""]
    ends = {title: trace.ended_by for title, trace in traces.items() if trace.ended_by}
    lines += [f"{escaped(title)}: {escaped(reason)}  " for title, reason in (ends | dict(absent)).items()]
    if name == "figure1":
        claims = published_results()["memory_claims"]
        lines += [
            "",
            "Memory is what the allocator of a CUDA device has given out; on a CPU it is the size of the stores. Its "
            "growth is that of the stores everywhere. "
            f"The paper: at most {claims['max_gpu_memory_gb_at_10000_elements']} GB with 10,000 elements of long-term "
            f"memory, and {claims['frames_in_6gb_without_eviction']:,} frames in 6 GB without eviction, at 480p.",
        ]
    return "\n".join(lines).rstrip() + "\n\n"


def occupied_mebibytes(trace: Trace) -> list[float]:
    """Return what figure 1 shows: all that is allocated on a CUDA device, the memory alone elsewhere."""
    return [size / 2**20 for size in trace.allocated_bytes or trace.memory_bytes]


# --- Figures ----------------------------------------------------------------------------------------------------------


def link(name: str, caption: str) -> str:
    """Return the Markdown that shows a figure."""
    return f"\n![{caption}]({name}.png)\n([SVG]({name}.svg))\n\n"


def draw_traces(name: str, traces: Mapping[str, Trace], parts: Path) -> str:
    """Draw memory (figure 1, left) or speed over frames; return the Markdown that shows it."""
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    begin, end = GROWTH_BETWEEN
    window = min([100, *(max(len(trace.seconds) // 4, 1) for trace in traces.values())])
    for title, trace in traces.items():
        if name == "speed":
            lines[title] = trace.fps_by_frame(window)
            continue
        growth = trace.growth_per_frame()
        label = "" if growth is None else f": {growth / 1024:.1f} KiB a frame between {begin} and {end}"
        lines[title + label] = range(len(trace.memory_bytes)), occupied_mebibytes(trace)
    lines = {label: line for label, line in lines.items() if len(line[0])}
    if not lines:
        return ""
    quantity, unit = "Memory", "memory in MiB"
    if name == "speed":
        quantity, unit = "Speed", f"frames per second (the median of {window} frames)"
    caption = f"{quantity} over the length of a video"
    with drawing(parts / name, caption, "frame", unit) as axes:
        for label, line in lines.items():
            axes.plot(*line, label=label)
        axes.set_ylim(bottom=0)
    return link(name, caption)


def draw_lengths(result: TableResult, lengths: Sequence[int], parts: Path) -> str:
    """Draw figure 7, J&F over n of videos of n×; return the Markdown that shows it, with its least-squares lines."""
    fits, caption = [], "J&F over the length of the video"
    points = {}
    columns = list(zip(lengths, result.table.measured, strict=True))
    for row in result.table.rows:
        if measured := {n: here for n, column in columns if (here := result.here(row.title, column.title))}:
            points[row.title] = measured
    if not points:
        return ""
    with drawing(parts / result.table.name, caption, "length of the video, n×", "J&F (%)") as axes:
        for (title, measured), colour in zip(points.items(), COLOURS, strict=False):
            n, means = list(measured), [here.mean for here in measured.values()]
            label = title
            if len(n) > 1:
                slope, intercept = np.polyfit(n, means, 1)
                ends = np.array([min(n), max(n)])
                axes.plot(ends, intercept + slope * ends, color=colour, alpha=0.6)
                label += f" ({slope:+.2f} per 1×)"
                fits.append(f"- {escaped(title)}: {intercept:.2f} {'+' if slope >= 0 else '−'} {abs(slope):.3f} n")
            deviations = [here.deviation or 0 for here in measured.values()]
            axes.errorbar(n, means, yerr=deviations, fmt="o", color=colour, capsize=3, label=label)
        axes.margins(y=0.15)
    return "\n".join(["", "Least squares, J&F against n:", "", *fits]) + "\n\n" + link(result.table.name, caption)
