"""Small videos whose frames tell their number and their corners, and copies with other time stamps."""

from fractions import Fraction

import av
import numpy as np

HEIGHT, WIDTH = 32, 48


def pictures(count, first=0, height=HEIGHT, width=WIDTH):
    """(count, height, width, 3) uint8: frame n has grey 4 n; its corners are red, green, blue and white."""
    grey = (4 * np.arange(first, first + count)).astype(np.uint8)
    frames = np.repeat(grey, height * width * 3).reshape(count, height, width, 3)
    high, wide = height // 4, width // 4
    frames[:, :high, :wide] = (255, 0, 0)
    frames[:, :high, -wide:] = (0, 255, 0)
    frames[:, -high:, :wide] = (0, 0, 255)
    frames[:, -high:, -wide:] = 255
    return frames


def numbers(frames):
    """Of frames in [0, 1] as made by `pictures`, at any size."""
    middle = frames[:, frames.shape[1] // 2, frames.shape[2] // 2].mean(axis=-1)
    return (middle * 255 / 4).round().astype(int).tolist()


def corners(frame):
    """Top left, top right, bottom left, bottom right: R, G, B or W, or K for black."""
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W", (0, 0, 0): "K"}
    places = ((2, 2), (2, -3), (-3, 2), (-3, -3))
    return "".join(names[tuple((frame[place] > 0.6).astype(int).tolist())] for place in places)


def encode(path, frames, codec="libx264", rate=12, options=None, streams=1, interlaced=False):
    """A video; with several streams, each is half the size of the one after it."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as container:
        made = []
        for number in range(streams):
            stream = container.add_stream(codec, rate=Fraction(rate))
            scale = 2 ** (streams - 1 - number)
            stream.height, stream.width = frames.shape[1] // scale, frames.shape[2] // scale
            stream.pix_fmt = pix_fmt
            stream.options = {"crf": "4", "qscale": "2"} | (options or {})
            made.append(stream)
        for pixels in frames:
            for stream in made:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame = frame.reformat(stream.width, stream.height, pix_fmt)
                container.mux(stream.encode(frame))
        for stream in made:
            container.mux(stream.encode(None))
    return path


def restamped(source, target, pts):
    """A copy without decoding, whose packets have the stamps `pts(number, time base)`, dts too."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in read.demux(stream) if packet.size):
            packet.pts = packet.dts = pts(number, packet.time_base)
            packet.stream = copy
            written.mux(packet)
    return target


def joined(target, *sources):
    target.write_bytes(b"".join(source.read_bytes() for source in sources))
    return target
