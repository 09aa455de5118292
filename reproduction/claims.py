"""Does the shape of the paper's results show? Its claims about variants, each compared with what was measured."""

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from reproduction.results import TableResult
from reproduction.traces import Trace

EDGE = 200
"""Frames at the beginning and the end of a traced video that are compared."""


class Claim(NamedTuple):
    """One claim of the paper, what was measured of it, and whether that agrees."""

    text: str
    measured: str
    holds: bool


def all_claims(results: Mapping[str, TableResult], traces: Mapping[str, Trace]) -> list[Claim]:
    """The claims that can be judged by these tables and by the traces of XMem and of it without long-term memory."""
    claims = []
    if len(traces) == 2:
        claims += memory_and_speed(*traces.values())
    if result := results.get("table6"):
        for other in ("Random P=128", "K-means centroid P=128", "No potentiation"):
            claims += compare(result, "J&F L3x", "Usage-based P=128", other)
        for other in ("Random P=12", "K-means centroid P=12", "Usage-based P=12, no potentiation"):
            claims += compare(result, "J&F L3x", "Usage-based P=12", other)
    if result := results.get("table7"):
        for column in ("J&F L1x", "J&F L3x"):
            claims += compare(result, column, "Consolidation", "Eager compression", better=True)
            eager = "Eager compression as strong as with P=12"
            claims += compare(result, column, "Consolidation, P=12", eager, better=True)
            claims += compare(result, column, "Consolidation", "Local window", better=True)
            claims += compare(result, column, "Consolidation", "Sparse insertion")
    return claims


def memory_and_speed(with_long_term: Trace, without: Trace) -> list[Claim]:
    """Flat memory and speed with long-term memory, growing memory and falling speed without it."""
    claims = []
    for trace, grows, store in ((with_long_term, False, "with"), (without, True, "without")):
        frames = len(trace.seconds)
        if frames < 4 * EDGE:
            continue
        # Memory goes up and down as it is consolidated: its peaks are compared, in the middle and at the end.
        memory = max(trace.memory_bytes[-EDGE:]) / max(trace.memory_bytes[frames // 2 - EDGE : frames // 2])
        slowing = sum(trace.seconds[-EDGE:]) / sum(trace.seconds[1 : EDGE + 1])
        claims += [
            Claim(
                f"Memory {'grows on' if grows else 'does not grow any more'} {store} long-term memory",
                f"×{memory:.2f} from frame {frames // 2} to {frames}",
                (memory > 1.3) == grows,
            ),
            Claim(
                f"Speed {'falls' if grows else 'stays'} {store} long-term memory",
                f"a frame takes ×{slowing:.2f} as long at the end as at the beginning",
                (slowing > 1.3) == grows,
            ),
        ]
    return claims


def compare(result: TableResult, column: str, ours: str, other: str, better: bool = False) -> list[Claim]:
    """That one row is no worse than another, within the deviation over offsets, or that it is better.

    Where one row has fewer offsets than the other, only those that both have are compared. Nothing of an empty cell.
    """
    mine, theirs = result.here(ours, column), result.here(other, column)
    if mine is None or theirs is None:
        return []
    offsets = min(len(mine.values), len(theirs.values))
    first, second = fmean(mine.values[:offsets]), fmean(theirs.values[:offsets])
    chance = max(mine.deviation or 0.0, theirs.deviation or 0.0)
    holds = first > second if better else first >= second - chance
    measured = f"{first:.1f} against {second:.1f}" + (f", ± {chance:.1f} over offsets" if chance else "")
    return [Claim(f"{ours} is {'better' if better else 'no worse'} than {other} ({column})", measured, holds)]
