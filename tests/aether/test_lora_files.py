"""LoRA files: the scale that is noted beside the tensors, adapters' names, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from aether import InputError
from aether.model.lora_files import CONFIG, read_lora, seems_for

LAYER = "transformer_blocks.0.attn1.to_q"
HEADER = {"transformer.r": 4, "transformer.lora_alpha": 8}
PEFT = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}


@pytest.fixture
def write(tmp_path):
    """Write a LoRA of rank 4 on one layer, and read it."""

    def read(prefix="transformer.", ends=("lora_A.weight", "lora_B.weight"), *, more=None, header=None,
             config=None, name="x.safetensors", rank=4):  # fmt: skip
        factors = (torch.ones(rank, 6), torch.ones(6, rank))
        tensors = {f"{prefix}{LAYER}.{end}": factor for end, factor in zip(ends, factors, strict=True)}
        metadata = {"lora_adapter_metadata": json.dumps(header)} if header is not None else None
        save_file(tensors | (more or {}), tmp_path / name, metadata)
        if config is not None:
            (tmp_path / CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))
        return read_lora(tmp_path / name)

    return read


def scale(file, prefix="transformer.") -> float | None:
    """What the product of the factors is multiplied by; None where the file notes nothing."""
    alpha = file.alphas.get(f"{prefix}{LAYER}.alpha")
    return None if alpha is None else float(alpha) / len(file.tensors[f"{prefix}{LAYER}.lora_A.weight"])


@pytest.mark.parametrize(
    "ends",
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_A.my_style.weight", "lora_B.my_style.weight"),
        ("lora_A", "lora_B"),
    ],
)
def test_the_headers_scale_holds_whatever_the_adapter_is_called(write, ends):
    file = write(ends=ends, header=HEADER)
    assert scale(file) == 2 and file.notes == ("scale 2 by its header",)
    assert sorted(file.tensors) == [f"transformer.{LAYER}.lora_{side}.weight" for side in "AB"]


@pytest.mark.parametrize(
    "config, expected",
    [
        (PEFT, 2),
        (PEFT | {"use_rslora": True}, 4),
        (PEFT | {"r": 16, "rank_pattern": {"attn1.to_q": 4}}, 2),
        (PEFT | {"alpha_pattern": {"to_q": 2}}, 0.5),
        (PEFT | {"alpha_pattern": {"to_k": 2}}, 2),
        (PEFT | {"alpha_pattern": {"to_q": 2}, "use_rslora": True}, 1),
        (PEFT | {"lora_alpha": 0.5}, 0.125),
        (PEFT | {"init_lora_weights": True, "use_dora": False, "bias": "none"}, 2),
    ],
)
def test_pefts_config_beside_the_file_gives_the_scale(write, config, expected):
    file = write("base_model.model.", config=config)
    assert scale(file, "base_model.model.") == expected
    assert file.notes == (f"scale {expected:g} by adapter_config.json",)


def test_scales_that_differ_are_both_named(write):
    other = "base_model.model.transformer_blocks.1.attn1.to_v"
    more = {f"{other}.lora_A.weight": torch.ones(2, 6), f"{other}.lora_B.weight": torch.ones(6, 2)}
    config = PEFT | {"rank_pattern": {"to_v": 2}, "alpha_pattern": {"to_v": 1}}
    file = write("base_model.model.", config=config, more=more)
    assert file.notes == ("scale 0.5 to 2 by adapter_config.json",)


def test_the_header_goes_before_the_file_beside_it(write):
    assert scale(write(header=HEADER, config=PEFT | {"lora_alpha": 4})) == 2


def test_a_config_of_another_file_is_not_used_and_that_is_reported(write):
    write(name="other.safetensors")
    file = write(config=PEFT)
    assert scale(file) is None and file.notes == (
        "adapter_config.json beside it is of another file and was not used",
    )
    file = write("base_model.model.", config=PEFT | {"r": 8})
    assert scale(file) is None and "rank 8, this file's is 4" in file.notes[0]
    assert scale(write(name="adapter_model.safetensors", config=PEFT)) == 2


def test_alphas_in_the_file_are_its_own(write):
    file = write(more={f"transformer.{LAYER}.alpha": torch.tensor(1.0)}, config=PEFT)
    assert not file.alphas and not file.notes and float(file.tensors[f"transformer.{LAYER}.alpha"]) == 1


def test_without_a_note_there_is_no_scale(write):
    file = write()
    assert not file.alphas and not file.notes
    assert not write(header={"transformer.r": 4}).alphas


@pytest.mark.parametrize(
    "options, match",
    [
        ({"config": PEFT | {"peft_type": "LOHA"}}, "x.safetensors is a LOHA of PEFT"),
        ({"config": PEFT | {"use_dora": True}}, "is a DoRA of PEFT.*adapter_config.json"),
        ({"header": HEADER | {"transformer.use_dora": True}}, "is a DoRA of PEFT.*its header"),
        ({"config": PEFT | {"init_lora_weights": "pissa_niter_4"}}, "path_initial_model_for_weight"),
        ({"config": PEFT | {"lora_alpha": "8"}}, "lora_alpha is '8', not a number"),
        ({"config": '{"lora_alpha": NaN, "r": 4}'}, "lora_alpha is nan, not a number"),
        ({"config": PEFT | {"alpha_pattern": {"to_q(": 2}}}, r"its alpha_pattern 'to_q\(' is no regular"),
        ({"config": "{"}, "adapter_config.json cannot be read as JSON"),
        ({"config": "<!DOCTYPE html>"}, "adapter_config.json is a web page"),
        ({"more": {"a.lora_magnitude_vector": torch.ones(6)}}, "is a DoRA of PEFT.*it has a.lora_magnitude"),
        ({"more": {"a.lora_E": torch.ones(6, 1)}}, "is an AdaLoRA of PEFT"),
        ({"more": {"a.lora_A.s.weight": torch.ones(4, 6)}}, r"several adapters \(one without a name, s\)"),
        ({"more": {"a.lora_A.weight": torch.full((4, 6), torch.nan)}}, r"NaN or infinite .*in a.lora_A"),
        ({"more": {"a.alpha": torch.tensor(torch.inf)}}, "NaN or infinite values"),
        ({"more": {"a.diff": torch.full((2,), torch.nan).to(torch.float8_e4m3fn)}}, "NaN or infinite values"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_refused(write, options, match):
    with pytest.raises(InputError, match=f"^lora: .*{match}"):
        write("base_model.model.", **options)


def test_a_file_that_is_none_is_refused_by_what_it_is(tmp_path):
    for name, content, match in (
        ("page.safetensors", b"<!DOCTYPE html>", "cannot be read as a LoRA: it is a web page"),
        ("torch.pt", b"PK\x03\x04", "it is a pickle"),
        ("half.safetensors.part", b"", "it is an unfinished download"),
        ("q.gguf", b"GGUF", "it is GGUF, which is not read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"^lora: {name} .*{match}"):
            read_lora(tmp_path / name)


@pytest.mark.parametrize(
    "key, family",
    [
        ("diffusion_model.blocks.0.cross_attn.k.lora_A.weight", "Wan"),
        ("lora_unet_blocks_3_self_attn_o.lora_down.weight", "Wan"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", "Flux or HunyuanVideo"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "Flux or HunyuanVideo"),
        ("transformer_blocks.0.img_mlp.net.2.lora_A.weight", "Qwen-Image"),
        ("lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight", "Stable Diffusion 1.5 or XL"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "Stable Diffusion 1.5 or XL"),
        ("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight", "Stable Diffusion 3"),
        ("transformer_blocks.0.attn1.add_k_proj.lora_A.weight", "Mochi"),
        ("diffusion_model.transformer_blocks.0.attn2.to_k.lora_A.weight", "LTX-Video or PixArt"),
        ("diffusion_model.layers.0.attention.qkv.lora_A.weight", "Lumina or Z-Image"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "a text encoder"),
        ("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", None),
        ("lora_unet__transformer_blocks_0_ff_net_0_proj.lora_down.weight", None),
        ("something.else", None),
    ],
)
def test_the_model_that_a_lora_is_for_is_guessed_by_its_keys(key, family):
    assert seems_for([key]) == family
