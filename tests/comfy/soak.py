"""What the clients of a soak send: random prompts, right ones and wrong ones, and what right ones left."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import PromptError, Run, Server
from .test_server import as_prompt

Prompt = dict[str, Any]

ACCELERATIONS = (
    "custom", "fora", "none", "paper", "toca", "custom", "taylorseer", "paper-fast", "duca", "worldcache",
)  # fmt: skip
"""HERO Patch (custom, presets), Cache Method, neither: a pool takes them in turn."""
SAMPLERS = ("KSampler", "AetherSampler")
STREAMS = ("rgb", "disparity", "raymap")
_MANY_STEPS = 300
"""So that an interrupt comes before the end."""


@dataclass(frozen=True)
class Job:
    """One prompt of a soak.

    Attributes:
        kind: "run", "interrupted", "refused" (by the validation) or "failing" (while it runs).
        case: which of the pool's settings it has; None for the other kinds.
        node: where it is to be interrupted, or has its mistake.
        field: what the error must name.
        after: the value of the node's progress to interrupt at.
    """

    kind: str
    prompt: Prompt
    case: int | None = None
    node: str = ""
    field: str = ""
    after: int = 1


def make_pool(rng: random.Random, size: int) -> list[Prompt]:
    """Settings to draw from: every acceleration, sampler and stream in turn, all else by chance."""
    return [
        random_prompt(
            rng, ACCELERATIONS[n % len(ACCELERATIONS)], SAMPLERS[n // 2 % 2], STREAMS[n % len(STREAMS)]
        )
        for n in range(size)
    ]


def make_jobs(rng: random.Random, number: int, pool: list[Prompt]) -> list[Job]:
    """In random order: a tenth interrupted, a tenth refused, a twentieth failing, the rest from the pool."""
    tenth, twentieth = max(2, number // 10), max(1, number // 20)
    jobs = [(_interrupted_sampling, _interrupted_writing)[n % 2](rng) for n in range(tenth)]
    jobs += [_with_mistake(rng, "refused", REFUSED[n % len(REFUSED)]) for n in range(tenth)]
    jobs += [_with_mistake(rng, "failing", FAILING[n % len(FAILING)]) for n in range(twentieth)]
    runs = number - len(jobs)
    cases = [*range(len(pool)), *rng.choices(range(len(pool)), k=runs)][:runs]
    jobs += [Job("run", pool[case], case) for case in cases]
    rng.shuffle(jobs)
    return jobs


def random_prompt(rng: random.Random, acceleration: str, sampler: str, stream: str) -> Prompt:
    """A graph on the miniature that saves its latent and one decoded stream."""
    task = rng.choice(("AetherReconstruct", "AetherPredict", "AetherPlan"))
    width, height = rng.choice(((48, 32), (32, 48), (64, 32)))
    pictures = {
        "AetherReconstruct": {"video": ["clip", 0], "frames": "auto"},
        "AetherPredict": {"image": ["clip", 1], "frames": "17"},
        "AetherPlan": {"start": ["clip", 1], "goal": ["clip", 2], "frames": "17"},
    }[task]
    fast = {} if acceleration == "none" else {"fast": _acceleration(rng, acceleration)}
    model = ["fast" if fast else "model", 0]
    nodes = {
        "model": ("AetherMiniature", {}),
        "clip": ("AetherExample", {"scene": rng.randrange(3), "frames": "17", "width": 64, "height": 48}),
        "task": (task, {"vae": ["model", 1], "width": width, "height": height,
                        "fps": rng.choice(("auto", "8", "24")), "seed": _seed(rng), **pictures}),
        **fast,
        "sampler": _sampler(rng, sampler, model, guided=task != "AetherReconstruct"),
        "latent": ("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": "soak/latent"}),
        "split": ("AetherSplit", {"latent": ["sampler", 0]}),
        **_stream(rng, stream),
    }  # fmt: skip
    if fast and rng.random() < 0.3:
        nodes["report"] = ("HeroReport", {"model": model, "latent": ["sampler", 0]})
    return as_prompt(nodes)


def _acceleration(rng: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    if name in ("custom", "paper", "paper-fast"):
        frames, rows, columns = rng.choice(((1, 2, 3), (1, 2, 2), (2, 2, 3), (1, 4, 4)))
        return "HeroPatch", {
            "model": ["model", 0], "preset": name, "tau": round(rng.uniform(0.05, 1.0), 2),
            "interval": rng.randint(2, 4),
            "ratio": round(rng.uniform(0.5 / (frames * rows * columns) + 0.005, 1.0), 2),  # half a token
            "threshold": rng.choice((0.0, 0.1, 0.5)), "warmup": rng.choice(("1", "30%")),
            "cooldown": rng.choice(("0", "1", "20%")), "storage": "model",
            "patch_frames": frames, "patch_rows": rows, "patch_columns": columns,
            "text": rng.choice(("refresh", "omit")), "seed": _seed(rng),
            "shallow": rng.choice(("reuse", "forecast")), "feedback": rng.choice((0.0, 0.5, 1.0)),
        }  # fmt: skip
    settings: dict[str, Any] = {"interval": rng.randint(2, 3), "warmup": str(rng.randint(1, 2))}
    if name != "worldcache":
        settings["cooldown"] = rng.choice(("0", "1"))
    if name == "taylorseer":
        settings["order"] = rng.randint(1, 3)
    if name in ("toca", "duca"):
        settings |= {"ratio": round(rng.uniform(0.1, 0.9), 2), "staleness": 0.25, "bonus": 0.6,
                     "score": rng.choice(("value", "key", "random")), "seed": _seed(rng),
                     "taper": rng.choice((0.0, 0.4))}  # fmt: skip
    if name == "duca":
        settings["first"] = rng.choice(("toca", "aggressive"))
    if name == "worldcache":
        settings |= {"warmup": "3", "threshold": rng.choice((0.2, 10.0)), "stable": 0.3, "chaotic": 0.4}
    named = {f"method.{key}": value for key, value in settings.items()}
    return "HeroMethod", {"model": ["model", 0], "method": name, **named}


def _sampler(rng: random.Random, name: str, model: list, guided: bool) -> tuple[str, dict[str, Any]]:
    common = {"model": model, "positive": ["task", 0], "negative": ["task", 1], "seed": _seed(rng),
              "steps": rng.randint(3, 6)}  # fmt: skip
    if name == "KSampler":
        return name, common | {
            "latent_image": ["task", 2], "cfg": rng.choice((1.0, 3.0)), "denoise": 1.0,
            "sampler_name": rng.choice(("euler", "heun", "dpmpp_2m")), "scheduler": "sgm_uniform",
        }  # fmt: skip
    return name, common | {
        "latent": ["task", 2], "guidance": rng.choice((0.0, 1.0, 3.0)) if guided else 0.0,
        "scheduler": rng.choice(("dpm", "ddim")), "dynamic_guidance": rng.choice(("auto", "off")),
        "guidance_skip": rng.choice((0.0, 0.05)),
    }  # fmt: skip


def _stream(rng: random.Random, stream: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Decode a stream and save it: as pictures in "save", as files of the pack's own in "files"."""
    if stream == "rgb":
        decoded = {"rgb": ("VAEDecode", {"samples": ["split", 0], "vae": ["model", 1]})}
        images = ["rgb", 0]
    elif stream == "disparity":
        decoded = {
            "depth": ("AetherDepth", {"vae": ["model", 1], "disparity": ["split", 1],
                                      "normalize": rng.choice(("sequence", "none")),
                                      "colormap": rng.choice(("gray", "Spectral"))}),
            "files": _save_depth(["depth", 1], rng.choice(("exr", "png16"))),
        }  # fmt: skip
        images = ["depth", 0]
    else:
        decoded = {
            "cameras": ("AetherCameras", {"raymap": ["split", 2]}),
            "files": ("AetherSaveCameras", {"cameras": ["cameras", 0], "filename_prefix": "soak/cameras",
                                            "format": rng.choice(("json", "glb", "tum"))}),
        }  # fmt: skip
        return decoded
    return decoded | {"save": ("SaveImage", {"images": images, "filename_prefix": "soak/picture"})}


