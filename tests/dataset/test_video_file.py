"""Video files as frame sources: what is decoded, and what a user is told of a file that is not as it should be."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.frames import FrameSource
from dataset.video_file import VideoFile
from util.errors import UserError


def smooth_frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Colour gradients that move: lossy codecs keep them nearly unchanged."""
    rows, columns = np.mgrid[:height, :width]
    return [
        np.stack([4 * rows, 3 * columns, np.full_like(rows, 20 * t % 256)], axis=2).astype(np.uint8)
        for t in range(count)
    ]


def noise_frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(30),
    options: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Encode RGB frames (or grey ones, of two axes); `title` is that of the file and of its stream."""
    with av.open(str(path), "w", options=options or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        if title is not None:
            stream.metadata["title"] = title
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.ndim == 3 else "gray")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return path


def turn_upright(path: Path, angle: int) -> None:
    """Write the rotation of `angle` degrees clockwise into an MP4 file's track header, as phones do."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    # 3×3, its last column in 2.30 and the others in 16.16 fixed point.
    matrix = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * [2**16, 2**16, 2**30]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = matrix.astype(">i4").tobytes()
    path.write_bytes(content)


def test_a_lossless_video_gives_its_exact_pixels_again_and_again(tmp_path):
    frames = noise_frames(4, 46, 62)
    video = VideoFile(write_video(tmp_path / "v.mkv", frames, "ffv1", "bgr0"))
    assert isinstance(video, FrameSource)
    assert video.frame_size == (46, 62)
    for _ in range(2):
        decoded = list(video)
        assert [frame.name for frame in decoded] == ["00000", "00001", "00002", "00003"]
        np.testing.assert_array_equal([frame.rgb for frame in decoded], frames)


def test_an_h264_video_is_close_and_knows_its_count_and_rate(tmp_path):
    frames = smooth_frames(12)
    video = VideoFile(write_video(tmp_path / "v.mp4", frames, rate=Fraction(30000, 1001)))
    assert video.frame_count == 12
    assert video.frame_rate == Fraction(30000, 1001)
    decoded = np.array([frame.rgb for frame in video], np.int16)
    assert decoded.shape == (12, 48, 64, 3)
    assert np.abs(decoded - frames).mean() < 3


def test_a_count_that_the_container_lacks_is_estimated(tmp_path):
    video = VideoFile(write_video(tmp_path / "v.mkv", smooth_frames(12), rate=Fraction(10)))
    assert video.frame_count == 12
    assert len(list(video)) == 12


def test_grey_becomes_three_equal_channels(tmp_path):
    frames = [frame[..., 0] for frame in noise_frames(3)]
    decoded = list(VideoFile(write_video(tmp_path / "v.mkv", frames, "ffv1", "gray")))
    for frame, expected in zip(decoded, frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, np.repeat(expected[..., None], 3, axis=2))


