"""Downloads from a server that drops connections, has no Range, changes its files; and the program that uses them."""

import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.network import XMem
from scripts import download_models
from tests.helpers import REPOSITORY
from tests.helpers.tiny_network import save_tiny_network
from util.download import DownloadError, UnreachableError, download
from util.errors import UserError
from util.files import sole_user

CONTENT = np.random.default_rng(0).bytes(300_000)  # several chunks


@dataclass
class Server:
    """What the server is told to do, and what it was asked."""

    files: dict[str, bytes]
    address: str = ""
    ranges: bool = True
    """Whether parts of a file are sent."""
    etag: bool = True
    last_modified: bool = False
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests instead of a file; 302 leads to /moved/NAME."""
    drops: list[int] = field(default_factory=list)
    """Bytes after which the connection of each next answer is dropped."""
    hang_after: int | None = None
    """Bytes after which the server falls silent, until `released`."""
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""

    def url(self, name: str = "file.bin") -> str:
        return f"{self.address}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        state: Server = self.server.state
        state.asked.append(self.headers["Range"])
        status = state.statuses.pop(0) if state.statuses else 200
        if status == 302:
            self.send_response(302)
            self.send_header("Location", f"/moved{self.path}")
            self.end_headers()
            return
        content = state.files.get(Path(self.path).name)
        if content is None or status != 200:
            self.send_error(404 if content is None else status)
            return

        etag = f'"{sha256(content).hexdigest()[:8]}"'
        date = formatdate(1e9 + content[0], usegmt=True)
        current = {etag if state.etag else None, date if state.last_modified else None} - {None}
        start = 0
        if state.ranges and self.headers["Range"] and self.headers["If-Range"] in current:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if state.etag:
            self.send_header("ETag", etag)
        if state.last_modified:
            self.send_header("Last-Modified", date)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if state.drops:
            body = body[: state.drops.pop(0)]
        if state.hang_after is not None:
            self.wfile.write(body[: state.hang_after])
            state.released.wait(20)
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    state = Server({"file.bin": CONTENT})
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.state = state
        state.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        state.released.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def fetch(url: str, target: Path, **options) -> None:
    download(url, target, **{"first_wait": 0.0, "attempts": 3, "timeout": 10.0} | options)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- Whole files ------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole_and_progress_is_told(server, tmp_path):
    seen: list[tuple[int, int | None]] = []
    fetch(server.url(), tmp_path / "f", on_progress=lambda *progress: seen.append(progress))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["f"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [received for received, _ in seen] == sorted(received for received, _ in seen)


def test_redirections_are_followed_by_the_part_that_is_asked_for_too(server, tmp_path):
    server.drops, server.statuses = [100_000], [302, 200, 302]
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None, None, "bytes=100000-", "bytes=100000-"]


def test_a_file_address_will_do(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    fetch((tmp_path / "source").as_uri(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="No such file"):
        fetch((tmp_path / "absent").as_uri(), tmp_path / "g")
    assert names_in(tmp_path) == ["f", "source"]


def test_a_file_that_exists_is_not_overwritten(server, tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(UserError, match="not overwritten"):
        fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"
    assert server.asked == []


def test_a_refused_file_is_removed_and_does_not_become_the_target(server, tmp_path):
    def refuse(received: Path) -> None:
        assert received.read_bytes() == CONTENT
        raise UserError("not good enough")

    with pytest.raises(UserError, match="not good enough"):
        fetch(server.url(), tmp_path / "f", check=refuse)
    assert names_in(tmp_path) == []


def test_a_folder_that_is_not_there_is_told(server, tmp_path):
    with pytest.raises(UserError, match=r"absent/f.partial cannot be written"):
        fetch(server.url(), tmp_path / "absent" / "f")


# --- Interruptions ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drops=st.lists(st.integers(1, len(CONTENT)), max_size=6), ranges=st.booleans(), etag=st.booleans())
def test_wherever_connections_drop_the_file_arrives_whole(tmp_path_factory, drops, ranges, etag):
    folder = tmp_path_factory.mktemp("drops")
    with serving() as server:
        server.drops, server.ranges, server.etag, server.last_modified = list(drops), ranges, etag, not etag
        fetch(server.url(), folder / "f", attempts=len(drops) + 1)
    assert (folder / "f").read_bytes() == CONTENT
    assert names_in(folder) == ["f"]


def test_only_what_is_lacking_is_asked_for(server, tmp_path):
    server.drops = [100_000, 50_000]
    fetch(server.url(), tmp_path / "f", attempts=1)  # attempts that bring something do not count
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_what_has_arrived_is_kept_for_the_next_run(server, tmp_path):
    server.drops, server.statuses = [100_000], [200, 503, 503]
    with pytest.raises(DownloadError, match="503"):
        fetch(server.url(), tmp_path / "f", attempts=2)
    assert (tmp_path / "f.partial").read_bytes() == CONTENT[:100_000]
    assert not (tmp_path / "f").exists()
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=100000-"
    assert names_in(tmp_path) == ["f"]


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(server, tmp_path):
    server.hang_after = 200_000
    target = tmp_path / "f"
    code = "import pathlib, sys, util.download as d; d.download(sys.argv[1], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, server.url(), target], cwd=REPOSITORY)
    partial = tmp_path / "f.partial"
    deadline = time.monotonic() + 10
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.hang_after = None
    kept = partial.stat().st_size
    assert 0 < kept <= 200_000
    fetch(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges, server.drops = False, [100_000]
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize(("etag", "last_modified"), [(True, False), (False, True), (False, False)])
def test_parts_of_two_versions_are_not_put_together(server, tmp_path, etag, last_modified):
    server.etag, server.last_modified = etag, last_modified
    server.drops, server.statuses = [100_000], [200, 503]
    with pytest.raises(DownloadError):
        fetch(server.url(), tmp_path / "f", attempts=1)
    assert (tmp_path / "f.partial").stat().st_size == 100_000
    newer = bytes(255 - byte for byte in CONTENT)
    server.files["file.bin"] = newer
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == newer


def test_a_complete_part_only_needs_its_name(server, tmp_path):
    server.drops, server.statuses = [len(CONTENT) - 1], [200, 503]
    with pytest.raises(DownloadError):
        fetch(server.url(), tmp_path / "f", attempts=1)
    (tmp_path / "f.partial").write_bytes(CONTENT)
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={len(CONTENT)}-"

    (tmp_path / "f").unlink()
    server.drops, server.statuses = [1000], [200, 503]
    with pytest.raises(DownloadError):
        fetch(server.url(), tmp_path / "f", attempts=1)
    (tmp_path / "f.partial").write_bytes(CONTENT + b"too long")
    fetch(server.url(), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_file_shorter_than_was_said_is_never_taken(server, tmp_path):
    server.ranges, server.drops = False, [100_000] * 9
    with pytest.raises(DownloadError, match="after 100000 of 300000 bytes"):
        fetch(server.url(), tmp_path / "f", attempts=2)
    assert len(server.asked) == 3  # the first brought something
    assert not (tmp_path / "f").exists()


# --- What is no file --------------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_and_what_will_not_is_not(server, tmp_path):
    server.statuses = [503, 429]
    fetch(server.url(), tmp_path / "f")
    assert len(server.asked) == 3
    with pytest.raises(DownloadError, match=r"absent\.bin: the server answers 404"):
        fetch(server.url("absent.bin"), tmp_path / "g")
    assert len(server.asked) == 4
    assert names_in(tmp_path) == ["f"]


def closed_address() -> str:
    """Of this machine, where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_waits_get_longer_and_an_absent_server_is_told_apart(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("util.download.time.sleep", waits.append)
    with pytest.raises(UnreachableError, match="refused"):
        download(f"{closed_address()}/f", tmp_path / "f", attempts=4)
    assert waits == [1, 2, 4]
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("url", ["nothing", "http://a b/f", "gopher://host/f", "http://host:port/f"])
def test_what_is_no_address_is_told(tmp_path, url):
    with pytest.raises(DownloadError):
        fetch(url, tmp_path / "f")
    assert names_in(tmp_path) == []


def test_a_folder_has_one_user_at_a_time(tmp_path):
    with sole_user(tmp_path), pytest.raises(UserError, match="in use"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass


# --- python -m scripts.download_models --------------------------------------------------------------------------------

FILES = [f"{name}.pth" for name in download_models.MODELS]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, bytes]:
    """Tiny networks under the names of the published files, neighbours different."""
    folder = tmp_path_factory.mktemp("published")
    networks = [save_tiny_network(folder / f"{seed}.pth", seed).read_bytes() for seed in (0, 1)]
    return dict(zip(FILES, itertools.cycle(networks), strict=False))


@pytest.fixture
def saves(tmp_path) -> Path:
    return tmp_path / "saves"


def run(server: Server, saves: Path, *flags: str) -> int:
    return download_models.main(["--url", server.address, "--output", str(saves), "--attempts", "1", *flags])


def recorded(saves: Path) -> dict[str, str]:
    return json.loads((saves / "checksums.json").read_text())


def test_all_four_are_fetched_recorded_and_then_left_alone(server, published, saves, capsys):
    server.files = published
    assert run(server, saves) == 0
    assert names_in(saves) == sorted([*FILES, "checksums.json"])
    for name, content in published.items():
        assert (saves / name).read_bytes() == content
        XMem.from_checkpoint(saves / name)
    assert recorded(saves) == {name: sha256(content).hexdigest() for name, content in published.items()}
    assert len(server.asked) == 4
    capsys.readouterr()

    assert run(server, saves) == 0
    assert capsys.readouterr().out.count("there already") == 4
    assert len(server.asked) == 4


def test_one_may_be_chosen_and_a_folder_may_be_the_source(published, tmp_path, saves):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "XMem-s2.pth").write_bytes(published["XMem-s2.pth"])
    url = (tmp_path / "mirror").as_uri()
    assert download_models.main(["--models", "XMem-s2", "--url", url, "--output", str(saves)]) == 0
    assert names_in(saves) == ["XMem-s2.pth", "checksums.json"]


