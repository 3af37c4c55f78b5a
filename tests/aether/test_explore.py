"""Walks of any length: their windows, how they go on, and what is refused."""

import errno
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from aether.cli import commands as cli
from aether.errors import InputError, SamplingStopped
from aether.explore import walk as walks
from aether.explore.chain import Chain
from aether.explore.colors import corrected, match_colors
from aether.explore.folder import WORLD, read_walk
from aether.explore.following import following
from aether.explore.parts import bent, longer, plan_windows
from aether.explore.preview import preview_cloud, write_preview
from aether.explore.returns import known_view
from aether.explore.steadying import scale_drift, steadying
from aether.explore.walk import Options, explore, walk_signature
from aether.explore.world import World, nearest_along
from aether.generation.latents import Decoded
from aether.geometry import trajectory
from aether.geometry.cameras import Cameras
from aether.geometry.raymap import from_cameras
from aether.miniature import random_scene, render
from aether.run import job

SIZE = (32, 48)
QUICK = job.Settings(steps=2)


def path(name="truck right", amount=0.5, frames=33, size=SIZE):
    return trajectory.preset(name, amount, frames=frames, easing="linear", height=size[0], width=size[1])


@pytest.fixture(scope="module")
def picture():
    return np.random.RandomState(3).random_sample((*SIZE, 3)).astype(np.float32)


def arrays_of(walk):
    return {name: np.stack(list(getattr(walk, name))) for name in ("rgb", "disparity", "raymap")}


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


# The path in windows.


@pytest.mark.parametrize(
    "frames, length, starts",
    [(33, 17, (0, 16)), (34, 17, (0, 16, 32)), (161, 41, (0, 40, 80, 120)), (5, 17, (0,))],
)
def test_windows_cover_the_path_and_share_a_frame(frames, length, starts):
    plan = plan_windows(path(frames=frames), length)
    assert plan.starts == starts
    assert plan.starts[-1] + length >= frames
    assert all(len(plan.part(window)) == length for window in range(len(starts)))
    assert np.array_equal(plan.part(0).poses[0], np.eye(4))


def test_a_short_path_gets_the_shortest_window_that_holds_it():
    assert plan_windows(path(frames=20), None).length == 25
    assert plan_windows(path(frames=90), None, default=41).length == 41
    assert plan_windows(path(frames=90), None, default=17).length == 17


def test_the_camera_rests_where_the_path_ends_within_a_window():
    plan = plan_windows(path(frames=20), 17)
    assert np.array_equal(plan.part(1).poses[4:], np.repeat(plan.path.poses[19:], 13, axis=0))
    assert "ends 13 frames before" in plan.notes()[-1]


def test_a_longer_path_asks_the_same_of_the_windows_that_it_fills():
    first, piece = path(frames=25), path("pan left", frames=20)
    short, long = plan_windows(first, 17), plan_windows(longer(first, piece), 17)
    assert np.array_equal(short.part(0).poses, long.part(0).poses)
    assert not np.array_equal(short.part(1).poses, long.part(1).poses)
    assert len(long.path) == 44
    branch = longer(first, piece, at=8)
    assert len(branch) == 28 and np.array_equal(branch.poses[:9], first.poses[:9])


def test_a_path_from_anywhere_is_continued_to_the_bit():
    """As files have them: the first camera is somewhere, and its inverse is rounded."""
    anywhere = path("orbit left", 0.3).poses[20] @ path("tilt up", 0.37).poses[32]
    whole = replace(path("pan right", 0.31), poses=anywhere @ path("pan right", 0.31).poses)
    first, rest = whole.select(slice(0, 20)), whole.select(slice(19, None))
    at_once = plan_windows(longer(first, rest), 17)
    begun = plan_windows(first, 17).path
    assert np.array_equal(plan_windows(begun, 17).path.poses.view(np.int64), begun.poses.view(np.int64))
    later = plan_windows(longer(begun, rest), 17)
    assert np.array_equal(at_once.path.poses.view(np.int64), later.path.poses.view(np.int64))
    assert np.abs(later.path.poses - whole.relative_to_first().poses).max() < 1e-12


@pytest.mark.parametrize(
    "field, make",
    [
        ("camera", lambda: plan_windows(path().select(slice(0, 1)), 17)),
        ("window", lambda: plan_windows(path(), 18)),
        ("overlap", lambda: plan_windows(path(), 17, 0)),
        ("overlap", lambda: plan_windows(path(), 17, 1.5)),
        ("at", lambda: longer(path(), path(), at=33)),
        ("camera", lambda: longer(path(), path().select([0]))),
        ("poses", lambda: replace(path(), poses=np.full((33, 4, 4), np.nan))),
    ],
)
def test_paths_that_cannot_be_walked_are_refused(field, make):
    with pytest.raises(InputError) as error:
        make()
    assert error.value.field == field


