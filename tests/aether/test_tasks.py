"""What the tasks take, and what they make of it."""

import numpy as np
import pytest
import torch

from aether import InputError
from aether.defaults import FPS, TASKS
from aether.generation.latents import encode
from aether.generation.tasks import check_fps, check_frames, check_size, condition
from aether.geometry.raymap import pack
from aether.spec import FRAMES


def conditions(model, tiny, task, **changes):
    return condition(model, task, **{**tiny.inputs(task), **changes})


def test_defaults_are_the_references():
    assert {name: (task.default_steps, task.default_guidance) for name, task in TASKS.items()} == {
        "reconstruction": (4, 1.0),
        "prediction": (50, 3.0),
        "planning": (50, 3.0),
    }


def test_planning_conditions_on_both_ends(tiny, model):
    generator, again = (torch.Generator().manual_seed(1) for _ in range(2))
    pictures = tiny.inputs("planning")
    made = condition(model, "planning", **pictures, generator=generator)
    image, goal = (encode(model, torch.from_numpy(pictures[name])[None], again) for name in ("image", "goal"))
    assert made.cond.shape == (1, 5, 40, 4, 6) and (made.frames, made.height, made.width) == (17, 32, 48)
    assert torch.equal(made.cond[:, :1, :16], image) and torch.equal(made.cond[:, -1:, :16], goal)
    assert not made.cond[:, 1:-1].any() and not made.cond[:, :, 16:].any()


def test_prediction_conditions_on_the_first_frame_and_the_camera(tiny, model):
    made = conditions(model, tiny, "prediction", raymap=tiny.raymap(25))
    assert made.frames == 25 and made.cond.shape[1] == 7
    assert made.cond[:, 0, :16].any() and not made.cond[:, 1:, :16].any()
    np.testing.assert_array_equal(made.cond[0, :, 16:].numpy(), np.asarray(pack(tiny.raymap(25))))


@pytest.mark.parametrize("task", ["prediction", "planning"])
def test_the_unconditional_branch_forgets_pictures_and_keeps_the_camera(tiny, model, task):
    made = conditions(model, tiny, task, raymap=tiny.raymap())
    assert not made.uncond[:, :, :16].any()
    assert torch.equal(made.uncond[:, :, 16:], made.cond[:, :, 16:])


def test_reconstruction_has_no_unconditional_branch(tiny, model):
    assert conditions(model, tiny, "reconstruction").uncond is None


