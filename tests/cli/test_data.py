"""`hstnn data`: what there is, made ready, checked and drawn; and one clear line for each mistake."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hstnn_deploy.data.registry import DATA_SETS
from hstnn_deploy.recipe.load import load_recipe, shipped
from tests.conftest import PATIENCE, Hstnn, write_cifar, write_idx

OWN = ["--set", "data.checksum=false"]
"""Own IDX files under MNIST's names."""
EMBEDDED = ("digits", "digit-events", "pydoc-text")


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_every_data_set_is_listed_with_what_a_person_wants_to_know(hstnn: Hstnn, mnist: Path, tmp_path: Path) -> None:
    mnist.rename(tmp_path / "mnist")
    result = hstnn("data", "list", "--data-dir", tmp_path)
    assert (result.code, result.err) == (0, "")
    for name, each in DATA_SETS.items():
        assert f"{name:<14}{each.card.about}" in result.out
        assert each.card.licence in result.out
    assert f"here: {tmp_path / 'mnist'}" in result.out
    facts = {each["name"]: each for each in json.loads(hstnn("data", "list", "--data-dir", tmp_path, "--json").out)}
    assert facts.keys() == DATA_SETS.keys()
    assert facts["mnist"] | {"here": True, "shape": "28 steps of 28, 60000 + 10000 samples"} == facts["mnist"]
    assert all(facts[name]["here"] for name in EMBEDDED)
    assert not facts["ptb"]["here"]
    assert "ptb.train.txt" in facts["ptb"]["where"]


def test_every_data_set_can_be_drawn_and_checked_and_has_a_recipe() -> None:
    used = {load_recipe(name).data.name for name in shipped()}
    assert used == DATA_SETS.keys()
    for each in DATA_SETS.values():
        assert each.picture is not None
        # Files have a place, and are checked one after another.
        assert (each.place is None) == (each.inspect is None)


def test_what_is_there_is_verified_by_split_and_class(hstnn: Hstnn, mnist: Path) -> None:
    result = hstnn("data", "verify", "mnist", *OWN, "--data-dir", mnist, "--json")
    assert result.code == 0
    facts = json.loads(result.out)
    assert (facts["checks"], facts["wrong"]) == (4, [])
    assert facts["splits"]["train"] == {"count": 120, "classes": {str(label): 12 for label in range(10)}}
    assert facts["splits"]["test"]["count"] == 20
    shown = hstnn("data", "verify", "mnist", *OWN, "--data-dir", mnist)
    assert shown.code == 0
    assert "60000" in shown.out
    assert "4 files, whole" in shown.out


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_are_ready_verified_and_drawn_without_any_file(hstnn: Hstnn, tmp_path: Path, name: str) -> None:
    ready = json.loads(hstnn("data", "prepare", name, "--json").out)
    assert ready[0]["name"] == name
    facts = json.loads(hstnn("data", "verify", name, "--json").out)
    assert {"train", "test"} <= facts["splits"].keys()
    assert all(split["count"] > 0 for split in facts["splits"].values())
    out = tmp_path / "picture.png"
    result = hstnn("data", "show", name, "--out", out)
    assert result.code == 0
    assert result.out.splitlines()[-1] == f"picture: {out}"
    assert is_png(out)


