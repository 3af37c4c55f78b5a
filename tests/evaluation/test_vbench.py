"""VBench, by a stand-in with its interface (that of its repository in March 2026); its networks need CUDA."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from aether.errors import InputError
from aether.formats.export import write_video
from evaluation import cli
from evaluation.vbench import DIMENSIONS, open_videos, vbench_scores


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A package "vbench" that remembers how it was called."""
    calls = []

    class VBench:
        def __init__(self, device, full_info_dir, output_path):
            self.device, self.output_path = device, Path(output_path)
            self.output_path.mkdir(parents=True, exist_ok=True)

        def evaluate(
            self, videos_path, name, prompt_list=(), dimension_list=None, mode="vbench_standard", **more
        ):
            videos = sorted(path.name for path in Path(videos_path).iterdir())
            calls.append({"device": self.device, "videos": videos, "mode": mode, **more})
            results = {dimension: [0.5 + 0.01 * i, []] for i, dimension in enumerate(dimension_list)}
            (self.output_path / f"{name}_eval_results.json").write_text(json.dumps(results))

    package = ModuleType("vbench")
    package.VBench, package.__file__ = VBench, str(tmp_path / "vbench" / "__init__.py")
    monkeypatch.setitem(sys.modules, "vbench", package)
    return calls


@pytest.fixture
def videos(tmp_path):
    """A video and a run folder, with the pairs they go between."""
    folder, pairs = tmp_path / "videos", tmp_path / "pairs"
    (folder / "hall").mkdir(parents=True)
    pairs.mkdir()
    levels = np.linspace(60, 200, 5).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (5, 32, 48, 3))
    write_video(folder / "room.mp4", frames, 12)
    write_video(folder / "hall" / "rgb.mp4", frames, 12)
    for name in ("room", "hall"):
        for end, level in (("first", 60), ("last", 200)):
            Image.new("RGB", (48, 32), (level,) * 3).save(pairs / f"{name}_{end}.png")
    return folder, pairs


def test_scores_are_percent_of_vbenchs(stand_in, videos):
    scores, details = vbench_scores(open_videos(videos[0]), device="cpu")
    assert list(scores) == list(DIMENSIONS)
    assert list(scores.values()) == pytest.approx([50, 51, 52, 53, 54, 55])
    call = {"device": "cpu", "videos": ["hall.mp4", "room.mp4"], "mode": "custom_input"}
    assert stand_in == [{**call, "imaging_quality_preprocessing_mode": "longer"}]
    assert set(details) == set(DIMENSIONS)


def test_command_with_pairs(stand_in, videos, tmp_path, capsys):
    folder, pairs = videos
    assert cli.main(["vbench", str(folder), "--pairs", str(pairs), "--out", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    (row,) = document["rows"]
    assert row["aesthetic_quality"] == pytest.approx(54)
    assert row["first_psnr"] > 40 and row["last_psnr"] > 40
    assert set(document["ends"]) == {"hall", "room"}
    assert "subject consistency" in capsys.readouterr().out


def test_pairs_and_videos_must_be_the_same(stand_in, videos, capsys):
    folder, pairs = videos
    (pairs / "hall_first.png").unlink()
    (pairs / "hall_last.png").unlink()
    assert cli.main(["vbench", str(folder), "--pairs", str(pairs)]) == 2
    assert capsys.readouterr().err == "error: --pairs: there is none for hall\n"
    assert stand_in == []


def test_nothing_to_score(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="videos"):
            open_videos(path)


def test_without_vbench_it_is_said(videos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vbench", None)
    assert cli.main(["vbench", str(videos[0])]) == 2
    assert "pip install vbench" in capsys.readouterr().err
