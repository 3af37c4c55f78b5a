// The settings that a HERO Patch node will run with. No DOM and no ComfyUI in here.

import { ASSUMED, PRESETS } from "./constants.js";
import { isLinked, valueOf } from "./graph.js";

/** What the presets set. */
export const SETTINGS = Object.keys(PRESETS.paper);

const known = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

/**
 * What the node will run with: {preset, values}, and names of settings: `assumed` come by a wire that does not tell
 * them, `unused` come from elsewhere where the preset wins over them.
 */
export function settingsOf(node) {
  const own = Object.fromEntries(Object.keys(ASSUMED).map((name) => [name, valueOf(node, name)]));
  const { preset, ...values } = { ...ASSUMED, ...known(own) };
  const fixed = PRESETS[preset] ?? {};
  return {
    preset,
    values: { ...values, ...fixed },
    assumed: Object.keys(ASSUMED).filter((name) => own[name] === undefined && !(name in fixed)),
    unused: Object.keys(fixed).filter((name) => isLinked(node, name) && own[name] !== fixed[name]),
  };
}
