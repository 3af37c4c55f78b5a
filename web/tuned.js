// Which HERO Patch nodes take what HERO Tuner found, and how. No DOM and no ComfyUI in here.

import { allOf, fedBy, loaderOf } from "./graph.js";

const PATCH = "HeroPatch";

/**
 * The nodes that a tuner's setting is for: those that it is wired to; where there are none, all of the graph whose
 * MODEL is from the same loader.
 * @param {object} tuner the LiteGraph node @param {object} root the whole graph
 */
export function patchesFor(tuner, root) {
  const output = (tuner.outputs ?? []).findIndex((slot) => slot.name === "setting");
  const wired = fedBy(tuner, output, PATCH);
  if (wired.length) return [...new Set(wired)];
  const loader = loaderOf(tuner);
  return loader ? allOf(root, PATCH).filter((node) => loaderOf(node) === loader) : [];
}

/** Write values into a node's widgets by their names. */
export function writeInto(node, values) {
  for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
}
