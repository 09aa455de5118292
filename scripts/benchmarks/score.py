"""Time the scoring of 480p label maps, and a plain transcription of the definition that dilates whole frames."""

import argparse
import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dataset.label_map import read_label_map, write_label_map
from scoring.davis import find_sequences, score_sequences
from scoring.scores import Scores
from util.errors import UserError
from util.machine import available_cores

HEIGHT, WIDTH = 480, 854
OBJECTS = (1, 2)
FRAMES_PER_SEQUENCE = 70


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--frames", type=int, default=280, help="label maps to score (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: one per core")


def run(arguments: argparse.Namespace) -> None:
    """Time both in turn on the same generated files, and print the medians and the largest difference.

    Raises:
        UserError: a flag is below 1.
    """
    for flag in "frames", "repeats", "threads":
        if getattr(arguments, flag) < 1:
            raise UserError(f"--{flag} must be at least 1, not {getattr(arguments, flag)}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_sequences(root, arguments.frames)
        seconds: dict[str, list[float]] = {"this": [], "plain": []}
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            sequences = find_sequences(root / "truth", root / "prediction")
            scores = score_sequences(sequences, skip_first_and_last=False, threads=arguments.threads)
            seconds["this"].append(time.perf_counter() - start)

            start = time.perf_counter()
            with ThreadPoolExecutor(arguments.threads) as pool:
                plain = list(pool.map(plain_frame, sorted((root / "truth").glob("*/*.png"))))
            seconds["plain"].append(time.perf_counter() - start)
    difference = np.abs(per_frame(scores) - np.array(plain)).max()
    print(f"{arguments.frames} label maps of {WIDTH}×{HEIGHT}, {len(OBJECTS)} objects, {arguments.threads} threads")
    for name, times in seconds.items():
        print(f"{name:<6} {median(times):7.3f} s  ({', '.join(f'{value:.3f}' for value in times)})")
    print(f"ratio  {median(seconds['plain']) / median(seconds['this']):7.2f}    largest difference {difference:.1e}")


def write_sequences(root: Path, frames: int) -> None:
    """Write true label maps, S/FRAME.png, of objects that move and change shape, and slightly different predictions."""
    rng = np.random.default_rng(0)
    for start in range(0, frames, FRAMES_PER_SEQUENCE):
        paths = rng.uniform(0, 2 * math.pi, (len(OBJECTS), 8))
        for frame in range(start, min(start + FRAMES_PER_SEQUENCE, frames)):
            for kind, error in ("truth", 0.0), ("prediction", 1.0):
                path = root / kind / f"{start:05}" / f"{frame:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = error * rng.normal(0, 0.02, paths.shape)
                write_label_map(path, draw_objects(paths + noise, (frame - start) / FRAMES_PER_SEQUENCE))


def draw_objects(
    phases: Float64[np.ndarray, "objects 8"], progress: float, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> UInt8[np.ndarray, "height width"]:
    """Draw a label map of `size`; objects are closed curves with varying radii; `phases` set their motion and shape."""
    height, width = size
    labels = np.zeros(size, np.uint8)
    angles = np.linspace(0, 2 * math.pi, 200, endpoint=False)
    for label, (x, y, *wobble) in enumerate(phases, start=1):
        centre = (0.5 + 0.3 * math.sin(x + progress)) * width, (0.5 + 0.3 * math.sin(y + 2 * progress)) * height
        waves = sum(np.sin(k * angles + phase + 3 * progress) / k for k, phase in enumerate(wobble, start=1))
        radius = height * (0.2 + 0.04 * waves)
        outline = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
        cv2.fillPoly(labels, [outline.round().astype(np.int32)], label)
    return labels


def per_frame(scores: Scores) -> Float64[np.ndarray, "frames objects 2"]:
    """Return J and F of every frame, sequence after sequence."""
    sequences = [
        np.array([(score.values["J"], score.values["F"]) for score in sequence.objects.values()])
        for sequence in scores.sequences.values()
    ]
    return np.concatenate(sequences, axis=2).transpose(2, 0, 1)


def plain_frame(truth: Path) -> list[tuple[float, float]]:
    """Return (J, F) of each object of root/truth/S/FRAME.png against root/prediction/S/FRAME.png."""
    true_labels = read_label_map(truth).labels
    labels = read_label_map(truth.parents[2] / "prediction" / truth.parent.name / truth.name).labels
    return [plain_score(true_labels == label, labels == label) for label in OBJECTS]


def plain_score(
    truth: Bool[np.ndarray, "height width"], prediction: Bool[np.ndarray, "height width"]
) -> tuple[float, float]:
    """Return (J, F), 0 to 1, as they are defined: each boundary is dilated with a disk."""
    union = (truth | prediction).sum()
    j = (truth & prediction).sum() / union if union else 1.0
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    true_boundary, boundary = plain_boundary(truth), plain_boundary(prediction)
    true_count, count = true_boundary.sum(), boundary.sum()
    if true_count == 0 or count == 0:
        return float(j), float(true_count == count)
    precision = (boundary & cv2.dilate(true_boundary.astype(np.uint8), disk)).sum() / count
    recall = (true_boundary & cv2.dilate(boundary.astype(np.uint8), disk)).sum() / true_count
    return float(j), float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def plain_boundary(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the pixels that differ from their right, lower or lower right neighbour."""
    right, lower, diagonal = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1] = mask[:, 1:]
    lower[:-1] = mask[1:]
    diagonal[:-1, :-1] = mask[1:, 1:]
    # In the last row and column the diagonal neighbour is outside the image; the copies leave it equal to the pixel.
    return (mask ^ right) | (mask ^ lower) | (mask ^ diagonal)
