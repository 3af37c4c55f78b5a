"""Loading: what comes in whole, and how everything else is refused."""

import argparse
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from aether import InputError
from aether.cli import model as cli_model
from aether.cli.console import Console
from aether.generation.sampling import sample
from aether.generation.tasks import condition
from aether.model import hub, loading
from aether.model.loading import infer_config, load, load_transformer, load_vae
from aether.model.prompt import encode_null_prompt, load_prompt_embeds, save_prompt_embeds
from aether.model.schedulers import make_scheduler

AETHER = "AetherWorldModel/AetherV1"
FLOAT = {"dtype": torch.float32}


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    """A pipeline folder as diffusers writes it, the transformer in shards, and the same as single files."""
    folder = tmp_path_factory.mktemp("aether") / "tiny"
    model.transformer.save_pretrained(folder / "transformer", max_shard_size="150KB")
    model.vae.save_pretrained(folder / "vae")
    model.scheduler.save_pretrained(folder / "scheduler")
    save_file({"prompt_embeds": model.prompt_embeds}, folder / "null_prompt.safetensors")
    save_file(model.transformer.state_dict(), folder.parent / "single.safetensors")
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """The same, free to be damaged."""
    shutil.copy(saved.parent / "single.safetensors", tmp_path / "single.safetensors")
    return shutil.copytree(saved, tmp_path / "tiny")


@pytest.fixture
def single(copied):
    return copied.parent / "single.safetensors"


