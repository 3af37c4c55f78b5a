"""The pack in a real ComfyUI in a real browser: templates open and run, sliders talk, reports appear.

Needs Chromium and PyPI's ``playwright`` beside ComfyUI. Screenshots go to $AETHER_HERO_ARTEFACTS, else to
pytest's temporary folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI-Aether-HERO"
NODES: dict[str, Any] = json.loads((ROOT / "tests/web/nodes.json").read_text(encoding="utf-8"))
WORKFLOWS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows").glob("*.json")
}
CHROMIUM = os.environ.get("CHROMIUM_PATH") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic "
    "--no-first-run --disable-background-networking --disable-component-update --disable-sync"
).split()
READY = "() => !!(window.app?.extensionManager && window.LiteGraph?.registered_node_types?.HeroPatch)"
RUN_MS = 240_000
SEEDS = {
    "compare_with_and_without_hero": ("PrimitiveInt", "value"),
    "power_user_samplercustomadvanced": ("RandomNoise", "noise_seed"),
    "reconstruct_a_long_clip": ("AetherLongClip", "seed"),
}
"""Templates whose seed is not the Aether Sampler's."""

pytestmark = pytest.mark.slow
in_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="no Chromium or no playwright (pip install playwright): the browser tests are not run",
)
both_renderers = pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes2"])


