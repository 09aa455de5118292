"""Synthetic clips: labels lie where objects are seen, near things hide far ones, and no two samples look alike."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.sampling import SamplingConfig
from dataset.synthetic.clips import LEAST_SHARE, SyntheticClips
from dataset.synthetic.motion import Path, Pose, Waves, random_path, random_waves
from dataset.synthetic.scene import Layer, Look, Scene, line_kernel, visible_region
from dataset.synthetic.silhouettes import KINDS, capsule, silhouette
from dataset.synthetic.sprites import Part, Sprite, cut_out, over, random_sprite
from dataset.synthetic.textures import PATTERN_KINDS, PATTERN_SIZE, TextureBank, palette
from dataset.training_sets import ImageWithMask
from util.errors import UserError

PLAIN = Look(np.ones((2, 3, 3, 3), np.float32), 0.01, False, 0.0, 0.0, None, motion_blur=False)
STILL_WAVES = Waves(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(1), np.zeros(1))


@pytest.fixture(scope="module")
def source() -> SyntheticClips:
    return SyntheticClips(SamplingConfig(seed=7, stage="s", num_frames=3, size=64))


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(np.random.SeedSequence(0), count=len(PATTERN_KINDS))


def straight(x: float = 0.5, y: float = 0.5, side: float = 0.5, velocity: tuple[float, float] = (0, 0)) -> Pose:
    """In the picture's sides; `velocity` per frame."""
    start = np.array([x, y, np.log(side), 0.0, 0.0])
    speed = np.array([*velocity, 0.0, 0.0, 0.0])
    return Pose(Path(start, speed, np.full(5, 100.0), np.zeros(5), np.zeros(5), np.zeros(5)))


