"""Folders of weights: which files are taken, and what is said of those that are not whole."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from aether import InputError
from aether.model.loading import load_transformer, load_vae
from aether.model.prompt import load_prompt_embeds
from aether.model.weight_folder import refuse_shard, weight_files
from aether.model.weights import read_json

NAME = "diffusion_pytorch_model"
PLAIN = [f"{NAME}-0000{number}-of-00002.safetensors" for number in (1, 2)]
HALF = [f"{NAME}.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
OLD_HALF = [f"{NAME}-0000{number}-of-00002.fp16.safetensors" for number in (1, 2)]


def index(*files):
    return json.dumps(
        {"metadata": {}, "weight_map": {f"key.{number}": file for number, file in enumerate(files)}}
    )


@pytest.fixture
def make(tmp_path):
    """A folder with empty files, or files of the contents given."""

    def folder(*names, **_):
        place = tmp_path / "transformer"
        place.mkdir(exist_ok=True)
        for name in names:
            name, content = name if isinstance(name, tuple) else (name, "")
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(content)
        return place

    return folder


INDEX = (f"{NAME}.safetensors.index.json", index(*PLAIN))
HALF_INDEX = (f"{NAME}.safetensors.index.fp16.json", index(*HALF))
ONE, ONE_HALF = f"{NAME}.safetensors", f"{NAME}.fp16.safetensors"


@pytest.mark.parametrize(
    "names, taken",
    [
        ([ONE], [ONE]),
        ([*PLAIN, INDEX], PLAIN),
        ([*HALF, HALF_INDEX], HALF),
        ([*OLD_HALF, (f"{NAME}.safetensors.index.fp16.json", index(*OLD_HALF))], OLD_HALF),
        ([*HALF, (f"{NAME}.fp16.safetensors.index.json", index(*HALF))], HALF),
        ([ONE_HALF], [ONE_HALF]),
        (["model.safetensors"], ["model.safetensors"]),
        (["MODEL.SAFETENSORS"], ["MODEL.SAFETENSORS"]),
        # Several versions.
        ([ONE, ONE_HALF], [ONE]),
        ([ONE, f"{NAME}.non_ema.safetensors"], [ONE]),
        ([*PLAIN, INDEX, *HALF, HALF_INDEX], PLAIN),
        ([*PLAIN, INDEX, ONE], PLAIN),
        ([ONE_HALF, "pytorch_lora_weights.safetensors"], [ONE_HALF]),
        ([ONE, f"._{ONE}", f"{NAME}.bin", "model.gguf"], [ONE]),
        # A version that is not whole beside one that is.
        ([PLAIN[0], INDEX, ONE], [ONE]),
        ([INDEX, *HALF, HALF_INDEX], HALF),
        ([INDEX, *HALF], HALF),
        ([ONE, f"{NAME}-00001-of-00002.safetensors.incomplete"], [ONE]),
    ],
)
def test_the_files_that_are_taken(make, names, taken):
    folder = make(*names)
    assert weight_files(folder, "transformer") == [folder / name for name in taken]


@pytest.mark.parametrize("names", [PLAIN, HALF, OLD_HALF])
def test_shards_without_an_index_are_taken_by_their_names_and_that_is_reported(make, names, caplog):
    folder = make(*names)
    assert weight_files(folder, "transformer") == [folder / name for name in names]
    assert "the index is missing; 2 shards are taken by their names" in caplog.text


def test_a_version_that_is_passed_over_is_reported(make, caplog):
    weight_files(make(PLAIN[0], INDEX, ONE), "transformer")
    assert f"{INDEX[0]} lacks {PLAIN[1]}; {ONE} is taken" in caplog.text


@pytest.mark.parametrize(
    "names, match",
    [
        ([], "holds no .safetensors file; download it again"),
        (["config.json"], "holds no .safetensors file; download it again"),
        ([f"{ONE}.incomplete"], rf"download was interrupted \({ONE}.incomplete\): start it again"),
        ([f"{ONE}.part"], "download was interrupted"),
        ([f"{ONE}.tmp"], "download was interrupted"),
        (["Unconfirmed 123.crdownload"], "download was interrupted"),
        (
            [".cache/huggingface/download/Gk3=.ab12.incomplete"],
            "download was interrupted .Gk3=.ab12.incomplete",
        ),
        ([f"{NAME}.bin"], "holds pickled weights only; get the .safetensors version"),
        ([f"{NAME}.pt", "x.ckpt"], "pickled weights only"),
        (["model-Q4_0.gguf"], "holds model-Q4_0.gguf, and GGUF is not read; get the .safetensors version"),
        (["model-Q4_0.gguf", f"{ONE}.part"], "download was interrupted"),
        ([PLAIN[0]], f"lacks {PLAIN[1]}; download it again"),
        ([HALF[1]], f"lacks {HALF[0]}; download it again"),
        ([PLAIN[0], INDEX], f"lacks {PLAIN[1]}; download it again"),
        ([PLAIN[0], INDEX, f"{PLAIN[1]}.incomplete"], f"lacks {PLAIN[1]}; its download was interrupted"),
        ([INDEX], f"lacks {PLAIN[0]}, {PLAIN[1]}; download"),
        ([INDEX, "pytorch_lora_weights.safetensors"], f"lacks {PLAIN[0]}"),
        ([(INDEX[0], '{"weight_map": {}}')], "lacks files in its index"),
        ([(INDEX[0], '{"weight_map": [1]}'), ONE], "is no index of weight files"),
        ([(INDEX[0], "<!DOCTYPE html>"), *PLAIN], "index.json is a web page"),
        ([(INDEX[0], "version https://git-lfs.github.com/spec/v1\n"), *PLAIN], "git-lfs pointer"),
        ([ONE_HALF, f"{NAME}.bf16.safetensors"], "holds several weight files; give the path of one"),
        (["a.safetensors", "a (1).safetensors"], r"several weight files.*a \(1\).safetensors, a.safetensors"),
    ],
)
def test_what_is_not_whole_is_called_what_it_is(make, names, match):
    with pytest.raises(InputError, match=f"^transformer: .*{match}"):
        weight_files(make(*names), "transformer")


def test_files_that_the_hub_still_loads_into_the_folder_above(make, tmp_path):
    folder = make("config.json")
    waiting = tmp_path / ".cache" / "huggingface" / "download" / "transformer"
    waiting.mkdir(parents=True)
    (waiting / "x.incomplete").write_text("")
    with pytest.raises(InputError, match=r"its download was interrupted \(x.incomplete\)"):
        weight_files(folder, "transformer")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_lead_nowhere(make, tmp_path):
    folder = make(INDEX, PLAIN[0])
    (folder / PLAIN[1]).symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(InputError, match=f"lacks {PLAIN[1]}, whose links lead nowhere; download it again"):
        weight_files(folder, "transformer")
    with pytest.raises(InputError, match="^prompt: .*is a link that leads nowhere"):
        load_prompt_embeds(folder / PLAIN[1])


def test_one_shard_of_several_is_no_file_of_weights(tmp_path, make):
    for call in (load_transformer, load_vae):
        with pytest.raises(InputError, match="is one of 2 shards; give their folder"):
            call(make(*PLAIN) / PLAIN[0])
    refuse_shard(tmp_path / "model-00001-of-00001.safetensors", "vae")


@pytest.mark.parametrize(
    "name, content, match",
    [
        ("a.safetensors", b"Entry not found", r"is a short text, not weights \('Entry not found'\)"),
        ("a.safetensors", b'{"error":"Invalid credentials"}', "is a short text, not weights"),
        ("a.safetensors", b"GGUF\3\0\0\0", "is GGUF, which is not read"),
        ("a.safetensors", b"<?xml version='1.0'?><Error>", "is a web page"),
        ("a.gguf", b"GGUF", "is GGUF, which is not read"),
        ("a.safetensors.part", b"", "is an unfinished download; start it again"),
        ("a.incomplete", b"", "is an unfinished download; start it again"),
    ],
)
def test_files_in_place_of_weights(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^prompt: .*{match}"):
        load_prompt_embeds(tmp_path / name)


def test_a_file_that_aria2_is_still_writing(tmp_path):
    save_file({"a": torch.ones(1, 6, 16)}, tmp_path / "a.sft")
    assert load_prompt_embeds(tmp_path / "a.sft").shape == (1, 6, 16)
    (tmp_path / "a.sft.aria2").write_text("")
    with pytest.raises(InputError, match="is an unfinished download"):
        load_prompt_embeds(tmp_path / "a.sft")


def test_a_json_file_of_windows(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "config.json", "vae") == {"a": 1}


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A transformer's folder as diffusers writes it, in one file."""
    folder = tmp_path_factory.mktemp("whole")
    tiny.transformer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("names, with_index", [(PLAIN, False), (HALF, True), (OLD_HALF, True), (HALF, False)])
