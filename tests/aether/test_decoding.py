"""Videos: which stream is read, how it is turned, and that a name is a file."""

import os
import socket
import struct
import threading

import av
import numpy as np
import pytest

from aether.clips.clip import read_clip, read_every_frame
from aether.clips.decoding import choose_stream
from aether.errors import InputError
from aether.long.reader import open_clip
from tests.aether.videos import corners, encode, numbers, pictures

SIZE = (32, 48)
# As `ffmpeg -autorotate` shows the corners R G / B W. A row: a b, c d of the display matrix.
ORIENTATIONS = {
    (1, 0, 0, 1): "RGBW",
    (-1, 0, 0, 1): "GRWB",
    (1, 0, 0, -1): "BWRG",
    (-1, 0, 0, -1): "WBGR",
    (0, 1, 1, 0): "RBGW",
    (0, 1, -1, 0): "BRWG",
    (0, -1, 1, 0): "GWRB",
    (0, -1, -1, 0): "WGBR",
    (0, 0, 0, 0): "RGBW",
}


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "a.mp4", pictures(17))


def with_matrix(source, target, matrix):
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_orientations(mp4, tmp_path, matrix):
    path = with_matrix(mp4, tmp_path / "turned.mp4", matrix)
    clip = read_clip(path)
    assert corners(clip.frames[0]) == ORIENTATIONS[matrix]
    assert clip.frames.shape[1:3] == ((48, 32) if matrix[1] else (32, 48)) and clip.notes == []
    first = next(open_clip(path, size=clip.frames.shape[1:3]).windows())[1]
    assert np.array_equal(first, clip.frames)


def test_other_angles_turn_within_the_picture_and_are_reported(mp4, tmp_path):
    turn = np.cos(np.pi / 6), np.sin(np.pi / 6)
    clip = read_clip(with_matrix(mp4, tmp_path / "a.mp4", (turn[0], turn[1], -turn[1], turn[0])))
    assert clip.frames.shape[1:3] == SIZE and corners(clip.frames[-1]) == "KKKK"
    assert clip.notes == ["turned by 30 degrees as the file asks for: its corners are black"]


def test_a_cover_before_the_video_is_skipped(mp4, tmp_path):
    path = tmp_path / "cover.mkv"
    with av.open(str(mp4)) as read, av.open(str(path), "w") as written:
        cover = written.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        copy = written.add_stream_from_template(read.streams.video[0])
        frame = av.VideoFrame.from_ndarray(pictures(1, height=64, width=96)[0], format="rgb24")
        written.mux(cover.encode(frame.reformat(format="yuvj420p")))
        written.mux(cover.encode(None))
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = copy
                written.mux(packet)
    clip = read_clip(path)
    assert clip.frames.shape == (17, *SIZE, 3) and numbers(clip.frames) == list(range(17))
    note = "video stream 1 (48 x 32) of the file is read, not stream 0 (a single picture)"
    assert clip.notes[0] == note == open_clip(path, size=SIZE).notes[0]
    assert read_every_frame(path).shape == (17, *SIZE, 3)


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_of_several_videos_the_default_or_the_largest_is_read(tmp_path, ending):
    path = encode(tmp_path / f"two.{ending}", pictures(20), streams=2)
    with av.open(str(path)) as container:
        default = av.stream.Disposition.default
        defaults = [
            bool(av.stream.Disposition(stream.disposition) & default) for stream in container.streams.video
        ]
    number, notes = choose_stream(path, "video")
    assert number == (defaults.index(True) if any(defaults) else 1)
    sizes = ["24 x 16", "48 x 32"]
    assert notes == [
        f"video stream {number} ({sizes[number]}) of the file is read, "
        f"not stream {1 - number} ({sizes[1 - number]})"
    ]
    height = int(sizes[number].split()[-1])
    assert read_clip(path).frames.shape[1] == height


def test_interlaced_video_is_reported(tmp_path):
    options = {"x264-params": "tff=1", "flags": "+ildct+ilme"}
    path = encode(tmp_path / "tv.mp4", pictures(20), options=options)
    for notes in (read_clip(path).notes, open_clip(path, size=SIZE).notes):
        assert sum("interlaced" in note for note in notes) == 1


NAMES = (
    *("2024-05-01T12:30:00.mp4", "run:3/clip.mp4", "concat:a|b.mp4", "pipe:0", "data:x", "-i.mp4"),
    *("subfile,,start,0,end,0,,:x.mp4", "*.mp4", "clip#t=3.mp4", "file:x.mp4", "take%03d.mp4", "a b%20.mp4"),
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_file(mp4, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(mp4.read_bytes())
    assert read_clip(name).frames.shape == (17, *SIZE, 3)
    assert len(open_clip(name, size=SIZE)) == 17


@pytest.fixture
def server():
    """A port of this machine, and what asked there."""
    asked = []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            asked.append(connection.recv(99))
            connection.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], asked


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_nothing_is_asked_over_the_network(mp4, tmp_path, monkeypatch, server):
    port, asked = server
    monkeypatch.chdir(tmp_path)
    name = f"http:/127.0.0.1:{port}/c.mp4"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(mp4.read_bytes())
    assert read_clip(name).frames.shape == (17, *SIZE, 3)
    url = f"http://127.0.0.1:{port}/a.ts"
    playlists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "a.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 26\n",
    }
    for playlist, text in playlists.items():
        (tmp_path / playlist).write_text(text)
        with pytest.raises(InputError, match="cannot be read as a video"):
            read_clip(playlist)
    assert asked == []


def test_playlists_of_files_are_not_followed(tmp_path):
    encode(tmp_path / "a.ts", pictures(20))
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile 'a.ts'\n")
    for name in ("a.m3u8", "a.ffconcat"):
        with pytest.raises(InputError, match="cannot be read as a video"):
            read_clip(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        with pytest.raises(InputError, match="neither a file nor a folder"):
            read_clip(path)
    with pytest.raises(InputError, match="cannot be opened|does not exist"):
        read_clip("x" * 5000)


def test_titles_in_another_encoding_do_not_matter(tmp_path):
    path = encode(tmp_path / "a.avi", pictures(20), "mpeg4")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xe9\xe9\xe9"))
    assert read_clip(path).real_frames == 17
