// HERO Patch's live prediction. Also: a preset writes its values into the sliders, and dragging one switches to
// "custom".

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ASSUMED, MODELS, PRESETS } from "./constants.js";
import { clipShape, configOf, predict } from "./cost.js";
import { findRun, sourceNamed, valueInto } from "./graph.js";
import { addPanel, describeError, describeRun, nodeById, openWorkflow, update } from "./panel.js";
import { LastValues } from "./runs.js";
import { SETTINGS, settingsOf } from "./settings.js";
import { currentWords } from "./text.js";

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

/** What the panel says, see `describeRun`. */
function describe(node, report) {
  const text = currentWords();
  const { preset, values, assumed, unused } = settingsOf(node);
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
    return describeError(text, error.message);
  }
  return describeRun(text, run, prediction, values.interval, report, {
    bypassed: text.bypassed(),
    notes: [
      preset !== "custom" && !PRESETS[preset] && text.unknownPreset({ preset }),
      unused.length > 0 && text.presetWins({ preset, list: labels(node, unused) }),
      tau.blocks !== undefined && text.wiredTau({ tau: tau.blocks, blocks: shape.blocks }),
    ],
    decides: values.threshold > 0 && text.adaptive({ full: prediction.fullSteps }),
    assumed: [
      ...assumed.map((name) => text.assumptions.setting({ name: labels(node, [name]), value: ASSUMED[name] })),
      ...run.assumed.map((name) => text.assumptions[name]({ ...run, ...values })),
    ],
  });
}

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
  addPanel(node, describe);
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
