"""Random changes to a clip and its masks, as in section 4: some the same in all frames, some different in each.

Crop, scale, flip, rotation and shear of a frame are one warp, its mask's alike. Brightness, contrast, saturation and
grey are one affine map of RGB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from scipy.interpolate import RBFInterpolator
from torch import Tensor

UNCOVERED_COLOUR = (124, 116, 104)
"""The mean colour of ImageNet; it fills what the image does not cover."""

GREY = np.array([0.2989, 0.587, 0.114])
"""Shares of red, green and blue in the brightness of a pixel."""
GREY_SHARE = 0.05
"""Share of the clips that are grey."""

SCALES_OF_PASSING = (0.5, 4.0)
"""Range of the factor by which an object that passes another one is scaled."""

CONTROL_POINTS = 12
SPLINE_DEVIATION = 0.02
GRID_CELLS = 48

Picture = UInt8[np.ndarray, "_ _ 3"]
LabelMap = UInt8[np.ndarray, "_ _"]
Size = tuple[int, int]
"""Height and width in pixels."""
Clip = tuple[UInt8[Tensor, "frames 3 size size"], UInt8[Tensor, "frames size size"]]


class VideoAugmentation:
    """Augmentation of videos: crop, flip and colours are the same in all frames, small shifts differ in each.

    Args:
        size: side of the square crop, in pixels.
        smallest_crop: smallest share of the frame's area that a crop keeps.
        frame_affine: rotate and shear every frame differently.
        colour_jitter: c widens the ranges of section 4: brightness, contrast and saturation of a clip by ± c, and those
            of each single frame by ± c / 5. The hue is shifted by up to ± c / 4 of the colour circle.
    """

    def __init__(
        self, size: int, smallest_crop: float = 0.36, frame_affine: bool = True, colour_jitter: float = 0.0
    ) -> None:
        self.size, self.smallest_crop, self.frame_affine = size, smallest_crop, frame_affine
        self.colour_jitter = colour_jitter

    def __call__(
        self,
        images: Sequence[UInt8[np.ndarray, "height width 3"]],
        labels: UInt8[np.ndarray, "frames height width"],
        rng: np.random.Generator,
    ) -> Clip:
        """Return the clip and its label maps, transformed alike."""
        rows, columns = random_crop(rng, labels.shape[1], labels.shape[2], self.smallest_crop)
        size = (self.size, self.size)
        placed = scaled((rows.stop - rows.start, columns.stop - columns.start), size)
        if rng.random() < 0.5:
            placed = flipped(self.size) @ placed
        more = self.colour_jitter
        colours = random_colours(rng, 0.1 + more, 0.03 + more, 0.03 + more, hue=more / 4)
        is_grey, of_frame = rng.random() < GREY_SHARE, 0.01 + more / 5
        frames = []
        for image, mask in zip(images, labels, strict=True):
            matrix = about(size, random_turn(rng, 15.0, shear=10.0)) @ placed if self.frame_affine else placed
            coloured = colours.apply(softened(image[rows, columns], size, 1.1, 0.6 * self.frame_affine), is_grey)
            picture, moved = warped(coloured, mask[rows, columns], matrix, size, fill=self.frame_affine)
            frames.append((random_colours(rng, of_frame, of_frame, of_frame).apply(picture), moved))
        return stacked(frames)


def pasted_onto(
    clip: Clip, upper: Clip, label: int, new_label: int
) -> tuple[UInt8[Tensor, "frames 3 size size"], UInt8[Tensor, "frames size size"]]:
    """Return a clip with an object of the clip `upper` in front of everything else.

    Args:
        label: the object's label in `upper`; its edge is softened over two pixels.
        new_label: its label in the result.
    """
    (images, labels), (pictures, masks) = clip, upper
    is_object = masks == label
    opacity = np.stack([cv2.GaussianBlur(mask, (3, 3), 0) for mask in 255 * is_object.numpy().astype(np.uint8)])
    share = torch.from_numpy(opacity)[:, None].float() / 255
    mixed = (share * pictures + (1 - share) * images).round().to(torch.uint8)
    return mixed, torch.where(is_object, torch.tensor(new_label, dtype=torch.uint8), labels)


def moved_past(upper: Clip, label: int, clip: Clip, hidden: int, rng: np.random.Generator) -> Clip:
    """Return the clip `upper`, moved and scaled so that its object passes an object of `clip` and hides it for a while.

    It comes straight from beside the other, covers it in one to five frames, and goes on.

    Args:
        label: the label of the object that passes, in `upper`.
        hidden: the label of the other object, in `clip`.
    """
    pictures, masks = upper[0].permute(0, 2, 3, 1).numpy(), (upper[1] == label).numpy().astype(np.uint8)
    others = (clip[1] == hidden).numpy().astype(np.uint8)
    frames, size = len(masks), masks.shape[1:]
    meetings = [number for number in range(1, frames - 1) if masks[number].any() and others[number].any()]
    if not meetings:
        return upper
    meeting = meetings[int(rng.integers(len(meetings)))]
    target, radius = enclosing_circle(others[meeting])
    radius += 0.5  # to the pixels' edges
    centre, inner_radius = inscribed_circle(masks[meeting])
    scale = float(np.clip(rng.uniform(1, 2) * radius / inner_radius, *SCALES_OF_PASSING))
    angle, dwell = rng.choice([0, np.pi]) + rng.normal(0, 0.5), int(rng.integers(3))
    way = radius + scale * (enclosing_circle(masks[meeting])[1] + 0.5)
    step = rng.uniform(0.7, 1.3) * way / max(1, min(meeting, frames - 1 - meeting) - dwell)
    within = centre - centroid(masks[meeting])  # where its thickest place is
    moved = []
    for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        offset = np.sign(number - meeting) * max(0, abs(number - meeting) - dwell) * step
        place = target + offset * np.array([np.cos(angle), np.sin(angle)])
        shown = centroid(mask) + within if mask.any() else centre
        matrix = np.array([[scale, 0, place[0] - scale * shown[0]], [0, scale, place[1] - scale * shown[1]], [0, 0, 1]])
        picture, edge = warped(picture, mask, matrix, size)[0], cv2.warpAffine(255 * mask, matrix[:2], size[::-1])
        moved.append((picture, np.where(edge > 127, np.uint8(label), np.uint8(0))))  # smooth also where it is enlarged
    return stacked(moved)


def enclosing_circle(mask: UInt8[np.ndarray, "height width"]) -> tuple[Float64[np.ndarray, "2"], float]:
    """Return the middle (x, y) and the radius of the smallest circle around a mask's pixels, in pixels."""
    centre, radius = cv2.minEnclosingCircle(cv2.findNonZero(mask))
    return np.array(centre), radius


