"""Text encoders are told by their header, whatever they are stored in."""

import pytest
import torch
from safetensors.torch import save_file

from aether import InputError
from aether.model.prompt import check_prompt_embeds, encode_null_prompt, load_prompt_embeds
from aether.model.text_encoders import identify, require_t5_xxl

BLOCK = ("layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v",
         "layer.0.SelfAttention.o", "layer.0.layer_norm", "layer.1.DenseReluDense.wi_0",
         "layer.1.DenseReluDense.wi_1", "layer.1.DenseReluDense.wo", "layer.1.layer_norm")  # fmt: skip


def t5(prefix="", stack="encoder.", *, words=32128, width=4096, blocks=24, table="shared.weight", more=()):
    """The header of a T5 1.1 encoder; matrices' shapes, which quantisations change, are left small."""
    names = [f"{stack}block.{block}.{part}.weight" for block in range(blocks) for part in BLOCK]
    bias = f"{stack}block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    shapes = dict.fromkeys([*names, bias, *more], (1, 1))
    shapes |= {f"{stack}final_layer_norm.weight": (width,), table: (words, width)}
    return {prefix + name: shape for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "shapes, usual",
    [
        (t5(), True),
        (t5(more=["encoder.embed_tokens.weight"]), True),
        (t5(more=["scaled_fp8", "encoder.block.0.layer.0.SelfAttention.q.scale_weight"]), True),
        (t5(more=["decoder.block.0.layer.0.SelfAttention.k.weight", "lm_head.weight"]), True),
        (t5(words=32100), True),
        (t5(table="encoder.embed_tokens.weight"), False),
        (t5(stack=""), False),
        (t5(stack="", table="embed_tokens.weight"), False),
        (t5("text_encoders.t5xxl.transformer."), False),
        (t5("text_encoders.t5xxl.transformer.") | {"text_encoders.clip_l.text_model.x": (1,)}, False),
        (t5("t5xxl."), False),
    ],
)  # fmt: skip
def test_t5_xxl_is_known_in_all_its_forms(shapes, usual):
    encoder = require_t5_xxl(shapes, "file", "prompt")
    assert encoder.name == "T5-XXL" and encoder.has_usual_names is usual
    named = {name: shape for key, shape in shapes.items() if (name := encoder.usual_name(key))}
    assert named.items() >= (t5(words=max(shape[0] for shape in shapes.values()))).items()


DECODER = {"model.layers.0.input_layernorm.weight": (4096,)}
LLAMA = DECODER | {"model.layers.0.self_attn.k_proj.weight": (1024, 4096)}


def words(count):
    return {"model.embed_tokens.weight": (count, 4096)}


LAST = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
NORM = "encoder.final_layer_norm.weight"


