"""The English locale and the list of nodes are what the schemas in a real ComfyUI make them."""

from __future__ import annotations

from typing import Any

from scripts import words


def test_locale_and_list_are_the_schemas(pack: Any):
    differing = words.differing(words.from_schemas(words.infos_of(pack)))
    assert not differing, "python scripts/words.py writes them"
