"""ComfyUI with the pack in a real browser, as an artist has it: for the tests, and for pictures of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI-Aether-HERO"
WORKFLOWS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "workflows").glob("*.json"))
}
CORE_TEMPLATES = [
    name
    for name, workflow in WORKFLOWS.items()
    if any(node["type"] == "UNETLoader" for node in workflow["nodes"])
]
"""Those on models that core loads."""
BUNDLED = [name for name in WORKFLOWS if name not in CORE_TEMPLATES]
"""Those that run on the miniature, with nothing to download."""
FIRST = "1 Try it now"
"""The template that an artist opens first."""
CHROMIUM = os.environ.get("CHROMIUM_PATH") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox --enable-unsafe-swiftshader --disable-gpu-compositing --disable-quic "
    "--no-first-run --disable-background-networking --disable-component-update --disable-sync"
).split()
READY = "() => !!(window.app?.extensionManager && window.LiteGraph?.registered_node_types?.HeroPatch)"
LOADED = """() => {
    const values = graph => JSON.stringify(graph.nodes.map(node => [node.id, node.widgets_values ?? null]));
    const open = app.extensionManager.workflow.activeWorkflow?.activeState;
    const fresh = app.graph.nodes.length && !app.graph.nodes.some(node => node.loadedBefore);
    return fresh && open && values(open) === values(app.graph.serialize());
}"""
RUN_MS = 900_000
STILL = """() => {
    const style = document.createElement("style");
    style.textContent = "*, *::before, *::after { animation: none !important; transition: none !important; }";
    document.documentElement.append(style);
    addEventListener("play", event => event.target.pause(), true);
}"""
"""Nothing on the page moves by itself and no video plays: without a GPU, this takes more time than all else
in the browser."""


def values_of(workflow: dict[str, Any]) -> dict[int, Any]:
    """The values of a workflow's widgets, by their nodes."""
    return {node["id"]: node.get("widgets_values") for node in workflow["nodes"]}


