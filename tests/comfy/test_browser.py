"""The pack in a real ComfyUI in a real browser: templates open and run, sliders talk, reports appear.

Needs Chromium and PyPI's ``playwright`` beside ComfyUI. Screenshots go to $AETHER_HERO_ARTEFACTS, else to
pytest's temporary folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .browser import BUNDLED, CHROMIUM, FIRST, PACK, READY, ROOT, WORKFLOWS, Page, comfyui_page, frames_of
from .headers import WAN_14B, save_header
from .tuned import STEPS, tuned

NODES: dict[str, Any] = json.loads((ROOT / "tests/web/nodes.json").read_text(encoding="utf-8"))
SEEDS = {
    "8 Compare with and without HERO": ("PrimitiveInt", "value"),
    "9 With core samplers": ("RandomNoise", "noise_seed"),
    "13 Tune for this model": ("PrimitiveInt", "value"),
    "5 Long video": ("AetherLongClip", "seed"),
    "14 Explore a world": ("AetherExplore", "seed"),
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


@pytest.fixture(scope="module")
def page(server: Any, artefacts: Path) -> Iterator[Page]:
    with comfyui_page(server, artefacts) as found:
        yield found


@pytest.fixture
def renderer(page: Page) -> Callable[[bool], None]:
    def use(vue: bool) -> None:
        page.js("() => { app.nodeOutputs = {}; }")  # of earlier runs, else shown on nodes of the same ids
        page.setting("Comfy.VueNodes.Enabled", vue)

    return use


@in_browser
@both_renderers
@pytest.mark.parametrize("name", BUNDLED)
def test_templates_open(page: Page, renderer: Any, name: str, vue: bool):
    renderer(vue)
    page.open_template(name)
    page.assert_sound(name)
    page.wait_for_panel("steps")
    page.shot(f"{name}_{'nodes2' if vue else 'classic'}")


@in_browser
def test_a_json_dropped_on_the_canvas_opens(page: Page, renderer: Any):
    renderer(False)
    page.open(FIRST)
    page.assert_sound(FIRST)


@contextmanager
def dragged(page: Page, name: str, vue: bool) -> Iterator[None]:
    """A slider of HERO Patch, moved up and held by the mouse for the time of the context."""
    x, y = page.slider(name, vue)
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 60, y, steps=6)
    yield
    page.tab.mouse.up()


@in_browser
@both_renderers
def test_dragging_a_slider_changes_the_text_before_it_is_let_go(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    assert page.panel().startswith("up to 1.74× faster\n28 full + 22 cached of 50 steps\n2.9 MB")
    assert page.widget("HeroPatch", "preset") == "balanced"
    with dragged(page, "tau", vue):
        page.tab.wait_for_timeout(150)
        held = page.panel()
        page.shot(f"dragging_{'nodes2' if vue else 'classic'}")
    tau = page.widget("HeroPatch", "tau")
    assert tau > 0.3
    assert 1.5 < float(held.removeprefix("up to ").split("×")[0]) < 1.735
    assert page.widget("HeroPatch", "preset") == "custom"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of HERO Tuner, of the first template's run with fewer steps."""
    folder = tmp_path_factory.mktemp("tuner") / "a test"
    model = {"file": "miniature", "form": "", "patched": "no", "sampler": "dpm"}
    tuned(folder, model | {"steps": str(STEPS), "width": "96", "height": "64", "frames": "17"}, budget=3)
    return folder


@pytest.fixture
def record(server: Any, recorded: Path) -> Iterator[Callable[[], None]]:
    """``record()`` puts the recording where HERO Tuner would."""
    folder = server.base / "user/aether_hero/tuner/a test"
    yield lambda: shutil.copytree(recorded, folder)
    shutil.rmtree(folder, ignore_errors=True)


TUNED = """() => app.api.dispatchEvent(new CustomEvent("executed", {
    detail: { node: "0", prompt_id: "0", output: { recording: ["a test"] } },
}))"""
"""What the page is sent when HERO Tuner has run."""


