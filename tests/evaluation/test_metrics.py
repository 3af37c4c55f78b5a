"""Depth errors and PSNR: by hand, and against the reference's results (README.md here)."""

import json
from pathlib import Path

import numpy as np
import pytest

from aether.errors import InputError
from aether.geometry.metrics import ALIGNMENTS, DepthErrors, depth_errors, psnr
from evaluation.depth import average_depth, common_length, crop_like, resize

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def depth_case():
    """Depth (3, 10, 14) and its truth, with unknown and far pixels."""
    f, y, x = np.meshgrid(np.arange(3.0), np.arange(10.0), np.arange(14.0), indexing="ij")
    truth = 12 + 9 * np.sin(0.7 * x + 0.3 * f) + 0.8 * y * np.cos(0.4 * x * f + y)
    truth[0, 0, :4], truth[1, 2:4], truth[2, 9, 13] = 0, 150, -1
    depth = (truth.clip(1, 90) * 0.31 + 0.4) * (1 + 0.25 * np.cos(1.9 * x + 2.3 * y + 0.5 * f))
    return depth, truth


@pytest.mark.parametrize("case", GOLDEN["depth"])
def test_depth_errors_are_the_references(case):
    align, cap = case.split("/")
    cap = None if cap == "None" else float(cap)
    expected = GOLDEN["depth"][case]
    errors = depth_errors(*depth_case(), align=align, max_depth=cap, limit=cap)
    assert errors.abs_rel == pytest.approx(expected["abs_rel"], abs=1e-9)
    # The reference's shares are means of float32.
    assert errors.delta1 == pytest.approx(expected["delta1"], abs=1e-7)
    assert errors.delta2 == pytest.approx(expected["delta2"], abs=1e-7)
    assert errors.pixels == expected["pixels"]


def test_depth_errors_by_hand():
    truth = np.array([[[1.0, 2, 4, np.nan, 0, -3, np.inf, 90]]])
    depth = np.array([[[1.0, 2.6, 8, np.nan, 1, 1, np.inf, np.nan]]])
    errors = depth_errors(depth, truth, align="metric", max_depth=70)
    # Off by 0, 0.3 and 1; factors 1, 1.3 and 2.
    assert errors.abs_rel == pytest.approx(1.3 / 3)
    assert (errors.delta1, errors.delta2, errors.pixels) == (1 / 3, 2 / 3, 3)
    # Cut off at 5, the last is off by 1/4, a factor of 1.25, which is not below 1.25.
    limited = depth_errors(depth, truth, align="metric", max_depth=70, limit=5)
    assert limited.abs_rel == pytest.approx(0.55 / 3)
    assert (limited.delta1, limited.delta2) == (1 / 3, 1)


def test_alignments_by_hand():
    truth = np.array([[2.0, 4, 6, 9]])
    depth = np.array([[1.0, 2, 3, 4]])
    scales = {align: depth_errors(depth, truth, align=align).scale for align in ALIGNMENTS}
    # The lower of the middle values: 4 over 2.
    assert scales["median"] == 2
    # Least |s d - t|: weighted median of t / d = 2, 2, 2, 2.25 with weights 1, 2, 3, 4.
    assert scales["scale"] == pytest.approx(2, abs=0.01)
    assert scales["scale-l1"] == 2
    assert scales["metric"] == 1
    fit = depth_errors(depth, 3 * depth + 5, align="scale-shift-l2")
    assert (fit.scale, fit.shift, fit.abs_rel) == pytest.approx((3, 5, 0))
    # 1,000 steps of 1e-4 cannot take the shift farther than 0.1 or so.
    short = depth_errors(depth, 3 * depth + 5, align="scale-shift")
    assert abs(short.shift) < 0.15


def test_the_least_absolute_scale_is_least_and_stable():
    depth, truth = depth_case()
    depth, truth = depth[truth > 0], truth[truth > 0]
    best = depth_errors(depth, truth, align="scale-l1").scale

    def difference(scale):
        return np.abs(scale * depth - truth).sum()

    others = [depth_errors(depth, truth, align=align).scale for align in ("scale", "median")]
    assert difference(best) <= min(map(difference, [*others, *np.linspace(1, 6, 501)]))
    noise = 1 + 1e-7 * np.cos(np.arange(depth.size))
    assert depth_errors(depth * noise, truth, align="scale-l1").scale == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_depth_equal_up_to_scale_has_no_error(align):
    truth = depth_case()[1]
    factor = 1 if align == "metric" else 0.25
    errors = depth_errors(truth * factor, truth, align=align)
    # The weights of "scale" are 1e8 at an exact fit; Adam keeps stepping around one.
    assert errors.abs_rel < (1e-2 if align == "scale-shift" else 1e-9)
    assert errors.delta1 == errors.delta2 == 1


