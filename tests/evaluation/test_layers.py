"""`python -m evaluation layers` on the miniature."""

import csv
import json

import pytest
import torch

from evaluation import cli


def run(*arguments):
    return cli.main(["layers", *map(str, arguments)])


@pytest.mark.slow
def test_table_files_and_picture(tmp_path, capsys):
    from aether.generation.sampling import sample
    from aether.generation.tasks import condition
    from aether.miniature import build, random_scene, render
    from evaluation.models import with_sampler
    from hero_engine import HeroConfig, LayersConfig, hero_session

    out = tmp_path / "out"
    options = ["--steps", 5, "--warmup", 3, "--tokens", 64, "--sampler", "deterministic", "--seed", 7]
    assert run("synthetic:2", *options, "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {"results.csv", "results.json", "layers.png"}
    assert (out / "layers.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    document = json.loads((out / "results.json").read_text())
    analysis = document["analysis"]
    assert document["protocol"]["sampler"] == "deterministic" and document["protocol"]["steps"] == 5

    # The same by the library.
    model = with_sampler(build(), "deterministic")
    generator = torch.Generator().manual_seed(7)
    clip = render(random_scene(2), 17, 64, 96, 12).rgb
    conditions = condition(model, "reconstruction", video=clip, frames=17, generator=generator)
    config = LayersConfig(HeroConfig(warmup=3), 64)
    with hero_session(model.transformer, config, steps=5) as session:
        sample(model, conditions, steps=5, generator=generator)
        expected = session.method.analysis()
    blocks = expected.blocks
    assert analysis["tau"] == expected.tau and analysis["blocks"] == blocks
    assert analysis["cached"] == pytest.approx(list(expected.cached), rel=1e-4)

    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"block {number + 1}" for number in range(blocks)]
    assert [float(row["cached"]) for row in rows] == analysis["cached"]
    assert [float(row["deep_reuse"]) for row in rows[:-1]] == analysis["deep_reuse"]
    assert rows[-1]["deep_reuse"] == ""
    printed = capsys.readouterr().out
    assert f"note: Recommended tau: {expected.tau} of {blocks} blocks." in printed
    assert f"block {blocks}" in printed and "curvature" in printed


@pytest.mark.parametrize(
    "options, message",
    [
        (["--steps", 4], "--steps: 4 is too few to analyze with a warm-up of 4: use at least 5"),
        (["--steps", 1], "--steps: 1 is too few"),
        (["--steps", 0], "--steps: 0 is"),
        (["--interval", 1], "--interval: 1 makes every step full"),
        (["--tokens", 0], "--tokens: 0 is"),
        (["--ratio", "nan"], "--ratio: nan"),
        (["a.mp4", "b.mp4"], "inputs: reconstruction takes video, not 2 inputs"),
        (["--task", "planning", "a.png"], "inputs: planning takes image and goal, not 1 inputs"),
        (["nowhere.mp4"], "video: nowhere.mp4 does not exist"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(options, message, tmp_path, capsys):
    assert run(*options, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())
