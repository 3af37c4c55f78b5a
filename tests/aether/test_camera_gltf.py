"""glTF files of other programs: which camera, how its keys are sampled, where its numbers lie."""

import json
import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aether.errors import InputError
from aether.formats.camera_files import read_cameras

from .camera_makers import asymmetric_path, glb_of, glb_pack, gltf_scene, gltf_tracks, put

LENS = {"type": "perspective", "perspective": {"yfov": 0.6, "aspectRatio": 1.5, "znear": 0.1}}
FLAT = {"type": "orthographic", "orthographic": {"xmag": 1, "ymag": 1, "zfar": 9, "znear": 0.1}}
TIMES = np.arange(5) / 24
ALONG_X = np.stack([np.arange(5) * 0.1, 0 * TIMES, 0 * TIMES], axis=1)
STILL = 0 * ALONG_X
SIZE = "the file has no aspect ratio: 720 x 480 was taken"


def node(number: int, path: str = "translation") -> dict:
    return {"node": number, "path": path}


def pointer(path: str) -> dict:
    return {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": path}}}


def scene(
    nodes: list[dict], *animations: list[tuple], cameras: list[dict] | None = None, **more: object
) -> bytes:
    """An animation is a list of (target, times, values, interpolation)."""
    tracks, made = [], []
    for channels in animations:
        samplers = []
        for _, times, values, kind in channels:
            samplers.append({"input": len(tracks), "output": len(tracks) + 1, "interpolation": kind})
            tracks += [np.asarray(times, float), np.asarray(values, float)]
        targets = [{"sampler": n, "target": channel[0]} for n, channel in enumerate(channels)]
        made.append({"name": f"Action {len(made)}", "samplers": samplers, "channels": targets})
    document = {"cameras": cameras or [LENS], "nodes": nodes, "animations": made, **more}
    return glb_of(document, *tracks)


def read(tmp_path, *arguments, **more):
    return read_cameras(put(tmp_path, "a.glb", scene(*arguments, **more)))


def x_of(found) -> np.ndarray:
    return found.cameras.poses[:, 0, 3]


# --- Which camera -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [LENS, FLAT])
def test_the_camera_that_moves(tmp_path, first):
    nodes = [{"camera": 0, "name": "A"}, {"camera": 1, "name": "B"}]
    found = read(tmp_path, nodes, [(node(1), TIMES, ALONG_X, "LINEAR")], cameras=[first, LENS])
    np.testing.assert_allclose(x_of(found), ALONG_X[:, 0], atol=1e-6)
    assert found.notes == ["of 2 cameras B was taken, the one that is animated"]


def test_keys_that_do_not_differ_are_no_move(tmp_path):
    nodes = [{"camera": 0, "name": "A"}, {"camera": 0, "name": "B"}]
    still = (node(0), TIMES, STILL, "LINEAR")
    found = read(tmp_path, nodes, [still], [(node(1), TIMES, ALONG_X, "LINEAR")])
    assert found.notes == ["of 2 cameras B was taken, the one that is animated"]
    assert len(read(tmp_path, nodes[:1], [still]).cameras) == 5  # alone, it is a path that stands still


def test_an_orthographic_camera_that_moves_beside_a_still_one(tmp_path):
    nodes = [{"camera": 0, "name": "A"}, {"camera": 1, "name": "B"}]
    both = [(node(0), TIMES, ALONG_X, "LINEAR"), (node(1), TIMES, STILL, "LINEAR")]
    with pytest.raises(InputError, match=r"camera that moves \(A\) is orthographic"):
        read(tmp_path, nodes, both, cameras=[FLAT, LENS])


def test_of_several_that_move_the_first_of_the_scene_is_named(tmp_path):
    nodes = [{"camera": 0, "name": "A"}, {"camera": 0, "name": "B"}, {"camera": 0}]
    moves = [[(node(n), TIMES, ALONG_X * (n + 1), "LINEAR")] for n in range(3)]
    assert read(tmp_path, nodes, *moves).notes == ["3 cameras are animated (A, B, node 2): A was taken"]
    scenes = [{"nodes": [0]}, {"nodes": [1]}]
    found = read(tmp_path, nodes[:2], *moves[:2], scenes=scenes, scene=1)
    assert found.notes == ["2 cameras are animated (B, A): B was taken"]
    np.testing.assert_allclose(x_of(found), 2 * ALONG_X[:, 0], atol=1e-6)


def test_two_animations_of_one_camera_are_not_mixed(tmp_path):
    turns = Rotation.from_euler("y", TIMES[:, None]).as_quat()
    second = [(node(0), TIMES, ALONG_X * 5, "LINEAR"), (node(0, "rotation"), TIMES, turns, "LINEAR")]
    found = read(tmp_path, [{"camera": 0}], [(node(0), TIMES, ALONG_X, "LINEAR")], second)
    np.testing.assert_allclose(x_of(found), ALONG_X[:, 0], atol=1e-6)
    np.testing.assert_array_equal(found.cameras.poses[:, :3, :3], np.tile(np.eye(3), (5, 1, 1)))
    assert found.notes == ["2 animations move the same thing: Action 0 was taken"]


@pytest.mark.parametrize(
    "file, words",
    [
        (glb_pack({"cameras": [LENS], "nodes": [{"camera": 0}]}, None), "does not move"),
        (glb_pack({"cameras": [LENS], "nodes": [{}]}, None), "it has no camera; tick Cameras"),
        (scene([{"camera": 0}], [(node(0), [0], [[0, 0, 0]] * 3, "CUBICSPLINE")]), "does not move"),
        (scene([{"camera": 0, "name": "A"}], [(node(0), TIMES, ALONG_X, "LINEAR")], cameras=[FLAT]),
         r"camera that moves \(A\) is orthographic; make it perspective"),
        (scene([{"camera": 0}], [(node(0), TIMES[::-1], ALONG_X, "LINEAR")]), "times: .* do not rise"),
        (scene([{"camera": 0}], [(node(0), TIMES, ALONG_X[:3], "LINEAR")]), "has 5 times and 3 values"),
        (scene([{"camera": 0}], [(node(0), TIMES, ALONG_X, "MAGIC")]), "keys of the kind 'MAGIC' are not"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, file, words):
    with pytest.raises(InputError, match=words):
        read_cameras(put(tmp_path, "a.glb", file))


# --- What hangs above it ----------------------------------------------------------------------------------

TURN = Rotation.from_euler("y", 0.4)
ALONG = [(node(0), TIMES, ALONG_X, "LINEAR")]


def test_an_uneven_scale_that_does_not_shear(tmp_path):
    found = read(tmp_path, [{"camera": 0}, {"children": [0], "scale": [2, 1, 5]}], ALONG)
    np.testing.assert_allclose(x_of(found), 2 * ALONG_X[:, 0], atol=1e-6)
    assert found.notes == []


def test_a_sheared_camera_keeps_its_view_and_its_upper_side(tmp_path):
    nodes = [{"camera": 0, "rotation": TURN.as_quat().tolist()}, {"children": [0], "scale": [3, 1, 1]}]
    found = read(tmp_path, nodes, ALONG)
    looks = np.array([3, 1, 1]) * TURN.apply([0, 0, -1])
    expected = looks / np.linalg.norm(looks) * [1, -1, -1]
    np.testing.assert_allclose(found.cameras.poses[0, :3, 2], expected, atol=1e-6)
    np.testing.assert_allclose(found.cameras.poses[0, :3, 1], [0, 1, 0], atol=1e-6)
    (note,) = found.notes
    assert note.startswith("the camera's parents shear it: where it looks and what is up were kept")


def test_a_mirrored_camera_keeps_its_view(tmp_path):
    nodes = [{"camera": 0, "rotation": TURN.as_quat().tolist()}, {"children": [0], "scale": [-1, 1, 1]}]
    found = read(tmp_path, nodes, ALONG)
    np.testing.assert_allclose(x_of(found), -ALONG_X[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.cameras.poses[0, :3, 2], [np.sin(0.4), 0, np.cos(0.4)], atol=1e-6)
    assert found.notes[0].startswith("the camera's parents mirror it: its path was kept")


def test_parents_that_move_and_grow(tmp_path):
    nodes = [
        {"camera": 0, "translation": [1, 0, 0]},
        {"children": [0]},
        {"children": [1], "translation": [0, 0, -2]},
    ]
    grows = (node(1, "scale"), TIMES, 1 + np.tile(np.arange(5.0)[:, None], (1, 3)), "LINEAR")
    found = read(tmp_path, nodes, [grows, (node(2), TIMES, ALONG_X * 10, "LINEAR")])
    np.testing.assert_allclose(x_of(found), np.arange(5) + 1 + np.arange(5), atol=1e-6)
    assert found.notes == []


def test_a_parent_that_turns_swings_its_camera_round(tmp_path):
    """Two keys, half a turn: an orbit, not the line through the middle."""
    nodes = [{"camera": 0, "translation": [0, 0, 3]}, {"children": [0]}]
    turns = Rotation.from_euler("y", [[0], [3.0]]).as_quat()
    found = read(tmp_path, nodes, [(node(1, "rotation"), [0, 1], turns, "LINEAR")])
    angles = np.linspace(0, 3, 25)
    expected = 3 * np.stack([np.sin(angles), 0 * angles, -np.cos(angles)], axis=1)
    np.testing.assert_allclose(found.cameras.poses[:, :3, 3], expected, atol=1e-5)
    assert found.notes[0].startswith("the file's path is not straight between its keys")


def test_a_matrix_that_is_animated_is_refused(tmp_path):
    with pytest.raises(InputError, match="file: a node has a matrix and an animation"):
        read(tmp_path, [{"camera": 0, "matrix": np.eye(4).ravel().tolist()}], ALONG)


# --- Keys -------------------------------------------------------------------------------------------------


def test_cubic_keys_are_eased(tmp_path):
    """Hermite: with tangents of 0, 3 t^2 - 2 t^3; tangents count in units per second."""
    keys = [[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    found = read(tmp_path, [{"camera": 0}], [(node(0), [0, 2], keys, "CUBICSPLINE")])
    t = np.linspace(0, 1, 49)
    expected = 3 * t**2 - 2 * t**3 + 2 * 0.5 * (t**3 - 2 * t**2 + t)
    np.testing.assert_allclose(x_of(found), expected, atol=1e-6)
    note = "path is not straight between its keys: the path was sampled 24 times a second, along its curves"
    assert found.fps == pytest.approx(24) and found.notes == [f"the file's {note}"]


def test_cubic_turns_are_of_unit_length(tmp_path):
    start, end = Rotation.identity().as_quat(), Rotation.from_euler("y", 1.2).as_quat()
    keys = [np.zeros(4), start, np.zeros(4), np.zeros(4), end, np.zeros(4)]
    found = read(tmp_path, [{"camera": 0}], [(node(0, "rotation"), [0, 1], keys, "CUBICSPLINE")])
    middle = (start + end) / np.linalg.norm(start + end)
    looks = Rotation.from_quat(middle).apply([0, 0, -1]) * [1, -1, -1]
    np.testing.assert_allclose(found.cameras.poses[12, :3, 2], looks, atol=1e-6)


def test_stepped_keys_are_held(tmp_path):
    found = read(tmp_path, [{"camera": 0}], [(node(0), [0, 1, 2], np.eye(3) * [0, 1, 0], "STEP")])
    np.testing.assert_array_equal(found.cameras.poses[:, 1, 3], [0] * 24 + [-1] * 24 + [0])
    assert found.fps == pytest.approx(24)


@pytest.mark.parametrize("kind", ["STEP", "CUBICSPLINE"])
def test_baked_keys_stay_as_they_are(tmp_path, kind):
    values = np.repeat(ALONG_X, 3, axis=0) if kind == "CUBICSPLINE" else ALONG_X
    found = read(tmp_path, [{"camera": 0}], [(node(0), TIMES, values, kind)])
    np.testing.assert_allclose(x_of(found), ALONG_X[:, 0], atol=1e-6)
    assert found.notes == []


@pytest.mark.parametrize("moves", [True, False])
def test_a_zoom(tmp_path, moves):
    angles = np.linspace(0.6, 0.23, 5)
    zoom = (pointer("/cameras/0/perspective/yfov"), TIMES, angles, "LINEAR")
    found = read(tmp_path, [{"camera": 0}], [zoom] + [(node(0), TIMES, ALONG_X, "LINEAR")] * moves)
    np.testing.assert_allclose(found.cameras.fov_y, angles, rtol=1e-6)
    np.testing.assert_allclose(np.tan(found.cameras.fov_x / 2), 1.5 * np.tan(angles / 2), rtol=1e-6)
    assert found.notes == []


def test_other_pointers(tmp_path):
    moves = (pointer("/nodes/0/translation"), TIMES, ALONG_X, "LINEAR")
    np.testing.assert_allclose(x_of(read(tmp_path, [{"camera": 0}], [moves])), ALONG_X[:, 0], atol=1e-6)
    wider = (pointer("/cameras/0/perspective/aspectRatio"), TIMES, TIMES + 1, "LINEAR")
    other = (pointer("/materials/0/emissiveFactor"), TIMES, ALONG_X, "LINEAR")
    found = read(tmp_path, [{"camera": 0}], [moves, wider, other])
    assert found.notes == ["the animation of the camera's aspectRatio was left out"]
    zoom = (pointer("/cameras/0/perspective/yfov"), TIMES, np.linspace(0.6, 0.5, 5), "LINEAR")
    found = read(tmp_path, [{"camera": 0}], [wider], [zoom])
    assert found.cameras.fov_y[-1] == pytest.approx(0.5)


def test_a_zoom_out_of_range(tmp_path):
    zoom = (pointer("/cameras/0/perspective/yfov"), TIMES, np.linspace(1, 4, 5), "LINEAR")
    with pytest.raises(InputError, match="yfov: 3.25 must be between 0 and pi"):
        read(tmp_path, [{"camera": 0}], [zoom])


def test_an_aspect_ratio_of_zero(tmp_path):
    lens = {"type": "perspective", "perspective": {"yfov": 0.6, "aspectRatio": 0}}
    with pytest.raises(InputError, match="aspectRatio: 0 must be a positive number"):
        read(tmp_path, [{"camera": 0}], [(node(0), TIMES, ALONG_X, "LINEAR")], cameras=[lens])


def test_without_an_aspect_ratio(tmp_path):
    lens = {"type": "perspective", "perspective": {"yfov": 0.6}}
    found = read(tmp_path, [{"camera": 0}], [(node(0), TIMES, ALONG_X, "LINEAR")], cameras=[lens])
    assert found.notes == [SIZE] and (found.cameras.height, found.cameras.width) == (480, 720)


# --- Where numbers lie ------------------------------------------------------------------------------------


def packed(accessors: list[dict], views: list[dict], binary: bytes, path: str = "translation") -> bytes:
    """One camera whose times are accessor 0 and whose values are accessor 1."""
    document = {
        "cameras": [LENS],
        "nodes": [{"camera": 0}],
        "animations": [
            {
                "samplers": [{"input": 0, "output": 1}],
                "channels": [{"sampler": 0, "target": {"node": 0, "path": path}}],
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    return glb_pack(document, binary)


def test_interleaved(tmp_path):
    table = np.concatenate([TIMES[:, None], ALONG_X], axis=1).astype("<f4")
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 5, "type": "SCALAR"},
        {"bufferView": 0, "byteOffset": 4, "componentType": 5126, "count": 5, "type": "VEC3"},
    ]
    views = [{"buffer": 0, "byteOffset": 8, "byteLength": 80, "byteStride": 16}]
    found = read_cameras(put(tmp_path, "a.glb", packed(accessors, views, b"\xff" * 8 + table.tobytes())))
    np.testing.assert_allclose(x_of(found), ALONG_X[:, 0], atol=1e-6)


@pytest.mark.parametrize("dtype, component", [("i1", 5120), ("<i2", 5122)])
def test_whole_numbers_that_stand_for_shares(tmp_path, dtype, component):
    angles = np.linspace(0, 1, 5)
    turns = Rotation.from_euler("y", angles[:, None]).as_quat()
    largest = np.iinfo(dtype).max
    stored = np.round(turns * largest).astype(dtype)
    binary = TIMES.astype("<f4").tobytes() + stored.tobytes()
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 5, "type": "SCALAR"},
        {"bufferView": 1, "componentType": component, "normalized": True, "count": 5, "type": "VEC4"},
    ]
    views = [
        {"buffer": 0, "byteLength": 20},
        {"buffer": 0, "byteOffset": 20, "byteLength": stored.nbytes},
    ]
    found = read_cameras(put(tmp_path, "a.glb", packed(accessors, views, binary, "rotation")))
    turned = np.arctan2(-found.cameras.poses[:, 0, 2], found.cameras.poses[:, 2, 2])
    np.testing.assert_allclose(turned, angles, atol=2 / largest)


def sparse(count: int = 5, places: int = 2) -> bytes:
    """Zeros, but for keys 2 and 4."""
    binary = TIMES.astype("<f4").tobytes() + np.array([2, 4], "<u2").tobytes()
    binary += np.array([[0.2, 0, 0], [0.4, 0, 0]], "<f4").tobytes()
    where = {"bufferView": 1, "componentType": 5123}
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 5, "type": "SCALAR"},
        {
            **{"componentType": 5126, "count": count, "type": "VEC3"},
            "sparse": {"count": places, "indices": where, "values": {"bufferView": 2}},
        },
    ]
    views = [{"buffer": 0, "byteOffset": at} for at in (0, 20, 24)]
    return packed(accessors, views, binary)


def test_sparse(tmp_path):
    found = read_cameras(put(tmp_path, "a.glb", sparse()))
    np.testing.assert_allclose(x_of(found), [0, 0, 0.2, 0, 0.4], atol=1e-6)


@pytest.mark.parametrize("file", [sparse(count=2**40), sparse(places=2**40), sparse(count=-1)])
def test_counts_beyond_the_file_are_refused(tmp_path, file):
    with pytest.raises(InputError, match="file: "):
        read_cameras(put(tmp_path, "a.glb", file))


def gltf_with(tmp_path, uri: str | None, **more: object):
    document, _ = gltf_scene(asymmetric_path())
    document["buffers"][0] |= {"uri": uri} if uri else {}
    return read_cameras(put(tmp_path, "a.gltf", document | more))


@pytest.mark.parametrize(
    "uri, words",
    [
        ("missing.bin", "its buffer missing.bin is missing; export as GLB"),
        ("../a.bin", "its buffer ../a.bin does not lie beside it; export as GLB"),
        ("/etc/passwd", "does not lie beside it"),
        ("..%2Fa.bin", "does not lie beside it"),
        ("%2e%2e", "does not lie beside it"),
        ("sub/a.bin", "does not lie beside it"),
        ("..", "does not lie beside it"),
        ("http://localhost/a.bin", "does not lie beside it"),
        ("file:a.bin", "does not lie beside it"),
        ("data:application/octet-stream;base64,####", "cannot be read"),
        (None, "longer than the buffer that holds it"),
    ],
)
def test_buffers_of_gltf(tmp_path, uri, words):
    with pytest.raises(InputError, match=f"file: .*{words}"):
        gltf_with(tmp_path, uri)


@pytest.mark.parametrize("uri", ["my scene.bin", "my%20scene.bin"])
def test_a_buffer_beside_a_gltf(tmp_path, uri):
    put(tmp_path, "my scene.bin", gltf_scene(asymmetric_path())[1])
    assert len(gltf_with(tmp_path, uri).cameras) == len(asymmetric_path())


def test_compressed_and_old_files(tmp_path):
    document, binary = gltf_scene(asymmetric_path())
    document["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    with pytest.raises(InputError, match=r"compressed \(EXT_meshopt_compression\); export it without"):
        read_cameras(put(tmp_path, "a.glb", glb_pack(document, binary)))
    with pytest.raises(InputError, match="it is no glTF 2"):
        gltf_with(tmp_path, None, asset={"version": "1.0"})
    with pytest.raises(InputError, match="it is no GLB of glTF 2"):
        read_cameras(put(tmp_path, "a.glb", struct.pack("<III", 0x46546C67, 1, 12) + b"\0" * 8))


def test_a_damaged_stride(tmp_path):
    document, binary = gltf_tracks({"cameras": [LENS], "nodes": [{"camera": 0}]}, TIMES, ALONG_X)
    document["animations"] = json.loads(
        '[{"samplers": [{"input": 0, "output": 1}], '
        '"channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]}]'
    )
    document["bufferViews"][1]["byteStride"] = 0
    with pytest.raises(InputError, match="laid out in a way that glTF does not allow"):
        read_cameras(put(tmp_path, "a.glb", glb_pack(document, binary)))
