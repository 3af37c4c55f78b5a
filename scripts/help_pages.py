"""The help page of a node, from its words and its tips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scripts.node_words import setting_key


@dataclass(frozen=True)
class Language:
    """How a language's pages are laid out.

    Attributes:
        page: the page's path below web/docs, for the name of a node.
        nothing: what stands in place of inputs where a node has none.
        aside: around what a setting belongs to.
    """

    page: str
    inputs: str
    outputs: str
    tips: str
    nothing: str
    colon: str
    comma: str
    aside: str


LANGUAGES = {
    "en": Language("{}.md", "Inputs", "Outputs", "Tips", "None: it is ready to use.", ": ", ", ", " ({})"),
    "zh": Language("{}/zh.md", "输入", "输出", "提示", "无：可直接使用。", "：", "、", "（{}）"),
}


def help_page(language: str, shape: dict[str, Any], words: dict[str, Any], tips: str) -> str:
    """A page in Markdown.

    Args:
        language: key of `LANGUAGES`.
        shape: see `node_words.shape_of`.
        words: the node's entry in the language's nodeDefs.json.
        tips: a list in Markdown.
    """
    form = LANGUAGES[language]
    inputs = list(_inputs(form, shape, words["inputs"])) or [form.nothing]
    outputs = [_item(form, slot) for slot in words["outputs"].values()]
    parts = [
        f"# {words['display_name']}",
        words["description"],
        f"## {form.inputs}",
        "\n".join(inputs),
        f"## {form.outputs}",
        "\n".join(outputs),
        f"## {form.tips}",
        tips.strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _inputs(form: Language, shape: dict[str, Any], words: dict[str, Any]) -> Iterator[str]:
    for name in shape["inputs"]:
        yield _item(form, words[name])
        choices = shape.get("settings", {}).get(name, {})
        for setting in dict.fromkeys(setting for settings in choices.values() for setting in settings):
            owners = [choice for choice, settings in choices.items() if setting in settings]
            aside = "" if len(owners) == len(choices) else form.aside.format(form.comma.join(owners))
            yield "  " + _item(form, words[setting_key(name, setting)], aside)


def _item(form: Language, slot: dict[str, str], aside: str = "") -> str:
    return f"- **{slot['name']}**{aside}{form.colon}{slot['tooltip']}"
