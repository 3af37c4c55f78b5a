"""Put known bugs of caching packs back in, one at a time, and see whether the tests notice.

    python scripts/mutations.py [NAME ...]

Works on a copy of the repository in a temporary folder. Fails where a bug is not noticed, where the tests
fail without it, or where the code it is planted in has changed so that its patch no longer applies: then mend
the patch here. Those in the nodes need ComfyUI, and its requirements in this Python (see tests/comfy).
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FEEDBACK = "tests/hero_engine/test_feedback.py"
SESSION = "tests/hero_engine/test_session.py"
ENGINE = "tests/reliability/test_engine.py"
# Forked for every run from a process that has imported what takes long and is not ours.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["torch", "diffusers.models.transformers.cogvideox_transformer_3d", "pytest"]


@dataclass(frozen=True)
class Mutation:
    """A bug: `old`, which stands once in `file`, becomes `new`; `tests` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    needs: str = "torch"


MUTATIONS = (
    Mutation(
        "state kept across runs",
        "hero_engine/run.py",
        "current.over or timestep > current.clock.timestep or",
        "current.over or",
        (f"{SESSION}::test_a_second_pass_in_one_session_equals_the_first",),
    ),
    Mutation(
        "a run goes on with what one cached that was stopped in its first step",
        "hero_engine/run.py",
        "return latent.shape != other.shape or not torch.equal(latent, other)",
        "return False",
        (f"{SESSION}::test_what_a_run_cached_that_was_stopped_in_its_first_step_is_not_used",),
    ),
    Mutation(
        "a pass keeps the schedule of the one before",
        "hero_engine/run.py",
        "return _Pass(counts, StepClock(self.config.schedule(counts)))",
        'return _Pass(counts, vars(self).setdefault("_clock", StepClock(self.config.schedule(counts))))',
        (f"{SESSION}::test_a_second_pass_in_one_session_equals_the_first",),
    ),
    Mutation(
        "a reset keeps the random stream",
        "hero_engine/hero/steps.py",
        "        self._draws.clear()\n",
        "        pass\n",
        (f"{SESSION}::test_a_second_pass_in_one_session_equals_the_first",),
    ),
    Mutation(
        "a cached tensor is handed out and written to",
        "hero_engine/hero/residuals.py",
        "stream.add_(self._value.read()) if in_place else stream + self._value.read()",
        "self._value.read().add_(stream)",
        ("tests/test_properties.py::test_a_refresh_writes_its_tokens_and_no_others",),
    ),
    Mutation(
        "error feedback writes to the latent",
        "hero_engine/noise.py",
        "(latent.float() * of_latent).add_(",
        "latent.float().mul_(of_latent).add_(",
        (f"{FEEDBACK}::test_nothing_is_written_to_what_came_in",),
    ),
    Mutation(
        "error feedback pays for branches that are not there",
        "hero_engine/hero/feedback.py",
        "now.callers != begin.callers[: len(now.callers)]",
        "not now.callers",
        (f"{FEEDBACK}::test_alone_a_branch_pays_for_nothing",),
    ),
    Mutation(
        "error feedback weighs a miss by the scale of the step that mends it",
        "hero_engine/hero/feedback.py",
        "call.weigh(first",
        "now.weigh(first",
        (f"{FEEDBACK}::test_guidance_may_jump_between_a_mistake_and_its_mending",),
    ),
    Mutation(
        "guidance leaves a branch out of a full step",
        "hero_engine/step_clock.py",
        "return self.planned.full and self.moment.number < self._schedule.reused_until",
        "return False",
        ("tests/aether/test_guidance_skip.py::test_under_hero_the_halves_run_apart_and_are_counted",),
    ),
    Mutation(
        "an input is written in place",
        "hero_engine/hero/residuals.py",
        "stream.add_(self._value.read()) if in_place else stream + self._value.read()",
        "stream.add_(self._value.read())",
        ("tests/test_properties.py::test_a_refresh_writes_its_tokens_and_no_others",),
    ),
    Mutation(
        "NaN compared the wrong way",
        "hero_engine/schedule.py",
        "if not self._estimate(rate) < self.threshold:",
        "if self._estimate(rate) >= self.threshold:",
        ("tests/test_properties.py::test_an_adaptive_schedule_reuses_only_below_its_threshold",),
    ),
    Mutation(
        "signature not checked",
        "hero_engine/branches.py",
        "held is not None and held.signature == signature",
        "held is not None",
        (
            f"{SESSION}::test_a_change_of_shape_computes_in_full_and_goes_on",
            f"{SESSION}::test_lora_stays_and_a_switched_adapter_recomputes",
        ),
    ),
    Mutation(
        "only an Exception frees what a session cached",
        "hero_engine/session.py",
        "        yield installation.run\n    finally:\n        installation.remove()\n",
        "        yield installation.run\n    except Exception:\n        installation.remove()\n"
        "        raise\n    else:\n        installation.remove()\n",
        (f"{ENGINE}::test_a_fault_leaves_nothing",),
    ),
    Mutation(
        "only an Exception drops a half-written cache",
        "hero_engine/run.py",
        "        except BaseException:\n",
        "        except Exception:\n",
        (f"{ENGINE}::test_a_step_that_ended_in_its_middle_is_never_reused",),
    ),
    Mutation(
        "a copied model shares the session",
        "hero_engine/wrapping.py",
        "return copy.deepcopy(self._original, memo)",
        "return self",
        ("tests/reliability/test_wrapped.py::test_a_copy_of_a_patched_model_is_a_model_of_its_own",),
    ),
    Mutation(
        "a cloned MODEL shares the session",
        "nodes/bridge/hero_run.py",
        "clone = model.clone()",
        "clone = model",
        ("tests/comfy/test_sampling.py::test_the_model_that_came_in_stays_as_it_was",),
        needs="comfy_kitchen",
    ),
    Mutation(
        "LoRA dropped by the patch",
        "hero_engine/models/joint_attention.py",
        "attn.to_k(tokens)",
        'getattr(attn.to_k, "base_layer", attn.to_k)(tokens)',
        ("tests/hero_engine/test_optimization.py::test_lora_is_not_fused_away",),
    ),
    Mutation(
        "a switched LoRA not seen",
        "hero_engine/models/diffusers.py",
        'if not getattr(self.model, "peft_config", None):',
        "if True:",
        (f"{SESSION}::test_lora_stays_and_a_switched_adapter_recomputes",),
    ),
    Mutation(
        "a hook's change of a LoRA not seen",
        "nodes/bridge/hero_run.py",
        "with run.branch(ids or None, strengths, _weights(guider, options)):",
        "with run.branch(ids or None, (), _weights(guider, options)):",
        ("tests/comfy/test_lora.py::test_a_lora_whose_strength_changes_drops_what_was_cached[core]",),
        needs="comfy_kitchen",
    ),
)


