"""The server: who may ask, what is refused, and what those who look on are told."""

import json
from io import BytesIO
from threading import Event

import av
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dataset.random_access import VideoAccess
from interactive.exports import Exports
from interactive.messages import Messages, encode_runs
from interactive.previews import Previews
from interactive.server import LARGEST_ACT, Server
from interactive.session import Session, _Keeper
from interactive.workspace import Workspace
from tests.helpers.annotated_video import COUNT, SIZE, annotate, ground_truth, new_session, picture

TOKEN, COOKIE, HOSTS = "a-token", "xmem-1", frozenset({"127.0.0.1", "localhost"})
ADDRESS, EVENTS = "http://127.0.0.1:8765", "ws://127.0.0.1:8765/api/events"


@pytest.fixture
def session(tmp_path):
    session = new_session(tmp_path)
    yield session
    session.close()


@pytest.fixture
def stranger(session):
    """A browser without the token."""
    exports = Exports(session)
    messages = Messages(session, exports, None)
    app = Server(session, Previews(session), exports, messages).app(TOKEN, COOKIE, HOSTS)
    with TestClient(app, base_url=ADDRESS, follow_redirects=False) as client:
        yield client
    exports.close()


@pytest.fixture
def browser(stranger):
    """A browser that has opened the address that the program prints."""
    answer = stranger.get(f"/?token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    return stranger


def act(browser: TestClient, do: str, **arguments: object) -> dict:
    answer = browser.post("/api/acts", json={"do": do, **arguments})
    assert answer.status_code == 200, answer.text
    return answer.json()


def decode_runs(content: bytes) -> np.ndarray:
    width, height, count = np.frombuffer(content[:12], "<u4")
    labels = np.frombuffer(content[12 : 12 + count], np.uint8)
    lengths = np.frombuffer(content[12 + count :], "<u4")
    return np.repeat(labels, lengths).reshape(height, width)


# --- Who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/api/frames/0.jpg", "/page/main.js", "/api/maps/1", "/?token=another", "/?token="]
)
def test_without_the_token_nothing_is_shown(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "?token=" in answer.text
    assert "set-cookie" not in answer.headers


def test_without_the_token_nothing_is_done_or_told(stranger, session):
    assert stranger.post("/api/acts", json={"do": "undo"}).status_code == 403
    assert stranger.post("/api/import?frame=0", content=b"").status_code == 403
    assert session.workspace.history().redo is None
    with pytest.raises(WebSocketDisconnect), stranger.websocket_connect(EVENTS):
        pass


def test_the_token_opens_the_page_and_nothing_else(stranger):
    """It leaves the address line at once; a link with it to anything else is no way in."""
    assert stranger.get(f"/api/state?token={TOKEN}").status_code == 403
    assert stranger.get(f"/?token={TOKEN}").status_code == 303
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was made to lead here
        {"Host": "127.0.0.1.evil.example:8765"},
        {"Host": "["},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},  # another server of this machine
    ],
)
def test_other_hosts_and_origins_are_refused(browser, headers):
    assert browser.get("/api/state", headers=headers).status_code == 403
    assert browser.post("/api/acts", json={"do": "undo"}, headers=headers).status_code == 403
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect(EVENTS, headers=headers):
        pass


def test_a_tunnel_may_have_another_port(browser):
    headers = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    assert browser.get("/api/state", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/../session.py",
        "/page/%2e%2e/session.py",
        "/page/..%2fsession.py",
        "/api/exports/..%2fworkspace.sqlite",
        "/api/exports/workspace.sqlite",
        "/page//etc/passwd",
    ],
)
def test_nothing_outside_is_readable(browser, path):
    assert browser.get(path).status_code in (404, 410)


def test_the_page_may_load_nothing_from_elsewhere(browser):
    policy = browser.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy


# --- What is shown ----------------------------------------------------------------------------------------------------


def test_frames_and_previews(browser, session):
    for path, size in (
        ("/api/frames/3.jpg", (64, 48)),
        ("/api/frames/3.jpg?side=32", (32, 24)),
        ("/api/previews/3.jpg", (64, 48)),
        ("/api/frames/3.jpg?side=wide", (64, 48)),
    ):
        answer = browser.get(path)
        assert answer.headers["content-type"] == "image/jpeg"
        image = Image.open(BytesIO(answer.content))
        assert image.size == size
        assert np.abs(np.array(image.resize((64, 48))).astype(int) - picture(3)).mean() < 30
    answer = browser.get(f"/api/frames/{COUNT}.jpg")
    assert answer.status_code == 410
    assert answer.json()["error"].startswith(f"there is no frame {COUNT}")
    (session.video.path / "00005.png").write_bytes(b"no picture")
    assert "not an image" in browser.get("/api/frames/5.jpg").json()["error"]
    assert browser.get("/api/state").json()["video"]["bad"] == [5]


