"""What a person does: each step has its effect, can be undone, and is there again when the workspace is opened."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset.label_map import read_label_map
from interactive.document import Key
from interactive.session import Session
from tests.helpers.annotated_video import (
    COUNT,
    SIZE,
    annotate,
    entries,
    ground_truth,
    new_session,
    open_session,
    picture_of,
)
from util.errors import UserError


@pytest.fixture
def session(tmp_path):
    session = new_session(tmp_path, network=False)
    yield session
    session.close()


def files(session: Session) -> dict[int, np.ndarray]:
    folder = session.workspace.folder / "masks"
    return {int(path.stem): read_label_map(path).labels for path in sorted(folder.glob("*.png"))}


# --- Each step --------------------------------------------------------------------------------------------------------


def test_a_brush_and_an_eraser(session):
    session.stroke(0, 1, [(10.5, 10.5), (30.5, 10.5)], radius=3)
    labels = session.labels(0)
    assert labels[10, 10] == labels[10, 20] == labels[10, 30] == 1
    assert labels[12, 20] == 1
    assert labels[15, 20] == labels[10, 35] == 0
    session.stroke(0, 2, [(20.5, 10.5)], radius=2)
    assert session.labels(0)[10, 20] == 2
    session.stroke(0, 1, [(10.5, 10.5), (30.5, 10.5)], radius=9, erase=True)
    assert set(np.unique(session.labels(0))) == {0, 2}, "an eraser removes its own object alone"


def test_a_polygon_and_a_rectangle(session):
    session.polygon(0, 1, [(2, 2), (22, 2), (22, 12), (2, 12)])
    session.rectangle(1, 1, (22, 12, 2, 2))
    inside = session.labels(0)[3:11, 3:21]
    assert (inside == 1).all()
    assert (session.labels(1)[2:12, 2:22] == 1).all()
    assert (session.labels(1) == 1).sum() == 200


def test_clicks_begin_with_the_mask_that_was_there(session):
    session.rectangle(0, 1, (0, 0, 10, 10))
    session.click(0, 1, 30, 30, True)
    session.click(0, 1, 5, 5, False)
    labels = session.labels(0)
    assert labels[30, 30] == 1
    assert labels[5, 5] == 0
    assert labels[0, 0] == 1
    assert [point[2] for point in session.document.prompts[0, 1].points] == [True, False]
    session.undo()
    assert session.labels(0)[5, 5] == 1
    assert len(session.document.prompts[0, 1].points) == 1
    session.stroke(0, 1, [(50, 40)], radius=2)
    assert session.document.prompts == {}, "a stroke ends the clicks, which begin anew with what it has left"


def test_clicks_on_one_object_end_those_on_another(session):
    session.click(0, 1, 10, 10, True)
    session.click(0, 2, 40, 30, True)
    session.click(0, 1, 20, 30, True)
    labels = session.labels(0)
    assert (labels[30, 40], labels[10, 10], labels[30, 20]) == (2, 1, 1)
    assert set(session.document.prompts) == {(0, 1)}


def test_a_box(session):
    session.box(0, 2, (30, 20, 10, 5))
    assert (session.labels(0)[5:20, 10:30] == 2).all()
    with pytest.raises(UserError, match="too small"):
        session.box(0, 2, (30, 20, 30, 25))


def test_a_locked_object_keeps_its_pixels(session):
    session.rectangle(0, 1, (0, 0, 20, 20))
    session.lock_object(1, True)
    session.rectangle(0, 2, (10, 10, 30, 30))
    assert (session.labels(0)[10:20, 10:20] == 1).all()
    for act in (
        lambda: session.rectangle(0, 1, (0, 0, 5, 5), erase=True),
        lambda: session.click(0, 1, 5, 5, False),
        lambda: session.clear(0, 1),
        lambda: session.clean(0, 1, "grow", 1),
    ):
        with pytest.raises(UserError, match="Object 1 is locked: unlock it first"):
            act()
    session.clear(0)
    assert set(np.unique(session.labels(0))) == {0, 1}
    session.lock_object(1, False)
    session.clear(0, 1)
    assert not session.labels(0).any()


def test_cleaning_up(session):
    session.rectangle(0, 1, (5, 5, 25, 25))
    session.rectangle(0, 1, (12, 12, 15, 15), erase=True)
    session.rectangle(0, 1, (40, 40, 42, 42))
    session.clean(0, 1, "fill_holes", 0)
    assert session.labels(0)[13, 13] == 1
    session.clean(0, 1, "drop_islands", 0)
    assert session.labels(0)[40, 40] == 0
    session.clean(0, 1, "grow", 2)
    assert session.labels(0)[3, 15] == 1
    session.clean(0, 1, "shrink", 2)
    assert (session.labels(0)[5:25, 5:25] == 1).all()
    with pytest.raises(UserError, match="at most"):
        session.clean(0, 1, "grow", 100_000)


def test_copying_from_another_frame(session):
    annotate(session, 0)
    session.copy(5, 0, 1)
    assert (session.labels(5) == np.where(ground_truth(0) == 1, 1, 0)).all()
    session.copy(5, 0)
    assert (session.labels(5) == ground_truth(0)).all()
    with pytest.raises(UserError, match="frame 7 has no mask of this object to copy"):
        session.copy(5, 7, 1)
    with pytest.raises(UserError, match="frame 7 has no masks of unlocked objects to copy"):
        session.copy(8, 7)
    assert session.document.frame(8) is None
    session.lock_object(1, True)
    with pytest.raises(UserError, match="locked"):
        session.copy(5, 0, 1)


def test_importing_a_label_map(session, tmp_path):
    labels = ground_truth(3) * 3
    Image.fromarray(labels).save(tmp_path / "given.png")
    session.import_label_map(3, tmp_path / "given.png")
    assert (session.labels(3) == labels).all()
    assert list(session.document.objects) == [1, 2, 3, 6]
    assert session.document.frame(3).objects == (1, 2, 3, 6)
    Image.fromarray(labels[:20]).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=re.escape("the label map is 64x20, but the frame 64x48")):
        session.import_label_map(3, tmp_path / "small.png")
    cv2.imwrite(str(tmp_path / "blurred.jpg"), labels)
    with pytest.raises(UserError, match="JPEG"):
        session.import_label_map(3, tmp_path / "blurred.jpg")


def test_removing_an_object_removes_its_masks_everywhere_and_undo_brings_them_back(session):
    for number in range(3):
        annotate(session, number)
    before = picture_of(session)
    session.remove_object(1)
    assert all(not (session.labels(number) == 1).any() for number in range(3))
    assert session.add_object() == 3, "the label of an object that undo can bring back is not given to another"
    session.undo()
    session.undo()
    assert picture_of(session) == before
    session.close()
    assert all((files(session)[number] == ground_truth(number)).all() for number in range(3))


def test_labels_of_objects_that_were_never_to_be_come_again(session):
    assert session.add_object() == 3
    session.undo()
    assert session.add_object() == 3


def test_a_binary_mask_leaves_labels_for_others(session, tmp_path):
    Image.fromarray((ground_truth(0) > 0) * np.uint8(255)).save(tmp_path / "binary.png")
    session.import_label_map(0, tmp_path / "binary.png")
    assert list(session.document.objects) == [1, 2, 255]
    assert session.add_object() == 3


def test_an_object_that_is_imported_does_not_bring_back_one_that_was_removed(session, tmp_path):
    for number in range(3):
        annotate(session, number)
    session.remove_object(2)
    Image.fromarray(ground_truth(5)).save(tmp_path / "given.png")
    session.import_label_map(5, tmp_path / "given.png")
    assert (session.labels(5) == ground_truth(5)).all()
    assert not any((session.labels(number) == 2).any() for number in range(3))
    assert session.document.frame(0).objects == (1,)
    session.undo()
    session.undo()
    assert all((session.labels(number) == ground_truth(number)).all() for number in range(3))


@pytest.mark.parametrize("act", ["unannotate", "erase_followed"])
def test_clicks_end_where_masks_are_given_up(session, act):
    session.click(0, 1, 20, 20, True)
    session.unannotate(0)
    if act == "erase_followed":
        session.erase_followed(0, 0)
        session.undo()
        session.undo()
        assert session.document.prompts, "undo brings clicks back, too"
        session.redo()
    assert session.document.prompts == {}


def test_acts_from_several_windows_are_done_one_after_the_other(session):
    """Whatever comes at once: nothing that was answered is lost."""
    places = [(5 + 9 * number, 30) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda place: session.click(0, 1, *place, True), places))
    assert sorted(point[:2] for point in session.document.prompts[0, 1].points) == places
    assert all(session.labels(0)[y, x] == 1 for x, y in places)
    for number in range(8):
        acts = [
            lambda number=number: session.rectangle(1, 1, (4 * number, 0, 4 * number + 2, 2)),
            lambda: session.clean(1, 1, "fill_holes", 0),
            lambda: session.confirm(1),
        ]
        session.rectangle(1, 1, (60, 40, 62, 42))
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda act: act(), acts))
        assert session.labels(1)[0, 4 * number] == 1


def test_names_and_colours(session):
    session.rename_object(1, "  a  fish ")
    session.colour_object(1, "#00ff7f")
    session.hide_object(1, True)
    fish = session.document.objects[1]
    assert (fish.name, fish.colour, fish.hidden, fish.locked) == ("a fish", "#00ff7f", True, False)
    with pytest.raises(UserError, match="between 1 and 80"):
        session.rename_object(1, " ")


def test_what_an_annotation_says_of_each_object(session):
    annotate(session, 0, labels=[1])
    assert session.document.frame(0).objects == (1,)
    session.clear(0, 1)
    assert session.document.frame(0).objects == (1,), "object 1 is not to be seen; nobody knows about object 2"
    session.confirm(0)
    assert session.document.frame(0).objects == (1, 2)
    session.unannotate(0)
    frame = session.document.frame(0)
    assert (frame.annotated, frame.permanent, frame.objects) == (False, False, ())
    with pytest.raises(UserError, match="confirm them first"):
        session.set_permanent(0, True)


def test_marks(session):
    session.mark(7, True)
    session.mark(2, True)
    session.mark(7, False)
    assert session.document.marks == (2,)


def test_settings_are_checked(session):
    with pytest.raises(UserError, match="min_mid_term_frames"):
        session.change_settings(min_mid_term_frames=20, max_mid_term_frames=10)
    with pytest.raises(UserError, match="Shorter side in pixels: from 16 to 4320, not 3"):
        session.change_settings(size=3)
    with pytest.raises(UserError, match="there is no setting speed"):
        session.change_settings(speed=3)
    before = session.settings
    session.change_settings(mem_every=3)
    assert session.settings == replace(before, mem_every=3)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda s: s.stroke(COUNT, 1, [(1, 1)], 2),
            f"there is no frame {COUNT}: the video has frames 0 to {COUNT - 1}",
        ),
        (lambda s: s.stroke(0, 9, [(1, 1)], 2), "there is no object 9"),
        (lambda s: s.stroke(0, 1, [], 2), "between 1 and"),
        (lambda s: s.polygon(0, 1, [(1, 1), (2, 2)]), "at least three corners"),
        (lambda s: s.click(0, 1, SIZE[1] + 1, 3, True), "outside the picture"),
        (lambda s: s.confirm(4), "frame 4 has no masks yet"),
        (lambda s: s.follow(0, "forward", "end"), "there is no network"),
        (lambda s: s.use_segmenter("magic"), "there is no segmenter magic here, but squares"),
    ],
)
def test_mistakes_are_told_in_a_line_and_change_nothing(session, act, message):
    before = entries(session.document)
    with pytest.raises(UserError, match=message):
        act(session)
    assert entries(session.document) == before


# --- The history ------------------------------------------------------------------------------------------------------

FRAMES = st.integers(0, 3)
LABELS = st.integers(1, 3)
PLACES = st.integers(0, 47)
STEPS = st.one_of(
    st.tuples(st.just("stroke"), FRAMES, LABELS, PLACES, st.booleans()),
    st.tuples(st.just("click"), FRAMES, LABELS, PLACES, st.booleans()),
    st.tuples(st.just("clear"), FRAMES, LABELS),
    st.tuples(st.just("copy"), FRAMES, FRAMES),
    st.tuples(st.just("add")),
    st.tuples(st.just("remove"), LABELS),
    st.tuples(st.just("lock"), LABELS, st.booleans()),
    st.tuples(st.just("confirm"), FRAMES),
    st.tuples(st.just("unannotate"), FRAMES),
    st.tuples(st.just("mark"), FRAMES, st.booleans()),
    st.tuples(st.just("undo")),
    st.tuples(st.just("redo")),
)


def take(session: Session, step: tuple) -> None:
    """Take a step, unless it is one that is refused."""
    acts = {
        "stroke": lambda frame, label, place, erase: session.stroke(frame, label, [(place, place / 2)], 5, erase),
        "click": lambda frame, label, place, positive: session.click(frame, label, place, place / 2, positive),
        "clear": session.clear,
        "copy": session.copy,
        "add": session.add_object,
        "remove": session.remove_object,
        "lock": session.lock_object,
        "confirm": session.confirm,
        "unannotate": session.unannotate,
        "mark": session.mark,
        "undo": session.undo,
        "redo": session.redo,
    }
    with suppress(UserError):
        acts[step[0]](*step[1:])


def all_of(session: Session) -> tuple[object, ...]:
    return entries(session.document), picture_of(session)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=14))
def test_undo_and_redo_go_through_the_states_that_there_were(tmp_path_factory, steps):
    """Whatever is done: undoing all of it leads back through every state, redoing leads forth, and nothing is lost."""
    folder = tmp_path_factory.mktemp("session")
    session = new_session(folder, count=4, network=False)
    past, future = [all_of(session)], []  # the states that undo, and redo, have to lead to
    for step in steps:
        before = session.workspace.history().done
        take(session, step)
        after, now = session.workspace.history().done, all_of(session)
        if step[0] == "undo" and after < before:
            future.append(past.pop())
        elif step[0] == "redo" and after > before:
            past.append(future.pop())
        elif after > before:
            past.append(now)
            future = []
        if len(past) > 0:
            assert now == past[-1]
        else:  # undone beyond where the test began
            past.append(now)
    session.close()

    session = open_session(folder / "video", folder / "workspace")
    assert all_of(session) == past[-1], "the workspace opens as it was left"
    written = files(session)
    for number, entry in session.document.frames.items():
        assert (written[number] == session.labels(number)).all()
        assert entry.map is not None
    assert written.keys() == session.document.frames.keys()
    for state in past[-2::-1]:
        assert session.undo() is not None
        assert all_of(session) == state
    for state in past[1:]:
        assert session.redo() is not None
        assert all_of(session) == state
    for state in reversed(future):
        assert session.redo() is not None
        assert all_of(session) == state
    assert session.redo() is None
    session.close()


def test_a_new_step_ends_what_could_be_redone(session):
    session.mark(1, True)
    session.undo()
    session.mark(2, True)
    assert session.redo() is None
    assert session.document.marks == (2,)


def test_a_step_that_changes_nothing_is_none(session):
    done = session.workspace.history().done
    session.hide_object(1, False)
    session.erase_followed(0, 3)
    assert session.workspace.history().done == done


def test_whoever_listens_is_told(session):
    told = []
    stop = session.listen(told.append)
    session.stroke(2, 1, [(5, 5)], 3)
    assert told[-1].keys == {Key("frame", 2)}
    stop()
    session.mark(3, True)
    assert len(told) == 1


def test_a_listener_that_fails_keeps_nothing_from_being_done(session, caplog):
    session.listen(lambda change: 1 / 0)
    session.mark(3, True)
    assert session.document.marks == (3,)
    assert "ZeroDivisionError" in caplog.text
