"""VBench's dimensions of generated videos, by its own package."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from aether.errors import InputError

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
"""Those that the papers report for planning. They need no prompt."""
VIDEO_SUFFIXES = (".mp4",)  # all that its dimensions of motion read


def open_videos(path: str | Path) -> dict[str, Path]:
    """Videos by name: a video, a run folder of aether (its rgb.mp4), or a folder of either.

    Raises:
        InputError: nothing there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError("videos", f"{path} does not exist")
    video = _video(path)
    if video:
        return {path.stem if path.is_file() else path.resolve().name: video}
    entries = sorted(path.iterdir()) if path.is_dir() else []
    found = [(entry.stem if entry.is_file() else entry.name, _video(entry)) for entry in entries]
    videos = {name: video for name, video in found if video}
    if not videos:
        raise InputError("videos", f"{path} holds no .mp4 files and no runs of aether")
    return videos


def _video(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in VIDEO_SUFFIXES else None
    inside = path / "rgb.mp4"
    return inside if inside.exists() else None


def vbench_scores(
    videos: dict[str, Path], *, device: str = "cuda"
) -> tuple[dict[str, float], dict[str, Any]]:
    """Have VBench score videos in its mode for videos of one's own.

    Args:
        videos: name to path.
        device: for its networks, whose weights it downloads the first time.

    Returns:
        dimension to its score over all videos, in percent as in the papers; and VBench's own results file,
        with its numbers by video.

    Raises:
        ImportError: VBench is missing.
        InputError: VBench left a dimension out.
    """
    package = require_vbench()
    # In the mode "custom_input" the list of VBench's own prompts is not read.
    prompts = Path(package.__file__).with_name("VBench_full_info.json")
    with tempfile.TemporaryDirectory() as scratch:
        folder, results = Path(scratch, "videos"), Path(scratch, "results")
        folder.mkdir()
        for name, path in videos.items():
            shutil.copyfile(path, folder / f"{name}{path.suffix.lower()}")
        package.VBench(device, str(prompts), str(results)).evaluate(
            videos_path=str(folder),
            name="videos",
            dimension_list=list(DIMENSIONS),
            mode="custom_input",
            imaging_quality_preprocessing_mode="longer",
        )
        details = json.loads((results / "videos_eval_results.json").read_text(encoding="utf-8"))
    missing = [name for name in DIMENSIONS if name not in details]
    if missing:
        raise InputError("videos", f"VBench gave no score for {', '.join(missing)}")
    return {name: 100 * float(details[name][0]) for name in DIMENSIONS}, details


def require_vbench() -> Any:
    """The package, with a message that says how to get it."""
    try:
        import vbench
    except ImportError as error:
        raise ImportError(
            "these dimensions are measured by VBench (https://github.com/Vchitect/VBench), which needs CUDA "
            'and pins old packages: "pip install vbench" in an environment of its own, and run this there'
        ) from error
    return vbench
