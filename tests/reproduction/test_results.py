"""What is made of records: cells, traces, claims, fitted lines."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reproduction.report import claims_markdown, draw_lengths, trace_markdown
from reproduction.results import Cell, TableResult, compare, memory_and_speed, resampled_difference
from reproduction.runs import RunRecord, Trace
from reproduction.tables import TABLE_7, Figure, table_of


def a_trace(seconds: Sequence[float], memory: Sequence[int] = ()) -> Trace:
    return Trace({}, "", "", [*seconds], [*memory], [], 0, None)


def a_result(**values: Sequence[float]) -> TableResult:
    """Cells of one column of table 7."""
    cells = {row: {"J&F L3x": Cell(None, Figure.of(numbers))} for row, numbers in values.items()}
    return TableResult(TABLE_7, cells)


def test_a_trace_without_a_frame_is_reported():
    page = trace_markdown("speed", {"XMem": replace(a_trace([]), ended_by="out of memory at frame 0")}, {})
    assert "| XMem | 0 | – | – | – | – |" in page
    assert "out of memory at frame 0" in page


def test_a_trace_as_a_row():
    seconds = [9.0, *[0.1] * 10, *[0.2] * 80, *[0.5] * 10, *[0.2] * 150]
    page = trace_markdown("figure1", {"XMem": a_trace(seconds, range(0, 251 * 2048, 2048))}, {"Other": "not run"})
    assert "| XMem | 251 | 0.5 MiB | 2.0 KiB | 6.2 | 5.0 | 0 MiB |" in page  # 25 frames: 10 of 0.1 s and 15 of 0.2 s
    assert "Other: not run" in page


def test_growth_is_between_frames_100_and_200():
    memory = [7000] * 100 + [1000 + 30 * index for index in range(101)] + [9] * 50
    assert a_trace([1.0] * 251, memory).growth_per_frame() == 30
    assert a_trace([1.0] * 200, memory[:200]).growth_per_frame() is None


def test_speed_by_frame_leaves_the_first_out_and_is_of_the_median_frame():
    seconds = [9.0, *[0.1, 0.1, 5.0], *[0.5, 0.5, 0.5], 0.2]
    assert a_trace(seconds).fps_by_frame(window=3) == ([2, 5], [10, 2])
    assert a_trace([]).fps_by_frame(window=3) == ([], [])


def test_figures_as_text():
    assert str(Figure.of((60.0, 62.0))) == "61.0 ± 1.4"
    assert str(Figure.of((60.0,))) == "60.0"
    assert str(Figure.of((12.0, 18.0, 15.0), per_video=True)) == "12–18"
    assert str(Figure.of((12.0, 12.0), per_video=True)) == "12"


def test_least_squares_by_hand(tmp_path: Path):
    """Of (1, 2), (2, 3), (4, 9): Σ(x−x̄)(y−ȳ) = Σxy − 3·x̄·ȳ = 44 − 98/3 = 34/3, Σ(x−x̄)² = 21 − 49/3 = 14/3."""
    lengths = (1, 2, 4)
    table = table_of("figure7", lengths)
    cells = {f"J&F L{n}x": Cell(None, Figure.of([y])) for n, y in zip(lengths, (2.0, 3.0, 9.0), strict=True)}
    text = draw_lengths(TableResult(table, {"XMem": cells}), lengths, tmp_path)
    assert "- XMem: -1.00 + 2.429 n\n" in text  # 14/3 − 34/14 · 7/3 = −1, 34/14 = 2.429


def a_run(scores: Sequence[float], offset: int = 0, objects: Sequence[int] = ()) -> RunRecord:
    """J&F of videos a, b, c, …; each has one object unless `objects` says otherwise."""
    names = "abcdefghijklmnop"[: len(scores)]
    return RunRecord(
        config={"inference": {"mem_offset": offset}}, hardware="", commit="", folder="", scores={}, fps=None,
        video_scores={name: {"J&F": score} for name, score in zip(names, scores, strict=True)},
        objects=dict(zip(names, objects or [1] * len(scores), strict=True)), end_to_end_fps=None, frames=0, failures={},
        memory={}, server_zip=None, seconds=0.0,
    )  # fmt: skip


ALIKE = (60.0, 70.0, 80.0, 50.0, 90.0, 75.0)


@pytest.mark.parametrize(
    ("gains", "no_worse", "better"),
    [
        ((2.0, 3.0, 2.5, 2.0, 3.0, 2.0), True, True),
        ((0.2, -0.2, 0.1, 0.0, -0.3, 0.2), True, None),
        ((-2.0, -3.0, -2.5, -2.0, -3.0, -2.0), False, False),
        ((9.0, -8.0, 7.0, -9.0, 8.0, -6.0), None, None),  # videos differ more than variants
    ],
)
def test_a_claim_holds_fails_or_cannot_be_told_by_the_videos(gains, no_worse, better):
    result = a_result(ours=ALIKE, others=ALIKE)
    for row, scores in ("others", ALIKE), ("ours", [s + g for s, g in zip(ALIKE, gains, strict=True)]):
        result.cells[row]["J&F L3x"] = replace(result.cells[row]["J&F L3x"], records=(a_run(scores),))
    verdicts = [compare(result, "J&F L3x", "ours", "others", is_better)[0].holds for is_better in (False, True)]
    assert verdicts == [no_worse, better]
    assert compare(result, "J&F L1x", "ours", "others", True) == []  # not measured


def test_the_interval_is_that_of_paired_videos_and_narrows_with_their_number():
    few, many = (
        resampled_difference([a_run(scores)], [a_run(np.zeros(len(scores)))], "J&F")
        for scores in (np.array([0.0, 2.0] * 3), np.array([0.0, 2.0] * 8))
    )
    assert few.mean == many.mean == 1
    # The mean of n draws of 0 or 2 has the standard deviation 1/√n; 95 % are within 1.96 of them.
    assert many.high - many.low == pytest.approx(2 * 1.96 / 16**0.5, rel=0.2)
    assert many.high - many.low < few.high - few.low


def test_objects_count_alike_and_offsets_are_paired():
    one = resampled_difference([a_run((10.0, 20.0), objects=(3, 1))], [a_run((0.0, 0.0), objects=(3, 1))], "J&F")
    assert one.mean == pytest.approx((3 * 10 + 20) / 4)
    ours = [a_run((10.0,)), a_run((50.0,), offset=2)]
    assert resampled_difference(ours, [a_run((9.0,))], "J&F")[:3] == (1, 1, 1)
    both = resampled_difference(ours, [a_run((9.0,)), a_run((47.0,), offset=2)], "J&F")
    assert (both.mean, both.low, both.high) == (2, 1, 3)
    assert resampled_difference(ours, [a_run((9.0,), offset=4)], "J&F") is None


def test_few_videos_tell_nothing():
    result = a_result(ours=ALIKE, others=ALIKE)
    for row, scores in ("ours", (70.0,) * 3), ("others", (60.0,) * 3):
        result.cells[row]["J&F L3x"] = replace(result.cells[row]["J&F L3x"], records=(a_run(scores),))
    (claim,) = compare(result, "J&F L3x", "ours", "others", True)
    assert claim.holds is None
    assert "+10.0 [+10.0, +10.0], 3 videos" in claims_markdown([claim])
    assert "cannot be told" in claims_markdown([claim])


def test_claims_about_memory_and_speed():
    flat = a_trace([0.1] * 1000, [5000 + 100 * (index % 25) for index in range(1000)])
    growing = a_trace([0.1 + 0.001 * index for index in range(1000)], [100 * index for index in range(1000)])
    assert [claim.holds for claim in memory_and_speed(flat, growing)] == [True] * 4
    assert [claim.holds for claim in memory_and_speed(growing, flat)] == [False] * 4
    assert memory_and_speed(a_trace([0.1], [1]), a_trace([0.1], [1])) == []