def same_weights(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def refused(call, *arguments, field, match, **options):
    with pytest.raises(InputError, match=match) as error:
        call(*arguments, **options)
    assert error.value.field == field and str(error.value).startswith(f"{field}: ")


def test_a_pipeline_folder_gives_the_model_that_was_saved(model, saved):
    assert len(list((saved / "transformer").glob("*.safetensors"))) > 1
    lines = []
    loaded = load(saved, **FLOAT, progress=lines.append)
    assert lines == ["transformer", "vae"] and loaded.name == "tiny" and loaded.trained
    assert same_weights(loaded.transformer, model.transformer) and same_weights(loaded.vae, model.vae)
    assert torch.equal(loaded.prompt_embeds, model.prompt_embeds)
    assert not loaded.transformer.training and not any(
        p.requires_grad for p in loaded.transformer.parameters()
    )
    assert (loaded.spec.default_size, loaded.spec.default_frames, loaded.spec.size_multiple) == (
        (32, 48),
        17,
        16,
    )
    assert (loaded.spec.latent_channels, loaded.spec.spatial_scale, loaded.spec.temporal_scale) == (16, 8, 4)


def test_a_loaded_model_samples_what_the_original_does(model, saved, tiny):
    results = []
    for chosen in (model, load(saved, **FLOAT)):
        generator = torch.Generator().manual_seed(0)
        conditions = condition(chosen, "planning", **tiny.inputs("planning"), generator=generator)
        results.append(sample(chosen, conditions, steps=2, generator=generator))
    assert torch.equal(*results)


def test_the_default_dtype_is_bfloat16(saved):
    loaded = load(saved)
    dtypes = {
        tensor.dtype for part in (loaded.transformer, loaded.vae) for tensor in part.state_dict().values()
    }
    assert dtypes == {loaded.dtype} == {torch.bfloat16}


def test_tiling_is_switched_on_when_asked_for(saved):
    assert not load(saved, tiling=False).vae.use_tiling
    loaded = load(saved, tiling=True)
    assert loaded.vae.use_tiling
    assert (loaded.vae.tile_sample_min_height, loaded.vae.tile_sample_min_width) == (240, 360)


def test_by_default_only_what_is_larger_than_the_vaes_own_size_is_tiled(saved):
    vae = load(saved).vae
    assert vae.use_tiling and not vae.use_slicing
    assert (vae.tile_sample_min_height, vae.tile_sample_min_width) == (480, 720)
    assert (vae.tile_latent_min_height, vae.tile_latent_min_width) == (60, 90)


@pytest.mark.parametrize("prefix", ["", "transformer.", "model.diffusion_model."])
def test_a_single_file_is_read_off_its_shapes(model, saved, tmp_path, prefix):
    file = tmp_path / "aether.safetensors"
    save_file({prefix + key: tensor for key, tensor in model.transformer.state_dict().items()}, file)
    loaded = load(file, vae=saved, prompt=saved / "null_prompt.safetensors", **FLOAT)
    assert same_weights(loaded.transformer, model.transformer) and loaded.name == "aether"
    config, original = loaded.transformer.config, model.transformer.config
    read = infer_config({key: tuple(t.shape) for key, t in model.transformer.state_dict().items()})
    assert {key: config[key] for key in read if key != "sample_frames"} == {
        key: original[key] for key in read if key != "sample_frames"
    }
    assert (loaded.spec.default_size, loaded.spec.default_frames) == ((480, 720), 41)


@pytest.mark.parametrize("patch, heads, head_dim, layers", [(1, 5, 32, 2), (2, 3, 16, 4)])
def test_other_dimensions_are_read_too(tiny, patch, heads, head_dim, layers):
    wanted = {"patch_size": patch, "num_attention_heads": heads, "attention_head_dim": head_dim}
    wanted |= {"num_layers": layers, "attention_bias": False, "patch_bias": False}
    shapes = {key: tuple(t.shape) for key, t in tiny.transformer(**wanted).state_dict().items()}
    assert wanted.items() <= infer_config(shapes).items()


def test_learned_positions_are_noticed_and_their_length_read(tiny, tmp_path):
    size = {"sample_height": 60, "sample_width": 90, "sample_frames": 17, "max_text_seq_length": 226}
    original = tiny.transformer(use_learned_positional_embeddings=True, **size)
    save_file(original.state_dict(), tmp_path / "t.safetensors")
    loaded = load_transformer(tmp_path / "t.safetensors", **FLOAT)
    assert same_weights(loaded, original)
    assert loaded.config.use_learned_positional_embeddings and loaded.config.sample_frames == 17


def test_a_config_beside_the_file_says_what_shapes_cannot(saved, single):
    shutil.copy(saved / "transformer" / "config.json", single.with_name("config.json"))
    assert load_transformer(single).config.sample_width == 6
    assert load_transformer(single, config={"sample_width": 8}).config.sample_width == 8


def test_positions_that_no_file_holds_are_computed(tiny, tmp_path):
    original = tiny.transformer(use_rotary_positional_embeddings=False)
    original.save_pretrained(tmp_path)
    loaded = load_transformer(tmp_path, **FLOAT)
    assert torch.equal(loaded.patch_embed.pos_embedding, original.patch_embed.pos_embedding)


def test_a_single_vae_file_with_its_config(model, copied):
    assert same_weights(load_vae(copied / "vae" / "diffusion_pytorch_model.safetensors", **FLOAT), model.vae)


def test_schedulers(saved):
    import diffusers

    file = saved / "scheduler" / "scheduler_config.json"
    for kind, cls in (("dpm", diffusers.CogVideoXDPMScheduler), ("ddim", diffusers.CogVideoXDDIMScheduler)):
        own, default = make_scheduler(kind, file), make_scheduler(kind)
        assert type(own) is type(default) is cls
        torch.testing.assert_close(own.alphas_cumprod, default.alphas_cumprod)
        assert default.alphas_cumprod[-1] == 0  # zero signal at the last timestep
    refused(make_scheduler, "euler", field="scheduler", match="dpm, ddim")


@pytest.mark.parametrize("scale", ["0.7", [0.7], 0, -1.0, True])
def test_a_vae_whose_scale_is_no_number_above_zero_is_refused(copied, scale):
    file = copied / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scaling_factor": scale}))
    refused(load_vae, copied, field="vae", match="scaling_factor")


# What is refused


@pytest.mark.parametrize(
    "name", ["nothing/here/at/all", "nothing.safetensors", "some/where.safetensors", "a/b.ckpt", ""]
)
def test_a_missing_source(name):
    refused(load, name, field="source", match="does not exist|not a path")


def test_a_part_that_is_not_given(saved, single):
    refused(load, single, field="vae", match="CogVideoX-5b-I2V")
    refused(load, single, vae=saved, field="prompt", match="text_encoder=")
    refused(
        load,
        saved,
        text_encoder=saved,
        prompt=saved,
        field="prompt",
        match="does not exist|not a .safetensors",
    )


def test_a_truncated_file(single):
    single.write_bytes(single.read_bytes()[:-100])
    refused(load_transformer, single, field="transformer", match="truncated or damaged.*download it again")
    single.write_bytes(single.read_bytes()[:50])
    refused(load_transformer, single, field="transformer", match="truncated or damaged")


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs pointer"),
        (pickle.dumps({"weight": [1]}), "pickle"),
        (b"PK\x03\x04 torch.save", "pickle"),
        (b"\xff" * 100, "truncated or damaged"),
    ],
)
def test_files_that_are_something_else(single, content, match):
    single.write_bytes(content)
    refused(load_transformer, single, field="transformer", match=match)
    refused(load_vae, single, field="vae", match=match)
    refused(load_prompt_embeds, single, field="prompt", match=match)


