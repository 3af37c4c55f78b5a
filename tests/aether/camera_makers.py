"""One camera path written in each format's own convention, and small files; nothing of ours writes them."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from aether.geometry.cameras import Cameras, cameras_from_fov

GL = np.diag([1.0, -1, -1, 1])
HEIGHT, WIDTH, FRAMES, RATE = 480, 720, 7, 12.0


def asymmetric_path() -> Cameras:
    """No axis moves or turns as another, nor as its mirror image; one lens."""
    t = np.linspace(0, 1, FRAMES)[:, None]
    turns = Rotation.from_rotvec(t * [0.3, -0.7, 0.2] + t**2 * [0.1, 0.5, -0.4])
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = (Rotation.from_rotvec([0.2, 0.4, -0.3]) * turns).as_matrix()
    poses[:, :3, 3] = t * [1.0, -2.0, 3.0] + t**2 * [0.5, 0.7, -0.2] + [4, 5, 6]
    fov_y = 2 * np.arctan(np.tan(0.5) * HEIGHT / WIDTH)
    return cameras_from_fov(poses, 1.0, fov_y, HEIGHT, WIDTH)


def put(folder: Path, name: str, content: object) -> Path:
    """A file of text, bytes, JSON or an array."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_bytes(content.encode())
    elif file.suffix in (".json", ".gltf"):
        file.write_text(json.dumps(content))
    elif file.suffix == ".npz":
        np.savez(file, **content)
    else:
        np.save(file, content)
    return file


def rows(*columns: np.ndarray, between: str = " ") -> str:
    table = np.concatenate([np.reshape(column, (len(column), -1)) for column in columns], axis=1)
    return "".join(between.join(f"{number:.17g}" for number in row) + "\n" for row in table)


def quaternions(poses: np.ndarray, *, w_first: bool = False) -> np.ndarray:
    turns = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    return np.roll(turns, 1, axis=1) if w_first else turns


# --- COLMAP -----------------------------------------------------------------------------------------------


def colmap_images_bin(path: Cameras, points: int = 2) -> bytes:
    world_to_camera = np.linalg.inv(path.poses)
    found = struct.pack("<Q", len(path))
    for number, (turn, pose) in enumerate(
        zip(quaternions(world_to_camera, w_first=True), world_to_camera, strict=True), 1
    ):
        found += struct.pack("<I7dI", number, *turn, *pose[:3, 3], 1) + f"{number}.png\0".encode()
        found += struct.pack("<Q", points) + struct.pack("<2dq", 1.5, 2.5, -1) * points
    return found


def colmap_cameras_bin(path: Cameras, model: int = 1, extra: tuple[float, ...] = ()) -> bytes:
    k = path.intrinsics[0]
    numbers = (k[0, 0], k[1, 1], k[0, 2], k[1, 2], *extra)
    return struct.pack(f"<QIiQQ{len(numbers)}d", 1, 1, model, path.width, path.height, *numbers)


def colmap_binary(folder: Path, path: Cameras) -> Path:
    put(folder, "images.bin", colmap_images_bin(path))
    put(folder, "cameras.bin", colmap_cameras_bin(path))
    return folder


# --- JSON -------------------------------------------------------------------------------------------------


def instant_ngp(folder: Path, path: Cameras) -> Path:
    frames = [
        {"file_path": f"./images/{n}.jpg", "sharpness": 30.0, "transform_matrix": (pose @ GL).tolist()}
        for n, pose in enumerate(path.poses)
    ]
    angles = {"camera_angle_x": path.fov_x[0], "camera_angle_y": path.fov_y[0]}
    size = {
        "w": 720.0,
        "h": 480.0,
        "aabb_scale": 16,
        "scale": 0.33,
        "offset": [0.5, 0.5, 0.5],
        "k1": 0,
        "p1": 0,
    }
    return put(folder, "transforms.json", {**angles, **size, "frames": frames[::-1]})


def viewer_path(folder: Path, path: Cameras) -> Path:
    frames = [
        {
            "camera_to_world": np.ravel(pose @ GL).tolist(),
            "fov": np.degrees(path.fov_y[0]),
            "aspect": path.width / path.height,
        }
        for pose in path.poses
    ]
    document = {"camera_type": "perspective", "render_height": path.height, "render_width": path.width}
    document |= {"fps": RATE, "seconds": 1, "camera_path": frames, "keyframes": [], "is_cycle": False}
    return put(folder, "camera_path.json", document)


