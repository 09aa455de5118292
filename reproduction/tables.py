"""The paper's tables: which variants are compared, on which data sets, by what measure, and what was published.

Numbering is that of the full paper. Data sets are named as in the paper's tables: D16, D17, D17-test, D17-test-600,
Y18, Y19, MOSE, and L1x, L3x, … for Long-time Video and its longer variants. The profile says what they consist of.
The benchmarks of later years have tables beside the paper's, with figures of later systems.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from reproduction import variants as v
from reproduction.variants import Variant

SECTIONS = {
    "L1x": "long_time_video_1x",
    "L3x": "long_time_video_3x",
    "Y18": "youtubevos_2018_val",
    "Y19": "youtubevos_2019_val",
    "D16": "davis_2016_val",
    "D17": "davis_2017_val",
    "D17-test": "davis_2017_test_dev",
    "D17-test-600": "davis_2017_test_dev",
    "MOSE": "mose_val",
    "LVOS1": "lvos_v1_val",
    "LVOS1-test": "lvos_v1_test",
    "LVOS2": "lvos_v2_val",
    "MOSE2": "mose_v2_val",
    "VOST": "vost_val",
    "VOST10": "vost_val",
    "SAV": "sav_val",
    "SAV-test": "sav_test",
    "single": "davis_2016_val",
    "multi": "davis_2017_val",
}
"""The sections of `published_results.json` by data set."""


@dataclass(frozen=True)
class Figure:
    """A figure in percent or frames per second, or a number of things.

    Attributes:
        deviation: standard deviation (of a sample) over offsets of the memory insertion.
        values: those that it is a mean of, if it was measured here: of several offsets or of several videos.
        per_video: whether the least and the greatest value are shown in place of the mean.
    """

    mean: float
    deviation: float | None = None
    values: tuple[float, ...] = ()
    per_video: bool = False

    @classmethod
    def of(cls, values: Sequence[float], per_video: bool = False) -> "Figure":
        """Return the figure that these values make."""
        deviation = stdev(values) if len(values) > 1 and not per_video else None
        return cls(fmean(values), deviation, tuple(values), per_video)

    def __str__(self) -> str:
        if self.per_video:
            return "–".join(dict.fromkeys(f"{value:.0f}" for value in (min(self.values), max(self.values))))
        text = f"{self.mean:.0f}" if self.mean > 1000 else f"{self.mean:.1f}"
        return text if self.deviation is None else f"{text} ± {self.deviation:.1f}"


@dataclass(frozen=True)
class Column:
    """One measure of all rows.

    Attributes:
        title: the heading.
        data_set: the data set on which it is measured.
        metric: a name that `results.values_of` knows: FPS, compression, …, or a score.
        published: its name in `published_results.json`; None: nothing was published.
        mixed_precision: whether mixed precision is what is measured. Other speeds are measured without it, as in the
            paper, and other figures with it where that is usual.
    """

    title: str
    data_set: str
    metric: str
    published: str | None = None
    mixed_precision: bool = False

    @property
    def full_precision(self) -> bool:
        """Whether it is measured without mixed precision."""
        return "FPS" in self.metric and not self.mixed_precision

    @property
    def over_offsets(self) -> bool:
        """Whether it is a mean over several offsets of the memory insertion."""
        return self.data_set.endswith("x") and self.metric in ("J&F", "J", "F")


class Difference(NamedTuple):
    """A column that says how far one column is above another, both given by their titles."""

    title: str
    minuend: str
    subtrahend: str


@dataclass(frozen=True)
class Row:
    """One variant.

    Attributes:
        title: its name in the table.
        variant: what is run; None: another method, of which there are only published figures.
        published: its name in `published_results.json`; None: the title; "": it was not published.
        priority: rows of lower numbers are run first.
        data_set: the data set to whose columns it is restricted; None: it is in all columns.
    """

    title: str
    variant: Variant | None
    published: str | None = None
    priority: int = 2
    data_set: str | None = None

    def fits(self, column: Column) -> bool:
        """Return whether there can be a figure in this column."""
        return self.data_set in (None, column.data_set)


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        section: the section of `published_results.json` with its figures; None: those of its columns' data sets.
        by_data_set: whether it is shown in parts, one for each data set, since it is wide.
    """

    name: str
    title: str
    columns: tuple[Column | Difference, ...]
    rows: tuple[Row, ...]
    note: str = ""
    section: str | None = None
    by_data_set: bool = False

    @property
    def measured(self) -> list[Column]:
        """The columns that need runs."""
        return [column for column in self.columns if isinstance(column, Column)]

    def published(self, row: Row, column: Column) -> Figure | None:
        """Return what was published in a cell; None if nothing was."""
        if column.published is None or row.published == "" or not row.fits(column):
            return None
        section = published_results()[self.section or SECTIONS[column.data_set]]
        match section.get(row.published or row.title, {}).get(column.published):
            case None:
                return None
            case [mean, deviation]:
                return Figure(mean, deviation)
            case str(percentage):  # "6328%"
                return Figure(float(percentage.rstrip("%")))
            case mean:
                return Figure(float(mean))


