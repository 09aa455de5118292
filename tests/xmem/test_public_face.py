"""`import xmem`: whatever people bring gives the same result as the per-frame loop, or a message."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xmem
from inference.images import network_size, resize_channels, resize_label_map
from model.network import XMem
from tests.helpers import REPOSITORY
from tests.helpers.tiny_network import save_tiny_network, tiny_network

HEIGHT, WIDTH, FRAMES = 40, 64, 6


def made_up_frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    scene = Image.fromarray(rng.integers(0, 256, (8, 24, 3), np.uint8)).resize((2 * WIDTH, HEIGHT))
    return [np.array(scene.crop((2 * t, 0, 2 * t + WIDTH, HEIGHT))) for t in range(FRAMES)]


FRAMES_RGB = made_up_frames()
GREY = FRAMES_RGB[0][..., 0]
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[6:24, 8:30], MASK[20:36, 36:60] = 1, 7


@pytest.fixture(scope="module")
def network() -> XMem:
    return tiny_network()


@pytest.fixture(scope="module")
def expected(network) -> list[torch.Tensor]:
    """The probabilities that the per-frame loop gives at a shorter side of 32."""
    core, results = xmem.InferenceCore(network), []
    for number, rgb in enumerate(FRAMES_RGB):
        image = xmem.normalise_image(torch.from_numpy(rgb))
        size = network_size(HEIGHT, WIDTH, 32)
        mask = resize_label_map(torch.from_numpy(MASK), size) if number == 0 else None
        prob = core.step(resize_channels(image, size), mask, [1, 7] if number == 0 else None)
        results.append(resize_channels(prob, (HEIGHT, WIDTH)))
    return results


def assert_same(results: list[xmem.FrameResult], expected: list[torch.Tensor]) -> None:
    assert [result.number for result in results] == list(range(len(expected)))
    for result, prob in zip(results, expected, strict=True):
        assert torch.equal(result.prob, prob)
        assert torch.equal(result.labels, xmem.label_map_of(prob, [1, 7]))
        assert result.objects == [1, 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number, rgb in enumerate(FRAMES_RGB):
        Image.fromarray(rgb).save(folder / f"{number:05d}.png")
    return folder


@pytest.mark.parametrize(
    "as_frames",
    [
        lambda folder: folder,
        str,
        lambda _: FRAMES_RGB,
        lambda _: np.stack(FRAMES_RGB),
        lambda _: (Image.fromarray(rgb) for rgb in FRAMES_RGB),
        lambda _: [torch.from_numpy(rgb) for rgb in FRAMES_RGB],
        lambda _: torch.from_numpy(np.stack(FRAMES_RGB)).permute(0, 3, 1, 2),
        lambda _: [rgb[:, ::-1][:, ::-1] for rgb in FRAMES_RGB],
    ],
)
def test_frames_of_every_kind_give_the_same(network, expected, folder, as_frames):
    assert_same(list(xmem.segment_video(network, as_frames(folder), MASK, size=32)), expected)


def test_a_video_file(network, tmp_path):
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for rgb in FRAMES_RGB:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode())
    results = list(xmem.segment_video(network, tmp_path / "clip.mp4", MASK, size=32))
    assert [result.labels.shape for result in results] == [(HEIGHT, WIDTH)] * FRAMES


@pytest.mark.parametrize(
    "as_mask",
    [
        lambda path: path,
        str,
        lambda path: {0: path},
        lambda path: {0: MASK},
        lambda _: MASK.astype(np.int64),
        lambda _: MASK.astype(np.uint16),
        lambda _: torch.from_numpy(MASK),
        lambda _: Image.fromarray(MASK),
        lambda _: MASK.tolist(),
    ],
)
def test_masks_of_every_kind_give_the_same(network, expected, tmp_path, as_mask):
    xmem.write_label_map(tmp_path / "mask.png", MASK)
    assert_same(list(xmem.segment_video(network, FRAMES_RGB, as_mask(tmp_path / "mask.png"), size=32)), expected)


def test_objects_enter_and_are_corrected_at_any_frame(network):
    correction = np.where(MASK == 1, 1, 0)
    masks = {2: np.where(MASK == 7, 7, 0), 3: np.where(MASK == 1, 300, 0), 5: correction}
    results = list(xmem.segment_video(network, FRAMES_RGB, masks, size=-1))
    assert [result.objects for result in results] == [[], [], [7], [7, 300], [7, 300], [7, 300, 1]]
    assert not results[0].labels.any()
    assert torch.equal(results[0].prob, torch.ones(1, HEIGHT, WIDTH))
    assert set(results[3].labels.unique().tolist()) >= {0, 300}


def test_frames_are_read_one_at_a_time(network):
    read = []

    def frames():
        for number, rgb in enumerate(FRAMES_RGB):
            read.append(number)
            yield rgb

    results = xmem.segment_video(network, frames(), MASK, size=32)
    assert read == []
    next(results)
    assert read == [0]
    next(results)
    assert read == [0, 1]


def test_settings_reach_the_memory(network, expected):
    config = xmem.InferenceConfig.from_settings(mem_every=1, top_k=2)
    results = list(xmem.segment_video(network, FRAMES_RGB, MASK, size=32, config=config))
    assert not torch.equal(results[-1].prob, expected[-1])


def test_sparse_insertion_knows_how_long_the_video_is(network, folder):
    config = xmem.InferenceConfig.from_settings(insertion="sparse", max_memory_frames=2)
    for frames in (folder, FRAMES_RGB):
        assert len(list(xmem.segment_video(network, frames, MASK, size=32, config=config))) == FRAMES
    with pytest.raises(ValueError, match="how many frames there are"):
        xmem.segment_video(network, iter(FRAMES_RGB), MASK, size=32, config=config)


def test_images_are_turned_as_in_files(network, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(FRAMES_RGB[0])).save(tmp_path / "0.png", exif=exif)
    with Image.open(tmp_path / "0.png") as image:
        (turned,) = xmem.segment_video(network, [image], MASK, size=32)
    (expected,) = xmem.segment_video(network, FRAMES_RGB[:1], MASK, size=32)
    assert torch.equal(turned.prob, expected.prob)


def test_colours_are_labels_in_the_order_of_frames(network, tmp_path):
    paths = []
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        Image.fromarray((MASK == 1)[..., None] * np.array(colour, np.uint8)).save(tmp_path / f"{name}.png")
        paths.append(tmp_path / f"{name}.png")
    for masks in ({0: paths[0], 2: paths[1]}, {2: paths[1], 0: paths[0]}):
        results = list(xmem.segment_video(network, FRAMES_RGB[:3], masks, size=-1))
        assert [result.objects for result in results] == [[1], [1], [1, 2]]


@pytest.mark.parametrize("label", [2**31 - 1, 2**33])
def test_labels_may_be_large(network, label):
    (result,) = xmem.segment_video(network, FRAMES_RGB[:1], np.where(MASK == 1, label, 0), size=-1)
    assert set(result.labels.unique().tolist()) == {0, label}


@pytest.mark.parametrize("image", [FRAMES_RGB[0] / np.float32(255), GREY, FRAMES_RGB[0].transpose(2, 0, 1)])
def test_only_8_bit_rgb_is_normalised(image):
    for kind in (np.asarray, torch.from_numpy):
        with pytest.raises(ValueError, match="an image is 8-bit RGB of H×W×3, not torch"):
            xmem.normalise_image(kind(image))


def test_masks_beyond_the_end_are_reported(network, caplog):
    list(xmem.segment_video(network, FRAMES_RGB[:2], {0: MASK, 9: MASK}, size=32))
    assert "the video has 2 frames: masks of the frames [9] were not used" in caplog.text


@pytest.mark.parametrize(
    ("frames", "mask", "complaint"),
    [
        ([GREY], MASK, "frame 0 is torch.uint8 of 40×64"),
        ([FRAMES_RGB[0] / 255], MASK, "frame 0 is torch.float64 of 40×64×3"),
        ([np.dstack([FRAMES_RGB[0], GREY])], MASK, "frame 0 is torch.uint8 of 40×64×4"),
        (3, MASK, "not a int"),
        (["0.png", "1.png"], MASK, "frame 0 is a str"),
        ([FRAMES_RGB[0], None], MASK, "frame 1 is a NoneType"),
        (FRAMES_RGB, None, r"not a NoneType \(frame 0\)"),
        (FRAMES_RGB, MASK[:20], r"the mask of frame 0 is \(20, 64\), but the frame \(40, 64\)"),
        (FRAMES_RGB, MASK / 7, "that of frame 0 is float64"),
        (FRAMES_RGB, MASK[None], r"that of frame 0 is uint8 \(1, 40, 64\)"),
        (FRAMES_RGB, -MASK.astype(int), "labels must be positive"),
        (FRAMES_RGB, {}, "there is no mask"),
        (FRAMES_RGB, {-1: MASK}, "not by -1"),
        (FRAMES_RGB, {"00000": MASK}, "not by '00000'"),
        ([FRAMES_RGB[0], FRAMES_RGB[1][:, :32]], MASK, "frames of one video have one size"),
        (FRAMES_RGB, 0 * MASK, "the mask of frame 0 holds no object"),
        ([Image.fromarray(GREY.astype(np.uint16))], MASK, "frame 0 has more than 8 bits per pixel of grey"),
    ],
)
def test_what_does_not_fit_is_a_value_error(network, frames, mask, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(xmem.segment_video(network, frames, mask, size=32))


@pytest.mark.parametrize("size", [0, 1, -5])
def test_a_size_that_is_none_is_refused(network, size):
    with pytest.raises(ValueError, match=f"size must be at least 16 pixels, or -1 for the own size, not {size}"):
        xmem.segment_video(network, FRAMES_RGB, MASK, size=size)


def test_files_that_are_not_there_are_named(network, tmp_path):
    for frames, mask in ((tmp_path / "clip.mp4", MASK), (FRAMES_RGB, tmp_path / "mask.png")):
        with pytest.raises(xmem.UserError, match=str(tmp_path)):
            list(xmem.segment_video(network, frames, mask))
    with pytest.raises(xmem.UserError, match="is a folder without frames"):
        list(xmem.segment_video(network, tmp_path, MASK))
    with pytest.raises(xmem.UserError, match="download_models"):
        xmem.load_network(tmp_path / "XMem.pth")


def test_a_network_is_loaded_onto_a_device(tmp_path):
    network = xmem.load_network(str(save_tiny_network(tmp_path / "tiny.pth")), device="cpu")
    assert next(network.parameters()).device == torch.device("cpu")
    assert not network.training
    with pytest.raises(ValueError, match="device abacus: choose auto"):
        xmem.load_network(tmp_path / "tiny.pth", device="abacus")


def test_torch_hub_offers_the_same(tmp_path):
    program = (
        "import sys, torch\n"
        "network = torch.hub.load(sys.argv[1], 'load_network', source='local', file=sys.argv[2], device='cpu')\n"
        "frames = torch.zeros(2, 32, 48, 3, dtype=torch.uint8)\n"
        "mask = torch.ones(32, 48, dtype=torch.uint8)\n"
        "results = torch.hub.load(sys.argv[1], 'segment_video', network, frames, mask, source='local')\n"
        "print(len(list(results)))\n"
    )
    model = save_tiny_network(tmp_path / "tiny.pth")
    command = [sys.executable, "-c", program, str(REPOSITORY), str(model)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.stdout == "2\n", finished.stderr


def test_another_package_of_the_same_name_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("")
    program = f"import sys; sys.path.append({str(REPOSITORY)!r}); import xmem"
    finished = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert f"ImportError: xmem needs its own package 'model', but {tmp_path}/model is found first" in finished.stderr


def test_results_that_are_not_finite_are_an_error():
    network = tiny_network()
    with torch.no_grad():
        network.key_encoder.conv1.weight.fill_(1e38)  # finite, but not what it is multiplied with
    with pytest.raises(
        xmem.UserError, match=r"results are not finite numbers, found at frame \d: its activations overfl"
    ):
        list(xmem.segment_video(network, FRAMES_RGB, MASK, size=32))
