"""The synthetic world: what it calls exact is checked against formulas and against itself."""

from dataclasses import replace

import numpy as np
import pytest

from aether.errors import InputError
from aether.miniature import FAR, random_scene, render
from aether.miniature.textures import Texture
from aether.miniature.world import CameraPath, Motion, Solid

GREY = Texture(np.full((256, 256, 3), 0.5))


def bare_scene(*solids, height=1.5, pitch=0.0):
    """A still camera above the ground, looking along z, and the given solids."""
    camera = CameraPath(start=(0.0, -height, 0.0), angles=(0.0, pitch, 0.0))
    return replace(random_scene(0), camera=camera, solids=solids)


def points_of(clip, frame):
    """World points under the pixel centers of a frame, (H, W, 3)."""
    _, height, width = clip.depth.shape
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(clip.intrinsics[frame]).T
    return rays * clip.depth[frame][..., None] @ clip.poses[frame, :3, :3].T + clip.poses[frame, :3, 3]


def look_up(clip, frame, points):
    """Depth of points in a frame's camera, and the columns and rows they fall on."""
    seen = (points - clip.poses[frame, :3, 3]) @ clip.poses[frame, :3, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = seen @ clip.intrinsics[frame].T / seen[..., 2:]
    return seen[..., 2], pixels[..., 0], pixels[..., 1]


def static_labels(scene):
    return [0] + [n for n, solid in enumerate(scene.solids, start=1) if solid.motion.is_static]


def test_shapes_types_and_ranges():
    scene = random_scene(3)
    clip = render(scene, frames=3, height=24, width=40, samples=1)
    assert clip.rgb.shape == (3, 24, 40, 3) and clip.rgb.dtype == np.float32
    assert clip.depth.shape == (3, 24, 40) and clip.depth.dtype == np.float32
    assert 0 <= clip.rgb.min() and clip.rgb.max() <= 1
    assert 0 < clip.depth.min() and clip.depth.max() == FAR
    assert (clip.depth[clip.sky] == FAR).all() and (clip.depth[~clip.sky] <= FAR).all()
    assert np.allclose(clip.poses[0], np.eye(4), atol=1e-12)
    rotations = clip.poses[:, :3, :3]
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-12)


def test_nearest_point_of_a_sphere_ahead_is_its_distance_less_its_radius():
    ball = Solid("sphere", (0.7,) * 3, Motion((0.0, -1.5, 5.0)), GREY)
    clip = render(bare_scene(ball), 1, 65, 97, samples=1)
    on_ball = clip.labels[0] == 1
    assert clip.depth[0][on_ball].min() == clip.depth[0, 32, 48] == pytest.approx(4.3, abs=1e-6)
    # Its outline is the cone touching it: sin(half angle) = radius / distance.
    radius = clip.intrinsics[0, 0, 0] * np.tan(np.arcsin(0.7 / 5))
    assert on_ball.sum() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_face_of_a_box_ahead_is_flat_at_its_distance():
    box = Solid("box", (0.5, 0.4, 0.3), Motion((0.0, -1.5, 4.0)), GREY)
    clip = render(bare_scene(box), 1, 65, 97, samples=1)
    assert np.allclose(clip.depth[clip.labels == 1], 3.7, atol=1e-6)
    focal = clip.intrinsics[0, 0, 0]
    assert (clip.labels[0, 32] == 1).sum() == pytest.approx(2 * 0.5 / 3.7 * focal, abs=1)
    assert (clip.labels[0, :, 48] == 1).sum() == pytest.approx(2 * 0.4 / 3.7 * focal, abs=1)


@pytest.mark.parametrize("pitch", [0.0, -0.3])
def test_ground_depth_follows_its_formula(pitch):
    clip = render(bare_scene(pitch=pitch), 1, 64, 96, samples=1)
    slope = (np.arange(64) + 0.5 - 32) / clip.intrinsics[0, 1, 1]
    # A ray (x, y, 1) from 1.5 m up falls by y cos(pitch) - sin(pitch) for each meter of depth.
    expected = 1.5 / (slope * np.cos(pitch) - np.sin(pitch))
    below = (expected > 0) & (expected < FAR)
    assert np.allclose(clip.depth[0, below], expected[below, None], rtol=1e-6)
    assert clip.sky[0, ~below].all()


def test_intrinsics_give_the_field_of_view_at_any_size():
    scene = random_scene(1)
    for height, width in ((64, 96), (30, 51)):
        matrix = render(scene, 1, height, width, samples=1).intrinsics[0]
        assert 2 * np.arctan(width / 2 / matrix[0, 0]) == pytest.approx(scene.fov_x)
        assert matrix[0, 0] == matrix[1, 1] and matrix[0, 2] == width / 2 and matrix[1, 2] == height / 2


@pytest.mark.parametrize("seed", [0, 2, 5, 9])
@pytest.mark.slow
def test_one_frame_warps_into_another(seed):
    """Points of one frame, placed with its depth and pose, have the depth and color of the other."""
    scene = random_scene(seed)
    clip = render(scene, frames=17, height=64, width=96)
    static = static_labels(scene)
    points = points_of(clip, 0)
    depth, u, v = look_up(clip, 8, points)
    column, row = np.floor(u), np.floor(v)
    inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 64) & np.isin(clip.labels[0], static)
    column, row = column[inside].astype(int), row[inside].astype(int)
    there = clip.labels[8, row, column] == clip.labels[0][inside]  # not hidden by something else
    assert there.sum() > 1500
    apart = np.abs(clip.depth[8, row, column] / depth[inside] - 1)[there]
    # The two pixel centers differ by up to half a pixel, which matters on ground seen at a grazing angle.
    assert np.median(apart) < 0.01 and (apart < 0.1).mean() > 0.93
    colors = np.abs(clip.rgb[8, row, column] - clip.rgb[0][inside]).mean(axis=1)[there]
    shuffled = np.abs(clip.rgb[8, row, column] - clip.rgb[0][inside][::-1]).mean(axis=1)[there]
    assert np.median(colors) < 0.05 and np.median(colors) < 0.4 * np.median(shuffled)


