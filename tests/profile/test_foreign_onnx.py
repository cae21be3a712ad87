"""Any ONNX file: what is read of it, and what is refused before it is run."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.foreign.onnx_file import examine
from hstnn_deploy.profile.foreign.shapes import Declared
from tests.profile.foreign_files import outside, product


def test_inputs_are_read_with_their_axes(tmp_path: Path) -> None:
    path = product(tmp_path / "net.onnx", ["time", "batch", 6])
    found = examine(path)
    assert found.inputs == [Declared("x", ["time", "batch", 6], "float32")]
    assert (found.bytes, found.weights) == (path.stat().st_size, 18)
    assert examine(product(path, None)).inputs[0].axes is None
    assert examine(product(path, [None, -1, 6])).inputs[0].axes == [None, None, 6]


def test_numbers_beside_the_file_count(tmp_path: Path) -> None:
    np.ones((6, 3), np.float32).tofile(tmp_path / "w.bin")
    path = product(tmp_path / "net.onnx", [1, 6], outside("w.bin", offset=0, length=72))
    assert examine(path).bytes == path.stat().st_size + 72


@pytest.mark.parametrize(
    ("location", "more", "message"),
    [
        ("../secret.bin", {}, "outside its folder"),
        ("/etc/passwd", {}, "outside its folder"),
        ("a/../../secret.bin", {}, "outside its folder"),
        ("C:\\secret.bin", {}, "outside its folder"),
        ("\\\\host\\share", {}, "outside its folder"),
        ("", {}, "outside its folder"),
        ("*/_ORT_MEM_ADDR_/*", {"offset": 12345, "length": 72}, "outside its folder"),
        ("link.bin", {}, "a link out of its folder"),
        ("absent.bin", {}, "which is not there"),
        ("w.bin", {"offset": 70, "length": 72}, "should be 72 bytes from byte 70 of w.bin, which has 72"),
        ("w.bin", {"offset": -1}, "should be 0 bytes from byte -1"),
    ],
)
def test_numbers_outside_the_folder_are_refused(
    tmp_path: Path, location: str, more: dict[str, int], message: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(72))
    (folder / "w.bin").write_bytes(bytes(72))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ProfileError) as caught:
        examine(product(folder / "net.onnx", [1, 6], outside(location, **more)))
    assert message in caught.value.message


def test_numbers_inside_a_branch_are_looked_at_too(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], [outside("../secret.bin")])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(ProfileError, match="outside its folder"):
        examine(product(tmp_path / "net.onnx", [1], node=node))


def test_operators_of_others_are_named(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Deep", ["x"], ["z"], domain="their.ops")], "inner", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for path, one, name in (
        (tmp_path / "a.onnx", helper.make_node("Spike", ["x"], ["y"], domain="my.ops"), "my.ops::Spike"),
        (tmp_path / "b.onnx", node, "their.ops::Deep"),
    ):
        with pytest.raises(ProfileError, match=f"operators that ONNX Runtime does not know: {name}"):
            examine(product(path, [1], node=one, domains=("", "my.ops")))


@pytest.mark.parametrize(
    ("kind", "message"), [(TensorProto.STRING, "is string"), (TensorProto.BFLOAT16, "is bfloat16"), (0, "is undefined")]
)
def test_an_input_that_cannot_be_made_up_is_refused(tmp_path: Path, kind: int, message: str) -> None:
    with pytest.raises(ProfileError, match=f"its input x {message}"):
        examine(product(tmp_path / "net.onnx", [1], kind=kind))


@pytest.mark.parametrize("content", [b"", b"hello" * 99, b"\x08\x08", bytes(1000), b"\x08" * 100])
def test_what_is_no_onnx_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match="is damaged, or not an ONNX file") as caught:
        examine(path)
    assert "\n" not in caught.value.message


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    whole = product(tmp_path / "net.onnx", ["time", "batch", 6]).read_bytes()
    path = tmp_path / "damaged.onnx"
    refused = 0
    for place in range(0, len(whole), 3):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                examine(path)
            except ProfileError:
                refused += 1
    assert refused > 50


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ProfileError, match="is not a file"):
            examine(path)