def test_the_defaults_are_the_published_release():
    defaults = download_models.make_parser().parse_args([])
    assert [f"{defaults.url}/{name}.pth" for name in defaults.models] == [
        f"https://github.com/hkchengrex/XMem/releases/download/v1.0/{name}.pth"
        for name in ("XMem", "XMem-s012", "XMem-s2", "XMem-no-sensory")
    ]
    assert defaults.output == Path("saves")


def test_a_file_put_there_by_hand_is_recorded_if_it_is_a_network(server, published, saves, capsys):
    saves.mkdir()
    (saves / "XMem.pth").write_bytes(published["XMem.pth"])
    assert run(server, saves, "--models", "XMem") == 0
    assert recorded(saves) == {"XMem.pth": sha256(published["XMem.pth"]).hexdigest()}

    (saves / "XMem-s2.pth").write_text("<html>")
    assert run(server, saves, "--models", "XMem-s2") == 2
    assert "XMem-s2.pth is" in capsys.readouterr().err
    assert (saves / "XMem-s2.pth").read_text() == "<html>"
    assert "XMem-s2.pth" not in recorded(saves)
    assert server.asked == []


def test_a_file_that_changed_is_told_and_not_touched(server, published, saves, capsys):
    server.files = published
    assert run(server, saves, "--models", "XMem") == 0
    (saves / "XMem.pth").write_bytes(published["XMem-s012.pth"])
    before = recorded(saves)
    capsys.readouterr()
    assert run(server, saves, "--models", "XMem", "XMem-s2") == 1
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[0]
    assert error.startswith(f"{saves / 'XMem.pth'} is not the XMem.pth that was first used here")
    assert (saves / "XMem.pth").read_bytes() == published["XMem-s012.pth"]
    assert recorded(saves)["XMem.pth"] == before["XMem.pth"]


