"""Videos played back and forth: which frame comes when, what it is called, and by what it is scored."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.back_and_forth import back_and_forth, repeat_videos, turning_order
from dataset.evaluation_video import EvaluationVideo
from dataset.frames import FrameFolder, read_frame
from dataset.registry import open_evaluation_set
from tests.helpers.layouts import davis_2016_pairs, frame_name, write_frames, write_masks, write_text
from util.errors import UserError


@pytest.mark.parametrize(
    ("frames", "length", "order"),
    [
        (4, 12, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]),
        (4, 4, [0, 1, 2, 3]),
        (2, 5, [0, 1, 0, 1, 0]),
        (1, 3, [0, 0, 0]),
    ],
)
def test_turning_frames_come_once(frames, length, order):
    assert list(turning_order(frames, length)) == order


@given(frames=st.integers(2, 30), times=st.integers(1, 6))
def test_playing_goes_on_by_one_frame_and_turns_at_the_ends_only(frames, times):
    order = list(turning_order(frames, times * frames))
    assert len(order) == times * frames
    assert order[:frames] == list(range(frames))
    steps = [later - earlier for earlier, later in pairwise(order)]
    assert {abs(step) for step in steps} == {1}
    turns = {order[index + 1] for index, (before, after) in enumerate(pairwise(steps)) if before != after}
    assert turns <= {0, frames - 1}


def shown(video: EvaluationVideo) -> list[str]:
    """The frames that are played, by their own names."""
    return [path.stem for path in video.frames.paths.values()]


def truth(video: EvaluationVideo) -> dict[str, str]:
    return {name: path.stem for name, path in video.ground_truth.items()}


def test_frames_are_read_through_an_index_and_named_by_position_and_source(tmp_path):
    write_frames(tmp_path / "clip", range(3), (8, 12))
    played = back_and_forth(FrameFolder(tmp_path / "clip"), 6)
    frames = list(played)
    assert played.frame_count == 6
    assert played.frame_rate == 24
    assert [frame.name for frame in frames] == [
        *("00000-00000", "00001-00001", "00002-00002", "00003-00001", "00004-00000", "00005-00001")
    ]
    for frame in frames:
        source = read_frame(tmp_path / "clip" / f"{frame.name.partition('-')[2]}.jpg")
        assert frame.path == source.path
        assert np.array_equal(frame.rgb, source.rgb)
    assert len({frame.rgb.tobytes() for frame in frames}) == 3
    assert [frame.name for frame in played] == [frame.name for frame in frames]  # again from the start


def test_names_have_an_order_however_long_a_video_becomes(tmp_path):
    write_frames(tmp_path / "clip", range(2))
    names = list(back_and_forth(FrameFolder(tmp_path / "clip"), 100_001).paths)
    assert names == sorted(names)
    assert len(set(names)) == 100_001


@pytest.mark.parametrize("times", [1, 2, 3])
def test_davis_2016_is_scored_all_along(tmp_path, times):
    write_frames(tmp_path / "JPEGImages/480p/dog", range(5))
    write_masks(tmp_path / "Annotations/480p/dog", range(5))
    write_text(tmp_path / "ImageSets/480p/val.txt", davis_2016_pairs("dog", range(4)))
    opened = open_evaluation_set("D16", "val", tmp_path, 480)
    repeated = repeat_videos(opened, times)
    if times == 1:
        assert repeated is opened
        return
    (video,) = repeated.videos
    expected = [frame_name(index) for index in [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1][: 4 * times]]
    assert shown(video) == list(truth(video).values()) == expected
    assert video.saved_frames == video.ground_truth.keys() == video.frames.paths.keys()
    assert video.annotations == {"00000-00000": tmp_path / "Annotations/480p/dog/00000.png"}


def test_long_videos_are_scored_wherever_a_masked_frame_is_shown(tmp_path):
    write_frames(tmp_path / "long_video/JPEGImages/rat", range(6))
    write_masks(tmp_path / "long_video/Annotations/rat", range(0, 6, 2))
    (video,) = repeat_videos(open_evaluation_set("LV1", "val", tmp_path, 480), 2).videos
    # 0 1 2 3 4 5 4 3 2 1 0 1
    assert truth(video) == {
        "00000-00000": "00000",
        "00002-00002": "00002",
        "00004-00004": "00004",
        "00006-00004": "00004",
        "00008-00002": "00002",
        "00010-00000": "00000",
    }
    assert list(video.saved_frames) != []
    assert video.saved_frames == video.ground_truth.keys()


@pytest.fixture
def generic(tmp_path) -> Path:
    write_frames(tmp_path / "JPEGImages/late", range(5))
    write_masks(tmp_path / "Annotations/late", range(2, 5))
    write_frames(tmp_path / "JPEGImages/one", range(3))
    write_masks(tmp_path / "Annotations/one", range(1))
    write_frames(tmp_path / "JPEGImages/broken", range(2))
    return tmp_path


def test_playing_turns_at_the_first_annotation(generic):
    videos = {video.name: video for video in repeat_videos(open_evaluation_set("G", "val", generic, -1), 2).videos}
    assert shown(videos["late"]) == ["00002", "00003", "00004", "00003", "00002", "00003"]
    assert list(truth(videos["late"]).values()) == shown(videos["late"])
    assert videos["late"].annotations == {"00000-00002": generic / "Annotations/late/00002.png"}
    assert videos["late"].saved_frames is None


def test_videos_without_ground_truth_or_with_a_problem_stay_so(generic):
    videos = {video.name: video for video in repeat_videos(open_evaluation_set("G", "val", generic, -1), 2).videos}
    assert videos["one"].ground_truth is None
    assert len(videos["one"].frames.paths) == 6
    assert "Annotations/broken does not exist" in videos["broken"].problem


def test_frames_from_elsewhere_are_played_alike(tmp_path):
    for folder, size in (("480p", (6, 10)), ("Full-Resolution", (12, 20))):
        write_frames(tmp_path / "trainval/JPEGImages" / folder / "judo", range(3), size)
    write_masks(tmp_path / "trainval/Annotations/480p/judo", range(3))
    write_text(tmp_path / "trainval/ImageSets/2017/val.txt", "judo\n")
    (video,) = repeat_videos(open_evaluation_set("D17", "val", tmp_path, 480, 600), 3).videos
    small, large = video.frames_for(480), video.frames_for(600)
    assert [frame.name for frame in small] == [frame.name for frame in large]
    assert {frame.rgb.shape for frame in large} == {(12, 20, 3)}
    assert {frame.rgb.shape for frame in small} == {(6, 10, 3)}


def test_sets_that_a_server_scores_are_refused(tmp_path):
    write_frames(tmp_path / "test-dev/JPEGImages/480p/judo", range(3))
    write_masks(tmp_path / "test-dev/Annotations/480p/judo", range(1))
    write_text(tmp_path / "test-dev/ImageSets/2017/test-dev.txt", "judo\n")
    with pytest.raises(UserError, match="repeat: D17 is scored by a server, which takes every frame once"):
        repeat_videos(open_evaluation_set("D17", "test", tmp_path, 480), 2)
