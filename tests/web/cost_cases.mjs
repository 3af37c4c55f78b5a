// Reads cases as JSON from standard input, predicts each with web/cost.js, those with a method with web/methods.js,
// writes the answers as JSON.
import { pathToFileURL } from "node:url";

const { amountOf, clipShape, configOf, predict } = await import(pathToFileURL(process.argv[2]));
const { predictMethod } = await import(new URL("methods.js", pathToFileURL(process.argv[2])));
const { DEFAULTS, MODELS, PRESETS } = await import(new URL("constants.js", pathToFileURL(process.argv[2])));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { cases, clips, amounts } = JSON.parse(Buffer.concat(chunks).toString());
const answer = ({ method, config, shape, steps, batch, elementBytes }) => {
  try {
    if (method) return predictMethod(method, { ...DEFAULTS[method], ...config }, shape, steps, batch, elementBytes);
    return predict(config, shape, steps, batch, elementBytes);
  } catch (error) {
    return { error: error.field };
  }
};
const read = (values) => {
  try {
    return amountOf(...values);
  } catch (error) {
    return { error: error.field };
  }
};
const presets = Object.fromEntries(Object.entries(PRESETS).map(([name, widgets]) => [name, configOf({ storage: "model", ...widgets })]));
const shapes = clips.map(([name, height, width, frames]) => clipShape(MODELS[name].shape, height, width, frames));
console.log(JSON.stringify({ answers: cases.map(answer), presets, models: MODELS, shapes, defaults: DEFAULTS, amounts: amounts.map(read) }));
