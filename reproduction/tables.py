"""The paper's tables: which variants are compared, on which data sets, and by what. Numbering of the full paper.

Data sets are named as in the paper's tables: D16, D17, D17-test, D17-test-600, Y18, Y19, MOSE, and L1x, L3x, … for
Long-time Video and its longer variants. What they are made of is said by the profile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from reproduction import variants as v
from reproduction.variants import Variant


@dataclass(frozen=True)
class Column:
    """One measured quantity of all rows.

    Attributes:
        title: what stands above it.
        data_set: where it is measured.
        metric: a key of `results.METRICS`.
        published: section and figure in `published_results.json`; None: nothing was published.
        over_offsets: mean and deviation over several offsets of the memory insertion.
        precision: "full" is without mixed precision, as the paper measures speed; "mixed" is with it, or not at all;
            None: as is usual on the device.
    """

    title: str
    data_set: str
    metric: str
    published: tuple[str, str] | None = None
    over_offsets: bool = False
    precision: str | None = None


@dataclass(frozen=True)
class Difference:
    """How much one column is above another; both are given by their titles."""

    title: str
    of: str
    to: str


@dataclass(frozen=True)
class Row:
    """One variant.

    Attributes:
        title: what it is called in the table.
        published: what it is called in `published_results.json`; None: as here; "": it is not there.
        variant: what is run; None: another method, of which there are only published figures.
        priority: those of lower numbers are run first.
        data_sets: of the columns, those it is meant for; None: all.
    """

    title: str
    variant: Variant | None
    published: str | None = None
    priority: int = 2
    data_sets: frozenset[str] | None = None

    def fits(self, column: Column) -> bool:
        """Whether there can be a figure in this column."""
        return self.data_sets is None or column.data_set in self.data_sets


class Cell(NamedTuple):
    """What has to be measured for one figure of a table."""

    row: Row
    column: Column


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    columns: tuple[Column | Difference, ...]
    rows: tuple[Row, ...]
    note: str = ""
    by_data_set: bool = False
    """Shown as one table for each data set, since it is wide."""

    @property
    def measured(self) -> list[Column]:
        """The columns that need runs."""
        return [column for column in self.columns if isinstance(column, Column)]

    def cells(self) -> Iterator[Cell]:
        """All that is to be measured."""
        for row in self.rows:
            if row.variant is not None:
                yield from (Cell(row, column) for column in self.measured if row.fits(column))


def scores(data_set: str, section: str, over_offsets: bool = False) -> tuple[Column, ...]:
    """J&F, J and F."""
    return tuple(
        Column(f"{metric} {data_set}", data_set, metric, (section, metric), over_offsets)
        for metric in ("J&F", "J", "F")
    )


def youtube_scores(data_set: str, section: str) -> tuple[Column, ...]:
    """G, and J and F of seen and unseen categories."""
    return tuple(
        Column(f"{metric} {data_set}", data_set, metric, (section, metric)) for metric in ("G", "Js", "Fs", "Ju", "Fu")
    )


def speed(data_set: str, section: str, figure: str = "FPS") -> Column:
    """Frames per second as the paper counts them."""
    return Column(f"FPS {data_set}", data_set, "FPS", (section, figure), precision="full")


def others(*methods: str) -> tuple[Row, ...]:
    """Methods that the paper compares with; only their published figures are given."""
    return tuple(Row(method, None) for method in methods)


L1X, L3X = "long_time_video_1x", "long_time_video_3x"
OUR_TRAININGS = (
    Row("XMem", v.XMEM, priority=0),
    Row("XMem*", v.BL30K),
    Row("XMem (no static pretraining)", v.NO_STATIC),
)

TABLE_1 = Table(
    "table1",
    "Long-time Video",
    (
        *scores("L1x", L1X, over_offsets=True),
        *scores("L3x", L3X, over_offsets=True),
        Difference("Δ J&F", of="J&F L3x", to="J&F L1x"),
    ),
    (
        *others("CFBI+", "RMNet", "JOINT", "CFBI", "HMMN", "STM", "MiVOS*", "AOT", "AFB-URR", "STCN"),
        Row("XMem", v.XMEM, priority=0),
        Row("XMem, growing memory sampled sparsely", v.SPARSE_INSERTION, published="", priority=1),
    ),
    "Mean ± standard deviation over offsets of the memory insertion.",
)

TABLE_2 = Table(
    "table2",
    "YouTubeVOS 2018, DAVIS 2017 and DAVIS 2016, validation",
    (
        *youtube_scores("Y18", "youtubevos_2018_val"),
        speed("Y18", "youtubevos_2018_val"),
        *scores("D17", "davis_2017_val"),
        speed("D17", "davis_2017_val"),
        *scores("D16", "davis_2016_val"),
        speed("D16", "davis_2016_val"),
        *youtube_scores("Y19", "youtubevos_2019_val"),
        Column("J&F MOSE", "MOSE", "J&F", ("mose_val", "J&F")),
    ),
    (
        *others("STM", "AFB-URR", "CFBI", "RMNet", "HMMN", "MiVOS*", "STCN", "JOINT", "STCN*", "AOT"),
        *OUR_TRAININGS,
    ),
    "\\* is pretraining on BL30K. YouTubeVOS 2019 and MOSE are not in the paper's table but on the authors' pages.",
    by_data_set=True,
)

AT_480, AT_600 = frozenset({"D17-test"}), frozenset({"D17-test-600"})
TABLE_3 = Table(
    "table3",
    "DAVIS 2017, test-dev",
    (*scores("D17-test", "davis_2017_test_dev"), *scores("D17-test-600", "davis_2017_test_dev")),
    (
        *(
            Row(method, None, data_sets=AT_600 if "600p" in method else AT_480)
            for method in ("STM 600p", "RMNet", "STCN", "CFBI+ 600p", "HMMN", "MiVOS*", "AOT", "STCN*")
        ),
        *(Row(row.title, row.variant, priority=row.priority, data_sets=AT_480) for row in OUR_TRAININGS),
        Row("XMem* 600p", v.BL30K, data_sets=AT_600),
    ),
    by_data_set=True,
)

STORES = "table_4_memory_stores"
TABLE_4 = Table(
    "table4",
    "Memory stores",
    (
        Column("G Y18", "Y18", "G", (STORES, "Y18")),
        Column("J&F D17", "D17", "J&F", (STORES, "D17")),
        Column("J&F L1x", "L1x", "J&F", (STORES, "L1x"), over_offsets=True),
        speed("D17", STORES, "FPS_D17"),
        speed("Y18", STORES, "FPS_Y18"),
    ),
    (
        Row("All memory stores", v.XMEM, priority=0),
        Row("No sensory memory (trained without)", v.NO_SENSORY, published="No sensory memory"),
        Row("No sensory memory (switched off)", v.SENSORY_OFF, published="", priority=1),
        Row("No working memory", v.NO_WORKING, priority=1),
        Row("No long-term memory", v.NO_LONG_TERM, priority=1),
    ),
    "Without working memory nothing but the sensory memory is left, and the readout is zero.",
)

SCALING = "table_5_scaling_terms"
TABLE_5 = Table(
    "table5",
    "Scaling terms of the similarity",
    (Column("G Y18", "Y18", "G", (SCALING, "Y18")), Column("J&F D17", "D17", "J&F", (SCALING, "D17"))),
    (
        Row("With both terms", v.SCALING_BOTH),
        Row("With shrinkage s only", v.SCALING_SHRINKAGE),
        Row("With selection e only", v.SCALING_SELECTION),
        Row("With neither", v.SCALING_NEITHER),
    ),
    "Four networks, trained by one recipe.",
)

CONSOLIDATION = "table_6_consolidation"
TABLE_6 = Table(
    "table6",
    "Prototype selection and potentiation",
    (
        Column("J&F L3x", "L3x", "J&F", (CONSOLIDATION, "L3x"), over_offsets=True),
        Column("Compression (%)", "L3x", "compression", (CONSOLIDATION, "compression")),
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
        Row("Random P=12", v.RANDOM_12, published="", priority=4),
        Row("K-means centroid P=12", v.CENTROIDS_12, published="", priority=4),
        Row("Usage-based P=12", v.USAGE_12, published="", priority=4),
        Row("Usage-based P=12, no potentiation", v.NO_POTENTIATION_12, published="", priority=4),
    ),
    "Compression is (T_max − T_min)·h·w / P. The paper's 12625 % for P = 64 is its own rounding: it is 12656 %.",
)

STRATEGIES = "table_7_long_video_strategies"
TABLE_7 = Table(
    "table7",
    "Strategies for long videos",
    (
        Column("J&F L1x", "L1x", "J&F", (STRATEGIES, "L1x"), over_offsets=True),
        Column("J&F L3x", "L3x", "J&F", (STRATEGIES, "L3x"), over_offsets=True),
        Difference("Δ J&F", of="J&F L3x", to="J&F L1x"),
        Column("Consolidations a video L1x", "L1x", "consolidations"),
        Column("Consolidations a video L3x", "L3x", "consolidations"),
        Column("Compression (%)", "L3x", "compression"),
        Column("Memory elements at the end L3x", "L3x", "elements"),
    ),
    (
        Row("Consolidation", v.XMEM, priority=0),
        Row("Eager compression", v.EAGER_COMPRESSION, priority=1),
        Row("Consolidation, P=12", v.USAGE_12, published="", priority=4),
        Row("Eager compression as strong as with P=12", v.EAGER_COMPRESSION_12, published="", priority=4),
        Row("Sparse insertion", v.SPARSE_INSERTION, priority=1),
        Row("Local window", v.LOCAL_WINDOW, priority=1),
    ),
    "Sparse insertion and the local window never consolidate: the one stores seldom enough, the other forgets enough, "
    "to stay within a bound on memory frames.",
)

DEEP_UPDATE = "table_8_deep_update"
TABLE_8 = Table(
    "table8",
    "Deep updates of the sensory memory",
    (
        Column("G Y18", "Y18", "G", (DEEP_UPDATE, "Y18")),
        Column("J&F D17", "D17", "J&F", (DEEP_UPDATE, "D17")),
        speed("D17", DEEP_UPDATE),
    ),
    (
        Row("Every r-th frame", v.XMEM, priority=0),
        Row("Every single frame", v.DEEP_UPDATE_ALWAYS),
        Row("No deep update", v.DEEP_UPDATE_NEVER),
    ),
)

MULTI_SCALE = Table(
    "multiscale",
    "Several scales",
    (
        Column("G Y18", "Y18", "G", ("youtubevos_2018_val", "G")),
        Column("G Y19", "Y19", "G", ("youtubevos_2019_val", "G")),
        Column("J&F D17", "D17", "J&F", ("davis_2017_val", "J&F")),
        Column("J&F D16", "D16", "J&F", ("davis_2016_val", "J&F")),
        Column("J&F D17-test", "D17-test", "J&F", ("davis_2017_test_dev", "J&F")),
    ),
    (
        Row("One size", v.ONE_SIZE, published=""),
        Row("One size, and mirrored", v.ONE_SIZE_FLIPPED, published="", priority=3),
        Row("Several sizes", v.SEVERAL_SIZES, published="", priority=3),
        Row("Several sizes, and mirrored", v.MULTI_SCALE, published="XMem (MS)", priority=3),
        Row("Several sizes, and mirrored*", v.MULTI_SCALE_BL30K, published="XMem* (MS)", priority=3),
    ),
    "r = 3. Probabilities of all sizes are averaged, frame by frame, at the size of the output.",
)

SPEED = Table(
    "speed",
    "frames per second",
    (
        Column("FPS, one object", "single", "FPS", ("davis_2016_val", "FPS"), precision="full"),
        Column("FPS, several objects", "multi", "FPS", ("davis_2017_val", "FPS"), precision="full"),
        Column("End to end, one object", "single", "end-to-end FPS", precision="full"),
        Column("End to end, several objects", "multi", "end-to-end FPS", precision="full"),
        Column("Mixed precision, one object", "single", "FPS", ("davis_2016_val", "FPS_amp"), precision="mixed"),
        Column("Mixed precision, several objects", "multi", "FPS", ("davis_2017_val", "FPS_amp"), precision="mixed"),
    ),
    (
        Row("XMem", v.XMEM, priority=0),
        Row("No long-term memory", v.NO_LONG_TERM, published="", priority=1),
    ),
    "Total frames over total time of the network, without reading and writing files; end to end is with them.",
)

LENGTHS = Table(
    "figure7",
    "Performance over the length of the video",
    (),  # one for each length that the profile names
    (
        Row("XMem", v.XMEM, published="", priority=0),
        Row("Growing memory, sampled sparsely", v.SPARSE_INSERTION, published="", priority=1),
    ),
    "J&F against the length of the video, which is played back and forth.",
)

TABLES = {
    table.name: table
    for table in (
        TABLE_1,
        TABLE_2,
        TABLE_3,
        TABLE_4,
        TABLE_5,
        TABLE_6,
        TABLE_7,
        TABLE_8,
        LENGTHS,
        MULTI_SCALE,
        SPEED,
    )
}
