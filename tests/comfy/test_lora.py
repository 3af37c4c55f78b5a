"""ComfyUI's LoRAs under HERO: put on the weights, beside them, and by hooks whose strength changes."""

from __future__ import annotations

import json
from random import Random
from types import SimpleNamespace

import pytest
import torch

ALL_FULL = {"preset": "custom", "interval": 1}
CACHING = {"preset": "custom", "interval": 3, "warmup": "2", "cooldown": "0"}


def make_lora(model, seed=0):
    """A LoRA on every matrix of the blocks, named as core names them."""
    generator = torch.Generator().manual_seed(seed)
    lora = {}
    for key, weight in model.model.state_dict().items():
        if "blocks." in key and key.endswith(".weight") and weight.ndim == 2:
            name = key.removesuffix(".weight")
            lora[f"{name}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.3
            lora[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.3
    return lora


def on_the_weights(model, lora):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def beside_them(model, lora):
    import comfy.sd

    return comfy.sd.load_bypass_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(params=[pytest.param("aether", marks=pytest.mark.slow), "core"])
def case(request, miniature, predicted, core_model):
    """A MODEL, of the pack or of core, and a task for it."""
    if request.param == "aether":
        return SimpleNamespace(model=miniature.model, task=predicted)
    return core_model


@pytest.mark.parametrize("route", [on_the_weights, beside_them])
def test_a_lora_counts_in_full_and_on_cached_steps(nodes, case, ksampler, route):
    plain = ksampler(case.model, case.task)
    lora = make_lora(case.model)
    tuned = route(case.model, lora)
    expected = ksampler(tuned, case.task)
    assert torch.isfinite(expected).all() and relative(expected, plain) > 1e-3
    # Whichever of the two was put on first.
    for patched in (nodes.HeroPatch(model=tuned, **ALL_FULL)[0],
                    route(nodes.HeroPatch(model=case.model, **ALL_FULL)[0], lora)):  # fmt: skip
        assert torch.equal(ksampler(patched, case.task), expected)
    cached = [
        ksampler(nodes.HeroPatch(model=way(case.model, lora), **CACHING)[0], case.task)
        for way in (on_the_weights, route)
    ]
    assert relative(cached[1], cached[0]) < 1e-4
    assert relative(cached[1], ksampler(nodes.HeroPatch(model=case.model, **CACHING)[0], case.task)) > 1e-3
    assert torch.equal(ksampler(case.model, case.task), plain)


@pytest.fixture
def loras(tmp_path):
    """ComfyUI's folder of LoRAs, empty."""
    import folder_paths

    before = folder_paths.folder_names_and_paths["loras"]
    folder_paths.folder_names_and_paths["loras"] = ([str(tmp_path)], before[1])
    yield tmp_path
    folder_paths.folder_names_and_paths["loras"] = before


@pytest.mark.slow
@pytest.mark.parametrize("scale", [{}, {"lora_alpha": 8}, {"lora_alpha": 8, "use_rslora": True},
                                   {"alpha_pattern": {"attn1.to_q": 1}},
                                   {"alpha_pattern": {"attn1.to_q": 32, "to_q": 1, "^.+_blocks.+to_v": 9}}],
                         ids=str)  # fmt: skip
def test_a_lora_of_diffusers_acts_as_in_diffusers(nodes, part, loras, miniature, predicted, ksampler, scale):
    peft = pytest.importorskip("peft")
    from diffusers import CogVideoXPipeline
    from peft.utils import get_peft_model_state_dict

    model = part("aether.miniature").build()
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v", "proj"], init_lora_weights=False, **scale)
    model.transformer.add_adapter(config, "style")
    CogVideoXPipeline.save_lora_weights(
        loras,
        get_peft_model_state_dict(model.transformer, adapter_name="style"),
        weight_name="style.safetensors",
        transformer_lora_adapter_metadata=config.to_dict(),
    )
    tuned = part("nodes.bridge.model").make_model(model, compute_dtype=model.dtype)
    expected = ksampler(tuned, predicted)
    patched = nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)[0]
    assert relative(ksampler(patched, predicted), expected) < 1e-4
    assert relative(ksampler(miniature.model, predicted), expected) > 1e-3


@pytest.mark.parametrize(
    "naming",
    [
        "{}",
        "transformer.{}",
        "diffusion_model.{}",
        "base_model.model.{}",
        "lora_unet_{}",
        "lora_unet__{}",
        "lora_transformer_{}",
    ],
)
def test_a_lora_is_found_by_its_trainers_names(nodes, loras, miniature, naming):
    from safetensors.torch import save_file

    lora = {}
    for key, value in make_lora(miniature.model).items():
        name, _, end = key.removeprefix("diffusion_model.transformer.").partition(".lora_")
        flat = naming.startswith("lora_")
        end = {"A.weight": "down.weight", "B.weight": "up.weight"}[end] if flat else end
        lora[f"{naming.format(name.replace('.', '_') if flat else name)}.lora_{end}"] = value
    save_file(lora, loras / "style.safetensors")
    patched = nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=0.5)[0]
    assert len(patched.patches) == len(lora) // 2 and not miniature.model.patches


