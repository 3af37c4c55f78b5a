// HERO Tuner's button: writes what the last run found into the sliders of HERO Patch, so that the workflow carries it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeById, openWorkflow, update } from "./panel.js";
import { LastValues } from "./runs.js";
import { currentWords } from "./text.js";
import { patchesFor, writeInto } from "./tuned.js";

const NODE = "HeroTuner";
const BUTTON = "write_setting";
const SHOWN_MS = 8000;

/** HERO Patch's widgets by name, as each tuner found them when it last ran. */
const found = new LastValues(openWorkflow, nodeById);

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "HERO Tuner", detail, life: SHOWN_MS });
}

function writeFound(node) {
  const words = currentWords().tuner;
  const values = found.of(node);
  if (!values) return say("warn", words.notRun());
  const patches = patchesFor(node, app.rootGraph ?? app.graph);
  if (!patches.length) return say("warn", words.noPatch());
  for (const patch of patches) {
    writeInto(patch, values);
    update(patch);
  }
  say("success", words.written({ count: patches.length }));
}

app.registerExtension({
  name: "AetherHero.Tuner",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const values = detail.output?.widgets?.[0];
      if (values) found.keep(detail.prompt_id, detail.display_node ?? detail.node, values);
    });
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = node.addWidget("button", BUTTON, null, () => writeFound(node), { serialize: false });
    button.serialize = false;
    button.label = currentWords().tuner.button();
  },
});
