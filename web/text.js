// The words of the live predictions and of the button for further settings, in English and Chinese.

import { app } from "../../scripts/app.js";

const ENGLISH = {
  models: { aether: "Aether", miniature: "Aether Miniature" },
  settings: (open) => (open ? "Fewer settings" : "More settings"),
  automatic: ({ value }) => (value == null ? "(auto)" : `(auto: ${value})`),
  bound: ({ x }) => `up to ${x}× faster`,
  none: () => "no speed-up",
  bypassed: () => "HERO is off",
  methodOff: () => "The method is off",
  steps: ({ fullSteps, cachedSteps, steps }) => `${fullSteps} full + ${cachedSteps} cached of ${steps} steps`,
  stepsIfOn: ({ fullSteps, cachedSteps, steps }) => `If on: ${fullSteps} full + ${cachedSteps} cached of ${steps} steps`,
  clip: ({ model, width, height, frames }) => `${model} ${width}×${height}×${frames}`,
  memory: ({ size, ...clip }) => `${size} of cache · ${ENGLISH.clip(clip)}`,
  adaptive: ({ fullSteps }) => `Drift decides: at least ${fullSteps} full steps, more where the picture changes fast.`,
  errorDecides: ({ fullSteps }) =>
    `The estimated error decides: at least ${fullSteps} full steps, more where it grows fast.`,
  shortRun: ({ cachedSteps, steps }) =>
    `Only ${cachedSteps} of ${steps} steps can be reused: a run this short gains little.`,
  unmeasured: () => "Quality has not been measured on this model.",
  addsNoise: () => "This sampler adds noise: the clip may come out differently.",
  invalid: ({ reason }) => `Cannot run: ${reason}`,
  noPrediction: () => "no prediction",
  noAnswer: () => "ComfyUI's server does not answer. If this persists, restart ComfyUI.",
  assumed: ({ list }) => `Assuming ${list}.`,
  assumptions: {
    model: () => "Aether (connect a model)",
    otherModel: () => "an Aether-sized model",
    steps: ({ steps }) => `${steps} steps (connect a sampler)`,
    wiredSteps: ({ steps }) => `${steps} steps (what is wired to steps is not known yet)`,
    guidance: ({ guided }) => (guided ? "guidance" : "no guidance"),
    task: ({ width, height, frames }) => `a clip of ${width}×${height}×${frames}`,
    frames: ({ frames }) => `${frames} frames`,
    tau: ({ tau }) => `tau ${tau} (the node wired to tau blocks has not run)`,
    setting: () => "this node's own settings (the node wired to setting has not run)",
    row: ({ name, value }) => `${name} ${value}`,
  },
  presetWins: ({ preset, list }) => `Preset ${preset} wins, not used: ${list}. Choose custom to use what comes in.`,
  wiredTau: ({ tau, blocks }) => `Wired tau: ${tau} of ${blocks} blocks.`,
  wiredSetting: () => "The wired setting decides: of this node's rows only storage and seed count.",
  maskDecides: () => "The mask decides which steps are full: interval, warm-up and cool-down are not used.",
  maskOfOnes: ({ steps }) =>
    `Nothing to reuse: the mask makes all ${steps} steps full. Put a 0 where a step may be reused, or use more steps.`,
  warmupTakesAll: ({ steps }) =>
    `Nothing to reuse: warm-up and cool-down take all ${steps} steps. Use more steps, or shorten these.`,
  intervalOne: () => "Nothing to reuse: with interval 1 every step is full. Use 2 or more.",
  aboutError: ({ error }) => `about ${error} error`,
  errorWithin: ({ factor }) => `Predicted errors are within a factor of ${factor} on average.`,
  errorUnknown: {
    model: () => "Error: not known for this model, run HERO Tuner.",
    run: ({ known, wanted }) =>
      `Error: known for ${runText(known, ENGLISH)}, run HERO Tuner for ${runText(wanted, ENGLISH)}.`,
    setting: () => "Error: cannot be predicted for these settings.",
  },
  runParts: {
    steps: (steps) => `${steps} steps`,
    sampler: (name) => name || "your sampler",
    size: ([width, height, frames]) => `${width}×${height}×${frames}`,
  },
  lastRun: ({ full, cached, speedup, size }) => `Last run: ${full} full / ${cached} cached, ${speedup}×, ${size}`,
  lastRunMeasured: ({ full, cached, speedup, error }) =>
    `Last run: ${full} + ${cached} steps, ${speedup}×, ${error} error`,
  reusedNothing: () => "Last run reused nothing.",
  reusedNothingAdvice: ({ mask }) =>
    mask
      ? "Put more 0s into the mask, raise the threshold, or use more steps."
      : "Raise the interval or the threshold, shorten warm-up and cool-down, or use more steps.",
  unknownPreset: ({ preset }) => `Preset “${preset}” is newer than this page: reload the browser.`,
  tuner: {
    button: () => "Write into HERO Patch",
    notRun: () => "Nothing to write yet: run the workflow first.",
    noPatch: () => "No HERO Patch to write into: connect setting to one, or put one on the same model.",
    written: ({ count }) =>
      `Written into ${count === 1 ? "HERO Patch" : `${count} HERO Patch nodes`}. The wire from setting is no longer needed.`,
  },
};

