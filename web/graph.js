// Finds out, from the graph on the canvas, which run a HERO Patch node will accelerate: the model before it, the
// sampler after it, the task's clip. Reads LiteGraph objects and changes nothing; no DOM in here.

const MUTED = 2;
const BYPASSED = 4;
const SUBGRAPH_INPUT = -10; // "nodes" at a subgraph's borders; ids may be numbers or strings
const SUBGRAPH_OUTPUT = -20;

/** Loader node -> key of cost.js MODELS. */
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

/** A widget's value, or that of the primitive node linked into it; undefined where it cannot be known. */
export function valueOf(node, name) {
  const input = (node.inputs ?? []).findIndex((slot) => slot.widget?.name === name);
  if (input >= 0 && node.inputs[input].link != null) {
    const widgets = sourceOf(node, input)?.node.widgets;
    return widgets?.length ? widgets[0].value : undefined;
  }
  return node.widgets?.find((widget) => widget.name === name)?.value;
}

/** The active node linked into a socket: {node, slot}; null where there is none. */
export function sourceNamed(node, name) {
  const source = sourceOf(node, (node.inputs ?? []).findIndex((slot) => slot.name === name));
  return source && source.node.mode !== MUTED && source.node.mode !== BYPASSED ? source : null;
}

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

function stepsOf(consumers, own) {
  for (const consumer of consumers) {
    const candidates = [consumer, ...upstream(consumer, ["SIGMAS"])];
    for (const node of candidates) {
      if (!node.widgets?.some((widget) => widget.name === "steps")) continue;
      const steps = number(valueOf(node, "steps"));
      if (steps === undefined) return undefined;
      const start = number(valueOf(node, "start_at_step")) ?? 0;
      const end = number(valueOf(node, "end_at_step")) ?? Infinity;
      return Math.max(1, Math.min(end, steps || own.steps) - start);
    }
  }
  return undefined;
}

/** Forwards a step: 2 with classifier-free guidance. */
function batchOf(consumers, own) {
  if (own.guidance === 1 && consumers.some((node) => (node.type ?? node.comfyClass) === "AetherSampler")) return 1;
  for (const node of consumers) {
    const scale = number(valueOf(node, "cfg")) ?? number(valueOf(node, "guidance"));
    if (scale !== undefined) return (scale || own.guidance) === 1 ? 1 : 2;
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
 * @param {object} models cost.js MODELS
 * @returns {object} model (key of `models`), steps, batch, height, width, frames, bytes, and `assumed`: the names
 *   of what the graph does not say: "model", "otherModel", "steps", "task", "frames"
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
  if (steps === undefined) {
    steps = own.steps;
    assumed.push("steps");
  }
  if (!task && consumers.length) assumed.push("task");
  const defaults = models[model];
  const setting = (name) => (task ? number(valueOf(task.node, name)) : undefined);
  let frames = task ? framesOf(task.node, defaults.frames) : undefined;
  if (!frames) {
    frames = defaults.frames;
    if (task?.node.inputs?.some((input) => input.name === "video")) assumed.push("frames");
  }
  return {
    model,
    steps,
    batch: batchOf(consumers, own),
    height: setting("height") || defaults.height,
    width: setting("width") || defaults.width,
    frames,
    bytes: found.dtype === "fp32" ? 4 : defaults.bytes,
    bypassed: hero.mode === BYPASSED || hero.mode === MUTED,
    assumed,
  };
}