def test_a_lora_that_does_not_belong_is_refused(nodes, loras, miniature, core_model):
    from safetensors.torch import save_file

    def refused(tensors, message, model=miniature.model):
        save_file(tensors, loras / "style.safetensors")
        with pytest.raises(ValueError, match=message):
            nodes.AetherLoRA(model=model, lora="style.safetensors", strength=1.0)

    name = "transformer.transformer_blocks.0.attn1.to_q"
    wide = {f"{name}.lora_A.weight": torch.ones(2, 1920), f"{name}.lora_B.weight": torch.ones(1920, 2)}
    problem = "was made for another model: its transformer_blocks.0.attn1.to_q is 1920 x 1920, this one's 160"
    refused(wide, f"^lora: style.safetensors {problem}")
    refused({"unet.down.lora_A.weight": torch.ones(2, 2)}, "^lora: nothing in style.safetensors belongs")
    refused(wide, "^model: is not Aether", core_model.model)
    magnitude = {f"{name}.lora_magnitude_vector": torch.ones(1920)}
    refused(wide | magnitude, "^lora: style.safetensors is a DoRA of PEFT")
    (loras / "style.safetensors").write_text("<!DOCTYPE html>")
    with pytest.raises(
        ValueError, match="^lora: style.safetensors cannot be read as a LoRA: it is a web page"
    ):
        nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)


QUERY = "transformer_blocks.0.attn1.to_q"
MATRIX = f"diffusion_model.transformer.{QUERY}.weight"
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}


@pytest.fixture
def applied(nodes, part, loras, miniature, monkeypatch):
    """Put a LoRA of rank 2 on the first query; gives what it is multiplied by, and the text on the node."""
    import comfy.lora
    from safetensors.torch import save_file

    texts = []
    monkeypatch.setattr(part("nodes.lora"), "show_text", lambda _, text: texts.append(text))
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(*shape, generator=generator) for shape in ((2, 160), (160, 2)))

    def run(layer=QUERY, ends=("lora_A.weight", "lora_B.weight"), more=None, config=None, strength=1.0):
        factors = {f"{layer}.{ends[0]}": down, f"{layer}.{ends[1]}": up}
        save_file(factors | (more or {}), loras / "style.safetensors")
        if config:
            (loras / "adapter_config.json").write_text(json.dumps(config))
        patched = nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=strength)[0]
        before = patched.model.state_dict()[MATRIX].float()
        change = comfy.lora.calculate_weight(patched.patches[MATRIX], before.clone(), MATRIX) - before
        product = up @ down
        return round(float((change * product).sum() / product.square().sum()), 3), texts[-1]

    return run


FLAT = "lora_unet_" + QUERY.replace(".", "_")
DOWN_UP = ("lora_down.weight", "lora_up.weight")


