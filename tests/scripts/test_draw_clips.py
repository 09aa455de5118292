"""Pictures of training clips."""

import numpy as np
import pytest
from PIL import Image

from reproduction.profiles import GeneratedVideo, MadeVideos
from scripts import draw_clips


def test_each_row_is_a_clip(tmp_path, capsys):
    flags = ["--clips", "2", "--frames", "3", "--crop", "64"]
    for number, seed in enumerate("001"):
        assert draw_clips.main([*flags, "--seed", seed, "--out", str(tmp_path / "new" / f"{number}.png")]) == 0
    assert "2 clips of stage s" in capsys.readouterr().out
    assert draw_clips.main([*flags, "--out", str(tmp_path / "new" / "3.JPG")]) == 0
    first, again, other = (np.array(Image.open(tmp_path / "new" / f"{number}.png")) for number in range(3))
    assert first.shape == (128, 192, 3)
    assert (first == again).all()
    assert (first != other).any()


def test_clips_of_own_videos(tmp_path):
    videos = tuple(GeneratedVideo(str(seed), seed, frames=8, objects=1, patterns=4) for seed in range(2))
    MadeVideos(generated=videos).write(tmp_path, tmp_path / "videos", size=64)
    for share in "01":
        flags = ["--videos_root", str(tmp_path / "videos"), "--videos_share", "1", "--videos_paste_share", share]
        flags += ["--stage", "m", "--clips", "2", "--frames", "2", "--crop", "64"]
        assert draw_clips.main([*flags, "--out", str(tmp_path / f"{share}.png")]) == 0
    pictures = [np.array(Image.open(tmp_path / f"{share}.png")) for share in "01"]
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "clips.gif"], "--out clips.gif: its name has to end in .png, .webp, .jpg"),
        (["--out", "clips.png", "--clips", "0"], "--clips must be at least 1"),
        (["--out", "clips.png", "--seed", "-1"], "--seed 0"),
        (["--out", "clips.png", "--crop", "50"], "--crop must be a multiple of 16, not 50"),
        (["--out", "clips.webp", "--clips", "90"], "more than 16383 pixels"),
        (["--out", "/dev/null/clips.png", "--clips", "1", "--frames", "2", "--crop", "16"], "cannot be written: "),
        (["--out", "clips.png", "--stage", "m", "--videos_root", "nowhere"], "nowhere does not exist"),
        (["--clips", "3"], "--help lists the flags"),
    ],
)
def test_mistakes_are_reported_in_one_line(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert draw_clips.main(flags) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []
