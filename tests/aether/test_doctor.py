"""`python -m aether doctor`: what it finds, and that nothing makes it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from aether.cli import commands, doctor
from aether.doctor import machine, packages, weights
from aether.doctor.fits import Way, fit_lines
from aether.doctor.machine import Room
from aether.doctor.report import Line, Report, Section, find, without_home
from aether.miniature import build
from aether.model.downloads import T5_FILE, TEXT_ENCODER, TRANSFORMER, VAE
from aether.model.loading import kept_prompt
from hero_engine.doctor import aether_cache, tuning_text
from hero_engine.errors import ConfigError
from hero_engine.tune.store import Store

from ..pretend import PretendGPU

ROOT = Path(__file__).parents[2]


def section(text: str, title: str) -> dict[str, str]:
    """The lines below a title, by name."""
    (block,) = [part for part in text.split("\n\n") if part.startswith(title)]
    rows = [line.strip().split("  ", 1) for line in block.splitlines()[1:]]
    return {name: rest.strip() for name, rest in rows}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The report of this machine, with nothing downloaded."""
    empty = tmp_path_factory.mktemp("empty")
    return doctor.examine(empty / "tuning", empty)


@pytest.fixture
def lacking(monkeypatch):
    """``lacking(name)`` takes a package away."""

    def take(missing, found=None):
        def version(name):
            if name == missing and found is None:
                raise metadata.PackageNotFoundError(name)
            return found if name == missing else metadata.version(name)

        monkeypatch.setattr(packages, "version", version)

    return take


def test_this_machine(here):
    text = str(here)
    assert here.ready
    assert section(text, "Packages")["aether-hero"] == "0.1.0"
    assert section(text, "Packages")["torch"] == f"{metadata.version('torch')} (>=2.4)"
    assert section(text, "Computer").keys() >= {"system", "device", "memory of the device", "video files"}
    assert section(text, "Attention")["sdpa"] == "runs here"
    if not torch.cuda.is_available():
        assert not any("--offload" in name for name in section(text, "Settings for this device"))
    assert section(text, "Weights")["miniature"].startswith("ready: 5.3 million")
    assert section(text, "Measured here last")["HERO Tuner"].endswith("nothing yet")
    assert "could not be examined" not in text


def test_every_requirement_is_looked_at(here):
    found = section(str(here), "Packages")
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = packages.asked()
    assert (asked.version, asked.python) == (project["version"], project["requires-python"])
    assert set(project["optional-dependencies"]["library"]) < set(asked.packages)
    assert len(found) == len(asked.packages) + 2 and "diffusers" in found


def test_a_wheel_says_what_it_asks_for(monkeypatch, tmp_path):
    wanted = ["diffusers>=0.34", 'torch>=2.4; extra == "library"', 'pytest>=8; extra == "test"']
    about = {"Version": "9.1", "Requires-Python": ">=3.10"}
    monkeypatch.setattr(packages, "_ROOT", tmp_path)
    monkeypatch.setattr(packages, "metadata", lambda name: about)
    monkeypatch.setattr(packages, "requires", lambda name: wanted)
    assert packages.asked() == packages.Asked("9.1", ">=3.10", ("diffusers>=0.34", "torch>=2.4"))


def test_nothing_personal_is_in_it(here, monkeypatch):
    import platform

    text = str(here)
    assert str(Path.home()) not in text
    assert platform.node() not in text
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert without_home("in /home/somebody/models, twice: /home/somebody") == "in ~/models, twice: ~"


@pytest.mark.parametrize("name, needed", [("plyfile", True), ("scipy", True), ("accelerate", False)])
def test_a_missing_package_has_its_command(lacking, name, needed):
    lacking(name)
    (line,) = [line for line in packages.packages_section().lines if line.name == name]
    assert line.text.startswith("missing, needed") and f'pip install "{name}>=' in line.text
    assert line.blocking is needed
    assert ("--offload" in line.text) is not needed


def test_an_old_version_is_named(lacking):
    lacking("diffusers", "0.30.1")
    (line,) = [line for line in packages.packages_section().lines if line.name == "diffusers"]
    assert line == Line("diffusers", '0.30.1, but >=0.34 is asked for: pip install "diffusers>=0.34"')


