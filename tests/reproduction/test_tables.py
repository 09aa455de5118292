"""What the tables are made of: configurations, published figures, data sets."""

import math

import numpy as np
import pytest
from PIL import Image

from inference.config import InferenceConfig
from reproduction import variants as v
from reproduction.plan import Run, evenly_spaced_offsets, plan, runs_of
from reproduction.profiles import CannotRunError, MadeVideos, ProfileDataSet, paper_profile, small_profile
from reproduction.results import PER_VIDEO
from reproduction.tables import NAMES, TABLE_4, TABLE_6, TABLES, Column, Difference, Figure, Row
from reproduction.variants import Variant, compression_percent
from tests.helpers.layouts import write_frames, write_masks
from tests.helpers.reproduction_setup import tiny_profile, write_davis

ALL_VARIANTS = [value for value in vars(v).values() if isinstance(value, Variant)]
PAPER, SMALL = paper_profile(), small_profile(192)


# --- Configurations ---------------------------------------------------------------------------------------------------


def test_every_variant_has_a_name_of_its_own_and_can_be_configured_on_every_data_set():
    assert len({variant.name for variant in ALL_VARIANTS}) == len(ALL_VARIANTS)
    data_sets = [*PAPER.data_sets.values(), *SMALL.data_sets.values()]
    for data_set in {str(data_set.settings): data_set for data_set in data_sets}.values():  # one for all alike
        for variant in ALL_VARIANTS:
            Run(variant, data_set).inference()  # raises where a setting has no effect


def test_the_default_is_as_published():
    assert Run(v.XMEM, PAPER.data_sets["D17"]).inference() == InferenceConfig()
    assert Run(v.XMEM, PAPER.data_sets["L3x"]).inference() == InferenceConfig.from_settings(mem_every=10)
    assert Run(v.ONE_SIZE, PAPER.data_sets["D17"]).inference() == InferenceConfig.from_settings(mem_every=3)


def test_settings_of_the_data_set_that_have_no_effect_are_left_out():
    long = SMALL.data_sets["L1x"]
    assert Run(v.NO_WORKING, long).inference() == InferenceConfig.from_settings(mem_every=5, enable_working=False)
    window = {"mem_every": 5, "mem_offset": 2, "when_full": "local_window", "max_memory_frames": 8}
    assert Run(v.LOCAL_WINDOW, long, offset=2).inference() == InferenceConfig.from_settings(**window)


def test_eager_compression_compresses_as_much():
    paper = PAPER.data_sets["L1x"]
    eager = Run(v.EAGER_COMPRESSION, paper).inference()
    assert eager.settings()["num_prototypes"] == 26  # 128 of 5 frames are 25.6 of one
    assert compression_percent(eager, 1620) == pytest.approx(6328, rel=0.02)
    small = small_profile(320).data_sets["L1x"]
    usual, scaled = (Run(variant, small).inference() for variant in (v.XMEM, v.EAGER_COMPRESSION))
    assert scaled.settings()["num_prototypes"] == round(usual.settings()["num_prototypes"] / 3)  # of 3 frames


