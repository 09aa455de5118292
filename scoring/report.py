"""Scores as a table to read, and as JSON and CSV files for programs."""

import csv
import io
import json
from pathlib import Path

from scoring.scores import MeanScore, Scores
from util.files import write_text_atomically


def table(scores: Scores) -> str:
    """Lines of text: the whole data set first, then its sequences, in percent."""
    rows: dict[str, MeanScore] = {"global": scores, **scores.sequences}
    width = max(len("sequence"), *map(len, rows))
    lines = [f"{'sequence':<{width}}  objects    J&F      J      F"]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}  {len(row.all_objects):>7}  {row.j_and_f:5.1f}  {row.j:5.1f}  {row.f:5.1f}")
    return "\n".join(lines)


def write_json(scores: Scores, path: Path) -> None:
    """Write `Scores.to_json_dict` to `path`, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_text_atomically(path, json.dumps(scores.to_json_dict(), indent=2) + "\n")


def write_csv(scores: Scores, path: Path) -> None:
    """Write one row per object (sequence, object, J&F, J, F; percent) to `path`, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sequence", "object", "J&F", "J", "F"])
    for name, sequence in scores.sequences.items():
        for label, score in sequence.objects.items():
            writer.writerow([name, label, score.j_and_f, score.j, score.f])
    write_text_atomically(path, text.getvalue())
