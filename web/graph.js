// Finds out, from the graph on the canvas, which run a HERO Patch node will accelerate: the model before it, the
// sampler after it, the task's clip. Reads LiteGraph objects and changes nothing; no DOM in here.

const MUTED = 2;
const BYPASSED = 4;
const SUBGRAPH_INPUT = -10; // "nodes" at a subgraph's borders; ids may be numbers or strings
const SUBGRAPH_OUTPUT = -20;

/** Nodes that are known to the server, which may hold a file's or folder's name. */
const OWN_LOADERS = ["AetherLoader", "AetherMiniature"];
/** Pictures of a model, where no size is set; `AETHER_SIZE` in nodes/inputs.py and the miniature's card. */
const SIZES = { AetherLoader: { width: 720, height: 480 }, AetherMiniature: { width: 96, height: 64 } };
/** Nodes that change a model's weights. */
const PATCHES = /lora|merge/i;
/** Widget of a loader that holds its file's name -> the kind of file. */
const FILES = { unet_name: "unet", ckpt_name: "checkpoint", model_name: "unet" };
/** Task node -> steps and guidance that Aether Sampler's 0 stands for. */
const TASKS = {
  AetherReconstruct: { steps: 4, guidance: 1 },
  AetherLongClip: { steps: 4, guidance: 1 }, // task and sampler in one
  AetherExplore: { steps: 50, guidance: 3 }, // the same, for every window
  AetherPredict: { steps: 50, guidance: 3 },
  AetherPlan: { steps: 50, guidance: 3 },
};
const FALLBACK = { steps: 50, guidance: 3 };

const typeOf = (node) => node.type ?? node.comfyClass;
const hasWidget = (node, name) => node.widgets?.some((widget) => widget.name === name);
const linkOf = (graph, id) => (id == null ? null : (graph?.getLink?.(id) ?? graph?.links?.[id] ?? null));
const nodeOf = (graph, id) => graph?.getNodeById?.(id) ?? null;

/** The subgraph node that holds `graph`, searched from the root. */
function holderOf(graph) {
  const root = graph.rootGraph ?? graph;
  const search = (level) => {
    for (const node of level.nodes ?? []) {
      if (node.subgraph === graph) return node;
      const found = node.subgraph && search(node.subgraph);
      if (found) return found;
    }
    return null;
  };
  return search(root);
}

/** Where an input comes from: {node, slot}, through subgraph borders; null where nothing is connected. */
function sourceOf(node, input) {
  const link = linkOf(node.graph, node.inputs?.[input]?.link);
  if (!link) return null;
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const holder = holderOf(node.graph);
    return holder && sourceOf(holder, link.origin_slot);
  }
  const origin = nodeOf(node.graph, link.origin_id);
  return origin && enter(origin, link.origin_slot);
}

/** A subgraph node's output belongs to a node within. */
function enter(node, slot) {
  if (!node.subgraph) return { node, slot };
  const link = linkOf(node.subgraph, node.subgraph.outputs?.[slot]?.linkIds?.[0]);
  const origin = link && nodeOf(node.subgraph, link.origin_id);
  return origin && enter(origin, link.origin_slot);
}

/** Nodes that an output feeds: [{node, slot}], through subgraph borders. */
function targetsOf(node, output) {
  return (node.outputs?.[output]?.links ?? []).flatMap((id) => follow(node.graph, id));
}

function follow(graph, id) {
  const link = linkOf(graph, id);
  if (!link) return [];
  if (Number(link.target_id) === SUBGRAPH_OUTPUT) {
    const holder = holderOf(graph);
    return holder ? targetsOf(holder, link.target_slot) : [];
  }
  const target = nodeOf(graph, link.target_id);
  if (!target) return [];
  if (!target.subgraph) return [{ node: target, slot: link.target_slot }];
  const inside = target.subgraph.inputs?.[link.target_slot]?.linkIds ?? [];
  return inside.flatMap((inner) => follow(target.subgraph, inner));
}

/** The nodes of a type that an output feeds, also through reroutes. */
export function fedBy(node, output, type) {
  return targetsOf(node, output).flatMap(({ node: target }) => {
    if (typeOf(target) === type) return [target];
    return typeOf(target) === "Reroute" ? fedBy(target, 0, type) : [];
  });
}