def test_label_maps_are_exact(browser, session):
    annotate(session, 0)
    number = session.document.frame(0).map
    answer = browser.get(f"/api/maps/{number}")
    assert (decode_runs(answer.content) == ground_truth(0)).all()
    assert "immutable" in answer.headers["cache-control"]
    session.remove_object(1)  # the page leaves out what there is no object for: undo may bring it back
    assert (decode_runs(browser.get(f"/api/maps/{number}").content) == ground_truth(0)).all()
    assert browser.get("/api/maps/999").status_code == 410
    assert browser.get(f"/api/maps/{10**30}").status_code == 410


def test_runs_of_any_label_map():
    rng = np.random.default_rng(0)
    for labels in (np.zeros(SIZE, np.uint8), rng.integers(0, 255, SIZE).astype(np.uint8), ground_truth(2)):
        assert (decode_runs(encode_runs(labels)) == labels).all()


def test_the_state_has_everything(browser, session):
    annotate(session, 0)
    session.click(0, 1, 20, 10, True)
    session.mark(3, True)
    state = browser.get("/api/state").json()
    assert state["video"]["count"] == COUNT
    assert [each["label"] for each in state["objects"]] == [1, 2]
    frame = state["frames"]["0"]
    assert (frame["annotated"], frame["permanent"], frame["objects"]) == (True, True, [1, 2])
    assert frame["areas"] == {"1": int((session.labels(0) == 1).sum()), "2": int((session.labels(0) == 2).sum())}
    assert (decode_runs(browser.get(f"/api/maps/{frame['before']}").content) == ground_truth(0)).all()
    assert state["clicks"]["0/1"]["points"] == [[20.0, 10.0, True]]
    assert state["marks"] == [3]
    assert state["history"] == {"undo": "Mark frame 3", "redo": None, "done": 7}
    assert {note["name"] for note in state["setting_notes"]} == set(state["settings"])
    assert state["memory"]["permanent"] == [0]


# --- What is done -----------------------------------------------------------------------------------------------------


def test_acts(browser, session):
    assert act(browser, "add_object", name="a fish") == {"result": 3}
    act(browser, "stroke", frame=0, label=3, points=[[5, 5], [20, 5]], radius=3)
    act(browser, "click", frame=1, label=3, x=30, y=20, positive=True)
    act(browser, "copy", frame=2, source=0)
    act(browser, "change_settings", mem_every=3)
    assert session.settings.mem_every == 3
    assert session.settings.size == 32, "settings that are not named stay"
    assert (session.labels(2) == session.labels(0)).all()
    act(browser, "follow", frame=0, direction="forward", until="end")
    session.wait()
    assert act(browser, "undo") == {"result": "Follow forward from frame 0"}
    assert act(browser, "redo") == {"result": "Follow forward from frame 0"}
    act(browser, "store_view", view={"frame": 7, "tool": "brush"})
    assert browser.get("/api/state").json()["view"] == {"frame": 7, "tool": "brush"}
    name = act(browser, "export", kind="davis", first=0, last=2)["result"]
    act(browser, "pause")
    for _ in range(200):
        (export,) = browser.get("/api/state").json()["exports"]
        if export["progress"] == 1:
            break
    assert browser.get(f"/api/exports/{name}").headers["content-type"] == "application/zip"
    act(browser, "remove_export", name=name)
    assert browser.get("/api/state").json()["exports"] == []