@in_browser
@both_renderers
def test_the_error_is_shown_once_there_is_a_recording(
    page: Page, renderer: Any, record: Callable[[], None], vue: bool
):
    """And changes while a slider is held."""
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    page.set_widget("AetherSampler", "steps", STEPS)
    page.wait_for_panel("Error: not known for this model, run HERO Tuner.")
    assert page.js(PANEL_CUT) == []
    page.shot(f"no_recording_{'nodes2' if vue else 'classic'}")
    record()
    page.js(TUNED)
    page.wait_for_panel("% error")
    before = page.js(ERROR)
    assert re.fullmatch(r"about [0-9.]+ % error", before) and "Error:" not in page.panel()
    assert re.search(r"within a factor of [0-9.]+ on average", page.panel())
    with dragged(page, "interval", vue):
        page.tab.wait_for_function(f"before => ({ERROR})() !== before", arg=before)
        assert re.fullmatch(r"about [0-9.]+ % error", page.js(ERROR))
        assert page.js(PANEL_CUT) == []
        page.shot(f"error_{'nodes2' if vue else 'classic'}")
    assert page.widget("HeroPatch", "interval") > 2
    page.set_widget("AetherSampler", "steps", 20)
    page.wait_for_panel(f"Error: known for {STEPS} steps, run HERO Tuner for 20 steps.")
    assert page.js(ERROR) == ""
    assert page.errors == []


ERROR = "() => document.querySelector('.aether-hero-error').textContent"
MORE = "() => app.graph.nodes.find(n => n.type === 'HeroPatch').widgets.find(w => w.name === 'more_settings')"
ROWS = """() => {
    const node = app.graph.nodes.find(found => found.type === "HeroPatch");
    return node.getLayoutWidgets().map(widget => widget.name).filter(name => !name.startsWith("hero_"));
}"""
"""Rows of HERO Patch that have room on the classic canvas, but its text."""
FEW = ["preset", "tau", "interval", "ratio", "threshold", "more_settings"]


@in_browser
def test_hero_patch_is_a_preset_and_four_sliders(page: Page, renderer: Any):
    """In the classic canvas: Nodes 2.0 does that itself. The rest opens, keeps its values, is saved so."""
    renderer(False)
    page.open(FIRST)
    page.look_at("HeroPatch")
    size = "() => [...app.graph.nodes.find(found => found.type === 'HeroPatch').size]"
    before = page.js(size)
    assert page.js(ROWS) == FEW
    assert page.js(f"() => ({MORE})().label") == "More settings"
    page.shot("few_settings_classic")
    page.js(f"() => ({MORE})().callback()")
    page.tab.wait_for_timeout(500)
    assert page.js(ROWS) == [*FEW[:-1], *NODES["HeroPatch"]["widgets"][5:], FEW[-1]]
    assert page.js(f"() => ({MORE})().label") == "Fewer settings"
    assert page.js(size)[1] > before[1] + 200
    page.set_widget("HeroPatch", "warmup", "20%")
    page.shot("more_settings_classic")
    page.drop(page.js("() => app.graph.serialize()"))
    assert len(page.js(ROWS)) > len(FEW) and page.js(f"() => ({MORE})().label") == "Fewer settings"
    page.js(f"() => ({MORE})().callback()")
    assert page.js(ROWS) == FEW and page.js(size) == before
    assert page.widget("HeroPatch", "warmup") == "20%"
    rows = NODES["HeroPatch"]["widgets"]
    kept = next(n for n in page.js("() => app.graph.serialize()")["nodes"] if n["type"] == "HeroPatch")
    assert kept["widgets_values"][rows.index("warmup")] == "20%"
    assert len(kept["widgets_values"]) == len(rows)
    assert page.errors == []