def copy_repository(target: Path) -> None:
    """All files that git knows or would take, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


class _Passed:
    """A pytest plugin that counts."""

    count = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.count += report.when == "call" and report.passed


def run_tests(folder: Path, tests: tuple[str, ...], log: Path) -> None:
    """In a process of its own: 0 where all pass and at least one ran, 1 where one fails, else 2."""
    with log.open("w") as stream:
        for channel in (1, 2):
            os.dup2(stream.fileno(), channel)
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # before whatever this Python has installed
    sys.dont_write_bytecode = True
    import pytest

    passed = _Passed()
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests], plugins=[passed])
    sys.exit(code if code == 1 or (code == 0 and passed.count) else 2)


@cache
def passes(folder: Path, tests: tuple[str, ...], mutated: str | None = None) -> bool:
    """Whether the tests pass there, with the mutation of that name planted."""
    log = folder / "mutations.log"
    process = PROCESSES.Process(target=run_tests, args=(folder, tests, log))
    process.start()
    process.join()
    if process.exitcode not in (0, 1):
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{log.read_text(encoding='utf-8')}")
    return process.exitcode == 0


def judge(mutation: Mutation, folder: Path) -> str:
    """ "caught", or what is wrong."""
    file = folder / mutation.file
    source = file.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        return (
            f"THE PATCH NO LONGER APPLIES: {mutation.old.strip()!r} stands {source.count(mutation.old)} times"
        )
    if not passes(folder, mutation.tests):
        return "THE TESTS FAIL WITHOUT IT"
    file.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return "MISSED" if passes(folder, mutation.tests, mutation.name) else "caught"
    finally:
        file.write_text(source, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names; default: all")
    asked = parser.parse_args().names
    chosen = [one for one in MUTATIONS if not asked or any(name in one.name for name in asked)]
    verdicts = []
    PROCESSES.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as scratch:
        copy_repository(Path(scratch))
        for mutation in chosen:
            if importlib.util.find_spec(mutation.needs):
                verdict = judge(mutation, Path(scratch))
            else:
                verdict = f"skipped: no {mutation.needs}"
            verdicts.append(verdict)
            print(f"{mutation.name}: {verdict}", flush=True)
    caught = verdicts.count("caught")
    skipped = sum(verdict.startswith("skipped") for verdict in verdicts)
    print(f"{caught} of {len(chosen)} caught, {skipped} skipped")
    return 0 if chosen and caught and caught + skipped == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
