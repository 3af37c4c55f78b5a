// The settings that a HERO Patch node will run with. No DOM and no ComfyUI in here.

import { PRESETS } from "./constants.js";
import { isLinked, valueOf } from "./graph.js";

/** What the presets set. */
export const SETTINGS = Object.keys(PRESETS.paper);
/** All that a prediction depends on. */
const WIDGETS = ["preset", ...SETTINGS, "storage"];

/**
 * What the node will run with: {preset, widgets}, null for what comes by a wire that does not tell it; and names of
 * settings: `assumed` are such and count, `unused` come from elsewhere where the preset wins over them.
 * @param {object} node
 * @param {string} [setting] the text of a whole setting that is wired in: it wins over the preset and what that sets
 */
export function settingsOf(node, setting) {
  const widgets = Object.fromEntries(WIDGETS.map((name) => [name, valueOf(node, name) ?? null]));
  const { preset } = widgets;
  const fixed = (setting === undefined && PRESETS[preset]) || {};
  const counts = (name) =>
    setting === undefined ? preset === "custom" || !SETTINGS.includes(name) : !["preset", ...SETTINGS].includes(name);
  return {
    preset,
    widgets,
    assumed: WIDGETS.filter((name) => widgets[name] === null && counts(name)),
    unused: Object.keys(fixed).filter((name) => isLinked(node, name) && widgets[name] !== fixed[name]),
  };
}