def square_sprite(colour: tuple[int, int, int], size: int = 48, waves: Waves = STILL_WAVES) -> Sprite:
    """A square of half the canvas' side."""
    coverage = np.zeros((size, size), np.uint8)
    coverage[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 255
    texture = np.broadcast_to(np.uint8(colour), (size, size, 3)).copy()
    return Sprite((Part(texture, coverage, np.full(2, size / 2)),), waves)


def scene(*layers: Layer, size: int = 96) -> Scene:
    """Layers before black."""
    return Scene(
        size, np.zeros((size, size, 3), np.uint8), straight(side=1), None, straight(side=1), tuple(layers), PLAIN
    )


RNG = np.random.default_rng(0)


# --- Scenes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waves", [STILL_WAVES, random_waves(np.random.default_rng(3), 0.03)])
def test_labels_lie_where_the_object_is_seen(waves):
    layer = Layer(square_sprite((255, 255, 255), waves=waves), straight(side=0.8, velocity=(0.02, 0.01)), label=1)
    for moment in (0.0, 4.0, -4.0):
        picture, labels = scene(layer).render(moment, RNG)
        assert (labels == 1).mean() > 0.1
        np.testing.assert_array_equal(picture[..., 0] > 127, labels == 1)


def test_objects_go_where_their_path_says():
    layer = Layer(square_sprite((255, 255, 255)), straight(0.4, 0.5, velocity=(0.02, -0.01)), label=2)
    _, labels = scene(layer).render(5.0, RNG)
    rows, columns = np.nonzero(labels == 2)
    # 96 (0.4 + 5 · 0.02) and 96 (0.5 − 5 · 0.01), counted in pixels' centres.
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((48, 43.2), abs=0.3)
    # The square is half of a canvas of half the picture.
    assert len(rows) == pytest.approx(24**2, rel=0.1)


def test_near_things_hide_far_ones_labelled_or_not():
    far = Layer(square_sprite((255, 0, 0)), straight(side=0.8), label=1)
    near = Layer(square_sprite((0, 255, 0)), straight(side=0.4), label=2)
    distractor = replace(near, label=0)
    picture, labels = scene(far, near).render(0.0, RNG)
    assert set(np.unique(labels)) == {0, 1, 2}
    # But for mixed pixels along the border.
    assert (picture[labels == 2] == [0, 255, 0]).all(axis=1).mean() > 0.75
    assert (picture[labels == 1] == [255, 0, 0]).all(axis=1).mean() > 0.75
    _, hidden = scene(far, distractor).render(0.0, RNG)
    np.testing.assert_array_equal(hidden, np.where(labels == 2, 0, labels))
    _, covered = scene(near, far).render(0.0, RNG)
    assert set(np.unique(covered)) == {0, 1}


def test_an_object_outside_the_picture_is_not_seen():
    picture, labels = scene(Layer(square_sprite((255, 0, 0)), straight(x=3.0), label=1)).render(0.0, RNG)
    assert not labels.any()
    assert not picture.any()


def test_a_shadow_darkens_the_background_and_has_no_label():
    bright = replace(scene(), background=np.full((96, 96, 3), 200, np.uint8))
    layer = Layer(square_sprite((255, 0, 0)), straight(), label=1, shadow=0.5)
    picture, labels = replace(bright, layers=(layer,)).render(0.0, RNG)
    background = picture[labels == 0][:, 1]
    assert background.min() < 130
    assert np.median(background) == 200
    _, without = replace(bright, layers=(replace(layer, shadow=0.0),)).render(0.0, RNG)
    np.testing.assert_array_equal(labels, without)


def test_motion_blurs_along_the_way_and_leaves_labels():
    moving = scene(Layer(square_sprite((255, 255, 255)), straight(velocity=(0.1, 0)), label=1))
    sharp, labels = moving.render(0.0, RNG)
    blurred, same = replace(moving, look=replace(PLAIN, motion_blur=True)).render(0.0, RNG)
    assert (labels != same).sum() <= 24
    between = [((one > 20) & (one < 235)).any(axis=2) for one in (sharp, blurred)]
    # 4.8 pixels along x, in each of 24 rows, at both sides; nothing along y.
    assert between[1].sum() - between[0].sum() > 24 * 4
    assert between[1].any(axis=1).sum() <= 26


def test_the_camera_moves_everything():
    still = scene(Layer(square_sprite((255, 255, 255)), straight(), label=1))
    panned = replace(still, camera=straight(velocity=(0.05, 0), side=1))
    assert np.array_equal(panned.render(0.0, RNG)[1], still.render(0.0, RNG)[1])
    shifted = np.roll(still.render(2.0, RNG)[1], round(96 * 0.1), axis=1)
    assert (panned.render(2.0, RNG)[1] != shifted).mean() < 0.01


@pytest.mark.parametrize(
    "fault", [{"noise": 5.0}, {"blur": 1.0}, {"jpeg_quality": 30}, {"light": np.full((2, 3, 3, 3), 0.5, np.float32)}]
)
def test_faults_change_the_picture_and_not_the_labels(fault):
    plain = scene(Layer(square_sprite((200, 120, 40)), straight(), label=1))
    picture, labels = plain.render(1.0, np.random.default_rng(0))
    other, same = replace(plain, look=replace(PLAIN, **fault)).render(1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, same)
    difference = np.abs(other.astype(int) - picture)
    assert 0.3 < difference.mean() < 60
    # Channels keep their order.
    assert other[labels == 1].mean(axis=0).argsort().tolist() == [2, 1, 0]


# --- Clips ------------------------------------------------------------------------------------------------------------


def test_samples_keep_the_contract_and_their_objects_are_large_enough(source):
    for number in range(12):
        sample = source.sample(number, 10)
        assert sample.images.shape == (3, 3, 64, 64)
        areas = torch.bincount(sample.labels[0].flatten().int())
        assert len(areas) == sample.objects + 1 <= 4
        assert areas[1:].min() >= LEAST_SHARE * 64**2
        assert sample.labels.max() <= sample.objects


def test_samples_vary(source):
    samples = [source.sample(number, 10) for number in range(20)]
    means = torch.stack([sample.images.float().mean(dim=(0, 2, 3)) for sample in samples])
    assert means.std(dim=0).min() > 20
    assert {sample.objects for sample in samples} == {1, 2, 3}
    # Frames differ in most clips; in some a great deal.
    moved = [float((sample.labels[0] != sample.labels[-1]).float().mean()) for sample in samples]
    assert np.mean(np.array(moved) > 0.005) > 0.8
    assert max(moved) > 0.1


def test_objects_are_hidden_and_come_back():
    source, returns, objects = SyntheticClips(SamplingConfig(0, "s", num_frames=8, size=64, max_objects=2)), 0, 0
    for number in range(80):
        sample = source.sample(number, 15)
        for label in range(1, sample.objects + 1):
            areas = (sample.labels == label).sum((1, 2))
            gone = torch.nonzero(areas < 0.02 * areas.max()).flatten().tolist()
            returns += bool(gone) and bool((areas[gone[0] :] > 0.2 * areas.max()).any())
            objects += 1
    assert returns > 0.1 * objects


def test_a_longer_jump_moves_objects_further():
    two_frames = SyntheticClips(SamplingConfig(seed=7, stage="s", num_frames=2, size=48))

    def overlap(jump: int) -> float:
        shares = []
        for number in range(16):
            first, second = two_frames.sample(number, jump).labels > 0
            shares.append(float((first & second).sum() / (first | second).sum()))
        return float(np.mean(shares))

    assert overlap(1) > overlap(15) + 0.1


def test_any_size_and_length_and_number_of_objects():
    small = SyntheticClips(SamplingConfig(0, "s", num_frames=9, size=50, max_objects=1)).sample(0, 1)
    assert small.images.shape == (9, 3, 50, 50)
    assert small.objects == 1


def test_objects_can_be_cut_out_of_photographs(tmp_path):
    from PIL import Image

    y, x = np.mgrid[:80, :120]
    mask = np.hypot(y - 40, x - 60) < 25
    Image.fromarray(np.where(mask[..., None], np.uint8([250, 10, 10]), np.uint8([10, 10, 250]))).save(
        tmp_path / "a.jpg"
    )
    Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / "a.png")
    pair = ImageWithMask(tmp_path / "a.jpg", tmp_path / "a.png")
    clips = SyntheticClips(SamplingConfig(0, "s", 2, 64), [pair])
    reddish = 0
    for number in range(12):
        sample = clips.sample(number, 5)
        rgb = sample.images[0].permute(1, 2, 0).float()
        reddish += any(
            (rgb[sample.labels[0] == label].mean(dim=0) @ torch.tensor([1.0, -1, -1])) > 40
            for label in range(1, sample.objects + 1)
        )
    assert reddish >= 3

    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.jpg"):
        [SyntheticClips(SamplingConfig(0, "s", 2, 64, strict=True), [pair]).sample(n, 5) for n in range(5)]


