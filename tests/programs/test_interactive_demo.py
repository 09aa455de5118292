"""What interactive_demo.py refuses before it opens anything, and how it finds a port."""

import signal
import socket

import numpy as np
import pytest
from PIL import Image

import interactive_demo
from interactive_demo import PORT, TERMINATED, bind
from scripts.page_driver import Program


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--video", "a.mp4", "--images", "b"], "--video and --images contradict each other"),
        ([], "give --video FILE or --images FOLDER"),
        (["--images", "absent"], "absent does not exist"),
        (["--images", ".", "--size", "-5"], "--size -5: from 16 to 4320"),
        (["--images", ".", "--size", "0"], "--size 0: from 16 to 4320"),
        (["--images", ".", "--num_objects", "-3"], "--num_objects -3: from 0 to 255"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert interactive_demo.main([*flags, "--no_browser"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_terminated_closes_its_workspace(tmp_path):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "0.png")
    program = Program("--images", tmp_path, "--workspace", tmp_path / "workspace")
    program.stop(signal.SIGTERM)
    assert program.process.returncode == TERMINATED
    assert not list((tmp_path / "workspace").glob("*-wal")), "the database is closed"


def test_a_port_is_taken_from_the_moment_it_is_found():
    with bind(None) as first, bind(None) as second:
        ports = [each.getsockname()[1] for each in (first, second)]
    assert PORT <= ports[0] < ports[1]
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Exception, match=r"--port \d+: .*in use"):
        bind(other.getsockname()[1])
