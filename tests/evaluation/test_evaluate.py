"""Evaluation from Python, alone or shared by processes (here threads)."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from dataset.evaluation_video import EvaluationSet
from dataset.registry import open_evaluation_set
from evaluation.config import EvaluationConfig
from evaluation.evaluate import evaluate
from evaluation.output_folder import OutputFolder
from evaluation.summary import Summary
from evaluation.work_queue import StartFailedElsewhereError, WorkQueue
from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from inference.video_segmenter import VideoSegmenter
from scoring.davis import find_sequences, score_sequences
from tests.helpers.layouts import frame_name, label_map, write_frames, write_masks, write_text, youtube_meta
from tests.helpers.plain_loop import equal, plain_loop, read_frames
from tests.helpers.tiny_network import tiny_network
from util.errors import UserError
from xmem import segment_video

SIZE = (32, 48)


@pytest.fixture
def root(tmp_path) -> Path:
    """The videos `a`, `b` and `c` of three to five frames, with ground truth."""
    for seed, name in enumerate("abc"):
        write_frames(tmp_path / "videos/JPEGImages" / name, range(3 + seed), SIZE, seed)
        write_masks(tmp_path / "videos/Annotations" / name, range(3 + seed), SIZE, (1, 2))
    return tmp_path / "videos"


@pytest.fixture
def videos(root) -> EvaluationSet:
    return open_evaluation_set("G", "val", root, 32)


def settings(root: Path, **inference: object) -> EvaluationConfig:
    return EvaluationConfig("G", root, size=32, inference=InferenceConfig.from_settings(**inference))


def label_maps(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.png"))}


def test_a_variant_is_segmented_scored_and_summarised(root, videos, tmp_path):
    output = tmp_path / "variant"
    summary = evaluate(videos, tiny_network(), settings(root, mem_every=2, mem_offset=1), output, videos_seen=["b"])
    expected = plain_loop(
        read_frames(root / "JPEGImages/c"), {0: label_map(SIZE, (1, 2))}, size=32, mem_every=2, mem_offset=1
    )
    assert equal(output / "c", [frame_name(index) for index in range(5)], expected)
    assert (summary.videos, summary.frames, summary.failures, summary.videos_seen) == (3, 12, {}, ["b"])
    scores = score_sequences(find_sequences(root / "Annotations", output, ["a", "b", "c"]))
    assert summary.scores.to_json_dict() == scores.to_json_dict()
    # Frames 0, 1 and 3; the last one is not stored.
    assert summary.records["c"].memory["insertions"] == 3
    assert summary.records["c"].memory["consolidations"] == 0
    assert 0 < summary.end_to_end_fps < summary.fps
    assert summary.wall_seconds == sum(record.wall_seconds for record in summary.records.values())
    written = json.loads((output / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary.to_json_dict()))
    assert written["config"]["inference"]["mem_offset"] == 1


def test_a_variant_goes_on_and_other_settings_are_refused(root, videos, tmp_path, monkeypatch):
    output, step, calls = tmp_path / "variant", InferenceCore.step, []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 7:  # the longest video, of five frames, comes first
            raise KeyboardInterrupt
        return step(*arguments, **more)

    monkeypatch.setattr(InferenceCore, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(videos, tiny_network(), settings(root), output)
    summary = evaluate(videos, tiny_network(), settings(root), output)
    assert len(calls) == 7 + 4 + 3
    assert summary.frames == 12
    again = evaluate(videos, tiny_network(), settings(root), output)
    assert len(calls) == 14
    assert again.records == summary.records
    with pytest.raises(UserError, match="was made with other settings: inference\\.mem_every: 5 before, 3 now"):
        evaluate(videos, tiny_network(), settings(root, mem_every=3), output)
    evaluate(videos, tiny_network(), settings(root), output, restart=True)
    assert len(calls) == 14 + 12
    assert evaluate(videos, tiny_network(), settings(root, mem_every=3), output, overwrite=True).frames == 12
    next((output / "a").glob("*.png")).unlink()  # what somebody has removed is made again, with the rest of its video
    before = len(calls)
    assert evaluate(videos, tiny_network(), settings(root, mem_every=3), output).frames == 12
    assert len(calls) == before + summary.records["a"].frames
    assert len(list((output / "a").glob("*.png"))) == summary.records["a"].label_maps


def test_nothing_of_others_is_lost(root, videos, tmp_path):
    output = tmp_path / "theirs"
    write_text(output / "config.json", '{"model": "precious"}')
    with pytest.raises(UserError, match=r"config\.json was not made by an evaluation"):
        evaluate(videos, tiny_network(), settings(root), output, overwrite=True)
    assert (output / "config.json").read_text() == '{"model": "precious"}'
    (overlay, *others) = videos.videos
    named = replace(videos, videos=(replace(overlay, name="Overlay"), *others))
    with pytest.raises(UserError, match="a video cannot be called Overlay"):
        evaluate(named, tiny_network(), settings(root), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_what_fails_in_one_video_is_in_the_summary(root, videos, tmp_path):
    frame = root / "JPEGImages/b/00001.jpg"
    frame.write_bytes(frame.read_bytes()[:200])
    summary = evaluate(videos, tiny_network(), settings(root), tmp_path / "variant")
    assert sorted(summary.records) == ["a", "c"]
    assert str(frame) in summary.failures["b"]
    assert sorted(summary.scores.sequences) == ["a", "c"]


def test_later_label_maps_are_used_if_wanted_or_named(tmp_path, caplog):
    """Video a has a second object in frame 3 and a correction of the first in frame 4; b has one label map."""
    root = tmp_path / "mine"
    for name in "ab":
        write_frames(root / "JPEGImages" / name, range(6), SIZE)
        write_masks(root / "Annotations" / name, range(1), SIZE, (1,))
    write_masks(root / "Annotations/a", range(3, 4), SIZE, (0, 2))
    write_masks(root / "Annotations/a", range(4, 5), SIZE, (0, 1))
    network, videos = tiny_network(), open_evaluation_set("G", "val", root, 32)

    def same_as(output: Path, name: str, frames: list[int]) -> bool:
        masks = {number: root / f"Annotations/{name}/{frame_name(number)}.png" for number in frames}
        results = list(segment_video(network, root / "JPEGImages" / name, masks, size=32))
        written = [np.array(Image.open(path)) for path in sorted((output / name).glob("*.png"))]
        return len(written) == 6 and all(
            np.array_equal(labels, result.labels.numpy()) for labels, result in zip(written, results, strict=True)
        )

    assert evaluate(videos, network, settings(root), tmp_path / "first").scores is None
    assert [record.getMessage() for record in caplog.records if "first label map" in record.message] == [
        "only the first label map of a video is used, not the later ones (2), as scoring needs one for every frame; "
        "use_all_masks uses them: a"
    ]
    assert same_as(tmp_path / "first", "a", [0])
    caplog.clear()
    summary = evaluate(videos, network, replace(settings(root), use_all_masks=True), tmp_path / "all")
    assert "not used" not in caplog.text
    assert same_as(tmp_path / "all", "a", [0, 3, 4])
    assert not same_as(tmp_path / "all", "a", [0, 3])
    assert same_as(tmp_path / "all", "b", [0])
    assert summary.records["a"].objects == 2


def test_servers_get_their_zip(tmp_path):
    root = tmp_path / "youtube"
    write_frames(root / "all_frames/valid_all_frames/JPEGImages/owl", range(3), SIZE)
    write_masks(root / "valid/Annotations/owl", range(1), SIZE)
    write_text(root / "valid/meta.json", youtube_meta({"owl": {"255": ["00000", "00002"]}}))
    config = EvaluationConfig("Y19", root, size=32)
    summary = evaluate(open_evaluation_set("Y19", "val", root, 32), tiny_network(), config, tmp_path / "out")
    assert summary.scores is None
    assert (tmp_path / "out.zip").is_file()


# --- Processes --------------------------------------------------------------------------------------------------------


def processes() -> list[WorkQueue]:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=60))
    return [WorkQueue(store, rank, world_size=2, local_rank=rank) for rank in range(2)]


def test_processes_share_the_videos(root, videos, tmp_path):
    network = tiny_network()  # threads have one generator of random numbers

    def program(queue: WorkQueue) -> Summary | None:
        return evaluate(videos, network, settings(root), tmp_path / "shared", queue=queue)

    with ThreadPoolExecutor(2) as threads:
        summary, nothing = threads.map(program, processes())
    assert nothing is None
    alone = evaluate(videos, network, settings(root), tmp_path / "alone")
    assert summary.scores.to_json_dict() == alone.scores.to_json_dict()
    assert (summary.videos, summary.frames) == (3, 12)
    assert len(label_maps(tmp_path / "shared")) == 12
    assert label_maps(tmp_path / "shared") == label_maps(tmp_path / "alone")


def test_what_keeps_process_0_from_starting_ends_all(root, videos, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine")

    def program(queue: WorkQueue) -> str:
        with pytest.raises((UserError, StartFailedElsewhereError)) as error:
            evaluate(videos, tiny_network(), settings(root), tmp_path / "taken", queue=queue)
        return type(error.value).__name__

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(program, processes())) == ["UserError", "StartFailedElsewhereError"]


def test_figures_are_there_although_they_cannot_be_written(root, videos, tmp_path, monkeypatch):
    def full(self: OutputFolder, summary: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(OutputFolder, "write_summary", full)
    summary = evaluate(videos, tiny_network(), settings(root), tmp_path / "out")
    assert (summary.frames, summary.not_written) == (12, "the disk is full")


def test_a_video_that_overflows_in_mixed_precision_is_done_again(root, tmp_path, monkeypatch, caplog):
    """bfloat16, a CPU's half precision, has the range of float32: the overflow itself is made up."""
    segment = VideoSegmenter.step

    def overflowing(self: VideoSegmenter, *arguments, **settings):
        prob = segment(self, *arguments, **settings)
        if self._mixed_precision and self._frames == 4:  # `a` has three frames
            self._sum += torch.inf
            self.check_finite()
        return prob

    monkeypatch.setattr(VideoSegmenter, "step", overflowing)
    summaries = {}
    for mixed in (True, False):
        config = EvaluationConfig("G", root, size=-1, mixed_precision=mixed)
        videos = open_evaluation_set("G", "val", root, -1)
        summaries[mixed] = evaluate(videos, tiny_network(), config, tmp_path / str(mixed))
    assert summaries[True].failures == {}
    again = {name: record.in_full_precision for name, record in summaries[True].records.items()}
    assert again == {"a": False, "b": True, "c": True}
    assert "b: the network's results are not finite numbers, found at frame 4" in caplog.text
    assert "it is done again in full precision" in caplog.text
    assert "done again in full precision, since activations overflowed: b, c" in summaries[True].lines()
    for frame in range(4):
        written = [(tmp_path / str(mixed) / f"b/{frame:05d}.png").read_bytes() for mixed in (True, False)]
        assert written[0] == written[1]