def test_the_picture_is_of_the_samples_that_were_asked_for(hstnn: Hstnn, mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "mnist.png"
    words = ["data", "show", "mnist", *OWN, "--data-dir", str(mnist), "--out", str(out)]
    for more in (["--index", "3"], ["--label", "4", "--count", "2"], ["--split", "test", "--count", "7"]):
        result = hstnn(*words, *more)
        assert (result.code, result.err) == (0, "")
        assert is_png(out)
        out.unlink()
    told = json.loads(hstnn(*words, "--json").out)
    assert told["picture"] == str(out)
    assert any("step t is column t" in line for line in told["lines"])
    for more, message in (
        (["--index", "108"], "--index 108 is not in the train split of 108 samples"),
        (["--index", "-1"], "--index -1 is not in"),
        (["--label", "10"], "no sample of the train split has --label 10"),
        (["--label", "1", "--index", "1"], "--index and --label both choose samples"),
        (["--count", "0"], "--count"),
    ):
        refused = hstnn(*words, *more)
        assert refused.code == 2
        assert message in refused.error


def test_the_picture_of_a_text_is_of_its_words(hstnn: Hstnn, ptb: Path, tmp_path: Path) -> None:
    out = tmp_path / "ptb.png"
    result = hstnn("data", "show", "ptb", "--data-dir", ptb, "--out", out)
    assert result.code == 0
    assert "270 words in the train split (<eos> counted), 13 of the 13 words of the vocabulary" in result.out
    assert "30 lines of 8.0 words on average, at most 8" in result.out
    assert "<unk>: 0.00 % of train" in result.out
    assert is_png(out)
    refused = hstnn("data", "show", "ptb", "--data-dir", ptb, "--index", "3", "--out", out)
    assert refused.code == 2
    assert "--index is for samples, but ptb is a text" in refused.error


def test_the_picture_of_a_part_of_cifar_is_in_colours(hstnn: Hstnn, tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_cifar(tmp_path / "cifar10" / f"{name}.bin", [[n % 10] for n in range(100)])
    out = tmp_path / "cifar10.png"
    assert hstnn("data", "show", "cifar10", "--data-dir", tmp_path, "--out", out, "--count", "6").code == 0
    assert is_png(out)
    facts = json.loads(hstnn("data", "verify", "cifar10", "--data-dir", tmp_path, "--json").out)
    assert facts["splits"]["train"] == {"count": 100, "classes": {str(label): 10 for label in range(10)}}


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["verify", "mnst"], 2, "unknown data set 'mnst'", "did you mean 'mnist'?"),
        (["prepare", "digit"], 2, "unknown data set 'digit'", "did you mean 'digits'?"),
        (["show", "cifar"], 2, "unknown data set 'cifar'", "did you mean 'cifar10"),
        (["cache", "clear", "mnst"], 2, "unknown data set 'mnst'", "did you mean 'mnist'?"),
        (["prepare"], 2, "name a data set, or give --all", "hstnn data list"),
        (["prepare", "digits", "--all"], 2, "name a data set, or give --all", ""),
        (["prepare", "--all", "--set", "a=1"], 2, "--set is for one data set", ""),
        (["verify", "digits", "--set", "data.checksum=false"], 2, "unknown key 'data.checksum'", ""),
        (["verify", "digits", "--data-dir", "/does/not/exist"], 0, "", ""),
        (["verify", "mnist", "--data-dir", "/does/not/exist"], 3, "(from --data-dir) does not exist", ""),
        (["show", "digits", "--out", "x.jpg"], 2, "--out x.jpg does not end in .png", ""),
        (["show", "digits", "--out", "/tmp"], 2, "--out /tmp does not end in .png", ""),
        (["show", "digits", "--split", "all"], 2, "'all' is not one of 'train', 'valid', 'test'", ""),
        (["frob"], 2, "No such command 'frob'", ""),
        (["cache", "frob"], 2, "No such command 'frob'", ""),
    ],
)
def test_what_cannot_be_is_one_clear_line(hstnn: Hstnn, words: list[str], code: int, message: str, hint: str) -> None:
    result = hstnn("data", *words)
    assert result.code == code
    if code:
        assert message in result.error
        assert hint in result.hint


@pytest.mark.parametrize("words", [[], ["cache"]])
def test_a_group_alone_shows_its_help(hstnn: Hstnn, words: list[str]) -> None:
    result = hstnn("data", *words)
    assert result.code == 2
    assert "Usage:" in result.out
    assert result.err == ""


def test_a_picture_that_cannot_be_written_is_one_clear_line(hstnn: Hstnn, blocked: Path) -> None:
    result = hstnn("data", "show", "digits", "--out", blocked / "digits.png")
    assert result.code == 5
    assert f"cannot write {blocked / 'digits.png'}" in result.error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x14" + bytes(19), "t10k-labels-idx1-ubyte is truncated"),
        ("train-images-idx3-ubyte", b"<html></html>", "train-images-idx3-ubyte is not an IDX file"),
        ("train-images-idx3-ubyte", b"", "is not an IDX file of 3 dimension(s)"),
    ],
)
def test_a_damaged_file_is_named_by_verify(hstnn: Hstnn, mnist: Path, name: str, content: bytes, message: str) -> None:
    (mnist / name).write_bytes(content)
    result = hstnn("data", "verify", "mnist", *OWN, "--data-dir", mnist, "--json")
    assert result.code == 3
    assert f"mnist: 1 of 4 checks failed, the first: {mnist / name}" in result.err
    assert message in result.err
    assert [each["file"] for each in json.loads(result.out)["wrong"]] == [str(mnist / name)]


