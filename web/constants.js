// Written by scripts/page_constants.py from Python: change it there, run that.

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
    "text": "omit",
    "mask": ""
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
    "text": "omit",
    "mask": ""
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
    "text": "omit",
    "mask": ""
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
    "text": "omit",
    "mask": ""
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
    "text": "omit",
    "mask": ""
  }
});
