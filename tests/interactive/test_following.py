"""Following: what it changes and what it never does, forward and backward, paused, resumed and corrected."""

import time

import numpy as np
import pytest
import torch

import xmem
from inference.inference_core import InferenceCore
from interactive.document import Key
from interactive.session import Change, Session
from tests.helpers.annotated_video import (
    COUNT,
    SETTINGS,
    annotate,
    entries,
    ground_truth,
    new_session,
    open_session,
    picture,
    picture_of,
)
from tests.helpers.tiny_network import tiny_network
from util.errors import UserError


@pytest.fixture
def session(tmp_path):
    session = new_session(tmp_path)
    yield session
    session.close()


def follow(session: Session, frame: int, direction: str = "forward", until: str = "end") -> list[Change]:
    """Follow to the end; returns what was told."""
    told: list[Change] = []
    stop = session.listen(told.append)
    session.follow(frame, direction, until)
    session.wait()
    stop()
    assert [change.notice for change in told if change.notice and change.notice.level == "error"] == []
    return told


def test_it_gives_what_the_published_loop_gives(session):
    """From an ordinary first frame, before anything is consolidated."""
    annotate(session, 0)
    session.set_permanent(0, False)
    follow(session, 0)
    masks = xmem.segment_video(
        tiny_network(),
        [picture(number) for number in range(7)],
        ground_truth(0),
        size=SETTINGS["size"],
        config=session.settings.inference(),
    )
    for number, result in list(enumerate(masks))[1:]:
        assert (session.labels(number) == result.labels.numpy()).all(), f"frame {number}"
    assert session.document.frame(5).annotated is False


def test_it_is_one_step_of_the_history(session):
    annotate(session, 0)
    before, done = entries(session.document), session.workspace.history().done
    follow(session, 0)
    after = entries(session.document)
    assert session.workspace.history()[::2] == ("Follow forward from frame 0", done + 1)
    session.undo()
    assert entries(session.document) == before
    session.redo()
    assert entries(session.document) == after


def test_another_segmenter_can_be_chosen_meanwhile(tmp_path):
    session = new_session(tmp_path, count=200)
    try:
        annotate(session, 0)
        opened = session.segmenters[session.segmenter_name]
        session.segmenters = {**session.segmenters, "other": opened}
        session.follow(0, "forward", "end")
        session.use_segmenter("other")
        assert session.segmenter_name == "other"
        assert not session.is_following
        assert len(session.document.frames) < 200  # it has not waited for the end
    finally:
        session.close()


def test_what_a_person_has_made_is_never_replaced(session):
    annotate(session, 0)
    annotate(session, 4, truth=9)
    annotate(session, 8)
    made = {number: session.labels(number) for number in (0, 4, 8)}
    follow(session, 0)
    follow(session, 8, "backward")
    assert all((session.labels(number) == labels).all() for number, labels in made.items())


@pytest.mark.parametrize(
    ("until", "last"), [("step", 1), ("halfway", 3), ("annotated", 5), ("mark", 8), ("end", COUNT - 1)]
)
def test_where_it_ends(session, until, last):
    annotate(session, 0)
    annotate(session, 6)
    session.mark(8, True)
    follow(session, 0, until=until)
    assert session.document.frames.keys() == {*range(last + 1), 6}