def test_every_act_is_known(browser):
    """Whatever the page may ask is refused for its arguments, not for its name."""
    names = "remove_object rename_object colour_object hide_object lock_object polygon rectangle box clean clear"
    names += " confirm unannotate set_permanent mark erase_followed use_segmenter export store_view"
    for name in names.split():
        error = browser.post("/api/acts", json={"do": name, "nonsense": 1}).json()["error"]
        assert error.startswith("this cannot be done: "), name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no JSON", 'a JSON object with its name under "do"'),
        (b"[1]", 'a JSON object with its name under "do"'),
        (b'{"frame": 1}', 'a JSON object with its name under "do"'),
        (b'{"do": "launch"}', "there is no act launch"),
        (b'{"do": "mark", "frame": -1, "marked": true}', "there is no frame -1"),
        (b'{"do": "mark", "frame": 99, "marked": true}', "there is no frame 99"),
        (b'{"do": "click", "frame": 0, "label": 1, "x": NaN, "y": 0, "positive": true}', "NaN is no number"),
        (b'{"do": "stroke", "frame": 0, "label": 1, "points": [], "radius": 2}', "between 1 and"),
        (b'{"do": "change_settings", "speed": 3}', "there is no setting speed"),
        (b'{"do": "change_settings", "mem_every": 0}', "mem_every must be at least 1"),
        (b'{"do": "colour_object", "label": 1, "colour": "red;"}', "colour"),
        (b'{"do": "export", "kind": "exe"}', "kind: Input should be 'davis'"),
        (b'{"do": "store_view", "view": 3}', "view: Input should be a valid dictionary"),
        (b'{"do": "store_view", "view": {"a": NaN}}', "NaN is no number"),
        (b'{"do": "store_view", "view": {"a": 1e999}}', "1e999 is no number"),
        (b'{"do": "store_view", "view": {"a": "\\ud800"}}', "cannot be kept"),
        (b"[" * 100_000, "JSON object"),
        (b'{"do": "change_settings", "size": 1000000}', "from 16 to 4320"),
        (b'{"do": "store_view", "view": {"a": "%s"}}' % (b"x" * 70_000), "at most"),
        (b'{"do": "undo", "x": "%s"}' % (b"x" * LARGEST_ACT), "larger than 4 MiB"),
    ],
)
def test_what_is_refused_is_told_in_a_line(browser, session, body, message):
    before = session.workspace.history()
    answer = browser.post("/api/acts", content=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert session.workspace.history() == before


def test_a_label_map_is_imported(browser, session, tmp_path):
    Image.fromarray(ground_truth(4)).save(tmp_path / "given.png")
    assert browser.post("/api/import?frame=4", content=(tmp_path / "given.png").read_bytes()).json() == {"result": None}
    assert (session.labels(4) == ground_truth(4)).all()
    answer = browser.post("/api/import?frame=4", content=b"no picture")
    assert answer.status_code == 400
    assert answer.json()["error"] == "the file is not an image, or it is damaged"
    assert browser.post("/api/import", content=b"").status_code == 400


def test_a_programming_error_is_told_and_reaches_the_server_which_logs_it(browser, session, monkeypatch):
    monkeypatch.setattr(session.workspace, "step", lambda *_: 1 / 0)
    mark = {"do": "mark", "frame": 1, "marked": True}
    with pytest.raises(ZeroDivisionError):
        browser.post("/api/acts", json=mark)
    monkeypatch.setattr(browser._transport, "raise_server_exceptions", False)
    answer = browser.post("/api/acts", json=mark)
    assert answer.status_code == 500
    assert answer.json()["error"] == "this has failed: division by zero; the log has more"


# --- What is told -----------------------------------------------------------------------------------------------------


def receive(socket) -> dict:
    return json.loads(socket.receive_text())


def test_two_windows_are_told_what_either_does(browser, session):
    with browser.websocket_connect(EVENTS) as first, browser.websocket_connect(EVENTS) as second:
        states = [receive(socket) for socket in (first, second)]
        assert [each["type"] for each in states] == ["state", "state"]
        act(browser, "rectangle", frame=2, label=1, box=[3, 3, 12, 12])
        for socket in (first, second):
            patch = receive(socket)["patch"]
            assert patch["frames"]["2"]["annotated"]
            assert patch["history"]["undo"] == "Rectangle, frame 2"
            assert patch["memory"]["permanent"] == [2]
            assert patch["version"] > states[0]["state"]["version"]
        act(browser, "undo")
        patch = receive(first)["patch"]
        assert patch["frames"] == {}
        assert patch["whole"], "these frames are all that there are"
        assert "view" not in patch


def test_following_is_told_while_it_runs(browser, session, monkeypatch):
    annotate(session, 0)
    close, was_told = _Keeper.close, Event()  # else what it ends with may be told in one message with its end
    monkeypatch.setattr(_Keeper, "close", lambda keeper: (was_told.wait(30), close(keeper))[1])
    with browser.websocket_connect(EVENTS) as socket:
        receive(socket)
        act(browser, "follow", frame=0, direction="forward", until="end")
        frames, messages = set(), []
        while COUNT - 1 not in frames or messages[-1]["patch"].get("following", 0) is not None:
            messages.append(receive(socket))
            frames |= {int(number) for number in messages[-1]["patch"].get("frames", {})}
            if COUNT - 1 in frames:
                was_told.set()
        assert frames == set(range(1, COUNT))
        progress = [each["patch"]["following"] for each in messages if each["patch"].get("following")]
        assert progress[-1]["frame"] == COUNT - 1
        assert messages[-1]["patch"]["memory"]["working_elements"] > 0


def test_what_goes_wrong_in_following_is_told(browser, session, monkeypatch):
    annotate(session, 0)
    monkeypatch.setattr("interactive.following.Follower.follow", lambda *_: 1 / 0)
    with browser.websocket_connect(EVENTS) as socket:
        receive(socket)
        act(browser, "follow", frame=0, direction="forward", until="end")
        while (message := receive(socket))["type"] != "notice":
            pass
        assert message == {
            "type": "notice",
            "level": "error",
            "text": "following has stopped: division by zero; the log has more",
        }


def test_previews_of_a_video_file_are_made_ahead_and_kept(tmp_path):

    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    video = VideoAccess(tmp_path / "v.mp4")
    workspace = Workspace(tmp_path / "workspace", video)
    previews = Previews(Session(video, workspace))
    assert previews._thread is not None
    previews._thread.join()
    (folder,) = (tmp_path / "workspace" / "previews").iterdir()  # another video would have another
    made = sorted(int(path.stem) for path in folder.iterdir())
    assert made == list(range(COUNT))
    assert previews.get(4)[:2] == b"\xff\xd8"
    previews.close()
    workspace.close()