@cache
def published_results() -> dict[str, Any]:
    """Return what the paper and its authors' result pages say: section (mostly a data set) → row → figure."""
    return json.loads(Path(__file__).with_name("published_results.json").read_text(encoding="utf-8"))


def columns_of(data_set: str, metrics: str) -> tuple[Column, ...]:
    """Return columns of measures that were published under the same names in the data set's section."""
    return tuple(Column(f"{metric} {data_set}", data_set, metric, metric) for metric in metrics.split())


def others(*methods: str, data_set: str | None = None) -> tuple[Row, ...]:
    """Return rows of methods that the paper compares with; only their published figures are given."""
    return tuple(Row(method, None, data_set=data_set) for method in methods)


GAIN = Difference("Δ J&F", minuend="J&F L3x", subtrahend="J&F L1x")
OUR_TRAININGS = (
    Row("XMem", v.XMEM, priority=0),
    Row("XMem*", v.BL30K),
    Row("XMem (no static pretraining)", v.NO_STATIC),
)

TABLE_1 = Table(
    "table1",
    "Table 1: Long-time Video",
    (*columns_of("L1x", "J&F J F"), *columns_of("L3x", "J&F J F"), GAIN),
    (
        *others("CFBI+", "RMNet", "JOINT", "CFBI", "HMMN", "STM", "MiVOS*", "AOT", "AFB-URR", "STCN"),
        Row("XMem", v.XMEM, priority=0),
        Row("XMem, growing memory sampled sparsely", v.SPARSE_INSERTION, "", priority=1),
    ),
    "Mean ± standard deviation over offsets of the memory insertion.",
)

TABLE_2 = Table(
    "table2",
    "Table 2: YouTubeVOS 2018, DAVIS 2017 and DAVIS 2016, validation",
    (
        *columns_of("Y18", "G Js Fs Ju Fu FPS"),
        *columns_of("D17", "J&F J F FPS"),
        *columns_of("D16", "J&F J F FPS"),
        *columns_of("Y19", "G Js Fs Ju Fu"),
        *columns_of("MOSE", "J&F"),
    ),
    (
        *others("STM", "AFB-URR", "CFBI", "RMNet", "HMMN", "MiVOS*", "STCN", "JOINT", "STCN*", "AOT"),
        *OUR_TRAININGS,
    ),
    "\\* is pretraining on BL30K. YouTubeVOS 2019 and MOSE are not in the paper's table but on the authors' pages.",
    by_data_set=True,
)