@pytest.mark.parametrize("between", [(2, 7), (2, 8), (2, 3)])
def test_halves_meet(session, between):
    first, last = between
    annotate(session, first)
    annotate(session, last)
    if last - first > 1:
        follow(session, first, until="halfway")
    half = set(session.document.frames) - {last}
    if last - first > 2:
        follow(session, last, "backward", until="halfway")
    assert list(session.document.frames) == list(range(first, last + 1))
    assert max(half) - first in ((last - first) // 2, (last - first - 1) // 2)


def test_both_directions(session):
    annotate(session, 5)
    follow(session, 5, "both")
    assert list(session.document.frames) == list(range(COUNT))


def test_a_correction_changes_what_comes_after_until_the_next_annotation_and_nothing_else(session):
    annotate(session, 0)
    annotate(session, 9)
    follow(session, 0, until="end")
    before = picture_of(session)
    session.rectangle(4, 1, (0, 0, 30, 20))
    corrected = session.labels(4).tobytes()
    follow(session, 4, until="annotated")
    after = picture_of(session)
    changed = {number for number in range(COUNT) if before[number] != after[number]}
    assert after[4] == corrected
    assert changed <= set(range(4, 9))
    assert len(changed) > 2


def test_a_correction_elsewhere_is_permanent_memory(session):
    """The same start, and the same frames: only what is remembered of another frame differs."""
    annotate(session, 0)
    follow(session, 0)
    before = picture_of(session)
    annotate(session, 11, truth=2)
    follow(session, 0, until="annotated")
    assert picture_of(session)[3] != before[3]
    session.set_permanent(11, False)
    follow(session, 0, until="annotated")
    assert {number: labels for number, labels in picture_of(session).items() if number < 11} == {
        number: labels for number, labels in before.items() if number < 11
    }


@pytest.mark.parametrize("annotated", [[5], [5, 2], [5, 8], [5, 3, 7]])
def test_backward_is_forward_on_the_mirrored_video(tmp_path, annotated):
    sessions = {word: new_session(tmp_path / word, backward=word == "backward") for word in ("forward", "backward")}
    for word, session in sessions.items():
        for number in annotated:  # in each video the frames that show the same
            annotate(session, number if word == "forward" else COUNT - 1 - number, truth=number)
        follow(session, 5 if word == "forward" else COUNT - 1 - 5, word)
    forward, backward = (picture_of(session) for session in sessions.values())
    for number in range(5, COUNT):
        assert forward[number] == backward[COUNT - 1 - number], f"frame {number}"
    for session in sessions.values():
        session.close()


def slow_down(session: Session, monkeypatch, seconds: float = 0.05) -> None:
    read = session.video.read
    monkeypatch.setattr(session.video, "read", lambda number: (time.sleep(seconds), read(number))[1])


def pause_at(session: Session, frame: int) -> None:
    """Pause once following has come to a frame."""
    deadline = time.monotonic() + 30
    while session.is_following and (session.progress is None or session.progress.frame < frame):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    session.pause()


def test_paused_and_resumed_it_gives_what_it_gives_without(session, monkeypatch):
    annotate(session, 0)
    follow(session, 0)
    expected, gauge = picture_of(session), session.gauge
    session.undo()
    session.clear_memory()
    slow_down(session, monkeypatch)
    session.follow(0, "forward", "end")
    pause_at(session, 5)
    last = max(session.document.frames)
    assert 5 <= last < COUNT - 1, "it pauses within a frame"
    follow(session, last)
    assert picture_of(session) == expected
    assert session.gauge == gauge, "the memory was kept, not built anew"


def test_an_edit_pauses_it(session, monkeypatch):
    annotate(session, 0)
    slow_down(session, monkeypatch)
    session.follow(0, "forward", "end")
    pause_at(session, 1)
    session.follow(max(session.document.frames), "forward", "end")
    session.mark(3, True)
    assert not session.is_following
    assert session.workspace.history().undo == "Mark frame 3"


def test_the_memory_is_kept_only_while_nothing_changes(session, monkeypatch):
    """Paused, then a correction of the frame that it came to: the memory is built anew, as after opening again."""
    annotate(session, 0)
    slow_down(session, monkeypatch, 0.03)
    session.follow(0, "forward", "end")
    pause_at(session, 4)
    last = max(session.document.frames)
    session.rectangle(last, 2, (0, 0, 20, 20))
    follow(session, last)
    result = picture_of(session)
    session.undo()
    session.clear_memory()
    follow(session, last)
    assert picture_of(session) == result


def test_what_it_was_given_on_the_way_counts_as_well(session):
    """A frame that it went through, out of permanent memory, is corrected: the memory is built anew."""
    annotate(session, 0)
    annotate(session, 4)
    session.set_permanent(4, False)
    follow(session, 4, until="step")
    session.rectangle(4, 1, (20, 0, 40, 40))
    session.set_permanent(4, False)
    follow(session, 5, until="step")
    result = session.labels(6)
    session.undo()
    session.clear_memory()
    follow(session, 5, until="step")
    assert (session.labels(6) == result).all()


def test_what_is_exported_while_it_runs_does_not_stop_it(session, tmp_path, monkeypatch):
    annotate(session, 0)
    slow_down(session, monkeypatch)
    session.follow(0, "forward", "end")
    with pytest.raises(UserError, match="pause it"):
        session.save_memory(tmp_path / "memory.pth")
    session.wait()
    assert max(session.document.frames) == COUNT - 1


def test_it_ends_the_clicks_on_the_masks_that_it_replaces(session):
    annotate(session, 0)
    session.click(5, 1, 30, 30, True)
    session.unannotate(5)
    follow(session, 0)
    followed = session.labels(5)
    session.click(5, 1, 50, 10, True)
    kept = session.labels(5) == followed
    assert kept[~box_around(50, 10)].all()


def box_around(x: int, y: int) -> np.ndarray:
    rows, columns = np.mgrid[:48, :64]
    return (abs(rows - y) <= 4) & (abs(columns - x) <= 4)


def test_soft_masks_leave_a_locked_object_alone(session):
    annotate(session, 0)
    follow(session, 0)
    session.lock_object(2, True)
    session.rectangle(3, 1, (0, 0, 50, 25))
    follow(session, 3)
    soft = session.workspace.soft(session.document.frame(6).map)
    assert soft.objects == [1]


def test_a_locked_object_keeps_its_masks(session):
    annotate(session, 0)
    follow(session, 0)
    before = picture_of(session)
    session.lock_object(2, True)
    session.rectangle(3, 1, (0, 0, 50, 25))
    follow(session, 3)
    for number in range(4, COUNT):
        old = np.frombuffer(before[number], np.uint8) == 2
        assert ((session.labels(number).ravel() == 2) == old).all(), f"frame {number}"
    assert picture_of(session) != before


def test_an_object_may_come_in_the_middle(session):
    annotate(session, 0, labels=[1])
    told = follow(session, 0)
    (notice,) = [change.notice for change in told if change.notice]
    assert notice.level == "warning"
    assert notice.text.startswith("not followed: Object 2; there is no mask of it")
    assert not any((session.labels(number) == 2).any() for number in range(COUNT))
    annotate(session, 6, labels=[2])
    follow(session, 6)
    assert not any((session.labels(number) == 2).any() for number in range(6))
    assert (session.labels(7) == 2).any()


def test_a_frame_that_cannot_be_decoded_is_skipped_and_said(tmp_path):
    session = new_session(tmp_path)
    (tmp_path / "video" / "00003.png").write_bytes(b"no picture")
    annotate(session, 0)
    told = follow(session, 0)
    assert 3 not in session.document.frames
    assert max(session.document.frames) == COUNT - 1
    assert session.unreadable == {3}
    assert any("video" in change.parts for change in told)
    session.close()


def test_progress_and_gauges(session):
    annotate(session, 0)
    seen = []
    session.listen(lambda change: seen.append((session.progress, session.gauge)))
    follow(session, 0)
    progress = [each for each, _ in seen if each is not None][-1]
    assert (progress.frame, progress.done, progress.total, progress.direction) == (11, 11, 11, "forward")
    assert progress.left == 0
    gauge = session.gauge
    assert gauge.working_capacity == SETTINGS["max_mid_term_frames"]
    assert gauge.sensory_objects == 2
    assert gauge.bytes > 0
    assert session.progress is None


def test_uncertainty_and_change(session):
    annotate(session, 0)
    follow(session, 0)
    for number in range(1, COUNT):
        frame = session.document.frame(number)
        assert frame.uncertainty is None or 0 < frame.uncertainty < 1
        before, after = session.labels(number - 1), session.labels(number)
        either = (before > 0) | (after > 0)
        assert frame.change == pytest.approx(((before != after) & either).sum() / either.sum(), abs=1e-3)


def test_nothing_to_follow(session):
    with pytest.raises(UserError, match="mark an object in a frame first"):
        session.follow(0, "forward", "end")
    annotate(session, 0)
    with pytest.raises(UserError, match="there is no frame to follow backward from frame 0"):
        session.follow(0, "backward", "end")


def test_from_a_frame_without_masks_it_goes_by_what_is_permanent(session):
    annotate(session, 0)
    follow_told = follow(session, 6)
    assert follow_told
    assert 6 in session.document.frames
    assert 5 not in session.document.frames


def test_an_error_of_the_network_is_told_and_what_was_followed_is_kept(session, monkeypatch):
    annotate(session, 0)
    step, calls = InferenceCore.step, []

    def failing(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, *arguments, **options)

    monkeypatch.setattr(InferenceCore, "step", failing)
    told = []
    session.listen(told.append)
    session.follow(0, "forward", "end")
    session.wait()
    (notice,) = [change.notice for change in told if change.notice]
    assert notice.level == "error"
    assert "choose a smaller size" in notice.text
    assert max(session.document.frames) == 4


def test_the_memory_can_be_saved_for_a_program(session, tmp_path):
    with pytest.raises(UserError, match="follow first"):
        session.save_memory(tmp_path / "none.pth")
    annotate(session, 0)
    follow(session, 0)
    assert session.save_memory(tmp_path / "memory.pth") == [1, 2]
    core = InferenceCore(tiny_network(), session.settings.inference())
    core.load_memory(tmp_path / "memory.pth")
    assert core.objects == [1, 2]


def test_a_session_that_is_opened_again_goes_on(session, tmp_path):
    annotate(session, 0)
    follow(session, 0, until="end")
    expected = picture_of(session)
    session.close()
    again = open_session(tmp_path / "video", tmp_path / "workspace", tiny_network().for_inference())
    assert picture_of(again) == expected
    follow(again, 0)
    assert picture_of(again) == expected
    assert Key("frame", 3) in entries(again.document)
    again.close()


def test_remembering_leaves_the_frames_that_are_stepped_alone():
    """`InferenceCore.remember`: another frame is stored, but clocks and the sensory memory go on as they were."""
    core = InferenceCore(tiny_network())
    images = [xmem.normalise_image(torch.from_numpy(picture(number))) for number in range(3)]
    core.step(images[0], torch.from_numpy(ground_truth(0)))
    hidden = core.memory.sensory.hidden.clone()
    core.remember(images[2], torch.from_numpy(ground_truth(2) * 3), objects=[3, 6])
    assert core.objects == [1, 2, 3, 6]
    assert torch.equal(core.memory.sensory.hidden[:, :2], hidden)
    assert not core.memory.sensory.hidden[:, 2:].any()
    assert [frame.permanent for frame in core.memory.working.frames] == [False, True]
    core.remember(images[2], torch.from_numpy(ground_truth(2)))
    for _ in range(4):
        core.step(images[1])
    assert len(core.memory.working.frames) == 3, "r is 5: the next memory frame is the fifth after the first"
    core.step(images[1])
    assert len(core.memory.working.frames) == 4
