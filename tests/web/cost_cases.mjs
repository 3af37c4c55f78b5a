// Reads cases as JSON from standard input, predicts each with web/cost.js, writes the answers as JSON.
import { pathToFileURL } from "node:url";

const { MODELS, PRESETS, clipShape, configOf, predict } = await import(pathToFileURL(process.argv[2]));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { cases, clips } = JSON.parse(Buffer.concat(chunks).toString());
const answer = ({ config, shape, steps, batch, elementBytes }) => {
  try {
    return predict(config, shape, steps, batch, elementBytes);
  } catch (error) {
    return { error: error.field };
  }
};
const presets = Object.fromEntries(Object.entries(PRESETS).map(([name, widgets]) => [name, configOf(widgets)]));
const shapes = clips.map(([name, height, width, frames]) => clipShape(MODELS[name].shape, height, width, frames));
console.log(JSON.stringify({ answers: cases.map(answer), presets, models: MODELS, shapes }));
