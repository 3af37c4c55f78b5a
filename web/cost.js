// FLOPs, memory and speed-up bound of HERO settings, before anything runs: the formula of hero_engine/cost/prediction.py.
// tests/web/test_cost_js.py holds the two together. A shape is the dimensions of a transformer in one call; its grid is
// (frames, rows, columns) of video tokens. No DOM and no ComfyUI in here.

/** A setting that cannot be; `field` names it. */
export class SettingError extends Error {
  constructor(field, reason) {
    super(`${field}: ${reason}`);
    this.field = field;
  }
}

/**
 * The shape of a call for a clip.
 * @param {object} model dimensions without a grid, such as MODELS.aether.shape in constants.js
 * @param {number} height @param {number} width of the clip in pixels @param {number} frames of the clip
 */
export function clipShape(model, height, width, frames) {
  const token = 8 * model.patchSize;
  const grid = [Math.floor((frames - 1) / 4) + 1, Math.floor(height / token), Math.floor(width / token)];
  return { ...model, grid };
}

/**
 * Settings as `predict` takes them, from the node's widgets.
 * @param {object} widgets values by widget name
 */
export function configOf(widgets) {
  return {
    tau: { share: [Number((100 * widgets.tau).toPrecision(10)), 100] },
    interval: widgets.interval,
    ratio: widgets.ratio,
    threshold: widgets.threshold,
    patch: [widgets.patch_frames, widgets.patch_rows, widgets.patch_columns],
    warmup: amountOf("warmup", widgets.warmup, 1),
    cooldown: amountOf("cooldown", widgets.cooldown, 0),
    context: widgets.context,
    forecast: widgets.forecast,
    text: widgets.text,
    shallow: widgets.shallow,
    storage: widgets.storage,
    feedback: widgets.feedback,
  };
}

/**
 * Which steps run in full, warm-up and cool-down in steps: a boolean for each step. `limit` gives the interval after
 * a full step, where it is not always the same.
 */
export function schedule({ interval, warmup, cooldown, limit = () => interval }, steps) {
  let last = -1;
  return Array.from({ length: steps }, (_, step) => {
    const full = step < warmup || step >= steps - cooldown || step - last >= limit(last);
    if (full) last = step;
    return full;
  });
}

/** Round half to even, as Python does. */
export function roundEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/**
 * A count or a share as the widgets have them, 4, "4", "5%" or "1/4", as `{count}` or `{share: [numerator,
 * denominator]}`: the grammar of hero_engine/amounts.py.
 * @throws {SettingError} anything else, a count below `low`, a share of nothing or of more than all
 */
export function amountOf(field, value, low) {
  const text = String(value).trim();
  if (/^[+-]?\d+$/.test(text) && Number(text) >= low) return { count: Number(text) };
  const percent = /^(\d+(?:\.\d*)?|\.\d+) *%$/.exec(text);
  const [, part, whole] = percent ? [text, percent[1], "100"] : (/^(\d+) *\/ *(\d+)$/.exec(text) ?? [text, "1", "0"]);
  const share = [Number(part), Number(whole)];
  if (share[0] > 0 && share[0] <= share[1]) return { share };
  if (share[0] === 0 && share[1] > 0 && low === 0) return { count: 0 };
  throw new SettingError(field, `“${text}” is neither steps (4) nor a share of them (5%)`);
}

/** `{count}` or `{share}` of `whole` as a count. */
export function countOf({ count, share }, whole) {
  return count ?? Math.max(1, roundEven((share[0] * whole) / share[1]));
}

const product = (values) => values.reduce((total, value) => total * value, 1);
export const videoTokens = (shape) => product(shape.grid);
export const allTokens = (shape) => videoTokens(shape) + shape.textTokens;

function resolve(config, shape, steps) {
  const volume = product(config.patch);
  const tokensPerPatch = Math.floor(config.ratio * volume + 0.5);
  if (tokensPerPatch < 1) {
    const least = (0.5 / volume).toPrecision(3);
    throw new SettingError("ratio", `less than half a token of a patch of ${volume}; use at least ${least}`);
  }
  if (config.patch.some((side, axis) => side > shape.grid[axis])) {
    throw new SettingError("patch", `${config.patch.join("x")} is larger than the ${shape.grid.join("x")} tokens`);
  }
  const tau = countOf(config.tau, shape.blocks);
  if (tau > shape.blocks) throw new SettingError("tau", `more than the model's ${shape.blocks} blocks`);
  const [warmup, cooldown] = [config.warmup, config.cooldown].map((amount) => countOf(amount, steps));
  return { tau, interval: config.interval, warmup, cooldown, tokensPerPatch };
}

