"""Laws of what hands do to a label map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from interactive.drawing import cleaned, erased, painted, polygon_region, rectangle_region, replaced, stroke_region
from util.errors import UserError

SIZE = (20, 30)
MASKS = arrays(bool, SIZE)
MAPS = arrays(np.uint8, SIZE, elements=st.integers(0, 3))
POINTS = st.lists(st.tuples(st.floats(-10, 40), st.floats(-10, 30)), min_size=1, max_size=5)


@given(POINTS, st.floats(0.6, 8))
def test_a_stroke_covers_what_is_near_its_points_and_nothing_far(points, radius):
    region = stroke_region(points, radius, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for x, y in points:
        near = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < radius - 1.25
        assert region[near].all()
    ends = zip(points, points[1:] + points[-1:], strict=True)
    distance = np.min([distance_to(columns + 0.5, rows + 0.5, a, b) for a, b in ends], axis=0)
    assert not region[distance > radius + 1.2].any()


def distance_to(x, y, start, end):
    """The distance of pixels from a line between two points."""
    start, along = np.array(start), np.subtract(end, start)
    length = max(float(along @ along), 1e-12)
    share = (((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length).clip(0, 1)
    return np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])


def test_a_stroke_of_one_pixel_is_the_pixel_under_the_pointer():
    region = stroke_region([(4.9, 7.1)], 0.5, SIZE)
    assert np.argwhere(region).tolist() == [[7, 4]]


@given(st.tuples(*[st.floats(-5, 40)] * 4))
def test_a_rectangle_has_the_pixels_whose_middle_is_in_it(box):
    region = rectangle_region(box, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    x0, x1, y0, y1 = *sorted((box[0], box[2])), *sorted((box[1], box[3]))
    inside = (x0 + 0.01 < columns + 0.5) & (columns + 0.5 < x1 - 0.01)
    inside &= (y0 + 0.01 < rows + 0.5) & (rows + 0.5 < y1 - 0.01)
    assert region[inside].all()
    assert not region[(columns + 0.5 < x0 - 0.01) | (columns + 0.5 > x1 + 0.01) | (rows + 0.5 > y1 + 0.01)].any()


@given(st.integers(0, 10), st.integers(1, 10), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_the_size_of_a_rectangle_does_not_depend_on_where_it_is(start, width, part):
    region = rectangle_region((start + part, 0, start + part + width, 5), SIZE)
    assert region.sum() == 5 * width


def test_a_polygon_has_the_pixels_inside():
    region = polygon_region([(2, 2), (12, 2), (12, 9), (2, 9)], SIZE)
    assert region[3:8, 3:11].all()
    assert not region[11:].any()
    with pytest.raises(UserError, match="three corners"):
        polygon_region([(1, 1), (5, 5)], SIZE)
    with pytest.raises(UserError, match="between 1 and"):
        polygon_region([(1.0, 1.0)] * 30_000, SIZE)


@given(MAPS, MASKS)
def test_painting_and_erasing(labels, region):
    now = painted(labels, region, 1, locked={2})
    assert (now[region & (labels != 2)] == 1).all()
    assert (now[~region | (labels == 2)] == labels[~region | (labels == 2)]).all()
    now = erased(labels, region, 1)
    assert not (now[region] == 1).any()
    assert (now == labels)[~region | (labels != 1)].all()
    now = replaced(labels, region, 1, locked={2})
    assert ((now == 1) == (region & (labels != 2))).all()


@given(MASKS, st.integers(0, 5))
def test_laws_of_cleaning(mask, pixels):
    filled, kept = cleaned(mask, "fill_holes", pixels), cleaned(mask, "drop_islands", pixels)
    grown, shrunk = cleaned(mask, "grow", pixels), cleaned(mask, "shrink", pixels)
    assert (filled >= mask).all()
    assert (kept <= mask).all()
    assert (grown >= mask).all()
    assert (shrunk <= mask).all()
    assert (cleaned(filled, "fill_holes", pixels) == filled).all()
    assert (cleaned(kept, "drop_islands", pixels) == kept).all()
    if pixels == 0:
        assert (grown == mask).all()
        assert (shrunk == mask).all()


def test_holes_and_islands():
    mask = np.zeros(SIZE, bool)
    mask[2:12, 2:12] = True
    mask[4, 4] = mask[8:10, 8:10] = False  # holes of 1 and 4 pixels
    mask[15, 20] = mask[17:19, 20:22] = True  # islands of 1 and 4 pixels
    mask[0:3, 20:23] = True
    mask[1, 20] = False
    assert cleaned(mask, "fill_holes", 1)[4, 4]
    assert not cleaned(mask, "fill_holes", 1)[8, 8]
    assert cleaned(mask, "fill_holes", 0)[8, 8]
    assert not cleaned(mask, "fill_holes", 0)[0, 0], "what touches the edge of the picture is no hole"
    assert not cleaned(mask, "drop_islands", 1)[15, 20]
    assert cleaned(mask, "drop_islands", 1)[17, 20]
    assert cleaned(mask, "drop_islands", 0)[2:12, 2:12].sum() == mask[2:12, 2:12].sum()
    assert cleaned(mask, "drop_islands", 0).sum() == mask[2:12, 2:12].sum()
    with pytest.raises(UserError, match="there is fill_holes"):
        cleaned(mask, "iron", 1)