def test_pickles_are_not_opened(single, tmp_path):
    for suffix in (".bin", ".pt", ".pth", ".ckpt"):
        file = tmp_path / f"model{suffix}"
        shutil.copy(single, file)
        refused(load, file, field="transformer", match="pickle.*safetensors version")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    (tmp_path / "folder" / "config.json").write_text('{"_class_name": "CogVideoXTransformer3DModel"}')
    refused(load_transformer, tmp_path / "folder", field="transformer", match="pickled weights only")


def test_a_file_that_begins_like_a_pickle_but_is_none(tmp_path):
    """The first byte of a safetensors file is its header's length modulo 256, so any value may occur."""
    file, first = tmp_path / "prompt.safetensors", set()
    for length in range(0, 256, 8):
        save_file({"a": torch.ones(1, 6, 16)}, file, {"padding": "x" * length})
        first.add(file.read_bytes()[0])
        assert load_prompt_embeds(file).shape == (1, 6, 16)
    assert 0x80 in first


def test_another_suffix(single):
    refused(
        load_transformer, single.rename(single.with_suffix(".gguf")), field="transformer", match="only format"
    )


def edit(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    "change, match",
    [
        (
            lambda t: t.pop("transformer_blocks.1.ff.net.0.proj.weight"),
            "lacks 1 tensors: transformer_blocks.1.ff",
        ),
        (lambda t: t.update(extra=torch.ones(1)), "do not belong there: extra"),
        (
            lambda t: t.update({"norm_final.weight": torch.ones(3)}),
            r"norm_final.weight is \(3,\), not \(32,\)",
        ),
        (
            lambda t: t.pop("patch_embed.proj.weight"),
            "not a CogVideoX 1.0 transformer.*patch_embed.proj.weight",
        ),
        (lambda t: t.update({"patch_embed.proj.weight": torch.ones(32, 8)}), "not a CogVideoX 1.0"),
        (
            lambda t: t.update({"norm_final.bias": torch.ones(32, dtype=torch.int8)}),
            "quantised: norm_final.bias",
        ),
        (lambda t: t.clear(), "not a CogVideoX 1.0 transformer"),
    ],
)
def test_tensors_that_are_missing_unexpected_or_misshapen(single, change, match):
    edit(single, change)
    refused(load_transformer, single, field="transformer", match=match)


def test_a_missing_shard_and_a_damaged_index(copied):
    shard = sorted((copied / "transformer").glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.unlink()
    refused(load, copied, field="transformer", match=f"lacks {shard.name}")
    shard.write_bytes(content[:-7])
    refused(load, copied, field="transformer", match=f"{shard.name} is truncated")
    (copied / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text("{")
    refused(load, copied, field="transformer", match="cannot be read as JSON")


def test_a_config_that_does_not_fit(copied):
    file = copied / "vae" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"block_out_channels": [8, 8, 16, 32]}))
    refused(load, copied, field="vae", match="does not fit its config|lacks|do not belong")
    file.write_text(json.dumps(config | {"latent_channels": "many"}))
    refused(load, copied, field="vae", match="cannot be used")
    file.write_text(json.dumps(config | {"_class_name": "AutoencoderKL"}))
    refused(load, copied, field="vae", match="AutoencoderKL.*AutoencoderKLCogVideoX")
    file.unlink()
    refused(load, copied, field="vae", match="config.json does not exist")


def test_a_transformer_of_another_form(tiny, saved, tmp_path):
    for changes in ({"in_channels": 32, "out_channels": 16}, {"out_channels": 16}):
        tiny.transformer(**changes).save_pretrained(tmp_path / "t")
        refused(
            load,
            tmp_path / "t",
            vae=saved,
            prompt=saved / "null_prompt.safetensors",
            field="transformer",
            match="takes 96 and returns 56.*AetherV1",
        )


@pytest.mark.parametrize(
    "tensors, match",
    [
        ({"a": torch.ones(1, 6, 8)}, "8 wide, the transformer expects 16"),
        ({"a": torch.ones(2, 6, 16)}, "1, tokens, width"),
        ({"a": torch.ones(6)}, "1, tokens, width"),
        ({"a": torch.ones(1, 6, 16), "b": torch.ones(1)}, "holds 2 tensors"),
        ({"a": torch.full((1, 6, 16), float("nan"))}, "NaN"),
    ],
)
def test_prompt_embeddings_that_do_not_fit(saved, tmp_path, tensors, match):
    save_file(tensors, tmp_path / "prompt.safetensors")
    refused(load, saved, prompt=tmp_path / "prompt.safetensors", field="prompt", match=match)


def test_device_and_dtype(saved):
    refused(load, saved, device="toaster", field="device", match="toaster")
    refused(load, saved, dtype=torch.int8, field="dtype", match="bfloat16")
    if not torch.cuda.is_available():
        refused(load, saved, device="cuda", field="device", match="try cpu")


# Prompt embeddings that are kept


def test_a_kept_embedding_is_rounded_as_in_the_reference_and_written_whole(tmp_path, model, monkeypatch):
    file = tmp_path / "new" / "prompt.safetensors"
    save_prompt_embeds(file, model.prompt_embeds[0])
    assert torch.equal(load_prompt_embeds(file), model.prompt_embeds.to(torch.bfloat16).float())

    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    kept = file.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError):
        save_prompt_embeds(file, model.prompt_embeds)
    assert [path.name for path in file.parent.iterdir()] == [file.name] and file.read_bytes() == kept


def test_the_embedding_is_computed_once(copied, tmp_path, model, monkeypatch):
    (copied / "null_prompt.safetensors").unlink()
    (copied / "text_encoder").mkdir()
    calls = []

    def encode(folder, tokens):
        calls.append((folder, tokens))
        return model.prompt_embeds

    monkeypatch.setattr(loading, "encode_null_prompt", encode)
    first, second = (load(copied, cache_dir=tmp_path / "cache", **FLOAT).prompt_embeds for _ in range(2))
    assert calls == [(copied, 6)] and torch.equal(first, second)
    assert torch.equal(first, model.prompt_embeds.to(torch.bfloat16).float())


def test_a_text_encoder_that_is_not_there(saved, tmp_path):
    refused(encode_null_prompt, saved, field="text_encoder", match="no folder text_encoder/")
    (tmp_path / "text_encoder").mkdir()
    refused(encode_null_prompt, tmp_path, field="text_encoder", match="no .safetensors file")


def test_the_embedding_is_computed_before_blocks_fill_the_hosts_memory(copied, model, tmp_path, monkeypatch):
    (copied / "null_prompt.safetensors").unlink()
    (copied / "text_encoder").mkdir()
    order = []
    monkeypatch.setattr(loading, "encode_null_prompt", lambda *_: order.append("T5") or model.prompt_embeds)
    monkeypatch.setattr(loading, "keep_in_float8", lambda *_: order.append("float8"))
    monkeypatch.setattr(loading, "offload_blocks", lambda *_: order.append("offload"))
    load(copied, cache_dir=tmp_path / "cache", float8=True, offload=True, **FLOAT)
    assert order == ["T5", "float8", "offload"]


@pytest.fixture
def t5(tmp_path):
    """Saves a small T5 encoder in a dtype, and gives back the folder and the encoder in float32."""
    transformers = pytest.importorskip("transformers")

    def save(dtype, layers):
        torch.manual_seed(0)
        sizes = {"vocab_size": 3, "d_model": 16, "d_kv": 4, "d_ff": 8, "num_heads": 2}
        config = transformers.T5Config(**sizes, num_layers=layers)
        encoder = transformers.T5EncoderModel(config).eval().to(dtype)
        encoder.save_pretrained(tmp_path / "text_encoder")
        return tmp_path, encoder.float()

    return save


