"""Label maps as people have them: in colours, one mask file for each object, with void, in one frame or in several."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dataset.evaluation_video import EvaluationSet
from dataset.given_label_maps import GivenLabelMaps
from dataset.label_map import ObjectMasks, colour_palette, list_label_maps, read_label_map
from dataset.registry import open_evaluation_set
from evaluation.frame_reader import annotated_frames, open_video
from scoring.davis import find_sequences, score_sequences
from tests.helpers.layouts import label_map, write_frames, write_masks
from util.errors import UserError
from util.painting import davis_palette

SIZE = (16, 24)
RED, BLUE, WHITE = (200, 30, 30), (20, 20, 250), (255, 255, 255)


def in_colours(labels: np.ndarray, colours: dict[int, tuple[int, ...]], channels: int = 3) -> Image.Image:
    image = np.zeros((*labels.shape, channels), np.uint8)
    for label, colour in colours.items():
        image[labels == label] = (*colour, 255)[:channels]
    return Image.fromarray(image)


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def read(*paths: Path) -> list[np.ndarray]:
    given_maps = GivenLabelMaps(paths)
    return [given_maps.read(path).labels for path in paths]


# --- Colours ----------------------------------------------------------------------------------------------------------


def test_colours_are_numbered_in_the_order_in_which_they_appear(tmp_path):
    labels = label_map(SIZE, (1, 2))
    first = save(in_colours(labels, {1: RED, 2: BLUE}), tmp_path / "0.png")
    second = save(in_colours(labels, {1: WHITE, 2: RED}), tmp_path / "1.png")
    one, two = read(first, second)
    np.testing.assert_array_equal(one, labels)
    np.testing.assert_array_equal(two, np.select([labels == 1, labels == 2], [3, 1], 0))
    read_first = GivenLabelMaps([first, second]).read(first)
    assert read_first.names == {1: "#c81e1e", 2: "#1414fa"}
    assert read_first.palette == bytes((0, 0, 0, *RED, *BLUE, *WHITE))


def test_colours_of_the_davis_palette_have_its_labels(tmp_path):
    labels = label_map(SIZE, (2, 7))
    palette = davis_palette()
    colours = {label: tuple(palette[3 * label : 3 * label + 3]) for label in (2, 7)}
    (read_back,) = read(save(in_colours(labels, colours), tmp_path / "0.png"))
    np.testing.assert_array_equal(read_back, labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_in_several_channels_is_a_grey_label_map(tmp_path, mode):
    labels = label_map(SIZE, (1, 255))
    path = save(Image.fromarray(labels).convert(mode), tmp_path / "0.png")
    given_map = GivenLabelMaps([path]).read(path)
    assert (given_map.palette, given_map.names) == (None, {})
    np.testing.assert_array_equal(given_map.labels, np.where(labels == 255, 0, labels))  # beside others, 255 is void


def test_what_is_transparent_is_background(tmp_path):
    labels = label_map(SIZE, (1,))
    image = in_colours(labels, {1: RED}, channels=4)
    assert np.array(image)[0, 0].tolist() == [0, 0, 0, 0]
    white_beneath = np.array(image)
    white_beneath[labels == 0, :3] = 255
    for number, each in enumerate((image, Image.fromarray(white_beneath))):
        (read_back,) = read(save(each, tmp_path / f"{number}.png"))
        np.testing.assert_array_equal(read_back, labels)


@given(arrays(np.uint8, (6, 7), elements=st.integers(0, 9)), st.randoms(use_true_random=False))
def test_colours_mean_the_same_objects_whatever_they_are(tmp_path_factory, labels, random):
    labels[0, 0] = 0  # black is there
    colours = random.sample(range(1, 1 << 24), 10)
    path = tmp_path_factory.mktemp("colours") / "0.png"
    save(in_colours(labels, {label: tuple(colours[label].to_bytes(3, "big")) for label in range(1, 10)}), path)
    palette = colour_palette([path])
    read_back = read_label_map(path, palette).labels
    pairs = set(zip(labels.ravel().tolist(), read_back.ravel().tolist(), strict=True))
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    assert (0, 0) in pairs


def half_transparent(labels: np.ndarray) -> Image.Image:
    image = np.array(in_colours(labels, {1: RED}, channels=4))
    image[8, 12, 3] = 128
    return Image.fromarray(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (in_colours(label_map(SIZE, (1,)), {0: WHITE, 1: RED}), "has no black pixel, but black is the background"),
        (half_transparent(label_map(SIZE, (1,))), "half-transparent pixels: its edges were smoothed"),
        (
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)),
            r"holds 1600 colours; a label map has one for each object: it was smoothed",
        ),
    ],
)
def test_pictures_are_no_label_maps(tmp_path, image, message):
    path = save(image, tmp_path / "0.png")
    with pytest.raises(UserError, match=message):
        read(path)


# --- One mask file for each object ------------------------------------------------------------------------------------


def write_object_masks(folder: Path, labels: np.ndarray, names: dict[int, str], frame: str = "00000") -> None:
    for label, name in names.items():
        save(Image.fromarray(np.where(labels == label, 255, 0).astype(np.uint8)), folder / name / f"{frame}.png")


@pytest.mark.parametrize(
    ("names", "expected"),
    [({1: "000", 2: "001"}, (1, 2)), ({1: "3", 2: "12"}, (3, 12)), ({1: "cat", 2: "dog"}, (1, 2))],
)
def test_folders_of_objects_are_joined(tmp_path, names, expected):
    labels = label_map(SIZE, (1, 2))
    write_object_masks(tmp_path, labels, names)
    ((frame, source),) = list_label_maps(tmp_path).items()
    assert frame == "00000"
    assert isinstance(source, ObjectMasks)
    joined = read_label_map(source)
    np.testing.assert_array_equal(joined.labels, np.select([labels == 1, labels == 2], expected, 0))
    assert joined.names == dict(zip(expected, names.values(), strict=True))
    assert joined.palette == davis_palette()


def test_folders_without_masks_are_no_objects(tmp_path):
    write_object_masks(tmp_path, label_map(SIZE, (1, 2)), {1: "5", 2: "7"})
    (tmp_path / "notes").mkdir()
    (tmp_path / "out/clip").mkdir(parents=True)
    (source,) = list_label_maps(tmp_path).values()
    assert read_label_map(source).names == {5: "5", 7: "7"}


def test_where_masks_overlap_the_later_object_is_taken_and_that_is_said(tmp_path, caplog):
    for name, columns in (("a", slice(0, 15)), ("b", slice(10, 20))):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, columns] = 1
        save(Image.fromarray(mask), tmp_path / name / "0.png")
    (source,) = list_label_maps(tmp_path).values()
    labels = GivenLabelMaps([source]).read(source).labels
    assert [labels[0, column] for column in (9, 10, 14, 19, 20)] == [1, 2, 2, 2, 0]
    assert "masks overlap in 80 pixels" in caplog.text


def generic(root: Path) -> EvaluationSet:
    return open_evaluation_set("G", "val", root, 480)


def test_objects_with_folders_are_followed_and_scored(tmp_path):
    labels = label_map(SIZE, (1, 2))
    write_frames(tmp_path / "JPEGImages/v", range(3), SIZE)
    for number in range(3):
        write_object_masks(tmp_path / "Annotations/v", labels, {1: "000", 2: "001"}, f"{number:05d}")
    (video,) = generic(tmp_path).videos
    (_, first), *others = annotated_frames(video)
    np.testing.assert_array_equal(first.labels, labels)
    assert [label_map for _, label_map in others] == [None, None]
    write_masks(tmp_path / "result/v", range(3), SIZE, labels=(1, 2))
    assert score_sequences(find_sequences(tmp_path / "Annotations", tmp_path / "result")).figures["J&F"] == 100


def test_ground_truth_in_colours_is_read_as_the_given_label_map(tmp_path):
    labels = label_map(SIZE, (1, 2))
    for number in range(3):
        save(in_colours(labels, {1: RED, 2: BLUE}), tmp_path / f"truth/v/{number}.png")
        save(in_colours(labels, {1: RED, 2: BLUE}), tmp_path / f"same/v/{number}.png")
        save(Image.fromarray(labels), tmp_path / f"numbers/v/{number}.png")
    for prediction in ("same", "numbers"):
        assert score_sequences(find_sequences(tmp_path / "truth", tmp_path / prediction)).figures["J&F"] == 100


# --- Void -------------------------------------------------------------------------------------------------------------


def test_255_is_void_beside_other_labels_and_an_object_alone(tmp_path, caplog):
    beside = save(Image.fromarray(label_map(SIZE, (1, 255))), tmp_path / "beside.png")
    alone = save(Image.fromarray(label_map(SIZE, (255,))), tmp_path / "alone.png")
    assert np.unique(read(alone)[0]).tolist() == [0, 255]
    assert not caplog.records
    first, second = read(beside, alone)
    assert np.unique(first).tolist() == [0, 1]
    assert np.unique(second).tolist() == [0], "the first label map says what 255 means"
    assert "beside.png: label 255 beside others means void and is not followed" in caplog.messages[0]


# --- Where a video begins ---------------------------------------------------------------------------------------------


def test_a_video_begins_at_the_first_label_map_with_an_object(tmp_path):
    write_frames(tmp_path / "JPEGImages/v", range(6), SIZE)
    write_masks(tmp_path / "Annotations/v", range(2), SIZE, labels=())
    write_masks(tmp_path / "Annotations/v", range(2, 6), SIZE)
    (video,) = generic(tmp_path).videos
    assert list(video.annotations) == ["00002"]
    assert list(video.ground_truth) == ["00002", "00003", "00004", "00005"]
    assert video.frames_before == 2
    assert [frame.name for frame in video.backward().frames] == ["00002", "00001", "00000"]


def test_a_folder_of_frames_is_a_video_with_its_own_label_maps(tmp_path, caplog):
    write_frames(tmp_path / "clip", range(4), SIZE)
    write_masks(tmp_path / "masks", ["00001", "00003"], SIZE)
    (video,) = open_video(tmp_path / "clip", masks=tmp_path / "masks").videos
    assert (video.name, list(video.annotations), video.frames_before) == ("clip", ["00001", "00003"], 1)
    (video,) = open_video(tmp_path / "clip", mask=tmp_path / "masks/00001.png").videos
    assert (list(video.annotations), video.frames_before) == (["00000"], 0)
    assert "is taken for the first frame, 00000, although it is named like another one" in caplog.text


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (["00009"], r"masks/00009\.png has no frame in .*clip"),
        ([], "masks holds no label maps"),
    ],
)
def test_folders_of_label_maps_that_do_not_fit_are_refused(tmp_path, masks, message):
    write_frames(tmp_path / "clip", range(4), SIZE)
    write_masks(tmp_path / "masks", masks, SIZE)
    with pytest.raises(UserError, match=message):
        open_video(tmp_path / "clip", masks=tmp_path / "masks")


# --- What a reader of the documentation would expect ------------------------------------------------------------------


def test_the_mask_of_an_object_has_one_label(tmp_path):
    """A folder of videos is not a folder of objects, and a smoothed mask is none either."""
    write_masks(tmp_path / "v", range(1), SIZE, labels=(1, 2))
    (source,) = list_label_maps(tmp_path).values()
    with pytest.raises(UserError, match=r"v/00000\.png holds several labels, .* or the folder .*v is meant"):
        read_label_map(source)


def test_label_maps_of_one_video_are_of_one_kind(tmp_path):
    colours = save(in_colours(label_map(SIZE, (1,)), {1: RED}), tmp_path / "0.png")
    numbers = save(Image.fromarray(label_map(SIZE, (1,))), tmp_path / "1.png")
    with pytest.raises(UserError, match=r"1\.png is not in colours, as others of its video"):
        read(colours, numbers)
    with pytest.raises(UserError, match=r"0\.png is an RGB image, whose colours alone do not say the labels"):
        read(numbers, colours)


def test_folders_are_matched_by_name_when_they_are_scored(tmp_path, caplog):
    labels = label_map(SIZE, (1, 2, 3))
    for number in range(3):
        write_object_masks(tmp_path / "truth/v", labels, {1: "cat", 2: "dog", 3: "zebra"}, f"{number}")
        write_object_masks(tmp_path / "result/v", labels, {1: "cat", 3: "zebra"}, f"{number}")
    scores = score_sequences(find_sequences(tmp_path / "truth", tmp_path / "result"))
    assert scores.figures["J&F"] == pytest.approx(100 * 2 / 3)
    assert "labels 2: objects of the ground truth that are never predicted" in caplog.text


def test_colours_are_matched_by_colour_when_they_are_scored(tmp_path, caplog):
    """The ground truth numbers the blue object 1, as it is the first there; the result has it as 2."""
    labels = label_map(SIZE, (1, 2))
    for number in range(3):
        save(in_colours(labels, {1: BLUE, 2: RED}), tmp_path / f"truth/v/{number}.png")
        image = Image.fromarray(np.select([labels == 1, labels == 2], [2, 1], 0).astype(np.uint8))
        save(image, tmp_path / f"grey/v/{number}.png")
        image.putpalette(bytes((0, 0, 0, *RED, *BLUE)))
        save(image, tmp_path / f"result/v/{number}.png")
    assert score_sequences(find_sequences(tmp_path / "truth", tmp_path / "result")).figures["J&F"] == 100
    assert not caplog.records
    score_sequences(find_sequences(tmp_path / "truth", tmp_path / "grey"))
    assert "since the predictions have no palette" in caplog.text


def test_objects_without_a_mask_file_in_some_frames_are_no_ground_truth(tmp_path, caplog):
    labels = label_map(SIZE, (1, 2))
    write_frames(tmp_path / "JPEGImages/v", range(3), SIZE)
    for number in range(3):
        names = {1: "cat", 2: "dog"} if number == 0 else {2: "dog"}
        write_object_masks(tmp_path / "Annotations/v", labels, names, f"{number:05d}")
    (video,) = generic(tmp_path).videos
    assert video.ground_truth is None
    write_masks(tmp_path / "result/v", range(3), SIZE, labels=(1, 2))
    score_sequences(find_sequences(tmp_path / "Annotations", tmp_path / "result"))
    assert "frames without a mask of every object (2)" in caplog.text


def test_void_is_left_out_of_binary_scoring_too(tmp_path):
    write_masks(tmp_path / "truth/v", range(3), SIZE, labels=(7, 255))
    write_masks(tmp_path / "result/v", range(3), SIZE, labels=(1, 2))
    for number in range(3):  # whatever is predicted in void does not count
        path = tmp_path / f"result/v/{number:05d}.png"
        save(Image.fromarray(np.where(read_label_map(path).labels == 1, 1, 0).astype(np.uint8)), path)
    assert score_sequences(find_sequences(tmp_path / "truth", tmp_path / "result"), binary=True).figures["J&F"] == 100


def test_a_colour_label_map_may_be_full_where_others_of_the_video_have_a_background(tmp_path):
    write_frames(tmp_path / "JPEGImages/v", range(2), SIZE)
    save(Image.new("RGB", SIZE[::-1], RED), tmp_path / "Annotations/v/00000.png")
    save(in_colours(label_map(SIZE, (1,)), {1: RED}), tmp_path / "Annotations/v/00001.png")
    (video,) = generic(tmp_path).videos
    (_, first), _ = annotated_frames(video)
    assert np.unique(first.labels).tolist() == [1]
