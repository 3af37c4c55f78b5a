// What a panel says: {mood, bound, error, steps, memory, last, note, strip}. No DOM in here.

import { factorText, percentText, roughPercentText, sizeText } from "./text.js";

const SHORT_RUN = 12; // steps, as distilled models and their LoRAs take

/** Why no step would be reused, or undefined where some are. */
function emptyReason(text, answer) {
  if (answer.cachedSteps > 0) return undefined;
  if (answer.mask) return text.maskOfOnes(answer);
  if (answer.interval <= 1) return text.intervalOne();
  return text.warmupTakesAll(answer);
}

/** Whether most of a run's few steps are full. */
const isShort = ({ steps, fullSteps }) => steps <= SHORT_RUN && 2 * fullSteps > steps;

function reportText(text, report) {
  if (report.cached === 0) return text.reusedNothing();
  const speedup = Number(report.speedup).toFixed(2);
  const said = { full: report.full, cached: report.cached, speedup };
  if (report.error != null) return text.lastRunMeasured({ ...said, error: percentText(report.error) });
  return text.lastRun({ ...said, size: sizeText(report.bytes) });
}

/**
 * The predicted error, as a short text beside the speed, and a sentence on how far it may be off; or, where it is not
 * known, one on why.
 */
function accuracyText(text, accuracy) {
  if (!accuracy) return {};
  if (accuracy.why) return { why: text.errorUnknown[accuracy.why](accuracy) };
  return {
    error: text.aboutError({ error: roughPercentText(accuracy.error) }),
    spread: accuracy.spread != null && text.errorWithin({ factor: factorText(accuracy.spread) }),
  };
}

const EMPTY = { error: "", steps: "", memory: "", last: "", strip: [] };

/** Where the settings cannot run, `error` being {field, reason}; or where nobody answers, without one. */
export function describeError(text, error) {
  if (!error) return { ...EMPTY, mood: "warning", bound: text.noPrediction(), note: text.noAnswer() };
  const note = text.invalid({ reason: `${error.field}: ${error.reason}` });
  return { ...EMPTY, mood: "error", bound: text.none(), note };
}

/**
 * What decides in place of HERO Patch's rows.
 * @param {object} wired what is known to come into its sockets: tau_blocks, setting
 */
export function heroNotes(text, wired, answer) {
  return [
    wired.setting !== undefined ? text.wiredSetting() : answer.mask && text.maskDecides(answer),
    wired.tau_blocks !== undefined && text.wiredTau({ tau: wired.tau_blocks, blocks: answer.blocks }),
  ];
}

/** What the graph does not say and the server assumed of the run. */
function assumptions(text, run, answer) {
  const names = [...run.assumed, ...(answer.unknownModel ? ["otherModel"] : [])];
  return names.map((name) => text.assumptions[name]({ ...run, ...answer }));
}

/**
 * For a prediction.
 * @param {object} text see `currentWords` @param {object} run see `findRun`
 * @param {object} answer see `answer` in nodes/prediction.py
 * @param {object} report of the last run, null where there was none
 * @param {object} extra bypassed: the sentence where the node is off; off: whether its preset says so; notes: sentences,
 *   or falsy ones; decides: the sentence on what may make more steps full; assumed: what else was assumed
 */
export function describeRun(text, run, answer, report, extra) {
  const empty = extra.off ? undefined : emptyReason(text, answer);
  const none = empty || extra.off;
  const accuracy = accuracyText(text, run.bypassed ? null : answer.accuracy);
  const assumed = [...extra.assumed, ...assumptions(text, run, answer)];
  const notes = [
    empty || (!extra.off && report?.cached === 0 && text.reusedNothingAdvice(answer)),
    accuracy.why,
    accuracy.spread,
    ...extra.notes,
    !none && isShort(answer) && text.shortRun(answer),
    !empty && answer.adaptive && extra.decides(answer),
    answer.unmeasured && !answer.accuracy && text.unmeasured(),
    assumed.length > 0 && text.assumed({ list: assumed.join(", ") }),
  ].filter(Boolean);
  const isNoisy = answer.addsNoise && !none && !accuracy.error;
  // There is room for a few lines, and what somebody has set comes first.
  if (isNoisy && notes.length <= 1) notes.push(text.addsNoise());
  const warning = empty || report?.cached === 0;
  const made = { ...answer, model: text.models[answer.model] ?? answer.model };
  return {
    mood: run.bypassed ? "off" : warning ? "warning" : "",
    bound: run.bypassed ? extra.bypassed : empty ? text.none() : text.bound({ x: answer.speedupBound.toFixed(2) }),
    error: accuracy.error ?? "",
    steps: run.bypassed && !extra.off ? text.stepsIfOn(answer) : text.steps(answer),
    memory: none ? text.clip(made) : text.memory({ ...made, size: sizeText(answer.cachedBytes) }),
    last: report && !extra.off ? reportText(text, report) : "",
    note: notes.join(" "),
    strip: answer.strip,
  };
}
