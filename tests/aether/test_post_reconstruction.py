"""A generated clip reconstructed once more, by the library and on the command line."""

import json

import numpy as np
import pytest
import torch

from aether.cli import commands as cli
from aether.errors import InputError
from aether.run import job
from aether.run.post_reconstruction import STEPS, post_reconstruct

QUICK = job.Settings(steps=2, guidance=1.0, seed=5)


@pytest.fixture(scope="module")
def generated(model):
    inputs = job.gather(model, "prediction", {"image": "synthetic:3"}, camera="dolly-in")
    return inputs, job.run(model, inputs, QUICK)


def test_colors_stay_and_the_rest_is_a_plain_reconstruction(model, generated):
    inputs, result = generated
    better = post_reconstruct(model, inputs, result, QUICK)
    again = job.Inputs("reconstruction", {}, {"video": result.decoded.rgb}, 17, 32, 48, inputs.fps)
    plain = job.run(model, again, job.Settings(steps=STEPS, seed=5))
    assert np.array_equal(better.decoded.rgb, result.decoded.rgb)
    assert np.array_equal(better.decoded.disparity, plain.decoded.disparity)
    assert np.array_equal(better.decoded.raymap, plain.decoded.raymap)
    assert np.array_equal(better.cameras.poses, plain.cameras.poses)
    assert not np.array_equal(better.decoded.disparity, result.decoded.disparity)
    assert torch.equal(better.latent[:, :, :16], result.latent[:, :, :16])
    assert torch.equal(better.latent[:, :, 16:], plain.latent[:, :, 16:])
    assert better.report["post_reconstruction"] == {"steps": 4}
    assert list(better.report["seconds"]) == ["encode", "denoise", "decode", "post-reconstruction"]


@pytest.mark.parametrize("steps", [0, 1001, 2.5, True])
def test_bad_steps(steps, model, generated):
    with pytest.raises(InputError) as error:
        post_reconstruct(model, *generated, QUICK, steps=steps)
    assert error.value.field == "post_reconstruction"


def test_a_reconstruction_is_none_to_reconstruct(model, generated):
    inputs = job.Inputs("reconstruction", {}, {}, 17, 32, 48, 12)
    with pytest.raises(InputError) as error:
        post_reconstruct(model, inputs, generated[1], QUICK)
    assert error.value.field == "task"


SMALL = ["--size", "32x48", "--steps", "2", "--guidance", "1", "--hero", "off", "--device", "cpu"]


@pytest.mark.slow
def test_on_the_command_line(tmp_path, capsys):
    command = ["predict", "synthetic:3", *SMALL, "--out"]
    assert cli.main([*command, str(tmp_path / "plain")]) == 0
    assert cli.main([*command, str(tmp_path / "better"), "--post-reconstruction", "2"]) == 0
    plain, better = (np.load(tmp_path / name / "depth.npz") for name in ("plain", "better"))
    assert not np.array_equal(plain["disparity"], better["disparity"])
    report = json.loads((tmp_path / "better" / "report.json").read_text())
    assert report["post_reconstruction"] == {"steps": 2}
    assert "post-reconstruction" in capsys.readouterr().out
    assert cli.main([*command, str(tmp_path / "bad"), "--post-reconstruction", "0"]) == 2
    assert "error: --post-reconstruction: " in capsys.readouterr().err and not (tmp_path / "bad").exists()
