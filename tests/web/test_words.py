"""The words of a node stand in one place each, and what is made of them is up to date.

What follows from the schemas themselves is compared in tests/comfy/test_words.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import translations, words
from scripts.help_pages import LANGUAGES, help_page
from scripts.node_words import shape_of, words_of

ROOT = Path(__file__).parents[2]
TO_DO = "python scripts/words.py writes it, in a Python that has ComfyUI's requirements"


def test_help_pages_and_record_are_what_their_sources_make_them():
    texts = words.from_files()
    assert not words.differing(texts), TO_DO
    assert not words.superfluous(texts)


def test_no_chinese_sentence_is_older_than_its_english():
    """Translate it anew, or say that it still fits: python scripts/words.py --translated NAME."""
    assert words.stale() == []


def test_chinese_has_a_sentence_for_each_english_one():
    english, chinese = (
        translations.sentences(words.read(words.definitions_of(language)), {}) for language in ("en", "zh")
    )
    assert english.keys() == chinese.keys()
    for name, text in chinese.items():
        assert text.strip()
        assert re.search(r"[\u4e00-\u9fff]", text) or not name.endswith((".tooltip", ".description")), name


def test_chinese_calls_nodes_by_their_chinese_names():
    english, chinese = (words.read(words.definitions_of(language)) for language in ("en", "zh"))
    renamed = {
        english[node]["display_name"]
        for node in english
        if english[node]["display_name"] != chinese[node]["display_name"]
    }
    texts = [words.tips_of("zh", node).read_text(encoding="utf-8") for node in chinese]
    texts += translations.sentences(chinese, {}).values()
    found = {name for name in renamed for text in texts if re.search(rf"{name}(?!\w)", text)}
    assert not found


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_has_signs_of_the_frontends_own(language: str):
    """vue-i18n reads {x} as a variable, @ as a link and | as a plural."""
    definitions = words.read(words.definitions_of(language))
    for name, text in translations.sentences(definitions, {}).items():
        assert not set("{}@|") & set(text), name


def test_each_english_sentence_is_written_once():
    """Sentences of more than five words, in the schemas, the tips and the page's scripts."""
    places = defaultdict(set)
    for path, text in [*_of_nodes(), *_of_tips(), *_of_scripts()]:
        for sentence in _sentences(text):
            places[sentence].add(path.relative_to(ROOT).as_posix())
    assert len(places) > 400
    twice = {sentence: sorted(found) for sentence, found in places.items() if len(found) > 1}
    assert not twice


def _of_nodes() -> Iterator[tuple[Path, str]]:
    for path in (ROOT / "nodes").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        remarks = {id(part.value) for part in ast.walk(tree) if isinstance(part, ast.Expr)}
        inner = {
            id(value)
            for part in ast.walk(tree)
            if isinstance(part, ast.JoinedStr)
            for value in ast.walk(part)
            if value is not part
        }
        for part in ast.walk(tree):
            if id(part) not in remarks | inner:
                yield path, _text_of(part)


def _text_of(part: ast.AST) -> str:
    """A string of Python, with … for what is filled in."""
    if isinstance(part, ast.JoinedStr):
        return "".join(_text_of(value) or "…" for value in part.values)
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


def _of_tips() -> Iterator[tuple[Path, str]]:
    for path in (ROOT / "locales/en/tips").glob("*.md"):
        yield path, path.read_text(encoding="utf-8")


def _of_scripts() -> Iterator[tuple[Path, str]]:
    for path in (ROOT / "web").rglob("*.js"):
        code = re.sub(r"/\*.*?\*/|^\s*//.*?$", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
        for quoted in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', code):
            yield path, re.sub(r"\$\{[^}]*\}", "…", "".join(quoted))


def _sentences(text: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?:;])\s+|\n", text):
        plain = re.findall(r"[\w']+|…", sentence.lower())
        if len(plain) - plain.count("…") > 5:
            yield " ".join(plain)


def test_sentences_are_found():
    assert list(_sentences("Short one. This one has six words here. (And this has, too: yes!)")) == [
        "this one has six words here"
    ]
    text = '"""Six words of a docstring here."""\nf(x, "six words " "of a string " f"with {x}")\n'
    strings = [ast.parse(text).body[1].value.args[1]]
    assert [_text_of(part) for part in strings] == ["six words of a string with …"]


ENGLISH = {"a": "Width", "b": "Height"}
CHINESE = {"a": "宽", "b": "高"}


