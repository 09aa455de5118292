"""The whole report: a page with every table and figure that was asked for, and each of them as files of its own."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reproduction.claims import all_claims
from reproduction.data_sets import MissingError
from reproduction.figures import draw, least_squares_line, length_points, memory_lines, speed_lines
from reproduction.planning import TRACED, TRACES, Task, table_of
from reproduction.published import published_results
from reproduction.report import Settings, claims_markdown, escaped, markdown_table, page, table_markdown, write_table
from reproduction.results import TableResult, fill
from reproduction.runner import Runner
from reproduction.runs import Run, RunRecord
from reproduction.traces import GROWTH_BETWEEN, Trace
from util.files import write_text_atomically

PAGE = "results.md"
PARTS = "results"
"""The folder beside the page with tables and figures."""


class Drawing(NamedTuple):
    """A figure's name, and what it shows."""

    name: str
    caption: str


def make_report(names: Iterable[str], runner: Runner, folder: Path, remarks: str = "") -> Path:
    """Write results.md and the folder results; gives the page.

    Args:
        names: of tables and figures, in the order in which they are to stand.
        remarks: Markdown that somebody wrote about these results, to stand near the top.

    Raises:
        UserError: matplotlib is not there, or a record is damaged.
        OSError: something cannot be written.
    """
    parts = folder / PARTS
    traces, untraced = collect_traces(runner)
    results: dict[str, TableResult] = {}
    sections = []
    for name in names:
        table = table_of(name, runner.profile)
        drawings, text = [], ""
        if table is not None:
            results[name] = fill(table, runner)
            text = table_markdown(results[name])
        if name == "figure7":
            drawings, fits = draw_lengths(results[name], runner, parts)
            text += fits
        if name in TRACES:
            drawings = draw_traces(name, traces, parts)
            text += trace_markdown(name, traces, untraced)
        own, on_page = (text + "".join(image(drawing, prefix) for drawing in drawings) for prefix in ("", f"{PARTS}/"))
        sections.append(on_page)
        if name in results:
            write_table(parts, results[name], settings_of_all(runner, results[name].runs), own)
        else:
            parts.mkdir(parents=True, exist_ok=True)
            write_text_atomically(parts / f"{name}.md", own)
    if claims := all_claims(results, traces):
        sections.insert(0, claims_markdown(claims))
    runs = list({run.folder: run for result in results.values() for run in result.runs}.values())
    statement = " ".join(filter(None, (runner.profile.statement, seen_statement(runner, runs))))
    target = folder / PAGE
    write_text_atomically(target, page("Results", statement, settings_of_all(runner, runs), sections, remarks))
    return target


def settings_of_all(runner: Runner, runs: Sequence[RunRecord]) -> Settings:
    """What is said of these runs; of now, if there are none."""
    settings = {
        "Network": f"{runner.networks.model.name}, SHA-256 {runner.networks.checksum('')}",
        "Profile": runner.profile.name,
        "Hardware": "; ".join(sorted({run.hardware for run in runs} or {runner.hardware})),
        "Commit": ", ".join(sorted({run.commit for run in runs} or {runner.commit})),
    }
    if runs:
        settings["Time of the runs"] = f"{sum(run.seconds for run in runs) / 60:.0f} min"
    return settings


def seen_statement(runner: Runner, runs: Sequence[RunRecord]) -> str:
    """Which videos were in the network's training, as it says of itself."""
    checkpoint, _ = runner.networks.open("")
    seen = sorted({name for run in runs for name in run.memory} & set(checkpoint.metadata.get("videos_seen", ())))
    return f"The network was trained on {', '.join(seen)}: figures on them are no measure of anything." if seen else ""


