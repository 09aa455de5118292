"""Frames, masks and lists as people bring them: numbered names, turned photographs, files of Windows, junk folders."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.evaluation_video import EvaluationSet
from dataset.frames import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    FrameFolder,
    folder_entries,
    frame_size,
    natural_key,
    read_frame,
)
from dataset.given_label_maps import check_objects
from dataset.label_map import LabelMap, read_label_map, write_label_map
from dataset.registry import open_evaluation_set
from dataset.training_sets import own_videos
from evaluation.frame_reader import annotated_frames
from tests.helpers.layouts import davis_2016_pairs, write_frames, write_masks, write_text, youtube_meta
from util.errors import UserError
from util.painting import davis_palette

SIZE = (16, 24)


def write_video(root: Path, names: list[str], masks: list[str] | None = None, video: str = "v") -> Path:
    write_frames(root / "JPEGImages" / video, names, SIZE)
    write_masks(root / "Annotations" / video, names if masks is None else masks, SIZE)
    return root


def generic(root: Path) -> EvaluationSet:
    return open_evaluation_set("G", "val", root, 480)


# --- Order ------------------------------------------------------------------------------------------------------------


def test_numbers_without_padding_are_in_order_everywhere(tmp_path):
    names = [str(number) for number in range(13)]
    write_video(tmp_path, names)
    (video,) = generic(tmp_path).videos
    assert [frame.name for frame in video.frames] == names
    assert list(video.annotations) == ["0"]
    assert list(video.ground_truth) == names
    (training,) = own_videos(tmp_path).videos
    assert list(training.frames) == [f"{name}.jpg" for name in names]


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "frame", "img_", "a-"]), st.booleans())
def test_natural_order_is_that_of_the_numbers(numbers, prefix, padded):
    names = [f"{prefix}{number:07d}" if padded else f"{prefix}{number}" for number in numbers]
    shuffled = random.Random(0).sample(names, len(names))
    expected = [name for _, name in sorted(zip(numbers, names, strict=True))]
    assert sorted(shuffled, key=natural_key) == expected
    if padded:  # as all published sets have their names
        assert expected == sorted(names)


@given(st.lists(st.text(max_size=6), unique=True))
def test_natural_order_is_an_order_of_all_names(names):
    keys = [natural_key(name) for name in names]
    assert len({tuple(key) for key in keys}) == len(names)
    sorted(keys)  # comparable


# --- Photographs held upright -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied_to_frames_and_masks(tmp_path, orientation):
    scene = np.zeros((16, 24, 3), np.uint8)
    scene[:8, :8] = 255  # the upper left
    turned = Image.fromarray(scene)
    # The inverse of what a viewer does to show the image upright.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    if orientation in inverse:
        turned = turned.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "frame.jpg", quality=95, exif=exif)
    mask = turned.convert("L").point(lambda value: value // 255)
    mask.save(tmp_path / "mask.png", exif=exif)
    frame = read_frame(tmp_path / "frame.jpg").rgb
    assert frame.shape == (16, 24, 3)
    assert np.abs(frame.astype(int) - scene).mean() < 4
    assert np.array_equal(read_label_map(tmp_path / "mask.png").labels, scene[..., 0] // 255)
    for name in ("frame.jpg", "mask.png"):
        assert frame_size(tmp_path / name) == (16, 24)


# --- Formats and folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(FRAME_SUFFIXES))
def test_frames_of_every_format(tmp_path, suffix):
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / f"00000{suffix.upper()}")
    (frame,) = FrameFolder(tmp_path)
    assert frame.rgb.shape == rgb.shape
    if suffix not in (".jpg", ".jpeg", ".webp"):
        assert np.array_equal(frame.rgb, rgb)


@pytest.mark.parametrize("suffix", sorted(MASK_SUFFIXES))
def test_label_maps_of_every_format(tmp_path, suffix):
    write_frames(tmp_path / "JPEGImages/v", range(2), SIZE)
    labels = np.zeros(SIZE, np.uint8)
    labels[4:9, 5:12] = 7
    path = tmp_path / "Annotations/v" / f"00000{suffix}"
    path.parent.mkdir(parents=True)
    Image.fromarray(labels).save(path)
    (video,) = generic(tmp_path).videos
    assert video.annotations == {"0": path} or video.annotations == {"00000": path}
    assert np.array_equal(read_label_map(path).labels, labels)


def test_folders_that_archivers_leave_are_no_videos(tmp_path):
    write_video(tmp_path, ["00000"])
    for junk in ("__MACOSX", "@eaDir", ".Trash"):
        for place in ("JPEGImages", "Annotations"):
            (tmp_path / place / junk).mkdir()
    assert [path.name for path in folder_entries(tmp_path / "JPEGImages")] == ["v"]
    assert [video.name for video in generic(tmp_path).videos] == ["v"]
    assert len(own_videos(tmp_path).videos) == 1


# --- Lists and JSON ---------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    write_frames(tmp_path / "JPEGImages/480p/dog", range(2), SIZE)
    write_masks(tmp_path / "Annotations/480p/dog", range(2), SIZE)
    pairs = davis_2016_pairs("dog", range(2))
    write_text(tmp_path / "ImageSets/480p/val.txt", "\ufeff" + pairs)
    (video,) = open_evaluation_set("D16", "val", tmp_path, 480).videos
    assert (video.name, video.problem) == ("dog", None)


OUTSIDE = ["../outside", "/outside", "..", "a/b", "a\\b", ".hidden", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_a_meta_file_stay_inside_the_root(tmp_path, name):
    write_frames(tmp_path / "all_frames/valid_all_frames/JPEGImages/owl", range(2), SIZE)
    write_masks(tmp_path / "valid/Annotations/owl", range(1), SIZE)
    for meta in ({name: {"1": ["00000"]}}, {"owl": {"1": [name]}}):
        write_text(tmp_path / "valid/meta.json", youtube_meta(meta))
        with pytest.raises(UserError, match="names of videos and frames have no slash") as error:
            open_evaluation_set("Y19", "val", tmp_path, 480)
        assert "meta.json" in str(error.value)


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".hidden"])
def test_names_in_an_image_set_stay_inside_the_root(tmp_path, name):
    write_video(tmp_path / "trainval", ["00000"])
    for folder in ("JPEGImages/480p", "Annotations/480p"):
        (tmp_path / "trainval" / folder).mkdir(parents=True)
    write_text(tmp_path / "trainval/ImageSets/2017/val.txt", f"v\n{name}\n")
    with pytest.raises(UserError, match="names of videos and frames have no slash"):
        open_evaluation_set("D17", "val", tmp_path, 480)
    write_text(tmp_path / "ImageSets/480p/val.txt", "/JPEGImages/480p/../00000.jpg /Annotations/480p/../00000.png")
    with pytest.raises(UserError, match="names of videos and frames have no slash"):
        open_evaluation_set("D16", "val", tmp_path, 480)


# --- Label maps of other programs -------------------------------------------------------------------------------------


def two_objects(height: int = 60, width: int = 80) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[10:40, 10:35], labels[20:55, 40:70] = 120, 250
    return labels


def check(labels: np.ndarray, palette: bytes | None = None) -> None:
    check_objects(LabelMap(labels, palette), Path("mask.png"))


def smoothed(tmp_path: Path) -> np.ndarray:
    return cv2.GaussianBlur(two_objects(), (5, 5), 0)


def resized(tmp_path: Path) -> np.ndarray:
    return (
        cv2.resize(two_objects(120, 160), (80, 60), interpolation=cv2.INTER_LINEAR)[:53, :77] // 2
        + cv2.resize(two_objects(), (77, 53), interpolation=cv2.INTER_CUBIC) // 2
    )


def from_jpeg(tmp_path: Path) -> np.ndarray:
    Image.fromarray(two_objects()).save(tmp_path / "mask.jpg", quality=80)
    with Image.open(tmp_path / "mask.jpg") as image:
        return np.array(image)


@pytest.mark.parametrize("spoil", [smoothed, resized, from_jpeg])
def test_labels_that_smoothing_made_are_no_objects(tmp_path, spoil):
    labels = spoil(tmp_path)
    with pytest.raises(UserError, match=r"mask.png holds \d+ labels, \d+ of them along the borders") as error:
        check(labels)
    assert str(len(np.unique(labels))) in str(error.value)
    check(two_objects())


@given(st.integers(0, 10**6), st.integers(2, 12))
def test_real_objects_of_any_shape_are_not_taken_for_smoothed_ones(seed, count):
    """Also where objects are thin, touch each other, or cover each other in part."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 60), np.uint8)
    for label in range(1, count + 1):
        y, x = rng.integers(0, 36), rng.integers(0, 56)
        labels[y : y + rng.integers(3, 20), x : x + rng.integers(3, 30)] = label
    check(labels)


def test_a_palette_whose_first_colour_is_the_object_is_refused(tmp_path):
    labels = np.ones((20, 30), np.uint8)
    labels[5:15, 5:20] = 0  # the object
    with pytest.raises(UserError, match=r"palette has \(255, 255, 255\) for it, and black for label 1"):
        check(labels, bytes([255, 255, 255, 0, 0, 0]))
    check(1 - labels, bytes([0, 0, 0, 255, 255, 255]))
    check(1 - labels, bytes([0, 0, 0, 0, 0, 0]))
    check(1 - labels, davis_palette())
    write_frames(tmp_path / "JPEGImages/v", range(1), (20, 30))
    path = tmp_path / "Annotations/v/00000.png"
    path.parent.mkdir(parents=True)
    write_label_map(path, labels, bytes([255, 255, 255, 0, 0, 0]))
    with pytest.raises(UserError, match="save it with the background at index 0"):
        list(annotated_frames(generic(tmp_path).videos[0]))