@pytest.mark.parametrize(
    "options, scale, text",
    [
        ({}, 1, "1 matrix changed"),
        ({"strength": -0.5}, -0.5, "1 matrix changed"),
        ({"strength": 0.0}, 0, "strength 0: nothing is changed"),
        ({"layer": FLAT, "ends": DOWN_UP, "more": {f"{FLAT}.alpha": torch.tensor(1)}}, 0.5, "1 matrix"),
        ({"layer": f"transformer._orig_mod.{QUERY}"}, 1, "1 matrix changed"),
        ({"layer": f"base_model.model.module.{QUERY}"}, 1, "1 matrix changed"),
        ({"layer": f"pipe.dit.{QUERY}"}, 1, "1 matrix changed"),
        ({"layer": f"base_model.model.{QUERY}", "config": PEFT}, 4, "scale 4 by adapter_config.json"),
        ({"config": PEFT | {"r": 4}}, 1, "was not used: it says rank 4, this file's is 2"),
        ({"more": {f"x.{number}.lora_A.weight": torch.ones(2, 2) for number in range(50)}}, 1,
         "left out: 50 keys of no layer here (x."),
        ({"more": {"base_model.model.proj_out.modules_to_save.weight": torch.ones(2)}}, 1,
         "left out: 1 key of PEFT's modules_to_save (base"),
        ({"more": {"base_model.model.proj_out.weight": torch.ones(2)}}, 1, "1 key of PEFT's modules_to_save"),
        ({"more": {f"{QUERY}.lora_B.bias": torch.ones(160), f"{QUERY}.bias": torch.ones(160)}}, 1,
         f"left out: 2 keys of biases ({QUERY}"),
        ({"more": {"lora_te_x.alpha": torch.ones(1), "x.alpha": torch.ones(1)}}, 1,
         "1 key of a text encoder (lora_te_x.alpha), 1 key of no layer here (x.alpha)"),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_lora_changes_and_leaves_out_is_reported(applied, options, scale, text):
    found, report = applied(**options)
    assert found == scale and text in report


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"ends": ("lora_A.weight", "lora_C.weight")}, f"of {QUERY} it holds one factor only"),
        ({"ends": ("lora_C.weight", "lora_up.weight")}, f"of {QUERY} it holds one factor only"),
        ({"more": {f"transformer.{QUERY}.diff": torch.ones(160, 160)}}, "two changes of a matrix"),
        ({"more": {f"{QUERY}.diff": torch.ones(160, 160)}}, "two changes of a matrix"),
        ({"more": {f"{QUERY}.{end}": torch.ones(2, 2) for end in DOWN_UP}}, "two changes of a matrix"),
        ({"more": {f"{QUERY}.reshape_weight": torch.tensor([320, 160])}}, f"changes the size of {QUERY}"),
        ({"more": {"proj_out.oft_blocks": torch.ones(3, 5, 5)}}, "for another model: its proj_out is 15"),
        ({"more": {"proj_out.oft_blocks": torch.ones(3, 5, 4)}}, "damaged: the parts of proj_out"),
        ({"more": {f"proj_out.{name}.weight": torch.ones(2, 2) for name in ("a1", "a2", "b1", "b2")}},
         r"is of a kind that is not read \(glora\)"),
        ({"strength": float("nan")}, None),
    ],
    ids=str,
)  # fmt: skip
def test_a_lora_that_would_be_applied_in_part_is_refused(applied, options, problem):
    match = f"^lora: style.safetensors .*{problem}" if problem else "^strength: is nan"
    with pytest.raises(ValueError, match=match):
        applied(**options)


@pytest.mark.parametrize(
    "keys, family",
    [
        (["diffusion_model.blocks.0.self_attn.q.lora_A.weight"], "it seems to be for Wan"),
        (["transformer.transformer_blocks.0.attn1.to_q.lora_A.weight",
          "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight",
          "transformer.transformer_blocks.0.attn2.to_q.lora_A.weight"], "It seems to be for LTX-Video"),
    ],
)  # fmt: skip
def test_a_lora_of_another_model_is_refused_by_its_name(nodes, loras, miniature, keys, family):
    from safetensors.torch import save_file

    shapes = {"A": (2, 2048), "B": (2048, 2)}
    save_file(
        {key: torch.ones(shapes[key.split("lora_")[1][0]]) for key in keys}, loras / "style.safetensors"
    )
    with pytest.raises(ValueError, match=f"^lora: .*{family}"):
        nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)


@pytest.mark.parametrize("scale", [{}, {"use_rslora": True}, {"r": 4, "rank_pattern": {"to_q": 2}},
                                   {"alpha_pattern": {"attn1.to_v": 1}}], ids=str)  # fmt: skip
def test_a_lora_that_peft_saved_acts_as_in_peft(nodes, part, loras, miniature, scale):
    """adapter_model.safetensors with its adapter_config.json, as ``save_pretrained`` of PEFT writes them."""
    peft = pytest.importorskip("peft")
    import comfy.lora

    transformer = part("aether.miniature").build().transformer
    targets = {"r": 2, "lora_alpha": 8, "target_modules": ["to_q", "to_v"], "init_lora_weights": False}
    tuned = peft.get_peft_model(transformer, peft.LoraConfig(**targets | scale))
    tuned.save_pretrained(loras)
    patched = nodes.AetherLoRA(model=miniature.model, lora="adapter_model.safetensors", strength=1.0)[0]
    merged, own = tuned.merge_and_unload().state_dict(), patched.model.state_dict()
    for key, patches in patched.patches.items():
        weight = comfy.lora.calculate_weight(patches, own[key].float().clone(), key)
        expected = merged[key.removeprefix("diffusion_model.transformer.")]
        assert relative(weight, expected) < 1e-5 < relative(own[key].float(), expected)


