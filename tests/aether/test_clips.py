"""Clips of many kinds, made on the spot: what is read, and what is said about it."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import aether.clips.clip as clips
from aether.clips import decoding
from aether.clips.clip import read_clip
from aether.clips.frame_plan import frame_rate, plan_frames
from aether.clips.pictures import _fill, check_frames, crop_notes, fit_frames, open_picture, read_image
from aether.errors import InputError
from aether.long.reader import open_clip

av = pytest.importorskip("av")


def write(
    path, frames, rate, codec="libx264", pix_fmt="yuv420p", source_format="rgb24", aspect=None, times=None,
    curve=None,
):  # fmt: skip
    """(F, H, W, C) uint8 frames into a video; ``times`` in milliseconds makes the rate variable."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.options = {"crf": "4"}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if curve:
            stream.codec_context.color_trc = curve
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source_format)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def greys(count, height=32, width=48):
    """Frame n is of grey 4 n, so that a decoded frame tells its number."""
    return np.broadcast_to(
        (4 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, height, width, 3)
    )


def numbers(clip):
    return (clip.frames.mean(axis=(1, 2, 3)) * 255 / 4).round().astype(int).tolist()


@pytest.mark.parametrize(
    ("source", "fps", "stride"),
    [(8, 8, 1), (10, 10, 1), (12, 12, 1), (15, 15, 1), (16, 15, 1), (24, 24, 1), (23.976, 24, 1), (25, 24, 1),
     (30, 15, 2), (29.97, 15, 2), (48, 24, 2), (50, 24, 2), (60, 15, 4), (120, 24, 5), (20, 10, 2), (5, 8,
     1)],
)  # fmt: skip
def test_rate_is_the_highest_with_even_gaps(source, fps, stride):
    plan = plan_frames([i / source for i in range(400)])
    assert (plan.fps, plan.real_frames) == (fps, 41)
    assert plan.indices == [stride * i for i in range(41)]


@pytest.mark.parametrize(("count", "frames"), [(17, 17), (24, 17), (25, 25), (40, 33), (41, 41), (99, 41)])
def test_as_many_frames_as_there_are(count, frames):
    plan = plan_frames([i / 10 for i in range(count)])
    assert plan.indices == list(range(frames)) and plan.real_frames == frames


def test_what_is_left_out_is_said():
    plan = plan_frames([i / 10 for i in range(100)], max_frames=25)
    assert plan.notes == ["the first 2.5 s (25 frames) are used, 7.5 s after them are left out"]
    plan = plan_frames([i / 10 for i in range(100)], duration=61.0)
    assert plan.notes == ["the first 4.1 s (41 frames) are used, 56.9 s after them are left out"]
    assert plan_frames([i / 10 for i in range(41)]).notes == []


def test_a_short_clip_takes_a_higher_rate_before_frames_are_repeated():
    plan = plan_frames([i / 30 for i in range(30)])  # 15 frames at 15 a second
    assert (plan.fps, len(plan.indices), plan.real_frames) == (24, 17, 17)
    assert len(set(plan.indices)) == 17
    assert "nearest in time" in plan.notes[0]


def test_a_shorter_one_repeats_the_last_frame_and_says_so():
    plan = plan_frames([i / 12 for i in range(5)])
    assert plan.indices == [0, 1, 2, 3] + [4] * 13
    assert (plan.fps, plan.real_frames) == (12, 5)
    assert plan.notes == [
        "the clip gives 5 frames: the last is repeated 12 times to make 17; only the first 5 are real"
    ]


def test_an_asked_rate_is_kept():
    plan = plan_frames([i / 30 for i in range(300)], 12)
    assert plan.fps == 12
    wanted = np.arange(41) / 12
    assert np.abs(np.array(plan.indices) / 30 - wanted).max() <= 0.5 / 30 + 1e-9
    repeated = plan_frames([i / 10 for i in range(100)], 24, frames=17)
    assert repeated.indices[:6] == [0, 0, 1, 1, 2, 2] and "twice or more" in repeated.notes[0]


def test_motion_that_changes_its_speed_is_said():
    assert "4% slower" in plan_frames([i / 25 for i in range(50)]).notes[0]
    assert "60% faster" in plan_frames([i / 5 for i in range(50)]).notes[0]


def test_variable_rate_takes_the_nearest_in_time():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.06, 400))
    plan = plan_frames(times.tolist(), 12)
    wanted = times[0] + np.arange(41) / 12
    nearest = [int(np.abs(times - t).argmin()) for t in wanted]
    assert plan.indices == nearest