/** Every node of a type in a graph and in its subgraphs. */
export function allOf(graph, type) {
  return (graph.nodes ?? []).flatMap((node) => {
    if (node.subgraph) return allOf(node.subgraph, type);
    return typeOf(node) === type ? [node] : [];
  });
}

/** Slots of a node that take one of the types; a slot may take several ("IMAGE,VIDEO"). */
function inputsOfType(node, types) {
  const fits = (input) => String(input.type).split(",").some((type) => types.includes(type));
  return (node.inputs ?? []).flatMap((input, index) => (fits(input) ? [index] : []));
}

/** Every node before `start`, nearest first, along inputs of the given types. */
function* upstream(start, types) {
  const queue = [start];
  const seen = new Set(queue);
  while (queue.length) {
    const node = queue.shift();
    for (const input of inputsOfType(node, [...types, "*"])) {
      const source = sourceOf(node, input)?.node;
      if (!source || seen.has(source)) continue;
      seen.add(source);
      queue.push(source);
      yield source;
    }
  }
}

/** Every active node after `start`, nearest first, along outputs that carry a model, a guider or a reroute. */
function* downstream(start) {
  const queue = [start];
  const seen = new Set(queue);
  while (queue.length) {
    const node = queue.shift();
    for (let output = 0; output < (node.outputs?.length ?? 0); output++) {
      if (!["MODEL", "GUIDER", "*"].includes(node.outputs[output].type)) continue;
      for (const { node: target } of targetsOf(node, output)) {
        if (seen.has(target) || target.mode === MUTED) continue;
        seen.add(target);
        queue.push(target);
        if (target.mode !== BYPASSED) yield target;
      }
    }
  }
}

/** The input slot of a widget, -1 where it has none. */
const slotOf = (node, name) => (node.inputs ?? []).findIndex((slot) => slot.widget?.name === name);

/** Whether a widget's value comes from elsewhere: by a wire, or from the widget of the subgraph's node. */
export const isLinked = (node, name) => node.inputs?.[slotOf(node, name)]?.link != null;

/** A widget's value, or that of what is linked into it; undefined where it cannot be known. */
export function valueOf(node, name, seen = new Set()) {
  const input = slotOf(node, name);
  return input >= 0 ? valueAt(node, input, seen) : node.widgets?.find((widget) => widget.name === name)?.value;
}

/** The value that comes into a socket; undefined where it cannot be known. */
export function valueInto(node, name) {
  return valueAt(node, (node.inputs ?? []).findIndex((slot) => slot.name === name), new Set());
}

/** The value of an input slot. `seen`: the nodes on the way here, as links may go in a circle. */
function valueAt(node, input, seen) {
  const slot = node.inputs?.[input];
  if (!slot) return undefined;
  if (slot.link == null) return node.widgets?.find(({ name }) => name === (slot.widget?.name ?? slot.name))?.value;
  const link = linkOf(node.graph, slot.link);
  if (Number(link?.origin_id) === SUBGRAPH_INPUT) {
    const holder = holderOf(node.graph);
    return holder ? valueAt(holder, link.origin_slot, seen) : undefined;
  }
  const source = sourceOf(node, input);
  if (!source || seen.has(source.node)) return undefined;
  return valueFrom(source.node, source.slot, new Set([...seen, source.node]));
}

/** What an output of a primitive node, of a switch between such or of a node that hands its settings on gives out. */
function valueFrom(node, output, seen) {
  const type = typeOf(node) ?? "";
  if (type === "WanCameraEmbedding") return valueOf(node, node.outputs[output].name, seen);
  if (type.startsWith("Primitive")) return node.widgets?.length ? valueOf(node, node.widgets[0].name, seen) : undefined;
  if (type !== "ComfySwitchNode") return undefined;
  const on = valueOf(node, "switch", seen);
  if (on === undefined) return undefined;
  const branch = (node.inputs ?? []).findIndex((slot) => slot.name === (on ? "on_true" : "on_false"));
  return valueAt(node, branch, seen);
}

/** The active node linked into a socket: {node, slot}; null where there is none. */
export function sourceNamed(node, name) {
  const source = sourceOf(node, (node.inputs ?? []).findIndex((slot) => slot.name === name));
  return source && source.node.mode !== MUTED && source.node.mode !== BYPASSED ? source : null;
}

