import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from hero_engine import ConfigError, HeroConfig, hero_session
from hero_engine.cost import (
    AETHER,
    aether_shape,
    cached_step_flops,
    format_prediction,
    full_step_flops,
    linear_flops,
    predict,
)
from hero_engine.cost.__main__ import main
from hero_engine.cost.paper import TOLERANCE, figures
from hero_engine.flops import BlockShape, ModelShape, full_step
from hero_engine.models.families import adapter_for

from .models import denoise, inputs, noise, tiny_transformer


def test_every_figure_of_the_paper_is_reproduced():
    rows = figures()
    assert len(rows) == 24
    assert {row.row for row in rows if not abs(row.deviation) <= TOLERANCE} == set()


def test_the_command_fails_where_a_figure_differs(monkeypatch, capsys):
    assert main(["--paper"]) == 0
    assert "24 of 24 figures within 0.1 %" in capsys.readouterr().out
    monkeypatch.setattr("hero_engine.cost.paper._FULL", 1.002 * linear_flops(AETHER, 42, 15076))
    assert main(["--paper"]) == 1


def test_the_command_needs_no_torch():
    blocked = "import sys; sys.modules['torch'] = None; sys.argv = ['cost', '--paper']; import runpy; "
    result = subprocess.run(
        [sys.executable, "-c", blocked + "runpy.run_module('hero_engine.cost', run_name='__main__')"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "HERO N=2" in result.stdout


def test_a_setting_is_predicted(capsys):
    arguments = "--tau 21 --interval 2 --ratio 1/6 --steps 50 --size 480x720x41".split()
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "27 full / 23 cached" in out and "8292.06 of 14347.59" in out and "0.547 GB" in out


@pytest.mark.parametrize(
    "arguments, field",
    [
        ("--tau 43", "--tau"),
        ("--ratio 0", "--ratio"),
        ("--interval 0", "--interval"),
        ("--steps 0", "--steps"),
        ("--batch 0", "--batch"),
        ("--size 470x720x41", "--size"),
        ("--size 480x720x40", "--size"),
        ("--size 16x16x17", "--patch"),
        ("--preset none", "--preset"),
        ("--bytes 0", "--bytes"),
        ("--tau 3/2", "--tau"),
    ],
)
def test_bad_arguments_name_the_field(arguments, field, capsys):
    assert main(arguments.split()) == 2
    assert f"error: {field}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, words",
    [
        ("--ratio 1/0", "'1/0' is neither a number nor a share, such as 0.25, 25% or 1/4"),
        ("--feedback 1/2/3", "'1/2/3' is neither a number nor a share"),
        ("--patch 2x3", "'2x3' is not FRAMESxROWSxCOLUMNS, such as 1x2x3"),
        ("--interval 2.5", "'2.5' is not a whole number, such as 2"),
        ("--size 480x720", "'480x720' is not HEIGHTxWIDTHxFRAMES, such as 480x720x41"),
    ],
)
def test_malformed_options_say_what_is_expected(options, words, capsys):
    with pytest.raises(SystemExit) as error:
        main(options.split())
    assert error.value.code == 2
    assert f"error: argument {options.split()[0]}: {words}" in capsys.readouterr().err


def test_a_setting_as_text_and_options_over_it(capsys):
    mask = "27 of 50: " + "1" * 10 + "01" * 15 + "00001" * 2
    setting = f'tau=25% shallow=forecast mask="{mask}"'
    assert main(["--setting", setting.replace("27 of", "28 of")]) == 2
    assert "--setting: mask: says 28 of 50, and what follows is 27 of 50" in capsys.readouterr().err
    assert main(["--setting", setting, "--text", "omit"]) == 0
    written = capsys.readouterr().out
    assert "27 full / 23 cached" in written
    config = HeroConfig(tau="25%", shallow="forecast", text="omit", mask=mask)
    assert format_prediction(predict(config, AETHER, 50, 2)) in written
    assert main("--setting order=2 --method taylorseer --interval 3".split()) == 0
    assert "19 full / 31 cached" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main("--setting tau=3 --preset fast".split())
    assert "--preset: not allowed with argument --setting" in capsys.readouterr().err


def test_shares_are_written_alike_for_every_option(capsys):
    for option in ("--tau", "--ratio", "--warmup", "--cooldown", "--feedback"):
        outputs = set()
        for half in ("50%", "1/2", "2/4"):
            assert main([option, half]) == 0
            outputs.add(capsys.readouterr().out)
        assert len(outputs) == 1, option


def test_a_count_or_share_that_is_none_names_the_option(capsys):
    for option, text in (("--tau", "half"), ("--tau", "0.5"), ("--warmup", "1/0"), ("--cooldown", "120%")):
        assert main([option, text]) == 2
        assert f"error: {option}: '{text}' is neither a count nor a share" in capsys.readouterr().err


def test_every_setting_of_hero_is_an_option_with_help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in HeroConfig.setting_names():
        assert re.search(rf"--{name} \S+\s+\S+ \S+", text), name


def test_linear_flops_are_those_of_the_modules():
    model = tiny_transformer(blocks=3)
    shape = adapter_for(model).read_call((), {**inputs(), "timestep": torch.tensor([1])}).shape
    counted = 0

    def count(module, args, output):
        nonlocal counted
        weight = module.weight
        counted += 2 * weight.numel() * (output.numel() // weight.shape[0])

    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(**inputs(), timestep=torch.tensor([1]))
    assert linear_flops(shape, 3, shape.video_tokens + shape.text_tokens) == counted


def test_a_prompt_with_layers_of_its_own_costs_what_they_do():
    """And nothing where it does not run."""
    like_video = BlockShape(count=1, token=10, feed_forward=4, fixed=3, attention=2)
    own = replace(like_video, count=2, text=50)
    shape = ModelShape((like_video, own), 2, (1, 2, 2), 5, outside=1, token_numbers=1)
    # Four tokens of 10, and the prompt's five as one of them costs, or 50 together.
    blocks = (40 + 50 + 3) + 2 * (40 + 50 + 3)
    assert linear_flops(shape, 3, 4, 5) == full_step(shape).linear == 2 * (blocks + 1)
    assert linear_flops(shape, 3, 4) == 2 * (3 * (40 + 3) + 1)
    cheap = replace(shape, stack=(like_video, replace(own, text=7)))
    assert linear_flops(cheap, 3, 4, 5) == 2 * (93 + 2 * (40 + 7 + 3) + 1)
    config = HeroConfig(tau=3, ratio=0.5, patch=(1, 2, 2))
    for text, prompt in (("refresh", 50 + 2 * 7), ("omit", 0)):
        chosen = replace(config, text=text)
        assert chosen.work(cheap, chosen.resolve(3), 1).linear == 2 * (3 * (20 + 3) + prompt + 1)


@pytest.mark.parametrize("shallow", ["reuse", "forecast"])
@pytest.mark.parametrize("tau", [2, "100%"])
def test_predicted_bytes_and_counts_are_those_of_a_run(shallow, tau):
    model = tiny_transformer(blocks=4)
    config = HeroConfig(tau=tau, shallow=shallow)
    with hero_session(model, config, 12) as run:
        denoise(model, steps=12, batch=2)
    report = run.report
    prediction = predict(config, report.shape, 12, batch=2, element_bytes=4)
    assert report.bytes_cached == prediction.cached_bytes
    assert report.full_steps == prediction.full_steps
    assert report.predicted_speedup == pytest.approx(prediction.speedup_bound)


def test_feedback_keeps_a_latent_where_every_step_is_full():
    model, config = tiny_transformer(blocks=2), HeroConfig(interval=1, feedback=1.0)
    with hero_session(model, config, 4, noise()) as run:
        denoise(model, steps=4)
    assert run.report.bytes_cached == predict(config, run.report.shape, 4, element_bytes=4).cached_bytes


def test_prediction_is_consistent():
    prediction = predict(HeroConfig(), AETHER, 50, 2)
    assert prediction.speedup_bound == pytest.approx(prediction.unaccelerated_flops / prediction.flops)
    every = predict(HeroConfig(interval=1), AETHER, 50, 2)
    assert every.full_steps == 50 and every.speedup_bound == 1.0
    assert aether_shape(480, 720, 41) == AETHER
    counts = HeroConfig(tau="100%", ratio=1.0).resolve(42)
    assert cached_step_flops(AETHER, HeroConfig(tau="100%", ratio=1.0), counts) == full_step_flops(AETHER)
    with pytest.raises(ConfigError, match="^patch: "):
        predict(HeroConfig(patch=(12, 2, 3)), AETHER, 50)


def test_modulation_of_frames_is_that_of_each_selected_token():
    shape = replace(AETHER, stack=(replace(AETHER.stack[0], modulation=1000),))
    config = HeroConfig(tau=10, text="omit")
    counts = config.resolve(shape.blocks, 50)
    more = cached_step_flops(shape, config, counts) - cached_step_flops(AETHER, config, counts)
    selected, _ = config._refreshed_tokens(shape, counts)
    assert more == pytest.approx(2 * 1000 * 10 * selected) and selected > 1000
    assert full_step_flops(shape) - full_step_flops(AETHER) == pytest.approx(2 * 1000 * 42 * 11)


def test_bytes_go_by_the_streams_numbers():
    config = HeroConfig()
    predicted = [
        predict(config, replace(AETHER, stream_bytes=size), 50, element_bytes=2).cached_bytes
        for size in (None, 2, 4)
    ]
    assert predicted[0] == predicted[1] == predicted[2] / 2