PARTS = {
    "diff": {"diff": (160, 160)},
    "diff_b": {"diff_b": (160,)},
    "set_weight": {"set_weight": (160, 160)},
    "LoKr": {"lokr_w1": (4, 4), "lokr_w2": (40, 40)},
    "LoKr in factors": {
        "lokr_w1_a": (4, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (40, 2), "lokr_w2_b": (2, 40),
    },
    "LoHa": {"hada_w1_a": (160, 2), "hada_w1_b": (2, 160), "hada_w2_a": (160, 2), "hada_w2_b": (2, 160)},
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_other_kinds_than_lora_must_fit_too(nodes, loras, miniature, kind):
    import comfy.lora
    from safetensors.torch import save_file

    def load(shapes):
        tensors = {f"transformer_blocks.0.attn1.to_q.{part}": torch.ones(s) for part, s in shapes.items()}
        save_file(tensors, loras / "style.safetensors")
        return nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)[0]

    patched = load(PARTS[kind])
    ((key, patches),) = patched.patches.items()
    weight = patched.model.state_dict()[key]
    assert not torch.equal(comfy.lora.calculate_weight(patches, weight.clone(), key), weight)
    problem = "^lora: style.safetensors (was made for another model|is damaged: the parts)"
    for part, shape in PARTS[kind].items():
        for dimension in range(len(shape)):
            wrong = [2 * n if axis == dimension else n for axis, n in enumerate(shape)]
            with pytest.raises(ValueError, match=problem):
                load(PARTS[kind] | {part: wrong})


def test_an_alpha_pattern_that_is_none_is_named(nodes, loras, miniature):
    from safetensors.torch import save_file

    noted = {"transformer.lora_alpha": 4, "transformer.alpha_pattern": {"to_q(": 2}}
    tensors = {f"transformer.{key.removeprefix('diffusion_model.transformer.')}": value
               for key, value in make_lora(miniature.model).items()}  # fmt: skip
    save_file(tensors, loras / "style.safetensors", {"lora_adapter_metadata": json.dumps(noted)})
    with pytest.raises(ValueError, match=r"^lora: .*its alpha_pattern 'to_q\(' is no regular expression"):
        nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)


@pytest.mark.slow
def test_damaged_loras_are_refused_or_whole(nodes, loras, miniature):
    """A clear error, or a MODEL whose every patch fits its matrix."""
    import comfy.lora
    from safetensors.torch import save

    from ..reliability.damage import any_file, safetensors_file

    name = "transformer.transformer_blocks.0.attn1.to_q"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 160), f"{name}.lora_B.weight": torch.ones(160, 2),
               f"{name}.alpha": torch.tensor(4.0)}  # fmt: skip
    noted = {"transformer.lora_alpha": 4, "transformer.alpha_pattern": {"attn1.to_q": 2}}
    whole = save(tensors, {"lora_adapter_metadata": json.dumps(noted)})
    rng, outcomes = Random(0), {"patched": 0, "refused": 0}
    for _ in range(300):
        (loras / "style.safetensors").write_bytes(rng.choice((any_file, safetensors_file))(whole, rng))
        try:
            patched = nodes.AetherLoRA(model=miniature.model, lora="style.safetensors", strength=1.0)[0]
        except ValueError as error:
            assert str(error).startswith("lora: ")
            outcomes["refused"] += 1
        else:
            for key in patched.patches:
                weight = patched.model.state_dict()[key]
                tuned = comfy.lora.calculate_weight(patched.patches[key], weight.clone(), key)
                assert tuned.shape == weight.shape and not torch.equal(tuned, weight)
            outcomes["patched"] += 1
    assert min(outcomes.values()) > 20


def hooked(model, task, strengths):
    """The MODEL and the task, with a LoRA on the positive conditioning: (share of the run, strength) each."""
    import comfy.hooks

    model, _, hooks = comfy.hooks.load_hook_lora_for_models(model, None, make_lora(model), 1.0, 0.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for start, strength in strengths:
        keyframes.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
    hooks.set_keyframes_on_hooks(keyframes)
    positive = comfy.hooks.set_hooks_for_conditioning(task.positive, hooks)
    return model, SimpleNamespace(positive=positive, negative=task.negative, latent=task.latent)


@pytest.mark.slow
def test_a_lora_whose_strength_changes_drops_what_was_cached(nodes, part, case, ksampler):
    plain = ksampler(case.model, case.task)
    counts = []
    for strengths in ([(0.0, 1.0)], [(0.0, 1.0), (0.65, 0.0)]):
        model, task = hooked(case.model, case.task, strengths)
        expected = ksampler(model, task)
        assert relative(expected, plain) > 1e-3
        assert torch.equal(ksampler(nodes.HeroPatch(model=model, **ALL_FULL)[0], task), expected)
        patched = nodes.HeroPatch(model=model, **CACHING)[0]
        report = part("nodes.bridge.hero_reports").box_of(patched).find(ksampler(patched, task))
        counts.append([record.reason.value for record in report.records].count("nothing cached"))
    assert counts == [0, 1]
    assert torch.equal(ksampler(case.model, case.task), plain)


def test_a_model_split_over_devices_is_refused(nodes, miniature, predicted, ksampler):
    patched = nodes.HeroPatch(model=miniature.model, **CACHING)[0]
    patched.set_additional_models("multigpu", [miniature.model.clone()])
    with pytest.raises(ValueError, match=r"^model: is split over several devices"):
        ksampler(patched, predicted)