def test_one_object_is_cut_out_at_a_time():
    class TwoSquares:
        def read(self) -> tuple[np.ndarray, np.ndarray]:
            labels = np.zeros((60, 90), np.uint8)
            labels[10:50, 5:25], labels[10:50, 35:55] = 1, 2
            colours = np.zeros((256, 3), np.uint8)
            colours[[1, 2]] = [250, 0, 0], [0, 250, 0]
            return colours[labels], labels

    clips = SyntheticClips(SamplingConfig(0, "s", 2, 64), [TwoSquares()])
    colours = set()
    for seed in range(60):
        canvas = clips._sprite(np.random.default_rng(seed), 80).at(0.0)
        mean = canvas[canvas[..., 3] == 255][:, :3].mean(axis=0)
        if mean.max() > 0.95 * mean.sum() and mean.max() > 200:  # one colour, and a cut-out's
            colours.add(int(mean.argmax()))
    assert colours == {0, 1}


def test_a_cut_out_is_the_object_alone():
    mask = np.zeros((200, 300), bool)
    mask[50:150, 100:260] = True
    rgb = np.where(mask[..., None], np.uint8([250, 0, 0]), np.uint8([0, 0, 250]))
    canvas = cut_out(RNG, rgb, mask, 100).at(0.0)
    opaque = canvas[..., 3] == 255
    rows, columns = np.nonzero(opaque)
    assert (np.ptp(columns), np.ptp(rows)) == (pytest.approx(77, abs=3), pytest.approx(47, abs=3))
    assert canvas[opaque][:, 0].min() > 200
    with pytest.raises(ValueError, match="empty"):
        cut_out(RNG, rgb, np.zeros_like(mask), 100)


@pytest.mark.slow
def test_a_clip_takes_a_fifteenth_of_a_second_at_most():
    clips = SyntheticClips(SamplingConfig(0, "s", num_frames=4, size=192))
    clips.sample(0, 10)
    start = time.process_time()
    for number in range(8):
        clips.sample(number, 10)
    # Run-time checks of types and a busy machine take their share: three times as much is allowed here.
    assert (time.process_time() - start) / 8 < 3 / 15


