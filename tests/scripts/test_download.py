"""`python -m scripts.download_models`: whole files or none, checksums, and one line for each failure."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from model.network import XMem
from scripts import download_models
from tests.helpers.tiny_network import save_tiny_network
from util.files import sole_user

FILES = [f"{name}.pth" for name in download_models.MODELS]


@pytest.fixture
def release(tmp_path) -> Path:
    """A folder of tiny networks, all different, under the names of the published files."""
    folder = tmp_path / "release"
    folder.mkdir()
    for seed, name in enumerate(FILES):
        save_tiny_network(folder / name, seed)
    return folder


@pytest.fixture
def saves(tmp_path) -> Path:
    return tmp_path / "saves"


def run(release: Path, saves: Path, *flags: str) -> int:
    return download_models.main(["--url", release.as_uri(), "--output", str(saves), *flags])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def recorded(saves: Path) -> dict[str, str]:
    return json.loads((saves / "checksums.json").read_text())


def failures(capsys) -> list[str]:
    """Return the lines of stderr without the bars of the downloads."""
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    return [line for line in lines if line and "B/s]" not in line]


def test_all_four_are_fetched_recorded_and_then_left_alone(release, saves, capsys):
    (saves / ".download-of-a-killed-run").mkdir(parents=True)
    assert run(release, saves) == 0
    assert names_in(saves) == sorted([*FILES, "checksums.json"])
    for name in FILES:
        assert (saves / name).read_bytes() == (release / name).read_bytes()
        XMem.from_checkpoint(saves / name)
    assert recorded(saves) == {name: sha256((release / name).read_bytes()).hexdigest() for name in FILES}
    assert download_models.main(["--url", "file:///nowhere", "--output", str(saves)]) == 0
    assert capsys.readouterr().out.count("there already") == 4


def test_the_defaults_are_the_published_release():
    defaults = download_models.make_parser().parse_args([])
    assert defaults.models == ("XMem", "XMem-s012", "XMem-s2", "XMem-no-sensory")
    assert defaults.url == "https://github.com/hkchengrex/XMem/releases/download/v1.0"
    assert defaults.output == Path("saves")


def test_a_file_put_there_by_hand_is_recorded_if_it_is_a_network(release, saves, capsys):
    saves.mkdir()
    (saves / "XMem.pth").write_bytes((release / "XMem-s2.pth").read_bytes())
    (saves / "XMem-s2.pth").write_text("<html>")
    assert run(release, saves, "--models", "XMem", "XMem-s2") == 1
    (line,) = failures(capsys)
    assert line.startswith(f"{saves / 'XMem-s2.pth'} is left as it is")
    assert (saves / "XMem-s2.pth").read_text() == "<html>"
    assert recorded(saves) == {"XMem.pth": sha256((release / "XMem-s2.pth").read_bytes()).hexdigest()}


def test_another_file_than_the_recorded_one_is_refused(release, saves, capsys):
    assert run(release, saves, "--models", "XMem") == 0
    before, other = recorded(saves), (release / "XMem-s012.pth").read_bytes()
    (saves / "XMem.pth").write_bytes(other)
    assert run(release, saves, "--models", "XMem") == 2
    (line,) = failures(capsys)
    assert line.startswith(f"{saves / 'XMem.pth'} is left as it is: its SHA-256 is {sha256(other).hexdigest()}")
    assert before["XMem.pth"] in line
    assert (saves / "XMem.pth").read_bytes() == other
    (saves / "XMem.pth").unlink()
    (release / "XMem.pth").write_bytes(other)
    assert run(release, saves, "--models", "XMem") == 2
    assert "the file first used here" in failures(capsys)[0]
    assert names_in(saves) == ["checksums.json"]
    assert recorded(saves) == before


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"<html>log in</html>"])
def test_what_is_cut_short_or_no_network_is_refused(release, saves, capsys, damage):
    (release / "XMem.pth").write_bytes(damage((release / "XMem.pth").read_bytes()))
    assert run(release, saves, "--models", "XMem") == 2
    assert "by hand" in failures(capsys)[0]
    assert names_in(saves) == []


def test_one_that_is_missing_does_not_keep_the_others(release, saves, capsys):
    (release / "XMem-s012.pth").unlink()
    assert run(release, saves) == 1
    (line,) = failures(capsys)
    assert "XMem-s012.pth: " in line
    assert f"from {download_models.RELEASE}/tag/v1.0 by hand, and put it into {saves}" in line
    assert names_in(saves) == sorted({*FILES, "checksums.json"} - {"XMem-s012.pth"})


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nothing", "http://a b", "gopher://host", "http://host:port"])
def test_a_server_that_cannot_be_reached_is_one_line_for_each_file(saves, monkeypatch, capsys, url):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert download_models.main(["--url", url, "--output", str(saves), "--models", "XMem", "XMem-s2"]) == 2
    first, second = failures(capsys)
    assert first.startswith(f"{url}/XMem.pth: ")
    assert "by hand" in second
    assert names_in(saves) == []


def test_mistakes_are_one_line_and_a_folder_has_one_user_at_a_time(release, saves, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(release, tmp_path / "file") == 2
    assert len(failures(capsys)) == 1
    saves.mkdir()
    with sole_user(saves):
        assert run(release, saves) == 2
    assert "in use by another run" in failures(capsys)[0]
    for content in ("{", "[]"):
        (saves / "checksums.json").write_text(content)
        assert run(release, saves, "--models", "XMem") == 2
        assert "checksums.json is damaged" in failures(capsys)[0]
        assert (saves / "checksums.json").read_text() == content


def test_an_interrupt_leaves_nothing_and_says_what_to_do(release, saves, monkeypatch, capsys):
    def interrupt(self: object, size: int = 0) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("urllib.response.addinfourl.read", interrupt, raising=False)
    assert run(release, saves) == 130
    assert "same command" in failures(capsys)[-1]
    assert names_in(saves) == []