def _save_depth(depth: list, format: str) -> tuple[str, dict[str, Any]]:
    return "AetherSaveDepth", {"depth": depth, "format": format, "quantity": "depth", "fps": 12.0,
                               "filename_prefix": "soak/depth", "near": 0.0, "far": 0.0}  # fmt: skip


def _seed(rng: random.Random) -> int:
    return rng.randrange(2**31)


def _any_prompt(rng: random.Random, acceleration: str | None = None, sampler: str | None = None) -> Prompt:
    return random_prompt(
        rng,
        acceleration or rng.choice(ACCELERATIONS),
        sampler or rng.choice(SAMPLERS),
        rng.choice(STREAMS),
    )


def _interrupted_sampling(rng: random.Random) -> Job:
    prompt = _any_prompt(rng)
    prompt["sampler"]["inputs"]["steps"] = _MANY_STEPS
    return Job("interrupted", prompt, node="sampler", after=rng.randint(1, 6))


def _interrupted_writing(rng: random.Random) -> Job:
    """While a sequence of depth is written, its frames enlarged so that this takes a while."""
    prompt = _any_prompt(rng) | as_prompt({
        "depth": ("AetherDepth", {"vae": ["model", 1], "disparity": ["split", 1], "normalize": "none",
                                  "colormap": "gray"}),
        "large": ("ImageScale", {"image": ["depth", 1], "upscale_method": "bilinear", "width": 768,
                                 "height": 512, "crop": "disabled"}),
        "files": _save_depth(["large", 0], "exr"),
    })  # fmt: skip
    for other in ("latent", "save", "report"):
        prompt.pop(other, None)
    return Job("interrupted", prompt, node="files", after=rng.randint(1, 4))


