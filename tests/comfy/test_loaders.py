"""Aether Loader: folders and files, dtypes, attention, mistakes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="module")
def files(part, tmp_path_factory):
    """ComfyUI's model folders with the miniature in them, in all the forms that the loader takes."""
    import folder_paths
    from safetensors.torch import save_file

    base = tmp_path_factory.mktemp("models")
    model = part("aether.miniature").build()
    folder = base / "diffusers" / "Tiny"
    for name in ("transformer", "vae", "scheduler"):
        getattr(model, name).save_pretrained(folder / name)
    part("aether.model.prompt").save_prompt_embeds(folder / "null_prompt.safetensors", model.prompt_embeds)
    (base / "diffusers" / "not_a_model").mkdir()
    weights = model.transformer.state_dict()
    (base / "diffusion_models").mkdir()
    renamed = {f"model.diffusion_model.{key}": value.contiguous() for key, value in weights.items()}
    save_file(renamed, base / "diffusion_models" / "tiny.safetensors")
    (base / "diffusion_models" / "html.safetensors").write_text("<!DOCTYPE html>")
    (base / "vae").mkdir()
    (base / "vae" / "config.json").write_text((folder / "vae" / "config.json").read_text())
    save_file(
        {key: value.contiguous() for key, value in model.vae.state_dict().items()},
        base / "vae" / "v.safetensors",
    )
    (base / "text_encoders").mkdir()
    save_file({"embedding": model.prompt_embeds.contiguous()}, base / "text_encoders" / "null.safetensors")
    before = {name: folder_paths.folder_names_and_paths[name] for name in
              ("diffusers", "diffusion_models", "vae", "text_encoders")}  # fmt: skip
    for name, (_, extensions) in before.items():
        folder_paths.folder_names_and_paths[name] = ([str(base / name)], extensions)
    yield SimpleNamespace(base=base, model=model)
    folder_paths.folder_names_and_paths.update(before)


FOLDER = {"transformer": "Tiny/", "vae": "from the folder", "prompt": "from the folder"}
SINGLE = {"transformer": "tiny.safetensors", "vae": "v.safetensors", "prompt": "null.safetensors"}


def same_weights(loaded, model) -> bool:
    own = model.transformer.state_dict()
    found = loaded.model.diffusion_model.transformer.state_dict()
    return own.keys() == found.keys() and all(torch.equal(found[key].float(), own[key]) for key in own)


def test_what_is_offered(nodes, files):
    inputs = {i.id: i for i in nodes.get("AetherLoader").define_schema().inputs}
    assert inputs["transformer"].options == ["Tiny/", "html.safetensors", "tiny.safetensors"]
    assert inputs["vae"].options == ["from the folder", "v.safetensors"]
    assert inputs["prompt"].options == ["from the folder", "null.safetensors"]
    assert inputs["attention"].options[:2] == ["auto", "sdpa"]


@pytest.mark.parametrize("choice", [FOLDER, SINGLE], ids=["folder", "files"])
def test_the_same_model_from_a_folder_and_from_files(nodes, files, ksampler, predicted, choice):
    model, vae = nodes.AetherLoader(**choice, dtype="fp32").args
    assert same_weights(model, files.model)
    # A file does not tell the size that its positions are relative to: it is taken to be Aether's.
    assert model.model.parts.spec.default_size == ((64, 96) if choice is FOLDER else (480, 720))
    assert torch.isfinite(ksampler(model, predicted, steps=2)).all()


@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp8_e4m3fn"])
@pytest.mark.slow
def test_dtypes(nodes, files, ksampler, predicted, dtype):
    plain = nodes.AetherLoader(**FOLDER, dtype="fp32")[0]
    model = nodes.AetherLoader(**FOLDER, dtype=dtype)[0]
    transformer = model.model.diffusion_model.transformer
    stored = transformer.transformer_blocks[0].attn1.to_q.weight.dtype
    wanted = {"auto": torch.float32, "bf16": torch.bfloat16, "fp8_e4m3fn": torch.float8_e4m3fn}[dtype]
    assert stored == wanted
    assert transformer.proj_out.weight.dtype == (wanted if wanted.itemsize > 1 else torch.float32)
    expected, samples = ksampler(plain, predicted, steps=3), ksampler(model, predicted, steps=3)
    error = float((samples - expected).norm() / expected.norm())
    assert error == 0 if dtype == "auto" else 0 < error < (0.05 if dtype == "bf16" else 0.5)
    patched = nodes.HeroPatch(model=model, preset="custom", interval=2, warmup=1)[0]
    assert torch.isfinite(ksampler(patched, predicted, steps=4)).all()
    task = {"positive": predicted.positive, "negative": predicted.negative, "latent": predicted.latent}
    assert torch.isfinite(nodes.AetherSampler(model=patched, **task, steps=4)[0]["samples"]).all()