def test_shards_give_the_model_that_was_saved(whole, tmp_path, names, with_index):
    tensors = load_file(whole / ONE)
    keys = sorted(tensors)
    parts = {names[0]: keys[::2], names[1]: keys[1::2]}
    for name, some in parts.items():
        save_file({key: tensors[key] for key in some}, tmp_path / name)
    (tmp_path / "config.json").write_text((whole / "config.json").read_text())
    if with_index:
        weight_map = {key: name for name, some in parts.items() for key in some}
        (tmp_path / f"{NAME}.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": weight_map}))
    loaded = load_transformer(tmp_path, dtype=torch.float32).state_dict()
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[key], tensors[key]) for key in keys)


def test_weights_of_another_model_are_called_that(whole, tmp_path):
    save_file({"decoder.conv1.weight": torch.ones(2)}, tmp_path / "wan_vae.safetensors")
    with pytest.raises(
        InputError, match=r"^vae: .*is of another model: it lacks \d+ of .*decoder.conv1.weight"
    ):
        load_vae(tmp_path / "wan_vae.safetensors")


@pytest.mark.parametrize("revisions, main", [(["ab12"], None), (["ab12", "cd34"], "ab12")])
def test_a_repository_in_the_hubs_cache_is_its_revision(whole, tmp_path, revisions, main):
    repo = tmp_path / "models--Somebody--Aether"
    for revision in revisions:
        place = repo / "snapshots" / revision / "transformer"
        place.mkdir(parents=True)
    for file in whole.iterdir():
        (repo / "snapshots" / "ab12" / "transformer" / file.name).write_bytes(file.read_bytes())
    if main:
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(main + "\n")
    assert load_transformer(repo).config.num_layers == 3


def test_several_revisions_without_one_in_use(tmp_path):
    for revision in ("ab12", "cd34"):
        (tmp_path / "models--a--b" / "snapshots" / revision).mkdir(parents=True)
    with pytest.raises(InputError, match="holds 2 revisions; give the folder of one"):
        load_transformer(tmp_path / "models--a--b")
