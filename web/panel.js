// Live text under a node's sliders: what its settings will cost and save, before anything runs, and what the last
// run did. The server computes it; what is asked and said is up to the node's own file.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import "./advanced.js"; // first, so that its button comes above the panel
import { describeError } from "./content.js";
import { Predictor, askServer } from "./predictions.js";
import { LastValues, remember } from "./runs.js";
import { currentWords } from "./text.js";

const HEIGHT = 168; // of the panel; classic rendering takes 10 on each side
const WIDTH = 340;
const REFRESH_MS = 300; // the graph around the node may change in ways no callback reports

/** Texts of a panel. */
const LINES = ["bound", "error", "steps", "memory", "last", "note"];

const STYLE = `
.aether-hero { --good: #18794e; --warning: #9a5b00; --error: #b3261e; box-sizing: border-box; height: 100%;
  min-height: ${HEIGHT - 20}px; max-height: ${HEIGHT}px; padding: 5px 10px; overflow: hidden; border-radius: 8px;
  background: color-mix(in srgb, var(--comfy-input-bg, #222) 75%, transparent); color: var(--input-text, #ddd);
  font: 12px/1.35 Inter, system-ui, sans-serif; display: flex; flex-direction: column; gap: 2px; }
.dark-theme .aether-hero { --good: #7fd6a4; --warning: #f0b454; --error: #ff8278; }
.aether-hero * { margin: 0; }
.aether-hero-bound { font-size: 15px; font-weight: 600; color: var(--good); white-space: nowrap; }
.aether-hero-head { display: flex; align-items: baseline; justify-content: space-between; gap: 8px; flex: none; }
.aether-hero-error { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.aether-hero-steps, .aether-hero-memory, .aether-hero-last { color: var(--descrip-text, #aaa); flex: none; }
.aether-hero-steps, .aether-hero-last { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.aether-hero-strip { display: block; width: 100%; height: 9px; flex: none; color: var(--good); }
.aether-hero-note { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; }
.aether-hero-last:empty, .aether-hero-error:empty { display: none; }
.aether-hero-last:not(:empty) + .aether-hero-note { -webkit-line-clamp: 3; }
.aether-hero[data-mood="warning"] .aether-hero-note, .aether-hero[data-mood="warning"] .aether-hero-bound
  { color: var(--warning); }
.aether-hero[data-mood="error"] .aether-hero-note, .aether-hero[data-mood="error"] .aether-hero-bound
  { color: var(--error); }
.aether-hero[data-mood="off"] { opacity: 0.6; }
`;

/** Panels of the nodes on the canvas. */
const panels = new Map();

function element(name, tag = "div") {
  const made = document.createElement(tag);
  made.className = `aether-hero-${name}`;
  return made;
}

function makePanel(node, ask, describe) {
  const root = document.createElement("div");
  root.className = "aether-hero";
  const head = element("head");
  const parts = { strip: element("strip", "canvas") };
  for (const name of LINES) parts[name] = element(name);
  head.append(parts.bound, parts.error);
  root.append(head, parts.strip, parts.steps, parts.memory, parts.last, parts.note);
  const predictor = new Predictor((request) => askServer(api, request), () => update(node));
  return { root, parts, ask, describe, predictor, shown: "" };
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

/** Nodes 2.0 keeps a node's component, and in it the former node's panel, when undo loads the graph anew. */
function takePlace(node, root) {
  if (root.isConnected || node.graph !== app.canvas?.graph) return;
  document.querySelector(`[data-node-id="${node.id}"] .aether-hero`)?.replaceWith(root);
}

/** What a panel says now; null before the first answer. */
function contentOf(node, panel) {
  const newest = panel.predictor.newest(panel.ask(node));
  if (!newest) return null;
  const { asked, answer } = newest;
  if (answer.failed || answer.error) return describeError(currentWords(), answer.error);
  return panel.describe(currentWords(), asked, answer, reports.of(node) ?? null);
}

/** Say anew what a node's panel says, where it has one and that changed. */
function refresh(node) {
  const panel = panels.get(node);
  if (!panel || !node.graph) return;
  takePlace(node, panel.root);
  const content = contentOf(node, panel);
  if (!content) return;
  const key = JSON.stringify([content, getComputedStyle(panel.parts.strip).color]); // the theme colors the strip
  if (key === panel.shown) return;
  panel.shown = key;
  panel.root.dataset.mood = content.mood;
  for (const name of LINES) {
    panel.parts[name].textContent = content[name];
    panel.parts[name].title = content[name];
  }
  drawStrip(panel.parts.strip, content.strip);
}

/** Have all predictions asked for once more: the server may know more. */
export function askAgain() {
  panels.forEach(({ predictor }, node) => {
    predictor.forget();
    refresh(node);
  });
}

/** Say anew what a node's panel says, and draw it. */
export function update(node) {
  refresh(node);
  app.canvas?.setDirty(true);
}

/**
 * Give a node a panel.
 * @param {object} node
 * @param {function} ask (node) gives {request, ...}, see `Predictor.newest`
 * @param {function} describe (text, asked, answer, report) is what the panel says of an answer, see content.js
 */
export function addPanel(node, ask, describe) {
  const panel = makePanel(node, ask, describe);
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT };
  const widget = node.addDOMWidget("hero_live", "aether_hero_live", panel.root, options);
  widget.serialize = false;
  panels.set(node, panel);
  const removed = node.onRemoved;
  node.onRemoved = function (...values) {
    panels.delete(node);
    return removed?.apply(this, values);
  };
  const [width, height] = node.computeSize();
  node.setSize([Math.max(WIDTH, width), height]);
}

/** The node of an execution id such as "12" or, inside subgraphs, "7:12". */
export function nodeById(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById?.(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

/** The workflow on the canvas. */
export const openWorkflow = () => app.extensionManager?.workflow?.activeWorkflow;

/** The last run's reports. */
const reports = new LastValues(openWorkflow, nodeById);

function onReport({ detail }) {
  reports.keep(detail.prompt, detail.node, detail);
  panels.forEach((_, node) => refresh(node));
}

/** Have every prompt remembered with the workflow that it is queued from: no event has both. */
function watchQueue() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (...values) {
    const workflow = openWorkflow();
    const answer = await queue.apply(this, values);
    if (answer?.prompt_id && workflow) remember(answer.prompt_id, workflow);
    return answer;
  };
}

app.registerExtension({
  name: "AetherHero.Panels",
  setup() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    watchQueue();
    api.addEventListener("aether_hero.report", onReport);
    setInterval(() => panels.forEach((_, node) => refresh(node)), REFRESH_MS);
  },
});
