"""Made-up data in the layouts of LVOS, MOSEv2, VOST and SA-V, as they come out of their archives (`tests/parity`)."""

import json
import shutil
import zipfile
from pathlib import Path

from tests.helpers import REPOSITORY

PARITY = REPOSITORY / "tests" / "parity" / "benchmarks"


def unpack(name: str, folder: Path) -> tuple[Path, Path]:
    """Unpack lvos, vost, sav or mosev2; return the folders of ground truth and predictions."""
    with zipfile.ZipFile(PARITY / f"{name}.zip") as archive:
        archive.extractall(folder)
    return folder / "gt", folder / "pred"


def expected(name: str) -> dict:
    """What the public toolkit says of the predictions."""
    return json.loads((PARITY / "expected.json").read_text())[name]


def write_lvos(root: Path) -> Path:
    """LVOS with valid, as published, and a test of the same videos, which has label maps of starting objects alone."""
    gt, _ = unpack("lvos", root.with_name(f".{root.name}"))
    shutil.move(gt, root)
    shutil.copytree(root / "valid", root / "test")
    (root / "test" / "valid_meta.json").unlink()
    meta = json.loads((root / "valid" / "valid_meta.json").read_text())["videos"]
    for name, video in meta.items():
        starts = {f"{thing['frame_range']['start']:08d}" for thing in video["objects"].values()}
        for path in (root / "test" / "Annotations" / name).iterdir():
            if path.stem not in starts:
                path.unlink()
    return root


def write_mose2(root: Path) -> Path:
    """MOSEv2's valid, as published, with first label maps alone, and the meta file beside it."""
    gt, _ = unpack("mosev2", root.with_name(f".{root.name}"))
    shutil.move(gt, root)
    shutil.copy(gt.with_name("server") / "meta.json", root / "meta_valid.json")
    return root


def write_vost(root: Path) -> Path:
    """VOST, in the folder of its archive."""
    root.mkdir(parents=True)
    shutil.move(unpack("vost", root.with_name(f".{root.name}"))[0], root / "VOST")
    return root


def write_sav(root: Path) -> Path:
    """SA-V's validation, and the same as its test."""
    root.mkdir(parents=True)
    shutil.move(unpack("sav", root.with_name(f".{root.name}"))[0], root / "sav_val")
    shutil.copytree(root / "sav_val", root / "sav_test")
    (root / "sav_test" / "sav_val.txt").rename(root / "sav_test" / "sav_test.txt")
    return root
