"""The folder on disk: nothing that was kept is lost, whatever ends the program, and files of others are safe."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.label_map import read_label_map, write_label_map
from interactive.workspace import SoftMasks
from tests.helpers import REPOSITORY
from tests.helpers.annotated_video import annotate, entries, ground_truth, new_session, open_session, picture_of
from util.errors import UserError
from util.painting import davis_palette


@pytest.fixture
def folder(tmp_path) -> Path:
    """A workspace in which frames 0 and 4 were annotated, and its video."""
    session = new_session(tmp_path, network=False)
    annotate(session, 0)
    annotate(session, 4)
    session.close()
    return tmp_path


def opened(folder: Path):
    return open_session(folder / "video", folder / "workspace")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_program_has_lost_nothing_that_it_said_was_kept(tmp_path, seed):
    """Killed at random moments, several times in a row, in the middle of strokes, undoing and following."""
    new_session(tmp_path).close()
    delays = np.random.default_rng(seed).uniform(0.2, 2.5, 3)
    for turn, delay in enumerate(delays):
        command = [sys.executable, "-m", "tests.helpers.annotate_until_killed", str(tmp_path), str(10 * seed + turn)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        said = [line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()

        session = opened(tmp_path)
        steps = session.workspace.history().done
        if said:
            _, kept, checksum = said[-1]
            # What came after the last promise is there as a whole or not at all; undo leads back to what was promised.
            while session.workspace.history().done > int(kept):
                session.undo()
            while session.workspace.history().done < int(kept):
                assert session.redo() is not None
            assert zlib.crc32(b"".join(picture_of(session).values())) == int(checksum)
            while session.workspace.history().done < steps and session.redo() is not None:
                pass
        expected = {number: session.labels(number) for number in session.document.frames}
        session.close()
        files = {int(path.stem): read_label_map(path).labels for path in (tmp_path / "workspace/masks").glob("*.png")}
        assert files.keys() == expected.keys()
        assert all((files[number] == labels).all() for number, labels in expected.items())


def test_files_that_are_missing_or_old_are_written_again(folder):
    masks = folder / "workspace" / "masks"
    old = (masks / "00000.png").read_bytes()
    session = opened(folder)
    session.rectangle(0, 1, (0, 0, 60, 8))
    session.close()
    new = (masks / "00000.png").read_bytes()
    assert new != old
    (masks / "00000.png").write_bytes(old)  # as if the program had been killed before it wrote the file
    (masks / "00004.png").unlink()
    session = opened(folder)
    assert session.workspace.notes == []
    session.close()
    assert (masks / "00000.png").read_bytes() == new
    assert (read_label_map(masks / "00004.png").labels == ground_truth(4)).all()


def test_a_file_is_written_again_although_nobody_has_touched_it_since_its_frame_changed(folder):
    session = opened(folder)
    session.workspace._write_files = lambda frames: None  # the program is killed before it gets so far
    session.stroke(0, 1, [(40.0, 4.0)], 3)
    session.remove_object(2)
    expected = {number: session.labels(number) for number in session.document.frames}
    assert (expected[0] != ground_truth(0)).any()
    assert 2 not in expected[4]
    session.close()
    opened(folder).close()
    for number, labels in expected.items():
        assert (read_label_map(folder / "workspace" / "masks" / f"{number:05d}.png").labels == labels).all()


def test_label_maps_of_another_program_are_taken_over_as_a_step(folder):
    masks = folder / "workspace" / "masks"
    write_label_map(masks / "00004.png", ground_truth(6), davis_palette())
    write_label_map(masks / "00007.png", ground_truth(7) * 2)  # objects 2 and 4
    session = opened(folder)
    (note,) = session.workspace.notes
    assert note == "2 label maps in masks/ were made by another program: they are taken over"
    assert (session.labels(4) == ground_truth(6)).all()
    assert (session.labels(7) == ground_truth(7) * 2).all()
    assert list(session.document.objects) == [1, 2, 4]
    session.undo()
    assert (session.labels(4) == ground_truth(4)).all()
    session.close()
    assert (read_label_map(masks / "00004.png").labels == ground_truth(4)).all()


def test_clicks_do_not_bring_back_what_another_program_has_replaced(folder):
    session = opened(folder)
    session.click(4, 1, 20, 20, True)
    session.close()
    write_label_map(folder / "workspace" / "masks" / "00004.png", ground_truth(6), davis_palette())
    session = opened(folder)
    session.click(4, 1, 30, 30, True)
    rows, columns = np.mgrid[: ground_truth(6).shape[0], : ground_truth(6).shape[1]]
    far = (abs(rows - 30) > 6) | (abs(columns - 30) > 6)
    assert (session.labels(4) == ground_truth(6))[far].all()
    session.close()


def test_files_that_are_no_label_maps_are_never_overwritten(folder):
    masks = folder / "workspace" / "masks"
    Image.fromarray(ground_truth(0)[:10]).save(masks / "00002.png")
    (masks / "00003.png").write_bytes(b"notes of mine")
    (masks / "cover.png").write_bytes(b"another")
    before = {path.name: path.read_bytes() for path in masks.iterdir()}
    session = opened(folder)
    assert [note.partition(":")[0].rpartition("/")[2] for note in session.workspace.notes] == [
        "00002.png is 64x10, its frame 64x48",
        "00003.png is not an image, or it is damaged",
        "cover.png belongs to no frame of this video",
    ]
    annotate(session, 3)
    session.close()
    assert (masks / "00002.png").read_bytes() == before["00002.png"]
    assert (masks / "cover.png").read_bytes() == b"another"
    assert (folder / "workspace" / "replaced" / "00003.png").read_bytes() == b"notes of mine"
    assert (read_label_map(masks / "00003.png").labels == ground_truth(3)).all()


def until_written(folder: Path, file: Path) -> None:
    """Wait until the program has nothing more to write into a frame's file."""
    query, deadline = "SELECT mtime FROM files WHERE frame = ?", time.monotonic() + 30
    with closing(sqlite3.connect(folder / "workspace" / "workspace.sqlite")) as database:
        while database.execute(query, (int(file.stem),)).fetchone() != (file.stat().st_mtime_ns,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_file_that_another_program_saves_meanwhile_is_set_aside(folder):
    masks = folder / "workspace" / "masks"
    session = opened(folder)
    told = []
    session.listen(told.append)
    until_written(folder, masks / "00004.png")
    write_label_map(masks / "00004.png", ground_truth(9), davis_palette())
    session.hide_object(1, True)
    session.close()
    assert (read_label_map(masks / "00004.png").labels == ground_truth(9)).all(), "hiding changes no file"
    session = opened(folder)
    assert (session.labels(4) == ground_truth(9)).all()
    session.listen(told.append)
    until_written(folder, masks / "00004.png")
    write_label_map(masks / "00004.png", ground_truth(2), davis_palette())
    annotate(session, 4)
    session.close()
    assert (read_label_map(folder / "workspace" / "replaced" / "00004.png").labels == ground_truth(2)).all()
    assert "was changed by another program" in next(change.notice.text for change in told if change.notice)


def test_other_formats_are_taken_over_once(folder):
    masks = folder / "workspace" / "masks"
    Image.fromarray(ground_truth(3)).save(masks / "00003.bmp")
    for _ in range(2):
        session = opened(folder)
        assert (session.labels(3) == ground_truth(3)).all()
        session.close()
    assert (folder / "workspace" / "replaced" / "00003.bmp").is_file()


def test_a_workspace_of_the_published_program_is_opened(tmp_path):
    """It holds images/ and masks/, named alike."""
    new_session(tmp_path, network=False).close()
    old = tmp_path / "old"
    (tmp_path / "video").rename(tmp_path / "images")
    old.mkdir()
    (tmp_path / "images").rename(old / "images")
    (old / "masks").mkdir()
    for number in (0, 1):
        write_label_map(old / "masks" / f"{number:05d}.png", ground_truth(number), davis_palette())
    session = open_session(old / "images", old)
    assert [(session.labels(number) == ground_truth(number)).all() for number in (0, 1)] == [True, True]
    assert list(session.document.objects) == [1, 2]
    session.close()


def test_one_program_at_a_time(folder):
    session = opened(folder)
    with pytest.raises(UserError, match="in use by another run"):
        opened(folder)
    session.close()
    opened(folder).close()


def test_another_video_is_refused(folder):
    shutil.copy(folder / "video" / "00000.png", folder / "video" / "99999.png")
    with pytest.raises(UserError, match=r"belongs to another video \(frames 12, here 13\)"):
        opened(folder)


def test_another_video_of_the_same_size_is_said(folder):
    session = opened(folder)
    assert session.workspace.notes == []
    session.close()
    Image.fromarray(ground_truth(0) * 100).convert("RGB").save(folder / "video" / "00000.png")
    session = opened(folder)
    (note,) = session.workspace.notes
    assert "was made with another video of this size and length" in note
    session.close()


def test_a_full_disk_is_said_at_once_and_nothing_is_lost(folder):
    session = opened(folder)
    database = session.workspace._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    before: object = None

    def draw_until_full() -> None:
        nonlocal before
        for number in range(100):
            before = entries(session.document), picture_of(session)
            session.stroke(number % 12, 1, [(number, number / 2)], 5)

    with pytest.raises(UserError, match="is full; nothing was lost, and nothing changed: make room on the disk"):
        draw_until_full()
    assert (entries(session.document), picture_of(session)) == before
    database.execute(f"PRAGMA max_page_count = {pages * 100}")
    session.mark(3, True)
    session.close()
    session = opened(folder)
    assert picture_of(session) == before[1]
    assert session.document.marks == (3,)
    session.close()


def test_files_that_cannot_be_written_are_told_and_written_later(folder, monkeypatch):
    monkeypatch.setattr("interactive.workspace.SECONDS_UNTIL_RETRY", 0.1)
    session = opened(folder)
    told = []
    session.listen(told.append)
    masks = folder / "workspace" / "masks"
    masks.rename(folder / "workspace" / "elsewhere")
    annotate(session, 7)
    deadline = time.monotonic() + 20
    while not [change for change in told if change.notice]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    notice = next(change.notice for change in told if change.notice)
    assert notice.level == "error"
    assert "masks are not up to date: " in notice.text
    (folder / "workspace" / "elsewhere").rename(masks)
    session.close()
    assert (read_label_map(masks / "00007.png").labels == ground_truth(7)).all()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_session(folder / "video", tmp_path / "file" / "workspace")


def test_maps_that_nothing_can_bring_back_are_removed(folder):
    session = opened(folder)
    for number in range(5):
        session.stroke(7, 1, [(30, 20)], 3 + number)
        session.undo()
    session.close()
    session = opened(folder)
    session.mark(1, True)  # ends what could be redone
    session.close()
    session = opened(folder)
    session.close()
    with sqlite3.connect(folder / "workspace" / "workspace.sqlite") as database:
        (maps,) = database.execute("SELECT count(*) FROM maps").fetchone()
    assert maps == 4, "each of two frames was drawn in two steps"


def test_what_the_page_remembers(folder):
    session = opened(folder)
    assert session.workspace.view() == "{}"
    session.workspace.store_view('{"frame": 3}')
    session.close()
    session = opened(folder)
    assert session.workspace.view() == '{"frame": 3}'
    session.close()


def test_soft_masks_are_packed_without_loss():
    prob = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    unpacked = SoftMasks.unpack(SoftMasks(prob, [1, 7]).pack())
    assert (unpacked.prob == prob).all()
    assert unpacked.objects == [1, 7]
    assert (unpacked.without([1]).prob == prob[[0, 2]]).all()
    assert unpacked.without([1]).objects == [7]
