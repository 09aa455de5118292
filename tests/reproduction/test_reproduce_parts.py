"""What the tables are made of: configurations, published figures, profiles, measurements, lines."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.config import EvaluationConfig
from inference.config import InferenceConfig
from inference.memory.long_term import LongTermMemory
from inference.memory.working import WorkingMemory
from reproduction import variants as v
from reproduction.assembly import trace_markdown
from reproduction.claims import compare, memory_and_speed
from reproduction.data_sets import DataSet, MadeSet, MissingError
from reproduction.figures import least_squares_line
from reproduction.profiles import paper_profile, small_profile
from reproduction.published import Figure, published
from reproduction.results import CellResult, Measurement, TableResult
from reproduction.runs import Run, as_json, compression_percent, evenly_spaced_offsets
from reproduction.tables import TABLE_7, TABLES, Difference
from reproduction.traces import Trace, store_bytes
from reproduction.variants import Variant
from tests.helpers.layouts import write_frames, write_masks
from tests.helpers.reproduction_setup import write_davis

ALL_VARIANTS = [value for value in vars(v).values() if isinstance(value, Variant)]
SETS = {"paper": paper_profile().data_sets, "small": small_profile(192).data_sets}


# --- Configurations ---------------------------------------------------------------------------------------------------


def test_variants_have_different_names():
    assert len({variant.name for variant in ALL_VARIANTS}) == len(ALL_VARIANTS)


@pytest.mark.parametrize("variant", ALL_VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_can_be_configured_on_every_data_set(variant):
    for sets in SETS.values():
        for data_set in sets.values():
            Run(variant, data_set).inference()


def test_the_default_is_as_published():
    assert Run(v.XMEM, SETS["paper"]["D17"]).inference() == InferenceConfig()
    assert Run(v.XMEM, SETS["paper"]["L3x"]).inference() == InferenceConfig.from_settings(mem_every=10)
    assert Run(v.ONE_SIZE, SETS["paper"]["D17"]).inference() == InferenceConfig.from_settings(mem_every=3)


def test_what_a_data_set_says_of_other_strategies_is_left_out():
    long = SETS["small"]["L1x"]
    assert Run(v.NO_WORKING, long).inference() == InferenceConfig.from_settings(mem_every=5, enable_working=False)
    window = Run(v.LOCAL_WINDOW, long, offset=2).inference()
    assert window == InferenceConfig.from_settings(
        mem_every=5, mem_offset=2, when_full="local_window", max_memory_frames=8
    )


def test_eager_compression_compresses_as_much():
    eager = Run(v.EAGER_COMPRESSION, SETS["paper"]["L1x"]).inference()
    assert eager.num_prototypes == 26  # 128 of 5 frames are 25.6 of one
    assert compression_percent(eager, 1620) == pytest.approx(6328, rel=0.02)
    assert Run(v.EAGER_COMPRESSION, SETS["small"]["L1x"]).inference().num_prototypes == 43  # 128 of 3 frames
    assert Run(v.EAGER_COMPRESSION_12, SETS["small"]["L1x"]).inference().num_prototypes == 4
    assert Run(v.EAGER_COMPRESSION_12, SETS["paper"]["L1x"]).inference().num_prototypes == 2


def test_several_sizes_and_precisions(tmp_path):
    run = Run(v.MULTI_SCALE, SETS["paper"]["D17"], full_precision=True)
    config = run.evaluation(tmp_path, tmp_path, "", mixed=True, scales=(1.0, 1.25, 1.5))
    assert (config.sizes, config.flip_too, config.mixed_precision) == ((480, 600, 720), True, False)
    config = Run(v.XMEM, SETS["paper"]["L3x"]).evaluation(tmp_path, tmp_path, "", mixed=True, scales=(1.0, 1.25))
    assert (config.sizes, config.mixed_precision) == ((-1,), True)


@pytest.mark.parametrize(("prototypes", "percent"), [(64, 12656), (128, 6328), (256, 3164)])
def test_compression_of_the_published_configuration(prototypes, percent):
    """480p is padded to 480 × 864: 30 × 54 elements a frame."""
    ratio = compression_percent(InferenceConfig.from_settings(num_prototypes=prototypes), 30 * 54)
    assert math.floor(ratio) == percent


def test_nothing_is_compressed_without_consolidation():
    for variant in (v.NO_LONG_TERM, v.NO_WORKING, v.SPARSE_INSERTION, v.LOCAL_WINDOW):
        assert compression_percent(Run(variant, SETS["paper"]["L1x"]).inference(), 1620) is None


@pytest.mark.parametrize(("every", "offsets"), [(10, [0, 2, 4, 6, 8]), (5, [0, 1, 2, 3, 4]), (3, [0, 1, 2]), (1, [0])])
def test_five_offsets_are_evenly_spaced(every, offsets):
    assert evenly_spaced_offsets(every, 5) == offsets


def test_small_long_videos_consolidate_ten_times_at_least():
    """The shortest has 165 frames. Memory is full with T_max frames, and again after T_max − T_min more."""
    long = SETS["small"]["L1x"]
    config = Run(v.XMEM, long).inference()
    stored = math.ceil(min(*long.make.sequences.values(), *(video.frames for video in long.make.generated)) / 5)
    assert 1 + (stored - config.max_mid_term_frames) // (config.max_mid_term_frames - config.min_mid_term_frames) >= 10
    assert config.max_mid_term_frames == 2 * config.min_mid_term_frames == 6


# --- Published figures ------------------------------------------------------------------------------------------------


def test_published_figures():
    assert published("davis_2017_val", "XMem", "J&F") == Figure(86.2)
    assert published("long_time_video_3x", "XMem", "J&F") == Figure(90.0, 0.4)
    assert published("table_6_consolidation", "Random P=128", "compression") == Figure(6328)
    assert published("table_4_memory_stores", "No long-term memory", "L1x") is None
    assert published("davis_2017_val", "XMem", "G") is None
    with pytest.raises(KeyError):
        published("davis_2018_val", "XMem", "J&F")


@pytest.mark.parametrize("table", [table for name, table in TABLES.items() if name != "figure7"], ids=lambda t: t.name)
def test_rows_are_called_as_where_they_were_published(table):
    for row in table.rows:
        figures = [
            published(column.published[0], row.title if row.published is None else row.published, column.published[1])
            for column in table.measured
            if column.published
        ]
        expected = row.published != "" and row.title != "Every single frame"
        assert any(figures) == expected, row.title


def test_columns_have_different_titles():
    for table in TABLES.values():
        titles = [column.title for column in table.columns]
        assert len(set(titles)) == len(titles)
        for column in table.columns:
            if isinstance(column, Difference):
                assert {column.of, column.to} <= {*titles}


# --- Data -------------------------------------------------------------------------------------------------------------


def test_made_sets_go_back_and_forth_at_the_size_asked_for(tmp_path):
    data_root = write_davis(tmp_path / "data")
    MadeSet(16, {"dog": 12})(data_root, tmp_path / "made")
    frames = sorted((tmp_path / "made/JPEGImages/dog").iterdir())
    assert [path.name for path in frames] == [f"{index:05d}.jpg" for index in range(12)]
    pictures = [np.array(Image.open(path)).astype(int) for path in frames]
    assert pictures[0].shape == (16, 24, 3)
    for index, same in (8, 0), (5, 3), (9, 1), (11, 3):  # five frames: 0 1 2 3 4 3 2 1 0 1 2 3
        assert (pictures[index] == pictures[same]).all()
    assert np.abs(pictures[0] - pictures[3]).max() > 20
    labels = np.array(Image.open(tmp_path / "made/Annotations/dog/00007.png"))
    assert labels.shape == (16, 24)
    assert set(np.unique(labels)) == {0, 255}


def test_a_set_is_made_once_and_anew_if_it_is_of_something_else(tmp_path):
    data_root = write_davis(tmp_path / "data")
    one, other = (DataSet("a", "a", "G", "a", size=16, make=MadeSet(16, {"dog": length})) for length in (4, 5))
    for data_set in (one, one, other):
        data_set.prepare(data_root, tmp_path / "made")
    assert len(list((tmp_path / "made").iterdir())) == 2
    assert [len(set_.open(data_root, tmp_path / "made").videos[0].frames) for set_ in (one, other)] == [4, 5]


def test_data_that_are_not_there_are_told_by_their_place_below_the_root(tmp_path):
    with pytest.raises(MissingError, match=r"^data: DAVIS 2017 val, looked for in DAVIS/2017 below --data-root$"):
        SETS["paper"]["D17"].open(tmp_path, tmp_path)


def test_only_the_videos_that_are_named_are_used(tmp_path):
    for name in "abc":
        write_frames(tmp_path / "g/JPEGImages" / name, range(3))
        write_masks(tmp_path / "g/Annotations" / name, range(3))
    opened = DataSet("g", "g", "G", "g", size=16, videos=("c", "a"), repeat=4).open(tmp_path, tmp_path)
    assert [(video.name, video.frames.frame_count) for video in opened.videos] == [("c", 12), ("a", 12)]


# --- Measurements -----------------------------------------------------------------------------------------------------


def a_trace(seconds: list[float], memory: list[int]) -> Trace:
    return Trace("xmem", {}, seconds, memory, 0, None, "", "")


def test_a_trace_is_final_unless_what_ended_it_can_be_mended():
    config = EvaluationConfig("G", Path("g"), weights=Path("w.pth"))
    made = replace(a_trace([1.0] * 5, []), config=as_json(config))
    assert made.is_of(config, frames=5)
    assert not made.is_of(config, frames=6)
    for reason in ("out of memory at frame 0", "the video ends after 5 frames"):
        assert replace(made, ended_by=reason).is_of(config, frames=6)
    assert not replace(made, ended_by="00003.jpg is damaged", failed=True).is_of(config, frames=6)
    assert not made.is_of(replace(config, size=240), frames=5)


def test_a_trace_without_a_frame_is_told():
    nothing = replace(a_trace([], []), ended_by="out of memory at frame 0")
    page = trace_markdown("speed", {"XMem": nothing}, {})
    assert "| XMem | 0 | – | – | – | – |" in page
    assert "out of memory at frame 0" in page


def test_growth_is_between_frames_100_and_200():
    memory = [7000] * 100 + [1000 + 30 * index for index in range(101)] + [9] * 50
    assert a_trace([1.0] * 251, memory).growth_per_frame() == 30
    assert a_trace([1.0] * 200, memory[:200]).growth_per_frame() is None


def test_speed_by_frame_leaves_the_first_out_and_is_of_the_median_frame():
    seconds = [9.0, *[0.1, 0.1, 5.0], *[0.5, 0.5, 0.5], 0.2]
    assert a_trace(seconds, []).fps_by_frame(window=3) == ([2, 5], [10, 2])


def test_store_bytes():
    working, long_term = WorkingMemory(), LongTermMemory(capacity=100)
    assert store_bytes((working, long_term)) == 0
    rows = {"memory_row": torch.zeros(6, 17), "time": torch.zeros(6, dtype=torch.long)}
    long_term.append({1: torch.zeros(6, 16), 2: torch.zeros(4, 16)}, **rows)
    assert store_bytes((working, long_term)) == 4 * (6 * 17 + 6 + 6 + 10 * 16) + 8 * 6


def test_a_measurement_as_text():
    assert str(Measurement((60.0, 62.0))) == "61.0 ± 1.4"
    assert str(Measurement((60.0,))) == "60.0"
    assert str(Measurement((12.0, 18.0, 15.0), digits=0, of_videos=True)) == "12–18"
    assert str(Measurement((12.0, 12.0), digits=0, of_videos=True)) == "12"


def test_least_squares_by_hand():
    """Of (1, 2), (2, 3), (4, 9): Σ(x−x̄)(y−ȳ) = Σxy − 3·x̄·ȳ = 44 − 98/3 = 34/3, Σ(x−x̄)² = 21 − 49/3 = 14/3."""
    slope, intercept = least_squares_line([1, 2, 4], [2, 3, 9])
    assert slope == pytest.approx(34 / 14)
    assert intercept == pytest.approx(14 / 3 - 34 / 14 * 7 / 3)
    assert least_squares_line([1, 2, 3], [5, 5, 5]) == pytest.approx((0, 5))


# --- Claims -----------------------------------------------------------------------------------------------------------


def claims_of(ours: tuple[float, ...], others: tuple[float, ...], better: bool) -> bool:
    column = "J&F L3x"
    cells = {
        "Consolidation": {column: CellResult(None, Measurement(ours))},
        "Local window": {column: CellResult(None, Measurement(others))},
    }
    (claim,) = compare(TableResult(TABLE_7, cells), column, "Consolidation", "Local window", better)
    return claim.holds


def test_claims_about_rows():
    assert claims_of((60.0,), (59.9,), better=True)
    assert not claims_of((60.0,), (60.0,), better=True)
    assert claims_of((60.0,), (60.0,), better=False)
    assert not claims_of((60.0,), (60.1,), better=False)
    assert claims_of((59.0, 61.0), (60.1,), better=False)  # within the deviation over offsets
    assert not claims_of((59.0, 61.0), (60.5,), better=False)  # 59 is that of the same offset
    assert not claims_of((59.0, 61.0), (59.5,), better=True)
    assert compare(TableResult(TABLE_7, {}), "J&F L3x", "Consolidation", "Local window") == []


def test_claims_about_memory_and_speed():
    flat = a_trace([0.1] * 1000, [5000 + 100 * (index % 25) for index in range(1000)])
    growing = a_trace([0.1 + 0.001 * index for index in range(1000)], [100 * index for index in range(1000)])
    assert [claim.holds for claim in memory_and_speed(flat, growing)] == [True] * 4
    assert [claim.holds for claim in memory_and_speed(growing, flat)] == [False] * 4
    assert memory_and_speed(a_trace([0.1], [1]), a_trace([0.1], [1])) == []
