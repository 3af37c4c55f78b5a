"""The table of lens models, and the rule for distortion."""

import re

import numpy as np
import pytest

from aether.errors import InputError
from aether.formats.lens_models import (
    BY_NUMBER,
    LENS_MODELS,
    PinholeLens,
    check_model,
    distortion_notes,
    from_parameters,
)

COUNTS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16, 4, 5, 3, 4, 6, 2)
"""COLMAP's numbers of parameters, by number of the model."""
PINHOLE = {
    "SIMPLE_PINHOLE": [500, 320, 240],
    "PINHOLE": [500, 510, 320, 240],
    "SIMPLE_RADIAL": [500, 320, 240, 0],
    "RADIAL": [500, 320, 240, 0, 0],
    "OPENCV": [500, 510, 320, 240, *[0] * 4],
    "FULL_OPENCV": [500, 510, 320, 240, *[0] * 8],
    "SIMPLE_DIVISION": [500, 320, 240, 0],
    "DIVISION": [500, 510, 320, 240, 0],
}


def test_numbers_of_parameters():
    assert tuple(LENS_MODELS[BY_NUMBER[number]].count for number in range(len(COUNTS))) == COUNTS
    assert len(BY_NUMBER) == len(COUNTS)


@pytest.mark.parametrize("name", PINHOLE)
def test_without_distortion_it_is_a_pinhole(name):
    lens = from_parameters(name, PINHOLE[name], "cameras.txt")
    fy = 510 if LENS_MODELS[name].focals == 2 else 500
    np.testing.assert_array_equal(lens.matrix, [[500, 0, 320], [0, fy, 240], [0, 0, 1]])
    assert distortion_notes([lens], 480, 640) == []


def test_all_others_are_refused():
    others = {name for name, model in LENS_MODELS.items() if model.refused}
    assert others | PINHOLE.keys() | {"PERSPECTIVE"} == LENS_MODELS.keys()
    for name in others:
        with pytest.raises(
            InputError, match=f"model: Aether knows pinhole cameras alone, and {name} is an? "
        ):
            check_model(name, "model")
    with pytest.raises(InputError, match="model: the lens model MAGIC is not known"):
        check_model("MAGIC", "model")
    for parameters in ([500, 320], [500, 510, 320, 240, 0]):
        with pytest.raises(InputError, match=f"PINHOLE has 4 parameters, not {len(parameters)}"):
            from_parameters("PINHOLE", parameters, "model")


def size(note: str) -> float:
    return float(re.search(r"up to (\S+) pixels", note)[1])


@pytest.mark.parametrize(
    "name, bent, shift",
    [
        # 600 x 400 with f = 500: the corner (-0.6, -0.4) has r^2 = 0.52, 360.6 pixels from the middle.
        ("SIMPLE_RADIAL", [0.1], 0.052 * 360.56),
        ("RADIAL", [0, 0.1], 0.1 * 0.52**2 * 360.56),
        ("OPENCV", [0.1, 0, 0, 0], 0.052 * 360.56),
        # p1: 2 p1 x y to the right, p1 (r^2 + 2 y^2) down.
        ("OPENCV", [0, 0, 0.01, 0], 500 * 0.01 * np.hypot(2 * 0.24, 0.52 + 0.32)),
        ("OPENCV", [0, 0, 0, 0.01], 500 * 0.01 * np.hypot(0.52 + 0.72, 2 * 0.24)),
        ("FULL_OPENCV", [0, 0, 0, 0, 0, 0.1, 0, 0], (1 - 1 / 1.052) * 360.56),
        ("DIVISION", [0.1], (1 - 1 / 1.052) * 360.56),
    ],
)
def test_the_size_of_distortion(name, bent, shift):
    focals = [500] * LENS_MODELS[name].focals
    lens = from_parameters(name, [*focals, 300, 200, *bent], "cameras.txt")
    (note,) = distortion_notes([lens], 400, 600)
    assert note.startswith(f"lens distortion was left out: {name} with ")
    assert size(note) == pytest.approx(shift, rel=5e-3)


def test_the_largest_of_several_is_reported():
    matrix = np.array([[500.0, 0, 300], [0, 500, 200], [0, 0, 1]])
    lenses = [PinholeLens("RADIAL", matrix, {"k1": k1, "k2": 0.0}) for k1 in (0.01, -0.2, 0.0, 0.01)]
    assert distortion_notes(lenses, 400, 600) == [
        "lens distortion was left out: RADIAL with k1 = -0.2, up to 37.5 pixels at the picture's edge, the "
        "largest of 2 lenses"
    ]
