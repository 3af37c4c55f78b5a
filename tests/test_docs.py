"""What the documents show works."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def film_of(folder: Path) -> np.lib.npyio.NpzFile:
    return np.load(folder / "film" / "depth.npz")


@pytest.mark.slow
def test_the_library_page_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 8
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)
    assert "17 full / 13 cached" in capsys.readouterr().out
    assert names["points"].shape == (17, 64, 96, 3)
    assert len(names["path"]) == 17 and (tmp_path / "shot.glb").exists()
    assert film_of(tmp_path)["disparity"].shape == (27, 64, 96) and not (tmp_path / "film.windows").exists()
    assert names["picture"][:4] == b"\x89PNG"
    assert names["prediction"].full_steps == 23


def test_every_picture_is_shown():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = " ".join(page.read_text(encoding="utf-8") for page in pages)
    for picture in (ROOT / "docs" / "images").iterdir():
        assert f"images/{picture.name})" in text, picture.name


def test_local_links_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