# --- What scenes are made of ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(PATTERN_KINDS), key=lambda kind: kind.__name__))
def test_patterns_tile_and_use_the_range_of_grey(kind):
    for seed in range(3):
        pattern = kind(np.random.default_rng(seed))
        assert pattern.shape == (PATTERN_SIZE, PATTERN_SIZE)
        assert pattern.std() > 15
        grey = pattern.astype(int)
        # From the last row to the first it is not much further than from any row to the next.
        steps = np.abs(grey - np.roll(grey, 1, axis=0)).mean(axis=1)
        assert steps[0] <= max(2 * np.median(steps), np.percentile(steps, 99)) + 5


def test_textures_are_of_the_size_asked_for_and_all_different(bank):
    rng = np.random.default_rng(0)
    textures = [bank.texture(rng, 40, 60) for _ in range(20)]
    assert all(texture.shape == (40, 60, 3) for texture in textures)
    assert len({texture.tobytes() for texture in textures}) == 20
    assert palette(rng).shape == (256, 3)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(sorted(set(KINDS), key=lambda kind: kind.__name__)))
@settings(max_examples=40, deadline=None)
def test_silhouettes_are_solid_and_keep_off_the_border(seed, kind):
    coverage = kind(np.random.default_rng(seed), 64)
    assert 0.02 < (coverage > 127).mean() < 0.8
    border = np.ones((64, 64), bool)
    border[4:-4, 4:-4] = False
    # Anti-aliasing reaches a little further than the outline.
    assert coverage[border].max() < 10


def test_a_silhouette_may_have_a_hole():
    assert len({silhouette(np.random.default_rng(seed), 32).tobytes() for seed in range(10)}) == 10


def test_a_capsule_goes_from_one_end_to_the_other():
    coverage = capsule(np.array([0.2, 0.5]), np.array([0.8, 0.5]), 0.1, 0.2, 100)
    rows, columns = np.nonzero(coverage > 127)
    assert (columns.min(), columns.max()) == (pytest.approx(15, abs=1), pytest.approx(90, abs=1))
    assert np.ptp(rows[columns == 20]) < np.ptp(rows[columns == 80])


def test_sprites_move_in_themselves_and_repeat_nothing(bank):
    sprites = [random_sprite(np.random.default_rng(seed), bank, 48) for seed in range(20)]
    assert len({sprite.at(0.0).tobytes() for sprite in sprites}) == 20
    assert any(not np.array_equal(sprite.at(0.0), sprite.at(9.0)) for sprite in sprites)
    for sprite in sprites:
        canvas = sprite.at(3.0)
        # Multiplied by the coverage, so never brighter than it, but for rounding at each of up to eight parts.
        assert (canvas[..., :3].max(axis=2).astype(int) <= canvas[..., 3].astype(int) + 8).all()


def test_over_is_the_near_where_it_covers_and_the_far_elsewhere():
    near = np.zeros((1, 3, 4), np.uint8)
    near[0, 1], near[0, 2] = (100, 50, 0, 128), (200, 100, 0, 255)
    far = np.full((1, 3, 3), 60, np.uint8)
    np.testing.assert_allclose(over(near, far)[0], [[60, 60, 60], [130, 80, 30], [200, 100, 0]], atol=1)


@given(seed=st.integers(0, 2**32), moment=st.floats(-200, 200))
def test_a_path_begins_at_its_start_and_keeps_within_its_reach(seed, moment):
    rng = np.random.default_rng(seed)
    path = random_path(rng, np.arange(3.0), np.full(3, 0.1), np.ones(3), np.full(3, 0.02))
    np.testing.assert_allclose(path.at(0.0), np.arange(3.0))
    assert np.all(np.abs(path.at(moment) - path.start) <= path.reach + 2 * np.abs(path.swing) + 1e-9)


def test_visible_region_is_what_of_the_canvas_lies_in_the_picture():
    matrix = np.array([[2.0, 0, -10], [0, 2, 90], [0, 0, 1]])
    assert visible_region(matrix, 20, 100) == (slice(90, 100), slice(0, 30))
    assert visible_region(matrix + np.array([[0, 0, 300], [0, 0, 0], [0, 0, 0]]), 20, 100) is None


def test_a_line_kernel_averages_along_its_direction():
    kernel = line_kernel(np.array([3.0, 0.0]), 6.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.shape == (7, 7)
    # A line is a little wider than a pixel, and as long as asked.
    assert kernel[3].sum() > 0.6
    assert not kernel[[0, 1, 5, 6]].any()
    assert (kernel[3] > 0.05).all()