const CHINESE = {
  models: { aether: "Aether", miniature: "Aether 微型模型" },
  settings: (open) => (open ? "收起设置" : "更多设置"),
  automatic: ({ value }) => (value == null ? "（自动）" : `（自动：${value}）`),
  bound: ({ x }) => `最多加速 ${x}×`,
  none: () => "没有加速",
  bypassed: () => "HERO 已关闭",
  methodOff: () => "该方法已关闭",
  steps: ({ fullSteps, cachedSteps, steps }) => `共 ${steps} 步：${fullSteps} 步完整 + ${cachedSteps} 步缓存`,
  stepsIfOn: ({ fullSteps, cachedSteps, steps }) => `启用后：共 ${steps} 步，${fullSteps} 步完整 + ${cachedSteps} 步缓存`,
  clip: ENGLISH.clip,
  memory: ({ size, ...clip }) => `缓存 ${size} · ${ENGLISH.clip(clip)}`,
  adaptive: ({ fullSteps }) => `由漂移决定：至少 ${fullSteps} 步完整，画面变化快时更多。`,
  errorDecides: ({ fullSteps }) => `由估计误差决定：至少 ${fullSteps} 步完整，误差增长快时更多。`,
  shortRun: ({ cachedSteps, steps }) => `${steps} 步中只有 ${cachedSteps} 步可以复用：步数这么少，加速有限。`,
  unmeasured: () => "尚未在此模型上测量质量。",
  addsNoise: () => "此采样器会加噪声：生成的视频可能不同。",
  invalid: ({ reason }) => `无法运行：${reason}`,
  noPrediction: () => "无法预测",
  noAnswer: () => "ComfyUI 服务器没有响应。如果一直如此，请重启 ComfyUI。",
  assumed: ({ list }) => `假定：${list}。`,
  assumptions: {
    model: () => "Aether（请连接模型）",
    otherModel: () => "与 Aether 同样大小的模型",
    steps: ({ steps }) => `${steps} 步（请连接采样器）`,
    wiredSteps: ({ steps }) => `${steps} 步（尚不知道连入的步数）`,
    guidance: ({ guided }) => (guided ? "有引导" : "无引导"),
    task: ({ width, height, frames }) => `片段为 ${width}×${height}×${frames}`,
    frames: ({ frames }) => `${frames} 帧`,
    tau: ({ tau }) => `tau 为 ${tau}（接到 tau 层数的节点尚未运行）`,
    setting: () => "本节点自己的设置（接到整套设置的节点尚未运行）",
    row: ({ name, value }) => `${name} 为 ${value}`,
  },
  presetWins: ({ preset, list }) => `预设 ${preset} 优先，未使用：${list}。要使用连入的值，请选 custom。`,
  wiredTau: ({ tau, blocks }) => `按连线，tau 为 ${blocks} 层中的 ${tau} 层。`,
  wiredSetting: () => "由接入的整套设置决定：本节点的各项中只有存放和种子有效。",
  maskDecides: () => "由步掩码决定哪些步完整计算：不使用间隔、预热和收尾。",
  maskOfOnes: ({ steps }) =>
    `没有可复用的步：步掩码使全部 ${steps} 步完整计算。请在可复用的步处填 0，或增加步数。`,
  warmupTakesAll: ({ steps }) => `没有可复用的步：预热和收尾占满了全部 ${steps} 步。请增加步数或缩短预热、收尾。`,
  intervalOne: () => "没有可复用的步：间隔为 1 时每步都完整计算。请用 2 或更大。",
  aboutError: ({ error }) => `误差约 ${error}`,
  errorWithin: ({ factor }) => `预测的误差平均在 ${factor} 倍以内。`,
  errorUnknown: {
    model: () => "误差：此模型的误差未知，请运行 HERO 调优。",
    run: ({ known, wanted }) =>
      `误差：已知的是 ${runText(known, CHINESE)}，请为 ${runText(wanted, CHINESE)} 运行 HERO 调优。`,
    setting: () => "误差：无法预测这些设置的误差。",
  },
  runParts: {
    steps: (steps) => `${steps} 步`,
    sampler: (name) => name || "所用的采样器",
    size: ([width, height, frames]) => `${width}×${height}×${frames}`,
  },
  lastRun: ({ full, cached, speedup, size }) => `上次运行：${full} 步完整 / ${cached} 步缓存，${speedup}×，${size}`,
  lastRunMeasured: ({ full, cached, speedup, error }) =>
    `上次运行：${full} + ${cached} 步，${speedup}×，误差 ${error}`,
  reusedNothing: () => "上次运行没有复用任何步。",
  reusedNothingAdvice: ({ mask }) =>
    mask ? "请在步掩码中多填 0、增大阈值，或增加步数。" : "请增大间隔或阈值，缩短预热和收尾，或增加步数。",
  unknownPreset: ({ preset }) => `预设“${preset}”比本页面新：请刷新浏览器。`,
  tuner: {
    button: () => "写入 HERO 加速",
    notRun: () => "还没有可写入的设置：请先运行工作流。",
    noPatch: () => "没有可写入的 HERO 加速：请把“设置”接到一个 HERO 加速，或在同一模型上放一个。",
    written: ({ count }) => `已写入 ${count} 个 HERO 加速节点。不再需要“设置”的连线。`,
  },
};

