// Cache Method's live prediction.

import { app } from "../../scripts/app.js";
import { DEFAULTS, MODELS } from "./constants.js";
import { clipShape } from "./cost.js";
import { findRun, isLinked, valueOf } from "./graph.js";
import { predictMethod } from "./methods.js";
import { addPanel, describeError, describeRun } from "./panel.js";
import { currentWords } from "./text.js";

const NODE = "HeroMethod";

/** The method's settings that the node has: not those that come by a wire, nor those that it has no widget for. */
function settingsOf(node, method) {
  const found = Object.keys(DEFAULTS[method]).map((name) => [name, valueOf(node, `method.${name}`)]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined));
}

/** The panel's content, see `describeRun`. */
function describe(node, report) {
  const text = currentWords();
  const method = valueOf(node, "method");
  if (!DEFAULTS[method]) return describeError(text, text.unknownMethod({ method }));
  const run = findRun(node, MODELS);
  const shape = clipShape(MODELS[run.model].shape, run.height, run.width, run.frames);
  const own = settingsOf(node, method);
  const settings = { ...DEFAULTS[method], ...own };
  const wired = Object.keys(settings).filter((name) => !(name in own) && isLinked(node, `method.${name}`));
  let prediction;
  try {
    prediction = predictMethod(method, settings, shape, run.steps, run.batch, run.bytes);
  } catch (error) {
    return describeError(text, error.message);
  }
  return describeRun(text, run, prediction, settings.interval, report, {
    bypassed: text.methodOff(),
    notes: [],
    decides: method === "worldcache" && text.errorDecides({ full: prediction.fullSteps }),
    assumed: [
      ...wired.map((name) => text.assumptions.setting({ name, value: settings[name] })),
      ...run.assumed.map((name) => text.assumptions[name](run)),
    ],
  });
}

app.registerExtension({
  name: "AetherHero.MethodPrediction",
  nodeCreated(node) {
    if (node.comfyClass === NODE) addPanel(node, describe);
  },
});
