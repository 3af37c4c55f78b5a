"""Arrays from files of others: what is read, and what is refused before it takes memory."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from aether.arrays import LARGEST_UNASKED, read_npy, read_npz
from aether.errors import InputError


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.eye(3, 4)),
        np.float32(12),
        np.zeros((0, 4)),
        [True],
    ],
    ids=["numbers", "by column", "one number", "empty", "truths"],
)
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read(tmp_path, array, write):
    np.save(tmp_path / "a.npy", array)
    write(tmp_path / "a.npz", a=array, b=1)
    for found in (read_npy(tmp_path / "a.npy", "x"), read_npz(tmp_path / "a.npz", "x", ["a", "c"])["a"]):
        assert np.array_equal(found, array) and found.dtype == np.asarray(array).dtype
        assert found.flags.writeable
    assert sorted(read_npz(tmp_path / "a.npz", "x")) == ["a", "b"]


def header(shape, descr="<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        header((2**40,)),
        header((3,)) + bytes(23),
        header((3,)) + bytes(25),
        header((1,), "|O") + bytes(8),
        b"",
    ],
    ids=["a huge shape", "too little", "too much", "objects", "nothing"],
)
def test_a_header_must_fit_what_is_there(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a .npy array"):
        read_npy(tmp_path / "a.npy", "x")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(InputError, match="cannot be read as .npz"):
        read_npz(tmp_path / "a.npz", "x")


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header((LARGEST_UNASKED // 8,)) + bytes(LARGEST_UNASKED))
        archive.writestr("b.npy", header((2,)) + bytes(16))
    assert len(read_npz(tmp_path / "a.npz", "x", ["b"])) == 1
    tracemalloc.start()
    with pytest.raises(InputError, match="^x: .* would unpack from"):
        read_npz(tmp_path / "a.npz", "x", ["a"])
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