def test_all_damaged_files_are_named_not_only_the_first(hstnn: Hstnn, mnist: Path) -> None:
    result = hstnn("data", "verify", "mnist", "--data-dir", mnist)
    assert result.code == 3
    assert result.err.count("has the wrong checksum") == 5  # each of the four, and the first again
    assert "mnist: 4 of 4 checks failed" in result.err


def test_files_that_do_not_belong_together_are_refused_by_verify(hstnn: Hstnn, mnist: Path) -> None:
    import numpy as np

    write_idx(mnist / "train-labels-idx1-ubyte", np.zeros(119, np.uint8))
    result = hstnn("data", "verify", "mnist", *OWN, "--data-dir", mnist)
    assert result.code == 3
    assert "120 train images but 119 labels" in result.err


def test_what_is_missing_is_named_with_how_to_get_it(hstnn: Hstnn, mnist: Path, ptb: Path) -> None:
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    (mnist / "train-images-idx3-ubyte").unlink()
    result = hstnn("data", "verify", "mnist", *OWN, "--data-dir", mnist)
    assert result.code == 3
    assert "train-images-idx3-ubyte, t10k-labels-idx1-ubyte missing" in result.error
    assert result.hint == "`hstnn data prepare mnist` gets it"
    (ptb / "ptb.test.txt").unlink()
    for command in ("verify", "prepare"):
        refused = hstnn("data", command, "ptb", "--data-dir", ptb)
        assert refused.code == 3
        assert f"at {ptb}" in refused.error
        assert "put ptb.train.txt, ptb.valid.txt, ptb.test.txt into ptb/" in refused.hint


@pytest.mark.parametrize("content", [b"\xff\xfew1 w2\n", b"\n\n"])
def test_a_damaged_text_is_named_by_verify(hstnn: Hstnn, ptb: Path, content: bytes) -> None:
    (ptb / "ptb.valid.txt").write_bytes(content)
    result = hstnn("data", "verify", "ptb", "--data-dir", ptb)
    assert result.code == 3
    assert f"ptb: 1 of 3 checks failed, the first: {ptb / 'ptb.valid.txt'}" in result.err


def test_without_a_network_prepare_says_what_to_put_where(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn("data", "prepare", "cifar10", "--data-dir", tmp_path)
    assert result.code == 3
    *_, error, hint = result.err.splitlines()
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in error
    assert "could not download" in error
    assert f"put it into {tmp_path / 'cifar10'} as cifar-10-binary.tar.gz" in hint


def test_an_archive_that_is_a_web_page_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"<!doctype html><p>Sign in</p>")
    result = hstnn("data", "prepare", "cifar10", "--data-dir", tmp_path)
    assert result.code == 3
    assert "cifar-10-binary.tar.gz is an HTML page" in result.err


def test_all_prepares_what_it_can_and_says_what_each_of_the_rest_needs(hstnn: Hstnn, ptb: Path) -> None:
    result = hstnn("data", "prepare", "--all", "--data-dir", ptb, "--json")
    assert result.code == 3
    assert {each["name"] for each in json.loads(result.out)} == {*EMBEDDED, "ptb"}
    rest = DATA_SETS.keys() - {*EMBEDDED, "ptb"}
    assert f"{len(rest)} of {len(DATA_SETS)} data sets could not be prepared" in result.err
    for name in rest:
        assert f"\n{name}: " in result.err


def test_ctrl_c_keeps_what_is_finished(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, mnist: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hstnn_deploy.data.sets.mnist.read_idx", interrupt)
    result = hstnn("data", "prepare", "mnist", *OWN, "--data-dir", mnist)
    assert result.code == 130
    assert "finished work is kept" in result.err
    assert len(list(mnist.iterdir())) == 4


def test_prepared_files_may_be_gzipped_and_are_left_as_they_are(hstnn: Hstnn, mnist: Path) -> None:
    path = mnist / "t10k-images-idx3-ubyte"
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    before = {each: each.read_bytes() for each in mnist.iterdir()}
    result = hstnn("data", "prepare", "mnist", *OWN, "--data-dir", mnist, "--json")
    assert result.code == 0
    assert json.loads(result.out)[0] | {"train": 108, "valid": 12, "test": 20} == json.loads(result.out)[0]
    assert {each: each.read_bytes() for each in mnist.iterdir()} == before


def test_the_command_as_a_program_leaves_standard_output_to_json(mnist: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hstnn_deploy",
        "data",
        "verify",
        "mnist",
        *OWN,
        "--data-dir",
        str(mnist),
        "--json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0
    assert json.loads(result.stdout)["checks"] == 4