def test_fast_moves_and_jumps_are_noted():
    assert plan_windows(path(amount=0.5), 17).notes() == []
    assert "turns by" in plan_windows(path("pan left", 2.0), 17).notes()[0]
    poses = path(frames=33).poses.copy()
    poses[20:, 1, 3] += 1.0
    notes = plan_windows(replace(path(frames=33), poses=poses), 17).notes()
    assert any("jumps between frames 20 and 21" in note for note in notes)


def test_a_part_is_bent_to_begin_and_end_where_it_must():
    part = path("orbit left", 0.4, frames=17)
    start, end = path("dolly in", 0.1).poses[-1], path("pan left", 0.05).poses[-1] @ part.poses[-1]
    way = bent(part, start, end).poses
    assert np.allclose(way[0], start) and np.allclose(way[-1], end)
    assert np.array_equal(bent(part, part.poses[0]).poses, part.poses)
    assert np.abs(np.diff(way[:, :3, 3], axis=0)).max() < 0.2


# What windows tell.


def test_the_way_back_finds_the_view_that_was_seen():
    out = path(amount=1.0, frames=33).poses
    assert known_view(out, out[::-1][:17], 1.0) == 16
    assert known_view(out, out[::-1], 1.0) == 0
    assert known_view(out, out[::-1] @ path("pan left", 0.5).poses[-1], 1.0) is None  # it looks elsewhere
    near = out[::-1].copy()
    near[:, 1, 3] += 0.1
    assert known_view(out, near, 1.0) == 0
    assert known_view(out, near, 3.0) is None  # where all is three times as near, 0.1 is much


def test_a_slow_camera_returns_nowhere():
    slow = path(amount=0.05, frames=33).poses
    assert known_view(slow[:17], slow[16:], 1.0) is None


def test_a_path_is_followed_or_not():
    asked = path(frames=17)
    assert following(asked.scaled(1.4), asked).followed
    assert following(asked.scaled(1.4), asked).scale == pytest.approx(1.4)
    assert not following(asked.scaled(-1), asked).followed
    assert not following(path("pan left", 0.4, frames=17), asked).followed
    still = path("static", frames=17)
    assert following(still, still).followed and not following(asked, still).followed


def test_colors_get_the_mean_and_spread_of_what_is_known():
    rng = np.random.RandomState(0)
    known = 0.3 + 0.3 * rng.random_sample((1, 8, 8, 3)).astype(np.float32)
    shown = known * np.float32([0.9, 1.1, 1.2]) + np.float32([0.02, -0.03, 0])
    gain, offset = match_colors(shown, known)
    assert np.abs(corrected(shown, gain, offset) - known).max() < 1e-5
    assert match_colors(np.zeros_like(known), known)[0].max() <= 1.5


@pytest.fixture(scope="module")
def true_world():
    scene = random_scene(3)
    still = tuple(solid for solid in scene.solids if solid.motion.is_static)
    world = render(replace(scene, solids=still), 17, *SIZE, 12, samples=1)
    near = float(world.depth.min())
    return near / world.depth, Cameras(world.poses, world.intrinsics, *SIZE).scaled(1 / near)


def test_a_drift_of_depth_is_seen_by_the_path_and_taken_out(true_world):
    disparity, cameras = true_world
    assert np.abs(scale_drift(disparity, cameras)).max() < 0.02
    rising = np.exp(-0.01 * np.arange(17, dtype=np.float32))
    factors = steadying(disparity * rising[:, None, None], cameras)
    assert factors[0] == 1 and np.abs(factors * rising - 1).max() < 0.02


def test_the_unit_of_what_comes_is_read_off_what_is_known(true_world):
    disparity, cameras = true_world
    assert nearest_along(disparity[0], cameras) == pytest.approx(1, abs=0.1)
    back = replace(cameras, poses=cameras.poses[:1].repeat(17, axis=0))
    assert nearest_along(disparity[0], back) == pytest.approx(
        float(np.percentile(disparity[0], 99.8)), rel=1e-3
    )


class Recorded:
    """Windows in memory: what a World reads."""

    def __init__(self):
        self.windows = []

    def __call__(self, window, name):
        return getattr(self.windows[window], name)


