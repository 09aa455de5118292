"""What tests share: where things lie, miniature data sets, tiny networks, and programs that tests start."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