def test_core_attention_is_sdpas(part, files, ksampler, predicted, nodes):
    """The same processor that flash and sage run in, with a backend that is always there."""
    from comfy.ldm.modules.attention import attention_pytorch

    model = nodes.AetherLoader(**FOLDER, dtype="fp32")[0]
    expected = ksampler(model, predicted, steps=2)
    processor = part("nodes.bridge.attention").CoreAttention(attention_pytorch)
    model.model.diffusion_model.transformer.set_attn_processor(processor)
    assert (ksampler(model, predicted, steps=2) - expected).abs().max() < 1e-4
    patched = nodes.HeroPatch(model=model, preset="custom", interval=2, warmup=1)[0]
    assert torch.isfinite(ksampler(patched, predicted, steps=4)).all()


def test_weights_that_stay_on_the_cpu_are_brought_over(files, nodes, ksampler, predicted):
    """Loaded with hardly any room, as on a small GPU, the numbers are the same."""
    model = nodes.AetherLoader(**FOLDER, dtype="fp32")[0]
    expected = ksampler(model, predicted, steps=2)
    model.detach()
    model.load(torch.device("cpu"), lowvram_model_memory=64 * 1024)
    assert model.model.model_lowvram
    noise = torch.randn(1, 96, 5, 8, 12)
    with torch.inference_mode():
        before = model.model.diffusion_model(noise, torch.tensor([500]))
        model.detach()
        model.load(torch.device("cpu"), full_load=True)
        assert torch.equal(model.model.diffusion_model(noise, torch.tensor([500])), before)
    assert torch.equal(ksampler(model, predicted, steps=2), expected)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vae": "from the folder"}, "vae: tiny.safetensors is a single file"),
        ({"prompt": "from the folder"}, "prompt: tiny.safetensors is a single file"),
        ({"transformer": "../Tiny/", "vae": "from the folder"}, "transformer: ../Tiny/ is not in"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(nodes, files, change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        nodes.AetherLoader(**SINGLE | change)


@pytest.mark.parametrize(
    "choice, message",
    [
        ("sage", "sage is not installed here: pip install sageattention"),
        ("magic", "'magic' is not one of auto, sdpa"),
    ],
)
def test_attention_is_named_before_the_run(nodes, files, choice, message):
    assert nodes.get("AetherLoader").validate_inputs(attention=choice).startswith(message)
    assert nodes.get("AetherLoader").validate_inputs(attention="auto") is True


@pytest.mark.parametrize(
    "change, message",
    [
        ({"transformer": "html.safetensors"}, "transformer: .*web page"),
        ({"vae": "../text_encoders/null.safetensors"}, "null.safetensors|vae"),
        ({"transformer": "../vae/v.safetensors"}, "v.safetensors"),
    ],
)
def test_damaged_and_foreign_files(nodes, files, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        nodes.AetherLoader(**SINGLE | change, dtype="fp32")


def test_a_folder_without_its_parts(nodes, files, tmp_path):
    import shutil

    bare = files.base / "diffusers" / "Bare"
    shutil.copytree(files.base / "diffusers" / "Tiny" / "transformer", bare)
    try:
        choice = {"transformer": "Bare/", "vae": "from the folder", "prompt": "null.safetensors"}
        with pytest.raises(ValueError, match="vae: Bare has no folder vae/"):
            nodes.AetherLoader(**choice)
        with pytest.raises(ValueError, match="prompt: is missing"):
            nodes.AetherLoader(**choice | {"vae": "v.safetensors", "prompt": "from the folder"})
        assert json.loads((bare / "config.json").read_text())["_class_name"] == "CogVideoXTransformer3DModel"
    finally:
        shutil.rmtree(bare)


def t5_xxl(dtype=torch.float16, prefix="", stack="encoder."):
    """Tensors called as T5-XXL's, its norm as long as that, and the rest small."""
    attention, feed_forward = "layer.0.SelfAttention", "layer.1.DenseReluDense"
    parts = [*(f"{attention}.{matrix}" for matrix in "qkvo"), "layer.0.layer_norm", "layer.1.layer_norm",
             *(f"{feed_forward}.{matrix}" for matrix in ("wi_0", "wi_1", "wo"))]  # fmt: skip
    names = [f"{stack}block.{block}.{part}.weight" for block in range(24) for part in parts]
    names += [f"{stack}block.0.{attention}.relative_attention_bias.weight", "shared.weight"]
    tensors = {prefix + name: torch.ones(1, 1, dtype=torch.float32).to(dtype) for name in names}
    return tensors | {f"{prefix}{stack}final_layer_norm.weight": torch.ones(4096)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn, torch.uint8])
def test_a_text_encoder_gives_the_embedding_of_the_empty_prompt(part, files, monkeypatch, tmp_path, dtype):
    """With a stand-in of core's CLIP interface; the real encoder is too large for a test."""
    import comfy.sd
    from safetensors.torch import save_file

    expected = files.model.prompt_embeds
    asked = []

    class TextEncoder:
        def tokenize(self, text):
            return {"t5xxl": text}

        def encode_from_tokens(self, tokens, return_pooled=False, return_dict=False):
            asked.append(tokens)
            return torch.cat([expected, torch.ones_like(expected)], dim=1).half()

    monkeypatch.setattr(
        comfy.sd, "load_clip", lambda paths, clip_type: asked.append(clip_type) or TextEncoder()
    )
    weights = tmp_path / "t5xxl.safetensors"
    save_file(t5_xxl(dtype), weights)
    model, _ = part("nodes.loading").load_parts(
        files.base / "diffusers" / "Tiny",
        vae=None,
        prompt=weights,
        dtype=torch.float32,
        progress=asked.append,
    )
    assert asked[-2:] == [comfy.sd.CLIPType.COGVIDEOX, {"t5xxl": ""}]
    assert torch.equal(model.prompt_embeds, expected.half().float())


@pytest.mark.parametrize("prefix, stack", [("text_encoders.t5xxl.transformer.", "encoder."), ("", "")])
def test_an_encoder_under_other_names_is_given_to_core_under_its_own(
    part, monkeypatch, tmp_path, prefix, stack
):
    import comfy.sd
    from safetensors.torch import save_file

    found = {}

    class TextEncoder:
        def tokenize(self, text):
            return text

        def encode_from_tokens(self, tokens):
            return torch.ones(1, 226, 4096)

    def load(state_dicts, clip_type):
        found.update(state_dicts[0])
        return TextEncoder()

    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", load)
    save_file(
        t5_xxl(prefix=prefix, stack=stack) | {"other.weight": torch.ones(1)}, tmp_path / "t5.safetensors"
    )
    config = SimpleNamespace(max_text_seq_length=226)
    embeds = part("nodes.loading")._prompt(tmp_path / "t5.safetensors", tmp_path, config, lambda text: None)
    assert embeds.shape == (1, 226, 4096) and set(found) >= set(t5_xxl())
    assert ("other.weight" in found) is not prefix


@pytest.mark.parametrize(
    "name, tensors, match",
    [
        ("llama.safetensors", {"model.layers.0.input_layernorm.weight": torch.ones(4096),
                               "model.embed_tokens.weight": torch.ones(128256, 1)}, "is Llama 3, not T5-XXL"),
        ("clip_l.safetensors", {"text_model.encoder.layers.0.mlp.fc1.weight": torch.ones(1),
                                "text_model.x": torch.ones(1)}, "is CLIP-L, not T5-XXL"),
        ("zeros.safetensors", {"prompt_embeds": torch.zeros(1, 226, 4096)}, "holds zeros only"),
        ("model-00001-of-00002.safetensors", t5_xxl(), "is one of 2 shards; give their folder"),
    ],
)  # fmt: skip
def test_another_encoder_is_refused_before_it_runs(part, monkeypatch, tmp_path, name, tensors, match):
    import comfy.sd
    from safetensors.torch import save_file

    monkeypatch.setattr(comfy.sd, "load_clip", lambda *_, **__: pytest.fail("it was run"))
    save_file(tensors, tmp_path / name)
    config = SimpleNamespace(max_text_seq_length=226)
    with pytest.raises(ValueError, match=f"^prompt: .*{name} {match}"):
        part("nodes.loading")._prompt(tmp_path / name, tmp_path, config, lambda text: None)
