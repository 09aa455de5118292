"""Masks painted over frames: as an image, and as a video that is whole or absent."""

import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.overlay_video import overlay_video
from tests.helpers import REPOSITORY
from util.painting import davis_palette, display_palette, overlay_masks

HEIGHT, WIDTH = 48, 64


def colours(palette: bytes) -> np.ndarray:
    return np.frombuffer(palette, np.uint8).reshape(-1, 3)


def grey(height: int = HEIGHT, width: int = WIDTH, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def box(label: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[10:30, 20:50] = label
    return labels


def write_clip(path: Path, height: int = HEIGHT, width: int = WIDTH, frames: int = 7) -> None:
    with overlay_video(path, Fraction(24)) as write:
        for value in range(frames):
            write(grey(height, width, 60 + 20 * value), box(1, height, width))


def test_the_davis_palette_begins_as_published():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert colours(davis_palette())[:7].tolist() == [list(colour) for colour in expected]
    assert colours(davis_palette())[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("palette", [davis_palette(), display_palette()])
def test_every_label_has_a_colour_of_its_own(palette):
    assert len(set(map(tuple, colours(palette).tolist()))) == 256


def test_255_is_vivid():
    colour = colours(display_palette())[255].astype(int)
    assert colour.max() - colour.min() > 150


def test_no_object_leaves_the_frame_as_it_is():
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay_masks(frame, np.zeros((HEIGHT, WIDTH), np.uint8)), frame)


@pytest.mark.parametrize(
    "as_labels", [lambda box: box.astype(np.int64), torch.from_numpy, lambda box: box.astype(bool)]
)
def test_label_maps_of_every_kind_are_painted(as_labels):
    np.testing.assert_array_equal(overlay_masks(grey(), as_labels(box(1))), overlay_masks(grey(), box(1)))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [(np.zeros((2, 3)), "an H×W array of integers, not float64"), (np.full((2, 3), 256), "labels go from 0 to 255")],
)
def test_what_is_no_label_map_is_refused(labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        overlay_masks(np.zeros((2, 3, 3), np.uint8), labels)


@settings(deadline=None)
@given(label=st.integers(1, 255), opacity=st.floats(0, 1), value=st.integers(0, 255))
def test_inside_is_the_blend_and_far_outside_is_the_frame(label, opacity, value):
    frame = grey(value=value)
    painted = overlay_masks(frame, box(label), opacity=opacity).astype(float)
    expected = (1 - opacity) * value + opacity * colours(display_palette())[label]
    np.testing.assert_allclose(painted[13:27, 23:47], np.broadcast_to(expected, (14, 24, 3)), atol=0.51)
    far = np.ones((HEIGHT, WIDTH), bool)
    far[8:32, 18:52] = False
    assert (painted[far] == value).all()
    assert (frame == value).all()


def test_the_outline_is_bright_inside_and_dark_outside():
    painted = overlay_masks(grey(), box(1))
    assert painted[10, 35].astype(int).sum() > painted[20, 35].astype(int).sum()
    assert painted[9, 35].max() < 100


def test_the_outline_grows_with_the_frame():
    labels = np.zeros((1080, 1440), np.uint8)
    labels[300:700, 300:900] = 1
    painted = overlay_masks(grey(1080, 1440), labels)
    assert (painted[297:300, 600] < 100).all()


def test_a_palette_is_used_as_it_is_and_completed():
    palette = bytes([0, 0, 0, 10, 20, 30])
    assert overlay_masks(grey(), box(1), palette, opacity=1.0)[20, 35].tolist() == [10, 20, 30]
    own = colours(display_palette())[2].tolist()
    assert overlay_masks(grey(), box(2), palette, opacity=1.0)[20, 35].tolist() == own


def test_an_opacity_beyond_one_is_refused():
    with pytest.raises(ValueError, match="opacity"):
        overlay_masks(grey(), box(1), opacity=1.5)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 64), (48, 65), (49, 65)])
def test_the_video_plays_anywhere_and_shows_the_masks(tmp_path, height, width):
    path = tmp_path / "overlay.mp4"
    write_clip(path, height, width)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 7
    for value, frame in enumerate(frames):
        assert frame.shape == (height + height % 2, width + width % 2, 3)
        expected = overlay_masks(grey(height, width, 60 + 20 * value), box(1, height, width))
        np.testing.assert_allclose(frame[15:25, 25:45], expected[15:25, 25:45], atol=8)
        np.testing.assert_allclose(frame[40:, 56:], 60 + 20 * value, atol=6)


def test_the_index_comes_before_the_pictures(tmp_path):
    write_clip(tmp_path / "overlay.mp4")
    content = (tmp_path / "overlay.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_measured_frame_rate_is_close(tmp_path):
    with overlay_video(tmp_path / "v.mp4", Fraction(2_998_799_999, 100_000_000)) as write:
        write(grey(), box(1))
        write(grey(), box(1))
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(29.988, abs=1e-3)


def test_an_error_leaves_nothing_and_an_older_video_as_it_was(tmp_path):
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"older")

    def fail_halfway() -> None:
        with overlay_video(path, Fraction(24)) as write:
            write(grey(), box(1))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_and_another_size_are_errors(tmp_path):
    with pytest.raises(ValueError, match="no frame"), overlay_video(tmp_path / "v.mp4", Fraction(24)):
        pass
    assert list(tmp_path.iterdir()) == []
    with overlay_video(tmp_path / "v.mp4", Fraction(24)) as write:
        write(grey(), box(1))
        with pytest.raises(ValueError, match="50x40"):
            write(grey(40, 50), box(1, 40, 50))


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"), overlay_video(tmp_path / "nowhere" / "v.mp4", Fraction(24)):
        pass


def test_a_disk_that_is_full_is_an_os_error_and_leaves_nothing(tmp_path):
    """In a process of its own, whose files may not grow beyond a few kB."""
    program = f"""
import sys; sys.path.insert(0, {str(REPOSITORY)!r})
from fractions import Fraction
from pathlib import Path
import numpy as np
from evaluation.overlay_video import overlay_video
noise = np.random.default_rng(0)
try:
    with overlay_video(Path({str(tmp_path)!r}) / "v.mp4", Fraction(24)) as write:
        for _ in range(60):
            write(noise.integers(0, 256, (48, 64, 3), dtype=np.uint8), np.zeros((48, 64), np.uint8))
except OSError as error:
    sys.exit(7)
"""
    limit = (20_000, 20_000)
    finished = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert finished.returncode == 7
    assert list(tmp_path.iterdir()) == []