def perfect_window(world_disparity, task, factor, turned=1.0):
    """What a model gives that sees a flat wall of the world: in a unit of its own."""
    raymap = from_cameras(
        *(
            getattr(task.cameras.relative_to_first().scaled(factor * turned), name)
            for name in ("poses", "intrinsics")
        ),
        *SIZE,
    )
    disparity = np.broadcast_to(world_disparity / factor, (17, *SIZE)).astype(np.float32)
    return Decoded(np.zeros((17, *SIZE, 3), np.uint8), disparity, raymap)


def test_windows_of_any_unit_make_one_world():
    plan, read = plan_windows(path(amount=1, frames=49), 17), Recorded()
    world = World(plan, read)
    wall = np.linspace(0.2, 0.8, SIZE[0])[:, None]
    for factor in (1.0, 0.5, 2.0):
        task = world.next_task()
        read.windows.append(perfect_window(wall, task, factor))
        world.place(task)
    assert [p.alignment.disparity for p in world.placed] == pytest.approx([1, 0.5, 2.0])
    assert [p.alignment.scale_from for p in world.placed] == ["path"] * 3
    merge = world.merge()
    assert merge.unit == 2 and np.allclose(merge.cameras.poses[:, :3, 3], 2 * plan.path.poses[:, :3, 3])
    for frame in (0, 16, 17, 40):
        assert np.allclose(merge.disparity([w.disparity for w in read.windows], frame), wall / 2)


def test_a_window_that_goes_elsewhere_has_its_own_cameras_and_the_next_leads_back():
    plan, read = plan_windows(path(amount=1, frames=49), 17), Recorded()
    world = World(plan, read)
    wall = np.linspace(0.2, 1, SIZE[0])[:, None]
    for turned in (1.0, -1.0):
        task = world.next_task()
        read.windows.append(perfect_window(wall, task, 1.0, turned))
        world.place(task)
    assert world.placed[1].alignment.scale_from != "path"
    here = world.merge().cameras.poses[32, 0, 3]
    assert here == pytest.approx(plan.path.poses[16, 0, 3] * 2 - plan.path.poses[32, 0, 3], abs=1e-3)
    way = world.next_task().cameras.poses[:, 0, 3]
    assert way[0] == pytest.approx(here) and way[-1] == pytest.approx(plan.path.poses[48, 0, 3])


# Walks.


@pytest.fixture(scope="module")
def whole(model, picture, tmp_path_factory):
    """Three windows in one go."""
    work = tmp_path_factory.mktemp("whole")
    return explore(model, picture, plan_windows(path(frames=49), 17), QUICK, work)


def test_a_walk_has_all_frames_and_its_own_report(whole):
    assert whole.rgb.shape == (49, *SIZE, 3) and whole.disparity.shape == (49, *SIZE)
    assert len(whole.cameras) == 49 and whole.raymap.shape == (49, 6, 4, 6)
    assert np.isfinite(np.stack(list(whole.disparity))).all()
    report = json.loads(json.dumps(whole.report))
    assert [window["start"] for window in report["windows"]] == [0, 16, 32]
    assert report["settings"]["frames"] == 49 and report["task"] == "explore"


def test_every_window_begins_with_the_last_frame_of_the_one_before(model, picture, tmp_path):
    given = []

    def compute(inputs, callback):
        given.append(inputs)
        value = np.float32(len(given) / 10)
        rgb = np.full((17, *SIZE, 3), value) + np.linspace(0, 0.05, 17, dtype=np.float32)[:, None, None, None]
        report = {"settings": {}, "seconds": {"window": 0.0}, "hero": None}
        return Decoded(rgb, np.full((17, *SIZE), 0.5, np.float32), inputs.raymap), report

    plan, options = plan_windows(path(frames=33), 17), Options(colors=False)
    pixels = (picture * 255 + 0.5).astype(np.uint8)
    chain = Chain(tmp_path, {}, pixels, plan)
    walks.explore_windows(pixels, chain, plan, compute, 1, options)
    assert np.array_equal(given[0].pictures["image"], pixels.astype(np.float32) / np.float32(255))
    assert np.allclose(given[1].pictures["image"], 0.15, atol=1 / 255)
    assert given[1].task == "prediction" and given[1].raymap.shape == (17, 6, 4, 6)


def test_coming_back_plans_towards_the_known_frame(model, picture, tmp_path):
    out = path(amount=1.0, frames=17)
    both = out.select([*range(17), *reversed(range(16))])
    walk = explore(model, picture, plan_windows(both, 17), QUICK, tmp_path)
    assert [window["goal"] for window in walk.report["windows"]] == [None, 0]
    assert walk.report["windows"][1]["task"] == "planning"
    blind = explore(model, picture, plan_windows(both, 17), QUICK, tmp_path, Options(returns=False))
    assert [window["goal"] for window in blind.report["windows"]] == [None, None]
    assert not np.array_equal(walk.rgb[20], blind.rgb[20])


