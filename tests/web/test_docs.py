"""Every node has a help page and its words in both languages; tests/web/test_words.py: each in one place."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hero_engine import METHODS

ROOT = Path(__file__).parents[2]
LANGUAGES = {"en": "{}.md", "zh": "{}/zh.md"}
COLONS = {"en": ": ", "zh": "："}
NODES: dict[str, Any] = json.loads((ROOT / "tests/web/nodes.json").read_text(encoding="utf-8"))
"""The nodes as ComfyUI lists them, by scripts/words.py; tests/comfy holds it to a real ComfyUI."""
METHOD_SETTINGS = {
    f"method_{setting.name}" for name in METHODS if name != "hero" for setting in fields(METHODS[name])
} - {"method_streams"}
"""Inputs of Cache Method that come with the method chosen, as the frontend looks their words up."""


def locale(language: str, name: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def page(language: str, node: str) -> str:
    return (ROOT / "web" / "docs" / LANGUAGES[language].format(node)).read_text(encoding="utf-8")


def test_the_list_of_nodes_is_the_codes():
    found = [
        name
        for path in (ROOT / "nodes").rglob("*.py")
        for name in re.findall(r'node_id="(\w+)"', path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_locales_are_complete(language: str):
    definitions = locale(language, "nodeDefs")
    assert set(definitions) == set(NODES)
    for node, words in definitions.items():
        assert words["display_name"] and words["description"]
        chosen = METHOD_SETTINGS if node == "HeroMethod" else set()
        assert set(words["inputs"]) == set(NODES[node]["inputs"]) | chosen
        assert list(words["outputs"]) == [str(slot) for slot in range(len(NODES[node]["outputs"]))]
        for slot in (*words["inputs"].values(), *words["outputs"].values()):
            assert slot["name"].strip() and slot["tooltip"].strip()
            assert "." not in slot["name"]  # the frontend reads dots as paths


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_help_pages_name_every_input_and_output(language: str, node: str):
    text, words = page(language, node), locale(language, "nodeDefs")[node]
    assert text.startswith(f"# {words['display_name']}\n")
    inputs = [words["inputs"][name] for name in NODES[node]["inputs"]]
    for slot in (*inputs, *words["outputs"].values()):
        assert f"- **{slot['name']}**{COLONS[language]}" in text
    assert len(text.split("\n## ")) == 4  # inputs, outputs, tips


def test_languages_are_themselves():
    """No page was left in the other language."""
    chinese = re.compile(r"[\u4e00-\u9fff]")
    for node in NODES:
        assert not chinese.search(page("en", node))
        assert len(chinese.findall(page("zh", node))) > 50
    assert set(locale("en", "main")) == set(locale("zh", "main"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_have_words(language: str):
    """Of our own; core has one for its loaders."""
    found = {
        name
        for path in (ROOT / "nodes").rglob("*.py")
        for category in re.findall(r'category="([\w/]+)"', path.read_text(encoding="utf-8"))
        for name in category.split("/")
    }
    assert set(locale(language, "main")["nodeCategories"]) == found - {"loaders"}
