"""Write what follows from the words of the nodes, or compare it.

    python scripts/words.py                          # write; needs ComfyUI
    python scripts/words.py --check                  # only compare
    python scripts/words.py --translated NAME [...]  # these Chinese sentences still fit their changed English

Three things are written by hand: the English of a node in its schema (nodes/), its Chinese in
locales/zh/nodeDefs.json, and the tips of its help page in locales/<language>/tips/. This command makes the
rest: locales/en/nodeDefs.json, the help pages in web/docs, the list of nodes in tests/web/nodes.json, and
locales/zh/sources.json, which records what each Chinese sentence was translated from.

The exit status is 1 if something differs, is missing, or is older than its English.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scripts import translations  # noqa: E402 (the repository's, whatever is installed)
from scripts.help_pages import LANGUAGES, help_page  # noqa: E402
from scripts.node_words import shape_of, words_of  # noqa: E402

NODES = ROOT / "tests/web/nodes.json"
SOURCES = ROOT / "locales/zh/sources.json"


def definitions_of(language: str) -> Path:
    return ROOT / "locales" / language / "nodeDefs.json"


def tips_of(language: str, node: str) -> Path:
    return ROOT / "locales" / language / "tips" / f"{node}.md"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def from_schemas(infos: dict[str, Any]) -> dict[Path, str]:
    """The list of nodes and the English locale, as texts of their files.

    Args:
        infos: by node, see `node_words`.
    """
    rows = [f" {json.dumps(name)}: {json.dumps(shape_of(info))}" for name, info in sorted(infos.items())]
    words = {name: words_of(info) for name, info in infos.items()}
    return {NODES: "{\n" + ",\n".join(rows) + "\n}\n", definitions_of("en"): _json(words)}


def from_files(confirmed: Collection[str] = ()) -> dict[Path, str]:
    """The help pages and the record of the translations, from the files that stand there.

    Raises:
        FileNotFoundError: a node has no tips; there is no record.
        ValueError: Chinese is missing or of no use; ``confirmed`` names no sentence.
    """
    shapes = read(NODES)
    definitions = {language: read(definitions_of(language)) for language in LANGUAGES}
    tips = {
        language: {node: tips_of(language, node).read_text(encoding="utf-8") for node in shapes}
        for language in LANGUAGES
    }
    english, chinese = (translations.sentences(definitions[key], tips[key]) for key in ("en", "zh"))
    _check_complete(english, chinese)
    pages = {
        ROOT / "web/docs" / form.page.format(node): help_page(
            language, shape, definitions[language][node], tips[language][node]
        )
        for language, form in LANGUAGES.items()
        for node, shape in shapes.items()
    }
    return pages | {SOURCES: _json(translations.updated(read(SOURCES), english, chinese, confirmed))}


def _check_complete(english: Collection[str], chinese: Collection[str]) -> None:
    problems = [f"lacks {name}" for name in english if name not in chinese]
    problems += [f"has {name}, which no node has" for name in chinese if name not in english]
    if problems:
        raise ValueError("\n".join(f"locales/zh/nodeDefs.json {problem}" for problem in problems))


def stale() -> list[str]:
    """Names of the Chinese sentences that are older than their English."""
    english = read(definitions_of("en"))
    tips = {node: tips_of("en", node).read_text(encoding="utf-8") for node in english}
    return translations.stale(read(SOURCES), translations.sentences(english, tips))


def differing(texts: dict[Path, str]) -> list[Path]:
    """The files that do not hold their text."""
    return [
        path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def superfluous(pages: Collection[Path]) -> list[Path]:
    """Help pages and tips of nodes that are no more."""
    tips = {tips_of(language, node) for language in LANGUAGES for node in read(NODES)}
    found = [*(ROOT / "web/docs").rglob("*.md"), *(ROOT / "locales").glob("*/tips/*.md")]
    return [path for path in found if path not in pages and path not in tips]


def infos_of(pack: Any) -> dict[str, Any]:
    """What ComfyUI lists of our nodes, by name.

    Args:
        pack: the pack's root package, loaded into ComfyUI.
    """
    extension = asyncio.run(pack.comfy_entrypoint())
    nodes = asyncio.run(extension.get_node_list())
    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in nodes}


def load() -> Any:
    """The pack.

    Raises:
        SystemExit: there is no ComfyUI.
    """
    from tests.comfy.conftest import find_comfyui, load_pack, why_not

    if reason := why_not():
        raise SystemExit(reason)
    return load_pack(find_comfyui())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument(
        "--translated", nargs="+", default=[], metavar="NAME", help="sentences that still fit"
    )
    options = parser.parse_args(arguments)
    settle = _compare if options.check else _write
    try:
        problems = settle(from_schemas(infos_of(load())))
        texts = from_files(options.translated)
        problems += settle(texts)
    except (OSError, ValueError) as error:
        print(error)
        return 1
    problems += [f"of no node: {path.relative_to(ROOT)}" for path in superfluous(texts)]
    problems += [f"older than its English: {name}" for name in stale()]
    print("\n".join(problems or ["all words agree"]))
    return int(bool(problems))


def _compare(texts: dict[Path, str]) -> list[str]:
    return [f"differs: {path.relative_to(ROOT)}" for path in differing(texts)]


def _write(texts: dict[Path, str]) -> list[str]:
    for path in differing(texts):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8", newline="\n")
        print(f"written: {path.relative_to(ROOT)}")
    return []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