def test_going_on_gives_bit_for_bit_what_one_go_gives(model, picture, whole, tmp_path):
    first, rest = path(frames=49).select(slice(0, 25)), path(frames=49).select(slice(24, 49))
    explore(model, picture, plan_windows(first, 17), QUICK, tmp_path)
    plan = plan_windows(longer(first, rest), 17)
    later = explore(model, picture, plan, QUICK, tmp_path)
    assert later.resumed == 1  # the second window ended within the first path
    at_once = explore(model, picture, plan, QUICK, tmp_path / "other")
    assert same(arrays_of(at_once), arrays_of(later))
    assert np.array_equal(at_once.cameras.poses, later.cameras.poses)


def test_two_ways_from_one_point_share_their_beginning(model, picture, tmp_path):
    begun = path(frames=17)
    ways = [longer(begun, path(name, 0.2, frames=17)) for name in ("pan left", "pan right")]
    one, other = (explore(model, picture, plan_windows(way, 17), QUICK, tmp_path) for way in ways)
    assert other.resumed == 1
    a, b = arrays_of(one), arrays_of(other)
    assert np.array_equal(a["rgb"][:17], b["rgb"][:17]) and not np.array_equal(a["rgb"][20:], b["rgb"][20:])


def test_a_stopped_walk_goes_on_where_it_was(model, picture, whole, tmp_path):
    plan = plan_windows(path(frames=49), 17)
    with pytest.raises(SamplingStopped):
        explore(model, picture, plan, QUICK, tmp_path, callback=lambda progress: progress.done < 3)
    said, seen = [], []
    walk = explore(
        model, picture, plan, QUICK, tmp_path, say=said.append, preview=seen.append, callback=lambda p: None
    )
    assert walk.resumed == 1 and said[0].startswith("1 of 3 windows")
    assert [len(so_far) for so_far in seen] == [33]
    assert same(arrays_of(walk), arrays_of(whole))


def test_a_damaged_window_is_made_again_and_all_behind_it(model, picture, whole, tmp_path):
    plan = plan_windows(path(frames=49), 17)
    walk = explore(model, picture, plan, QUICK, tmp_path)
    walk.chain.path(1).write_bytes(b"half")
    again = explore(model, picture, plan, QUICK, tmp_path)
    assert again.resumed == 1 and same(arrays_of(again), arrays_of(whole))


def test_a_full_disk_is_named_and_keeps_finished_windows(model, picture, tmp_path, monkeypatch):
    plan, save = plan_windows(path(frames=33), 17), walks.Chain.__init__.__globals__["WindowStore"].save

    def full(self, window, decoded, report):
        if window:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, window, decoded, report)

    monkeypatch.setattr("aether.long.store.WindowStore.save", full)
    with pytest.raises(InputError, match="^out: the disk is full; finished windows are kept"):
        explore(model, picture, plan, QUICK, tmp_path)
    monkeypatch.undo()
    assert explore(model, picture, plan, QUICK, tmp_path).resumed == 1


def test_too_little_room_is_refused_before_anything_is_computed(model, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InputError, match="^out: 2 windows take"):
        explore(model, picture, plan_windows(path(), 17), QUICK, tmp_path)


@pytest.mark.parametrize(
    "field, change",
    [
        ("image", lambda p: p[:, :, 0]),
        ("image", lambda p: np.full_like(p, np.nan)),
        ("image", lambda p: p[:30]),
        ("camera", lambda p: np.zeros((64, 96, 3), np.float32)),
    ],
)
def test_pictures_that_do_not_fit_are_refused(model, picture, tmp_path, field, change):
    with pytest.raises(InputError) as error:
        explore(model, change(picture), plan_windows(path(), 17), QUICK, tmp_path)
    assert error.value.field == field


def test_overlapping_windows_are_joined_over_all_that_they_share(model, picture, tmp_path):
    walk = explore(model, picture, plan_windows(path(frames=29), 17, overlap=5), QUICK, tmp_path)
    assert walk.plan.starts == (0, 12) and walk.rgb.shape[0] == 29


def test_post_reconstruction_finds_depth_once_more(model, picture, tmp_path):
    plan = plan_windows(path(frames=17), 17)
    plain = explore(model, picture, plan, QUICK, tmp_path)
    better = explore(model, picture, plan, QUICK, tmp_path, Options(post_steps=2))
    assert np.array_equal(plain.rgb[5], better.rgb[5])
    assert not np.array_equal(plain.disparity[5], better.disparity[5])