def test_holes_do_not_change_the_rate():
    times = [i / 30 for i in range(60) if i not in (20, 21, 40)]
    assert frame_rate(times) == pytest.approx(30)


def test_frames_repeated_over_holes_are_said():
    times = [i / 24 for i in range(60) if not 10 <= i < 14]
    plan = plan_frames(times)
    assert len(plan.indices) - len(set(plan.indices)) == 4
    assert plan.notes[0] == "the source lacks frames: 4 are repeats of their neighbor"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {}),
        ("clip.mkv", {}),
        ("clip.mov", {"pix_fmt": "yuv422p"}),
        ("clip.avi", {"codec": "mpeg4"}),
        ("frames_out_of_order.avi", {}),
        ("clip.webm", {"codec": "libvpx-vp9"}),
        ("clip.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("clip.mkv", {"codec": "ffv1", "pix_fmt": "gray16le"}),
    ],
)
def test_formats(tmp_path, name, options):
    clip = read_clip(write(tmp_path / name, greys(45), 10, **options))
    assert clip.frames.shape == (41, 32, 48, 3) and clip.frames.dtype == np.float32
    assert (clip.fps, clip.real_frames) == (10, 41)
    assert clip.source_fps == pytest.approx(10)
    coarse = (
        10 if name.endswith("gif") else 1 if name.endswith("avi") else 0
    )  # rgb8 has 4 to 8 levels a channel
    assert np.abs(np.array(numbers(clip)) - np.arange(41)).max() <= coarse


