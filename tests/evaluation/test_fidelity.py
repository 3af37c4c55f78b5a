"""Fidelity of streams: by hand and against scikit-image."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from aether.errors import InputError
from evaluation.fidelity import fidelity, load_lpips, ssim
from evaluation.sources import Streams


@pytest.fixture
def result():
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0.1, 0.8, (3, 16, 24, 3)).astype(np.float32)
    return Streams(rgb, rgb[..., 0] ** 2, rng.uniform(-2, 2, (3, 6, 2, 3)).astype(np.float32))


def test_by_hand(result):
    pytest.importorskip("skimage")
    span = float(np.ptp(result.raymap))
    off = Streams(result.rgb + 0.1, result.disparity + 0.01, result.raymap + span / 100)
    found = fidelity(result, off)
    assert found["rgb_psnr"] == pytest.approx(20, abs=1e-3)
    assert found["disparity_psnr"] == pytest.approx(40, abs=1e-3)
    assert found["raymap_psnr"] == pytest.approx(40, abs=1e-3)
    assert 0.5 < found["rgb_ssim"] < found["disparity_ssim"] < 1
    assert set(found) == {"rgb_psnr", "disparity_psnr", "raymap_psnr", "rgb_ssim", "disparity_ssim"}


def test_equal_results(result):
    pytest.importorskip("skimage")
    found = fidelity(result, result)
    assert {found[f"{name}_psnr"] for name in ("rgb", "disparity", "raymap")} == {np.inf}
    assert found["rgb_ssim"] == found["disparity_ssim"] == pytest.approx(1)


def test_disparity_counts_from_0_to_1(result):
    pytest.importorskip("skimage")
    over = np.full_like(result.disparity, 1.0)
    found = fidelity(Streams(None, over, None), Streams(None, over + 5, None))
    assert found["disparity_psnr"] == np.inf


def test_ssim_of_flat_pictures_by_hand():
    pytest.importorskip("skimage")
    a, b = np.full((2, 16, 16), 0.2), np.full((2, 16, 16), 0.6)
    # Only the luminance term is left: (2 a b + c) / (a^2 + b^2 + c), c = 0.01^2.
    assert ssim(a, b) == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), rel=1e-6)


def test_streams_that_one_lacks_are_left_out(result):
    pytest.importorskip("skimage")
    found = fidelity(result, Streams(None, result.disparity, None))
    assert set(found) == {"disparity_psnr", "disparity_ssim"}


def test_small_pictures_have_no_ssim(result):
    small = Streams(result.rgb[:, :8, :8], None, None)
    assert set(fidelity(small, small)) == {"rgb_psnr"}


@pytest.mark.parametrize(
    "field, change",
    [
        ("rgb", {"rgb": np.full((3, 16, 24, 3), np.nan)}),
        ("rgb", {"rgb": np.zeros((2, 16, 24, 3))}),
        ("disparity", {"disparity": np.full((3, 16, 24), np.inf), "rgb": None}),
        ("raymap", {"raymap": np.zeros((3, 6, 2, 4)), "rgb": None, "disparity": None}),
        ("streams", {"rgb": None, "disparity": None, "raymap": None}),
    ],
)
def test_bad_results_are_refused(result, field, change):
    with pytest.raises(InputError) as caught:
        fidelity(result, SimpleNamespace(**{**vars(result), **change}))
    assert caught.value.field == field


def test_lpips_gets_colors_from_minus_1_to_1(result, monkeypatch):
    """The package is asked as its documentation says; its networks are not run here."""
    seen = []

    class Network(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert net == "alex"

        def forward(self, a, b):
            seen.append((a, b))
            return (a - b).abs().mean()[None, None, None, None]

    package = ModuleType("lpips")
    package.LPIPS = Network
    monkeypatch.setitem(sys.modules, "lpips", package)
    pytest.importorskip("skimage")
    off = Streams(result.rgb + 0.1, result.disparity, None)
    found = fidelity(result, off, lpips=load_lpips())
    assert found["rgb_lpips"] == pytest.approx(0.2, abs=1e-6)
    assert found["disparity_lpips"] == 0
    assert {tuple(a.shape) for a, _ in seen} == {(1, 3, 16, 24)}
    assert torch.equal(seen[0][0][0, :, 2, 5], torch.from_numpy(result.rgb[0, 2, 5]) * 2 - 1)


def test_missing_packages_are_said(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match="pip install lpips"):
        load_lpips()
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(ImportError, match=r"pip install .*evaluation"):
        fidelity(result, result)