/** What a recording is of, or should be: see `PredictedError` in nodes/bridge/recordings.py. */
function runText(run, words) {
  return Object.entries(run).map(([name, value]) => words.runParts[name](value)).join(", ");
}

/** The words of the language that ComfyUI shows, such as "en" or "zh-TW". */
export function currentWords() {
  const locale = app.extensionManager?.setting?.get("Comfy.Locale");
  return String(locale ?? "").startsWith("zh") ? CHINESE : ENGLISH;
}

/** Bytes as people read them: "0.55 GB", "3.4 MB". */
export function sizeText(bytes) {
  if (bytes >= 1e8) return `${(bytes / 1e9).toFixed(2)} GB`;
  if (bytes >= 1e5) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${Math.ceil(bytes / 1e3)} kB`;
}

const LEAST_PERCENT = 0.01; // what is smaller is not told apart

/** A measured relative error: "0.57 %"; `percent` in hero_engine/relative_error.py writes it alike. */
export function percentText(error) {
  const value = 100 * error;
  if (value > 0 && value < LEAST_PERCENT) return `<${LEAST_PERCENT} %`;
  return `${value.toFixed(value < 1 ? 2 : 1)} %`;
}

/** A predicted one: a digit below 1 %, two above. */
export function roughPercentText(error) {
  const value = Math.max(100 * error, LEAST_PERCENT);
  return `${Number(value.toPrecision(value < 1 ? 1 : 2))} %`;
}

const LEAST_FACTOR = 1.1; // what is nearer to 1 rests on few runs

/** By how much predictions are off: "1.4". */
export function factorText(factor) {
  return String(Number(Math.max(factor, LEAST_FACTOR).toPrecision(2)));
}
