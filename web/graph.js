// Finds out, from the graph on the canvas, which run a HERO Patch node will accelerate: the model before it, the
// sampler after it, the task's clip. Reads LiteGraph objects and changes nothing; no DOM in here.

const MUTED = 2;
const BYPASSED = 4;
const SUBGRAPH_INPUT = -10; // "nodes" at a subgraph's borders; ids may be numbers or strings
const SUBGRAPH_OUTPUT = -20;

/** Loader node -> key of constants.js MODELS. */
const LOADERS = { AetherLoader: "aether", AetherMiniature: "miniature" };
/** Task node -> steps and guidance that Aether Sampler's 0 stands for. */
const TASKS = {
  AetherReconstruct: { steps: 4, guidance: 1 },
  AetherLongClip: { steps: 4, guidance: 1 }, // task and sampler in one
  AetherPredict: { steps: 50, guidance: 3 },
  AetherPlan: { steps: 50, guidance: 3 },
};
const FALLBACK = { steps: 50, guidance: 3 };

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
  const source = sourceOf(node, input)?.node;
  if (!source || seen.has(source)) return undefined;
  return valueFrom(source, new Set([...seen, source]));
}

/** What a primitive node, or a switch between such, gives out. */
function valueFrom(node, seen) {
  const type = node.type ?? node.comfyClass ?? "";
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

function modelOf(hero) {
  for (const node of upstream(hero, ["MODEL"])) {
    const known = LOADERS[node.type ?? node.comfyClass];
    if (known) return { key: known, connected: true, dtype: valueOf(node, "dtype") };
    if (!inputsOfType(node, ["MODEL", "*"]).length) return { key: null, connected: true };
  }
  return { key: null, connected: false };
}

function taskOf(consumers) {
  for (const consumer of consumers) {
    for (const node of [consumer, ...upstream(consumer, ["CONDITIONING", "LATENT", "GUIDER"])]) {
      const task = TASKS[node.type ?? node.comfyClass];
      if (task && node.mode !== MUTED) return { node, ...task };
    }
  }
  return null;
}

/** Steps of the run; null where they come by a wire that does not tell them, undefined where nothing has steps. */
function stepsOf(consumers, own) {
  for (const consumer of consumers) {
    const candidates = [consumer, ...upstream(consumer, ["SIGMAS"])];
    for (const node of candidates) {
      if (!node.widgets?.some((widget) => widget.name === "steps")) continue;
      const steps = number(valueOf(node, "steps"));
      if (steps === undefined) return null;
      const start = number(valueOf(node, "start_at_step")) ?? 0;
      const end = number(valueOf(node, "end_at_step")) ?? Infinity;
      return Math.max(1, Math.min(end, steps || own.steps) - start);
    }
  }
  return undefined;
}

/** Forwards a step: 2 with classifier-free guidance; undefined where it comes by a wire that does not tell it. */
function batchOf(consumers, own) {
  if (own.guidance === 1 && consumers.some((node) => (node.type ?? node.comfyClass) === "AetherSampler")) return 1;
  for (const node of consumers) {
    const scale = number(valueOf(node, "cfg")) ?? number(valueOf(node, "guidance"));
    if (scale !== undefined) return (scale || own.guidance) === 1 ? 1 : 2;
    if (isUnknown(node, "cfg") || isUnknown(node, "guidance")) return undefined;
    if ((node.type ?? node.comfyClass) === "BasicGuider") return 1;
  }
  return own.guidance === 1 ? 1 : 2;
}

/** Frames of the clip: the task's own setting, else those of the example clip linked into it, up to `most`. */
function framesOf(task, most) {
  const frames = number(valueOf(task, "frames"));
  if (frames) return frames;
  for (const node of upstream(task, ["IMAGE", "VIDEO"])) {
    if ((node.type ?? node.comfyClass) === "AetherExample") return Math.min(most, number(valueOf(node, "frames")));
  }
  return undefined;
}

/**
 * The run that a HERO Patch node is part of.
 * @param {object} hero the LiteGraph node
 * @param {object} models constants.js MODELS
 * @returns {object} model (key of `models`), steps, batch, height, width, frames, bytes, and `assumed`: the names
 *   of what the graph does not say: "model", "otherModel", "steps", "wiredSteps", "guidance", "task", "frames"
 */
export function findRun(hero, models) {
  const assumed = [];
  const found = modelOf(hero);
  if (!found.key) assumed.push(found.connected ? "otherModel" : "model");
  const model = found.key ?? "aether";
  const consumers = [...downstream(hero)];
  const task = taskOf(consumers);
  const own = task ?? FALLBACK;
  let steps = stepsOf(consumers, own);
  if (steps == null) {
    assumed.push(steps === null ? "wiredSteps" : "steps");
    steps = own.steps;
  }
  const batch = batchOf(consumers, own);
  if (!batch) assumed.push("guidance");
  const unknownSize = task && (isUnknown(task.node, "height") || isUnknown(task.node, "width"));
  if (unknownSize || (!task && consumers.length)) assumed.push("task");
  const defaults = models[model];
  const setting = (name) => (task ? number(valueOf(task.node, name)) : undefined);
  let frames = task ? framesOf(task.node, defaults.frames) : undefined;
  if (!frames) {
    frames = defaults.frames;
    const open = task?.node.inputs?.some((input) => input.name === "video");
    if (open || (task && isUnknown(task.node, "frames"))) assumed.push("frames");
  }
  return {
    model,
    steps,
    batch: batch ?? (own.guidance === 1 ? 1 : 2),
    height: setting("height") || defaults.height,
    width: setting("width") || defaults.width,
    frames,
    bytes: found.dtype === "fp32" ? 4 : defaults.bytes,
    bypassed: hero.mode === BYPASSED || hero.mode === MUTED,
    assumed,
  };
}
