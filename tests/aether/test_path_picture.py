"""The drawing of a camera path."""

import numpy as np
import pytest

from aether.formats.contact import draw_path
from aether.formats.path_picture import draw_frustums
from aether.geometry import trajectory
from aether.geometry.cameras import METERS, Cameras

GREEN, ORANGE = (90, 200, 140), (250, 140, 60)


def places(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of pixels of a color, the caption left out."""
    close = np.abs(picture.astype(int) - color).max(axis=-1) < 40
    close[:40, :80] = False
    return np.argwhere(close)


@pytest.mark.parametrize("name", trajectory.PRESETS)
def test_every_preset_is_seen(name):
    picture = np.asarray(draw_frustums(trajectory.preset(name, 0.4), 480, 320))
    assert picture.shape == (320, 480, 3)
    assert len(places(picture, ORANGE)) > 100
    border = np.concatenate([picture[2], picture[-3], picture[40:-40, 2], picture[40:-40, -3]])
    assert (border == border[0]).all()  # nothing is cut


@pytest.mark.parametrize(
    "name, rows, columns",
    [("pedestal up", -1, 0), ("pedestal down", 1, 0), ("truck right", 1, 1), ("dolly in", -1, 1)],
)
def test_the_last_camera_is_where_it_went(name, rows, columns):
    """Up is up; right is to the right and to the front; forward to the right and to the back."""
    picture = np.asarray(draw_frustums(trajectory.preset(name, 2), 480, 320))
    shift = places(picture, ORANGE).mean(axis=0) - places(picture, GREEN).mean(axis=0)
    assert (np.sign(shift) * (np.abs(shift) > 20)).tolist() == [rows, columns]


def test_where_the_path_lies_in_the_world_does_not_matter():
    path = trajectory.preset("orbit left", 0.5)
    away = trajectory.preset("crane up", 3).poses[-1]
    moved = Cameras(away @ path.poses, path.intrinsics, path.height, path.width)
    first, second = (np.asarray(draw_frustums(one), dtype=float) for one in (path, moved))
    assert np.abs(first - second).mean() < 0.1


def test_any_size_of_path_and_a_single_camera():
    for scale in (1e-4, 1, 1e4):
        draw_frustums(trajectory.preset("truck left").scaled(scale), 64, 64)
    draw_frustums(trajectory.preset("truck left").select([0]))


def blue_of(picture: np.ndarray) -> np.ndarray:
    return places(picture, (96, 165, 250))


def test_the_asked_path_is_drawn_beside():
    asked = trajectory.preset("truck right", 1)
    picture = np.asarray(draw_frustums(asked.scaled(0.5), 480, 320, asked=asked))
    blue, orange = blue_of(picture), places(picture, ORANGE)
    assert len(blue) > 200 and blue[:, 1].max() > orange[:, 1].max() + 20
    border = np.concatenate([picture[2], picture[-3], picture[40:-40, 2], picture[40:-40, -3]])
    assert (border == border[0]).all()  # of the longer path nothing is cut either
    alone = np.asarray(draw_frustums(asked, 480, 320))
    assert not len(blue_of(alone))


def test_from_above_too():
    asked = trajectory.preset("truck right", 1)
    both = np.asarray(draw_path(asked.scaled(0.5), 0, 240, 160, asked))
    blue = blue_of(both)
    # Twice as far: half of it is hidden under the obtained path.
    assert np.ptp(blue[:, 1]) > 30 and not len(blue_of(np.asarray(draw_path(asked, 0, 240, 160))))


def test_the_caption_states_the_unit():
    path = trajectory.preset("truck right", 1)
    units, meters = (np.asarray(draw_frustums(one)) for one in (path, path.scaled(1, METERS)))
    assert (units[-30:, :300] != meters[-30:, :300]).any()
