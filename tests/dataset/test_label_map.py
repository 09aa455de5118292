"""Label maps keep their values and palettes; what is no label map is refused by name."""

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from dataset.label_map import read_label_map, write_label_map
from util.errors import UserError

GAPS = np.array([[0, 3, 3], [255, 0, 17]], np.uint8)  # labels with gaps, and DAVIS 2016's 255
PALETTE = bytes(range(256)) * 3


@given(
    labels=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)),
    palette=st.none() | st.integers(1, 256).flatmap(lambda n: st.binary(min_size=3 * n, max_size=3 * n)),
)
def test_what_is_written_is_read_back(tmp_path_factory, labels, palette):
    path = tmp_path_factory.mktemp("label_map") / "0.png"
    write_label_map(path, labels, palette)
    read = read_label_map(path)
    np.testing.assert_array_equal(read.labels, labels)
    # Also where the palette has fewer colours than there are labels: the values come first.
    assert read.palette == (None if palette is None else palette.ljust(768, b"\0"))


@pytest.mark.parametrize(("palette", "mode"), [(None, "L"), (PALETTE, "P")])
def test_files_are_grey_or_palette_images_of_eight_bits(tmp_path, palette, mode):
    path = tmp_path / "0.png"
    write_label_map(path, GAPS.astype(np.int64), palette)
    with Image.open(path) as image:
        assert image.mode == mode
    assert path.read_bytes()[24] == 8  # bit depth in the PNG header


def test_a_palette_survives_reading_and_writing(tmp_path):
    given_mask = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    given_mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    given_mask.save(tmp_path / "given.png")
    palette = read_label_map(tmp_path / "given.png").palette
    assert palette.startswith(bytes([0, 0, 0, 128, 0, 0, 0, 128, 0]))
    write_label_map(tmp_path / "written.png", GAPS, palette)
    assert read_label_map(tmp_path / "written.png").palette.startswith(palette)
    np.testing.assert_array_equal(read_label_map(tmp_path / "written.png").labels, GAPS)


def test_a_one_bit_map_holds_0_and_1(tmp_path):
    path = tmp_path / "0.png"
    Image.fromarray(np.array([[True, False], [False, True]])).save(path)
    assert Image.open(path).mode == "1"
    np.testing.assert_array_equal(read_label_map(path).labels, [[1, 0], [0, 1]])


def test_sixteen_bits_are_read_while_labels_fit_in_eight(tmp_path):
    path = tmp_path / "0.png"
    Image.fromarray(GAPS.astype(np.uint16)).save(path)
    assert Image.open(path).mode.startswith("I")
    np.testing.assert_array_equal(read_label_map(path).labels, GAPS)
    Image.fromarray(GAPS.astype(np.uint16) + 1).save(path)
    with pytest.raises(UserError, match=r"0\.png holds the label 256"):
        read_label_map(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_labels_without_a_palette(tmp_path, mode):
    path = tmp_path / "0.png"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(UserError, match=rf"0\.png is an {mode} image, whose colours alone do not say the labels"):
        read_label_map(path)


def test_a_jpeg_is_refused_whatever_it_is_called(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(UserError, match=r"mask\.png is a JPEG image, which blurs labels"):
        read_label_map(tmp_path / "mask.png")


@pytest.mark.parametrize("palette", [None, PALETTE])
def test_a_file_cut_off_is_named(tmp_path, palette):
    path = tmp_path / "0.png"
    write_label_map(path, np.random.default_rng(0).integers(0, 256, (40, 50)), palette)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 40, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"0\.png"):
            read_label_map(path)


def test_a_missing_map_is_named(tmp_path):
    with pytest.raises(UserError, match=r"0\.png does not exist"):
        read_label_map(tmp_path / "0.png")


@pytest.mark.parametrize("label", [-1, 256])
def test_labels_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, label):
    path = tmp_path / "0.png"
    with pytest.raises(UserError, match=r"0\.png: labels go from 0 to 255"):
        write_label_map(path, np.array([[0, label]]))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_surfaces_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "0.png"
    write_label_map(path, GAPS)

    def write_bytes(self, content):
        with self.open("wb") as file:
            file.write(b"half a fi")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left"):
        write_label_map(path, np.zeros((2, 2), np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.png"]
    np.testing.assert_array_equal(read_label_map(path).labels, GAPS)


def test_real_maps_keep_255_and_stay_small(shared, tmp_path):
    source = shared / "DAVIS/2016/Annotations/480p/bmx-trees/00000.png"
    label_map = read_label_map(source)
    assert set(np.unique(label_map.labels)) == {0, 255}
    write_label_map(tmp_path / "0.png", label_map.labels, label_map.palette)
    np.testing.assert_array_equal(read_label_map(tmp_path / "0.png").labels, label_map.labels)
    assert (tmp_path / "0.png").stat().st_size < 1.5 * source.stat().st_size
