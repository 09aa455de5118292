"""Drawing figures with matplotlib, which is needed for nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import atomic_path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # everybody can tell them apart (Okabe and Ito)


def require_matplotlib() -> Any:
    """Return matplotlib.

    Raises:
        UserError: it is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError("figures are drawn by matplotlib, which is not installed: pip install matplotlib") from None
    return matplotlib


@contextmanager
def drawing(path: Path, title: str, x_label: str, y_label: str, svg: bool = True) -> Iterator[Any]:
    """Give the axes of a figure, which is written with the suffixes .png and .svg when the block ends.

    Args:
        path: its file, without a suffix.
        svg: whether it is written as SVG, too.

    Raises:
        UserError: matplotlib is not installed.
    """
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": path.name, "font.size": 10}):  # the same drawing is the same file
        figure = Figure(figsize=(7, 4.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.set_prop_cycle(color=COLOURS)
        yield axes
        axes.set(title=title.replace("$", r"\$"), xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
            if suffix == ".svg" and not svg:
                continue
            with atomic_path(Path(f"{path}{suffix}")) as temporary:
                figure.savefig(temporary, dpi=150, metadata=metadata)
