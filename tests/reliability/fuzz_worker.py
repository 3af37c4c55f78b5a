"""Feeds damaged files to every reader, in a process of its own whose memory is limited.

    python -m tests.reliability.fuzz_worker COUNT [READER ...]
    python -m tests.reliability.fuzz_worker 1 READER --only 4711

A line of JSON per reader: how many inputs it refused and read, the failures, the slowest, the memory it took.
Every input hangs on the reader's name and its own number alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from .damage import damaged

SECONDS = 10.0
"""No input may take more seconds of a processor than this; seconds of a clock hang on what else runs."""
MEMORY = 2**30
"""No reader may take more bytes than this: a file of a few kB must not fill the machine."""
_FAILURES_SHOWN = 5

warnings.simplefilter("ignore")  # of damaged numbers, which is what this is about


@dataclass(frozen=True)
class Reader:
    """A reader with good files for it.

    Attributes:
        files: name to content.
        read: is given the folder that holds them; raises InputError, or returns something.
        check: fails where that is not right.
        share: of the inputs asked for that are tried, below 1 where one takes long.
        beside: files that are not damaged.
    """

    files: dict[str, bytes]
    read: Callable[[Path], Any]
    check: Callable[[Any], bool]
    share: float = 1.0
    beside: dict[str, bytes] = field(default_factory=dict)


class Hang(BaseException):
    """An input took too long."""


def _ring(*_: Any) -> None:
    raise Hang


def _vm_data() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(name: str, reader: Reader, numbers: range, folder: Path) -> dict[str, Any]:
    """Feed it the damaged files of these numbers."""
    from aether.errors import InputError

    for file, content in {**reader.files, **reader.beside}.items():
        (folder / file).write_bytes(content)
    assert reader.check(reader.read(folder)), f"{name}: the good file is not read"
    counts, failures, slowest, before = {"refused": 0, "read": 0}, [], 0.0, _peak()
    limit = _vm_data() + MEMORY
    for number in numbers:
        rng = Random(f"{name} {number}")
        file = rng.choice(list(reader.files))
        (folder / file).write_bytes(damaged(file, reader.files[file], rng))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        start = time.process_time()
        try:
            result = reader.read(folder)
            outcome = "read" if reader.check(result) else "a wrong result"
        except InputError as error:
            outcome = "refused" if error.field and len(str(error)) > len(error.field) + 5 else "no message"
        except Hang:
            outcome = f"over {SECONDS} s"
        except BaseException as error:  # whatever it is, it is a finding
            outcome = "".join(traceback.format_exception(error, limit=-4))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        slowest = max(slowest, time.process_time() - start)
        if outcome in counts:
            counts[outcome] += 1
        else:
            failures.append(f"--only {number} ({file}): {outcome}")
        (folder / file).write_bytes(reader.files[file])
    return {
        "reader": name,
        **counts,
        "failed": len(failures),
        "failures": failures[:_FAILURES_SHOWN],
        "slowest": round(slowest, 3),
        "megabytes": (_peak() - before) // 2**20,
    }


def _cameras() -> dict[str, Reader]:
    from aether.formats.camera_files import FORMATS, read_cameras, write_cameras
    from aether.geometry.trajectory import preset

    path = preset("orbit left", 0.5, frames=5, fps=12)
    made = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in FORMATS:
            written = write_cameras(Path(scratch) / name, path, 12, name)
            files = sorted(written.iterdir()) if written.is_dir() else [written]
            made[name] = {file.name: file.read_bytes() for file in files if file.name != "points3D.txt"}
        arrays = {"poses": path.poses, "intrinsics": path.intrinsics, "height": 48, "width": 64, "fps": 12.0}
        np.savez(Path(scratch) / "cameras.npz", **arrays)
        np.save(Path(scratch) / "poses.npy", path.poses)
        for name in ("cameras.npz", "poses.npy"):
            made[name] = {name: (Path(scratch) / name).read_bytes()}
    poses = json.dumps({"poses": path.poses.tolist(), "fps": 12}).encode()
    made["poses.json"] = {"poses.json": poses}
    made |= _other_cameras()

    def right(found: Any) -> bool:
        rate = found.fps is None or 0 < found.fps < np.inf
        return rate and len(found.cameras) >= 2 and bool(np.isfinite(found.cameras.fov_x).all())

    def reader(files: dict[str, bytes]) -> Reader:
        models = {"images.txt", "images.bin", "scene.gltf"} & files.keys()
        name = next(iter(models or files))
        return Reader(files, lambda folder: read_cameras(folder / name), right)

    return {f"camera {name}": reader(files) for name, files in made.items()}


def _other_cameras() -> dict[str, dict[str, bytes]]:
    """Formats that are read and not written: name to files."""
    from functools import partial

    from ..aether import camera_makers as make

    makers = {
        "colmap binary": make.colmap_binary,
        "instant-ngp": make.instant_ngp,
        "viewer path": make.viewer_path,
        "splatting": make.splatting,
        "record3d": make.record3d,
        "tum commas": make.tum_commas,
        "euroc": make.euroc,
        "kitti": make.kitti,
        "realestate": make.realestate,
        "llff": make.llff,
        "extrinsics npz": partial(make.arrays, name="extrinsics", lens="K", inverse=True, batch=True),
        "glb with parents": make.glb,
        "gltf": make.gltf_inline,
        "gltf apart": make.gltf_apart,
        "glb curves": make.glb_curves,
    }
    found = {}
    for name, maker in makers.items():
        with tempfile.TemporaryDirectory() as scratch:
            maker(Path(scratch), make.asymmetric_path())
            found[name] = {file.name: file.read_bytes() for file in sorted(Path(scratch).iterdir())}
    return found


def _arrays() -> dict[str, Reader]:
    from aether.run.job import read_raymap
    from evaluation.sintel import read_cam, read_dpt
    from evaluation.sources import ArrayFile, RunFolder

    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (3, 8, 12)).astype(np.float32)
    poses = np.tile(np.eye(4), (3, 1, 1))
    frames = [{"pose": np.eye(4).tolist(), "intrinsics": [[9, 0, 6], [0, 9, 4], [0, 0, 1]]} for _ in poses]
    document = {"frames": frames, "height": 8, "width": 12, "fps": 12}
    raymap = rng.normal(size=(3, 6, 1, 2)).astype(np.float32)
    tag = struct.pack("<f", 202021.25)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "result.npz"
        rgb = rng.uniform(size=(3, 8, 12, 3)).astype(np.float32)
        np.savez(file, depth=depth, disparity=1 / depth, rgb=rgb, raymap=raymap, poses=poses, fps=12.0)
        result = file.read_bytes()
        np.save(Path(scratch) / "raymap.npy", raymap)
        stored = (Path(scratch) / "raymap.npy").read_bytes()

    def everything(source: Any) -> list[Any]:
        return [source.size(), source.fps(), source.depth(), source.depth(100.0), source.poses()]

    def right(found: list[Any]) -> bool:
        size, fps, depth, far, poses = found
        usual = len(size) == 3 and all(isinstance(n, int) and n > 0 for n in size)
        return (
            usual
            and np.isfinite(fps)
            and fps > 0
            and depth.ndim == far.ndim == 3
            and poses.shape[1:] == (4, 4)
        )

    def streams(folder: Path) -> Any:
        return ArrayFile(folder / "result.npz").streams()

    numbers = np.concatenate([np.array(frames[0]["intrinsics"], float).ravel(), np.eye(4)[:3].ravel()])
    return {
        "evaluation npz": Reader(
            {"result.npz": result}, lambda folder: everything(ArrayFile(folder / "result.npz")), right
        ),
        "evaluation streams": Reader({"result.npz": result}, streams, lambda found: found is not None),
        "evaluation run": Reader(
            {"depth.npz": result, "cameras.json": json.dumps(document).encode()},
            lambda folder: everything(RunFolder(folder)),
            right,
        ),
        "sintel dpt": Reader(
            {"a.dpt": tag + struct.pack("<ii", 12, 8) + depth[0].astype("<f4").tobytes()},
            lambda folder: read_dpt(folder / "a.dpt"),
            lambda found: found.ndim == 2 and found.size > 0,
        ),
        "sintel cam": Reader(
            {"a.cam": tag + numbers.astype("<f8").tobytes()},
            lambda folder: read_cam(folder / "a.cam"),
            lambda found: bool(np.isfinite(found[0]).all() and np.isfinite(found[1]).all()),
        ),
        "raymap npy": Reader(
            {"raymap.npy": stored},
            lambda folder: read_raymap(str(folder / "raymap.npy")),
            lambda found: found.ndim == 4 and bool(np.isfinite(found).all()),
        ),
    }


def _depth() -> dict[str, Reader]:
    """Pictures hold exactly what was written, or are refused; depth.json may tell of other numbers."""
    from aether.formats.depth_files import ABOUT, FORMATS, read_depth, write_depth

    rng = np.random.default_rng(0)
    values = rng.uniform(1, 5, (3, 20, 12))
    readers = {}
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_depth(Path(scratch) / name, values, 12, format=name, mask=values > 4.8)
            whole = {file.name: file.read_bytes() for file in folder.iterdir()}
            truth = read_depth(folder).values
        about = {ABOUT: whole.pop(ABOUT)}

        def same(found: Any, truth: np.ndarray = truth) -> bool:
            return np.array_equal(found.values, truth)

        def usual(found: Any, truth: np.ndarray = truth) -> bool:
            rate = np.isfinite(found.fps) and found.fps > 0
            return rate and found.values.shape == truth.shape and bool((found.values >= 0).all())

        readers[f"depth {name}"] = Reader(whole, read_depth, same, beside=about)
        readers[f"depth {name} json"] = Reader(about, read_depth, usual, beside=whole)
    return readers


def _comparison() -> dict[str, Reader]:
    from evaluation.compare.contenders import SAMPLERS, Contender, read_settings
    from evaluation.compare.journal import Journal

    settings = {"fora": {"interval": 3}, "hero": {"tau": "50%"}}
    entries = [{"method": name, "settings": values} for name, values in settings.items()]
    setup = {"weights": "ab12", "steps": 8}
    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch) / "runs.jsonl", setup)
        for number in range(3):
            journal.add({"seed": number, "error": 0.5, "contender": entries[0]})
        journaled = (Path(scratch) / "runs.jsonl").read_bytes()

    def contenders(found: Any) -> bool:
        return all(isinstance(one, Contender) and one.key for some in found.values() for one in some)

    return {
        "comparison settings": Reader(
            {"settings.json": json.dumps(dict.fromkeys(SAMPLERS, entries)).encode()},
            lambda folder: read_settings(folder / "settings.json"),
            contenders,
        ),
        "comparison journal": Reader(
            {"runs.jsonl": journaled},
            lambda folder: Journal(folder / "runs.jsonl", setup).records,
            lambda found: all(isinstance(record, dict) for record in found),
        ),
    }


def _checkpoints() -> dict[str, Reader]:
    import torch

    from training.state import Average, averaged, restore, save

    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    names = sorted(name for name, _ in module.named_parameters())
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "work.safetensors"
        save(file, 5, module, Average(module), [optimizer])
        checkpoint = file.read_bytes()

    def restored(folder: Path) -> int:
        fresh = torch.nn.Linear(4, 3)
        return restore(
            folder / "work.safetensors", fresh, Average(fresh), [torch.optim.AdamW(fresh.parameters())]
        )

    return {
        "training checkpoint": Reader(
            {"work.safetensors": checkpoint}, restored, lambda step: isinstance(step, int)
        ),
        "training average": Reader(
            {"work.safetensors": checkpoint},
            lambda folder: averaged(folder / "work.safetensors"),
            lambda found: sorted(found) == names,
        ),
    }


def _weights() -> dict[str, Reader]:
    import torch
    from diffusers import AutoencoderKLCogVideoX
    from safetensors.torch import save

    from aether.errors import InputError
    from aether.generation.latents import Decoded
    from aether.long.store import WindowStore
    from aether.model.loading import load_transformer, load_vae
    from aether.model.prompt import load_prompt_embeds
    from aether.model.schedulers import make_scheduler
    from aether.model.weights import read_header

    from ..aether.tiny import VAE
    from ..hero_engine.models import scheduler, tiny_transformer

    model = tiny_transformer(1, width=32)
    state = save({key: value.contiguous() for key, value in model.state_dict().items()})
    small = save({"a": torch.randn(4, 4), "b": torch.randn(2, 3, 4)})
    embeds = save({"prompt_embeds": torch.randn(1, 6, 16)})
    config = {"_class_name": type(model).__name__, **model.config}
    config = {key: value for key, value in config.items() if key[0] != "_" or key == "_class_name"}
    schedule = {key: value for key, value in scheduler().config.items() if not key.startswith("_")}
    weights = "diffusion_pytorch_model.safetensors"
    index = {"weight_map": {key: weights for key in model.state_dict()}}

    vae = AutoencoderKLCogVideoX(**VAE)
    vae_state = save({key: value.contiguous() for key, value in vae.state_dict().items()})
    vae_config = {"_class_name": type(vae).__name__} | VAE

    def tensors_of(module: Any) -> bool:
        return sorted(module.state_dict()) == sorted(model.state_dict())

    def vae_of(module: Any) -> bool:
        scale = module.config.scaling_factor
        return sorted(module.state_dict()) == sorted(vae.state_dict()) and 0 < scale < np.inf

    with tempfile.TemporaryDirectory() as scratch:
        store = WindowStore(Path(scratch), {})
        arrays = [np.zeros(shape, np.float32) for shape in ((3, 8, 12, 3), (3, 8, 12), (3, 6, 1, 2))]
        store.save(0, Decoded(*arrays), {"seconds": {}})
        name, window = store.path(0).name, store.path(0).read_bytes()

    def finished(folder: Path) -> list[tuple[int, ...]]:
        kept = WindowStore(folder / "store", {})
        kept.folder.mkdir(parents=True, exist_ok=True)
        kept.path(0).write_bytes((folder / name).read_bytes())
        if kept.finished(1, (3, 8, 12)):
            return [kept.array(0, array)[:].shape for array in ("rgb", "disparity", "raymap")]
        raise InputError("window", "is not taken for finished")

    return {
        "safetensors header": Reader(
            {"a.safetensors": small},
            lambda folder: read_header(folder / "a.safetensors", "weights"),
            lambda shapes: all(len(shape) < 65 for shape in shapes.values()),
        ),
        "prompt embeds": Reader(
            {"prompt.safetensors": embeds},
            lambda folder: load_prompt_embeds(folder / "prompt.safetensors"),
            lambda found: found.ndim == 3 and bool(torch.isfinite(found).all()),
        ),
        "scheduler config": Reader(
            {"scheduler_config.json": json.dumps(schedule).encode()},
            lambda folder: make_scheduler("dpm", folder / "scheduler_config.json"),
            lambda found: bool(torch.isfinite(found.alphas_cumprod).all()),
        ),
        "transformer file": Reader(
            {"model.safetensors": state},
            lambda folder: load_transformer(folder / "model.safetensors"),
            tensors_of,
        ),
        "transformer folder": Reader(
            {
                "config.json": json.dumps(config).encode(),
                weights: state,
                f"{weights}.index.json": json.dumps(index).encode(),
            },
            lambda folder: load_transformer(folder),
            tensors_of,
        ),
        "vae file": Reader(
            {"vae.safetensors": vae_state},
            lambda folder: load_vae(folder / "vae.safetensors"),
            vae_of,
            beside={"config.json": json.dumps(vae_config).encode()},
        ),
        "vae folder": Reader(
            {"config.json": json.dumps(vae_config).encode(), weights: vae_state}, load_vae, vae_of
        ),
        "window of a long run": Reader({name: window}, finished, [array.shape for array in arrays].__eq__),
    }


def _encoders_and_loras() -> dict[str, Reader]:
    import torch
    from safetensors.torch import save

    from aether.errors import InputError
    from aether.model.lora_files import CONFIG, read_lora
    from aether.model.text_encoders import identify
    from aether.model.weights import read_header

    block = "encoder.block.0.layer"
    encoder = {
        f"{block}.0.SelfAttention.k.weight": torch.ones(1, 1),
        f"{block}.1.DenseReluDense.wi_1.weight": torch.ones(1, 1).to(torch.float8_e4m3fn),
        "encoder.final_layer_norm.weight": torch.ones(4096),
        "shared.weight": torch.ones(3, 1),
    }
    layers = ["base_model.model.transformer_blocks.0.attn1.to_q", "base_model.model.proj_out"]
    factors = {"A.default": (2, 4), "B.default": (4, 2)}
    lora = {
        f"{layer}.lora_{end}.weight": torch.ones(shape) for layer in layers for end, shape in factors.items()
    }
    settings = {"r": 2, "lora_alpha": 8, "rank_pattern": {"to_k": 4}, "alpha_pattern": {"to_q": 2}}
    settings |= {"peft_type": "LORA", "use_rslora": True, "use_dora": False, "init_lora_weights": True}
    noted = {"lora_adapter_metadata": json.dumps(settings)}

    def encoder_of(folder: Path) -> Any:
        found = identify(read_header(folder / "t5.safetensors", "prompt", quantised=True))
        if found is None:
            raise InputError("prompt", "holds no text encoder that is known")
        return found

    def scaled(file: Any) -> bool:
        alphas = [float(alpha) for alpha in file.alphas.values()]
        finite = all(bool(torch.isfinite(tensor.float()).all()) for tensor in file.tensors.values())
        return finite and bool(np.isfinite(alphas).all()) and (bool(alphas) or not file.alphas)

    return {
        "encoder header": Reader(
            {"t5.safetensors": save(encoder)}, encoder_of, lambda found: bool(found.name and found.table)
        ),
        "lora file": Reader(
            {"x.safetensors": save(lora, noted)}, lambda folder: read_lora(folder / "x.safetensors"), scaled
        ),
        "adapter config": Reader(
            {CONFIG: json.dumps(settings).encode()},
            lambda folder: read_lora(folder / "adapter_model.safetensors"),
            scaled,
            beside={"adapter_model.safetensors": save(lora)},
        ),
    }


def _shards() -> dict[str, Reader]:
    import torch
    from safetensors.torch import save

    from aether.model.loading import load_transformer

    from ..hero_engine.models import tiny_transformer

    model = tiny_transformer(1, width=32)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    config = {"_class_name": type(model).__name__, **model.config}
    config = {key: value for key, value in config.items() if key[0] != "_" or key == "_class_name"}
    names = [f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
    parts = {name: {key: tensors[key] for key in sorted(tensors)[at::2]} for at, name in enumerate(names)}
    files = {name: save(part) for name, part in parts.items()}
    beside = {"config.json": json.dumps(config).encode()}
    weight_map = {key: name for name, part in parts.items() for key in part}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}

    def whole(module: Any) -> bool:
        return all(torch.isfinite(value).all() for value in module.state_dict().values())

    def load(folder: Path) -> Any:
        return load_transformer(folder)

    indexed = {"diffusion_pytorch_model.safetensors.index.fp16.json": json.dumps(index).encode()}
    return {
        "shard index": Reader(indexed, load, whole, beside=files | beside),
        "shards without an index": Reader(files, load, lambda module: True, 0.5, beside=beside),
    }


def _pictures() -> dict[str, Reader]:
    from io import BytesIO

    from PIL import Image

    from aether.clips.clip import read_clip, read_every_frame
    from aether.clips.pictures import read_image
    from aether.formats.export import write_video
    from aether.long.reader import open_clip
    from evaluation.sources import RunFolder
    from tests.aether.videos import encode
    from tests.aether.videos import pictures as made_pictures

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    pictures = {}
    for ending in ("png", "jpeg", "webp", "tiff", "bmp", "ppm"):
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, ending)
        pictures[f"a.{ending}"] = stream.getvalue()
    with tempfile.TemporaryDirectory() as scratch:
        frames = np.linspace(0, 1, 20 * 32 * 48 * 3, dtype=np.float32).reshape(20, 32, 48, 3)
        for ending in ("mp4", "mkv"):
            write_video(Path(scratch) / f"a.{ending}", frames, 12)
        others = {"a.avi": ("mpeg4", 1), "a.ts": ("mpeg2video", 1), "two.mkv": ("libx264", 2)}
        for ending, (codec, streams) in others.items():
            encode(Path(scratch) / ending, made_pictures(20), codec, streams=streams, options={"bf": "2"})
        animated = [Image.fromarray(frame) for frame in made_pictures(6)]
        for ending in ("webp", "gif", "png"):
            path = Path(scratch) / f"animated.{ending}"
            animated[0].save(path, save_all=True, append_images=animated[1:], duration=100)
        videos = {file.name: file.read_bytes() for file in sorted(Path(scratch).iterdir())}
    videos["joined.ts"] = videos.pop("a.ts") * 2

    frames_of_folder = {f"{number}.png": pictures["a.png"] for number in range(3)}
    disparity = BytesIO()
    np.savez(disparity, disparity=rng.uniform(0.1, 1, (20, 32, 48)).astype(np.float32))

    def windows(path: Path) -> list[np.ndarray]:
        return [frames for _, frames in open_clip(path, size=(16, 16)).windows()]

    def long(found: list[np.ndarray]) -> bool:
        return bool(found) and all(len(frames) in (17, 25, 33, 41) for frames in found)

    def still(found: Any) -> bool:
        return found.pixels.ndim == 3 and bool(np.isfinite(found.pixels).all())

    def clip(found: Any) -> bool:
        return len(found.frames) in (17, 25, 33, 41) and bool(np.isfinite(found.frames).all())

    readers = {
        f"picture {name}": Reader({name: content}, lambda folder, name=name: read_image(folder / name), still)
        for name, content in pictures.items()
    }
    for name, content in videos.items():
        readers[f"video {name}"] = Reader(
            {name: content}, lambda folder, name=name: read_clip(folder / name, size=(16, 16)), clip, 0.2
        )
    readers["every frame"] = Reader(
        {"a.mp4": videos["a.mp4"]},
        lambda folder: read_every_frame(folder / "a.mp4"),
        lambda found: found.ndim == 4 and len(found) > 0,
        0.2,
    )
    readers["clip folder"] = Reader(frames_of_folder, lambda folder: read_clip(folder, size=(16, 16)), clip)
    readers["long clip folder"] = Reader(frames_of_folder, windows, long)
    for name, content in videos.items():
        readers[f"long clip {name}"] = Reader(
            {name: content}, lambda folder, name=name: windows(folder / name), long, 0.2
        )
    frames = [{"pose": np.eye(4).tolist(), "intrinsics": np.diag([40.0, 40.0, 1.0]).tolist()}] * 20
    document = {"frames": frames, "height": 32, "width": 48, "fps": 12}
    readers["evaluation run streams"] = Reader(
        {"rgb.mp4": videos["a.mp4"], "cameras.json": json.dumps(document).encode()},
        lambda folder: RunFolder(folder).streams(),
        lambda found: found.rgb.ndim == 4 and found.rgb.size > 0 and found.disparity is not None,
        0.2,
        beside={"depth.npz": disparity.getvalue()},
    )
    return readers


GROUPS = (
    _cameras, _arrays, _depth, _comparison, _checkpoints, _weights, _encoders_and_loras, _shards, _pictures,
)  # fmt: skip


def main(count: int, names: list[str], only: int | None = None) -> None:
    signal.signal(signal.SIGPROF, _ring)
    readers = {name: reader for group in GROUPS for name, reader in group().items()}
    print(json.dumps({"readers": list(readers)}), flush=True)
    for name in names or readers:
        print(json.dumps({"begun": name}), flush=True)
        share = max(1, round(count * readers[name].share))
        numbers = range(share) if only is None else range(only, only + 1)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(fuzz(name, readers[name], numbers, Path(folder))), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = sys.argv[1:]
    chosen = None
    if "--only" in given:
        at = given.index("--only")
        chosen, given = int(given[at + 1]), given[:at]
    main(int(given[0]), given[1:], chosen)
