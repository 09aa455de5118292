"""Frames in any order are those that reading from the beginning gives."""

import random
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dataset.random_access import FolderAccess, VideoAccess, open_frames
from dataset.video_file import VideoFile
from util.errors import UserError

COUNT = 60


def write_video(path: Path, codec: str = "libx264", count: int = COUNT, **options: str) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(count):
            picture = np.full((48, 64, 3), 4 * number, np.uint8)
            picture[number % 40 : number % 40 + 8] = rng.integers(0, 255, (8, 64, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {"g": "250"}),
        ("v.mp4", "libx264", {"g": "12", "bf": "3"}),
        ("v.mkv", "libx264", {"g": "20", "bf": "2"}),
        ("v.webm", "libvpx-vp9", {"g": "20"}),
        ("v.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("v.h264", "libx264", {"g": "12"}),
        ("v.mov", "mjpeg", {}),
        ("v.avi", "libx264", {"g": "20", "bf": "3"}),  # whose packets have the times of decoding
        ("v.ts", "libx264", {"g": "20", "bf": "2"}),
        ("v.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    ],
    ids=lambda each: each if isinstance(each, str) else "-".join(each.values()),
)
def test_any_order_gives_the_frames_of_reading_in_order(tmp_path, name, codec, options, monkeypatch):
    monkeypatch.setattr("dataset.random_access.CACHED_BYTES", 4 * 64 * 48 * 3)
    path = write_video(tmp_path / name, codec, **options)
    expected = [frame.rgb for frame in VideoFile(path)]
    access = open_frames(path)
    assert isinstance(access, VideoAccess)
    assert access.count == len(expected)
    assert access.size == (48, 64)
    order = [len(expected) - 1, 0, *range(10, 20), *range(30, 20, -1)]
    order += random.Random(0).choices(range(len(expected)), k=25)
    for number in order:
        assert (access.read(number) == expected[number]).all(), f"frame {number}"
    for first in (0, 33):
        small = list(access.small_frames(first, longer_side=32))
        assert [number for number, _ in small] == list(range(first, len(expected)))
        for number, rgb in small:
            assert rgb.shape == (24, 32, 3)
            assert abs(float(rgb.mean()) - expected[number].mean()) < 3
    assert (access.read(5) == expected[5]).all()


def test_names_are_those_of_the_video(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    assert [VideoAccess(path).name_of(number) for number in (0, 7)] == [VideoFile(path).name_of(n) for n in (0, 7)]


def test_a_file_that_ends_early(tmp_path):
    whole = write_video(tmp_path / "v.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    access = VideoAccess(tmp_path / "cut.mkv")
    assert 0 < access.count < COUNT
    expected = [frame.rgb for frame in VideoFile(tmp_path / "cut.mkv")]
    assert (access.read(len(expected) - 2) == expected[-2]).all()


def test_damage_in_the_middle_costs_its_frames_alone(tmp_path):
    path = write_video(tmp_path / "v.mp4", "mjpeg")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = packets[20]
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    access = VideoAccess(path)
    with pytest.raises(UserError, match="frame 20 cannot be decoded"):
        access.read(20)
    for number in (21, 19, 59, 0):
        assert access.read(number)[-1].mean() == pytest.approx(4 * number, abs=6)
    with pytest.raises(UserError, match="frame 20 cannot be decoded"):
        access.read(20)


def test_a_folder(tmp_path):
    for number in (0, 1, 10, 2):
        Image.fromarray(np.full((8, 12, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "11.png")
    access = open_frames(tmp_path)
    assert isinstance(access, FolderAccess)
    assert access.count == 5
    assert [access.name_of(number) for number in range(5)] == ["0", "1", "2", "10", "11"]
    assert [access.read(number)[0, 0, 0] for number in (3, 0, 2)] == [10, 0, 2]
    with pytest.raises(UserError, match=r"11\.png is 12x9, the first frame 12x8"):
        access.read(4)


def test_a_file_that_cannot_be_read_any_more_is_named(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4")
    access = open_frames(tmp_path / "clip.mp4")
    assert isinstance(access, VideoAccess)

    def fail(*_: object) -> None:
        raise av.error.FFmpegError(5, "Input/output error")

    monkeypatch.setattr(access, "_start", fail)
    with pytest.raises(UserError, match=r"clip\.mp4: frame 3 cannot be decoded: Input/output error"):
        access.read(3)
    monkeypatch.undo()
    assert access.read(3).shape[2] == 3


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match="is a folder without frames"):
        open_frames(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_frames(tmp_path / "none.mp4")