def inscribed_circle(mask: UInt8[np.ndarray, "height width"]) -> tuple[Float64[np.ndarray, "2"], float]:
    """Return the middle (x, y) and the radius of a largest circle within a mask, in pixels."""
    _, radius, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    return np.array([x, y], float), radius


def centroid(mask: UInt8[np.ndarray, "height width"]) -> Float64[np.ndarray, "2"]:
    """Return the mean place (x, y) of a mask's pixels."""
    return np.array(np.nonzero(mask)[::-1]).mean(axis=1)


class ImageAugmentation:
    """Augmentation in stage 0: a clip from one image, in which every frame is another view of it, some of them warped.

    Args:
        size: side of the square frames, in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Picture, labels: LabelMap, num_frames: int, rng: np.random.Generator) -> Clip:
        """Return `num_frames` views of the image with their label maps."""
        scale = self.size / min(labels.shape)
        height, width = (max(self.size, round(scale * side)) for side in labels.shape)
        size = (height, width)
        matrix = about(size, rng.uniform(0.8, 1.5) * np.eye(2)) @ scaled((labels.shape[0], labels.shape[1]), size)
        if rng.random() < 0.5:
            matrix = flipped(width) @ matrix
        image, labels = warped(softened(image, size, 0.83), labels, matrix, size, cv2.INTER_CUBIC)
        image = random_colours(rng, 0.1, 0.05, 0.05, hue=0.05).apply(image, rng.random() < GREY_SHARE)
        return stacked([self.view(image, labels, rng) for _ in range(num_frames)])

    def view(self, image: Picture, labels: LabelMap, rng: np.random.Generator) -> tuple[Picture, LabelMap]:
        """Return one of the largest squares of the image, rotated, sheared and scaled, and in every third case bent."""
        height, width = labels.shape
        turn = random_turn(rng, 20.0, shear=10.0) * rng.uniform(0.9, 1.1)
        top, left = (int(rng.integers(side - self.size + 1)) for side in (height, width))
        matrix = shifted(-left, -top) @ about((height, width), turn)
        picture, shown = warped(image, labels, matrix, (self.size, self.size), cv2.INTER_CUBIC)
        picture = random_colours(rng, 0.1, 0.05, 0.05).apply(picture)
        return bent(picture, shown, rng) if rng.random() < 1 / 3 else (picture, shown)


def stacked(frames: list[tuple[Picture, LabelMap]]) -> Clip:
    """Return frames and their label maps as tensors."""
    shape = (len(frames), *frames[0][1].shape)
    images, masks = np.empty((shape[0], 3, *shape[1:]), np.uint8), np.empty(shape, np.uint8)
    for index, (picture, mask) in enumerate(frames):
        cv2.split(picture, list(images[index]))
        masks[index] = mask
    return torch.from_numpy(images), torch.from_numpy(masks)


# --- Geometry ---------------------------------------------------------------------------------------------------------


def random_crop(rng: np.random.Generator, height: int, width: int, smallest: float) -> tuple[slice, slice]:
    """Draw the rows and columns of a crop: its share of the area from `smallest` to 1, its aspect from 3:4 to 4:3.

    Where ten draws do not fit into the image, it is the largest part in the middle whose aspect is allowed.
    """
    for _ in range(10):
        area, aspect = height * width * rng.uniform(smallest, 1), math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top, left = int(rng.integers(height - crop_height + 1)), int(rng.integers(width - crop_width + 1))
            return slice(top, top + crop_height), slice(left, left + crop_width)
    crop_height, crop_width = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return slice(top, top + crop_height), slice(left, left + crop_width)


def random_turn(rng: np.random.Generator, degrees: float, shear: float) -> Float64[np.ndarray, "2 2"]:
    """Draw a rotation of a horizontally sheared picture; both angles, in degrees, lie within ± these."""
    angle, slope = math.radians(rng.uniform(-degrees, degrees)), math.tan(math.radians(rng.uniform(-shear, shear)))
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, -slope], [0, 1]])


def about(size: Size, turn: Float64[np.ndarray, "2 2"]) -> Float64[np.ndarray, "3 3"]:
    """Return the map of pixels that applies `turn` about the middle of a picture."""
    middle = (np.array(size[::-1]) - 1) / 2
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, middle - turn @ middle
    return matrix


def flipped(width: int) -> Float64[np.ndarray, "3 3"]:
    """Return the map of pixels that exchanges left and right."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def shifted(x: int, y: int) -> Float64[np.ndarray, "3 3"]:
    """Return the map of pixels that moves them by (x, y)."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def scaled(old: Size, new: Size) -> Float64[np.ndarray, "3 3"]:
    """Return the map of pixels that scales a picture from one size to another."""
    y, x = new[0] / old[0], new[1] / old[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def softened(image: Picture, size: Size, width: float, later: float = 0.0) -> Picture:
    """Blur a picture before it is sampled at a smaller size, so that it does not alias.

    With the widths used here, pictures are as sharp as torchvision's, which are resized and warped one after the other.

    Args:
        size: at which it will be sampled, with linear interpolation.
        width: half width of the triangle filter that this stands for, in pixels of the new size.
        later: half width of a second one, for the warp that follows.
    """
    down, across = (
        math.sqrt(max(0, (width * max(1, old / new)) ** 2 + (later * old / new) ** 2 - 1) / 6)
        for old, new in zip(image.shape[:2], size, strict=True)
    )
    return cv2.GaussianBlur(image, (0, 0), max(across, 0.01), sigmaY=max(down, 0.01)) if max(across, down) else image


def warped(
    image: Picture,
    mask: LabelMap,
    matrix: Float64[np.ndarray, "3 3"],
    size: Size,
    interpolation: int = cv2.INTER_LINEAR,
    fill: bool = True,
) -> tuple[Picture, LabelMap]:
    """Move the pixels of a picture and its mask by a matrix.

    Args:
        size: of the result.
        fill: what is uncovered has the mean colour, and no label; else the border is continued.
    """
    border, shape = cv2.BORDER_CONSTANT if fill else cv2.BORDER_REPLICATE, size[::-1]
    moved = cv2.warpAffine(
        image, matrix[:2], shape, flags=interpolation, borderMode=border, borderValue=UNCOVERED_COLOUR
    )
    return moved, cv2.warpAffine(mask, matrix[:2], shape, flags=cv2.INTER_NEAREST, borderMode=border)


def bent(
    image: Picture, mask: LabelMap, rng: np.random.Generator, deviation: float = SPLINE_DEVIATION
) -> tuple[Picture, LabelMap]:
    """Bend a picture and its mask by a thin-plate spline, which moves 12 random points.

    Args:
        deviation: standard deviation of their displacement, as a share of the sides.
    """
    points = rng.random((CONTROL_POINTS, 2))
    targets = points + deviation * rng.standard_normal((CONTROL_POINTS, 2))
    source = spline_map(points, targets, mask.shape)
    picture = cv2.remap(image, source, None, cv2.INTER_CUBIC, borderValue=UNCOVERED_COLOUR)
    return picture, cv2.remap(mask, source, None, cv2.INTER_NEAREST)


def spline_map(
    points: Float64[np.ndarray, "points 2"], targets: Float64[np.ndarray, "points 2"], shape: tuple[int, int]
) -> Float32[np.ndarray, "height width 2"]:
    """Return, for every pixel, the column and row of its source under a thin-plate spline from points to targets.

    `points` and `targets` are shares of (width, height). The spline is computed on a coarse grid and interpolated: an
    error of less than a pixel in a shift of eight.
    """
    height, width = shape
    spline = RBFInterpolator(targets, points - targets, kernel="thin_plate_spline")
    # The centres of the grid's cells, as cv2.resize places them.
    along = (np.arange(GRID_CELLS) + 0.5) / GRID_CELLS
    grid = np.stack(np.meshgrid(along, along), axis=-1)
    shift = spline(grid.reshape(-1, 2)).reshape(grid.shape).astype(np.float32) * np.array([width, height], np.float32)
    shift = cv2.resize(shift, (width, height), interpolation=cv2.INTER_CUBIC)
    return shift + np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


# --- Colours ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Colours:
    """A change of colours: factors of brightness, contrast and saturation, in their order, and a shift of the hue."""

    factors: tuple[tuple[str, float], ...]
    hue: float = 0.0
    """As a share of the circle."""

    def apply(self, image: Picture, is_grey: bool = False) -> Picture:
        """Return the picture with these colours, or with greys alone."""
        mean = np.array(cv2.mean(image)[:3])
        affine = np.eye(3, 4)
        for name, factor in self.factors:
            affine *= factor
            if name == "contrast":
                affine[:, 3] += (1 - factor) / factor * GREY @ (affine @ [*mean, 1])
            elif name == "saturation":
                affine += (1 - factor) / factor * GREY @ affine
        if is_grey:
            affine[:] = GREY @ affine
        changed = cv2.transform(image, affine)
        return changed if is_grey or not self.hue else with_hue(changed, self.hue)


def random_colours(
    rng: np.random.Generator, brightness: float, contrast: float, saturation: float, hue: float = 0.0
) -> Colours:
    """Draw factors from 1 ± these, to be applied in random order, and a shift of the hue from 0 ± `hue`."""
    widths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    names = rng.permutation(list(widths)).tolist()
    factors = tuple((name, rng.uniform(1 - widths[name], 1 + widths[name])) for name in names)
    return Colours(factors, rng.uniform(-hue, hue))


def with_hue(image: Picture, shift: float) -> Picture:
    """Return the picture with its hues shifted along a share of the circle."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(256 * shift) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