def test_a_sentence_is_stale_once_its_english_changes():
    record = translations.updated({}, ENGLISH, CHINESE)
    assert translations.stale(record, ENGLISH) == []
    assert translations.stale(record, ENGLISH | {"b": "Height in pixels"}) == ["b"]


def test_running_the_command_again_does_not_freshen_a_sentence():
    record = translations.updated({}, ENGLISH, CHINESE)
    changed = ENGLISH | {"b": "Height in pixels"}
    for _ in range(2):
        record = translations.updated(record, changed, CHINESE)
        assert translations.stale(record, changed) == ["b"]


def test_a_new_translation_freshens_a_sentence_and_only_that():
    record = translations.updated({}, ENGLISH, CHINESE)
    changed = {"a": "Width in pixels", "b": "Height in pixels"}
    record = translations.updated(record, changed, CHINESE | {"b": "高，像素"})
    assert translations.stale(record, changed) == ["a"]


def test_a_sentence_can_be_confirmed_as_it_is():
    record = translations.updated({}, ENGLISH, CHINESE)
    changed = ENGLISH | {"b": "The height"}
    record = translations.updated(record, changed, CHINESE, confirmed=["b"])
    assert translations.stale(record, changed) == []
    with pytest.raises(ValueError, match="no sentence has the name c"):
        translations.updated(record, changed, CHINESE, confirmed=["c"])


def test_sentences_that_are_gone_leave_the_record():
    record = translations.updated({}, ENGLISH, CHINESE)
    assert set(translations.updated(record, {"b": "Height"}, CHINESE)) == {"b"}


INFO: dict[str, Any] = {
    "display_name": "Node",
    "description": "What it does.",
    "input": {
        "required": {
            "model": ["MODEL", {"tooltip": "A model."}],
            "method": ["COMFY_DYNAMICCOMBO_V3", {"tooltip": "Which.", "options": [
                {"key": "one", "inputs": {"required": {"order": ["INT", {"tooltip": "How many."}]}}},
                {"key": "two", "inputs": {"required": {
                    "order": ["INT", {"tooltip": "How many."}], "bonus": ["FLOAT", {"tooltip": "How much."}],
                }}},
            ]}],
            "seed": ["INT", {"tooltip": "A seed.", "control_after_generate": "fixed"}],
        },
        "optional": {"tau_blocks": ["INT", {"tooltip": "Layers.", "forceInput": True}]},
    },
    "output_name": ["MODEL"],
    "output_tooltips": ["The same."],
}  # fmt: skip


def test_a_nodes_shape():
    assert shape_of(INFO) == {
        "inputs": {"model": "MODEL", "method": "COMFY_DYNAMICCOMBO_V3", "seed": "INT", "tau_blocks": "INT"},
        "widgets": ["method", "seed", "control_after_generate"],
        "outputs": ["MODEL"],
        "settings": {"method": {"one": ["order"], "two": ["order", "bonus"]}},
    }


def test_a_nodes_words():
    assert words_of(INFO)["inputs"] == {
        "model": {"name": "model", "tooltip": "A model."},
        "method": {"name": "method", "tooltip": "Which."},
        "method_order": {"name": "order", "tooltip": "How many."},
        "method_bonus": {"name": "bonus", "tooltip": "How much."},
        "seed": {"name": "seed", "tooltip": "A seed."},
        "tau_blocks": {"name": "tau blocks", "tooltip": "Layers."},
    }
    assert words_of(INFO)["outputs"] == {"0": {"name": "MODEL", "tooltip": "The same."}}


def test_a_setting_has_the_same_words_with_each_choice():
    info = json.loads(json.dumps(INFO))
    info["input"]["required"]["method"][1]["options"][1]["inputs"]["required"]["order"][1]["tooltip"] = "x"
    with pytest.raises(ValueError, match="method_order has other words with two"):
        words_of(info)


def test_a_help_page():
    page = help_page("en", shape_of(INFO), words_of(INFO), "- A tip.\n")
    assert page == (
        "# Node\n\nWhat it does.\n\n## Inputs\n\n- **model**: A model.\n- **method**: Which.\n"
        "  - **order**: How many.\n  - **bonus** (two): How much.\n- **seed**: A seed.\n"
        "- **tau blocks**: Layers.\n\n## Outputs\n\n- **MODEL**: The same.\n\n## Tips\n\n- A tip.\n"
    )
    assert "- **order**：How many." in help_page("zh", shape_of(INFO), words_of(INFO), "- A tip.\n")
