// A setting of 0 that stands for the task's or the model's own value says so, with that value: "steps (auto: 50)".

import { app } from "../../scripts/app.js";
import { isLinked, ownValues } from "./graph.js";
import { currentWords } from "./text.js";

const OURS = /^(Aether|Hero)/;
const REFRESH_MS = 500; // what a value stands for hangs on nodes around, which may change in ways no callback reports

/** Widgets whose label was changed -> the label that they had. */
const labels = new WeakMap();

/** Write a widget's label as it is now to be, if that is another. */
function show(widget, addition) {
  const shown = labels.get(widget);
  // Another language has its own label.
  const own = shown?.now === widget.label ? shown.own : widget.label;
  const now = addition ? `${own ?? widget.name} ${addition}` : own;
  if (widget.label !== now) widget.label = now;
  labels.set(widget, { own, now });
}

function refresh(node) {
  const values = ownValues(node);
  for (const widget of node.widgets ?? []) {
    if (!(widget.name in values)) continue;
    const automatic = widget.value === 0 && !isLinked(node, widget.name);
    show(widget, automatic ? currentWords().automatic({ value: values[widget.name] }) : "");
  }
}

function refreshAll() {
  const nodes = app.canvas?.graph?.nodes ?? [];
  nodes.filter(({ comfyClass }) => OURS.test(comfyClass ?? "")).forEach(refresh);
}

app.registerExtension({
  name: "AetherHero.Automatic",
  setup() {
    setInterval(refreshAll, REFRESH_MS);
  },
});
