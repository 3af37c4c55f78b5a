// Written by scripts/page_constants.py from Python: change it there, run that.

export const MODELS = Object.freeze({
  "aether": {
    "shape": {
      "blocks": 42,
      "width": 3072,
      "timeWidth": 512,
      "textTokens": 226,
      "textWidth": 4096,
      "inChannels": 96,
      "outChannels": 56,
      "patchSize": 2
    },
    "height": 480,
    "width": 720,
    "frames": 41,
    "bytes": 2
  },
  "miniature": {
    "shape": {
      "blocks": 12,
      "width": 160,
      "timeWidth": 64,
      "textTokens": 8,
      "textWidth": 64,
      "inChannels": 96,
      "outChannels": 56,
      "patchSize": 1
    },
    "height": 64,
    "width": 96,
    "frames": 17,
    "bytes": 4
  }
});

export const PRESETS = Object.freeze({
  "paper": {
    "tau": 0.5,
    "interval": 2,
    "ratio": 0.17,
    "threshold": 0.0,
    "warmup": "4",
    "cooldown": "0",
    "patch_frames": 1,
    "patch_rows": 2,
    "patch_columns": 3,
    "shallow": "reuse",
    "feedback": 0.0,
    "text": "omit"
  },
  "paper-fast": {
    "tau": 0.5,
    "interval": 3,
    "ratio": 0.17,
    "threshold": 0.0,
    "warmup": "20%",
    "cooldown": "0",
    "patch_frames": 1,
    "patch_rows": 2,
    "patch_columns": 3,
    "shallow": "reuse",
    "feedback": 0.0,
    "text": "omit"
  },
  "quality": {
    "tau": 0.25,
    "interval": 2,
    "ratio": 0.17,
    "threshold": 0.0,
    "warmup": "8%",
    "cooldown": "20%",
    "patch_frames": 1,
    "patch_rows": 2,
    "patch_columns": 3,
    "shallow": "forecast",
    "feedback": 1.0,
    "text": "omit"
  },
  "balanced": {
    "tau": 0.25,
    "interval": 2,
    "ratio": 0.17,
    "threshold": 0.0,
    "warmup": "5%",
    "cooldown": "10%",
    "patch_frames": 1,
    "patch_rows": 2,
    "patch_columns": 3,
    "shallow": "forecast",
    "feedback": 1.0,
    "text": "omit"
  },
  "fast": {
    "tau": 0.25,
    "interval": 4,
    "ratio": 0.17,
    "threshold": 0.0,
    "warmup": "6%",
    "cooldown": "10%",
    "patch_frames": 1,
    "patch_rows": 2,
    "patch_columns": 3,
    "shallow": "forecast",
    "feedback": 1.0,
    "text": "omit"
  }
});

export const ASSUMED = Object.freeze({
  "preset": "balanced",
  "tau": 0.25,
  "interval": 2,
  "ratio": 0.17,
  "threshold": 0.0,
  "warmup": "5%",
  "cooldown": "10%",
  "patch_frames": 1,
  "patch_rows": 2,
  "patch_columns": 3,
  "shallow": "forecast",
  "feedback": 1.0,
  "text": "omit",
  "storage": "model"
});

export const DEFAULTS = Object.freeze({
  "fora": {
    "interval": 2,
    "warmup": "4",
    "cooldown": "0"
  },
  "taylorseer": {
    "interval": 2,
    "warmup": "4",
    "cooldown": "0",
    "order": 1
  },
  "toca": {
    "interval": 2,
    "warmup": "4",
    "cooldown": "0",
    "ratio": 0.1,
    "taper": 0.0
  },
  "duca": {
    "interval": 3,
    "warmup": "4",
    "cooldown": "0",
    "ratio": 0.1,
    "taper": 0.0,
    "first": "toca"
  },
  "worldcache": {
    "interval": 3,
    "warmup": "10",
    "cooldown": "1"
  }
});