@pytest.mark.parametrize(
    "shapes, name",
    [
        (LLAMA | words(128256), "Llama 3"),
        ({f"text_encoders.llama.{key}": shape for key, shape in (LLAMA | words(128256)).items()}, "Llama 3"),
        (LLAMA | words(32000), "a language model such as Llama"),
        (LLAMA | words(131072), "Mistral"),
        (LLAMA | {"model.layers.0.self_attn.q_norm.weight": (128,)}, "Qwen 3"),
        (LLAMA | {"model.layers.0.self_attn.k_proj.bias": (512,), "visual.blocks.0.x": (1,)}, "Qwen 2.5"),
        (LLAMA | {"model.layers.0.linear_attn.A_log": (8,)}, "Qwen 3.5"),
        (LLAMA | {"model.layers.0.post_feedforward_layernorm.weight": (2304,)}, "Gemma 2"),
        (LLAMA | {"model.layers.0.post_feedforward_layernorm.weight": (2560,),
                  "model.layers.0.self_attn.q_norm.weight": (256,)}, "Gemma 3 or 4"),
        (DECODER | {"model.layers.0.self_attn.qkv_proj.weight": (1, 1)}, "Phi"),
        (LLAMA | {"model.layers.0.self_attn.sinks": (64,)}, "GPT-OSS"),
        ({"encoder.layers.0.pre_self_attn_layernorm.weight": (8,)}, "T5Gemma"),
        (t5(words=256384), "UMT5-XXL"),
        (t5(words=256384) | {"spiece_model": (9,)}, "UMT5-XXL"),
        ({"shared.weight": (256384, 4096), LAST: (10240, 4096), NORM: (4096,)}, "UMT5-XXL"),
        (t5(words=256384, width=768, blocks=12), "UMT5-base"),
        (t5(words=250112, width=2048), "mT5-XL"),
        (t5(more=["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]), "Pile-T5-XXL"),
        (t5(words=384, width=1472, blocks=12), "ByT5 of width 1472"),
        (t5(width=768, blocks=12), "T5-base"),
        (t5("text_encoders.t5base.transformer.", width=768, blocks=12), "T5-base"),
        (t5(width=2048), "T5-XL"),
        ({"shared.weight": (32128, 1024), LAST.replace("wi_1", "wi"): (65536, 1024)}, "T5 1.0"),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}, "CLIP-L"),
        ({"cond_stage.text_model.encoder.layers.22.mlp.fc1.weight": (1, 1)}, "CLIP-H"),
        ({"text_model.encoder.layers.30.mlp.fc1.weight": (1, 1)}, "CLIP-G"),
        ({"transformer.resblocks.0.ln_1.weight": (1,)}, "CLIP"),
        ({"vision_model.encoder.layers.0.mlp.fc1.weight": (1, 1)}, "a CLIP vision model"),
        ({"bert.encoder.layer.0.attention.self.query.weight": (1, 1)}, "BERT"),
        ({"encoder.layers.0.self_attention.query_key_value.weight": (1, 1)}, "ChatGLM"),
        ({"encoder.conv_in.weight": (1,), "decoder.conv_in.conv.weight": (1,)}, "a VAE"),
        ({"transformer_blocks.0.attn1.to_q.weight": (1, 1)}, "a diffusion model"),
        ({"model.diffusion_model.joint_blocks.0.x": (1,)}, "a checkpoint without T5-XXL"),
        ({"encoder.block.0.layer.0.SelfAttention.k.lora_A.weight": (1, 1)}, "a LoRA"),
    ],
)  # fmt: skip
def test_other_encoders_are_refused_by_name(shapes, name):
    assert identify(shapes).name == name
    with pytest.raises(InputError, match=f"^prompt: file is {name}, not T5-XXL.*t5xxl_fp16.safetensors"):
        require_t5_xxl(shapes, "file", "prompt")


@pytest.mark.parametrize(
    "shapes, match",
    [
        ({}, "no text encoder that is known .it has nothing"),
        ({"a": (1,), "b": (1,)}, "no text encoder that is known .it has a"),
        (t5(blocks=12), "lacks 108 tensors: encoder.block.12.*download it again"),
        (t5(table="other"), "lacks 1 tensors: shared.weight"),
        ({"shared.weight": (32128, 4096), LAST: (10240, 4096), NORM: (4096,)}, "lacks 21. tensors"),
        (t5(more=["encoder.block.0.layer.0.SelfAttention.q.weight.absmax"]), "quantisation that is not read"),
        (t5(more=["encoder.block.0.layer.0.SelfAttention.q.qweight"]), "quantisation that is not read"),
    ],
)  # fmt: skip
def test_what_is_no_whole_encoder_is_refused(shapes, match):
    with pytest.raises(InputError, match=f"^prompt: file .*{match}"):
        require_t5_xxl(shapes, "file", "prompt")


@pytest.mark.parametrize("value", [0.0, -0.0])
@pytest.mark.parametrize("shape", [(1, 226, 16), (226, 16)])
def test_an_embedding_of_zeros_is_refused(tmp_path, value, shape):
    save_file({"prompt_embeds": torch.full(shape, value)}, tmp_path / "null.safetensors")
    with pytest.raises(InputError, match="^prompt: .*holds zeros only"):
        load_prompt_embeds(tmp_path / "null.safetensors")
    almost = torch.zeros(shape)
    almost[..., -1] = 1e-3
    assert check_prompt_embeds(almost, "it").shape == (1, 226, 16)


def test_an_encoder_in_place_of_an_embedding_is_named(tmp_path):
    names = ("encoder.block.0.layer.0.SelfAttention.k.weight", "encoder.final_layer_norm.weight")
    save_file({names[0]: torch.ones(1, 1), names[1]: torch.ones(4096)}, tmp_path / "t5.safetensors")
    with pytest.raises(
        InputError, match="^prompt: .*is T5-XXL; it must hold one tensor.*given as text_encoder"
    ):
        load_prompt_embeds(tmp_path / "t5.safetensors")


@pytest.mark.parametrize(
    "tensors, name", [(LLAMA | words(128256), "Llama 3"), ({"a": (1,)}, "no text encoder")]
)
def test_a_folder_with_another_encoder_is_refused_before_it_runs(tmp_path, tensors, name):
    (tmp_path / "text_encoder").mkdir()
    values = {key: torch.ones(shape[:1]) for key, shape in tensors.items()}
    save_file(values, tmp_path / "text_encoder" / "model.safetensors")
    with pytest.raises(InputError, match=f"^text_encoder: .*holds {name}"):
        encode_null_prompt(tmp_path)