def test_depth_reprojects_exactly_on_a_plane():
    """A flat wall is interpolated without error in 1/z, so here frames must agree to rounding."""
    wall = Solid("box", (30.0, 20.0, 1.0), Motion((0.0, 0.0, 12.0), yaw=0.3), GREY)
    scene = replace(bare_scene(wall, height=3.0), camera=random_scene(0).camera)
    clip = render(scene, frames=9, height=64, width=96, samples=1)
    depth, u, v = look_up(clip, 8, points_of(clip, 0))
    inside = (u > 1) & (u < 94) & (v > 1) & (v < 62) & (clip.labels[0] == 1)
    x, y = u[inside] - 0.5, v[inside] - 0.5
    left, top = x.astype(int), y.astype(int)
    corners = [
        (top + j, left + i, abs(1 - j - (y - top)) * abs(1 - i - (x - left))) for j in (0, 1) for i in (0, 1)
    ]
    whole = np.all([clip.labels[8, r, c] == 1 for r, c, _ in corners], axis=0)
    inverse = sum(weight / clip.depth[8, r, c] for r, c, weight in corners)
    assert whole.sum() > 1000
    assert np.allclose(1 / inverse[whole], depth[inside][whole], rtol=1e-5)


def test_static_points_stay_and_movers_move():
    ball = Solid("sphere", (0.5,) * 3, Motion((0.0, -1.5, 5.0), velocity=(0.0, 0.0, 1.0)), GREY)
    clip = render(bare_scene(ball), frames=2, height=33, width=49, fps=8, samples=1)
    assert clip.depth[0, 16, 24] == pytest.approx(4.5, abs=1e-6)
    assert clip.depth[1, 16, 24] == pytest.approx(4.625, abs=1e-6)
    still = (clip.labels == 0).all(axis=0)
    assert np.array_equal(clip.depth[0][still], clip.depth[1][still])


def test_a_shadow_falls_away_from_the_sun():
    box = Solid("box", (0.4, 1.0, 0.4), Motion((0.0, -1.0, 6.0)), GREY)
    sun = (-np.sqrt(0.5), -np.sqrt(0.5), 0.0)  # up left: shadows fall right, two meters long
    scene = replace(bare_scene(box), sun=sun, ground=GREY, stains=GREY)
    clip = render(scene, 1, 64, 96, samples=1, first_camera_is_world=False)
    points = points_of(clip, 0)
    row = np.abs(points[:, 0, 2] - 6).argmin()
    ground, x, light = clip.labels[0, row] == 0, points[row, :, 0], clip.rgb[0, row].mean(axis=1)
    shaded, sunny = ground & (x > 0.6) & (x < 2.2), ground & (x < -0.6) & (x > -2.2)
    assert shaded.any() and sunny.any() and light[shaded].max() < 0.85 * light[sunny].min()


def test_pixels_carry_texture():
    """Parallax can be seen only where neighbors differ: most ground and objects do, if faintly."""
    clip = render(random_scene(0), frames=1, height=64, width=96)
    steps = np.abs(np.diff(clip.rgb[0], axis=1)).mean(axis=-1)
    assert (steps[clip.labels[0, :, 1:] >= 0] > 0.004).mean() > 0.6
    assert clip.rgb.std() > 0.1


def test_same_seed_same_clip_and_the_global_state_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first, second = (render(random_scene(7), 2, 24, 36) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], before)
    assert np.array_equal(first.rgb, second.rgb) and np.array_equal(first.depth, second.depth)
    other = render(random_scene(8), 2, 24, 36)
    assert np.abs(first.rgb - other.rgb).mean() > 0.05
    assert np.abs(first.depth - other.depth).mean() > 0.5


def test_the_rate_samples_the_same_motion():
    scene = random_scene(4)
    slow, fast = (render(scene, frames, 16, 24, fps=fps, samples=1) for frames, fps in ((3, 12), (5, 24)))
    assert np.allclose(slow.poses, fast.poses[::2]) and np.allclose(slow.depth, fast.depth[::2])


def test_bands_do_not_change_a_pixel(monkeypatch):
    scene = random_scene(6)
    whole = render(scene, 1, 40, 60)
    monkeypatch.setattr("aether.miniature.raycast._BAND", 60 * 9 * 7)
    assert np.allclose(render(scene, 1, 40, 60).rgb, whole.rgb, atol=2e-3)  # BLAS rounds by batch


@pytest.mark.slow
def test_worlds_keep_the_camera_out_of_things():
    for seed in range(12):
        clip = render(random_scene(seed), frames=6, height=16, width=24, fps=1, samples=1)
        assert clip.depth.min() > 0.3, seed


@pytest.mark.parametrize("field, value", [("frames", 0), ("height", 2.5), ("width", -4), ("samples", True)])
def test_bad_sizes_are_named(field, value):
    with pytest.raises(InputError) as error:
        render(bare_scene(), **{field: value})
    assert error.value.field == field


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_bad_rates_are_named(fps):
    with pytest.raises(InputError, match="^fps: "):
        render(bare_scene(), fps=fps)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_bad_seeds_are_named(seed):
    with pytest.raises(InputError, match="^seed: "):
        random_scene(seed)