def test_a_download_unlike_the_recorded_one_is_refused(server, published, saves, capsys):
    server.files = dict(published)
    assert run(server, saves, "--models", "XMem") == 0
    (saves / "XMem.pth").unlink()
    server.files["XMem.pth"] = published["XMem-s012.pth"]
    assert run(server, saves, "--models", "XMem") == 2
    assert "not the XMem.pth that was first used" in capsys.readouterr().err
    assert names_in(saves) == ["checksums.json"]
    server.files["XMem.pth"] = published["XMem.pth"]
    assert run(server, saves, "--models", "XMem") == 0


def test_a_page_instead_of_a_network_is_refused(server, saves, capsys):
    server.files = {"XMem.pth": b"<html>please log in</html>"}
    assert run(server, saves, "--models", "XMem") == 2
    assert re.search("is no network file|no PyTorch file", capsys.readouterr().err)
    assert names_in(saves) == []


def test_one_that_is_missing_does_not_keep_the_others(server, published, saves, capsys):
    server.files = {name: content for name, content in published.items() if name != "XMem-s012.pth"}
    assert run(server, saves) == 1
    assert "XMem-s012.pth: the server answers 404" in capsys.readouterr().err
    assert names_in(saves) == sorted([name for name in FILES if name != "XMem-s012.pth"] + ["checksums.json"])


def test_an_interrupted_run_goes_on(server, published, saves):
    size = len(published["XMem.pth"])
    server.files, server.drops, server.statuses = published, [size // 2], [200, 500]
    assert run(server, saves, "--models", "XMem") == 2
    assert (saves / "XMem.pth.partial").stat().st_size == size // 2
    assert run(server, saves, "--models", "XMem") == 0
    assert server.asked[-1] == f"bytes={size // 2}-"
    assert (saves / "XMem.pth").read_bytes() == published["XMem.pth"]


def test_without_a_connection_one_line_says_what_to_do(saves, capsys):
    assert download_models.main(["--url", closed_address(), "--output", str(saves), "--attempts", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Connection refused" in line
    assert f"XMem.pth, XMem-s012.pth, XMem-s2.pth, XMem-no-sensory.pth from {download_models.RELEASE_PAGE}" in line


def test_mistakes_are_one_line(server, saves, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(server, tmp_path / "file") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(server, saves, "--attempts", "0") == 2
    assert capsys.readouterr().err.startswith("--attempts must be at least 1")
    saves.mkdir()
    (saves / "checksums.json").write_text("{")
    (saves / "XMem.pth").touch()
    assert run(server, saves, "--models", "XMem") == 2
    assert "checksums.json is damaged" in capsys.readouterr().err
    with sole_user(saves):
        assert run(server, saves) == 2
    assert "in use by another run" in capsys.readouterr().err
    assert server.asked == []


def test_an_interrupt_says_that_the_command_goes_on(server, saves, monkeypatch, capsys):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download_models, "download", interrupt)
    assert run(server, saves) == 130
    assert "goes on from here" in capsys.readouterr().err
