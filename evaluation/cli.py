"""The command line: `python -m evaluation depth | pose | fidelity | vbench | world | ...`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aether.defaults import steps_text
from aether.errors import InputError, about
from aether.formats.export import check_out_dir
from aether.geometry.metrics import ALIGNMENTS
from aether.memory_errors import is_out_of_memory
from aether.synthetic import SYNTHETIC
from hero_engine.command_options import error_text, number, whole_number

from . import sintel
from .compare.command import add_compare
from .depth import VIEWS, DepthProtocol, average_depth, score_depth, shows_middle
from .layers import add_layers_arguments, layers
from .sources import ArrayFile, Match, Prediction, SyntheticScene, match, open_predictions
from .table import FILES, Column, Table, print_rows

_FAILED, _REFUSED, _INTERRUPTED = 1, 2, 130
_POSITIONALS = ("predictions", "truth", "plain", "other", "videos", "clip", "inputs")
_RENAMED = {"source": "model", "transformer": "model"}
_DATA_SETS = ("sintel", "folder")
"""Kinds of truth with several sequences, whose errors have an average."""

_PREDICTIONS_HELP = (
    "a folder that `python -m aether` wrote, a .npz file (docs/evaluation.md), or a folder of these by name"
)
_TRUTH_HELP = "Sintel's folder, a .npz file or a folder of such, or synthetic[:SEED]"
_DEPTH_COLUMNS = (
    Column("abs_rel", "Abs Rel"),
    Column("delta1", "delta1"),
    Column("delta2", "delta2"),
    Column("scale", "scale", ".4g"),
    Column("pixels", "pixels", "d"),
)
_POSE_COLUMNS = (
    Column("ate", "ATE"),
    Column("rpe_trans", "RPE trans"),
    Column("rpe_rot", "RPE rot"),
    Column("scale", "scale", ".4g"),
)
_FIDELITY_COLUMNS = (
    Column("rgb_psnr", "RGB PSNR", ".2f"),
    Column("rgb_ssim", "SSIM", ".4f"),
    Column("rgb_lpips", "LPIPS", ".4f"),
    Column("disparity_psnr", "disparity PSNR", ".2f"),
    Column("disparity_ssim", "SSIM", ".4f"),
    Column("disparity_lpips", "LPIPS", ".4f"),
    Column("raymap_psnr", "raymap PSNR", ".2f"),
)
_WORLD_COLUMNS = (
    Column("vae_psnr", "VAE", ".2f"),
    Column("abs_rel", "Abs Rel"),
    Column("delta1", "delta1"),
    Column("rpe_rot", "RPE rot"),
    Column("prediction_first", "predict: first", ".2f"),
    Column("prediction_path", "path"),
    Column("planning_first", "plan: first", ".2f"),
    Column("planning_last", "last", ".2f"),
    Column("planning_path", "path"),
)
_LOSSY = (
    "RGB of run folders is read from rgb.mp4, whose compression counts too; `python -m aether compare` "
    "measures what was decoded"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit status: 0, 2 where an input cannot be used or a package is missing, 130 after Ctrl-C.
        Nothing is written unless it is 0.
    """
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.out:
            check_out_dir(arguments.out, overwrite=arguments.overwrite, marks=FILES)
        table = arguments.run(arguments)
        print(table if isinstance(table, str) else table.text())
        if arguments.out:
            table.write(arguments.out, overwrite=arguments.overwrite)
    except KeyboardInterrupt as stopped:
        print(f"interrupted; {str(stopped) or 'nothing was written'}", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if is_out_of_memory(error):
            print("error: out of memory; take fewer scenes, frames or pixels", file=sys.stderr)
            return _FAILED
        if not isinstance(error, ImportError | OSError | ValueError):
            raise
        # As in aether.cli.commands: InputError is a ValueError that names its field; others are bugs.
        if isinstance(error, ValueError) and not isinstance(error, InputError):
            raise
        text = error_text(error, arguments, positionals=_POSITIONALS, renamed=_RENAMED)
        print(f"error: {text}", file=sys.stderr)
        return _REFUSED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description="The measurements of the papers. See docs/evaluation.md."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    depth = _command(commands, "depth", _depth, "Abs Rel, delta1 and delta2 against true depth")
    _add_scored(depth)
    depth.add_argument(
        "--align",
        choices=ALIGNMENTS,
        default="scale",
        help="fit to the truth; default: scale, as the papers",
    )
    depth.add_argument(
        "--max-depth", type=number, help="where the truth ends; default: 70 for Sintel, otherwise inf"
    )
    depth.add_argument(
        "--view",
        choices=VIEWS,
        default="auto",
        help="what a prediction shows of the true picture: its middle (crop; default for runs of aether) or "
        "all of it (full; default for .npz)",
    )

    pose = _command(commands, "pose", _pose, "ATE, RPE translation and rotation (degrees) after Sim(3)")
    _add_scored(pose)

    fidelity = _command(commands, "fidelity", _fidelity, "PSNR, SSIM and LPIPS of each stream of a result")
    fidelity.add_argument("plain", help=f"results without acceleration: {_PREDICTIONS_HELP}")
    fidelity.add_argument("other", help="the results to compare with them, alike")
    fidelity.add_argument("--lpips", action="store_true", help="LPIPS too, by the package lpips")
    fidelity.add_argument("--device", default="cpu", help="for LPIPS; default: cpu")

    vbench = _command(commands, "vbench", _vbench, "VBench's six dimensions of the papers, by its package")
    vbench.add_argument("videos", help="a video, a run folder of aether, or a folder of either")
    vbench.add_argument("--pairs", help="folder of first and last frames: PSNR of the videos' ends too")
    vbench.add_argument("--device", default="cuda", help="default: cuda")

    world = _command(commands, "world", _world, "how well a model knows the synthetic world: held-out scenes")
    world.add_argument("--model", default="miniature", help="miniature, or whatever `python -m aether` takes")
    world.add_argument(
        "--scenes", type=whole_number, default=8, metavar="N", help="seeds 0 to N - 1; default: 8"
    )
    world.add_argument("--steps", type=whole_number, help=f"for every task; default: {steps_text()}")

    analysis = _command(commands, "layers", layers, "how each block's features move, and a tau for HERO")
    add_layers_arguments(analysis)

    add_compare(commands)
    return parser


def _command(commands: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_text, description=help_text[:1].upper() + help_text[1:])
    command.add_argument("--out", metavar="DIR", help="also write results.csv and results.json there")
    command.add_argument("--overwrite", action="store_true", help="replace earlier results there")
    command.set_defaults(run=run)
    return command


def _add_scored(command: argparse.ArgumentParser) -> None:
    command.add_argument("predictions", help=_PREDICTIONS_HELP)
    command.add_argument("truth", help=_TRUTH_HELP)
    command.add_argument(
        "--sequences", metavar="A,B,...", help="score these only; default: all of the truth's"
    )
    command.add_argument(
        "--leading", action="store_true", help="score the first frames where a prediction is shorter"
    )


def _depth(arguments: argparse.Namespace) -> Table:
    max_depth = arguments.max_depth
    if max_depth is not None and not max_depth > 0:
        raise InputError("max_depth", f"{max_depth} is not a number above 0")
    matches, kind = _matches(arguments)
    is_sintel = kind == "sintel"
    if max_depth is None:
        max_depth = sintel.MAX_DEPTH if is_sintel else math.inf
    protocol = DepthProtocol(
        align=arguments.align,
        max_depth=max_depth,
        limit=max_depth,
        far=sintel.PREDICTED_FAR if is_sintel else None,
        view=arguments.view,
        leading=arguments.leading,
    )
    errors = [score_depth(pair, protocol) for pair in matches]
    notes = [f"aligned by {protocol.align}; depth from 0 to {max_depth:g} counts", *_leading_note(arguments)]
    if any(shows_middle(pair.prediction, protocol.view) for pair in matches):
        notes.append("only the middle of the picture, which predictions show, is scored")
    return Table(
        "depth",
        _DEPTH_COLUMNS,
        _rows(matches, errors),
        average_depth(errors) if kind in _DATA_SETS else None,
        {"truth": kind, **asdict(protocol), "average": "weighted by pixels"},
        notes,
    )


def _pose(arguments: argparse.Namespace) -> Table:
    from .pose import average_poses, score_poses

    matches, kind = _matches(arguments, sintel.POSE_SEQUENCES)
    errors = [score_poses(pair, leading=arguments.leading) for pair in matches]
    return Table(
        "pose",
        _POSE_COLUMNS,
        _rows(matches, errors),
        average_poses(errors) if kind in _DATA_SETS else None,
        {"truth": kind, "align": "Sim(3), Umeyama", "statistic": "rmse", "rpe_delta": "1 frame, all pairs"},
        ["ATE and RPE translation in the truth's unit, RPE rotation in degrees", *_leading_note(arguments)],
        ("numpy", "evo"),
    )


def _fidelity(arguments: argparse.Namespace) -> Table:
    from .fidelity import fidelity, load_lpips

    lpips = load_lpips(arguments.device) if arguments.lpips else None
    plain, other = (open_predictions(getattr(arguments, name), name) for name in ("plain", "other"))
    rows = []
    for pair in match(other, plain, one_truth=len(plain) == 1):
        with about(pair.name):
            measured = fidelity(pair.truth.streams(), pair.prediction.streams(), lpips=lpips)
        rows.append({"name": pair.name, **measured})
    columns = [column for column in _FIDELITY_COLUMNS if any(column.key in row for row in rows)]
    compressed = any(source.crops for source in (*plain.values(), *other.values()))
    packages = ("numpy", "scikit-image", *(["lpips"] if lpips else []))
    return Table("fidelity", columns, rows, notes=[_LOSSY] if compressed else [], packages=packages)


def _world(arguments: argparse.Namespace) -> Table:
    from training.data import render_scene

    from .models import STEPS, load_model
    from .world import DEEPEST, average, score_clip

    if arguments.scenes < 1:
        raise InputError("scenes", f"{arguments.scenes} is not a number from 1")
    model = load_model(arguments.model)
    steps = {name: usual if arguments.steps is None else arguments.steps for name, usual in STEPS.items()}
    # As the miniature was trained on, of scenes that it was not (seeds below 10,000).
    clips = ((seed, render_scene(seed)) for seed in range(arguments.scenes))
    rows = print_rows(
        _WORLD_COLUMNS, ({"name": f"scene {seed}", **score_clip(model, clip, steps)} for seed, clip in clips)
    )
    return Table(
        "world",
        _WORLD_COLUMNS,
        rows,
        average(rows),
        {
            "model": model.name,
            "trained": model.trained,
            "steps": steps,
            "deepest": DEEPEST,
            "align": "median",
        },
        [
            "VAE, first and last picture: PSNR in dB; RPE rot in degrees; path: correlation of the camera's "
            "way with the one asked for"
        ],
        ("numpy", "torch", "diffusers", "evo"),
        printed=True,
    )


def _vbench(arguments: argparse.Namespace) -> Table:
    from .frame_pairs import kept_ends, open_pairs
    from .vbench import DIMENSIONS, open_videos, require_vbench, vbench_scores

    videos = open_videos(arguments.videos)
    require_vbench()
    ends = {}
    if arguments.pairs:
        from aether.clips.clip import read_every_frame

        pairs = open_pairs(arguments.pairs)
        for found, wanted, field in ((videos, pairs, "videos"), (pairs, videos, "pairs")):
            missing = sorted(set(wanted) - set(found))
            if missing:
                raise InputError(field, f"there is none for {', '.join(missing)}")
        ends = {name: kept_ends(read_every_frame(videos[name], "videos"), pairs[name]) for name in pairs}
    scores, details = vbench_scores(videos, device=arguments.device)
    mean_ends = {
        key: sum(row[key] for row in ends.values()) / len(ends) for key in next(iter(ends.values()), {})
    }
    columns = [Column(name, name.replace("_", " "), ".2f") for name in DIMENSIONS]
    columns += [Column(key, key.replace("_psnr", " frame PSNR"), ".2f") for key in mean_ends]
    return Table(
        "vbench",
        columns,
        [{"name": f"{len(videos)} videos", **scores, **mean_ends}],
        protocol={"mode": "custom_input", "videos": sorted(videos)},
        packages=("numpy", "vbench"),
        details={"vbench": details, "ends": ends},
    )


def _matches(arguments: argparse.Namespace, sintel_sequences: Sequence[str] = ()) -> tuple[list[Match], str]:
    """What to score against what, and the kind of truth: "sintel", "folder", "file" or "synthetic"."""
    predictions = open_predictions(arguments.predictions)
    truths, kind = _open_truth(arguments.truth, predictions)
    wanted = arguments.sequences.split(",") if arguments.sequences else None
    if kind == "sintel":
        wanted = wanted or [name for name in sintel_sequences if name in truths] or list(truths)
    return match(predictions, truths, sequences=wanted, one_truth=kind == "file"), kind


def _open_truth(source: str, predictions: dict[str, Prediction]) -> tuple[dict[str, Any], str]:
    if found := SYNTHETIC.fullmatch(source):
        seed = int(found[1] or 0)
        scenes = {
            name: SyntheticScene(seed, prediction.size(), prediction.fps())
            for name, prediction in predictions.items()
        }
        return scenes, "synthetic"
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError("truth", f"{path} does not exist")
    if path.is_file():
        return {path.stem: ArrayFile(path, "truth")}, "file"
    if sintel.is_sintel(path):
        return dict(sintel.open_sintel(path)), "sintel"
    files = sorted(path.glob("*.npz"))
    if not files:
        raise InputError("truth", f"{path} holds neither Sintel's training folder nor .npz files")
    return {file.stem: ArrayFile(file, "truth") for file in files}, "folder"


def _leading_note(arguments: argparse.Namespace) -> list[str]:
    return ["of the truth, as many frames as a prediction has are scored"] if arguments.leading else []


def _rows(matches: list[Match], errors: list[Any]) -> list[dict[str, Any]]:
    return [{"name": pair.name, **asdict(error)} for pair, error in zip(matches, errors, strict=True)]
