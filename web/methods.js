// FLOPs, memory and speed-up bound of the methods that HERO is compared with: the formulas of
// hero_engine/baselines/config.py. tests/web/test_cost_js.py holds the two together. No DOM and no ComfyUI in here.

import { allTokens, amountOf, countOf, fullFlops, linearFlops, roundEven, schedule, videoTokens } from "./cost.js";

/** Numbers of `copies` times the two outputs of every block. */
const outputs = (shape, copies) => copies * 2 * shape.blocks * allTokens(shape) * shape.width;
/** What runs of blocks whose outputs are forecast: their modulation by the timestep. */
const modulation = (shape) => linearFlops(shape, shape.blocks, 0);

function tocaFlops(shape, { ratio }) {
  const fresh = Math.floor(ratio * videoTokens(shape)) + Math.floor(ratio * shape.textTokens);
  return modulation(shape) + 16 * shape.blocks * shape.width ** 2 * fresh;
}

function ducaFlops(shape, settings, age) {
  const aggressive = (age % 2 === 0) === (settings.first === "toca");
  return aggressive ? linearFlops(shape, 0, 0) : tocaFlops(shape, settings);
}

/** FLOPs of a cached step `age` steps after a full one, and numbers that are cached, at batch 1. */
const METHODS = {
  fora: { flops: modulation, numbers: (shape) => outputs(shape, 1) },
  taylorseer: { flops: modulation, numbers: (shape, { order }) => outputs(shape, order + 1) },
  toca: { flops: tocaFlops, numbers: (shape) => outputs(shape, 1) },
  duca: { flops: ducaFlops, numbers: (shape) => outputs(shape, 1) + videoTokens(shape) * shape.width },
  worldcache: {
    flops: () => 0,
    numbers: (shape) => 3 * videoTokens(shape) * shape.patchSize ** 2 * shape.outChannels,
    leastWarmup: 3,
  },
};

/**
 * Predict a run; where an estimated error decides (worldcache), the fastest it can be.
 * @param {string} name a key of DEFAULTS in constants.js @param {object} settings all of its settings there
 * @param {object} shape see `clipShape` in cost.js
 * @param {number} steps @param {number} batch forwards a step (2 with guidance) @param {number} elementBytes
 * @throws {SettingError}
 */
export function predictMethod(name, settings, shape, steps, batch = 1, elementBytes = 2) {
  const method = METHODS[name];
  const { interval, taper = 0 } = settings;
  const least = method.leastWarmup ?? 1;
  const warmup = Math.max(least, countOf(amountOf("warmup", settings.warmup, least), steps));
  const cooldown = countOf(amountOf("cooldown", settings.cooldown, 0), steps);
  const limit = (last) => Math.max(1, roundEven(interval / (1 - taper + (2 * taper * last) / steps)));
  const strip = schedule({ interval, warmup, cooldown, limit }, steps);
  const whole = fullFlops(shape);
  let [flops, age] = [0, 0];
  for (const full of strip) {
    age = full ? 0 : age + 1;
    flops += full ? whole : method.flops(shape, settings, age);
  }
  const fullSteps = strip.filter(Boolean).length;
  return {
    steps,
    fullSteps,
    cachedSteps: steps - fullSteps,
    strip,
    cachedBytes: batch * elementBytes * method.numbers(shape, settings),
    speedupBound: (steps * whole) / flops,
  };
}