def test_inputs_stay_as_they_are():
    depth, truth = depth_case()
    copies = depth.copy(), truth.copy()
    depth_errors(depth, truth, align="scale", max_depth=70, limit=70)
    assert np.array_equal(depth, copies[0]) and np.array_equal(truth, copies[1])


@pytest.mark.parametrize(
    "field, change, options",
    [
        ("depth", lambda d, t: (d[:2], t), {}),
        ("depth", lambda d, t: (np.where(t > 20, np.nan, d), t), {}),
        ("depth", lambda d, t: (np.where(t > 20, np.inf, d), t), {"align": "metric"}),
        ("depth", lambda d, t: (0 * d, t), {"align": "median"}),
        ("depth", lambda d, t: (0 * d, t), {"align": "scale"}),
        ("depth", lambda d, t: (-d, t), {"align": "scale-shift"}),
        ("depth", lambda d, t: (-d, t), {"align": "scale-l1"}),
        ("truth", lambda d, t: (d, 0 * t), {}),
        ("truth", lambda d, t: (d, np.full_like(t, np.nan)), {}),
        ("truth", lambda d, t: (d, t), {"max_depth": 0.01}),
        ("align", lambda d, t: (d, t), {"align": "best"}),
    ],
)
def test_bad_depth_is_refused(field, change, options):
    with pytest.raises(InputError) as caught:
        depth_errors(*change(*depth_case()), **options)
    assert caught.value.field == field


def test_nan_where_nothing_is_known_does_not_matter():
    depth, truth = depth_case()
    holes = np.where(truth <= 0, np.nan, depth)
    assert depth_errors(holes, truth) == depth_errors(depth, truth)


def test_resize_is_opencvs_cubic():
    picture = depth_case()[0][:1]
    assert resize(picture[:, :5, :7], 10, 14)[0, ::3, ::4] == pytest.approx(
        np.array(GOLDEN["resize"]["up"]), abs=1e-8
    )
    # OpenCV's weights are float32.
    assert resize(picture, 4, 6)[0] == pytest.approx(np.array(GOLDEN["resize"]["down"]), abs=1e-5)
    assert resize(picture, 10, 14) is picture


def test_crop_like_takes_the_middle():
    rows, columns = np.meshgrid(np.arange(436), np.arange(1024), indexing="ij")
    middle = crop_like(np.stack([rows, columns]), 480, 720)
    # 436 x 1024 cut to 3:2 is 436 x 654, 185 columns gone at the left.
    assert middle.shape == (2, 436, 654)
    assert (middle[1, 0, 0], middle[1, 0, -1]) == (185, 838)
    assert crop_like(np.zeros((1, 900, 720)), 480, 720).shape == (1, 480, 720)
    assert crop_like(np.zeros((1, 48, 72)), 480, 720).shape == (1, 48, 72)


def test_average_is_weighted_by_pixels():
    one, three = DepthErrors(0.1, 0.9, 1.0, 2, 0, 100), DepthErrors(0.5, 0.5, 0.6, 3, 0, 300)
    assert average_depth([one, three]) == pytest.approx(
        {"abs_rel": 0.4, "delta1": 0.6, "delta2": 0.7, "pixels": 400}
    )


def test_lengths():
    assert common_length(41, 41, leading=False) == 41
    assert common_length(41, 50, leading=True) == 41
    for lengths in ((41, 50, False), (50, 41, False), (50, 41, True), (1, 1, False), (1, 50, True)):
        with pytest.raises(InputError, match="frames"):
            common_length(*lengths)


def test_psnr_refuses_shapes_that_would_broadcast():
    with pytest.raises(InputError, match="results"):
        psnr(np.zeros((2, 4, 4)), np.zeros((4, 4)))
