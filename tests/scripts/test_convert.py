"""python -m scripts.convert: what is written in another format is read back as it was, and other programs' files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from dataset.label_map import read_label_map, write_label_map
from dataset.mask_formats import WRITERS, box_of, decoded, encoded, read_masks
from scripts.convert import main
from tests.helpers.layouts import label_map, write_masks
from util.painting import davis_palette

SIZE = (9, 12)
RED, BLUE = (200, 0, 0), (0, 0, 200)

label_maps = st.lists(arrays(np.uint8, SIZE, elements=st.sampled_from([0, 0, 1, 3, 200])), min_size=1, max_size=3)


def convert(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def write_video(folder: Path, maps: list[np.ndarray], palette: bytes | None = None) -> None:
    folder.mkdir(parents=True)
    for number, labels in enumerate(maps):
        write_label_map(folder / f"{number:05d}.png", labels, palette)


def content(folder: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(folder)): read_label_map(path).labels for path in sorted(folder.rglob("*.png"))}


def assert_same(folder: Path, expected: Path) -> None:
    converted, original = content(folder), content(expected)
    assert converted.keys() == original.keys()
    for name, labels in original.items():
        np.testing.assert_array_equal(converted[name], labels)


def target(folder: Path, kind: str) -> Path:
    return folder / (f"{kind}.json" if kind in ("coco", "youtube") else kind)


# --- Round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(videos=st.lists(label_maps, min_size=1, max_size=2), kind=st.sampled_from(sorted(WRITERS)))
def test_label_maps_come_back_from_every_format(tmp_path_factory, videos, kind):
    folder = tmp_path_factory.mktemp("convert")
    for number, maps in enumerate(videos):
        maps[0][0, 0] = 1  # a video with no object at all has no place in some formats
        write_video(folder / f"given/v{number}", maps)
    assert convert(folder / "given", target(folder, kind), "--to", kind) == 0
    assert convert(target(folder, kind), folder / "back", "--to", "labels") == 0
    assert_same(folder / "back", folder / "given")


@settings(max_examples=30, deadline=None)
@given(
    masks=arrays(bool, (2, 3, *SIZE)),
    kind=st.sampled_from(["coco", "objects", "youtube"]),
    names=st.sampled_from([("000", "001"), ("3", "12"), ("cat", "dog")]),
)
def test_masks_that_overlap_come_back_from_formats_that_can_hold_them(tmp_path_factory, masks, kind, names):
    folder = tmp_path_factory.mktemp("convert")
    for name, of_object in zip(names, masks, strict=True):
        of_object[0, 0, 0] = True  # COCO has no entry for an object that never shows
        write_video(folder / "given/v" / name, [mask.astype(np.uint8) * 255 for mask in of_object])
    assert convert(folder / "given", target(folder, kind), "--to", kind) == 0
    assert convert(target(folder, kind), folder / "back", "--to", "objects") == 0
    assert_same(folder / "back", folder / "given")


@given(arrays(bool, SIZE))
def test_encodings_are_those_of_pycocotools(mask):
    code = json.loads(json.dumps(encoded(mask)))
    np.testing.assert_array_equal(decoded(code, SIZE), mask)
    np.testing.assert_array_equal(coco.decode({**code, "counts": code["counts"].encode()}), mask)
    flat = mask.ravel(order="F").astype(int)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(ends).tolist()
    np.testing.assert_array_equal(decoded({"size": list(SIZE), "counts": [0] * int(flat[0]) + runs}, SIZE), mask)
    if mask.any():
        assert box_of(mask) == coco.toBbox({**code, "counts": code["counts"].encode()}).astype(int).tolist()


def test_palettes_stay_and_colours_become_labels(tmp_path):
    write_video(tmp_path / "given/v", [label_map(SIZE, (1, 2))], davis_palette())
    (tmp_path / "colours/v").mkdir(parents=True)
    colours = np.array([(0, 0, 0), RED, BLUE], np.uint8)[label_map(SIZE, (1, 2))]
    Image.fromarray(colours).save(tmp_path / "colours/v/00000.png")
    for source in ("given", "colours"):
        assert convert(tmp_path / source, tmp_path / f"{source}_back", "--to", "labels") == 0
        assert_same(tmp_path / f"{source}_back", tmp_path / "given")
    assert read_label_map(tmp_path / "given_back/v/00000.png").palette == davis_palette()
    np.testing.assert_array_equal(Image.open(tmp_path / "colours_back/v/00000.png").convert("RGB"), colours)


# --- Files of other programs ------------------------------------------------------------------------------------------


def instances(annotations: list[dict], frames: int = 2) -> str:
    images = [{"id": n, "file_name": f"{n:05d}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in range(frames)]
    categories = [{"id": 7, "name": "fish"}, {"id": 9, "name": "crab"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def square(left: int) -> dict:
    return {"segmentation": [[left, 2, left + 3, 2, left + 3, 5, left, 5]]}


def test_polygons_of_one_image_are_an_object_each(tmp_path, capsys):
    fish = [{"id": n, "image_id": 0, "category_id": 7, **square(4 * n)} for n in range(2)]
    (tmp_path / "clip.json").write_text(instances(fish))
    assert convert(tmp_path / "clip.json", tmp_path / "labels", "--to", "labels") == 0
    first, second = content(tmp_path / "labels").values()
    expected = np.zeros(SIZE, np.uint8)
    expected[2:5, 0:3], expected[2:5, 4:7] = 1, 2
    np.testing.assert_array_equal(first, expected)
    assert not second.any()
    assert list(content(tmp_path / "labels")) == ["clip/00000.png", "clip/00001.png"]


def test_tracks_and_categories_say_which_object_it_is(tmp_path, capsys):
    both = [{"id": 2 * n + m, "image_id": n, "category_id": 7 + 2 * m, **square(5 * m)} for n in (0, 1) for m in (0, 1)]
    (tmp_path / "categories.json").write_text(instances(both))
    (video,) = read_masks(tmp_path / "categories.json")
    assert video.objects == {7: "fish", 9: "crab"}
    one_kind = [{**each, "category_id": 7} for each in both]
    (tmp_path / "unclear.json").write_text(instances(one_kind))
    assert convert(tmp_path / "unclear.json", tmp_path / "labels", "--to", "labels") == 2
    assert "a track_id has to say which of them" in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()
    tracked = [{**each, "attributes": {"track_id": 1000 + each["id"] % 2}} for each in one_kind]
    (tmp_path / "tracked.json").write_text(instances(tracked))
    (video,) = read_masks(tmp_path / "tracked.json")
    assert video.objects == {1: "fish", 2: "fish"}
    assert [list(frame.masks) for frame in video.frames()] == [[1, 2], [1, 2]]


@pytest.mark.parametrize("kind", [int, float, str])
def test_numbers_of_tracks_are_labels_whatever_their_type(tmp_path, caplog, kind):
    shown = [{"id": n, "image_id": 0, "category_id": 7, "track_id": kind(3 - n), **square(5 * n)} for n in (1, 2)]
    (tmp_path / "clip.json").write_text(instances(shown))
    (video,) = read_masks(tmp_path / "clip.json")
    second, first = (next(iter(video.frames())).masks[label] for label in (1, 2))
    assert (first[2, 5], second[2, 10]) == (True, True)
    assert not caplog.text


def test_tracks_that_get_other_labels_are_named(tmp_path, caplog):
    shown = [{"id": n, "image_id": 0, "category_id": 7, "track_id": 300 - n, **square(5 * n)} for n in (1, 2)]
    (tmp_path / "clip.json").write_text(instances(shown))
    read_masks(tmp_path / "clip.json")
    assert "objects of clip get other labels: 1 is track 299, 2 is track 298" in caplog.text


def test_the_folder_that_one_is_in_has_a_name(tmp_path, monkeypatch):
    write_masks(tmp_path / "clip", ["00000"], SIZE)
    monkeypatch.chdir(tmp_path / "clip")
    assert convert(Path("."), tmp_path / "labels", "--to", "labels") == 0
    assert list(content(tmp_path / "labels")) == ["clip/00000.png"]


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask", [[[]], [[1, 2]], "mask", [1], {"size": list(SIZE), "counts": [-1, SIZE[0] * SIZE[1] + 1]}, 10**5 * "["]
)
def test_masks_that_are_none_are_told_in_a_line(tmp_path, capsys, mask):
    text = instances([{"id": 1, "image_id": 0, "category_id": 7, "segmentation": mask}])
    (tmp_path / "clip.json").write_text(text if len(text) < 10**5 else mask)
    assert convert(tmp_path / "clip.json", tmp_path / "labels", "--to", "labels") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "clip.json is no JSON of COCO or YouTubeVIS with masks" in line
    assert not (tmp_path / "labels").exists()


def test_what_a_format_cannot_hold_is_said(tmp_path, capsys):
    for name in ("1", "2"):
        write_masks(tmp_path / "given/v" / name, ["00000"], SIZE)
    assert convert(tmp_path / "given", tmp_path / "labels", "--to", "labels") == 0
    assert "v: masks overlap in 36 pixels, kept for the object with the higher label" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "out", "--to", "labels"], "absent does not exist"),
        (["given", "given", "--to", "labels"], "given exists: choose another name"),
        (["given", "out", "--to", "coco"], "--to coco writes a file whose name ends in .json, not out"),
        (["given", "out.json", "--to", "objects"], "--to objects writes a folder"),
        (["given", "out", "--to", "svg"], "invalid choice: 'svg'"),
        (["broken.json", "out", "--to", "labels"], "broken.json is no JSON of COCO or YouTubeVIS with masks"),
        (["outside.json", "out", "--to", "labels"], "holds the name '..'"),
        (["huge.json", "out", "--to", "labels"], "no size of an image"),
        (["short.json", "out", "--to", "labels"], "is no JSON of COCO or YouTubeVIS with masks"),
        (["empty", "out", "--to", "labels"], "holds no folders of masks"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_masks(tmp_path / "given/v", range(1), SIZE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text('{"annotations": [')
    outside = json.loads(instances([]))
    for name, change in (
        ("outside", {"file_name": "../00000.jpg"}),
        ("huge", {"height": 10**9}),
        ("short", {}),
    ):
        shown = [{"id": 1, "image_id": 0, "category_id": 7, "segmentation": {"size": [2, 2], "counts": [1, 3]}}]
        images = [{**outside["images"][0], **change}]
        (tmp_path / f"{name}.json").write_text(json.dumps({**outside, "images": images, "annotations": shown}))
    before = sorted(tmp_path.rglob("*"))
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
