"""Shared fixtures. Importing this module turns jaxtyping's annotations into checks for the whole test run."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Must run before any package of the project is imported: every annotated function then checks shapes and types.
install_import_hook(["model", "dataset", "inference", "evaluation", "scoring", "training", "util"], "beartype.beartype")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("XMEM_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"reference material is not there: {SHARED} (set XMEM_SHARED to its place)")
    return SHARED
