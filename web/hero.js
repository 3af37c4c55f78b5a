// Live text under HERO Patch's sliders: what the settings will cost and save, before anything runs, and what the
// last run did. Also: a preset writes its values into the sliders, and dragging one switches to "custom".

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { MODELS, PRESETS, clipShape, configOf, predict } from "./cost.js";
import { findRun, sourceNamed, valueOf } from "./graph.js";
import { sizeText, words } from "./text.js";

const NODE = "HeroPatch";
const SETTINGS = Object.keys(PRESETS.paper);
const HEIGHT = 152; // of the panel; classic rendering takes 10 on each side
const WIDTH = 340;
const REFRESH_MS = 300; // the graph around the node may change in ways no callback tells of

const STYLE = `
.aether-hero { --good: #18794e; --warning: #9a5b00; --error: #b3261e; box-sizing: border-box; height: 100%;
  min-height: ${HEIGHT - 20}px; max-height: ${HEIGHT}px; padding: 8px 10px; overflow: hidden; border-radius: 8px;
  background: color-mix(in srgb, var(--comfy-input-bg, #222) 75%, transparent); color: var(--input-text, #ddd);
  font: 12px/1.35 Inter, system-ui, sans-serif; display: flex; flex-direction: column; gap: 3px; }
.dark-theme .aether-hero { --good: #7fd6a4; --warning: #f0b454; --error: #ff8278; }
.aether-hero * { margin: 0; }
.aether-hero-bound { font-size: 15px; font-weight: 600; color: var(--good); white-space: nowrap; }
.aether-hero-steps, .aether-hero-memory { color: var(--descrip-text, #aaa); white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; flex: none; }
.aether-hero-strip { display: block; width: 100%; height: 9px; flex: none; color: var(--good); }
.aether-hero-note { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; }
.aether-hero[data-mood="warning"] .aether-hero-note, .aether-hero[data-mood="warning"] .aether-hero-bound
  { color: var(--warning); }
.aether-hero[data-mood="error"] .aether-hero-note, .aether-hero[data-mood="error"] .aether-hero-bound
  { color: var(--error); }
.aether-hero[data-mood="off"] { opacity: 0.6; }
`;

/** Panels of the nodes on the canvas. */
const panels = new Map();
/** What HERO Analyzer nodes found when they last ran. */
const analyzed = new WeakMap();

function element(name, tag = "div") {
  const made = document.createElement(tag);
  made.className = `aether-hero-${name}`;
  return made;
}

function makePanel() {
  const root = document.createElement("div");
  root.className = "aether-hero";
  const parts = { bound: element("bound"), strip: element("strip", "canvas") };
  for (const name of ["steps", "memory", "note"]) parts[name] = element(name);
  root.append(...Object.values(parts));
  return { root, parts, report: null, shown: "" };
}

/** One cell a step: full ones bright, cached ones dim. */
function drawStrip(canvas, steps) {
  const [width, height] = [600, 18];
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  const cell = width / Math.max(steps.length, 1);
  const gap = cell > 6 ? 2 : cell > 3 ? 1 : 0;
  pen.fillStyle = getComputedStyle(canvas).color || "#7fd6a4";
  steps.forEach((full, index) => {
    pen.globalAlpha = full ? 1 : 0.22;
    pen.fillRect(index * cell, 0, Math.max(cell - gap, 0.5), height);
  });
}

function settingsOf(node) {
  const values = Object.fromEntries([...SETTINGS, "storage"].map((name) => [name, valueOf(node, name)]));
  const preset = valueOf(node, "preset");
  return { preset, values: { ...values, ...(PRESETS[preset] ?? {}) } };
}

/**
 * The number of blocks that comes by the wire into tau_blocks: {linked, blocks}. It is known once HERO Analyzer has
 * run, or of a primitive node; `blocks` is undefined where it is not.
 */
function wiredTau(node) {
  const source = sourceNamed(node, "tau_blocks")?.node;
  if (!source) return { linked: false };
  const primitive = source.type.startsWith("Primitive") ? source.widgets?.[0]?.value : undefined;
  return { linked: true, blocks: analyzed.get(source) ?? primitive };
}

/** Why no step would be reused, or undefined where some are. */
function emptyReason(text, values, prediction) {
  if (prediction.cachedSteps > 0) return undefined;
  if (values.interval <= 1) return text.intervalOne();
  return text.warmupTakesAll({ steps: prediction.steps });
}

function reportText(text, report) {
  if (report.cached === 0) return text.reusedNothing();
  const speedup = Number(report.speedup).toFixed(2);
  return text.lastRun({ full: report.full, cached: report.cached, speedup, size: sizeText(report.bytes) });
}

