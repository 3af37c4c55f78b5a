// HERO Patch's live prediction. Also: a preset writes its values into the sliders, and dragging one switches to
// "custom".

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { PRESETS } from "./constants.js";
import { describeRun } from "./content.js";
import { findRun, sourceNamed, valueInto } from "./graph.js";
import { addPanel, nodeById, openWorkflow, update } from "./panel.js";
import { LastValues } from "./runs.js";
import { SETTINGS, settingsOf } from "./settings.js";

const NODE = "HeroPatch";

/** What HERO Analyzer nodes found when they last ran. */
const analyzed = new LastValues(openWorkflow, nodeById);

/**
 * The number of blocks that comes by the wire into tau_blocks: {linked, blocks}. It is known once HERO Analyzer has
 * run, or of a primitive node; `blocks` is undefined where it is not.
 */
function wiredTau(node) {
  const source = sourceNamed(node, "tau_blocks")?.node;
  if (!source) return { linked: false };
  return { linked: true, blocks: analyzed.of(source) ?? valueInto(node, "tau_blocks") };
}

/** What a prediction depends on, and what its words need to know. */
function ask(node) {
  const settings = settingsOf(node);
  const run = findRun(node);
  const tau = wiredTau(node);
  if (tau.linked && tau.blocks === undefined) run.assumed.push("tau");
  const widgets = { ...settings.widgets, ...(tau.blocks !== undefined && { tau_blocks: tau.blocks }) };
  const request = { node: NODE, widgets, model: run.model, run: run.numbers };
  return { node, settings, run, tau, request };
}

/** The panel's content. */
function describe(text, { node, settings, run, tau }, answer, report) {
  const { preset, widgets, assumed, unused } = settings;
  const values = { ...answer.settings, ...known(widgets), ...PRESETS[preset] };
  return describeRun(text, run, { ...answer, tau: values.tau }, report, {
    bypassed: text.bypassed(),
    notes: [
      preset !== null && preset !== "custom" && !PRESETS[preset] && text.unknownPreset({ preset }),
      unused.length > 0 && text.presetWins({ preset, list: labels(node, unused) }),
      tau.blocks !== undefined && text.wiredTau({ tau: tau.blocks, blocks: answer.blocks }),
    ],
    decides: text.adaptive,
    assumed: assumed.map((name) => text.assumptions.setting({ name: labels(node, [name]), value: values[name] })),
  });
}

const known = (widgets) => Object.fromEntries(Object.entries(widgets).filter(([, value]) => value !== null));
const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);
const labels = (node, names) => names.map((name) => widgetOf(node, name)?.label ?? name).join(", ");

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
  addPanel(node, ask, describe);
  for (const name of SETTINGS) {
    const slider = widgetOf(node, name);
    if (!slider) continue;
    chain(slider, () => {
      leavePreset(node, name);
      update(node);
    });
  }
  const preset = widgetOf(node, "preset");
  if (preset) {
    chain(preset, () => {
      showPreset(node);
      update(node);
    });
  }
  showPreset(node);
}

function onExecuted({ detail }) {
  const tau = detail.output?.tau?.[0];
  if (tau !== undefined) analyzed.keep(detail.prompt_id, detail.display_node ?? detail.node, tau);
}

app.registerExtension({
  name: "AetherHero.LivePrediction",
  setup() {
    api.addEventListener("executed", onExecuted);
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) showPreset(node);
  },
});
