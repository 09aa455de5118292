"""The package: every folder of the project is in it, and what is installed works from any directory."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import REPOSITORY

NOT_INSTALLED = {"tests", "build"}
CLIP = REPOSITORY / "examples" / "crossing"
FRAMES = 4

SIX_LINES = """
import xmem
network = xmem.load_network({network!r})
for result in xmem.segment_video(network, {frames!r}, {mask!r}, size=64):
    print(*result.labels.shape)
"""


def setuptools_table() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_folder_and_program_is_in_the_package():
    folders = {path.parent.relative_to(REPOSITORY) for path in REPOSITORY.glob("[!.]*/**/*.py")}
    expected = {".".join(folder.parts) for folder in folders if folder.parts[0] not in NOT_INSTALLED}
    packages = setuptools_table()["packages"]
    assert len(packages) == len(set(packages))
    assert set(packages) == expected | {"xmem.saves"}
    programs = {path.stem for path in REPOSITORY.glob("*.py")} - {"hubconf"}  # which torch.hub reads from a checkout
    assert set(setuptools_table()["py-modules"]) == programs


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of an environment with the built package, and the other packages of this one."""
    folder = tmp_path_factory.mktemp("package")
    # A copy, since building leaves files beside the sources.
    parts = {Path(name.replace(".", "/")).parts[0] for name in setuptools_table()["packages"]}
    for name in parts:
        shutil.copytree(REPOSITORY / name, folder / "source" / name)
    for pattern in ("*.py", "*.toml", "*.md", "*.txt", "LICENSE", "LICENSES/*.txt", "saves/*.pth"):
        for path in REPOSITORY.glob(pattern):
            target = folder / "source" / path.relative_to(REPOSITORY)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    wheels = folder / "wheels"
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", wheels, folder / "source"], check=True)
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})
    site = Path(paths["purelib"])
    (site / "packages_already_there.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    programs = Path(paths["scripts"])
    subprocess.run([*pip, "--python", programs / "python", "install", *offline, *wheels.iterdir()], check=True)
    for name in ("XMem-small.pth", "XMem-clicks.pth"):
        assert (site / "xmem" / "saves" / name).is_file()
    assert (site / "interactive" / "page" / "index.html").is_file()
    return programs


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder as `eval.py --dataset G` takes it: frames of the example clip, small, and the mask of the first."""
    for path in [*sorted((CLIP / "JPEGImages/crossing").iterdir())[:FRAMES], CLIP / "Annotations/crossing/00000.png"]:
        target = tmp_path / path.relative_to(CLIP)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((112, 64), Image.Resampling.NEAREST).save(target)
    return tmp_path


def run(*command: str | Path, folder: Path) -> str:
    """Run a program in `folder`, where nothing of the checkout is in reach, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_the_installed_package_segments_a_video_from_another_folder(installed, clip, tmp_path):
    where = run(installed / "python", "-c", "import xmem; print(xmem.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    printed = run(
        installed / "python",
        "-c",
        SIX_LINES.format(
            network=str(REPOSITORY / "saves" / "XMem-small.pth"),
            frames=str(clip / "JPEGImages" / "crossing"),
            mask=str(clip / "Annotations" / "crossing" / "00000.png"),
        ),
        folder=tmp_path,
    )
    assert printed == "64 112\n" * FRAMES


@pytest.mark.slow
def test_the_installed_programs_run_and_bring_a_network(installed, clip, tmp_path):
    for program in ("xmem-eval", "xmem-interactive", "xmem-train", "xmem-score"):
        assert "usage" in run(installed / program, "--help", folder=tmp_path)
    flags = ["--dataset", "G", "--generic_path", clip, "--output", "output", "--size", "64", "--device", "cpu"]
    run(installed / "xmem-eval", *flags, folder=tmp_path)
    assert len(list((tmp_path / "output").rglob("*.png"))) == FRAMES


@pytest.mark.parametrize("program", ["-m eval", "-m train", "-m scripts.score", "-c 'import xmem'"])
def test_an_opencv_that_cannot_be_loaded_is_told_in_one_line(tmp_path, program):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *shlex.split(program)]
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stderr == (
        "ImportError: OpenCV cannot be loaded (libGL.so.1: cannot open shared object file): "
        "install opencv-python-headless in place of opencv-python\n"
    )


def test_windows_is_told_in_one_line_what_to_do():
    command = [sys.executable, "-c", "import sys; sys.platform = 'win32'; import util"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stderr.startswith("ImportError: XMem runs on Linux and macOS; on Windows it runs in WSL")
    assert run.stderr.count("\n") == 1