def collect_traces(runner: Runner) -> tuple[dict[str, Trace], dict[str, str]]:
    """The traces that there are, by what they are called, and why others are not there."""
    traces, absent = {}, {}
    for title, variant in TRACED.items():
        if (data_set := runner.profile.data_sets.get("trace")) is None:
            absent[title] = f"data: the profile {runner.profile.name} has no video for it"
            continue
        run = Run(variant, data_set)
        try:
            done = runner.trace(run)
        except MissingError as error:
            absent[title] = str(error)
            continue
        if done is None:
            absent[title] = runner.absent.get(Task(0, run, is_trace=True).name, "not run")
        else:
            traces[title] = done
    return traces, absent


def draw_traces(name: str, traces: Mapping[str, Trace], parts: Path) -> list[Drawing]:
    """Figure 1, left, or speed over frames."""
    if name == "figure1":
        lines, label = memory_lines(traces), "memory in MiB"
        drawing = Drawing("figure1", "Memory over the length of a video")
    else:
        window = min([100, *(max(len(trace.seconds) // 4, 1) for trace in traces.values())])
        lines, label = speed_lines(traces, window), "frames per second"
        drawing = Drawing("speed", "Speed over the length of a video")
    if not lines:
        return []
    draw(parts / drawing.name, lines, drawing.caption, "frame", label)
    return [drawing]


def trace_markdown(name: str, traces: Mapping[str, Trace], absent: Mapping[str, str]) -> str:
    """What was measured frame by frame, as a table."""
    if name == "figure1":
        lines = ["## Figure 1, left: memory over the length of a video", ""]
    else:
        lines = ["", "### Over the length of a video", ""]
    begin, end = GROWTH_BETWEEN
    rows = []
    for title, trace in traces.items():
        growth = trace.growth_per_frame()
        edges = [f"{fps:.1f}" for fps in edge_fps(trace) or ()] or ["–", "–"]
        at_end = f"{trace.occupied_bytes[-1] / 2**20:.1f} MiB" if trace.occupied_bytes else "–"
        rows.append(
            [
                escaped(title),
                str(len(trace.seconds)),
                at_end,
                "–" if growth is None else f"{growth / 1024:.1f} KiB",
                *edges,
                f"{trace.peak_process_bytes / 2**20:.0f} MiB",
            ]
        )
    if rows:
        head = ["", "frames", "memory at the end", f"growth a frame, {begin} to {end}"]
        head += ["FPS, first tenth", "FPS, last tenth", "peak of the process"]
        lines += [*markdown_table(head, rows), ""]
        lines += [f"{escaped(title)}: {trace.ended_by}  " for title, trace in traces.items() if trace.ended_by]
    lines += [f"{escaped(title)}: {escaped(reason)}  " for title, reason in absent.items()]
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


def edge_fps(trace: Trace) -> tuple[float, float] | None:
    """Frames per second in the first and in the last tenth; the first frame, which reads nothing, is left out."""
    seconds = trace.seconds[1:] or trace.seconds
    if not seconds:
        return None
    count = max(len(seconds) // 10, 1)
    return count / sum(seconds[:count]), count / sum(seconds[-count:])


def draw_lengths(result: TableResult, runner: Runner, parts: Path) -> tuple[list[Drawing], str]:
    """Figure 7, and its least-squares lines in words."""
    lengths = {column.title: n for column, n in zip(result.table.measured, runner.profile.lengths, strict=True)}
    clouds = length_points(result, lengths)
    if not clouds:
        return [], ""
    drawing = Drawing("figure7", "J&F over the length of the video")
    draw(parts / drawing.name, clouds, drawing.caption, "length of the video, n×", "J&F (%)")
    lines = ["", "Least squares, J&F against n:", ""]
    for points in clouds:
        if len(points.x) > 1:
            slope, intercept = least_squares_line(points.x, points.y)
            lines.append(f"- {escaped(points.label)}: {intercept:.2f} {'+' if slope >= 0 else '−'} {abs(slope):.3f} n")
    return [drawing], "\n".join(lines) + "\n\n"


def image(drawing: Drawing, prefix: str) -> str:
    return f"\n![{drawing.caption}]({prefix}{drawing.name}.png)\n([SVG]({prefix}{drawing.name}.svg))\n\n"
