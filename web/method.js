// Cache Method's live prediction.

import { app } from "../../scripts/app.js";
import { describeRun } from "./content.js";
import { findRun, valueOf } from "./graph.js";
import { addPanel } from "./panel.js";

const NODE = "HeroMethod";
const SETTING = /^method\./; // how the settings that come with the method are called

/** The node's settings by name, null for those that come by a wire that does not tell them. */
function settingsOf(node) {
  const names = node.widgets.map((widget) => widget.name).filter((name) => name === "method" || SETTING.test(name));
  return Object.fromEntries(names.map((name) => [name.replace(SETTING, ""), valueOf(node, name) ?? null]));
}

/** What a prediction depends on. */
function ask(node) {
  const run = findRun(node);
  return { run, request: { node: NODE, widgets: settingsOf(node), model: run.model, run: run.numbers } };
}

/** The panel's content. */
function describe(text, { run }, answer, report) {
  return describeRun(text, run, answer, report, {
    bypassed: text.methodOff(),
    notes: [],
    decides: text.errorDecides,
    assumed: Object.entries(answer.settings).map(([name, value]) => text.assumptions.row({ name, value })),
  });
}

app.registerExtension({
  name: "AetherHero.MethodPrediction",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addPanel(node, ask, describe);
  },
});