class Page:
    """ComfyUI in a tab, with the few moves that are made there. Screenshots go to `artefacts`."""

    def __init__(self, tab: Any, artefacts: Path, server: Any):
        self.tab = tab
        self.errors: list[str] = []
        self._artefacts = artefacts
        self._server = server
        self._dropped = 0
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def js(self, script: str, value: Any = None) -> Any:
        return self.tab.evaluate(script, value)

    def setting(self, name: str, value: Any) -> None:
        if self.js("name => app.extensionManager.setting.get(name)", name) == value:
            return
        self.js("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
        self.tab.wait_for_timeout(500)

    def open_template(self, name: str) -> None:
        """The way an artist does it: the template browser, the pack, the card."""
        self.js("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.tab.get_by_role("button", name=PACK, exact=True).click()
        card = self.tab.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()  # pictures are loaded where they are seen
        card.locator("img").first.wait_for()
        with self._loading():
            card.click()
        assert self.values() == values_of(WORKFLOWS[name])

    def language(self, locale: str) -> None:
        """Choose a language, in which the frontend then loads the open workflow anew."""
        with self._loading():
            self.setting("Comfy.Locale", locale)

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """At the end, wait until new nodes are on the canvas and belong to the open workflow.

        They do so only some time later: meanwhile a change of language would bring back the one before."""
        self.js("() => app.graph.nodes.forEach(node => { node.loadedBefore = true; })")
        yield
        self.tab.wait_for_function(LOADED)
        self.tab.wait_for_timeout(1000)

    def drop(self, workflow: dict[str, Any]) -> None:
        """A JSON file dropped on the canvas, with a name of its own: by it the page knows earlier runs."""
        self._dropped += 1
        with self._loading():
            self.js(
                """([text, name]) => {
                    const data = new DataTransfer();
                    data.items.add(new File([text], name, { type: "application/json" }));
                    const target = document.querySelector("#graph-canvas");
                    const at = { clientX: 400, clientY: 400, bubbles: true, cancelable: true };
                    target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, ...at }));
                }""",
                [json.dumps(workflow), f"dropped {self._dropped}.json"],
            )
        assert self.values() == values_of(workflow)

    def open(self, name: str) -> None:
        """A template, in a small part of the time that the template browser with its pictures takes."""
        self.drop(WORKFLOWS[name])

    def values(self) -> dict[int, Any]:
        """The values of all widgets on the canvas, by their nodes."""
        return values_of(self.js("() => app.graph.serialize()"))

    def panel(self) -> str:
        """The live text of the HERO Patch or Cache Method node."""
        return self.tab.locator(".aether-hero").first.inner_text()

    def wait_for_panel(self, text: str) -> None:
        """Until the live text says `text`."""
        script = "text => document.querySelector('.aether-hero')?.innerText.includes(text)"
        self.tab.wait_for_function(script, arg=text, timeout=60_000)

    def widget(self, kind: str, name: str) -> Any:
        return self.js(
            """([kind, name]) => {
                const node = app.graph.nodes.find(found => found.type === kind);
                return node.widgets.find(found => found.name === name).value;
            }""",
            [kind, name],
        )

    def set_widget(self, kind: str, name: str, value: Any) -> None:
        """As the frontend does: the value, then the callback."""
        self.js(
            """([kind, name, value]) => {
                const node = app.graph.nodes.find(found => found.type === kind);
                const widget = node.widgets.find(found => found.name === name);
                widget.value = value;
                widget.callback?.(value, app.canvas, node);
            }""",
            [kind, name, value],
        )
        self.tab.wait_for_timeout(500)

    def replace(self, kind: str, other: str) -> None:
        """Put a new node where one is, with its first input and output."""
        self.js(
            """([kind, other]) => {
                const old = app.graph.nodes.find(found => found.type === kind);
                const before = app.graph.getLink(old.inputs[0].link);
                const after = old.outputs[0].links.map(id => app.graph.getLink(id));
                const node = LiteGraph.createNode(other);
                node.pos = [...old.pos];
                app.graph.add(node);
                app.graph.remove(old);
                app.graph.getNodeById(before.origin_id).connect(before.origin_slot, node, 0);
                for (const { target_id, target_slot } of after)
                    node.connect(0, app.graph.getNodeById(target_id), target_slot);
            }""",
            [kind, other],
        )

    def look_at(self, kind: str, scale: float = 1.2) -> None:
        """Bring a node to the upper left, large enough to work on."""
        self.js(
            """([kind, scale]) => {
                const node = app.graph.nodes.find(found => found.type === kind);
                app.canvas.ds.scale = scale;
                app.canvas.ds.offset = [200 - node.pos[0], 150 - node.pos[1]];
                app.canvas.setDirty(true, true);
            }""",
            [kind, scale],
        )
        self.tab.wait_for_timeout(700)

    def slider(self, name: str, vue: bool) -> tuple[float, float]:
        """Where to take hold of a slider of the HERO Patch node."""
        if vue:
            row = self.tab.locator(".lg-node:has(.aether-hero) [role=slider]").nth(
                ["tau", "interval"].index(name)
            )
            box = row.bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        return tuple(
            self.js(
                """name => {
                    const node = app.graph.nodes.find(found => found.type === "HeroPatch");
                    const widget = node.widgets.find(found => found.name === name);
                    const { scale, offset } = app.canvas.ds;
                    const edge = app.canvas.canvas.getBoundingClientRect();
                    const x = node.pos[0] + node.size[0] / 2, y = node.pos[1] + widget.last_y + 10;
                    return [edge.left + (x + offset[0]) * scale, edge.top + (y + offset[1]) * scale];
                }""",
                name,
            )
        )

    def run(self) -> dict[str, Any]:
        """Press Run, wait for the end; gives the history entry."""
        before = set(self._server.get("/history"))
        self.tab.get_by_test_id("queue-button").click()
        for _ in range(RUN_MS // 500):
            self.tab.wait_for_timeout(500)
            new = [entry for key, entry in self._server.get("/history").items() if key not in before]
            if new:
                self.tab.wait_for_timeout(2000)
                return new[0]
        raise AssertionError("the run did not end")

    def shot(self, name: str) -> None:
        self.tab.screenshot(path=self._artefacts / f"{name}.png")

    def assert_sound(self, name: str) -> None:
        """No missing nodes, no node in error, nothing changed by opening."""
        assert self.js("() => app.graph.nodes.filter(n => n.has_errors).map(n => n.type)") == []
        assert self.tab.get_by_role("dialog").count() == 0
        assert (
            self.js("() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).length") == 0
        )
        assert self.values() == values_of(WORKFLOWS[name])
        assert self.errors == []


@contextmanager
def comfyui_page(server: Any, artefacts: Path, scale: float = 1.0) -> Iterator[Page]:
    """A running server's page, ready for use. `scale`: pixels of a screenshot for each of the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1800, "height": 1000}, device_scale_factor=scale)
        tab.set_default_timeout(120_000)
        tab.add_init_script(f"addEventListener('DOMContentLoaded', {STILL})")
        page = Page(tab, artefacts, server)
        tab.goto(server.url, wait_until="domcontentloaded")
        tab.wait_for_function(READY, timeout=300_000)
        tab.wait_for_timeout(1500)
        tab.keyboard.press("Escape")
        page.errors.clear()
        yield page
        browser.close()


def frames_of(path: Path) -> np.ndarray:
    """A video as RGB frames (F, H, W, 3) in [0, 1]."""
    import av

    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]) / 255.0