def splatting(folder: Path, path: Cameras) -> Path:
    entries = [
        {
            "id": n,
            "img_name": f"{n:05d}",
            "width": path.width,
            "height": path.height,
            "position": pose[:3, 3].tolist(),
            "rotation": pose[:3, :3].tolist(),
            "fx": path.intrinsics[0, 0, 0],
            "fy": path.intrinsics[0, 1, 1],
        }
        for n, pose in enumerate(path.poses)
    ]
    return put(folder, "cameras.json", entries[3:] + entries[:3])  # it shuffles them


def record3d(folder: Path, path: Cameras) -> Path:
    poses = path.poses @ GL
    table = np.concatenate([quaternions(poses), poses[:, :3, 3]], axis=1)
    lens = path.intrinsics[0].T.ravel().tolist()
    size = {"h": path.height, "w": path.width, "fps": RATE}
    return put(folder, "metadata.json", {"poses": table.tolist(), "K": lens, **size})


# --- Tables -----------------------------------------------------------------------------------------------


def tum_nanoseconds(folder: Path, path: Cameras) -> Path:
    times = np.round(1403636579763555584 + np.arange(len(path)) * 1e9 / RATE)
    table = rows(path.poses[:, :3, 3], quaternions(path.poses)).splitlines()
    lines = [f"{int(time)} {line}  # frame\r\n" for time, line in zip(times, table, strict=True)]
    return put(folder, "traj.txt", "".join(lines))


def tum_commas(folder: Path, path: Cameras) -> Path:
    times = np.arange(len(path)) / RATE
    table = rows(times, path.poses[:, :3, 3], quaternions(path.poses), between=", ")
    return put(folder, "traj.csv", "timestamp,tx,ty,tz,qx,qy,qz,qw\n" + table)


def euroc(folder: Path, path: Cameras) -> Path:
    times = np.round(np.arange(len(path)) * 1e9 / RATE)
    head = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [],"
    head += "".join(
        f" {name}" for name in ("v_x [m s^-1],", "v_y,", "v_z,", "w_x,", "w_y,", "w_z,", "a_x,", "a_y,")
    )
    body = path.poses[:, :3, 3], quaternions(path.poses, w_first=True), np.zeros((len(path), 9))
    return put(folder, "data.csv", head + " a_z\n" + rows(times, *body, between=","))


def kitti(folder: Path, path: Cameras) -> Path:
    return put(folder, "00.txt", rows(path.poses[:, :3]))


def square_rows(folder: Path, path: Cameras) -> Path:
    return put(folder, "traj.txt", rows(path.poses))


def realestate(folder: Path, path: Cameras) -> Path:
    times = 5339333 + np.round(np.arange(len(path)) * 1e6 / RATE)
    k = path.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] / [path.width, path.height, path.width, path.height]
    table = rows(times, k, np.zeros((len(path), 2)), np.linalg.inv(path.poses)[:, :3])
    return put(folder, "0a1b2c.txt", "https://www.youtube.com/watch?v=abc#t=1\n" + table)


def llff(folder: Path, path: Cameras) -> Path:
    """Axes down, right, back; then height, width, focal length; then the bounds of the depth."""
    right, down, forward = np.moveaxis(path.poses[:, :3, :3], 2, 0)
    lens = np.tile([path.height, path.width, path.intrinsics[0, 0, 0]], (len(path), 1))
    blocks = np.stack([down, right, -forward, path.poses[:, :3, 3], lens], axis=2)
    bounds = np.tile([1.0, 9.0], (len(path), 1))
    return put(folder, "poses_bounds.npy", np.concatenate([blocks.reshape(len(path), 15), bounds], axis=1))


# --- Arrays -----------------------------------------------------------------------------------------------


def arrays(
    folder: Path, path: Cameras, name: str, lens: str, *, inverse: bool = False, batch: bool = False
) -> Path:
    poses = np.linalg.inv(path.poses) if inverse else path.poses
    poses = poses[:, :3] if inverse else poses
    named = {name: poses[None] if batch else poses, lens: path.intrinsics[None] if batch else path.intrinsics}
    return put(folder, "a.npz", named | {"images": np.zeros((2, 3), np.uint8), "depths": np.zeros(3)})


# --- glTF -------------------------------------------------------------------------------------------------

KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def gltf_tracks(document: dict, *tracks: np.ndarray) -> tuple[dict, bytes]:
    """A document with float tracks as accessors 0, 1, ..., and its buffer."""
    binary, document = b"", document | {"accessors": [], "bufferViews": [], "asset": {"version": "2.0"}}
    for number, track in enumerate(tracks):
        track = np.reshape(track, (len(track), -1))
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": track.size * 4}
        document["bufferViews"].append(view)
        document["accessors"].append(
            {"bufferView": number, "componentType": 5126, "count": len(track), "type": KINDS[track.shape[1]]}
        )
        binary += track.astype("<f4").tobytes()
    return document, binary


def glb_pack(document: dict, binary: bytes | None) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary is not None:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def glb_of(document: dict, *tracks: np.ndarray) -> bytes:
    return glb_pack(*gltf_tracks(document, *tracks))


def gltf_scene(path: Cameras) -> tuple[dict, bytes]:
    """glTF's world is y up; the camera hangs on a turned, moved, evenly scaled node given as a matrix."""
    parent = np.eye(4)
    parent[:3, :3] = Rotation.from_rotvec([0.5, 0.1, -0.3]).as_matrix() * 2
    parent[:3, 3] = 3, 1, 2
    world = GL @ path.poses @ GL
    local = np.linalg.inv(parent) @ world
    local[:, :3, :3] *= 2
    samplers = [{"input": 0, "output": 1}, {"input": 0, "output": 2}]
    channels = [
        {"sampler": n, "target": {"node": 1, "path": p}} for n, p in enumerate(("translation", "rotation"))
    ]
    lens = {"yfov": path.fov_y[0], "aspectRatio": path.width / path.height, "znear": 0.1}
    document = {
        "cameras": [{"type": "perspective", "perspective": lens}],
        "nodes": [{"children": [1], "matrix": parent.T.ravel().tolist()}, {"camera": 0, "name": "Cam"}],
        "scenes": [{"nodes": [0]}],
        "animations": [{"samplers": samplers, "channels": channels}],
    }
    document, binary = gltf_tracks(document, np.arange(len(path)) / RATE, local[:, :3, 3], quaternions(local))
    document["buffers"] = [{"byteLength": len(binary)}]
    return document, binary


def glb(folder: Path, path: Cameras) -> Path:
    return put(folder, "scene.glb", glb_pack(*gltf_scene(path)))


def glb_curves(folder: Path, path: Cameras) -> Path:
    """Cubic places, stepped turns, a zoom by a pointer in packed and sparse numbers, a second camera."""
    document, binary = gltf_scene(path)
    document["nodes"].append({"camera": 0, "name": "still"})
    count, start = len(path), len(binary)
    cubic = np.repeat(path.poses[:, :3, 3], 3, axis=0).astype("<f4").tobytes()
    angles = np.linspace(20000, 30000, count).astype("<u2").tobytes() + b"\0\0" * (count % 2)
    binary += cubic + angles + np.array([1, 3, 21000, 25000], "<u2").tobytes()
    views = len(document["bufferViews"])
    starts = np.cumsum([start, len(cubic), len(angles), 4]).tolist()
    document["bufferViews"] += [{"buffer": 0, "byteOffset": at} for at in starts]
    some = {"indices": {"bufferView": views + 2, "componentType": 5123}, "values": {"bufferView": views + 3}}
    zoom = {"componentType": 5123, "normalized": True, "count": count, "type": "SCALAR"}
    document["accessors"] += [
        {"bufferView": views, "componentType": 5126, "count": 3 * count, "type": "VEC3"},
        zoom | {"bufferView": views + 1, "sparse": {"count": 2} | some},
    ]
    animation = document["animations"][0]
    animation["samplers"][0] |= {"output": 3, "interpolation": "CUBICSPLINE"}
    animation["samplers"][1] |= {"interpolation": "STEP"}
    animation["samplers"].append({"input": 0, "output": 4})
    pointer = {"KHR_animation_pointer": {"pointer": "/cameras/0/perspective/yfov"}}
    animation["channels"].append({"sampler": 2, "target": {"path": "pointer", "extensions": pointer}})
    return put(folder, "scene.glb", glb_pack(document, binary))


def gltf_inline(folder: Path, path: Cameras) -> Path:
    document, binary = gltf_scene(path)
    uri = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    document["buffers"][0]["uri"] = uri
    return put(folder, "scene.gltf", document)


def gltf_apart(folder: Path, path: Cameras) -> Path:
    document, binary = gltf_scene(path)
    document["buffers"][0]["uri"] = "my scene.bin"
    put(folder, "my scene.bin", binary)
    return put(folder, "scene.gltf", document)
