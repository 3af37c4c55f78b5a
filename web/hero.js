// HERO Patch's live prediction. Also: a preset writes its values into the sliders, and dragging one switches to
// "custom".

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { PRESETS } from "./constants.js";
import { describeRun, heroNotes } from "./content.js";
import { findRun, sourceNamed, valueInto } from "./graph.js";
import { addPanel, askAgain, nodeById, openWorkflow, update } from "./panel.js";
import { LastValues } from "./runs.js";
import { SETTINGS, settingsOf } from "./settings.js";

const NODE = "HeroPatch";
const [CUSTOM, OFF] = ["custom", "off"]; // presets without values

/** What nodes gave when they last ran, by the name of their output: HERO Analyzer a tau, HERO Tuner a setting. */
const given = {
  tau: new LastValues(openWorkflow, nodeById),
  setting: new LastValues(openWorkflow, nodeById),
};
/** HERO Patch's sockets without a row -> the output that they are for. */
const SOCKETS = { tau_blocks: "tau", setting: "setting" };

/**
 * What comes by wires into the sockets: {values, unknown}. A value is known once the node before has run, or of a
 * primitive node; `unknown` names the outputs that are not.
 */
function wiredInto(node) {
  const values = {};
  const unknown = [];
  for (const [socket, output] of Object.entries(SOCKETS)) {
    const source = sourceNamed(node, socket)?.node;
    if (!source) continue;
    const value = given[output].of(source) ?? valueInto(node, socket);
    if (value === undefined) unknown.push(output);
    else values[socket] = value;
  }
  return { values, unknown };
}

/** What a prediction depends on, and what its words need to know. */
function ask(node) {
  const wired = wiredInto(node);
  const settings = settingsOf(node, wired.values.setting);
  const run = findRun(node);
  run.assumed.push(...wired.unknown);
  const widgets = { ...settings.widgets, ...wired.values };
  const request = { node: NODE, widgets, model: run.model, run: { ...run.numbers, sampler: run.sampler } };
  return { node, settings, run, wired: wired.values, request };
}

/** The panel's content. */
function describe(text, { node, settings, run, wired }, answer, report) {
  const { preset, widgets, assumed, unused } = settings;
  const values = { ...answer.settings, ...known(widgets), ...PRESETS[preset] };
  const off = preset === OFF && wired.setting === undefined;
  return describeRun(text, off ? { ...run, bypassed: true } : run, answer, report, {
    bypassed: text.bypassed(),
    off,
    notes: [
      ...heroNotes(text, wired, answer),
      preset !== null && ![CUSTOM, OFF].includes(preset) && !PRESETS[preset] && text.unknownPreset({ preset }),
      unused.length > 0 && text.presetWins({ preset, list: labels(node, unused) }),
    ],
    decides: text.adaptive,
    assumed: assumed.map((name) => text.assumptions.row({ name: labels(node, [name]), value: values[name] })),
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
  const left = values ? widgetOf(node, name).value !== values[name] : preset?.value === OFF;
  if (left) preset.value = CUSTOM;
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
  if (detail.output?.recording) askAgain(); // HERO Tuner's, by which the server knows errors
  for (const [output, values] of Object.entries(given)) {
    const value = detail.output?.[output]?.[0];
    if (value !== undefined) values.keep(detail.prompt_id, detail.display_node ?? detail.node, value);
  }
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