def test_ten_bits_become_eight(tmp_path):
    frames = smooth_frames(3)
    decoded = list(VideoFile(write_video(tmp_path / "v.mkv", frames, "ffv1", "yuv444p10le")))
    assert all(frame.rgb.dtype == np.uint8 for frame in decoded)
    np.testing.assert_allclose(np.array([frame.rgb for frame in decoded], float), frames, atol=3)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_the_rotation_of_phone_videos_is_applied(tmp_path, angle):
    frames = smooth_frames(3)
    path = write_video(tmp_path / "v.mp4", frames)
    turn_upright(path, angle)
    video = VideoFile(path)
    expected = np.rot90(frames, k=-angle // 90, axes=(1, 2))
    assert video.frame_size == expected.shape[1:3]
    assert np.abs(np.array([frame.rgb for frame in video], np.int16) - expected).mean() < 3


def test_names_grow_with_the_count(tmp_path, monkeypatch):
    video = VideoFile(write_video(tmp_path / "v.mp4", smooth_frames(2)))
    monkeypatch.setattr(video, "frame_count", 100_001)
    assert [frame.name for frame in video] == ["000000", "000001"]
    monkeypatch.setattr(video, "frame_count", 100_000)
    assert [frame.name for frame in video] == ["00000", "00001"]


def test_a_name_with_a_colon_is_a_file(tmp_path):
    assert len(list(VideoFile(write_video(tmp_path / "v.mp4", smooth_frames(2)).rename(tmp_path / "a:b.mp4")))) == 2


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_title_that_is_no_utf8_does_not_matter(tmp_path, suffix):
    path = write_video(tmp_path / f"v.{suffix}", smooth_frames(2), title="Latin-1?")
    content = path.read_bytes()
    assert b"Latin-1?" in content
    path.write_bytes(content.replace(b"Latin-1?", "Müßig×÷…".encode("latin-1", "replace")))
    assert len(list(VideoFile(path))) == 2


def test_frames_are_decoded_only_as_they_are_asked_for(tmp_path):
    """A damaged end does not keep the frames before it from being read: nothing is decoded ahead of its use."""
    path = write_video(tmp_path / "v.avi", noise_frames(10), "mjpeg", "yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = iter(VideoFile(path))
    assert [next(frames).name for _ in range(3)] == ["00000", "00001", "00002"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.mp4 does not exist"):
        VideoFile(tmp_path / "nowhere.mp4")


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        VideoFile(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.mp4", b""), ("text.mp4", b"not a video\n" * 40), ("text.txt", b"not a video\n" * 40)],
)
def test_what_is_no_video_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is .*not a video"):
        VideoFile(path)


def test_sound_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"sound\.wav has no video stream"):
        VideoFile(write_audio(tmp_path / "sound.wav"))


def test_an_unknown_codec_is_refused(tmp_path):
    path = write_video(tmp_path / "v.mp4", smooth_frames(2))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"none"))
    with pytest.raises(UserError, match=r"v\.mp4 is coded in a way"):
        VideoFile(path)


def test_a_video_without_frames_is_refused(tmp_path):
    path = write_video(tmp_path / "v.avi", noise_frames(2), "mjpeg", "yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(UserError, match="not one frame"):
        VideoFile(path)


def test_a_change_of_size_is_refused(tmp_path):
    paths = [
        write_video(tmp_path / f"{i}.h264", frames)
        for i, frames in enumerate([smooth_frames(3), smooth_frames(3, 32, 96)])
    ]
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    frames = iter(VideoFile(joined))
    assert [next(frames).name for _ in range(3)] == ["00000", "00001", "00002"]
    with pytest.raises(UserError, match=r"joined\.h264 changes its frame size from 64x48 to 96x32 at frame 3"):
        next(frames)


def test_a_video_cut_short_is_refused(tmp_path):
    path = write_video(tmp_path / "v.mp4", noise_frames(20), options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    video = VideoFile(path)
    with pytest.raises(UserError, match=r"v\.mp4 is damaged or cut short"):
        list(video)


def test_a_video_whose_index_is_gone_is_refused(tmp_path):
    path = write_video(tmp_path / "v.mp4", noise_frames(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(UserError, match=r"v\.mp4 is not a video"):
        VideoFile(path)


def test_a_silent_early_end_is_warned_of(tmp_path, caplog):
    """Matroska has no index that must be there: FFmpeg takes the cut for the end."""
    path = write_video(tmp_path / "v.mkv", noise_frames(20), "ffv1", "bgr0")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        decoded = len(list(VideoFile(path)))
    assert 0 < decoded < 12
    assert f"v.mkv ends after {decoded} of 20 frames" in caplog.text


@settings(deadline=None, max_examples=60)
@given(position=st.floats(0, 1), content=st.binary(min_size=1, max_size=300))
def test_damage_anywhere_gives_frames_or_a_user_error(tmp_path_factory, position, content):
    path = tmp_path_factory.mktemp("damaged") / "v.mp4"
    write_video(path, smooth_frames(3, 16, 16))
    good = path.read_bytes()
    start = int(position * (len(good) - len(content)))
    path.write_bytes(good[:start] + content + good[start + len(content) :])
    with suppress(UserError):
        video = VideoFile(path)
        assert all(frame.rgb.shape == (*video.frame_size, 3) for frame in video)