def test_a_preview_shows_the_walk_so_far(whole, tmp_path):
    write_preview(tmp_path, whole)
    assert (tmp_path / "preview.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "preview.ply").read_bytes()[:3] == b"ply"
    assert len(preview_cloud(whole)) > 0


# The command line.


@pytest.fixture
def tiny_command(model, monkeypatch, tmp_path):
    """`python -m aether explore` on the small model; gives the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aether.cli.model._load", lambda arguments, console: model)

    def run(*arguments):
        return cli.main(["explore", *arguments])

    return run


BEGIN = ("synthetic:5", "--camera", "truck-right:1", "--steps", "2", "--hero", "off")


def depth_of(folder):
    with np.load(folder / "depth.npz") as arrays:
        return arrays["depth"]


def test_a_walk_is_begun_branched_and_continued(tiny_command, tmp_path, capsys):
    assert tiny_command(*BEGIN, "--frames", "33", "--out", "begun") == 0
    assert {path.name for path in (tmp_path / "begun").iterdir()} >= {
        WORLD,
        "windows",
        "scene.ply",
        "rgb.mp4",
    }
    assert not (tmp_path / "begun.windows").exists()
    capsys.readouterr()
    on = ("--from", "begun", "--camera", "pan-left:0.1", "--frames", "17")
    assert tiny_command(*on, "--out", "left") == 0
    assert "2 of 3 windows were finished before" in capsys.readouterr().out
    assert tiny_command(*on, "--at", "16", "--out", "branch") == 0
    assert "1 of 2 windows were finished before" in capsys.readouterr().out
    assert len(depth_of(tmp_path / "left")) == 49 and len(depth_of(tmp_path / "branch")) == 33
    rgb = [read_walk(tmp_path / name) for name in ("begun", "left")]
    assert np.array_equal(rgb[0].plan.path.poses, rgb[1].plan.path.poses[:33])
    # In its own folder.
    assert tiny_command(*on, "--out", "begun", "--overwrite") == 0
    assert np.array_equal(depth_of(tmp_path / "begun"), depth_of(tmp_path / "left"))


@pytest.fixture
def begun(tiny_command, tmp_path, capsys):
    assert tiny_command(*BEGIN, "--frames", "33", "--out", "begun") == 0
    capsys.readouterr()
    return tmp_path / "begun"


ON = ("--from", "begun", "--camera", "pan-left:0.1", "--frames", "17", "--out", "on")


def break_world(folder):
    (folder / WORLD).write_text("{", encoding="utf-8")


def forget_window(folder):
    next((folder / "windows").rglob("window-00001.safetensors")).unlink()


def other_weights(folder):
    document = json.loads((folder / WORLD).read_text(encoding="utf-8"))
    document["signature"]["weights"] = "0"
    (folder / WORLD).write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil, given, text",
    [
        (break_world, (), "--from: begun/world.json cannot be read"),
        (lambda folder: (folder / WORLD).unlink(), (), "--from: begun holds no walk"),
        (
            lambda folder: (folder / "first.png").write_bytes(b"x"),
            (),
            "--from: begun/first.png cannot be read",
        ),
        (forget_window, (), "--from: window 2 of 2 is missing or damaged"),
        (other_weights, (), "--model: begun was made with other weights"),
        (None, ("--size", "64x96"), "--size: begun was made with None, not (64, 96)"),
        (None, ("--steps", "3"), "--steps: begun was made with 2, not 3"),
        (None, ("--at", "40"), "--at: 40 is not a frame of the earlier path, 0 to 32"),
        (None, ("picture.png",), "image: give a picture to begin with, or --from"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(tiny_command, begun, capsys, spoil, given, text):
    if spoil:
        spoil(begun)
    assert tiny_command(*ON, *given) == 2
    assert text in capsys.readouterr().err
    assert not (begun.parent / "on").exists()


def test_nan_in_a_camera_file_is_refused(tiny_command, tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.full((20, 4, 4), np.nan))
    assert tiny_command("synthetic:5", "--camera", "nan.npy") == 2
    assert "error: --camera: " in capsys.readouterr().err


def test_the_signature_says_what_windows_hang_on(model):
    one = walk_signature(model, QUICK, Options(), None)
    for changed in (
        walk_signature(model, replace(QUICK, seed=1), Options(), None),
        walk_signature(model, replace(QUICK, guidance_skip=0.1), Options(), None),
        walk_signature(model, QUICK, Options(fps=24), None),
    ):
        assert changed != one