def damage(source, target, number):
    """Copy a video, with one packet's content overwritten."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for n, packet in enumerate(read.demux(stream)):
            if packet.size:
                if n == number:
                    broken = av.Packet(bytes(packet.size))
                    broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                    packet = broken
                packet.stream = copy
                written.mux(packet)
    return target


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "mpeg4"), ("a.avi", "mjpeg")])
def test_a_damaged_packet_does_not_end_the_clip(tmp_path, name, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = write(tmp_path / name, greys(60), 10, codec=codec, pix_fmt=pix_fmt)
    clip = read_clip(damage(whole, tmp_path / f"damaged_{name}", 8))
    assert clip.real_frames == 41 and "part of the file is damaged" in clip.notes[0]
    found = numbers(clip)
    assert 40 <= found[-1] <= 42 and np.diff(found).min() >= 0


def test_only_the_beginning_is_decoded_and_each_frame_is_resized(tmp_path, monkeypatch):
    path = write(tmp_path / "long.mp4", np.repeat(greys(60, 64, 96), 5, axis=0), 24)
    decoded = []
    decode = clips.decode_video
    monkeypatch.setattr(
        clips, "decode_video", lambda *a: (decoded.append(1) or frame for frame in decode(*a))
    )
    clip = read_clip(path, size=(16, 16), frames=17)
    assert clip.frames.shape == (17, 16, 16, 3)
    assert len(decoded) == 17
    assert "the first 0.7 s (17 frames) are used, 11.8 s after them are left out" in clip.notes
    assert "33% of the width is cut" in clip.notes[-1]


def test_odd_sizes(tmp_path):
    clip = read_clip(write(tmp_path / "odd.mkv", greys(20, 33, 51), 10, codec="ffv1", pix_fmt="yuv444p"))
    assert clip.frames.shape == (17, 33, 51, 3)
    assert read_clip(tmp_path / "odd.mkv", size=(32, 48)).frames.shape == (17, 32, 48, 3)


def test_variable_rate_video(tmp_path):
    times = [0, 100, 200, 300, 400, 700, 800, 900, *range(1000, 3000, 100)]
    clip = read_clip(write(tmp_path / "vfr.mkv", greys(len(times)), 10, codec="ffv1", times=times), 10)
    assert numbers(clip)[:10] == [0, 1, 2, 3, 4, 4, 5, 5, 6, 7]


def test_alpha_is_put_on_black_and_said(tmp_path):
    pixels = np.full((20, 32, 48, 4), 200, dtype=np.uint8)
    pixels[..., :24, 3] = 0  # left half transparent
    pixels[..., 24:, 3] = 255
    options = {"codec": "qtrle", "pix_fmt": "argb", "source_format": "rgba"}
    clip = read_clip(write(tmp_path / "alpha.mov", pixels, 10, **options))
    assert clip.frames[:, :, :24].max() == 0
    np.testing.assert_allclose(clip.frames[:, :, 24:], 200 / 255, atol=0.01)
    assert "transparent parts were put on black" in clip.notes
    pixels[..., 3] = 255
    assert not any(
        "transparent" in n for n in read_clip(write(tmp_path / "o.mov", pixels, 10, **options)).notes
    )


@pytest.mark.skipif(not hasattr(av.VideoFrame, "color_trc"), reason="this PyAV does not tell the curve")
@pytest.mark.parametrize("curve, hdr", [(1, False), (16, True), (18, True)])
def test_hdr_is_said(tmp_path, curve, hdr):
    path = write(tmp_path / "phone.mp4", greys(20), 10, curve=curve)
    for notes in (read_clip(path).notes, open_clip(path, size=(32, 48)).notes):
        assert sum("HDR (HLG/PQ)" in note for note in notes) == hdr


def test_rotation_is_undone(tmp_path):
    pixels = np.zeros((20, 32, 48, 3), dtype=np.uint8)
    pixels[:, :16, :24] = 255  # top left
    path = write(tmp_path / "phone.mp4", pixels, 10)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    # Display matrix of a phone held upright: a quarter turn clockwise.
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    clip = read_clip(path)
    assert clip.frames.shape == (17, 48, 32, 3)
    assert clip.frames[:, :22, 18:].min() > 0.9  # now top right
    assert clip.frames[:, :, :14].max() < 0.1


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    clip = read_clip(write(tmp_path / "wide.mp4", greys(20), 10, aspect=Fraction(2, 1)))
    assert clip.frames.shape == (17, 32, 96, 3)


def test_damaged_file_gives_what_can_be_decoded(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (60, 32, 48, 3), dtype=np.uint8)
    path = write(tmp_path / "cut.mkv", noise, 10)
    whole = read_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = read_clip(path)
    assert cut.real_frames < whole.real_frames and len(cut.frames) in (17, 25, 33)
    assert np.abs(cut.frames[:10] - whole.frames[:10]).max() < 0.02


def test_folder_in_the_order_of_its_numbers(tmp_path):
    for number in range(20):
        Image.new("RGB", (48, 32), (4 * number,) * 3).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture either")
    clip = read_clip(tmp_path)
    assert numbers(clip) == list(range(17))
    assert clip.fps == 12 and "taken as 12 a second" in clip.notes[0]
    assert read_clip(tmp_path, fps=8).fps == 8


def test_folder_of_mixed_sizes_needs_a_size(tmp_path):
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 48)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="b.png is 32 x 48, the first 48 x 32"):
        read_clip(tmp_path)
    assert read_clip(tmp_path, size=(16, 16)).frames.shape == (17, 16, 16, 3)


@pytest.mark.parametrize("size", [(480, 720), (64, 96), (100, 50), (33, 77)])
@pytest.mark.parametrize("source", [(360, 640), (700, 500), (101, 203)])
def test_fit_is_the_references_for_pictures(source, size):
    """The reference hands PIL pictures to this, with resize_mode="crop"."""
    from diffusers.video_processor import VideoProcessor

    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (9, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(source[::-1], Image.Resampling.BICUBIC)
    wanted = VideoProcessor(vae_scale_factor=1).preprocess(picture, *size, resize_mode="crop")
    wanted = wanted[0].permute(1, 2, 0).numpy() * 0.5 + 0.5
    ours = np.asarray(_fill(picture, *size)) / 255
    assert np.abs(ours - wanted).max() < 1e-6
    floats = fit_frames(np.asarray(picture)[None], *size)
    assert np.abs(floats[0] - wanted).max() < 2 / 255


def test_fit_antialiases_and_notes():
    checker = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    frames = np.repeat(checker[None, ..., None], 3, axis=3)
    small = fit_frames(frames, 16, 16)
    assert np.abs(small[:, 2:-2, 2:-2] - 0.5).max() < 0.02
    assert fit_frames(frames, 16, 8).shape == (1, 16, 8, 3)
    assert crop_notes(64, 64, 16, 8) == [
        "resized from 64 x 64 to 8 x 16; 50% of the width is cut, half at each side"
    ]


def test_fitting_frames_are_left_alone():
    frames = np.random.default_rng(0).random((2, 16, 24, 3), dtype=np.float32)
    assert (fit_frames(frames, 16, 24) == frames).all()
    assert crop_notes(16, 24, 16, 24) == []


def test_pictures(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    still = read_image(tmp_path / "a.png")
    assert np.abs(still.pixels - pixels / 255).max() < 1e-6 and still.notes == []
    grey16 = (pixels[..., 0].astype(np.uint16)) * 257
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert np.abs(read_image(tmp_path / "grey16.png").pixels - pixels[..., :1] / 255).max() < 1e-6
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.abs(read_image(tmp_path / "turned.png").pixels - np.rot90(pixels, -1) / 255).max() < 1e-6
    rgba = np.concatenate([pixels, np.full((32, 48, 1), 128, dtype=np.uint8)], axis=2)
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    still = read_image(tmp_path / "alpha.png")
    assert np.abs(still.pixels - pixels / 255 * (128 / 255)).max() < 0.01
    assert still.notes == ["transparent parts were put on black"]
    assert "resized from 48 x 32 to 16 x 16" in read_image(tmp_path / "a.png", size=(16, 16)).notes[0]


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (np.full((2, 4, 4, 3), np.nan), "NaN"),
        (np.full((2, 4, 4, 3), np.inf), "NaN or infinite"),
        (np.full((2, 4, 4, 3), 200.0), "0, 1"),
        (np.zeros((2, 4, 4, 4)), "shape"),
        (np.zeros((4, 4, 3)), "shape"),
        (np.zeros((0, 4, 4, 3)), "empty"),
        ("clip", "shape"),
    ],
)
def test_bad_arrays(frames, problem):
    with pytest.raises(InputError, match=f"^goal: .*{problem}"):
        check_frames(frames, "goal")


def test_good_arrays():
    assert check_frames(np.full((1, 2, 2, 3), 51, dtype=np.uint8)).max() == pytest.approx(0.2)
    assert check_frames(np.full((1, 2, 2, 3), 1.0005)).max() == 1
    frames = np.random.default_rng(0).random((1, 2, 2, 3), dtype=np.float32)
    assert check_frames(frames) is frames  # large clips are not copied


def test_unreadable_files(tmp_path):
    def fails(problem, path, read=read_clip):
        with pytest.raises(InputError, match=problem) as error:
            read(path)
        assert error.value.field == ("image" if read is read_image else "video")

    fails("does not exist", tmp_path / "nothing.mp4")
    fails("does not exist", tmp_path / "nothing.png", read_image)
    (tmp_path / "empty.mp4").touch()
    fails("cannot be read", tmp_path / "empty.mp4")
    fails("cannot be read", tmp_path / "empty.mp4", read_image)
    (tmp_path / "text.txt").write_text("hello " * 1000)
    fails("read", tmp_path / "text.txt")
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><html><body>404</body></html>")
    fails("read", tmp_path / "page.mp4")
    Image.new("RGB", (48, 32)).save(tmp_path / "one.png")
    fails("a single picture; a clip needs at least 2 frames", tmp_path / "one.png")
    write(tmp_path / "one.mp4", greys(1), 10)
    fails("a single picture", tmp_path / "one.mp4")
    write(tmp_path / "cut.mp4", greys(30), 10)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:400])
    fails("cannot be read", tmp_path / "cut.mp4")
    (tmp_path / "folder").mkdir()
    fails("holds 0 pictures", tmp_path / "folder")
    fails("is a folder", tmp_path / "folder", read_image)
    (tmp_path / "folder" / "a.png").write_text("no")
    (tmp_path / "folder" / "b.png").write_text("no")
    fails("a.png cannot be read as a picture", tmp_path / "folder")
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    fails("cannot be read as a picture", tmp_path / "a.eps", read_image)  # Ghostscript would run it


def test_sound_alone_is_not_a_clip(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="has no video"):
        read_clip(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"fps": 13}, "fps"),
        ({"fps": True}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"frames": 16}, "frames"),
        ({"frames": 42}, "frames"),
        ({"max_frames": 9}, "max_frames"),
        ({"size": (0, 4)}, "height"),
        ({"size": (4, 2.5)}, "width"),
    ],
)
def test_bad_options(tmp_path, options, field):
    path = write(tmp_path / "clip.mp4", greys(20), 10)
    with pytest.raises(InputError) as error:
        read_clip(path, **options)
    assert error.value.field == field


def test_packets_end_where_the_file_can_no_longer_be_read():
    packet = av.Packet(8)

    class Broken:
        def demux(self, stream):
            yield packet
            raise av.error.MemoryError(12, "Cannot allocate memory")

    assert list(decoding._packets(Broken(), None)) == [packet]


def test_whatever_a_picture_parser_raises_is_told_with_the_field(tmp_path, monkeypatch):
    """Pillow: of a damaged TIFF, "'float' object cannot be interpreted as an integer"."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tiff")

    def fail(picture):
        raise TypeError("'float' object cannot be interpreted as an integer")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fail)
    with pytest.raises(InputError, match="image: .*cannot be read as a picture"):
        open_picture(tmp_path / "a.tiff", "image")
