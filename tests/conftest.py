"""Shared fixtures. Importing this module turns jaxtyping's annotations into checks for the whole test run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

# One thread a process, as torchrun has it, also in the programs that tests start: with several, sums differ in the last
# bit from run to run. Before torch is imported, which reads it once.
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import pytest
from jaxtyping import install_import_hook

from tests.helpers import REPOSITORY

# Nor threads of OpenCV, which a process that is forked would wait for in vain.
cv2.setNumThreads(0)

# Must run before any package of the project is imported: every annotated function then checks shapes and types.
PACKAGES = ["dataset", "evaluation", "inference", "interactive", "model", "reproduction", "scoring", "training"]
PACKAGES += ["util", "xmem"]
install_import_hook(PACKAGES, "beartype.beartype")

# Shells start background jobs with SIGINT ignored, and children inherit that, also those that are to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("XMEM_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"reference material is not there: {SHARED} (set XMEM_SHARED to its place)")
    return SHARED


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for runs of whole programs, which takes milliseconds a frame."""
    from tests.helpers.tiny_network import save_tiny_network  # after the import hook

    return save_tiny_network(tmp_path_factory.mktemp("network") / "tiny.pth")


@pytest.fixture
def evaluate(network_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs eval.py with flags; returns its output folder. It has to succeed."""

    import eval as program  # after the import hook

    def run(*flags: object, output: str = "output") -> Path:
        default = ["--output", tmp_path / output, "--model", network_file, "--device", "cpu"]
        assert program.main([str(flag) for flag in (*default, *flags)]) == 0
        return tmp_path / output

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that parallel processes end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
