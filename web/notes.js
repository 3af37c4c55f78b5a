// The text that a run leaves on a node of ours: all of its lines in view, and none of the run before.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeById } from "./panel.js";

const TEXT = "$$node-text-preview"; // the widget that ComfyUI puts a node's progress text into
const LINE = 16; // pixels, of text-xs
const AROUND = 36; // the widget's margin and padding
const CHARACTER = 6.2; // pixels, on average
const OURS = /^(Aether|Hero)/;

const ours = (id) => {
  const node = nodeById(id);
  return node && OURS.test(node.comfyClass) ? node : undefined;
};
const textOf = (node) => node.widgets?.find((widget) => widget.name === TEXT);

/** Lines that a text takes in so many pixels. */
function lines(text, width) {
  const characters = Math.max(10, Math.floor(width / CHARACTER));
  return text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / characters)), 0);
}

function clear({ detail }) {
  const node = detail && ours(detail);
  const text = node && textOf(node);
  if (text) text.value = "";
}

function fit(node) {
  const text = node && textOf(node);
  if (!text) return;
  text.options.getMinHeight = () => AROUND + LINE * lines(String(text.value), node.size[0] - AROUND);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

app.registerExtension({
  name: "AetherHero.Notes",
  setup() {
    api.addEventListener("executing", clear);
    // After ComfyUI's own listener, which makes the widget.
    api.addEventListener("progress_text", ({ detail }) => setTimeout(() => fit(ours(detail.nodeId))));
  },
});