/** Whether a widget's value comes from elsewhere, and nobody knows what it is. */
const isUnknown = (node, name) => isLinked(node, name) && valueOf(node, name) === undefined;
const number = (value) => (value == null || value === "" || !Number.isFinite(Number(value)) ? undefined : Number(value));

/** What a loader will load: {loader, file, kind}, see `model_before` in nodes/bridge; null for other nodes. */
function loadedBy(node) {
  const loader = typeOf(node);
  if (OWN_LOADERS.includes(loader)) return { loader, file: valueOf(node, "transformer") };
  const widget = Object.keys(FILES).find((name) => hasWidget(node, name));
  return widget ? { loader, file: valueOf(node, widget), kind: FILES[widget] } : null;
}

/** The nodes before a node along its MODEL, up to the one that it is from; none where nothing is connected. */
function pathToLoader(node) {
  const path = [];
  for (const before of upstream(node, ["MODEL"])) {
    path.push(before);
    if (loadedBy(before) || !inputsOfType(before, ["MODEL", "*"]).length) return path;
  }
  return [];
}

/** The node that a node's MODEL is from, whatever is put on it in between; null where nothing is connected. */
export const loaderOf = (node) => pathToLoader(node).at(-1) ?? null;

/** The model before a node: {model, bytes}; model is null where none is connected, and `patched` with a LoRA on it. */
function modelOf(hero) {
  const between = pathToLoader(hero);
  const node = between.pop();
  if (!node) return { model: null };
  const model = loadedBy(node);
  if (!model) return { model: { loader: typeOf(node) } };
  const patches = between.filter(({ mode }) => mode !== MUTED && mode !== BYPASSED).map(typeOf);
  const patched = patches.some((type) => PATCHES.test(type)) || undefined;
  return { model: { ...model, patched }, bytes: valueOf(node, "dtype") === "fp32" ? 4 : undefined };
}

/** Whether a node of core's or of anyone sets a clip's size. */
const hasSize = (node) => ["width", "height", "length"].every((name) => hasWidget(node, name));

/** The node that says what is made: {node, frames: its widget of that, steps, guidance}; null where there is none. */
function taskOf(consumers) {
  for (const consumer of consumers) {
    for (const node of [consumer, ...upstream(consumer, ["CONDITIONING", "LATENT", "GUIDER"])]) {
      if (node.mode === MUTED) continue;
      const task = TASKS[typeOf(node)];
      if (task) return { node, frames: "frames", ...task };
      if (hasSize(node)) return { node, frames: "length", ...FALLBACK };
    }
  }
  return null;
}

/**
 * What a 0 of a node's widgets stands for, by their names: numbers, or null where the graph does not say it yet.
 * @param {object} node of this pack
 */
export function ownValues(node) {
  const type = typeOf(node);
  const found = {};
  if (TASKS[type] && hasWidget(node, "width")) {
    const loader = [...upstream(node, ["VAE"])].map(typeOf).find((name) => SIZES[name]);
    Object.assign(found, SIZES[loader] ?? { width: null, height: null });
  }
  if (type === "AetherLongClip") Object.assign(found, { steps: TASKS[type].steps, stride: null });
  if (["AetherSampler", "HeroTuner", "HeroAnalyzer"].includes(type)) {
    const own = taskOf([node]);
    const isAether = own && TASKS[typeOf(own.node)];
    Object.assign(found, { steps: isAether ? own.steps : null, guidance: isAether ? own.guidance : null });
  }
  return found;
}

/** Steps of the run; null where they come by a wire that does not tell them, undefined where nothing has steps. */
function stepsOf(consumers, own) {
  for (const consumer of consumers) {
    const candidates = [consumer, ...upstream(consumer, ["SIGMAS"])];
    for (const node of candidates) {
      if (!hasWidget(node, "steps")) continue;
      const steps = number(valueOf(node, "steps"));
      if (steps === undefined) return null;
      const start = number(valueOf(node, "start_at_step")) ?? 0;
      const end = number(valueOf(node, "end_at_step")) ?? Infinity;
      return Math.max(1, Math.min(end, steps || own.steps) - start);
    }
  }
  return undefined;
}

