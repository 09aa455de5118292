"""Make the picture at the top of README.md: the example clip's frames with their true masks painted over them.

python -m scripts.make_readme_picture
"""

from pathlib import Path

from PIL import Image

from dataset.frames import read_frame
from dataset.label_map import read_label_map
from evaluation.overlay import overlay_masks

REPOSITORY = Path(__file__).resolve().parent.parent
CLIP = REPOSITORY / "examples" / "crossing"
TARGET = REPOSITORY / "docs" / "images" / "crossing.webp"
MOMENTS = ("00000", "00020", "00027", "00053")
GAP = 8


def main() -> None:
    """Paint the moments side by side, with gaps that let the page's own background through."""
    strip: list[Image.Image] = []
    for name in MOMENTS:
        frame = read_frame(CLIP / "JPEGImages" / "crossing" / f"{name}.jpg")
        label_map = read_label_map(CLIP / "Annotations" / "crossing" / f"{name}.png")
        strip.append(Image.fromarray(overlay_masks(frame.rgb, label_map.labels)))
    width, height = strip[0].size
    picture = Image.new("RGBA", (len(strip) * (width + GAP) - GAP, height), (0, 0, 0, 0))
    for column, image in enumerate(strip):
        picture.paste(image, (column * (width + GAP), 0))
    picture.save(TARGET, quality=80, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