/** What the panel says: {mood, bound, steps, memory, note, strip}. */
function describe(node, report) {
  const text = words(app.extensionManager?.setting?.get("Comfy.Locale"));
  const { preset, values } = settingsOf(node);
  const run = findRun(node, MODELS);
  const shape = clipShape(MODELS[run.model].shape, run.height, run.width, run.frames);
  const tau = wiredTau(node);
  const config = configOf(values);
  if (tau.blocks !== undefined) config.tau = { count: tau.blocks };
  if (tau.linked && tau.blocks === undefined) run.assumed.push("tau");
  let prediction;
  try {
    prediction = predict(config, shape, run.steps, run.batch, run.bytes);
  } catch (error) {
    return { mood: "error", bound: text.none(), steps: "", memory: "", note: text.invalid({ reason: error.message }), strip: [] };
  }
  const empty = emptyReason(text, values, prediction);
  const assumed = run.assumed.map((name) => text.assumptions[name]({ ...run, ...values })).join(", ");
  const notes = [
    report && reportText(text, report),
    empty || (report?.cached === 0 && text.reusedNothingAdvice()),
    preset !== "custom" && !PRESETS[preset] && text.unknownPreset({ preset }),
    tau.blocks !== undefined && text.wiredTau({ tau: tau.blocks, blocks: shape.blocks }),
    values.threshold > 0 && !empty && text.adaptive({ full: prediction.fullSteps }),
    assumed && text.assumed({ list: assumed }),
  ].filter(Boolean);
  const warning = empty || report?.cached === 0;
  return {
    mood: run.bypassed ? "off" : warning ? "warning" : "",
    bound: run.bypassed ? text.bypassed() : empty ? text.none() : text.bound({ x: prediction.speedupBound.toFixed(2) }),
    steps: text.steps({ full: prediction.fullSteps, cached: prediction.cachedSteps, steps: prediction.steps }),
    memory: text.memory({ ...run, size: sizeText(prediction.cachedBytes), model: text.models[run.model] }),
    note: notes.join(" "),
    strip: prediction.strip,
  };
}

function refresh(node) {
  const panel = panels.get(node);
  if (!panel || !node.graph) return;
  const said = describe(node, panel.report);
  const key = JSON.stringify([said, document.body.className]); // the theme colors the strip
  if (key === panel.shown) return;
  panel.shown = key;
  panel.root.dataset.mood = said.mood;
  for (const name of ["bound", "steps", "memory", "note"]) {
    panel.parts[name].textContent = said[name];
    panel.parts[name].title = said[name];
  }
  drawStrip(panel.parts.strip, said.strip);
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

/** Write a preset's values into the sliders; "custom" and unknown presets leave them as they are. */
function showPreset(node) {
  const values = PRESETS[widgetOf(node, "preset")?.value];
  for (const [name, value] of Object.entries(values ?? {})) {
    const widget = widgetOf(node, name);
    if (widget && widget.value !== value) widget.value = value;
  }
}

/** A slider that leaves its preset's value makes the setting custom. */
function leavePreset(node, name) {
  const preset = widgetOf(node, "preset");
  const values = PRESETS[preset?.value];
  if (values && widgetOf(node, name).value !== values[name]) preset.value = "custom";
}

function chain(widget, after) {
  const before = widget.callback;
  widget.callback = function (...values) {
    const result = before?.apply(this, values);
    after();
    return result;
  };
}

function attach(node) {
  const panel = makePanel();
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT };
  const widget = node.addDOMWidget("hero_live", "aether_hero_live", panel.root, options);
  widget.serialize = false;
  panels.set(node, panel);
  const update = () => {
    refresh(node);
    app.canvas?.setDirty(true);
  };
  for (const name of SETTINGS) {
    const slider = widgetOf(node, name);
    if (!slider) continue;
    chain(slider, () => {
      leavePreset(node, name);
      update();
    });
  }
  const preset = widgetOf(node, "preset");
  if (preset) {
    chain(preset, () => {
      showPreset(node);
      update();
    });
  }
  const removed = node.onRemoved;
  node.onRemoved = function (...values) {
    panels.delete(node);
    return removed?.apply(this, values);
  };
  showPreset(node);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(WIDTH, width), height]);
}

/** The node of an execution id such as "12" or, inside subgraphs, "7:12". */
function nodeById(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

function onExecuted({ detail }) {
  const tau = detail.output?.tau?.[0];
  const node = tau === undefined ? null : nodeById(detail.display_node ?? detail.node);
  if (node) analyzed.set(node, tau);
}

function onReport({ detail }) {
  const node = nodeById(detail.node);
  const panel = panels.get(node);
  if (!panel) return;
  panel.report = detail;
  refresh(node);
}

app.registerExtension({
  name: "AetherHero.LivePrediction",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    api.addEventListener("aether_hero.report", onReport);
    api.addEventListener("executed", onExecuted);
    setInterval(() => panels.forEach((_, node) => refresh(node)), REFRESH_MS);
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) showPreset(node);
  },
});
