"""A person who annotates videos by clicks, follows, and corrects at most three frames: J&F of what is then exported.

The person is simulated, and knows the true masks: clicks go to the middle of the largest region that is wrong, and the
frame that is corrected is the one with the lowest intersection over union. From there it is followed both ways, halfway
to the next annotated frames: beyond, these are nearer.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from dataset.label_map import read_label_map, write_label_map
from dataset.random_access import FolderAccess
from dataset.registry import DATA_SETS
from evaluation import networks
from interactive.exports import Exports
from interactive.segmenters import SEGMENTERS, open_segmenter
from interactive.session import Session
from interactive.workspace import EXPORTS, Workspace
from scoring.davis import find_sequences, score_sequences
from scoring.measures import region_similarity
from scripts.benchmarks.clicks import next_click
from util.device import choose_device, hardware_name
from util.errors import UserError

VIDEOS = ("car-roundabout", "goat")
"""Videos of DAVIS that neither bundled network was trained on; settings of both were chosen by them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument(
        "--davis_root", type=Path, default=DATA_SETS["D16"].default_root, help="DAVIS 2016 (%(default)s)"
    )
    parser.add_argument("--videos", nargs="+", default=VIDEOS, help=f"({' '.join(VIDEOS)})")
    parser.add_argument("--segmenter", choices=SEGMENTERS, default="network", help="(%(default)s)")
    parser.add_argument("--corrections", type=int, default=3, help="frames that are corrected at most (%(default)s)")
    parser.add_argument("--clicks", type=int, default=6, help="clicks in a frame at most (%(default)s)")
    parser.add_argument("--wanted", type=float, default=0.9, help="intersection over union that ends the clicks")
    parser.add_argument("--size", type=int, help="shorter side at which frames are followed (the network's)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")


def run(arguments: argparse.Namespace) -> None:
    """Print a table.

    Raises:
        UserError: a video is missing, or the network.
    """
    device = choose_device(arguments.device)
    print(f"{hardware_name(device)}\n\n| video | by | corrected frames | clicks | J&F | J | F |")
    print("|---|---|---|---:|---:|---:|---:|")
    for video in arguments.videos:
        with tempfile.TemporaryDirectory() as folder:
            annotate(Path(folder), video, arguments)


def annotate(folder: Path, video: str, arguments: argparse.Namespace) -> None:
    """Annotate a video, and print a row after the first mask and after each correction."""
    root, device = arguments.davis_root, choose_device(arguments.device)
    frames = FolderAccess(root / "JPEGImages" / "480p" / video)
    truths = [read_label_map(root / "Annotations" / "480p" / video / f"{frames.name_of(n)}.png").labels > 0
              for n in range(frames.count)]  # fmt: skip
    file = networks.read_network_file(networks.default_network_file())
    network = networks.build_network(file, device).for_inference()
    workspace = Workspace(folder / "workspace", frames)
    segmenter = open_segmenter(arguments.segmenter, None, device)
    session = Session(
        frames,
        workspace,
        network,
        {arguments.segmenter: lambda: segmenter},
        arguments.size or networks.intended_size(file),
    )
    exports = Exports(session)
    label = session.add_object(video)
    clicks = click_through(session, 0, label, truths[0], arguments)
    session.follow(0, "forward", "end")
    session.wait()
    corrected: list[int] = []
    report(folder, video, session, exports, truths, corrected, clicks)
    for _ in range(arguments.corrections):
        ious = [region_similarity(truth, session.labels(number) == label) for number, truth in enumerate(truths)]
        worst = int(np.argmin([2.0 if number in (0, *corrected) else iou for number, iou in enumerate(ious)]))
        corrected.append(worst)
        clicks += click_through(session, worst, label, truths[worst], arguments)
        session.confirm(worst)
        with suppress(UserError):  # where the frames beside it were corrected before, there is nothing to follow
            session.follow(worst, "both", "halfway")
        session.wait()
        report(folder, video, session, exports, truths, corrected, clicks)
    exports.close()
    session.close()


def click_through(
    session: Session, frame: int, label: int, truth: Bool[np.ndarray, "height width"], arguments: argparse.Namespace
) -> int:
    """Click until the mask is as good as is wanted, and return the number of clicks."""
    for count in range(arguments.clicks):
        mask = session.labels(frame) == label
        click = next_click(truth, mask)
        if click is None or region_similarity(truth, mask) >= arguments.wanted:
            return count
        session.click(frame, label, click.x + 0.5, click.y + 0.5, click.positive)
    return int(arguments.clicks)


def report(
    folder: Path,
    video: str,
    session: Session,
    exports: Exports,
    truths: Sequence[Bool[np.ndarray, "height width"]],
    corrected: Sequence[int],
    clicks: int,
) -> None:
    """Export the masks, score what was exported as DAVIS 2016 is, and print it."""
    name = exports.start("davis")
    exports.wait()
    if (error := {each.name: each.error for each in exports.listed()}[name]) is not None:
        raise UserError(error)
    exported = session.workspace.folder / EXPORTS / name / "Annotations" / "480p"
    true = folder / "truth" / video
    if not true.is_dir():
        true.mkdir(parents=True)
        for number, truth in enumerate(truths):
            labels: UInt8[np.ndarray, "height width"] = truth.astype(np.uint8)
            write_label_map(true / f"{session.video.name_of(number)}.png", labels)
    figures = score_sequences(find_sequences(true.parent, exported)).figures
    shown = ", ".join(map(str, corrected)) or "none"
    values = " | ".join(f"{figures[each]:.1f}" for each in ("J&F", "J", "F"))
    print(f"| {video} | {session.segmenter_name} | {shown} | {clicks} | {values} |", flush=True)