function embeddingMultiplications(shape) {
  const patch = shape.patchSize ** 2;
  return (
    videoTokens(shape) * shape.width * patch * (shape.inChannels + shape.outChannels) +
    shape.textTokens * shape.textWidth * shape.width +
    shape.timeWidth * (shape.width + shape.timeWidth + 2 * shape.width)
  );
}

/** Of the linear layers, embeddings and output included, with `blocks` blocks over `tokens` tokens. */
export function linearFlops(shape, blocks, tokens) {
  const modulation = 2 * 6 * shape.width * shape.timeWidth;
  const perToken = 12 * shape.width * shape.width;
  return 2 * (blocks * (perToken * tokens + modulation) + embeddingMultiplications(shape));
}

function attentionFlops(shape, blocks, queries, keys) {
  return 4 * blocks * queries * keys * shape.width;
}

/** Of one full forward at batch 1, attention included. */
export function fullFlops(shape) {
  const tokens = allTokens(shape);
  return linearFlops(shape, shape.blocks, tokens) + attentionFlops(shape, shape.blocks, tokens, tokens);
}

function refreshedTokens(shape, config, counts) {
  const sides = (length, patch) => {
    const parts = [];
    for (let start = 0; start < length; start += patch) parts.push(Math.min(patch, length - start));
    return parts;
  };
  const [frames, rows, columns] = shape.grid.map((length, axis) => sides(length, config.patch[axis]));
  let tokens = 0;
  for (const a of frames)
    for (const b of rows) for (const c of columns) tokens += Math.min(counts.tokensPerPatch, a * b * c);
  return tokens;
}

function cachedBytes(shape, config, counts, batch, elementBytes) {
  const forecast = { linear: 2, quadratic: 3, fitted: 3 }[config.forecast];
  const shallow = config.shallow === "forecast" ? forecast : 1;
  const deep = counts.tau < shape.blocks ? forecast : 0;
  let tokens = (shallow + deep) * videoTokens(shape);
  if (config.context === "cached_kv") tokens += 2 * counts.tau * allTokens(shape);
  // In float8 a number is a byte, and every token has a scale.
  const bytes = config.storage === "float8" ? shape.width + elementBytes : shape.width * elementBytes;
  return (tokens * bytes + 4 * cleanNumbers(shape, config)) * batch;
}

/** Feedback keeps a clean latent of each step of an interval, in float32. */
function cleanNumbers(shape, config) {
  const latents = config.feedback && config.interval > 1 ? config.interval : 0;
  return latents * videoTokens(shape) * shape.outChannels * shape.patchSize ** 2;
}

/**
 * Predict a run with a fixed interval; with a threshold above 0 this is the fastest it can be.
 * @param {object} config see `configOf`; tau, warmup and cooldown are as `amountOf` gives them
 * @param {object} shape see `clipShape`
 * @param {number} steps @param {number} batch forwards a step (2 with guidance) @param {number} elementBytes
 * @throws {SettingError}
 */
export function predict(config, shape, steps, batch = 1, elementBytes = 2) {
  const counts = resolve(config, shape, steps);
  const strip = schedule(counts, steps);
  const full = strip.filter(Boolean).length;
  const cached = steps - full;
  const tokens = refreshedTokens(shape, config, counts) + (config.text === "refresh" ? shape.textTokens : 0);
  const keys = config.context === "cached_kv" ? allTokens(shape) : tokens;
  const linearFull = linearFlops(shape, shape.blocks, allTokens(shape));
  const linearCached = linearFlops(shape, counts.tau, tokens);
  const whole = fullFlops(shape);
  const part = linearCached + attentionFlops(shape, counts.tau, tokens, keys);
  return {
    steps,
    fullSteps: full,
    cachedSteps: cached,
    strip,
    tau: counts.tau,
    cachedShare: part / whole,
    linearFlops: batch * (full * linearFull + cached * linearCached),
    unacceleratedLinearFlops: batch * steps * linearFull,
    flops: batch * (full * whole + cached * part),
    unacceleratedFlops: batch * steps * whole,
    cachedBytes: cachedBytes(shape, config, counts, batch, elementBytes),
    speedupBound: steps / (full + (cached * part) / whole),
  };
}
