"""eval.py as processes: several that share a run under torchrun, and one that is killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import eval as program
from tests.helpers import REPOSITORY
from tests.helpers.layouts import write_frames, write_masks, write_text, youtube_meta

SIZE = (32, 48)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

pytestmark = pytest.mark.slow  # each process has PyTorch to import


@pytest.fixture
def youtube(tmp_path) -> Path:
    """Five videos of different lengths, 60 frames altogether; every third frame is saved."""
    root, saved = tmp_path / "youtube", {}
    for video in range(5):
        name = f"video{video}"
        names = range(4 + 4 * video)
        write_frames(root / "all_frames/valid_all_frames/JPEGImages" / name, names, SIZE, seed=video)
        write_masks(root / "valid/Annotations" / name, range(1), SIZE, labels=(1, 2))
        saved[name] = {"1": [f"{index:05d}" for index in names[::3]]}
    write_text(root / "valid/meta.json", youtube_meta(saved))
    return root


def flags_of(youtube: Path, network_file: Path, output: Path) -> list[str]:
    flags = ["--dataset", "Y19", "--y19_path", youtube, "--size", 32, "--model", network_file, "--device", "cpu"]
    return [str(flag) for flag in (*flags, "--output", output)]


def torchrun(flags: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*launcher, "eval.py", *flags], cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )


def label_maps(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.png"))}


def test_processes_share_the_videos_and_make_one_result(youtube, network_file, tmp_path):
    assert program.main(flags_of(youtube, network_file, tmp_path / "alone")) == 0
    together = torchrun(flags_of(youtube, network_file, tmp_path / "together"))
    assert together.returncode == 0, together.stderr
    assert len(label_maps(tmp_path / "alone")) == 22
    assert label_maps(tmp_path / "together") == label_maps(tmp_path / "alone")
    for name in ("alone", "together"):
        assert len(zipfile.ZipFile(tmp_path / f"{name}.zip").namelist()) == 22
    assert together.stdout.count("5 videos, 60 frames") == together.stdout.count(".zip") == 1
    assert "5/5 videos: 100%" in together.stderr
    summary = json.loads((tmp_path / "together/summary.json").read_text())
    records = [json.loads(path.read_text()) for path in (tmp_path / "together/.finished").glob("*.json")]
    assert (summary["videos"], summary["frames"], summary["failures"]) == (5, 60, {})
    assert summary["network_seconds"] == pytest.approx(sum(record["network_seconds"] for record in records))
    assert summary["FPS"] == pytest.approx(60 / summary["network_seconds"])
    assert summary["peak_process_bytes"] == max(record["peak_process_bytes"] for record in records)


def test_a_video_that_fails_in_one_process_is_in_the_summary_of_all(youtube, network_file, tmp_path):
    frame = youtube / "all_frames/valid_all_frames/JPEGImages/video2/00005.jpg"
    frame.write_bytes(frame.read_bytes()[:500])
    together = torchrun(flags_of(youtube, network_file, tmp_path / "output"))
    assert together.returncode != 0
    assert together.stderr.count(str(frame)) == 1
    summary = json.loads((tmp_path / "output/summary.json").read_text())
    assert (summary["videos"], list(summary["failures"])) == (4, ["video2"])
    assert not (tmp_path / "output.zip").exists()
    assert "no zip file was made" in together.stderr
    assert 'eval.py", line' not in together.stderr  # no traceback of ours


def test_processes_that_cannot_start_say_so_once(youtube, network_file, tmp_path):
    flags = flags_of(youtube / "absent", network_file, tmp_path / "output")
    together = torchrun(flags)
    assert together.returncode != 0
    assert together.stderr.count("absent does not exist") == 1
    assert not (tmp_path / "output").exists()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_a_run_goes_on_where_it_was_interrupted_or_killed(youtube, network_file, tmp_path):
    output, finished = tmp_path / "output", tmp_path / "output/.finished"

    def start(videos_before: int) -> subprocess.Popen:
        """A process that has finished another video and is in the next."""
        process = subprocess.Popen(
            [sys.executable, "eval.py", *flags_of(youtube, network_file, output)],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: process.poll() is not None or len(list(finished.glob("video*.json"))) > videos_before)
        assert process.poll() is None, process.communicate()
        return process

    interrupted = start(videos_before=0)
    interrupted.send_signal(signal.SIGINT)
    _, printed = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert "eval.py: interrupted; the same command, without --overwrite, resumes" in printed
    assert "Traceback" not in printed
    done = {path.stem for path in finished.iterdir()}
    assert {path.name for path in (output / "Annotations").iterdir()} == done
    assert not list(output.glob(".video-*"))

    killed = start(videos_before=len(done))
    killed.kill()
    killed.communicate()
    done = [path.stem for path in finished.glob("video*.json")]
    assert 2 <= len(done) < 5
    times = {path: path.stat().st_mtime_ns for name in done for path in (output / "Annotations" / name).iterdir()}

    assert program.main(flags_of(youtube, network_file, output)) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list(output.glob(".video-*"))
    assert program.main(flags_of(youtube, network_file, tmp_path / "uninterrupted")) == 0
    assert label_maps(output) == label_maps(tmp_path / "uninterrupted")
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["videos"], summary["frames"]) == (5, 60)