TABLE_3 = Table(
    "table3",
    "Table 3: DAVIS 2017, test-dev",
    (*columns_of("D17-test", "J&F J F"), *columns_of("D17-test-600", "J&F J F")),
    (
        *others("RMNet", "STCN", "HMMN", "MiVOS*", "AOT", "STCN*", data_set="D17-test"),
        *(replace(row, data_set="D17-test") for row in OUR_TRAININGS),
        *others("STM 600p", "CFBI+ 600p", data_set="D17-test-600"),
        Row("XMem* 600p", v.BL30K, data_set="D17-test-600"),
    ),
    by_data_set=True,
)

TABLE_4 = Table(
    "table4",
    "Table 4: Memory stores",
    (
        Column("G Y18", "Y18", "G", "Y18"),
        Column("J&F D17", "D17", "J&F", "D17"),
        Column("J&F L1x", "L1x", "J&F", "L1x"),
        Column("FPS D17", "D17", "FPS", "FPS_D17"),
        Column("FPS Y18", "Y18", "FPS", "FPS_Y18"),
    ),
    (
        Row("All memory stores", v.XMEM, priority=0),
        Row("No sensory memory (trained without)", v.NO_SENSORY, "No sensory memory"),
        Row("No sensory memory (switched off)", v.SENSORY_OFF, "", priority=1),
        Row("No working memory", v.NO_WORKING, priority=1),
        Row("No long-term memory", v.NO_LONG_TERM, priority=1),
    ),
    "Without working memory nothing but the sensory memory is left, and the readout is zero.",
    section="table_4_memory_stores",
)

TABLE_5 = Table(
    "table5",
    "Table 5: Scaling terms of the similarity",
    (Column("G Y18", "Y18", "G", "Y18"), Column("J&F D17", "D17", "J&F", "D17")),
    (
        Row("With both terms", v.SCALING_BOTH),
        Row("With shrinkage s only", v.SCALING_SHRINKAGE),
        Row("With selection e only", v.SCALING_SELECTION),
        Row("With neither", v.SCALING_NEITHER),
    ),
    "Four networks, trained by one recipe.",
    section="table_5_scaling_terms",
)

TABLE_6 = Table(
    "table6",
    "Table 6: Prototype selection and potentiation",
    (
        Column("J&F L3x", "L3x", "J&F", "L3x"),
        Column("Compression (%)", "L3x", "compression", "compression"),
        Column("Consolidations a video", "L3x", "consolidations"),
    ),
    (
        Row("Random P=64", v.RANDOM_64, priority=3),
        Row("K-means centroid P=64", v.CENTROIDS_64, priority=3),
        Row("Usage-based P=64", v.USAGE_64, priority=3),
        Row("Random P=128", v.RANDOM_128),
        Row("K-means centroid P=128", v.CENTROIDS_128),
        Row("Usage-based P=128", v.XMEM, priority=0),
        Row("Random P=256", v.RANDOM_256, "P=256", priority=3),
        Row("K-means centroid P=256", v.CENTROIDS_256, "P=256", priority=3),
        Row("Usage-based P=256", v.USAGE_256, "P=256", priority=3),
        Row("No potentiation", v.NO_POTENTIATION, priority=1),
        Row("With potentiation", v.XMEM, priority=0),
    ),
    "Small frames have P scaled, so that they are compressed as much. Compression is (T_max − T_min)·h·w / P. The "
    "paper's 12625 % for P = 64 is its own rounding: it is 12656 %.",
    section="table_6_consolidation",
)

TABLE_7 = Table(
    "table7",
    "Table 7: Strategies for long videos",
    (
        Column("J&F L1x", "L1x", "J&F", "L1x"),
        Column("J&F L3x", "L3x", "J&F", "L3x"),
        GAIN,
        Column("Consolidations a video L1x", "L1x", "consolidations"),
        Column("Consolidations a video L3x", "L3x", "consolidations"),
        Column("Compression (%)", "L3x", "compression"),
        Column("Memory elements at the end L3x", "L3x", "elements"),
    ),
    (
        Row("Consolidation", v.XMEM, priority=0),
        Row("Eager compression", v.EAGER_COMPRESSION, priority=1),
        Row("Sparse insertion", v.SPARSE_INSERTION, priority=1),
        Row("Local window", v.LOCAL_WINDOW, priority=1),
    ),
    "Sparse insertion and the local window never consolidate: the one stores seldom enough, the other forgets enough, "
    "to stay within a bound on memory frames.",
    section="table_7_long_video_strategies",
)

TABLE_8 = Table(
    "table8",
    "Table 8: Deep updates of the sensory memory",
    (
        Column("G Y18", "Y18", "G", "Y18"),
        Column("J&F D17", "D17", "J&F", "D17"),
        Column("FPS D17", "D17", "FPS", "FPS"),
    ),
    (
        Row("Every r-th frame", v.XMEM, priority=0),
        Row("Every single frame", v.DEEP_UPDATE_ALWAYS),
        Row("No deep update", v.DEEP_UPDATE_NEVER),
    ),
    section="table_8_deep_update",
)

LENGTHS = Table(
    "figure7",
    "Figure 7: Performance over the length of the video",
    (),  # one for each length of the profile
    (
        Row("XMem", v.XMEM, "", priority=0),
        Row("Growing memory, sampled sparsely", v.SPARSE_INSERTION, "", priority=1),
    ),
    "J&F against the length of the video, which is played back and forth.",
)

MULTI_SCALE = Table(
    "multiscale",
    "Multi-scale: Several scales",
    (
        *columns_of("Y18", "G"),
        *columns_of("Y19", "G"),
        *columns_of("D17", "J&F"),
        *columns_of("D16", "J&F"),
        *columns_of("D17-test", "J&F"),
    ),
    (
        Row("One size", v.ONE_SIZE, ""),
        Row("One size, and mirrored", v.ONE_SIZE_FLIPPED, "", priority=3),
        Row("Several sizes", v.SEVERAL_SIZES, "", priority=3),
        Row("Several sizes, and mirrored", v.MULTI_SCALE, "XMem (MS)", priority=3),
        Row("Several sizes, and mirrored*", v.MULTI_SCALE_BL30K, "XMem* (MS)", priority=3),
    ),
    "r = 3. Probabilities of all sizes are averaged, frame by frame, at the size of the output.",
)

SPEED = Table(
    "speed",
    "Speed: frames per second",
    (
        Column("FPS, one object", "single", "FPS", "FPS"),
        Column("FPS, several objects", "multi", "FPS", "FPS"),
        Column("End to end, one object", "single", "end-to-end FPS"),
        Column("End to end, several objects", "multi", "end-to-end FPS"),
        Column("Mixed precision, one object", "single", "FPS", "FPS_amp", mixed_precision=True),
        Column("Mixed precision, several objects", "multi", "FPS", "FPS_amp", mixed_precision=True),
    ),
    (
        Row("XMem", v.XMEM, priority=0),
        Row("No long-term memory", v.NO_LONG_TERM, "", priority=1),
    ),
    "Total frames over total time of the network, without reading and writing files; end to end is with them.",
)

AT_480P = "Frames at 480p, r = 5, long-term memory as published. Sources: `reproduction/published_results.json`."


def benchmark(data_set: str, figures: Mapping[str, str], published: Collection[str] = ()) -> tuple[Column, ...]:
    """Return the columns of a data set: heading → figure of its scoring; those in `published` were published."""
    return tuple(
        Column(f"{title} {data_set}", data_set, figure, figure if figure in published else None)
        for title, figure in figures.items()
    )


