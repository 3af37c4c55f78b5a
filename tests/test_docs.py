"""What the documents show works."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.tables import page as gpu_page

ROOT = Path(__file__).parents[1]


def film_of(folder: Path) -> np.lib.npyio.NpzFile:
    return np.load(folder / "film" / "depth.npz")


@pytest.mark.slow
def test_the_library_page_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 9
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)
    assert "17 full / 13 cached" in capsys.readouterr().out
    assert names["points"].shape == (17, 64, 96, 3)
    assert len(names["path"]) == 17 and (tmp_path / "shot.glb").exists()
    assert film_of(tmp_path)["disparity"].shape == (27, 64, 96) and not (tmp_path / "film.windows").exists()
    assert names["picture"][:4] == b"\x89PNG"
    assert names["prediction"].full_steps == 23


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_picture_is_shown():
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "images").iterdir():
        assert f"images/{picture.name})" in text, picture.name


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_named_files_and_folders_are_there(page):
    """What stands in backticks and looks like a path; in the tables of rooms, below the room's package."""
    marked = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text(encoding="utf-8"))
    paths = [
        word
        for text in marked
        for word in text.split()
        if re.fullmatch(r"[\w./-]+(/|\.(py|js|json|txt|sh))", word)
    ]
    assert len(paths) > 10
    for path in paths:
        found = [
            place
            for base in ("", "aether", "hero_engine")
            for place in (ROOT / base).glob(path.replace("NAME", "*"))
        ]
        assert found, path


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), f"{link}#{anchor}"


def test_the_comparison_page_shows_its_tables():
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    with (ROOT / "docs" / "comparison" / "best.csv").open(encoding="utf-8") as file:
        best = list(csv.DictReader(file))
    for sampler in ("reference", "deterministic"):
        section = page.split(f"### {sampler} sampler\n\n")[1].split("\n\n")[0]
        head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines())
        shown = {
            (row[0], column): cell for row in rows for column, cell in zip(head[1:], row[1:], strict=True)
        }
        listed = {(one["method"], one["at_least"] + "x"): one for one in best if one["sampler"] == sampler}
        assert {key: cell for key, cell in shown.items() if cell != "-"} == {
            key: f"{float(one['error']):.4f}" for key, one in listed.items()
        }


def test_the_pages_say_what_was_measured_on_a_gpu():
    """The tables are those of the file; without one, the pages say so and name the command."""
    performance = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    pages = [performance, (ROOT / "README.md").read_text(encoding="utf-8")]
    file, tables = ROOT / "docs" / "gpu.json", ROOT / "docs" / "gpu.md"
    nothing = ["Nothing has been measured on a GPU yet" in page for page in pages]
    if not file.exists():
        assert all(nothing) and "bash scripts/gpu.sh" in performance and not tables.exists()
        return
    assert not any(nothing) and all("gpu.md)" in page for page in pages)
    assert tables.read_text(encoding="utf-8") == gpu_page(json.loads(file.read_text(encoding="utf-8")))


def test_the_table_of_model_families_is_that_of_the_engine():
    """Every family with its file, its number of lines where given, and everything it refuses."""
    from hero_engine.models.families import FAMILIES

    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for family in FAMILIES:
        file = f"{family.adapter[0]}.py"
        found = [row for row in rows if row.startswith(f"| {family.name}") and f"`{file}`" in row]
        assert found, (family.name, file)
        for name in family.refused:
            assert any(f"`{name}`" in row for row in found), (family.name, name)
    for file, lines in re.findall(r"`(\w+\.py)` \((\d+)", page):
        text = (ROOT / "hero_engine/models" / file).read_text(encoding="utf-8")
        assert abs(len(text.splitlines()) - int(lines)) <= 5, file