@pytest.mark.slow
@pytest.mark.parametrize("kept, layers", [(torch.float32, 1), (torch.bfloat16, 2)])
@torch.no_grad()
def test_the_t5_encoder_gives_the_embedding_of_the_padded_empty_prompt(t5, kept, layers):
    folder, encoder = t5(kept, layers)
    expected = encoder(torch.tensor([[1, 0, 0, 0, 0, 0]]))[0]
    embeds = encode_null_prompt(folder, 6)
    assert embeds.dtype == torch.float32 and torch.equal(embeds, expected)
    rough = encode_null_prompt(folder, 6, dtype=torch.bfloat16)
    assert rough.dtype == torch.bfloat16 and not torch.equal(rough, expected)
    torch.testing.assert_close(rough.float(), expected, rtol=0, atol=0.05)


@pytest.mark.slow
def test_a_block_of_the_t5_encoder_is_whole_only_while_it_runs(t5, monkeypatch):
    from transformers import T5EncoderModel

    folder, _ = t5(torch.bfloat16, 2)
    read, loaded, kept, seen = T5EncoderModel.from_pretrained, [], [], []

    def places():
        return [
            {(str(weight.device), weight.dtype) for weight in block.parameters()}
            for block in loaded[0].encoder.block
        ]

    def reading(*arguments, **options):
        loaded.append(read(*arguments, **options))
        kept.extend(places())
        for block in loaded[0].encoder.block:
            block.layer[0].register_forward_hook(lambda *_: seen.append(places()))
        return loaded[0]

    monkeypatch.setattr(T5EncoderModel, "from_pretrained", reading)
    encode_null_prompt(folder, 6)
    whole, gone = {("cpu", torch.float32)}, {("meta", torch.float32)}
    assert seen == [[whole, kept[1]], [gone, whole]] and places() == [gone, gone]


# The command line's choice of a device


def asked(**changes):
    chosen = {"model": "miniature", "device": "auto", "dtype": "auto", "scheduler": "ddim", "offload": False}
    return argparse.Namespace(**chosen | changes)


def test_a_device_found_by_itself_is_tried_too(monkeypatch):
    """A GPU that torch sees may still be of no use to it."""
    monkeypatch.setattr(cli_model, "auto_device", lambda: "toaster")
    refused(cli_model._load, asked(), Console(True), field="device", match="toaster.*cannot be used here")


def test_blocks_are_offloaded_from_a_device_found_by_itself(monkeypatch):
    monkeypatch.setattr(cli_model, "auto_device", lambda: "cpu")
    assert cli_model._load(asked(offload=True), Console(True)).device == torch.device("cpu")


# Repositories by name


@pytest.fixture
def downloads(monkeypatch, saved):
    """Stands in for Hugging Face: every repository is the saved folder."""
    calls = []

    def fetch(repo, *, allow_patterns, cache_dir):
        calls.append((repo, allow_patterns))
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return calls


def test_a_repository_is_fetched_without_code_or_pickles(downloads, model):
    loaded = load("Somebody/Aether-tiny", **FLOAT)
    assert loaded.name == "Somebody/Aether-tiny" and same_weights(loaded.transformer, model.transformer)
    [(repo, patterns)] = downloads
    assert repo == "Somebody/Aether-tiny"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)


def test_what_a_repository_lacks_comes_from_the_base_model(downloads, saved, model, monkeypatch, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copytree(saved / "transformer", tmp_path / "bare" / "transformer")
    calls = []

    def fetch(repo, *, allow_patterns, cache_dir):
        calls.append(repo)
        return str(tmp_path / "bare" if repo == AETHER else saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.setattr(loading, "encode_null_prompt", lambda *_, **__: model.prompt_embeds)
    loaded = load(AETHER, cache_dir=tmp_path / "cache", **FLOAT)
    assert calls == [AETHER, loading.BASE_REPO, loading.BASE_REPO]
    assert same_weights(loaded.vae, model.vae)


def test_failed_downloads_are_explained(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    refused(load, "Somebody/Aether", field="source", match="no route to host.*it will resume")
    refused(hub.resolve, "a--b/..c", "vae", None, (), print, field="vae", match="does not exist")