def test_the_exit_status_says_whether_the_miniature_can_run(lacking, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_ways", tuple)
    arguments = ["doctor", "--cache-dir", str(tmp_path), "--tuning", str(tmp_path)]
    assert commands.main(arguments) == 0
    lacking("accelerate")
    assert commands.main(arguments) == 0
    lacking("safetensors")
    assert commands.main(arguments) == 1
    assert "missing, needed: pip install" in capsys.readouterr().out


def test_it_runs_without_torch():
    code = "import sys; sys.modules['torch'] = None; from aether.cli.commands import main; main(['doctor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    computer = section(done.stdout, "Computer")
    assert computer["torch"].startswith("could not be examined: ")
    assert computer["video files"].startswith("PyAV ")
    assert section(done.stdout, "Weights")["miniature"].startswith("could not be examined: ")


@pytest.mark.slow
def test_a_terminal_without_the_letters_of_a_name(tmp_path):
    arguments = [sys.executable, "-m", "aether", "doctor", "--tuning", "\u6587\u4ef6"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert section(done.stdout, "Measured")["HERO Tuner"] == "??: nothing yet"


def test_a_line_that_fails_says_so_and_the_others_stay():
    def broken():
        raise RuntimeError("first line\nsecond line")

    assert find("x", broken) == (Line("x", "could not be examined: RuntimeError: first line"),)
    report = Report((Section("A", (*find("x", broken, blocking=True), *find("y", lambda: "fine"))),))
    assert not report.ready
    assert str(report) == "A\n  x  could not be examined: RuntimeError: first line\n  y  fine"


def test_a_damaged_miniature_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr("aether.miniature.model.WEIGHTS", tmp_path)
    monkeypatch.setattr(doctor, "_ways", tuple)
    report = doctor.examine(tmp_path, tmp_path)
    assert not report.ready
    assert section(str(report), "Weights")["miniature"].startswith("could not be examined: ")


# --- A GPU --------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """``gpu(free, total)`` is a report on a machine with a pretended GPU of so many GB."""

    def examine(free, total):
        for name, value in {
            "is_available": lambda: True,
            "mem_get_info": lambda device: (round(free * 1e9), round(total * 1e9)),
            "get_device_name": lambda device: "Pretended",
            "get_device_capability": lambda device: (7, 5),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(doctor, "auto_device", lambda: "cuda:0")
        with PretendGPU():
            return str(doctor.examine(Path("nowhere"), Path("nowhere")))

    return examine


@pytest.mark.parametrize(
    "free, total, advice",
    [
        (80, 80, "use the defaults"),
        (17, 24, "use --vae-tiling"),
        (11.5, 12, "use --dtype float8 --vae-tiling"),
        (10.5, 12, "use --offload"),
        (5, 6, "use --offload --vae-tiling"),
        (3, 4, "none fits: take fewer frames or a smaller size"),
    ],
)
def test_the_settings_for_a_card(free, total, advice):
    lines = {line.name: line.text for line in fit_lines(room(free, total), doctor._ways(), *cache())}
    assert lines.pop("so") == advice
    assert set(text.split(": ")[1] for text in lines.values()) <= {
        "fits", "fits once other programs are closed", "does not fit",
    }  # fmt: skip


def room(free, total):
    return Room(round(free * 1e9), round(total * 1e9))


def cache():
    return aether_cache(50, 2, 2)


def test_the_memory_is_that_of_the_documents():
    """The table of docs/performance.md."""
    lines = fit_lines(
        room(16, 22), (Way("plain"), Way("float8", float8=True), Way("host", offload=True)), *cache()
    )
    assert [line.text for line in lines] == [
        "19.78 GB: fits once other programs are closed",
        "15.02 GB: fits once other programs are closed",
        "8.90 GB: fits",
        "use host",
    ]


def test_a_small_pretended_card(gpu):
    text = gpu(5, 6)
    computer = section(text, "Computer")
    assert computer["device"] == "Pretended (cuda:0, capability 7.5, bfloat16 is emulated, and slow)"
    assert computer["memory of the device"] == "6.00 GB, 5.00 GB of it free"
    found = section(text, "Settings for this device")
    assert found["so"] == "use --offload --vae-tiling"
    assert found["the defaults"].endswith(": does not fit")
    assert section(text, "Attention")["flash"].startswith("does not run here: ")


def test_a_card_that_does_not_answer(gpu, monkeypatch):
    def refuse(*_):
        raise RuntimeError("CUDA error: no answer")

    monkeypatch.setattr(machine, "room_of", refuse)
    text = gpu(5, 6)
    wanted = "could not be examined: RuntimeError: CUDA error: no answer"
    assert section(text, "Computer")["memory of the device"] == wanted
    assert section(text, "Settings for this device")["settings"] == wanted


# --- Weights ------------------------------------------------------------------------------------------------


def test_missing_weights_have_their_commands(tmp_path):
    lines = {line.name: line.text for line in weights.downloaded_lines(tmp_path)}
    assert lines["looked for in"] == str(tmp_path)
    assert lines["transformer"] == f"missing: {TRANSFORMER.command}"
    assert lines["vae"] == f"missing: {VAE.command}"
    assert lines["empty prompt"] == f"missing: {TEXT_ENCODER.command}"
    assert lines["all of it, and a first run"].startswith("python -m aether reconstruct ")


def test_weights_that_were_downloaded(tmp_path):
    transformer = snapshot(tmp_path, "AetherWorldModel--AetherV1") / "transformer"
    vae = snapshot(tmp_path, "THUDM--CogVideoX-5b-I2V") / "vae"
    for folder in (transformer, vae):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    save_file({"x": torch.zeros(4)}, transformer / "diffusion_pytorch_model.safetensors")
    index = {"weight_map": {"x": "diffusion_pytorch_model-00001-of-00001.safetensors"}}
    (vae / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    kept = kept_prompt("THUDM/CogVideoX-5b-I2V", 226, 4096, tmp_path)
    kept.write_text("")
    lines = {line.name: line.text for line in weights.downloaded_lines(tmp_path)}
    assert lines["transformer"].startswith(f"found: {transformer}, 1 file, ")
    assert lines["vae"].startswith("incomplete, missing files: ") and lines["vae"].endswith(VAE.command)
    assert lines["empty prompt"] == f"found: {kept}"


def snapshot(cache: Path, repo: str) -> Path:
    folder = cache / f"models--{repo}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("abc")
    return folder


def test_files_are_known_by_their_headers(tmp_path):
    model = build()
    for name, part in {"t": model.transformer, "v": model.vae}.items():
        save_file(part.state_dict(), tmp_path / f"{name}.safetensors")
    save_file({"embedding": torch.zeros(1, 2, 4096)}, tmp_path / "p.safetensors")
    (tmp_path / "page.safetensors").write_text("<html>")
    files = sorted(tmp_path.iterdir())
    kinds = (weights.is_transformer, weights.is_vae, weights.is_prompt)
    assert [[file.stem for file in weights.holding(files, kind)] for kind in kinds] == [["t"], ["v"], ["p"]]


def test_the_documents_have_the_commands_of_the_code():
    page = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    for part in (TRANSFORMER, VAE, T5_FILE):
        assert f"\n{part.command_in_comfyui}\n" in page


# --- What was measured --------------------------------------------------------------------------------------


def test_the_last_tuning_in_a_line(monkeypatch):
    def trial(speedup, error):
        return SimpleNamespace(speedup=speedup, error=error, failed=error > 1)

    recording = SimpleNamespace(model="CogVideoX", blocks=12, steps=50)
    measured = SimpleNamespace(
        recording=recording, trials=[trial(1.7, 0.006), trial(2.6, 0.017), trial(9, 2)]
    )
    monkeypatch.setattr(Store, "read", lambda store: measured)
    assert tuning_text(Path("x")) == (
        "CogVideoX, 12 blocks, 50 steps; 3 settings, closest 1.70x by FLOPs with an error of 0.60 %, fastest "
        "2.60x by FLOPs with an error of 1.7 %"
    )


def test_a_damaged_tuning_is_reported_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_ways", tuple)
    (tmp_path / "recording.safetensors").write_text("<html>")
    with pytest.raises(ConfigError):
        tuning_text(tmp_path)
    report = doctor.examine(tmp_path, tmp_path)
    assert report.ready
    assert section(str(report), "Measured")["HERO Tuner"].startswith("could not be examined: ConfigError")
