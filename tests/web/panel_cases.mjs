// Writes what web/graph.js, settings.js and runs.js say of small graphs, built as LiteGraph would hold them.
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`));
const [{ valueInto, valueOf, findRun }, { settingsOf }, { PRESETS }, { LastValues, remember }, tuned] = await Promise.all(
  ["graph", "settings", "constants", "runs", "tuned"].map(load),
);

/** A graph of nodes {id, type, values, links: {input: [origin, slot]}, ...}; links within it, -10 being its border. */
function graphOf(nodes, rootGraph) {
  const links = [];
  const graph = { rootGraph, nodes: [], getLink: (id) => links[id], links };
  graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id);
  for (const { values = {}, links: wires = {}, ...node } of nodes) {
    const widgets = Object.entries(values).map(([name, value]) => ({ name, value }));
    const inputs = [...new Set([...Object.keys(values), ...Object.keys(wires)])].map((name) => {
      if (!wires[name]) return { name, type: "INT", link: null, ...(name in values && { widget: { name } }) };
      const [origin_id, origin_slot] = wires[name];
      const id = links.push({ origin_id, origin_slot }) - 1;
      return { name, type: "INT", link: id, ...(name in values && { widget: { name } }) };
    });
    graph.nodes.push({ mode: 0, outputs: [], ...node, graph, widgets, inputs });
  }
  return graph;
}

const node = (graph, id) => graph.getNodeById(id);

function switches(on, wires = {}) {
  const graph = graphOf([
    { id: 1, type: "PrimitiveInt", values: { value: 20 } },
    { id: 2, type: "PrimitiveInt", values: { value: 8 } },
    { id: 3, type: "ComfySwitchNode", values: { switch: on }, links: { on_false: [2, 0], on_true: [1, 0], ...wires } },
    { id: 4, type: "AetherSampler", values: { steps: 0 }, links: { steps: [3, 0] } },
  ]);
  return valueOf(node(graph, 4), "steps") ?? null;
}

function valueBehind(type, values, links) {
  const graph = graphOf([
    { id: 1, type, values, links },
    { id: 2, type: "AetherSampler", values: { steps: 0 }, links: { steps: [1, 0] } },
  ]);
  return valueOf(node(graph, 2), "steps") ?? null;
}

const HERO = { preset: "balanced", ...PRESETS.balanced, storage: "model" };

/** HERO Patch in a subgraph, within another where `nested`, its settings promoted to the outermost node. */
function promoted(values, nested = false) {
  const names = Object.keys(values);
  const wires = Object.fromEntries(names.map((name, slot) => [name, [-10, slot]]));
  const root = graphOf([{ id: 7, type: "outer", values }]);
  const inner = graphOf([{ id: 2, type: "HeroPatch", values: HERO, links: wires }], root);
  const holder = nested ? graphOf([{ id: 5, type: "inner", values: HERO, links: wires }], root) : root;
  if (nested) {
    node(holder, 5).inputs = node(holder, 5).inputs.filter((slot) => names.includes(slot.name));
    node(holder, 5).inputs.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
    node(holder, 5).subgraph = inner;
    node(root, 7).subgraph = holder;
  } else node(root, 7).subgraph = inner;
  return settingsOf(node(inner, 2));
}

function wired(settings, source, setting) {
  const links = Object.fromEntries(Object.keys(source).map((name, index) => [name, [index + 10, 0]]));
  const sources = Object.values(source).map((given, index) => ({ id: index + 10, ...given }));
  const hero = { id: 2, type: "HeroPatch", values: { ...HERO, ...settings }, links };
  return settingsOf(node(graphOf([hero, ...sources]), 2), setting);
}

const UNKNOWN = { type: "SomeMath", values: { value: 1 } };

/** The text that a node gives into the socket of a whole setting. */
function textInto(source) {
  const hero = { id: 2, type: "HeroPatch", values: HERO, links: { setting: [1, 0] } };
  return valueInto(node(graphOf([{ id: 1, ...source }, hero]), 2), "setting") ?? null;
}

function told() {
  let open;
  const first = { name: "first" };
  const second = { name: "second" };
  const canvas = {};
  const reports = new LastValues(() => open, (id) => canvas[id]);
  remember("a", first);
  open = second;
  canvas["7:2"] = { workflow: "second" };
  reports.keep("a", "7:2", "of the first"); // the second is on the canvas when the first has run
  const strange = reports.of(canvas["7:2"]) ?? null;
  open = first;
  canvas["7:2"] = { workflow: "first, made anew by undo" };
  const own = reports.of(canvas["7:2"]);
  const other = reports.of({}) ?? null;
  reports.keep("of another page", "7:2", "newer");
  return [strange, own, other, reports.of(canvas["7:2"])];
}

/** A run whose steps, guidance and width come by wires that tell nothing. */
function unknownRun() {
  const wire = [{ id: 1, type: "SomeMath", values: { operation: "add" } }];
  const hero = { id: 2, type: "HeroPatch", outputs: [{ type: "MODEL", links: [] }] };
  const sampler = { id: 3, type: "KSampler", values: { steps: 20, cfg: 3 }, links: { steps: [1, 0], cfg: [1, 0] } };
  const task = { id: 4, type: "AetherPredict", values: { width: 96, frames: "17" }, links: { width: [1, 0] } };
  const graph = graphOf([...wire, hero, { ...sampler, links: { ...sampler.links, positive: [4, 0] } }, task]);
  node(graph, 3).inputs.find((slot) => slot.name === "positive").type = "CONDITIONING";
  node(graph, 2).outputs[0].links = [graph.links.push({ target_id: 3, target_slot: 0 }) - 1];
  const { numbers, assumed } = findRun(node(graph, 2));
  return { numbers, assumed };
}

/** Core's nodes from a loader to a sampler, with a node in between that changes the MODEL. */
function coreRun(loader, latent, sampler = {}) {
  const hero = { id: 3, type: "HeroPatch", links: { model: [2, 0] }, outputs: [{ type: "MODEL", links: [] }] };
  const graph = graphOf([
    { id: 1, ...loader },
    { id: 2, type: "LoraLoaderModelOnly", values: { lora_name: "fast.safetensors" }, links: { model: [1, 0] } },
    hero,
    { id: 4, type: "KSampler", values: { steps: 4, cfg: 1, ...sampler }, links: { latent_image: [5, 0] } },
    { id: 5, ...latent },
  ]);
  for (const { inputs } of graph.nodes)
    for (const slot of inputs) slot.type = { model: "MODEL", latent_image: "LATENT" }[slot.name] ?? "INT";
  node(graph, 3).outputs[0].links = [graph.links.push({ target_id: 4, target_slot: 0 }) - 1];
  return findRun(node(graph, 3));
}

/**
 * Ids of the HERO Patch nodes that a tuner's setting is for. 4 and, in a subgraph, 8 have the tuner's loader before
 * them, 5 another one; `wires` are the tuner's: to 5 through a reroute, or to 4 twice.
 */
function patchesOf(wires, loader = 1) {
  const model = (id) => ({ model: [id, 0] });
  const graph = graphOf([
    { id: 1, type: "UNETLoader", values: { unet_name: "wan.safetensors" } },
    { id: 2, type: "UNETLoader", values: { unet_name: "wan.safetensors" } },
    { id: 3, type: "HeroTuner", links: loader ? model(loader) : {}, outputs: [{ name: "setting", links: [] }] },
    { id: 9, type: "LoraLoaderModelOnly", values: { lora_name: "a" }, links: model(1) },
    { id: 4, type: "HeroPatch", links: model(9) },
    { id: 5, type: "HeroPatch", links: model(2) },
    { id: 6, type: "Reroute", outputs: [{ links: [] }] },
    { id: 7, type: "subgraph", links: model(1) },
  ]);
  node(graph, 7).subgraph = graphOf([{ id: 8, type: "HeroPatch", links: { model: [-10, 0] } }], graph);
  for (const { nodes } of [graph, node(graph, 7).subgraph])
    for (const { inputs } of nodes) for (const slot of inputs) if (slot.name === "model") slot.type = "MODEL";
  for (const [from, target_id] of wires)
    node(graph, from).outputs[0].links.push(graph.links.push({ target_id, target_slot: 0 }) - 1);
  return tuned.patchesFor(node(graph, 3), graph).map(({ id }) => id);
}

function written() {
  const patch = { widgets: [{ name: "preset", value: "fast" }, { name: "tau", value: 0.5 }, { name: "seed", value: 3 }] };
  tuned.writeInto(patch, { preset: "custom", tau: 0.3, later: 1 });
  return patch.widgets.map(({ value }) => value);
}

const WAN = { type: "UNETLoader", values: { unet_name: "wan.safetensors", weight_dtype: "default" } };
const CHECKPOINT = { type: "CheckpointLoaderSimple", values: { ckpt_name: "ltx.safetensors" } };
const FOREIGN = { type: "SomeLoader", values: { path: "x.gguf" } };
const SIZE = { width: 832, height: 480, length: 81, batch_size: 2 };
/** What findRun says of a sampler: a node, and the one that is wired into its socket. */
function samplerOf(sampler, source, lora = {}) {
  const graph = graphOf([
    { id: 1, type: "UNETLoader", values: { unet_name: "wan.safetensors" } },
    { id: 2, type: "SomeModelNode", links: { model: [1, 0] }, ...lora },
    { id: 3, type: "HeroPatch", links: { model: [2, 0] }, outputs: [{ type: "MODEL", links: [] }] },
    { id: 4, ...sampler, links: source ? { sampler: [5, 0] } : {} },
    ...(source ? [{ id: 5, ...source }] : []),
  ]);
  for (const { inputs } of graph.nodes)
    for (const slot of inputs) slot.type = { model: "MODEL", sampler: "SAMPLER" }[slot.name] ?? "INT";
  node(graph, 3).outputs[0].links = [graph.links.push({ target_id: 4, target_slot: 0 }) - 1];
  const found = findRun(node(graph, 3));
  return { sampler: found.sampler ?? null, patched: found.model.patched ?? null };
}

const CUSTOM = { type: "SamplerCustom", values: { cfg: 3 } };
const SELECT = { type: "KSamplerSelect", values: { sampler_name: "dpmpp_2m" } };
const SAMPLERS = {
  aether: [{ type: "AetherSampler", values: { scheduler: "ddim" } }],
  core: [{ type: "KSampler", values: { sampler_name: "euler", scheduler: "karras" } }],
  custom: [CUSTOM, SELECT],
  denoise: [{ type: "KSampler", values: { sampler_name: "euler", denoise: 0.5 } }],
  fromNoise: [{ type: "KSampler", values: { sampler_name: "euler", denoise: 1 } }],
  unknown: [CUSTOM, { type: "SamplerEulerAncestral", values: { eta: 1 } }],
  lora: [CUSTOM, SELECT, { type: "LoraLoaderModelOnly" }],
  bypassedLora: [CUSTOM, SELECT, { type: "LoraLoaderModelOnly", mode: 4 }],
};
const LATENT = { type: "EmptyHunyuanLatentVideo", values: SIZE };

console.log(
  JSON.stringify({
    switches: [switches(true), switches(false), switches(true, { on_true: [3, 0] })],
    primitive: valueBehind("PrimitiveInt", { value: 12 }),
    other: valueBehind("SomeMath", { value: 12 }),
    promoted: promoted({ preset: "custom", tau: 0.8, interval: 3 }),
    nested: promoted({ preset: "custom", tau: 0.8 }, true),
    overruled: promoted({ tau: 0.8, interval: 2 }),
    unknownTau: wired({ preset: "custom" }, { tau: { type: "SomeMath", values: { value: 1 } } }),
    unknownPreset: wired({}, { preset: { type: "SomeMath", values: { value: 1 } } }),
    masked: wired({ preset: "custom", mask: "1101" }, {}),
    settingWins: wired({ tau: 0.8 }, { tau: UNKNOWN, preset: UNKNOWN, storage: UNKNOWN }, "tau=25%"),
    settingText: textInto({ type: "PrimitiveString", values: { value: "tau=25%" } }),
    settingUnknown: textInto({ type: "HeroTuner", values: { steps: 20 } }),
    unknownRun: unknownRun(),
    core: [coreRun(WAN, LATENT), coreRun(CHECKPOINT, LATENT, { cfg: 5 }), coreRun(FOREIGN, { type: "Other" })],
    samplers: Object.fromEntries(Object.entries(SAMPLERS).map(([name, given]) => [name, samplerOf(...given)])),
    told: told(),
    tuned: {
      unwired: patchesOf([]),
      rerouted: patchesOf([[3, 6], [6, 5]]),
      twice: patchesOf([[3, 4], [3, 4]]),
      otherLoader: patchesOf([], 2),
      noModel: patchesOf([], null),
      written: written(),
    },
  }),
);
