"""Aether Camera, Load Cameras and Save Cameras in ComfyUI's libraries: paths, the task they steer, files."""

from __future__ import annotations

import json
import weakref
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FORMATS = ("json", "colmap", "tum", "nerfstudio", "glb")


@pytest.fixture
def folders(pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's folders, in a place of the test's own."""
    import folder_paths

    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


def test_a_path_is_drawn_and_comes_back_from_its_raymap(folders, nodes, part):
    output = nodes.AetherCamera(preset="orbit left", amount=0.5, frames=17)
    cameras, raymap, picture, _ = output.args
    assert raymap["raymap"].shape == (17, 6, 60, 90) and raymap["fps"] == cameras["fps"] == 12
    read = part("aether.geometry.raymap").to_cameras(raymap["raymap"])
    assert np.abs(read.poses - cameras["cameras"].poses).max() < 1e-5
    assert picture.shape == (1, 320, 480, 3) and picture.std() > 0.05
    (shown,) = output.ui.as_dict()["images"]
    assert (folders / "temp" / shown["filename"]).is_file()


def test_the_raymap_reads_back_through_aether_cameras(folders, nodes):
    """The issue's round trip, node to node."""
    cameras, raymap, _, _ = nodes.AetherCamera(preset="crane up", amount=0.7, fov=75.0, fps="24").args
    read = nodes.AetherCameras(raymap=raymap).args[0]
    assert np.abs(read["cameras"].poses - cameras["cameras"].poses).max() < 1e-5
    np.testing.assert_allclose(read["cameras"].fov_x, np.radians(75), rtol=1e-5)
    assert read["fps"] == 24


def test_many_pictures_of_a_path_are_smaller_and_held_once(part):
    cameras = part("nodes.cameras")
    sizes = {frames: cameras._picture_size(frames) for frames in (1, 100, 101, 400, 2000, 10_000)}
    assert sizes[1] == sizes[100] == (640, 480) and sizes[400] == (320, 240)
    assert sizes[101] == (608, 456) and sizes[2000] == sizes[10_000] == (160, 120)
    made = []

    class Picture(np.ndarray):
        pass

    def drawn():
        for level in (0, 51, 255):
            picture = np.full((2, 4, 3), level, dtype=np.uint8).view(Picture)
            made.append(weakref.ref(picture))
            yield picture
            del picture
            assert sum(one() is not None for one in made) == 1  # which is about to be let go

    image = part("nodes.types").color_image(drawn(), 3)
    assert image.dtype == torch.float32 and image.shape == (3, 2, 4, 3)
    assert image[:, 1, 3, 2].tolist() == pytest.approx([0, 0.2, 1])


def test_cancel_stops_the_drawing(folders, nodes, part, monkeypatch):
    """ComfyUI's Cancel arrives with the progress."""
    import comfy.model_management
    import comfy.utils

    cameras, drawn = part("nodes.cameras"), []
    draw = cameras.draw_path

    def counted(*args: Any) -> Any:
        drawn.append(args)
        return draw(*args)

    def cancelled(*args: Any, **more: Any) -> None:
        raise comfy.model_management.InterruptProcessingException

    raymap = nodes.AetherCamera(frames=17, width=96, height=64).args[1]
    monkeypatch.setattr(cameras, "draw_path", counted)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        nodes.AetherCameras(raymap=raymap)
    assert len(drawn) == 1


def test_moves_follow_each_other(folders, nodes):
    first = nodes.AetherCamera(preset="pan right", amount=1.0, frames=17, fov=50.0).args[0]
    path = nodes.AetherCamera(
        preset="dolly in", amount=0.5, frames=25, fov=80.0, before=first
    ).args[0]["cameras"]  # fmt: skip
    assert len(path) == 41
    np.testing.assert_allclose(path.poses[-1, :3, 3], [0.5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.degrees(path.fov_x[[0, 16, -1]]), [50, 50, 80])
    both = nodes.AetherCamera(preset="tilt up", frames=17, overlap=16, before=first).args[0]["cameras"]
    assert len(both) == 17
    with pytest.raises(ValueError, match=r"^overlap: 24 is not an integer from 0 to 16"):
        nodes.AetherCamera(preset="tilt up", frames=17, overlap=24, before=first)


def test_the_camera_of_a_frame_is_what_core_renders_with(folders, nodes):
    """Core's reader of LOAD3D_CAMERA gives back eye and axes, in its y-down frame, which is ours."""
    splats = pytest.importorskip("comfy_extras.nodes_gaussian_splat")
    cameras, _, _, camera = nodes.AetherCamera(
        preset="orbit right", amount=0.4, distance=3.0, frames=9, frame=-1, fov=70.0
    ).args
    pose = cameras["cameras"].poses[-1]
    eye, target, right, down, forward = splats._camera_basis(camera, "cpu")
    np.testing.assert_allclose(np.stack([right, down, forward, eye], axis=1), pose[:3], atol=1e-5)
    np.testing.assert_allclose(target, [0, 0, 3], atol=1e-5)  # what the orbit goes round
    assert camera["fov"] == pytest.approx(np.degrees(2 * np.arctan(np.tan(np.radians(35)) / 1.5)))
    assert camera["cameraType"] == "perspective" and camera["aspect"] == 1.5
    with pytest.raises(ValueError, match=r"^frame: 9 is not within the path's 0 to 8"):
        nodes.AetherCamera(frames=9, frame=9)


def condition_of(output: Any) -> torch.Tensor:
    """The packed raymap of a task's positive."""
    return output.args[0][0][1]["concat_latent_image"][0, 16:]


@pytest.mark.parametrize("frames", ["17", "25"])
def test_cameras_steer_a_task_of_any_length_and_size(folders, nodes, part, miniature, clip, frames):
    """41 frames at 720 x 480 for 17 or 25 at 96 x 64: the same condition as a raymap made for it."""
    made = {"preset": "truck right", "amount": 0.4, "easing": "linear"}
    cameras, raymap, _, _ = nodes.AetherCamera(**made, fps="15").args
    exact = nodes.AetherCamera(**made, frames=int(frames), width=96, height=64).args[1]
    task = {"vae": miniature.vae, "image": clip[:1], "frames": frames, "fps": "auto"}
    steered = nodes.AetherPredict(**task, camera=cameras)
    wanted = nodes.AetherPredict(**task, camera=exact)
    free = nodes.AetherPredict(**task)
    torch.testing.assert_close(condition_of(steered), condition_of(wanted), atol=1e-5, rtol=0)
    assert (condition_of(steered) - condition_of(free)).abs().max() > 0.5
    assert steered.args[2]["aether_fps"] == 15
    with pytest.raises(ValueError, match=r"^camera: has shape"):
        nodes.AetherPredict(**task, camera=raymap)


def test_cameras_steer_plan_and_reconstruct(folders, nodes, miniature, clip):
    cameras = nodes.AetherCamera(preset="pan left").args[0]
    plan = nodes.AetherPlan(
        vae=miniature.vae, start=clip[:1], goal=clip[-1:], frames="17", camera=cameras
    )  # fmt: skip
    reconstruct = nodes.AetherReconstruct(vae=miniature.vae, video=clip, camera=cameras)
    torch.testing.assert_close(condition_of(plan), condition_of(reconstruct))
    assert condition_of(plan).abs().max() > 0.5


def test_smoothing_takes_the_jitter_out_of_a_hand(folders, nodes):
    hand = nodes.AetherCamera(preset="handheld", amount=1.0, fps="24").args[0]
    smooth, picture = nodes.AetherSmoothCameras(cameras=hand, period=40.0).args
    bends = [np.abs(np.diff(value["cameras"].poses, 2, axis=0)).mean() for value in (hand, smooth)]
    assert bends[1] < 0.2 * bends[0]
    assert smooth["fps"] == 24 and picture.shape == (1, 320, 480, 3)


def test_dates_in_names_are_written_as_the_canvas_does_for_cores_nodes(folders, nodes):
    value = nodes.AetherCamera(preset="orbit left", frames=17).args[0]
    days = [date.today()]
    prefix = "shots/%date:yyyy-MM-dd%/%date:yyMd%"
    name = nodes.AetherSaveCameras(cameras=value, format="json", filename_prefix=prefix).args[0]
    days.append(date.today())  # it may have become midnight
    written = [f"shots/{day:%Y-%m-%d}/{day:%y}{day.month}{day.day}_00001_" for day in days]
    assert any(name.replace("\\", "/").startswith(start) for start in written)


@pytest.mark.parametrize("format", FORMATS)
def test_saved_cameras_are_offered_and_load_again(folders, nodes, format):
    value = nodes.AetherCamera(preset="crane down", amount=0.5, frames=17, fov=45.0, fps="24").args[0]
    names = [
        nodes.AetherSaveCameras(cameras=value, format=format, filename_prefix="aether/shot").args[0]
        for _ in range(2)
    ]
    assert names[0].startswith("aether/shot_00001_") and names[1].startswith("aether/shot_00002_")
    offered = nodes.get("AetherLoadCameras").define_schema().inputs[0].options
    assert len(offered) == 2 and offered[0].endswith(" [output]")
    loaded, picture = nodes.AetherLoadCameras(file=offered[0], fov=45.0).args
    assert np.abs(loaded["cameras"].poses - value["cameras"].poses).max() < 1e-6
    np.testing.assert_allclose(loaded["cameras"].fov_x, np.radians(45), rtol=1e-6)
    assert loaded["fps"] == (12 if format == "colmap" else 24)  # COLMAP has no rate
    assert picture.shape == (1, 320, 480, 3)


def test_what_aether_save_depth_wrote_is_not_offered(folders, nodes):
    nodes.AetherSaveDepth(depth=torch.ones(1, 2, 3, 3), filename_prefix="aether/depth")
    assert list((folders / "output").rglob("depth.json"))
    assert nodes.get("AetherLoadCameras").define_schema().inputs[0].options == ["none"]


def test_the_pictures_size_in_names(folders, nodes):
    value = nodes.AetherCamera(frames=9, width=96, height=64).args[0]
    name = nodes.AetherSaveCameras(cameras=value, format="json", filename_prefix="%width%x%height%/c").args[0]
    assert name.startswith("96x64/c_00001_")


def test_a_model_is_read_anew_when_any_of_its_files_changes(folders, nodes):
    value = nodes.AetherCamera(frames=9).args[0]
    name = nodes.AetherSaveCameras(cameras=value, format="colmap", filename_prefix="aether/c").args[0]
    state = nodes.get("AetherLoadCameras").fingerprint_inputs
    given = {"file": f"{name}/images.txt [output]", "scale": 1.0, "fov": 60.0}
    first = state(**given)
    assert first == state(**given)
    lenses = folders / "output" / name / "cameras.txt"
    lenses.write_text(lenses.read_text().replace("PINHOLE 720", "PINHOLE 1440"))
    assert first != state(**given)
    lenses.unlink()
    for changed in (given, given | {"file": None}):  # not there; linked, and not known yet
        assert np.isnan(state(**changed))


def test_a_file_of_another_program(folders, nodes):
    """nerfstudio, z up, elsewhere, in its own unit."""
    turned = np.array([[1.0, 0, 0, 5], [0, 0, 1, 6], [0, -1, 0, 7], [0, 0, 0, 1]])
    matrices = [turned @ np.diag([1.0, -1, -1, 1]) for _ in range(3)]
    for index, matrix in enumerate(matrices):
        matrix[:3, 3] += turned[:3, 2] * 2 * index  # 2 units forward a frame
    document = {"fl_x": 400, "w": 800, "h": 400} | {
        "frames": [{"file_path": "x.png", "transform_matrix": matrix.tolist()} for matrix in matrices]
    }
    (folders / "input" / "shots").mkdir()
    (folders / "input" / "shots" / "transforms.json").write_text(json.dumps(document))
    assert nodes.get("AetherLoadCameras").define_schema().inputs[0].options == ["shots/transforms.json"]
    cameras = nodes.AetherLoadCameras(file="shots/transforms.json", scale=0.25).args[0]["cameras"]
    np.testing.assert_allclose(cameras.poses[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(cameras.poses[:, :3, 3], [[0, 0, 0], [0, 0, 0.5], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(np.degrees(cameras.fov_x), 90)


def test_bad_files_are_refused(folders, nodes):
    load = nodes.get("AetherLoadCameras")
    assert load.define_schema().inputs[0].options == ["none"]
    for name in ("none", "absent.json", "../../etc/hosts", "/etc/hosts"):
        assert "is not in ComfyUI's input folder" in load.validate_inputs(file=name)
    np.save(folders / "input" / "mirrored.npy", np.tile(np.diag([1.0, 1, -1, 1]), (3, 1, 1)))
    assert load.validate_inputs(file="mirrored.npy") is True
    with pytest.raises(ValueError, match=r"^poses: frame 0: .* left-handed"):
        nodes.AetherLoadCameras(file="mirrored.npy")
    with pytest.raises(ValueError, match="Invalid file path"):
        nodes.AetherLoadCameras(file="../../x.npy")
    np.save(folders / "input" / "still.npy", np.tile(np.eye(4), (3, 1, 1)))
    for scale in (0.0, float("nan")):
        with pytest.raises(ValueError, match=r"^scale: "):
            nodes.AetherLoadCameras(file="still.npy", scale=scale)
    first = load.fingerprint_inputs("still.npy", 1.0, 60.0)
    assert first == load.fingerprint_inputs("still.npy", 1.0, 60.0)
    assert first != load.fingerprint_inputs("still.npy", 2.0, 60.0)


@pytest.mark.parametrize(
    "prefix", ["", "/", "a/", "..", "../a", "a/../../b", "/tmp/a", "a\nb", "a\0b", "folder/..", "  "]
)
def test_names_that_leave_the_output_folder_or_are_none(folders, nodes, prefix):
    value = nodes.AetherCamera(frames=9).args[0]
    before = sorted(folders.rglob("*"))
    for format in FORMATS:
        with pytest.raises(ValueError, match=r"^filename_prefix: "):
            nodes.AetherSaveCameras(cameras=value, format=format, filename_prefix=prefix)
    assert sorted(folders.rglob("*")) == before


def test_a_link_out_of_the_output_folder_is_not_followed(folders, nodes):
    (folders / "elsewhere").mkdir()
    (folders / "output" / "link").symlink_to(folders / "elsewhere", target_is_directory=True)
    value = nodes.AetherCamera(frames=9).args[0]
    with pytest.raises(ValueError, match=r"^filename_prefix: .* leads out"):
        nodes.AetherSaveCameras(cameras=value, format="glb", filename_prefix="link/a")
    assert not list((folders / "elsewhere").iterdir())


@pytest.mark.slow
def test_on_a_server(server, part):
    """A file is loaded, calmed, chained to a move, drawn and saved; a new file is offered at once."""
    trajectory, files = part("aether.geometry.trajectory"), part("aether.formats.camera_files")
    path = trajectory.preset("truck right", 0.5, frames=17)
    files.write_cameras(server.base / "input" / "from_blender", path, 24, "glb")
    offered = server.get("/object_info/AetherLoadCameras")["AetherLoadCameras"]["input"]["required"]["file"]
    assert "from_blender.glb" in json.dumps(offered)
    move = {
        "preset": "tilt up", "amount": 0.5, "easing": "linear", "fov": 60.0, "frames": 25, "fps": "24",
        "distance": 2.0, "overlap": 8, "seed": 0, "frame": 0, "width": 96, "height": 64,
    }  # fmt: skip
    run = server.run(
        {
            "load": {
                "class_type": "AetherLoadCameras",
                "inputs": {"file": "from_blender.glb", "scale": 2.0, "fov": 60.0},
            },
            "calm": {"class_type": "AetherSmoothCameras", "inputs": {"cameras": ["load", 0], "period": 4.0}},
            "move": {"class_type": "AetherCamera", "inputs": move | {"before": ["calm", 0]}},
            "save": {
                "class_type": "AetherSaveCameras",
                "inputs": {"cameras": ["move", 0], "format": "json", "filename_prefix": "aether/on_a_server"},
            },
        }
    )
    assert {"load", "calm", "move", "save"} <= set(run.outputs)
    (name,) = run.outputs["save"]["text"]
    saved = files.read_cameras(server.base / "output" / name).cameras
    assert len(saved) == 33
    np.testing.assert_allclose(saved.poses[-1, :3, 3], [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(saved.poses[-1, :3, 2], [0, -(0.5**0.5), 0.5**0.5], atol=1e-6)
