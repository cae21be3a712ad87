"""What `hstnn run` refuses, each in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hstnn_deploy.data.events.events import EVENT
from tests.conftest import Hstnn

FILES: dict[str, bytes] = {
    "empty.npy": b"",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr'",
    "cut.png": b"\x89PNG\r\n\x1a\nnothing",
    "words.csv": b"1 2 3 4 5 6 7 eight\n",
    "short.csv": b"1,2,3\n",
    "blank.csv": b"\n\n",
    "letter.doc": b"Dear network,",
    "cut.bin": b"\x01\x02\x03",
    "cut.dat": b"% Data\n\x0c\x08\x01\x02",
    "cut.aedat": b"#!AER-DAT3.1\r\n#End Of ASCII Header\r\n\x01\x00",
    "cut.aedat4": b"#!AER-DAT4.0\r\n\x01",
    "far.bin": bytes([20, 3, 0x80, 0, 1]),
    "latin.txt": b"caf\xe9\n",
    "spaces.txt": b" \n \n",
}
WRONG: list[tuple[str, str, int, str]] = [
    ("images", "nowhere.npy", 3, "cannot read nowhere.npy: No such file"),
    ("images", ".", 3, ". is a folder"),
    ("images", "empty.npy", 3, "empty.npy is empty"),
    ("images", "cut.npy", 3, "cut.npy is damaged, or not a file of plain numbers"),
    ("images", "cut.png", 3, "cut.png is damaged, or not an image"),
    ("images", "wide.npy", 3, "x has shape [8, 1, 9]; the network takes [T, B, 8]"),
    ("images", "nan.npy", 3, "x contains nan at [0, 0, 0]"),
    ("images", "several.npz", 3, "several.npz contains several arrays (a, b)"),
    ("images", "events.npy", 3, "events.npy contains events"),
    ("images", "words.csv", 3, "words.csv: line 1 contains '1 2 3 4 5 6 7 eight', not numbers"),
    ("images", "short.csv", 3, "short.csv: line 1 contains 3 numbers; a time step is 8"),
    ("images", "blank.csv", 3, "blank.csv contains no time step"),
    ("images", "letter.doc", 3, "letter.doc is not a .npy, .npz, .png or .jpg file"),
    ("images", "nowhere.csv", 3, "cannot read nowhere.csv: No such file"),
    ("events", "picture.png", 3, "picture.png is an image; the network takes recordings of events (16 x 16)"),
    ("events", "letter.doc", 3, "letter.doc is not a recording of events that hstnn reads"),
    ("events", "cut.bin", 3, "cut.bin is truncated: 3 bytes are not whole events"),
    ("events", "cut.dat", 3, "cut.dat is damaged, or not a .dat file of events"),
    ("events", "cut.aedat", 3, "cut.aedat is truncated"),
    ("events", "cut.aedat4", 3, "cut.aedat4 is"),
    ("events", "far.bin", 3, "event 0 of 1 has x 20, but the sensor ends at 15"),
    ("text", "latin.txt", 3, "latin.txt is not UTF-8 text: byte 3 is 0xe9"),
    ("text", "spaces.txt", 3, "spaces.txt contains no words"),
    ("text", "picture.png", 3, "picture.png is an image; the network takes text"),
]


@pytest.mark.parametrize(("bundle", "name", "code", "message"), WRONG)
def test_an_input_that_is_none_gets_one_clear_line(
    hstnn: Hstnn,
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundle: str,
    name: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, content in FILES.items():
        Path(file).write_bytes(content)
    np.save("wide.npy", np.zeros((8, 9)))
    np.save("nan.npy", np.full((8, 1, 8), np.nan))
    np.savez("several.npz", a=np.zeros(1), b=np.zeros(1))
    np.save("events.npy", np.zeros(3, EVENT))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("picture.png")
    result = hstnn("run", bundles[bundle], "--input", name)
    assert result.code == code, result.err
    assert message in result.error


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "--input", "x.npy"], 11, "nowhere does not exist"),
        (["BUNDLE"], 2, "--input"),
        (["BUNDLE", "--input", "x.npy", "--provider", "tpu"], 2, "unknown provider 'tpu'"),
        (["BUNDLE", "--input", "x.npy", "--provider", "cuda"], 6, "CUDAExecutionProvider is not available"),
        (["BUNDLE", "--input", "x.npy", "--continue", "3"], 2, "--continue is for language models"),
        (["BUNDLE", "--input", "x.npy", "--load-state", "nowhere.npz"], 3, "cannot read nowhere.npz"),
        # Said before any work: there is no such input either.
        (["BUNDLE", "--input", "none.npy", "--save-state", "nowhere/s.npz"], 2, "cannot write nowhere/s.npz: No such"),
        (["BUNDLE", "--input", "none.npy", "--save-state", "x.npy/s.npz"], 2, "cannot write x.npy/s.npz: Not a dir"),
        (["BUNDLE", "--input", "none.npy", "--save-state", "."], 2, "cannot write .: it is a folder"),
        (["BUNDLE", "--input", "x.npy", "--input", "x.npy", "--save-state", "s.npz"], 2, "cannot share one file"),
        (["BUNDLE", "--input", "x.npy", "--top", "0"], 2, "--top"),
    ],
)
def test_wrong_words_get_one_clear_line(
    hstnn: Hstnn,
    bundles: dict[str, Path],
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    np.save("x.npy", np.zeros((8, 1, 8), np.float32))
    result = hstnn("run", *(str(bundles["images"]) if word == "BUNDLE" else word for word in words))
    assert result.code == code
    assert message in result.error
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []
