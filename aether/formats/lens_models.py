"""Lens models by name: which are pinhole cameras up to distortion, where their parameters stand, and what
leaving the distortion out costs.

Aether knows pinhole cameras alone. One rule holds for every format: a pinhole model is taken, distortion that
is not zero is left out and reported with its size, and every other projection is refused.

Source of names, numbers and parameters: COLMAP's documentation of camera models; nerfstudio's camera types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError

Factor = Callable[[np.ndarray, Mapping[str, float]], np.ndarray]


def _polynomial(r2: np.ndarray, k: Mapping[str, float]) -> np.ndarray:
    """1 + k1 r^2 + k2 r^4 + ..., as OpenCV has it for up to three of them."""
    return 1 + sum(k.get(f"k{n}", 0.0) * r2**n for n in range(1, 7))


def _rational(r2: np.ndarray, k: Mapping[str, float]) -> np.ndarray:
    above = 1 + k["k1"] * r2 + k["k2"] * r2**2 + k["k3"] * r2**3
    return above / (1 + k["k4"] * r2 + k["k5"] * r2**2 + k["k6"] * r2**3)


def _division(r2: np.ndarray, k: Mapping[str, float]) -> np.ndarray:
    return 1 / (1 + k["k1"] * r2)


@dataclass(frozen=True)
class LensModel:
    """A model's parameters are its focal lengths, cx, cy and its distortion, in this order.

    Attributes:
        number: COLMAP's, in its binary files; None for names that only other programs have.
        focals: 2 for fx and fy, 1 for one of both axes.
        distortion: names of the coefficients.
        refused: what the model is, where it is no pinhole camera, and what to do.
        factor: (r^2, coefficients) to the radial distortion's factor.
    """

    number: int | None
    focals: int = 0
    distortion: tuple[str, ...] = ()
    refused: str = ""
    factor: Factor = _polynomial

    @property
    def count(self) -> int:
        """How many parameters it has in COLMAP's files."""
        return self.focals + 2 + len(self.distortion)


_FISHEYE = "a fisheye lens; undistort the pictures first, which gives a PINHOLE model"
_PANORAMA = "a panorama; make perspective pictures of it first"
_ORTHOGRAPHIC = "an orthographic camera; make it a perspective one"
LENS_MODELS = {
    "SIMPLE_PINHOLE": LensModel(0, 1),
    "PINHOLE": LensModel(1, 2),
    "SIMPLE_RADIAL": LensModel(2, 1, ("k1",)),
    "RADIAL": LensModel(3, 1, ("k1", "k2")),
    "OPENCV": LensModel(4, 2, ("k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": LensModel(5, 2, ("k1", "k2", "k3", "k4"), _FISHEYE),
    "FULL_OPENCV": LensModel(6, 2, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), factor=_rational),
    "FOV": LensModel(7, 2, ("omega",), _FISHEYE),
    "SIMPLE_RADIAL_FISHEYE": LensModel(8, 1, ("k1",), _FISHEYE),
    "RADIAL_FISHEYE": LensModel(9, 1, ("k1", "k2"), _FISHEYE),
    "THIN_PRISM_FISHEYE": LensModel(10, 2, ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"), _FISHEYE),
    "RAD_TAN_THIN_PRISM_FISHEYE": LensModel(
        11, 2, (*(f"k{n}" for n in range(6)), "p0", "p1", *(f"s{n}" for n in range(4))), _FISHEYE
    ),
    "SIMPLE_DIVISION": LensModel(12, 1, ("k1",), factor=_division),
    "DIVISION": LensModel(13, 2, ("k1",), factor=_division),
    "SIMPLE_FISHEYE": LensModel(14, 1, (), _FISHEYE),
    "FISHEYE": LensModel(15, 2, (), _FISHEYE),
    "EUCM": LensModel(16, 2, ("alpha", "beta"), _FISHEYE),
    "EQUIRECTANGULAR": LensModel(17, refused=_PANORAMA),
    # nerfstudio's and its viewer's, instant-ngp's.
    "PERSPECTIVE": LensModel(None),
    "FISHEYE624": LensModel(None, refused=_FISHEYE),
    "FTHETA": LensModel(None, refused=_FISHEYE),
    "LATLONG": LensModel(None, refused=_PANORAMA),
    "OMNIDIRECTIONAL": LensModel(None, refused=_PANORAMA),
    "OMNIDIRECTIONALSTEREO_L": LensModel(None, refused=_PANORAMA),
    "OMNIDIRECTIONALSTEREO_R": LensModel(None, refused=_PANORAMA),
    "VR180": LensModel(None, refused=_PANORAMA),
    "VR180_L": LensModel(None, refused=_PANORAMA),
    "VR180_R": LensModel(None, refused=_PANORAMA),
    "ORTHOPHOTO": LensModel(None, refused=_ORTHOGRAPHIC),
    "ORTHOGRAPHIC": LensModel(None, refused=_ORTHOGRAPHIC),
}
BY_NUMBER = {model.number: name for name, model in LENS_MODELS.items() if model.number is not None}
"""COLMAP's number to the name."""


class PinholeLens(NamedTuple):
    """A pinhole camera with distortion.

    Attributes:
        model: key of :data:`LENS_MODELS`.
        matrix: (3, 3), in pixels.
        distortion: name to coefficient.
    """

    model: str
    matrix: np.ndarray
    distortion: Mapping[str, float]


def check_model(name: str, field: str) -> LensModel:
    """The model of a name.

    Raises:
        InputError: an unknown one, or one that is no pinhole camera.
    """
    model = LENS_MODELS.get(name)
    if model is None:
        raise InputError(field, f"the lens model {name} is not known; PINHOLE, OPENCV and the like are")
    if model.refused:
        raise InputError(field, f"Aether knows pinhole cameras alone, and {name} is {model.refused}")
    return model


def from_parameters(name: str, parameters: Sequence[float], field: str) -> PinholeLens:
    """A lens from the parameters in COLMAP's order.

    Raises:
        InputError: as for :func:`check_model`; another number of parameters.
    """
    model = check_model(name, field)
    if model.number is None or len(parameters) != model.count:
        raise InputError(field, f"{name} has {model.count} parameters, not {len(parameters)}")
    fx, fy = parameters[0], parameters[model.focals - 1]
    cx, cy = parameters[model.focals : model.focals + 2]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
    bent = dict(zip(model.distortion, parameters[model.focals + 2 :], strict=True))
    return PinholeLens(name, matrix, bent)


def distortion_notes(lenses: Iterable[PinholeLens], height: int, width: int) -> list[str]:
    """What to report of the distortion that is left out; nothing where there is none.

    Args:
        lenses: of all frames of a height x width picture.
    """
    unlike = {
        (lens.model, *lens.matrix.ravel(), *lens.distortion.values()): lens
        for lens in lenses
        if any(lens.distortion.values())
    }
    if not unlike:
        return []
    shifts = {key: _largest_shift(lens, height, width) for key, lens in unlike.items()}
    worst = max(shifts, key=lambda key: (np.nan_to_num(shifts[key], nan=np.inf), key))
    lens = unlike[worst]
    values = ", ".join(f"{name} = {value:.4g}" for name, value in lens.distortion.items() if value)
    most = f", the largest of {len(unlike)} lenses" if len(unlike) > 1 else ""
    return [
        f"lens distortion was left out: {lens.model} with {values}, up to {shifts[worst]:.3g} pixels at the "
        f"picture's edge{most}"
    ]


def _largest_shift(lens: PinholeLens, height: int, width: int) -> float:
    """How far distortion moves a point of the picture's edge, in pixels."""
    sides = np.linspace(0, 1, 9)
    edge = [(u, v) for u in sides for v in sides if u in (0, 1) or v in (0, 1)]
    focal, middle = lens.matrix[[0, 1], [0, 1]], lens.matrix[:2, 2]
    x, y = ((np.array(edge) * (width, height) - middle) / focal).T
    k, r2 = lens.distortion, x**2 + y**2
    p1, p2 = k.get("p1", 0.0), k.get("p2", 0.0)
    radial = LENS_MODELS[lens.model].factor(r2, k) - 1
    right = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
    down = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    return float(np.hypot(right * focal[0], down * focal[1]).max())
