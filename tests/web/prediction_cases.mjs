// Writes what web/predictions.js and web/content.js do with answers of a server. The folder of the scripts is given; a
// stub stands for ComfyUI's own.
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`));
const [{ Predictor, askServer }, { describeError, describeRun, heroNotes }, { currentWords }] = await Promise.all(
  ["predictions", "content", "text"].map(load),
);
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** A server that answers when it is let go: {requests, release(answer)}. */
function slowServer() {
  const requests = [];
  let release;
  const ask = (request) => {
    requests.push(request.n);
    return new Promise((done) => {
      release = (answer) => done(answer);
    });
  };
  return { requests, ask, release: (answer) => release(answer) };
}

const asked = (n, words = "") => ({ request: { n }, words });

/** A slider moves over 1, 2, 3 while the first question is under way. */
async function dragging() {
  const server = slowServer();
  const shown = [];
  const predictor = new Predictor(server.ask, () => shown.push(predictor.newest(now).answer.n));
  let now = asked(1);
  const first = predictor.newest(now);
  for (const n of [2, 3]) predictor.newest((now = asked(n)));
  server.release({ n: 1 });
  await wait(150);
  const meanwhile = predictor.newest(now).answer.n;
  server.release({ n: 3 });
  await wait(150);
  const words = predictor.newest(asked(3, "new")).asked.words; // the same question, asked of the graph anew
  await wait(150);
  return { first, requests: server.requests, meanwhile, shown, words };
}

/** A question fails; it is asked again, but not at once. */
async function failing() {
  let asks = 0;
  const predictor = new Predictor(() => Promise.resolve(++asks < 2 ? { failed: true } : { n: 1 }), () => {});
  predictor.newest(asked(1));
  await wait(150);
  const failed = predictor.newest(asked(1)).answer;
  const before = asks;
  const { now } = Date;
  Date.now = () => now() + 60000;
  predictor.newest(asked(1));
  await wait(150);
  Date.now = now;
  return { failed, before, after: predictor.newest(asked(1)).answer };
}

/** What was answered is asked once more; the old answer stays meanwhile. */
async function askedAgain() {
  let asks = 0;
  const predictor = new Predictor(() => Promise.resolve({ n: ++asks }), () => {});
  predictor.newest(asked(1));
  await wait(150);
  const before = predictor.newest(asked(1)).answer;
  predictor.forget();
  const meanwhile = predictor.newest(asked(1)).answer;
  await wait(150);
  return { before, meanwhile, after: predictor.newest(asked(1)).answer, asks };
}

async function servers() {
  const sent = [];
  const answering = (answer) => ({ fetchApi: async (url, options) => (sent.push([url, options.body]), answer) });
  const fine = await askServer(answering({ ok: true, json: async () => ({ steps: 4 }) }), { node: "HeroPatch" });
  const refused = await askServer(answering({ ok: false, json: async () => ({ error: {} }) }), {});
  const gone = await askServer({ fetchApi: () => Promise.reject(new Error("offline")) }, {});
  return { fine, refused, gone, sent: sent[0] };
}

const ANSWER = {
  steps: 50, fullSteps: 28, cachedSteps: 22, strip: [true, false], speedupBound: 1.7395, cachedBytes: 2.9e6,
  interval: 2, tau: "25%", mask: "", adaptive: false, blocks: 12, model: "miniature", height: 64, width: 96, frames: 17, settings: {},
  unknownModel: false, unmeasured: false, addsNoise: false,
};
const RUN = { bypassed: false, assumed: [], guided: true, numbers: { steps: 50 } };

/** What a panel says in a language. */
function said(locale, answer = {}, run = {}, report = null, more = {}) {
  globalThis.locale = locale;
  const text = currentWords();
  const extra = { bypassed: text.bypassed(), notes: ["", false], decides: text.adaptive, assumed: [], ...more };
  return describeRun(text, { ...RUN, ...run }, { ...ANSWER, ...answer }, report, extra);
}

const REPORT = { full: 6, cached: 4, speedup: 1.5, bytes: 3e6 };
const SHORT = { steps: 8, fullSteps: 5, cachedSteps: 3 };
const known = (error, spread = null) => ({ accuracy: { error, spread, why: null, known: {}, wanted: {} } });
const unknown = (why, of = {}, wanted = {}) => ({
  accuracy: { error: null, spread: null, why, known: of, wanted },
});
const CASES = {
  plain: [],
  short: [SHORT],
  half: [{ steps: 4, fullSteps: 2, cachedSteps: 2 }],
  adaptive: [{ adaptive: true }],
  unmeasured: [{ unmeasured: true, model: "WAN21_T2V" }],
  noisy: [{ addsNoise: true }],
  noisyKnown: [{ ...known(0.01), addsNoise: true }],
  noisyMask: [{ ...unknown("model"), addsNoise: true }, {}, null, { notes: ["The mask decides."] }],
  noisyFull: [{ addsNoise: true, interval: 1, fullSteps: 50, cachedSteps: 0 }],
  unknown: [{ unknownModel: true, model: "aether" }],
  noInterval: [{ interval: 1, fullSteps: 50, cachedSteps: 0, unmeasured: true }],
  allWarmup: [{ steps: 4, fullSteps: 4, cachedSteps: 0 }],
  maskOfOnes: [{ mask: "8 of 8: 11111111", interval: 1, steps: 8, fullSteps: 8, cachedSteps: 0 }],
  noneWithMask: [{ mask: "1 of 2: 10" }, {}, { full: 6, cached: 0, speedup: 1, bytes: 0 }],
  unknownWires: [{}, { assumed: ["tau", "setting"] }],
  bypassed: [{}, { bypassed: true }],
  off: [{ interval: 1, fullSteps: 50, cachedSteps: 0 }, { bypassed: true }, REPORT, { off: true }],
  assumed: [{}, { assumed: ["model", "steps", "wiredSteps", "guidance", "task", "frames"] }],
  reported: [{}, {}, REPORT],
  reusedNothing: [{}, {}, { ...REPORT, cached: 0 }],
  measured: [{}, {}, { ...REPORT, error: 0.00567 }],
  error: [{ ...known(0.00567), unmeasured: true }],
  largeError: [known(0.0173)],
  errorWithin: [{ ...known(0.00567, 1.437), unmeasured: true }],
  largeSpread: [known(0.0173, 23.4)],
  smallSpread: [known(0.0173, 1.001)],
  tinyError: [known(3e-6), {}, { ...REPORT, error: 3e-6 }],
  noRecording: [{ ...unknown("model"), unmeasured: true }],
  otherRun: [unknown("run", { steps: 50, size: [96, 64, 17] }, { steps: 20, size: [96, 64, 9] })],
  otherSampler: [unknown("run", { sampler: "dpm" }, { sampler: "" })],
  otherSetting: [unknown("setting")],
  bypassedError: [known(0.01, 2), { bypassed: true }],
  bypassedNoRecording: [unknown("model"), { bypassed: true }],
};

const MASKED = { ...ANSWER, mask: "4 of 7: 1110100" };
const WIRED = {
  nothing: [{}, ANSWER],
  mask: [{}, MASKED],
  setting: [{ setting: "mask=1110100" }, MASKED],
  both: [{ setting: "tau=25%", tau_blocks: 5 }, ANSWER],
};

/** What a panel says of HERO Patch's sockets and mask. */
const notes = (locale) => {
  globalThis.locale = locale;
  const said = (wired) => heroNotes(currentWords(), ...wired).filter(Boolean).join(" ");
  return Object.fromEntries(Object.entries(WIRED).map(([name, wired]) => [name, said(wired)]));
};

const words = (locale) => {
  globalThis.locale = locale;
  const text = currentWords();
  return {
    ...Object.fromEntries(Object.entries(CASES).map(([name, values]) => [name, said(locale, ...values)])),
    wrong: describeError(text, { field: "patch", reason: "is too large" }),
    silent: describeError(text),
  };
};

console.log(
  JSON.stringify({
    dragging: await dragging(),
    failing: await failing(),
    askedAgain: await askedAgain(),
    servers: await servers(),
    en: words("en"),
    zh: words("zh"),
    notes: { en: notes("en"), zh: notes("zh") },
  }),
);
