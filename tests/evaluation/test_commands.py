"""`python -m evaluation` on small data."""

import ast
import csv
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import aether.cli.commands
from evaluation import cli

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def results(folder):
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two runs of the command line on a clip whose truth is known."""
    out = tmp_path_factory.mktemp("compared") / "out"
    small = [
        "--size",
        "32x48",
        "--steps",
        "2",
        "--warmup",
        "1",
        "--cooldown",
        "0",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert aether.cli.commands.main(["compare", "synthetic:3", *small, "--out", str(out)]) == 0
    return out


def test_depth_of_sintel(sintel, predictions, tmp_path, capsys):
    assert run("depth", predictions, sintel.root, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "Abs Rel" in printed and "alley_2" in printed and "average" in printed
    rows, document = results(tmp_path / "out")
    assert [row["name"] for row in rows] == ["alley_2", "temple_3", "average"]
    # A quarter of the columns is off by a tenth; the sky, at the top, is beyond 70 and does not count.
    assert float(rows[0]["abs_rel"]) == pytest.approx(0.025, abs=1e-3)
    assert float(rows[0]["scale"]) == pytest.approx(2, rel=1e-2)
    assert int(rows[0]["pixels"]) == 20 * 20 * 48
    assert document["average"]["pixels"] == 2 * 20 * 20 * 48
    assert document["protocol"]["max_depth"] == document["protocol"]["limit"] == 70
    assert document["protocol"]["far"] == 100
    assert document["versions"]["numpy"] == np.__version__


def test_poses_of_sintel(sintel, predictions, tmp_path):
    pytest.importorskip("evo")
    assert run("pose", predictions, sintel.root, "--out", tmp_path / "out") == 0
    rows, document = results(tmp_path / "out")
    assert [row["name"] for row in rows] == ["alley_2", "temple_3", "average"]
    assert [float(rows[2][key]) for key in ("ate", "rpe_trans")] == pytest.approx([0, 0], abs=1e-9)
    assert float(rows[2]["rpe_rot"]) == pytest.approx(0, abs=1e-4)
    assert document["versions"]["evo"] == version("evo")


def test_chosen_sequences_and_leading_frames(sintel, predictions, tmp_path, capsys):
    (predictions / "temple_3.npz").unlink()
    assert run("depth", predictions, sintel.root) == 2
    assert "no prediction for temple_3" in capsys.readouterr().err
    assert run("depth", predictions, sintel.root, "--sequences", "alley_2") == 0
    np.savez(predictions / "alley_2.npz", depth=sintel.depth["alley_2"][:17].clip(0, 60))
    assert run("depth", predictions, sintel.root, "--sequences", "alley_2") == 2
    assert "alley_2: the prediction has 17, the truth 20" in capsys.readouterr().err
    chosen = ["--sequences", "alley_2", "--leading", "--out", tmp_path / "out"]
    assert run("depth", predictions, sintel.root, *chosen) == 0
    assert int(results(tmp_path / "out")[0][0]["pixels"]) == 17 * 20 * 48


@pytest.mark.slow
def test_depth_of_a_run_equals_the_command_lines_own(compared, tmp_path, capsys):
    assert run("depth", compared, "synthetic:3", "--align", "median", "--out", tmp_path / "out") == 0
    rows, document = results(tmp_path / "out")
    assert [row["name"] for row in rows] == ["hero", "plain"]
    # Two runs of one scene are no data set.
    assert document["average"] is None and "average" not in capsys.readouterr().out
    for row in rows:
        report = json.loads((compared / row["name"] / "report.json").read_text())["depth_against_truth"]
        for key, value in report.items():
            assert float(row[key]) == pytest.approx(value, rel=1e-6)


def test_poses_of_a_run(compared, capsys):
    pytest.importorskip("evo")
    assert run("pose", compared / "plain", "synthetic:3") == 0
    assert "RPE rot" in capsys.readouterr().out


def test_fidelity_of_runs(compared, tmp_path, capsys):
    pytest.importorskip("skimage")
    assert run("fidelity", compared / "plain", compared / "hero", "--out", tmp_path / "out") == 0
    row = results(tmp_path / "out")[0][0]
    expected = json.loads((compared / "compare.json").read_text())["psnr"]
    assert float(row["disparity_psnr"]) == pytest.approx(expected["disparity"], rel=1e-6)
    assert float(row["raymap_psnr"]) == pytest.approx(expected["raymap"], rel=1e-6)
    # The videos' compression is in it.
    assert float(row["rgb_psnr"]) == pytest.approx(expected["rgb"], abs=3)
    assert 0 < float(row["rgb_ssim"]) < 1
    assert "rgb.mp4" in capsys.readouterr().out


def test_equal_results_are_infinitely_alike(predictions, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", disparity=np.linspace(0, 1, 600).reshape(2, 15, 20))
    pytest.importorskip("skimage")
    assert run("fidelity", tmp_path / "a.npz", tmp_path / "a.npz", "--out", tmp_path / "out") == 0
    rows, document = results(tmp_path / "out")
    assert (rows[0]["disparity_psnr"], document["rows"][0]["disparity_psnr"]) == ("inf", None)
    assert " inf" in capsys.readouterr().out


def test_one_truth_for_several_predictions(predictions, sintel, tmp_path):
    truth = sintel.depth["alley_2"]
    np.savez(tmp_path / "truth.npz", depth=np.where(truth > 70, np.nan, truth))
    assert run("depth", predictions, tmp_path / "truth.npz", "--out", tmp_path / "out") == 0
    rows, document = results(tmp_path / "out")
    assert float(rows[0]["abs_rel"]) < 0.03 < float(rows[1]["abs_rel"])
    assert document["protocol"]["max_depth"] is None
    folder = tmp_path / "truths"
    folder.mkdir()
    (tmp_path / "truth.npz").rename(folder / "alley_2.npz")
    assert run("depth", predictions, folder) == 0


def test_runs_are_cropped_alike(tmp_path, sintel, predictions):
    """A prediction of the middle of the picture, scored as one and as one of the whole."""
    depth = np.minimum(sintel.depth["alley_2"], 60)
    np.savez(predictions / "alley_2.npz", depth=depth[:, :, 6:42])
    scored = ["depth", predictions, sintel.root, "--sequences", "alley_2", "--overwrite", "--out"]
    assert run(*scored, tmp_path / "crop", "--view", "crop") == 0
    assert float(results(tmp_path / "crop")[0][0]["abs_rel"]) == pytest.approx(0, abs=1e-6)
    assert run(*scored, tmp_path / "full") == 0
    assert float(results(tmp_path / "full")[0][0]["abs_rel"]) > 0.05


def holed(depth):
    depth = depth.copy()
    depth[0, 10] = np.nan
    return depth


@pytest.mark.parametrize(
    "field, change, options",
    [
        ("depth", holed, []),
        ("frames", lambda depth: depth[:1], ["--leading"]),
        ("frames", lambda depth: np.concatenate([depth, depth]), ["--leading"]),
        ("depth", lambda depth: depth[0], []),
        ("depth", lambda depth: 0 * depth, []),
        ("truth", lambda depth: depth, ["--max-depth", "0.1"]),
        ("max_depth", lambda depth: depth, ["--max-depth", "nan"]),
        ("max_depth", lambda depth: depth, ["--max-depth", "-1"]),
        ("truth", lambda depth: depth, ["--sequences", "bamboo_1"]),
    ],
)
def test_bad_depth_names_its_field_and_writes_nothing(field, change, options, sintel, tmp_path, capsys):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, depth in sintel.depth.items():
        np.savez(folder / f"{name}.npz", depth=change(depth))
    assert run("depth", folder, sintel.root, *options, "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    option = field if field in ("depth", "frames", "predictions", "truth") else f"--{field.replace('_', '-')}"
    assert captured.err.startswith(f"error: {option}: ") and captured.out == ""
    assert not (tmp_path / "out").exists()


def test_bad_arguments(sintel, predictions, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for field, arguments in (
        ("predictions", ["depth", tmp_path / "nowhere", sintel.root]),
        ("truth", ["depth", predictions, tmp_path / "nowhere"]),
        ("truth", ["depth", predictions, tmp_path / "empty"]),
        ("plain", ["fidelity", tmp_path / "nowhere", predictions]),
        ("streams", ["fidelity", predictions, predictions]),
        ("--out", ["depth", predictions, sintel.root, "--out", predictions]),
        ("--out", ["depth", predictions, sintel.root, "--out", predictions, "--overwrite"]),
    ):
        assert run(*arguments) == 2
        assert capsys.readouterr().err.startswith(f"error: {field}: "), arguments


def test_interrupted_writes_nothing(predictions, sintel, tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "score_depth", stop)
    assert run("depth", predictions, sintel.root, "--out", tmp_path / "out") == 130
    assert not (tmp_path / "out").exists() and "interrupted" in capsys.readouterr().err


def test_earlier_results_are_only_replaced_when_asked(predictions, sintel, tmp_path, capsys):
    command = ["depth", predictions, sintel.root, "--out", tmp_path / "out"]
    assert run(*command) == 0
    assert run(*command) == 2
    assert run(*command, "--overwrite", "--align", "metric") == 0
    assert results(tmp_path / "out")[1]["protocol"]["align"] == "metric"


def test_aether_does_not_know_evaluation():
    for package in ("aether", "hero_engine", "nodes"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
                assert not any((name or "").split(".")[0] == "evaluation" for name in [*names, module]), path


@pytest.mark.slow
def test_help_needs_nothing_optional():
    missing = "evo=None, skimage=None, lpips=None, vbench=None"
    code = f"import sys; sys.modules.update({missing}); import evaluation.cli"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    shown = subprocess.run(
        [sys.executable, "-m", "evaluation", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert all(command in shown for command in ("depth", "pose", "fidelity", "vbench"))
