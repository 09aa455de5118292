"""What is made of records: cells, traces, claims, fitted lines."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.memory.long_term import LongTermMemory
from inference.memory.working import WorkingMemory
from reproduction.report import draw_lengths, trace_markdown
from reproduction.results import Cell, TableResult, compare, memory_and_speed
from reproduction.runs import Trace, memory_bytes
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


def test_bytes_of_memory():
    working, long_term = WorkingMemory(), LongTermMemory(capacity=100)
    assert memory_bytes((working, long_term), None) == 0
    rows = {"memory_row": torch.zeros(6, 17), "time": torch.zeros(6, dtype=torch.long)}
    long_term.append({1: torch.zeros(6, 16), 2: torch.zeros(4, 16)}, **rows)
    stores = 4 * (6 * 17 + 6 + 6 + 10 * 16) + 8 * 6
    assert memory_bytes((working, long_term), torch.zeros(2, 8, 3, 4)) == stores + 4 * 2 * 8 * 3 * 4


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


@pytest.mark.parametrize(
    ("ours", "others", "better", "holds"),
    [
        ((60.0,), (59.9,), True, True),
        ((60.0,), (60.0,), True, False),
        ((60.0,), (60.0,), False, True),
        ((60.0,), (60.1,), False, False),
        ((59.0, 61.0), (60.1,), False, True),  # within the deviation over offsets
        ((59.0, 61.0), (60.5,), False, False),  # 59 is that of the same offset
        ((59.0, 61.0), (59.5,), True, False),
    ],
)
def test_claims_about_rows(ours, others, better, holds):
    result = a_result(ours=ours, others=others)
    assert [claim.holds for claim in compare(result, "J&F L3x", "ours", "others", better)] == [holds]
    assert compare(result, "J&F L1x", "ours", "others", better) == []


def test_claims_about_memory_and_speed():
    flat = a_trace([0.1] * 1000, [5000 + 100 * (index % 25) for index in range(1000)])
    growing = a_trace([0.1 + 0.001 * index for index in range(1000)], [100 * index for index in range(1000)])
    assert [claim.holds for claim in memory_and_speed(flat, growing)] == [True] * 4
    assert [claim.holds for claim in memory_and_speed(growing, flat)] == [False] * 4
    assert memory_and_speed(a_trace([0.1], [1]), a_trace([0.1], [1])) == []