/** The share of the noise that a run begins with; undefined where it is all of it or unknown. */
function denoiseOf(consumer) {
  const node = [consumer, ...upstream(consumer, ["SIGMAS"])].find((found) => hasWidget(found, "denoise"));
  const denoise = node && number(valueOf(node, "denoise"));
  return denoise < 1 ? denoise : undefined;
}

/** The sampler: {aether: scheduler} or {core: name, denoise}; undefined where the graph does not say it. */
function samplerOf(consumers) {
  for (const consumer of consumers) {
    if (typeOf(consumer)?.startsWith("Aether") && hasWidget(consumer, "scheduler"))
      return { aether: valueOf(consumer, "scheduler") };
    for (const node of [consumer, ...upstream(consumer, ["SAMPLER"])])
      if (hasWidget(node, "sampler_name"))
        return { core: valueOf(node, "sampler_name"), denoise: denoiseOf(consumer) };
  }
  return undefined;
}

/** Forwards a step: 2 with classifier-free guidance; undefined where it comes by a wire that does not tell it. */
function batchOf(consumers, own) {
  if (own.guidance === 1 && consumers.some((node) => typeOf(node) === "AetherSampler")) return 1;
  for (const node of consumers) {
    const scale = number(valueOf(node, "cfg")) ?? number(valueOf(node, "guidance"));
    if (scale !== undefined) return (scale || own.guidance) === 1 ? 1 : 2;
    if (isUnknown(node, "cfg") || isUnknown(node, "guidance")) return undefined;
    if (typeOf(node) === "BasicGuider") return 1;
  }
  return own.guidance === 1 ? 1 : 2;
}

/** Frames of the example clip that is linked into a task, those that it picks. */
function exampleFrames(task) {
  const example = [...upstream(task, ["IMAGE", "VIDEO"])].find((node) => typeOf(node) === "AetherExample");
  const frames = example && number(valueOf(example, "frames"));
  if (!frames) return undefined;
  const [start, every] = [number(valueOf(task, "start_frame")) ?? 0, number(valueOf(task, "every_nth")) || 1];
  return Math.max(1, Math.ceil((frames - start) / every));
}

/**
 * The clip that a task makes, as far as the graph says it: {height, width, frames, clip}, `clip` being the frames of
 * the one that is read; and `assumed`, see `findRun`.
 */
function clipOf(task) {
  if (!task) return { numbers: {}, assumed: [] };
  const { node } = task;
  const side = (name) => number(valueOf(node, name)) || undefined;
  const frames = side(task.frames);
  const clip = frames ? undefined : exampleFrames(node);
  const assumed = isUnknown(node, "height") || isUnknown(node, "width") ? ["task"] : [];
  const open = node.inputs?.some((input) => input.name === "video") || isUnknown(node, task.frames);
  if (!frames && !clip && open) assumed.push("frames");
  return { numbers: { height: side("height"), width: side("width"), frames, clip }, assumed };
}

/**
 * The run that a HERO Patch node is part of.
 * @param {object} hero the LiteGraph node
 * @returns {object} model: what is loaded, see `modelOf`; numbers: steps, batch, and what the graph says of height,
 *   width, frames, clip and bytes; sampler: see `samplerOf`; guided; bypassed; assumed: the names of what the graph does
 *   not say: "model", "steps", "wiredSteps", "guidance", "task", "frames"
 */
export function findRun(hero) {
  const assumed = [];
  const { model, bytes } = modelOf(hero);
  if (!model) assumed.push("model");
  const consumers = [...downstream(hero)];
  const task = taskOf(consumers);
  const own = task ?? FALLBACK;
  const steps = stepsOf(consumers, own);
  if (steps == null) assumed.push(steps === null ? "wiredSteps" : "steps");
  const forwards = batchOf(consumers, own);
  if (!forwards) assumed.push("guidance");
  const clip = clipOf(task);
  if (!task && consumers.length) assumed.push("task");
  const clips = (task && number(valueOf(task.node, "batch_size"))) || 1;
  const guided = (forwards ?? own.guidance) !== 1;
  return {
    model,
    numbers: { steps: steps ?? own.steps, batch: guided ? 2 * clips : clips, ...clip.numbers, bytes },
    sampler: samplerOf(consumers),
    guided,
    bypassed: hero.mode === BYPASSED || hero.mode === MUTED,
    assumed: [...assumed, ...clip.assumed],
  };
}