# Node, its inputs, what the server's answer must name.
REFUSED = (
    ("fast", {"tau": 2.0}, "tau"),
    ("fast", {"preset": "fastest"}, "preset"),
    ("sampler", {"steps": 0}, "steps"),
    ("task", {"fps": "13"}, "fps"),
    ("fast", {"interval": 0}, "interval"),
    ("sampler", {"model": ["nowhere", 0]}, "nowhere"),
)
FAILING = (
    ("fast", {"patch_frames": 6}, "patch"),
    ("task", {"width": 100, "height": 60}, "width, height"),
    ("task", {"width": 96, "height": 0}, "width, height"),
    ("fast", {"tau": float("nan")}, "tau"),
)


def _with_mistake(rng: random.Random, kind: str, mistake: tuple[str, dict[str, Any], str]) -> Job:
    node, inputs, field = mistake
    prompt = _any_prompt(rng, "custom", "KSampler")
    prompt[node]["inputs"] |= inputs
    return Job(kind, prompt, node=node, field=field)


def perform(server: Server, job: Job) -> Run | None:
    """Send a job and see it end as it should: a run's events and outputs, None for the other kinds.

    Raises:
        AssertionError: it ended in another way.
    """
    try:
        run = server.run(job.prompt, _interrupter(server, job))
    except PromptError as error:
        _check_end(job, error.details)
        return None
    assert job.kind == "run", f"is {job.kind}, and yet came to its end"
    return run


def _check_end(job: Job, details: dict[str, Any]) -> None:
    if job.kind == "refused":
        assert "node_errors" in details and job.field in str(details), details
    elif job.kind == "failing":
        assert details["event"] == "execution_error", details
        assert details["exception_message"].startswith(f"{job.field}: "), details
    else:
        assert job.kind == "interrupted" and details["event"] == "execution_interrupted", details
        assert details["node_id"] == job.node, details


def _interrupter(server: Server, job: Job) -> Callable[[str, dict[str, Any]], None]:
    asked = False

    def watch(event: str, data: dict[str, Any]) -> None:
        nonlocal asked
        if job.kind == "interrupted" and event == "progress" and not asked:
            if data["node"] == job.node and data["value"] >= job.after:
                asked = True
                server.interrupt(data["prompt_id"])

    return watch


def files_of(server: Server, run: Run) -> dict[str, list[Path]]:
    """What each node of a run says that it has written."""
    files = {}
    for node, shown in run.outputs.items():
        entries = [*shown.get("images", []), *shown.get("latents", [])]
        files[node] = [server.base / e["type"] / e["subfolder"] / e["filename"] for e in entries]
        if node == "files":
            (name,) = shown["text"]
            written = server.base / "output" / name
            files[node] += sorted(written.iterdir()) if written.is_dir() else [written]
    return files


def result_of(server: Server, run: Run) -> dict[str, str]:
    """Digests of all that a run saved, by node. HERO Report's picture is left out: it shows times."""
    results = {}
    for node, paths in files_of(server, run).items():
        if node != "report":
            digest = hashlib.sha256()
            for path in paths:
                digest.update(_content(path))
            results[node] = digest.hexdigest()
    return results


def steps_of(run: Run) -> list[tuple[int, int, int]]:
    """(full steps, cached steps, cached bytes) that a run reported; empty where it was not sampled anew."""
    return [(told["full"], told["cached"], told["bytes"]) for told in run.data("aether_hero.report")]


def _content(path: Path) -> bytes:
    """What a file holds, without the prompt that core writes beside it."""
    if path.suffix == ".latent":
        from safetensors.numpy import load_file

        return load_file(path)["latent_tensor"].tobytes()
    if path.suffix == ".png":
        from PIL import Image

        return Image.open(path).tobytes()
    return path.read_bytes()
