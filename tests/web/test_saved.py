"""Widgets are append-only: a workflow saves their values by place, so an old one must find each in its place.

tests/web/saved/ has each template as it was once saved: for each node of ours its type and widgets in order.
Another file has the nodes that are in no template. None of it is ever changed. This adds what it lacks, for a
new template or node:

    python tests/web/test_saved.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("saved")
OTHERS = FOLDER / "nodes in no template.json"
NODES: dict[str, Any] = json.loads((ROOT / "tests/web/nodes.json").read_text(encoding="utf-8"))
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
SAVED = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
Row = tuple[str, dict[str, Any]]


def rows_of(workflow: dict[str, Any]) -> list[Row]:
    """Type and widgets by name, in order, of each node of ours in a saved workflow."""
    ours = [node for node in workflow["nodes"] if node["type"] in NODES]
    return [
        (node["type"], dict(zip(NODES[node["type"]]["widgets"], node.get("widgets_values", []), strict=True)))
        for node in ours
    ]


def misplaced(rows: list[Row], nodes: dict[str, Any]) -> list[str]:
    """What of the saved widgets is gone, or no longer in its place."""
    found = []
    for kind, widgets in rows:
        now = nodes[kind]["widgets"] if kind in nodes else []
        if list(widgets) != now[: len(widgets)]:
            found.append(f"{kind}: saved with {', '.join(widgets)}; now has {', '.join(now)}")
    return found


@pytest.mark.parametrize("name", SAVED)
def test_every_saved_widget_is_in_its_place(name: str):
    assert not misplaced(SAVED[name], NODES), "new widgets go behind the ones that are there"


def test_every_template_and_every_node_has_a_saved_form():
    assert {path.stem for path in TEMPLATES} <= set(SAVED), "python tests/web/test_saved.py adds it"
    assert {kind for rows in SAVED.values() for kind, _ in rows} == set(NODES)


def test_what_an_old_workflow_cannot_bear():
    rows: list[Row] = [("Node", {"a": 1, "b": 2})]
    assert misplaced(rows, {"Node": {"widgets": ["a", "b", "new"]}}) == []
    for widgets in (["a"], ["b", "a"], ["a", "new", "b"], ["a", "renamed"], []):
        assert misplaced(rows, {"Node": {"widgets": widgets}}) == [
            f"Node: saved with a, b; now has {', '.join(widgets)}"
        ]
    assert misplaced(rows, {}) == ["Node: saved with a, b; now has "]


def _add() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in TEMPLATES:
        if not (saved := FOLDER / path.name).exists():
            _write(saved, rows_of(json.loads(path.read_text(encoding="utf-8"))))
    rows = [row for path in FOLDER.glob("*.json") for row in json.loads(path.read_text(encoding="utf-8"))]
    new = sorted(set(NODES) - {kind for kind, _ in rows})
    if new:
        others = json.loads(OTHERS.read_text(encoding="utf-8")) if OTHERS.exists() else []
        _write(OTHERS, others + [(kind, dict.fromkeys(NODES[kind]["widgets"])) for kind in new])


def _write(path: Path, rows: list[Row]) -> None:
    text = ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in rows)
    path.write_text(f"[\n{text}\n]\n", encoding="utf-8", newline="\n")
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    _add()
