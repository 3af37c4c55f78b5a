// Nodes show the settings that matter; the rest opens on demand. Nodes 2.0 has a button of its own for inputs that are
// marked `advanced`. The classic canvas shows them always, so there this pack's nodes get a button that does the same.
// Both keep whether they are open in the node's `showAdvanced`, which is saved with the workflow.

import { app } from "../../scripts/app.js";
import { isLinked } from "./graph.js";
import { currentWords } from "./text.js";

const OURS = /^(Aether|Hero)/;
const BUTTON = "more_settings";

const isAdvanced = (widget) => Boolean(widget.options?.advanced);
/** One row is not worth a button, which takes as much room. */
const hasMany = (node) => node.widgets.filter(isAdvanced).length > 1;

/** Whether the classic canvas leaves a widget out. One with a wire stays, so that the wire has an end. */
function isTuckedAway(node, widget) {
  if (widget.name === BUTTON) return !hasMany(node);
  if (LiteGraph.vueNodesMode || node.showAdvanced || !isAdvanced(widget)) return false;
  return hasMany(node) && !isLinked(node, widget.name);
}

/** Leave widgets out of what is drawn, clicked and given room. They keep their values and their places when saved. */
function tuckAway(node) {
  const { isWidgetVisible, getLayoutWidgets } = node;
  node.isWidgetVisible = (widget) => isWidgetVisible.call(node, widget) && !isTuckedAway(node, widget);
  node.getLayoutWidgets = () => getLayoutWidgets.call(node).filter((widget) => !isTuckedAway(node, widget));
}

function toggle(node, button) {
  const [, before] = node.computeSize();
  node.showAdvanced = !node.showAdvanced;
  const [, after] = node.computeSize();
  node.setSize([node.size[0], node.size[1] + after - before]);
  label(node, button);
  app.canvas?.setDirty(true, true);
}

function label(node, button) {
  button.label = currentWords().settings(node.showAdvanced);
}

function addButton(node) {
  const options = { serialize: false, canvasOnly: true };
  const button = node.addWidget("button", BUTTON, null, () => toggle(node, button), options);
  button.serialize = false;
  label(node, button);
  const configured = node.onConfigure;
  node.onConfigure = function (...values) {
    const result = configured?.apply(this, values);
    label(node, button);
    return result;
  };
}

/** Whether any setting of a node, or of a choice that it offers, is advanced. */
function hasAdvanced(inputs) {
  return Object.values({ ...inputs?.required, ...inputs?.optional }).some(
    ([, options]) =>
      options?.advanced || options?.options?.some?.((choice) => choice?.inputs && hasAdvanced(choice.inputs)),
  );
}

/** Names of our nodes that have advanced settings. */
const kinds = new Set();

app.registerExtension({
  name: "AetherHero.Advanced",
  beforeRegisterNodeDef(_, { name, input }) {
    if (OURS.test(name) && hasAdvanced(input)) kinds.add(name);
  },
  nodeCreated(node) {
    if (!kinds.has(node.comfyClass)) return;
    tuckAway(node);
    addButton(node);
    if (!LiteGraph.vueNodesMode) node.setSize([node.size[0], node.computeSize()[1]]);
  },
});
