"""The benchmark of speed runs, counts full steps and writes its table."""

import pytest

from benchmarks.sizes import SIZES, build_model
from benchmarks.speed import Times, main
from evaluation.compare.meter import shared_copy


def test_times_by_kind():
    times = Times(full=[True, True, False, True, False], clock=[4.0, 5.0, 1.0, 90.0, 3.0])
    assert (times.median(times.clock, True), times.median(times.clock, False)) == (5, 2)
    assert times.share(times.clock) == 0.4
    assert times.typical(times.clock) == 19  # the stall of 90 counts as a median step
    assert Times(full=[True], clock=[1.0]).share([1.0]) is None


def test_a_shared_copy_holds_the_same_weights():
    import torch

    model = build_model(SIZES["tiny"], torch.device("cpu"))
    pairs = zip(model.parameters(), shared_copy(model).parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)


def test_unknown_contenders_are_named():
    with pytest.raises(SystemExit, match="^error: --only: 'HERO slow' is not one of untouched, optimized"):
        main(["--only", "HERO slow"])


@pytest.mark.slow
def test_side_by_side(tmp_path):
    out, names = tmp_path / "speed.md", ["HERO paper", "HERO paper, optimized", "FORA"]
    main(["--device", "cpu", "--size", "tiny", "--steps", "6", "--only", *names, "--out", str(out)])
    lines = out.read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert [row[:2] for row in rows] == [["untouched", "6"], *([name, "5"] for name in names)]
    assert len({len(row) for row in [*rows, lines[2].strip("|").split("|")]}) == 1
    assert rows[0][7:10] == ["1.000x"] * 3 and rows[0][3] == "" and rows[1][3].endswith(" s")