LVOS_FIGURES = {
    "J&F": "J&F-Mean",
    "J seen": "J-seen-Mean",
    "F seen": "F-seen-Mean",
    "J unseen": "J-unseen-Mean",
    "F unseen": "F-unseen-Mean",
    "V": "V-Mean",
}
LVOS = Table(
    "lvos",
    "LVOS",
    (
        *benchmark("LVOS1", LVOS_FIGURES, ("J&F-Mean",)),
        *benchmark("LVOS1-test", {"J&F": "J&F-Mean"}, ("J&F-Mean",)),
        *benchmark("LVOS2", LVOS_FIGURES, ("J&F-Mean",)),
    ),
    (Row("XMem", v.XMEM, "", priority=1), *others("LiVOS", "SAM 2.1", "SAMURAI", "SAM2.1Long", "SeC")),
    f"{AT_480P} V1 test is scored by a server.",
    by_data_set=True,
)

MOSE_2 = Table(
    "mose2",
    "MOSEv2, validation",
    benchmark(
        "MOSE2",
        {
            "J&Ḟ": "J&F_new",
            "J": "J",
            "Ḟ": "F_new",
            "J&Ḟ disappearance": "disappear_J&F_new",
            "J&Ḟ reappearance": "reappear_J&F_new",
            "F": "F",
            "J&F": "J&F",
        },
        ("J&F_new", "J", "F_new", "disappear_J&F_new", "reappear_J&F_new", "F", "J&F"),
    ),
    (
        Row("XMem", v.XMEM, "", priority=1),
        *others("SAM 2.1", "SAM 2.1-B+, fine-tuned, and RCMS", "SAM 2.1-L, fine-tuned, and RCMS"),
    ),
    f"{AT_480P} Scored by a server, which takes the zip file.",
)

VOST = Table(
    "vost",
    "VOST, validation",
    (*benchmark("VOST", {"J_tr": "J_tr", "J": "J"}, ("J_tr", "J")), *benchmark("VOST10", {"J_tr": "J_tr", "J": "J"})),
    (
        Row("XMem", v.XMEM, "", priority=1),
        *others("AOT-L", "DeAOT-L", "AOT-L and RMem", "DeAOT-L and RMem", data_set="VOST"),
    ),
    f"{AT_480P} The other methods were trained on VOST, and read frames at 10 a second and another size.",
    by_data_set=True,
)

SA_V = Table(
    "sav",
    "SA-V",
    (*benchmark("SAV", {"J&F": "J&F", "J": "J", "F": "F"}, ("J&F",)), *benchmark("SAV-test", {"J&F": "J&F"}, ("J&F",))),
    (
        Row("XMem", v.XMEM, priority=1),
        *others("STCN", "SwinB-AOT", "SwinB-DeAOT", "DEVA", "Cutie-base", "SAM 2.1-B+"),
        *others("SAM 2.1", "SAMURAI", "SAM2.1Long", "SeC"),
    ),
    f"{AT_480P} Objects of a video are followed together: where masks overlap, the smaller one has the pixels. How "
    "the published figure of XMem was made is not known; its network was probably trained with MOSE.",
    by_data_set=True,
)

_PAPER = (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLE_8)
TABLES = {table.name: table for table in (*_PAPER, LENGTHS, MULTI_SCALE, SPEED, LVOS, MOSE_2, VOST, SA_V)}

NAMES = (*(table.name for table in _PAPER), "figure1", *(name for name in TABLES if not name.startswith("table")))
"""Everything that can be asked for. Figure 1 and part of speed are made of traces, frame by frame."""
TRACED_VARIANTS = {"XMem": v.XMEM, "No long-term memory": v.NO_LONG_TERM}
"""The variants that are traced, by their names in figures."""
TRACE_FIGURES = ("figure1", "speed")


def table_of(name: str, lengths: Iterable[int]) -> Table | None:
    """Return the table of a name, figure 7 with a column for each of the lengths; None: there is none (figure 1)."""
    if name != LENGTHS.name:
        return TABLES.get(name)
    return replace(LENGTHS, columns=tuple(column for n in lengths for column in columns_of(f"L{n}x", "J&F")))