def test_inputs_are_left_as_they_were_and_may_be_read_only_or_tensors(tiny, model):
    pictures, raymap = tiny.inputs("planning"), tiny.raymap()
    arrays = [*pictures.values(), raymap]
    kept = [array.copy() for array in arrays]
    from_arrays = condition(
        model, "planning", **pictures, raymap=raymap, generator=torch.Generator().manual_seed(0)
    )
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, kept, strict=True))
    tensors = {name: torch.from_numpy(array) for name, array in pictures.items()}
    from_tensors = condition(
        model,
        "planning",
        **tensors,
        raymap=torch.from_numpy(raymap),
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(from_arrays.cond, from_tensors.cond)


def test_half_precision_model_gives_half_precision_conditions(tiny):
    made = conditions(tiny.model().to(dtype=torch.bfloat16), tiny, "planning", raymap=tiny.raymap())
    assert made.cond.dtype == made.uncond.dtype == torch.bfloat16


def picture(height=32, width=48, channels=3):
    return np.full((height, width, channels), 0.5, dtype=np.float32)


def video(frames=17, **size):
    return np.repeat(picture(**size)[None], frames, axis=0)


def holed(array):
    return np.where(np.arange(array.shape[-1]) == 1, np.float32(np.nan), array)


@pytest.mark.parametrize(
    "task, changes, field, message",
    [
        ("dreaming", {}, "task", "reconstruction, prediction, planning"),
        ("prediction", {"image": None}, "image", "missing"),
        ("planning", {"image": picture(), "goal": None}, "goal", "missing"),
        ("prediction", {"image": picture(), "goal": picture()}, "goal", "not used"),
        ("reconstruction", {"video": video(), "image": picture()}, "image", "not used"),
        ("reconstruction", {"video": video(18)}, "video", "17, 25, 33 or 41"),
        ("reconstruction", {"video": video(1)}, "video", "17, 25, 33 or 41"),
        ("reconstruction", {"video": picture()}, "video", "frames, height, width, 3"),
        ("reconstruction", {"video": video(), "frames": 25}, "frames", "video has 17"),
        ("prediction", {"image": picture(), "frames": 20}, "frames", "17, 25, 33 or 41"),
        ("prediction", {"image": picture(), "frames": 17.0}, "frames", "17, 25, 33 or 41"),
        ("prediction", {"image": picture(36, 48)}, "image", "multiples of 16; try 48 x 32"),
        ("prediction", {"image": picture(32, 47)}, "image", "multiples of 16; try 48 x 32"),
        ("prediction", {"image": picture(channels=4)}, "image", "height, width, 3"),
        ("prediction", {"image": picture(0, 48)}, "image", "empty"),
        ("prediction", {"image": picture()[None]}, "image", "height, width, 3"),
        ("prediction", {"image": (picture() * 255).astype(np.uint8)}, "image", "divide by 255"),
        ("prediction", {"image": picture() * 255}, "image", "divide by 255"),
        ("prediction", {"image": picture() - 1}, "image", r"\[0, 1\]"),
        ("prediction", {"image": holed(picture())}, "image", "NaN"),
        ("prediction", {"image": np.full((32, 48, 3), np.inf)}, "image", "infinite"),
        ("prediction", {"image": picture().astype(int)}, "image", "float32"),
        ("prediction", {"image": torch.ones(32, 48, 3, dtype=torch.uint8)}, "image", "float32"),
        ("prediction", {"image": picture().tolist()}, "image", "list"),
        ("planning", {"image": picture(), "goal": picture(48, 48)}, "goal", "same size"),
        (
            "prediction",
            {"image": picture(), "raymap": np.zeros((17, 6, 4, 7), "f4")},
            "raymap",
            r"17, 6, 4, 6",
        ),
        ("prediction", {"image": picture(), "raymap": np.zeros((18, 6, 4, 6), "f4")}, "raymap", "17, 25"),
        ("prediction", {"image": picture(), "raymap": np.zeros((5, 24, 4, 6), "f4")}, "raymap", "17, 25"),
        ("prediction", {"image": picture(), "raymap": np.zeros((6, 4, 6), "f4")}, "raymap", r"17, 6, 4, 6"),
        ("prediction", {"image": picture(), "raymap": np.full((17, 6, 4, 6), np.nan)}, "raymap", "NaN"),
        ("prediction", {"image": picture(), "raymap": "turn left"}, "raymap", "str"),
        ("prediction", {"image": picture(), "generator": 7}, "generator", "torch.Generator"),
    ],
)
def test_bad_input_is_named(model, task, changes, field, message):
    with pytest.raises(InputError, match=message) as error:
        condition(model, task, **changes)
    assert error.value.field == field and str(error.value).startswith(f"{field}: ")


def test_learned_positions_fix_the_size(tiny):
    fixed = tiny.model(use_learned_positional_embeddings=True)
    check_size(fixed.spec, 32, 48)
    with pytest.raises(InputError, match="learned positional embeddings, which fix the size at 48 x 32"):
        check_size(fixed.spec, 48, 48)


def test_rates_and_lengths():
    assert [check_fps(fps) for fps in (*FPS, 24.0)] == [8, 10, 12, 15, 24, 24]
    assert [check_frames(np.int64(frames)) for frames in FRAMES] == [17, 25, 33, 41]
    for fps in (13, 23.976, float("nan"), 0, -12, "12", None, True):
        with pytest.raises(InputError, match="8, 10, 12, 15 or 24") as error:
            check_fps(fps)
        assert error.value.field == "fps"
