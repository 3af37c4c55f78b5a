// What runs reported of their nodes, kept by the workflow that was run. When a run ends, another workflow may be on the
// canvas, in which the same ids are other nodes; and undo makes a workflow's nodes anew. No DOM and no ComfyUI in here.

const REMEMBERED = 1000;

/** Prompt id -> the workflow that it was queued from; the oldest come first. */
const queued = new Map();

/** Remember which workflow a prompt was queued from. */
export function remember(prompt, workflow) {
  queued.set(prompt, workflow);
  if (queued.size > REMEMBERED) queued.delete(queued.keys().next().value);
}

/** The last value that runs gave for each node, by workflow. */
export class LastValues {
  #values = new WeakMap();

  /** @param {function} open gives the workflow on the canvas @param {function} nodeById finds a node in there */
  constructor(open, nodeById) {
    this.open = open;
    this.nodeById = nodeById;
  }

  /** Keep a value for an execution id. A prompt that this page did not queue counts as the open workflow's. */
  keep(prompt, id, value) {
    const workflow = queued.get(prompt) ?? this.open();
    if (!workflow) return;
    const values = this.#values.get(workflow) ?? new Map();
    this.#values.set(workflow, values);
    values.delete(String(id)); // the newest come last
    values.set(String(id), value);
  }

  /** The last value of a node on the canvas; undefined if there is none. */
  of(node) {
    const found = [...(this.#values.get(this.open()) ?? [])].filter(([id]) => this.nodeById(id) === node);
    return found.at(-1)?.[1];
  }
}
