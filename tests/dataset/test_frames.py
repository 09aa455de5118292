"""Frames come out of a folder in order, with the pixels Pillow sees, and damage is reported by file."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset import frames
from dataset.frames import BackwardFrames, Frame, FrameFolder, FrameSource, frame_size, list_images, read_frame
from util.errors import UserError


def write_image(path: Path, height: int = 12, width: int = 20, seed: int = 0) -> np.ndarray:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path)
    return rgb


def test_a_png_frame_has_its_pixels_and_its_stem(tmp_path):
    rgb = write_image(tmp_path / "00007.png")
    frame = read_frame(tmp_path / "00007.png")
    assert frame.name == "00007"
    assert frame.rgb.dtype == np.uint8
    np.testing.assert_array_equal(frame.rgb, rgb)


def test_a_jpeg_frame_has_the_pixels_pillow_decodes(tmp_path):
    path = tmp_path / "00000.jpg"
    write_image(path)
    np.testing.assert_array_equal(read_frame(path).rgb, np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "0.png"
    Image.new("RGB", (20, 12), (255, 255, 255)).convert(mode).save(path)
    rgb = read_frame(path).rgb
    assert rgb.shape == (12, 20, 3)
    assert (rgb == 255).all()


def test_sixteen_bit_grey_is_refused_not_clipped(tmp_path):
    path = tmp_path / "0.png"
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(path)
    with pytest.raises(UserError, match=r"0\.png has more than 8 bits"):
        read_frame(path)


def test_the_size_needs_the_header_only(tmp_path):
    path = tmp_path / "0.jpg"
    write_image(path, 96, 160)
    path.write_bytes(path.read_bytes()[:-500])
    assert frame_size(path) == (96, 160)


@pytest.mark.parametrize("name", ["0.jpg", "0.png"])
def test_a_file_cut_off_anywhere_is_named(tmp_path, name):
    path = tmp_path / name
    write_image(path, 64, 64)
    whole = path.read_bytes()
    for length in [0, 1, 10, 30, *range(40, len(whole) - 40, 211)]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            read_frame(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", [9, 20, 60, 3000])
def test_a_damaged_png_is_named(tmp_path, position):
    path = tmp_path / "0.png"
    write_image(path, 64, 64)
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0x5A
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"0\.png"):
        read_frame(path)


def test_a_damaged_orientation_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.webp", exif=b"Exif\0\0II*\0")
    with pytest.raises(UserError, match=r"0\.webp cannot be read"):
        read_frame(tmp_path / "0.webp")


@pytest.mark.parametrize("read", [read_frame, frame_size])
def test_what_is_no_image_is_named(tmp_path, read):
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    with pytest.raises(UserError, match=r"text\.jpg is not an image"):
        read(text)
    with pytest.raises(UserError, match=r"absent\.jpg does not exist"):
        read(tmp_path / "absent.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UserError, match=r"folder\.jpg is a folder, not an image"):
        read(tmp_path / "folder.jpg")


def test_an_absurdly_large_image_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "0.png"
    write_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"0\.png"):
        read_frame(path)


def test_a_folder_yields_its_frames_in_order_again_and_again(tmp_path):
    colours = {"00002.PNG": 2, "00000.jpg": 0, "00010.Jpeg": 10}
    for name, value in colours.items():
        Image.new("RGB", (20, 12), (value,) * 3).save(tmp_path / name)
    for ignored in ("._00000.jpg", ".hidden.png", "Thumbs.db", "notes.txt"):
        (tmp_path / ignored).write_bytes(b"")
    frames = FrameFolder(tmp_path)
    assert isinstance(frames, FrameSource)
    assert [path.name for path in frames.paths.values()] == ["00000.jpg", "00002.PNG", "00010.Jpeg"]
    assert frames.frame_count == 3
    assert frames.frame_rate == Fraction(24)
    for _ in range(2):
        read = list(frames)
        assert [frame.name for frame in read] == ["00000", "00002", "00010"]
        assert [int(frame.rgb[0, 0, 0]) for frame in read] == [0, 2, 10]


def test_a_folder_can_be_restricted_to_some_frames(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"{index}.png")
    frames = FrameFolder(tmp_path, {"1": tmp_path / "1.png", "again": tmp_path / "3.png"})
    assert [(frame.name, frame.path.name) for frame in frames] == [("1", "1.png"), ("again", "3.png")]


def test_frames_are_read_one_at_a_time(tmp_path):
    write_image(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"damaged")
    frames = iter(FrameFolder(tmp_path))
    assert next(frames).name == "0"
    with pytest.raises(UserError, match=r"1\.png"):
        next(frames)


def test_an_empty_folder_has_no_frames(tmp_path):
    assert list(FrameFolder(tmp_path)) == []


def test_two_files_of_one_stem_are_refused(tmp_path):
    for name in ("a.jpg", "a.png"):
        write_image(tmp_path / name)
    with pytest.raises(UserError, match=r"both a\.jpg and a\.png"):
        FrameFolder(tmp_path)
    assert list_images(tmp_path, frozenset({".png"})) == {"a": tmp_path / "a.png"}


def test_a_folder_that_is_not_there_or_no_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="absent does not exist"):
        FrameFolder(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, not a folder"):
        FrameFolder(tmp_path / "file")


def test_real_frames_equal_what_pillow_decodes(shared):
    path = shared / "DAVIS/2016/JPEGImages/480p/dog/00000.jpg"
    frame = read_frame(path)
    assert frame.rgb.shape[:2] == frame_size(path) == (480, 854)
    np.testing.assert_array_equal(frame.rgb, np.array(Image.open(path).convert("RGB")))


@given(count=st.integers(0, 12), whole=st.integers(0, 12), at_once=st.integers(1, 13))
def test_any_source_is_read_backward_with_few_frames_in_memory(count, whole, at_once):
    @dataclass
    class Source:
        frame_count: int = whole
        frame_rate: Fraction = Fraction(24)

        def files(self):
            return ()

        def __iter__(self):
            return (Frame(str(number), np.zeros((1, 1, 3), np.uint8)) for number in range(whole))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "BYTES_AT_ONCE", 3 * at_once)
        read = [frame.name for frame in BackwardFrames(Source(), min(count, whole))]
    assert read == [str(number) for number in reversed(range(min(count, whole)))]
