// Reads {workflows: {name: json}, nodes} from standard input, rebuilds each graph as LiteGraph would hold it, and
// writes what web/graph.js finds for its HERO Patch nodes.
import { pathToFileURL } from "node:url";

const { findRun } = await import(pathToFileURL(process.argv[2]));

/** Names of a node's widgets: ours are listed; core's are its inputs with a widget, seeds with their control. */
function widgetNames(node, known) {
  if (known) return known.widgets;
  const names = node.inputs.filter((input) => input.widget).map((input) => input.widget.name);
  const controlled = (name) => ["seed", "noise_seed"].includes(name);
  return names.flatMap((name) => (controlled(name) ? [name, "control_after_generate"] : [name]));
}

function graphOf(workflow, nodes) {
  const graph = { nodes: [] };
  const links = new Map(
    workflow.links.map(([id, origin_id, origin_slot, target_id, target_slot]) => [
      id,
      { origin_id, origin_slot, target_id, target_slot },
    ]),
  );
  graph.getLink = (id) => links.get(id);
  graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id);
  for (const node of workflow.nodes) {
    const names = widgetNames(node, nodes[node.type]);
    const widgets = names.map((name, index) => ({ name, value: node.widgets_values?.[index] }));
    graph.nodes.push({ ...node, graph, widgets });
  }
  return graph;
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { workflows, nodes } = JSON.parse(Buffer.concat(chunks).toString());
const answers = Object.entries(workflows).map(([name, workflow]) => [
  name,
  graphOf(workflow, nodes).nodes.filter((node) => node.type === "HeroPatch").map(findRun),
]);
console.log(JSON.stringify(Object.fromEntries(answers)));