def test_the_list_of_nodes_is_the_servers(server: Any):
    """tests/web/nodes.json, which the quick tests read. Names and their order stay for good: append only."""
    found = {
        name: node
        for name, node in server.get("/object_info").items()
        if node["python_module"] == f"custom_nodes.{PACK}"
    }
    assert set(found) == set(NODES)
    for name, node in found.items():
        inputs = {
            key: spec
            for part in ("required", "optional")
            for key, spec in node["input"].get(part, {}).items()
        }
        assert {key: spec[0] for key, spec in inputs.items()} == NODES[name]["inputs"]
        assert list(inputs) == list(NODES[name]["inputs"])
        assert node["output_name"] == NODES[name]["outputs"]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("AETHER_HERO_ARTEFACTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


class Page:
    """ComfyUI in a tab, with the few moves that the tests make."""

    def __init__(self, tab: Any, artefacts: Path, server: Any):
        self.tab = tab
        self.errors: list[str] = []
        self._artefacts = artefacts
        self._server = server
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def js(self, script: str, value: Any = None) -> Any:
        return self.tab.evaluate(script, value)

    def setting(self, name: str, value: Any) -> None:
        self.js("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
        self.tab.wait_for_timeout(500)

    def open_template(self, name: str) -> None:
        """The way an artist does it: the template browser, the pack, the card."""
        self.js("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.tab.get_by_role("button", name=PACK, exact=True).click()
        card = self.tab.get_by_test_id(f"template-workflow-{name}")
        card.locator("img").first.wait_for()
        card.click()
        self.tab.wait_for_function(
            "count => app.graph.nodes.length === count", arg=len(WORKFLOWS[name]["nodes"])
        )
        self.tab.wait_for_timeout(1000)

    def drop(self, workflow: dict[str, Any]) -> None:
        """A JSON file dropped on the canvas."""
        self.js(
            """text => {
                const data = new DataTransfer();
                data.items.add(new File([text], "dropped.json", { type: "application/json" }));
                const target = document.querySelector("#graph-canvas");
                const at = { clientX: 400, clientY: 400, bubbles: true, cancelable: true };
                target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, ...at }));
            }""",
            json.dumps(workflow),
        )
        self.tab.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
        self.tab.wait_for_timeout(1000)

    def panel(self) -> str:
        """The live text of the HERO Patch node."""
        return self.tab.locator(".aether-hero").first.inner_text()

    def wait_for_panel(self, text: str) -> None:
        """Until the live text says `text`."""
        script = "text => document.querySelector('.aether-hero')?.innerText.includes(text)"
        self.tab.wait_for_function(script, arg=text, timeout=15_000)

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
        loaded = {
            node["id"]: node.get("widgets_values") for node in self.js("() => app.graph.serialize().nodes")
        }
        assert loaded == {node["id"]: node.get("widgets_values") for node in WORKFLOWS[name]["nodes"]}
        assert self.errors == []


@pytest.fixture(scope="module")
def page(server: Any, artefacts: Path) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1800, "height": 1000})
        found = Page(tab, artefacts, server)
        tab.goto(server.url, wait_until="domcontentloaded")
        tab.wait_for_function(READY, timeout=90_000)
        tab.wait_for_timeout(1500)
        tab.keyboard.press("Escape")
        found.errors.clear()
        yield found
        browser.close()


@pytest.fixture
def renderer(page: Page) -> Callable[[bool], None]:
    def use(vue: bool) -> None:
        page.setting("Comfy.VueNodes.Enabled", vue)

    return use


@in_browser
@both_renderers
@pytest.mark.parametrize("name", WORKFLOWS)
def test_templates_open(page: Page, renderer: Any, name: str, vue: bool):
    renderer(vue)
    page.open_template(name)
    page.assert_sound(name)
    page.wait_for_panel("steps")
    page.shot(f"{name}_{'nodes2' if vue else 'classic'}")


@in_browser
def test_a_json_dropped_on_the_canvas_opens(page: Page, renderer: Any):
    renderer(False)
    page.drop(WORKFLOWS["try_it_now"])
    page.assert_sound("try_it_now")


@in_browser
@both_renderers
def test_dragging_a_slider_changes_the_text_before_it_is_let_go(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open_template("try_it_now")
    page.look_at("HeroPatch")
    assert page.panel().startswith("up to 1.74× faster\n28 full + 22 cached of 50 steps\n2.5 MB")
    assert page.widget("HeroPatch", "preset") == "balanced"
    x, y = page.slider("tau", vue)
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 60, y, steps=6)
    page.tab.wait_for_timeout(150)
    held = page.panel()
    page.shot(f"dragging_{'nodes2' if vue else 'classic'}")
    page.tab.mouse.up()
    tau = page.widget("HeroPatch", "tau")
    assert tau > 0.3
    assert 1.5 < float(held.removeprefix("up to ").split("×")[0]) < 1.735
    assert page.widget("HeroPatch", "preset") == "custom"


@in_browser
@both_renderers
def test_presets_and_sliders_keep_in_step(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open_template("try_it_now")
    page.set_widget("HeroPatch", "preset", "paper-fast")
    assert [page.widget("HeroPatch", name) for name in ("interval", "warmup", "warmup_unit")] == [
        3,
        20,
        "percent",
    ]
    page.wait_for_panel("23 full + 27 cached")
    page.set_widget("HeroPatch", "interval", 1)
    assert page.widget("HeroPatch", "preset") == "custom"
    page.wait_for_panel("Nothing to reuse: with interval 1")
    page.set_widget("HeroPatch", "interval", 2)
    page.set_widget("AetherSampler", "steps", 4)  # another node: no callback of ours
    page.wait_for_panel("2 full + 2 cached of 4 steps")
    page.set_widget("HeroPatch", "warmup", 100)
    page.wait_for_panel("warm-up and cool-down take all 4 steps")
    assert page.js("() => document.querySelector('.aether-hero').dataset.mood") == "warning"
    page.set_widget("HeroPatch", "patch_columns", 64)
    page.wait_for_panel("larger than the 5x8x12 tokens")


@in_browser
def test_the_panel_speaks_chinese(page: Page, renderer: Any):
    renderer(False)
    page.open_template("try_it_now")
    try:
        page.setting("Comfy.Locale", "zh")
        page.wait_for_panel("最多加速 1.74×")
        page.wait_for_panel("共 50 步")
        page.shot("chinese")
    finally:
        page.setting("Comfy.Locale", "en")


def frames_of(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]) / 255.0


def neighbors(clip: np.ndarray) -> float:
    """Correlation of neighboring pixels: 0 for noise."""
    return float(np.corrcoef(clip[:, :, :-1].ravel(), clip[:, :, 1:].ravel())[0, 1])


@in_browser
@pytest.mark.parametrize("name", WORKFLOWS)
def test_templates_run(page: Page, renderer: Any, server: Any, name: str):
    """Run is pressed on the freshly opened template; videos come out, and the report is on the node."""
    renderer(False)
    page.open_template(name)
    kind, widget = SEEDS.get(name, ("AetherSampler", "seed"))
    page.set_widget(kind, widget, 100 + sorted(WORKFLOWS).index(name))  # nothing out of the server's cache
    entry = page.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    nodes = {str(node["id"]): node for node in WORKFLOWS[name]["nodes"]}
    shown = {nodes[key]["type"] for key in entry["outputs"]}
    assert {node["type"] for node in nodes.values()} & {"HeroReport", "PreviewImage", "SaveVideo"} <= shown
    for key, output in entry["outputs"].items():
        if nodes[key]["type"] == "SaveVideo":
            (video,) = output["images"]
            clip = frames_of(server.base / "output" / video["subfolder"] / video["filename"])
            assert len(clip) == (41 if name == "reconstruct_a_long_clip" else 17)
            assert clip.shape[1:] in {
                (64, 96, 3),
                (64, 200, 3),
                (480, 640, 3),
                (128, 192, 3),
            }
            assert clip.std() > 0.02 and neighbors(clip) > 0.3
    if name in ("reconstruct_a_video", "video_to_blender", "video_to_point_cloud"):
        assert page.panel().startswith("HERO is off")
    else:
        page.wait_for_panel("Last run: ")
    if name == "video_to_blender":
        assert len(list((server.base / "output/aether").glob("blender_depth_*_exr/depth_*.exr"))) == 17
        assert len(list((server.base / "output/aether").glob("blender_camera_*.glb"))) == 1
    videos = "() => [...document.querySelectorAll('video')].filter(v => v.readyState > 0).length"
    page.tab.wait_for_function(f"() => ({videos})() >= 2", timeout=30_000)
    page.shot(f"{name}_after_run")


@in_browser
@both_renderers
def test_what_the_node_says_after_a_run(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open_template("try_it_now")
    page.set_widget("AetherSampler", "steps", 10)
    page.set_widget("AetherSampler", "seed", 11 + vue)
    page.run()
    page.wait_for_panel("Last run: 6 full / 4 cached, ")
    page.look_at("HeroPatch")
    page.shot(f"after_run_{'nodes2' if vue else 'classic'}")
    page.set_widget("HeroPatch", "interval", 1)
    page.run()
    page.wait_for_panel("Last run reused nothing.")
    assert page.js("() => document.querySelector('.aether-hero').dataset.mood") == "warning"
    page.shot(f"nothing_reused_{'nodes2' if vue else 'classic'}")


@in_browser
def test_help_pages_are_served(page: Page):
    for node in NODES:
        for path in (f"{node}.md", f"{node}/zh.md"):
            text = page.js(
                "url => fetch(url).then(r => r.ok ? r.text() : '')", f"/extensions/{PACK}/docs/{path}"
            )
            assert text.startswith("# ")