@in_browser
def test_a_wired_setting_stays_in_view(page: Page, renderer: Any):
    renderer(False)
    page.open(FIRST)
    page.js("""() => {
        const node = app.graph.nodes.find(found => found.type === "HeroPatch");
        const number = LiteGraph.createNode("PrimitiveInt");
        app.graph.add(number);
        number.connect(0, node, node.inputs.findIndex(input => input.name === "patch_rows"));
    }""")
    assert page.js(ROWS) == [*FEW[:-1], "patch_rows", FEW[-1]]


@in_browser
@both_renderers
def test_presets_and_sliders_keep_in_step(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.set_widget("HeroPatch", "preset", "paper-fast")
    assert [page.widget("HeroPatch", name) for name in ("interval", "warmup")] == [3, "20%"]
    page.wait_for_panel("23 full + 27 cached")
    page.set_widget("HeroPatch", "interval", 1)
    assert page.widget("HeroPatch", "preset") == "custom"
    page.wait_for_panel("Nothing to reuse: with interval 1")
    page.set_widget("HeroPatch", "interval", 2)
    page.set_widget("AetherSampler", "steps", 4)  # another node: no callback of ours
    page.wait_for_panel("2 full + 2 cached of 4 steps")
    page.set_widget("HeroPatch", "warmup", "100%")
    page.wait_for_panel("warm-up and cool-down take all 4 steps")
    assert page.js("() => document.querySelector('.aether-hero').dataset.mood") == "warning"
    page.set_widget("HeroPatch", "patch_columns", 64)
    page.wait_for_panel("patch: (1, 2, 64) is larger than the token grid (5, 8, 12)")


WIRE_SETTING = """([type, values]) => {
    const hero = app.graph.nodes.find(found => found.type === "HeroPatch");
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    for (const [name, value] of Object.entries(values))
        node.widgets.find(widget => widget.name === name).value = value;
    node.connect(0, hero, hero.inputs.findIndex(input => input.name === "setting"));
    return node.id;
}"""
GAVE = """([id, setting]) => window.comfyAPI.api.api.dispatchCustomEvent(
    "executed", { node: String(id), prompt_id: "of another page", output: { setting: [setting] } })"""


@in_browser
@both_renderers
def test_a_mask_and_a_setting_in_a_wire(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    page.wait_for_panel("28 full + 22 cached")
    page.set_widget("HeroPatch", "mask", "1101 0010")
    assert page.widget("HeroPatch", "preset") == "custom"
    page.wait_for_panel("The mask decides which steps are full")
    assert "25 full + 25 cached of 50 steps" in page.panel() and page.js(PANEL_CUT) == []
    page.shot(f"mask_{'nodes2' if vue else 'classic'}")
    page.set_widget("HeroPatch", "mask", "1")
    page.wait_for_panel("the mask makes all 50 steps full")
    page.set_widget("HeroPatch", "mask", "1101x")
    page.wait_for_panel("Cannot run: mask: 'x' at place 5")
    page.set_widget("HeroPatch", "preset", "fast")
    assert page.widget("HeroPatch", "mask") == ""
    page.wait_for_panel("18 full + 32 cached")
    page.js(WIRE_SETTING, ["PrimitiveString", {"value": "tau=50% mask=1110100"}])
    page.wait_for_panel("The wired setting decides")
    assert "29 full + 21 cached" in page.panel() and page.js(PANEL_CUT) == []
    other = page.js(WIRE_SETTING, ["StringConcatenate", {}])
    page.wait_for_panel("this node's own settings (the node wired to setting has not run)")
    assert "18 full + 32 cached" in page.panel()
    page.js(GAVE, [other, "mask='1 of 2: 10'"])
    page.wait_for_panel("25 full + 25 cached")
    page.shot(f"setting_{'nodes2' if vue else 'classic'}")
    assert page.errors == []


LABELS = """kind => Object.fromEntries(app.graph.nodes.find(node => node.type === kind).widgets
    .map(widget => [widget.name, widget.label ?? widget.name]))"""


@in_browser
@both_renderers
def test_a_zero_says_what_it_stands_for(page: Page, renderer: Any, vue: bool):
    """Beside the number, as the graph has it; nothing of it is saved."""
    renderer(vue)
    page.open(FIRST)
    page.tab.wait_for_timeout(1000)
    labels = page.js(LABELS, "AetherSampler")
    assert (labels["steps"], labels["guidance"]) == ("steps (auto: 50)", "guidance (auto: 3)")
    labels = page.js(LABELS, "AetherPredict")
    assert (labels["width"], labels["height"]) == ("width (auto: 96)", "height (auto: 64)")
    page.set_widget("AetherSampler", "steps", 8)
    page.tab.wait_for_timeout(1000)
    assert page.js(LABELS, "AetherSampler")["steps"] == "steps"
    saved = json.dumps(page.js("() => app.graph.serialize()"))
    assert "auto: " not in saved and page.errors == []


@in_browser
@both_renderers
def test_the_preset_off(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.set_widget("HeroPatch", "preset", "off")
    page.wait_for_panel("HERO is off")
    assert "50 full + 0 cached of 50 steps" in page.panel() and "cache ·" not in page.panel()
    page.set_widget("HeroPatch", "tau", 0.4)
    assert page.widget("HeroPatch", "preset") == "custom"
    page.wait_for_panel("up to ")


SMALLER = """() => {
    const set = (type, values) => app.graph.nodes.filter(node => node.type === type).forEach(node => {
        for (const widget of node.widgets) widget.value = values[widget.name] ?? widget.value;
    });
    set("AetherExample", { width: 96, height: 64 });
    for (const task of ["AetherReconstruct", "AetherPredict", "AetherPlan", "AetherLongClip"])
        set(task, { width: 48, height: 32 });
}"""
"""The open template at a quarter of the miniature's own size, and its example at that size."""


@in_browser
@both_renderers
def test_cache_method_says_what_it_will_cost(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.replace("HeroPatch", "HeroMethod")
    page.look_at("HeroMethod", 1.0)
    page.wait_for_panel("27 full + 23 cached of 50 steps\n15.0 MB of cache · Aether Miniature 96×64×17")
    page.set_widget("HeroMethod", "method", "taylorseer")
    page.wait_for_panel("30.0 MB of cache")
    page.set_widget("HeroMethod", "method.order", 4)
    page.set_widget("HeroMethod", "method.interval", 3)
    page.wait_for_panel("19 full + 31 cached of 50 steps\n75.0 MB of cache")
    page.shot(f"cache_method_{'nodes2' if vue else 'classic'}")
    page.set_widget("HeroMethod", "method", "worldcache")
    page.wait_for_panel("The estimated error decides: at least 24 full steps")
    page.set_widget("HeroMethod", "method.interval", 1)
    page.wait_for_panel("Nothing to reuse: with interval 1")
    page.js(SMALLER)
    page.set_widget("HeroMethod", "method", "duca")
    page.set_widget("AetherSampler", "seed", 5 + vue)  # a run of its own
    page.set_widget("AetherSampler", "steps", 10)
    page.wait_for_panel("of 10 steps")
    full, cached = re.search(r"(\d+) full \+ (\d+) cached", page.panel()).groups()
    page.run()
    page.wait_for_panel(f"Last run: {full} full / {cached} cached")
    assert page.errors == []


CORE = """file => {
    app.graph.clear();
    const add = (type, x, y, values) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        for (const [name, value] of Object.entries(values))
            node.widgets.find(widget => widget.name === name).value = value;
        return node;
    };
    const into = (source, target, name) =>
        source.connect(0, target, target.inputs.findIndex(input => input.name === name));
    const loader = add("UNETLoader", 0, 0, { unet_name: file });
    const hero = add("HeroPatch", 400, 0, {});
    const latent = add("EmptyHunyuanLatentVideo", 0, 300, { width: 832, height: 480, length: 81 });
    const sampler = add("KSampler", 900, 0, { steps: 8, cfg: 1 });
    into(loader, hero, "model");
    into(hero, sampler, "model");
    into(latent, sampler, "latent_image");
}"""
"""Core's nodes for a diffusion model, with HERO Patch between."""


@in_browser
@both_renderers
def test_a_model_of_cores_is_recognized_before_it_is_loaded(
    page: Page, renderer: Any, server: Any, vue: bool
):
    """What it is, from its file; that few steps leave little to reuse, and that its error is not known."""
    renderer(vue)
    folder = server.base / "models/diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    save_header(folder / "wan.safetensors", WAN_14B)
    page.open(FIRST)
    page.js(CORE, "wan.safetensors")
    page.look_at("HeroPatch")
    page.wait_for_panel("WAN21_T2V 832×480×81")
    said = page.panel()
    assert "5 full + 3 cached of 8 steps" in said
    assert "Only 3 of 8 steps can be reused" in said and "Error: not known for this model" in said
    assert "Assuming" not in said and page.js(PANEL_CUT) == []
    page.shot(f"core_model_{'nodes2' if vue else 'classic'}")
    page.js(CORE, "other.safetensors")
    page.wait_for_panel("Assuming an Aether-sized model.")
    assert page.errors == []


@in_browser
@both_renderers
def test_a_server_that_does_not_answer(page: Page, renderer: Any, vue: bool):
    """The last prediction is not left to stand for the new settings; and it comes back."""
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    page.wait_for_panel("up to 1.74×")
    address = "**/aether_hero/predict"
    page.tab.route(address, lambda route: route.abort())
    try:
        page.set_widget("HeroPatch", "interval", 3)
        page.wait_for_panel("ComfyUI's server does not answer.")
        assert page.js(PANEL_CUT) == []
        page.shot(f"no_answer_{'nodes2' if vue else 'classic'}")
    finally:
        page.tab.unroute(address)
    page.wait_for_panel("of 50 steps")
    assert page.errors == []


@in_browser
def test_the_panel_speaks_chinese(page: Page, renderer: Any):
    renderer(False)
    page.open(FIRST)
    try:
        page.language("zh")
        page.wait_for_panel("最多加速 1.74×")
        page.wait_for_panel("共 50 步")
        page.shot("chinese")
    finally:
        page.language("en")


@in_browser
def test_settings_of_cache_method_speak_chinese(page: Page, renderer: Any):
    """Those that come with the method, too."""
    renderer(False)
    page.open(FIRST)
    try:
        page.language("zh")
        page.replace("HeroPatch", "HeroMethod")
        labels = "() => app.graph.nodes.find(n => n.type === 'HeroMethod').widgets.map(w => w.label)"
        assert page.js(labels)[:4] == ["方法", "间隔", "预热", "收尾"]
    finally:
        page.language("en")


def command(page: Page, name: str) -> None:
    page.js("name => app.extensionManager.command.execute(name)", name)


@in_browser
@both_renderers
def test_undo_leaves_the_text_alive(page: Page, renderer: Any, vue: bool):
    """It makes the nodes anew, and Nodes 2.0 keeps what it shows of them."""
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    with dragged(page, "tau", vue):
        pass
    page.tab.mouse.click(1500, 930)
    page.wait_until_noted()
    changed = "() => !document.querySelector('.aether-hero').innerText.startsWith('up to 1.74×')"
    page.tab.wait_for_function(changed)
    assert page.widget("HeroPatch", "tau") > 0.3
    for name, preset in (("Comfy.Undo", "balanced"), ("Comfy.Redo", "custom"), ("Comfy.Undo", "balanced")):
        found = "preset => app.graph.nodes.find(n => n.type === 'HeroPatch')?.widgets[0].value === preset"
        for _ in range(3):  # the click beside the nodes may be a change of its own
            command(page, name)
            page.tab.wait_for_timeout(1500)
            if page.tab.evaluate(found, preset):
                break
        assert page.tab.evaluate(found, preset), name
        page.wait_until_noted()
    page.wait_for_panel("up to 1.74× faster")
    page.set_widget("AetherSampler", "steps", 10)
    page.wait_for_panel("of 10 steps")


PANEL_CUT = """() => ["bound", "error", "steps", "memory", "last", "note"].filter(name => {
    const line = document.querySelector(`.aether-hero-${name}`), panel = line.closest(".aether-hero");
    const inside = line.getBoundingClientRect().bottom <= panel.getBoundingClientRect().bottom + 1;
    return !inside || line.scrollHeight > line.clientHeight + 1 || line.scrollWidth > line.clientWidth + 1;
})"""
"""Lines of HERO Patch's text that are not in view as a whole."""


@in_browser
@both_renderers
def test_no_line_of_the_text_is_cut(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.look_at("HeroPatch")
    page.set_widget("AetherSampler", "steps", 1)
    page.wait_for_panel("warm-up and cool-down take all 1 steps")
    assert page.js(PANEL_CUT) == []


@in_browser
def test_the_strip_follows_the_theme(page: Page, renderer: Any):
    renderer(False)
    page.open(FIRST)
    page.wait_for_panel("steps")
    same = """() => {
        const strip = document.querySelector(".aether-hero-strip");
        const [red, green, blue] = strip.getContext("2d").getImageData(1, 1, 1, 1).data;
        return getComputedStyle(strip).color === `rgb(${red}, ${green}, ${blue})`;
    }"""
    try:
        assert page.js(same)
        page.setting("Comfy.ColorPalette", "light")
        page.tab.wait_for_function(same, timeout=10_000)
    finally:
        page.setting("Comfy.ColorPalette", "dark")


PROMOTE = """() => {
    const chosen = app.graph.nodes.filter(node => ["HeroPatch", "AetherSampler"].includes(node.type));
    const { subgraph, node } = app.graph.convertToSubgraph(new Set(chosen));
    const hero = subgraph.nodes.find(found => found.type === "HeroPatch");
    for (const name of ["preset", "tau"]) {
        const slot = hero.inputs.find(input => input.widget?.name === name);
        subgraph.addInput(name, slot.type).connect(slot, hero);
    }
    window.promoted = { hero, node };
}"""


@in_browser
def test_promoted_settings_count(page: Page, renderer: Any):
    """Those of the subgraph's node, whose values the node within does not have."""
    renderer(False)
    page.open(FIRST)
    page.js(PROMOTE)
    said = "() => promoted.hero.widgets.find(found => found.name === 'hero_live').element.textContent"

    def choose(name: str, value: Any) -> str:
        change = "([n, v]) => { promoted.node.widgets.find(found => found.name === n).value = v; }"
        page.js(change, [name, value])
        page.tab.wait_for_timeout(1000)
        return page.js(said)

    assert choose("tau", 0.8).startswith("up to 1.74× faster")
    assert "Preset balanced wins, not used: tau." in page.js(said)
    assert choose("preset", "fast").startswith("up to 2.62× faster")
    custom = choose("preset", "custom")
    assert custom.startswith("up to 1.65× faster") and "Preset" not in custom


@in_browser
def test_a_report_goes_to_the_workflow_that_was_run(page: Page, renderer: Any, server: Any):
    """Also where another one, with a node of the same id, is on the canvas when the run ends."""
    renderer(False)
    page.open("8 Compare with and without HERO")
    page.open(FIRST)
    page.set_widget("AetherSampler", "steps", 40)
    page.set_widget("AetherSampler", "seed", 31)
    before = set(server.get("/history"))
    page.tab.get_by_test_id("queue-button").click()
    page.tab.wait_for_timeout(1000)
    command(page, "Workspace.PreviousOpenedWorkflow")
    shown = "kind => app.graph.nodes.some(node => node.type === kind)"
    page.tab.wait_for_function(shown, arg="ImageStitch")
    assert set(server.get("/history")) == before  # it still runs
    while set(server.get("/history")) == before:
        page.tab.wait_for_timeout(500)
    page.tab.wait_for_timeout(1500)
    assert "Last run" not in page.panel()
    command(page, "Workspace.NextOpenedWorkflow")
    page.wait_for_panel("Last run: 23 full / 17 cached")


def neighbors(clip: np.ndarray) -> float:
    """Correlation of neighboring pixels: 0 for noise."""
    return float(np.corrcoef(clip[:, :, :-1].ravel(), clip[:, :, 1:].ravel())[0, 1])


OWN = {(64, 96), (480, 640)}
QUARTER = {(32, 48), (32, 104), (64, 96), (480, 640)}
"""(height, width) of what templates save, drawings too: at the miniature's own size, and at a quarter."""
LENGTHS = {"5 Long video": 41, "14 Explore a world": 33}
FEWER = """() => {
    if (app.graph.nodes.some(node => node.type === "AetherReconstruct")) return;
    for (const node of app.graph.nodes.filter(found => found.type === "AetherSampler"))
        node.widgets.find(widget => widget.name === "steps").value = 16;
}"""
"""A template with fewer steps. Of as few as a reconstruction has, HERO reuses nothing, and says so."""


@in_browser
@pytest.mark.parametrize("name", BUNDLED)
def test_templates_run(page: Page, renderer: Any, server: Any, name: str):
    """Run is pressed on the freshly opened template; videos come out, and the report is on the node."""
    renderer(False)
    page.open(name)
    if name != FIRST:
        page.js(SMALLER)
        page.js(FEWER)
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
            assert len(clip) == LENGTHS.get(name, 17)
            assert clip.shape[1:3] in (OWN if name == FIRST else QUARTER)
            assert clip.std() > 0.02 and neighbors(clip) > 0.3
    if name in ("2 Video to depth and camera", "6 Video to Blender and Nuke", "7 Video to point cloud"):
        assert page.panel().startswith("HERO is off")
    else:
        page.wait_for_panel("Last run: ")
    if name == "8 Compare with and without HERO":
        page.wait_for_panel("% error")  # measured against the run beside it
        assert page.js(PANEL_CUT) == []
    if name == "6 Video to Blender and Nuke":
        assert len(list((server.base / "output/aether").glob("blender_depth_*_exr/depth_*.exr"))) == 17
        assert len(list((server.base / "output/aether").glob("blender_camera_*.glb"))) == 1
    videos = "() => [...document.querySelectorAll('video')].filter(v => v.readyState > 0).length"
    page.tab.wait_for_function(f"() => ({videos})() >= 2", timeout=120_000)
    page.shot(f"{name}_after_run")


@in_browser
@both_renderers
def test_what_the_node_says_after_a_run(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.js(SMALLER)
    page.set_widget("AetherSampler", "steps", 10)
    page.set_widget("AetherSampler", "seed", 11 + vue)
    page.run()
    page.wait_for_panel("Last run: 6 full / 4 cached, ")
    page.look_at("HeroPatch")
    assert page.js(PANEL_CUT) == []
    page.shot(f"after_run_{'nodes2' if vue else 'classic'}")
    page.set_widget("HeroPatch", "interval", 1)
    page.run()
    page.wait_for_panel("Last run reused nothing.")
    assert page.js(PANEL_CUT) == []
    assert page.js("() => document.querySelector('.aether-hero').dataset.mood") == "warning"
    page.shot(f"nothing_reused_{'nodes2' if vue else 'classic'}")


SHOWN = """kind => {
    const node = app.graph.nodes.find(found => found.type === kind);
    return node.widgets.find(found => found.name === "$$node-text-preview")?.value ?? "";
}"""
CUT = """() => [...document.querySelectorAll("div")]
    .filter(box => box.className.includes?.("max-h-[200px]") && box.innerText.trim())
    .map(box => [box, box.closest("[style*='height']") ?? box])
    .filter(([box, room]) => box.scrollHeight > Math.min(box.clientHeight, room.clientHeight) + 1)
    .map(([box]) => box.innerText)"""
"""Texts that runs have left on nodes and that are not in view as a whole."""


@in_browser
@both_renderers
def test_the_text_that_a_run_leaves_on_a_node(page: Page, renderer: Any, vue: bool):
    """All of its lines are in view, and none of an earlier run's."""
    renderer(vue)
    page.open("2 Video to depth and camera")
    page.js(SMALLER)
    page.set_widget("AetherExample", "frames", "33")
    page.set_widget("AetherExample", "scene", 20 + vue)
    page.js(
        """() => app.api.dispatchEvent(new CustomEvent("progress_text", {
            detail: { nodeId: String(app.graph.nodes.find(n => n.type === "AetherSplit").id), text: "old" },
        }))"""
    )
    assert page.js(SHOWN, "AetherSplit") == "old"
    assert page.run()["status"]["status_str"] == "success"
    page.look_at("AetherReconstruct", 1.2)
    assert page.js(SHOWN, "AetherReconstruct") == (
        "17 frames of 48 x 32, 12 a second\n"
        "• the first 1.4 s (17 frames) are used, 1.3 s after them are left out"
    )
    assert page.js(SHOWN, "AetherSplit") == ""
    assert page.js(SHOWN, "AetherSampler") == "Rough: made by the Miniature"
    assert page.js(CUT) == []
    page.shot(f"text_on_a_node_{'nodes2' if vue else 'classic'}")


SWAP = """name => {
    const old = app.graph.nodes.find(node => node.type === "AetherExample" && !node.flags.collapsed);
    const task = app.graph.nodes.find(node => node.type === "AetherReconstruct");
    const video = LiteGraph.createNode("LoadVideo");
    video.pos = [...old.pos];
    app.graph.add(video);
    video.widgets.find(widget => widget.name === "file").value = name;
    app.graph.remove(old);
    video.connect(0, task, task.inputs.findIndex(input => input.name === "video"));
}"""


@in_browser
@pytest.mark.parametrize("name", [name for name in WORKFLOWS if "Video to" in name])
def test_your_own_footage_in_the_place_of_the_example(page: Page, renderer: Any, server: Any, name: str):
    import av

    with av.open(str(server.base / "input/own.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(30):
            picture = np.full((64, 96, 3), 8 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    renderer(False)
    page.tab.reload()
    page.tab.wait_for_function(READY)
    page.tab.wait_for_timeout(1500)
    page.open_template(name)
    page.js(SWAP, "own.mp4")
    page.js(SMALLER)
    entry = page.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    nodes = {str(node["id"]): node for node in WORKFLOWS[name]["nodes"]}
    wanted = {key for key, node in nodes.items() if node["type"] == "SaveVideo"}
    assert wanted <= set(entry["outputs"])
    assert page.js("() => app.graph.nodes.filter(n => n.has_errors).map(n => n.type)") == []


@in_browser
@both_renderers
def test_a_wrong_wire_is_named_before_anything_is_sampled(page: Page, renderer: Any, vue: bool):
    renderer(vue)
    page.open(FIRST)
    page.set_widget("AetherSampler", "seed", 50 + vue)
    page.js("""() => {
        const [split, depth] = ["AetherSplit", "AetherDepth"].map(
            kind => app.graph.nodes.find(node => node.type === kind));
        split.connect(0, depth, depth.inputs.findIndex(input => input.name === "disparity"));
    }""")
    messages = dict(page.run()["status"]["messages"])
    error = messages["execution_error"]
    assert error["node_type"] == "AetherDepth" and error["executed"] == []
    page.tab.get_by_role("button", name="View details").click()
    words = "Aether: disparity: is the rgb of Aether Split; connect its output disparity"
    page.tab.get_by_text(words).first.wait_for()
    page.shot(f"wrong_wire_{'nodes2' if vue else 'classic'}")
    page.setting("Comfy.RightSidePanel.IsOpen", False)


@in_browser
def test_help_pages_are_served(page: Page):
    for node in NODES:
        for path in (f"{node}.md", f"{node}/zh.md"):
            text = page.js(
                "url => fetch(url).then(r => r.ok ? r.text() : '')", f"/extensions/{PACK}/docs/{path}"
            )
            assert text.startswith("# ")
