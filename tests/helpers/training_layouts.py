"""The training sets' folder layouts in miniature, and the flags for a network and stages that are as small."""

from pathlib import Path

from tests.helpers.layouts import write_frames, write_masks, write_text

SIZE = (40, 56)
FRAMES = range(6)

TINY_NETWORK = [
    *("--key_encoder", "resnet18", "--encoder_width", "8", "--key_dim", "8", "--value_dim", "16", "--hidden_dim", "8"),
    *("--decoder_dims", "16", "16", "16", "--sensory_update_dim", "8"),
]


def write_images(folder: Path, names: tuple[str, ...] = ("a", "b")) -> None:
    """X.jpg and X.png side by side."""
    write_frames(folder, names, SIZE)
    write_masks(folder, names, SIZE)


def write_video(images: Path, masks: Path, frames: range = FRAMES, labels: tuple[int, ...] = (1, 2)) -> None:
    write_frames(images, frames, SIZE)
    write_masks(masks, frames, SIZE, labels)


def write_videos(root: Path, names: tuple[str, ...] = ("own_a", "own_b"), inside: str = "") -> Path:
    """`{JPEGImages,Annotations}/V`, or with a folder between."""
    for name in names:
        write_video(root / "JPEGImages" / inside / name, root / "Annotations" / inside / name)
    return root


def write_davis(root: Path, names: tuple[str, ...] = ("bear", "bike")) -> Path:
    folder = root / "2017" / "trainval"
    write_videos(folder, names, "480p")
    write_text(folder / "ImageSets" / "2017" / "train.txt", "\n".join(names))
    return root


def write_training_sets(folder: Path) -> list[str]:
    """One of each, in the published layouts, and own videos; returns the flags that say where they are."""
    write_images(folder / "static" / "fss" / "cat")
    write_images(folder / "static" / "ecssd")
    write_videos(folder / "BL30K", ("b0", "b1"))
    write_videos(folder / "YouTube" / "train_480p", ("y0", "y1"))
    write_davis(folder / "DAVIS")
    write_videos(folder / "own")
    roots = {"static": "static", "bl": "BL30K", "yv": "YouTube", "davis": "DAVIS", "videos": "own"}
    return [word for name, place in roots.items() for word in (f"--{name}_root", str(folder / place))]


def tiny_stage(stage: str, **changes: object) -> list[str]:
    """Flags for a stage of two iterations of two clips, 32 pixels wide."""
    values = {"batch_size": 2, "iterations": 2, "crop": 32, "num_frames": 3, "num_ref_frames": 2} | changes
    return [word for name, value in values.items() for word in (f"--s{stage}_{name}", str(value))]