@pytest.mark.parametrize(
    "variant", [v.USAGE_64, v.XMEM, v.CENTROIDS_256, v.EAGER_COMPRESSION], ids=lambda each: each.name
)
def test_small_frames_are_compressed_as_much_as_published_ones(variant):
    small, paper = small_profile(320).data_sets["L3x"], PAPER.data_sets["L3x"]
    elements = (small.size // 16) * math.ceil(small.size * 16 / 9 / 16)
    ratio = compression_percent(Run(variant, small).inference(), elements)
    published = compression_percent(Run(variant, paper).inference(), 30 * 54)
    assert ratio == pytest.approx(published, rel=0.1)


@pytest.mark.parametrize(("prototypes", "percent"), [(64, 12656), (128, 6328), (256, 3164)])
def test_compression_of_the_published_configuration(prototypes, percent):
    """480p is padded to 480 × 864: 30 × 54 elements a frame."""
    ratio = compression_percent(InferenceConfig.from_settings(num_prototypes=prototypes), 30 * 54)
    assert math.floor(ratio) == percent


def test_nothing_is_compressed_without_consolidation():
    for variant in (v.NO_LONG_TERM, v.NO_WORKING, v.SPARSE_INSERTION, v.LOCAL_WINDOW):
        assert compression_percent(Run(variant, PAPER.data_sets["L1x"]).inference(), 1620) is None


def test_small_long_videos_consolidate_ten_times_at_least():
    """The shortest has 165 frames. Memory is full with T_max frames, and again after T_max − T_min more."""
    long = SMALL.data_sets["L1x"]
    config = Run(v.XMEM, long).inference().when_full
    stored = math.ceil(min(*long.made.davis.values(), *(video.frames for video in long.made.generated)) / 5)
    assert 1 + (stored - config.max_mid_term_frames) // (config.max_mid_term_frames - config.min_mid_term_frames) >= 10
    assert config.max_mid_term_frames == 2 * config.min_mid_term_frames == 6


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_published_figures():
    row, other = Row("XMem", v.XMEM), Row("Random P=128", v.RANDOM_128)
    j_and_f = [Column("", name, "J&F", "J&F") for name in ("D17", "L3x")]
    assert [TABLES["table1"].published(row, column) for column in j_and_f] == [Figure(86.2), Figure(90.0, 0.4)]
    assert TABLE_6.published(other, Column("", "L3x", "compression", "compression")) == Figure(6328.0)
    assert TABLE_4.published(Row("No long-term memory", v.NO_LONG_TERM), Column("", "L1x", "J&F", "L1x")) is None
    assert TABLES["table1"].published(row, Column("", "D17", "G", "G")) is None


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_rows_are_called_as_where_they_were_published(table):
    for row in table.rows:
        figures = [table.published(row, column) for column in table.measured]
        expected = row.published != "" and row.title != "Every single frame"
        assert any(figures) == expected, row.title


def test_columns_have_different_titles():
    for table in TABLES.values():
        titles = [column.title for column in table.columns]
        assert len(set(titles)) == len(titles)
        for column in table.columns:
            if isinstance(column, Difference):
                assert {column.minuend, column.subtrahend} <= {*titles}


# --- Plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "offsets"), [(10, [0, 2, 4, 6, 8]), (5, [0, 1, 2, 3, 4]), (3, [0, 1, 2]), (1, [0])])
def test_five_offsets_are_evenly_spaced(every, offsets):
    assert evenly_spaced_offsets(every, 5) == offsets


def test_scores_of_long_videos_are_means_over_offsets():
    row, other = Row("XMem", v.XMEM, priority=0), Row("Random P=64", v.RANDOM_64, priority=3)

    def offsets(row, data_set, metric, profile):
        return len(runs_of(row, Column("", data_set, metric), profile, mixed=False))

    for long in ("L3x", "L10x"):
        assert offsets(row, long, "J&F", PAPER) == offsets(other, long, "F", PAPER) == 5
    assert [offsets(each, long, "J&F", SMALL) for each in (row, other) for long in ("L1x", "L3x")] == [2] * 4
    assert offsets(row, "L2x", "J&F", SMALL) == offsets(row, "D17", "J&F", PAPER) == 1
    assert {offsets(row, "L3x", metric, PAPER) for metric in PER_VIDEO} == {1}


def test_what_matters_comes_first():
    names = [run.name for run in plan(NAMES, tiny_profile(), False)]
    place = {name: index for index, name in enumerate(names)}
    assert len(place) == len(names)
    assert place["runs/long_3x/xmem"] < place["runs/long_3x/eager_compression"] < place["runs/long_3x/random_64"]
    assert place["runs/long_3x/xmem"] < place["runs/long_3x/xmem_offset_1"] < place["runs/long_3x/random_128"]
    assert place["traces/no_long_term"] < place["runs/long_3x/random_128"]


def test_on_a_gpu_speed_is_measured_in_full_precision_apart():
    names = [{run.name for run in plan(["table8"], tiny_profile(), mixed)} for mixed in (True, False)]
    variants = ("xmem", "deep_update_every_frame", "deep_update_never")
    assert names[0] - names[1] == {f"runs/davis/{variant}_full_precision" for variant in variants}


# --- Data -------------------------------------------------------------------------------------------------------------


def test_made_videos_go_back_and_forth_at_the_size_asked_for(tmp_path):
    MadeVideos({"dog": 12}).write(write_davis(tmp_path / "data"), tmp_path / "made", size=16)
    frames = sorted((tmp_path / "made/JPEGImages/dog").iterdir())
    assert [path.name for path in frames] == [f"{index:05d}.jpg" for index in range(12)]
    pictures = [np.array(Image.open(path)).astype(int) for path in frames]
    assert pictures[0].shape == (16, 24, 3)
    for index, same in (6, 0), (4, 2), (7, 1), (9, 3), (11, 1):  # four frames: 0 1 2 3 2 1 0 1 2 3 2 1
        assert (pictures[index] == pictures[same]).all()
    assert np.abs(pictures[0] - pictures[3]).max() > 20
    labels = np.array(Image.open(tmp_path / "made/Annotations/dog/00007.png"))
    assert labels.shape == (16, 24)
    assert set(np.unique(labels)) == {0, 255}


def test_a_set_is_made_once_and_again_if_it_consists_of_something_else(tmp_path):
    data_root = write_davis(tmp_path / "data")
    sets = [ProfileDataSet("a", "a", "G", "a", size=16, made=MadeVideos({"dog": length})) for length in (4, 4, 5)]
    opened = [data_set.open(data_root, tmp_path / "made") for data_set in sets]
    assert [each.videos[0].frames.frame_count for each in opened] == [4, 4, 5]
    assert len(list((tmp_path / "made").iterdir())) == 2


def test_missing_data_are_named_by_their_place_below_the_root(tmp_path):
    with pytest.raises(CannotRunError, match=r"^data: DAVIS 2017 val, looked for in DAVIS/2017 below the data root$"):
        PAPER.data_sets["D17"].open(tmp_path, tmp_path)


def test_only_the_videos_that_are_named_are_used(tmp_path):
    for name in "abc":
        write_frames(tmp_path / "g/JPEGImages" / name, range(3))
        write_masks(tmp_path / "g/Annotations" / name, range(3))
    opened = ProfileDataSet("g", "g", "G", "g", size=16, videos=("c", "a"), repeat=4).open(tmp_path, tmp_path)
    assert [(video.name, video.frames.frame_count) for video in opened.videos] == [("c", 12), ("a", 12)]
