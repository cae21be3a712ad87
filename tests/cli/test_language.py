"""The language model through the command line: perplexity everywhere, and one clear line for each mistake."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY_TEXT, Hstnn, options

PTB = ["train", "ptb", "--device", "cpu", *options(TINY_TEXT)]


def test_a_hybrid_language_model_goes_through_its_stages_and_is_judged_by_perplexity(
    hstnn: Hstnn, ptb: Path, tmp_path: Path
) -> None:
    result = hstnn(*PTB, "--data-dir", ptb, "--out", tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    assert "accuracy" not in result.out
    # Perplexity is no share; what is, is said of spikes alone.
    assert not [
        line for line in result.out.splitlines() if "%" in line and not ("firing" in line or "bootstraps" in line)
    ]
    for words in ("valid perplexity ", " words/s", "validation perplexity", "test perplexity ", f"ptb from {ptb}"):
        assert words in result.out
    best = tmp_path / "out/ptb/hybrid/seed1111/ratio-0.5/best.pt"
    assert f"hstnn export --ckpt {best}" in result.out
    found = hstnn("evaluate", "--ckpt", best, "--data-dir", ptb)
    assert found.code == 0
    assert "test split: perplexity " in found.out
    facts = json.loads(hstnn("evaluate", "--ckpt", best, "--data-dir", ptb, "--split", "train", "--json").out)
    assert facts["perplexity"] > 1
    assert facts["words"] > 0

    exported = hstnn("export", "--ckpt", best, "--data-dir", ptb)
    assert (exported.code, exported.err) == (0, "")
    assert "perplexity" in exported.out

    (ptb / "ptb.train.txt").write_text("w3 w2 " + (ptb / "ptb.train.txt").read_text())
    changed = hstnn("evaluate", "--ckpt", best, "--data-dir", ptb)
    assert changed.code == 3
    assert "another vocabulary than ptb has now" in changed.error
    resumed = hstnn(*PTB, "--ratio", "0.3", "--data-dir", ptb, "--out", tmp_path / "out", "--resume")
    assert resumed.code == 5
    assert "another vocabulary than ptb has now" in resumed.error


@pytest.mark.parametrize(
    ("words", "content", "code", "message"),
    [
        ([], None, 3, "(ptb.valid.txt is missing)"),
        ([], b"", 3, "ptb.valid.txt contains no words"),
        ([], b"\xff\xfe\n", 3, "ptb.valid.txt is not UTF-8 text: byte 0 is 0xff"),
        (["--set", "batch=400"], b"w1 w2 w3\n", 3, "too few for a batch of 400 columns"),
        (["--set", "network.vocabulary=5"], b"w1 w2 w3\n", 2, "network.vocabulary is 5, but ptb has 13"),
        (["--set", "adapt.schedule.every=0"], b"w1\n", 2, "adapt.schedule.every is 0"),
    ],
)
def test_what_cannot_be_trained_on_is_one_clear_line(
    hstnn: Hstnn, ptb: Path, tmp_path: Path, words: list[str], content: bytes | None, code: int, message: str
) -> None:
    path = ptb / "ptb.valid.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    result = hstnn(*PTB, *words, "--data-dir", ptb, "--out", tmp_path / "out")
    assert result.code == code
    assert message in result.error
    assert not (tmp_path / "out").exists()


def test_the_help_topics_need_no_files(hstnn: Hstnn, tmp_path: Path) -> None:
    changes = {"network.units": [4, 3], "network.inputs": 4, "adapt.epochs": 1, "batch": 400}
    words = ["train", "pydoc-text", "--kind", "snn", "--device", "cpu", *options(changes)]
    result = hstnn(*words, "--out", tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "the standard library's help topics" in result.out
