"""web/constants.js is what Python makes it."""

from __future__ import annotations

import re

from scripts import page_constants

TO_DO = "python scripts/page_constants.py writes it"


def test_the_page_has_pythons_numbers():
    assert page_constants.FILE.read_text(encoding="utf-8") == page_constants.text(), TO_DO
    assert page_constants.main(["--check"]) == 0


def test_a_difference_is_found(monkeypatch, tmp_path, capsys):
    other = tmp_path / "constants.js"
    other.write_text(page_constants.text().replace("0.17", "0.18"), encoding="utf-8")
    monkeypatch.setattr(page_constants, "FILE", other)
    assert page_constants.main(["--check"]) == 1
    assert "python scripts/page_constants.py" in capsys.readouterr().out
    assert page_constants.main([]) == page_constants.main(["--check"]) == 0


def test_a_presets_widgets():
    balanced = page_constants.constants()["PRESETS"]["balanced"]
    assert (balanced["tau"], balanced["interval"], balanced["ratio"]) == (0.25, 2, 0.17)
    assert (balanced["warmup"], balanced["cooldown"], balanced["patch_columns"]) == ("5%", "10%", 3)


def test_no_script_of_the_page_has_the_numbers_of_a_model_or_preset():
    for path in page_constants.FILE.parent.glob("*.js"):
        if path != page_constants.FILE:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\b(3072|4096|226|blocks: 42)\b|warmup: \"", text), path.name
