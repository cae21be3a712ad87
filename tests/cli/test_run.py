"""`hstnn run` as a user calls it."""

import io
import json
import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.data.sets.digit_events import record
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.runtime.ort import Graph
from hstnn_deploy.export.runtime.session import Session
from tests.conftest import Hstnn, Result
from tests.event_files import aedat, dat, write_bin
from tests.export.cases import Case


def answers(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)["results"]


def digits(count: int = 3) -> tuple[Any, Any]:
    """Return samples of the digits as their recipe loads them: the images 8 x 8 in 0..16, and x[T, B, I]."""
    from sklearn.datasets import load_digits

    images = np.asarray(load_digits().images[:count])
    return images, np.ascontiguousarray((images / 16).transpose(2, 0, 1).astype(np.float32))


def test_an_array_is_classified_as_the_network_does(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    _, x = digits()
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, other=np.zeros(3))
    np.save(tmp_path / "one.npy", x[:, 1])
    logits = Case("sequence", "ffs").network()(torch.from_numpy(x))[0]
    chances = logits.softmax(1)
    for name, expected in (("x.npy", chances), ("x.npz", chances), ("one.npy", chances[1:2])):
        (result,) = answers(hstnn("run", bundles["images"], "--input", tmp_path / name, "--json", "--top", "2"))
        assert result["steps"] == 8
        assert [each["class"] for each in result["samples"]] == expected.argmax(1).tolist()
        assert [len(each["best"]) for each in result["samples"]] == [2] * len(expected)
        for each, row in zip(result["samples"], expected, strict=True):
            assert math.isclose(each["probability"], float(row.max()), abs_tol=1e-5)
    plain = hstnn("run", bundles["images"], "--input", tmp_path / "x.npy", "--input", tmp_path / "one.npy")
    lines = plain.out.splitlines()
    assert len(lines) == 4
    assert lines[3].startswith(f"{tmp_path / 'one.npy'}: class {int(chances[1].argmax())}, probability ")


def test_images_are_read_as_the_data_set_was(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    images, _ = digits(1)
    grey = np.round(images[0] * 255 / 16).astype(np.uint8)
    # What a picture of 8 bits holds of the data set's pixels.
    expected = Session(bundles["images"]).run((grey / 255).T[:, None])[0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "colour.png")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "transparent.png")
    Image.fromarray((grey.astype(np.int32) * 257).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(grey.repeat(4, 0).repeat(4, 1)).save(tmp_path / "large.png")
    Image.fromarray(grey).save(tmp_path / "grey.jpg", quality=100)
    for name in ("grey.png", "colour.png", "transparent.png", "deep.png"):
        (result,) = answers(hstnn("run", bundles["images"], "--input", tmp_path / name, "--json"))
        best = int(expected.argmax())
        assert result["samples"][0]["class"] == best
        softmax = np.exp(expected) / np.exp(expected).sum()
        assert math.isclose(result["samples"][0]["probability"], softmax[best], abs_tol=1e-5), name
    assert answers(hstnn("run", bundles["images"], "--input", tmp_path / "grey.jpg", "--json"))
    refused = hstnn("run", bundles["images"], "--input", tmp_path / "large.png")
    assert refused.code == 3
    assert "is 32 x 32 pixels; the network takes 8 x 8" in refused.error
    assert "--resize" in refused.hint
    assert answers(hstnn("run", bundles["images"], "--input", tmp_path / "large.png", "--resize", "--json"))


def recording() -> Any:
    images, _ = digits(1)
    (events,) = record(images / 16)
    return events


def test_recordings_are_framed_as_in_training(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    events = recording()
    late = events.copy()
    late["t"] += 40_000 - events["t"][0]
    write_bin(tmp_path / "recording.bin", events)
    (tmp_path / "recording.dat").write_bytes(dat(events))
    (tmp_path / "late.dat").write_bytes(dat(late))
    (tmp_path / "recording.aedat").write_bytes(aedat(events))
    np.save(tmp_path / "recording.npy", events)
    # The clock of a camera that was switched on long before begins at the first event.
    first = events.copy()
    first["t"] -= events["t"][0]
    names = ("recording.bin", "recording.npy", "recording.dat", "recording.aedat", "late.dat")
    for name, seen in zip(names, (events, events, events, events, first), strict=True):
        # Counted one by one.
        frames = np.zeros((12, 1, 2, 16, 16), np.float32)
        for event in seen:
            frames[event["t"] // 3000, 0, event["p"], event["y"], event["x"]] += 1
        expected = Session(bundles["events"]).run(frames)[0]
        (result,) = answers(hstnn("run", bundles["events"], "--input", tmp_path / name, "--json"))
        assert result["steps"] == 12
        (sample,) = result["samples"]
        assert sample["class"] == expected.argmax(), name
        assert math.isclose(sample["score"], expected.max(), abs_tol=1e-5), name
        assert "probability" not in sample, "the network was not trained to give any"
        assert result["recording"]["events"] == len(events)
        assert result["recording"]["start"].endswith("first event" if name == "late.dat" else "file's clock")


def test_a_stream_shows_every_step(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    write_bin(tmp_path / "recording.bin", recording())
    words = ("run", bundles["events"], "--input", tmp_path / "recording.bin")
    lines = hstnn(*words, "--stream").out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [f"step {n} of 12" for n in range(1, 13)]
    whole = answers(hstnn(*words, "--json"))
    rows = [json.loads(line) for line in hstnn(*words, "--stream", "--json").out.splitlines()]
    assert [row["step"] for row in rows[:-1]] == list(range(1, 13))
    assert rows[-1]["samples"][0]["class"] == whole[0]["samples"][0]["class"]
    assert rows[-2]["samples"] == rows[-1]["samples"]


def test_numbers_come_in_line_by_line(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path, standard_input: Any
) -> None:
    _, x = digits(1)
    text = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in x[:, 0]) + "\n\n"
    (tmp_path / "steps.csv").write_text(text.replace(" ", ", "))
    expected = Session(bundles["images"]).run(x)[0].argmax()
    (result,) = answers(hstnn("run", bundles["images"], "--input", tmp_path / "steps.csv", "--json"))
    assert (result["steps"], result["samples"][0]["class"]) == (8, expected)
    standard_input(text.encode())
    rows = [
        json.loads(line)
        for line in hstnn("run", bundles["images"], "--input", "-", "--stream", "--json").out.splitlines()
    ]
    assert [row.get("step") for row in rows] == [*range(1, 9), None]
    assert rows[-1]["samples"][0]["class"] == expected


def test_an_array_or_image_comes_through_standard_input(
    hstnn: Hstnn, bundles: dict[str, Path], standard_input: Any
) -> None:
    images, x = digits(1)
    content = io.BytesIO()
    np.save(content, x)
    standard_input(content.getvalue())
    assert answers(hstnn("run", bundles["images"], "--input", "-", "--json"))[0]["steps"] == 8
    content = io.BytesIO()
    Image.fromarray(images[0].astype(np.uint8) * 15).save(content, "PNG")
    standard_input(content.getvalue())
    assert answers(hstnn("run", bundles["images"], "--input", "-", "--json"))[0]["steps"] == 8


def test_states_go_on_in_another_run(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    _, x = digits()
    for name, part in (("whole", x), ("first", x[:5]), ("rest", x[5:])):
        np.save(tmp_path / f"{name}.npy", part)
    state = tmp_path / "state.npz"
    words = ("run", bundles["images"], "--json", "--input")
    whole = answers(hstnn(*words, tmp_path / "whole.npy"))[0]["samples"]
    assert hstnn(*words, tmp_path / "first.npy", "--save-state", state).code == 0
    rest = answers(hstnn(*words, tmp_path / "rest.npy", "--load-state", state))[0]["samples"]
    for one, other in zip(whole, rest, strict=True):
        assert one["class"] == other["class"]
        assert math.isclose(one["probability"], other["probability"], abs_tol=1e-6)
    np.save(tmp_path / "one.npy", x[:, 0])
    refused = hstnn(*words, tmp_path / "one.npy", "--load-state", state)
    assert refused.code == 3
    assert "has the states of 3 samples" in refused.error


def test_raw_pixels_in_an_array_are_scaled_as_in_training_and_that_is_said(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path
) -> None:
    images, x = digits(3)
    np.save(tmp_path / "x.npy", x)
    expected = answers(hstnn("run", bundles["images"], "--input", tmp_path / "x.npy", "--json"))[0]
    assert expected["notes"] == []
    for dtype in (np.uint8, np.int64):
        np.save(tmp_path / "raw.npy", images.astype(dtype))
        result = hstnn("run", bundles["images"], "--input", tmp_path / "raw.npy", "--json")
        (answer,) = answers(result)
        assert answer["samples"] == expected["samples"]
        note = f"taken as raw pixels [B, row, column], {np.dtype(dtype)} 0 to 16, and multiplied by 1 / 16"
        assert answer["notes"] == [f"{tmp_path / 'raw.npy'}: {note}"]
        assert result.err == f"note: {tmp_path / 'raw.npy'}: {note}\n"
    np.save(tmp_path / "one.npy", images[0].astype(np.uint8))
    assert (
        answers(hstnn("run", bundles["images"], "--input", tmp_path / "one.npy", "--json"))[0]["samples"]
        == (expected["samples"][:1])
    )


ARRAYS: list[tuple[str, Any, str]] = [
    ("images", np.full((2, 8, 8), 200, np.uint8), "contains 200; raw pixels are 0 to 16"),
    ("images", np.full((8, 3, 8), 200, np.uint8), "x contains 200 at [0, 0, 0]; the network was trained on 0 to 1"),
    ("images", np.full((8, 3, 8), 16, np.uint8), "x contains 16 at [0, 0, 0]"),
    ("images", np.full((2, 8, 8), -3), "contains -3; raw pixels are 0 to 16"),
    ("images", np.eye(8, dtype=np.uint8), "contains only uint8 0 and 1"),
    ("images", np.eye(8, dtype=bool), "contains only bool 0 and 1"),
    ("images", np.full((8, 8), 16.0), "x contains 16 at"),
    ("images", np.full((8, 1, 8), -0.5), "x contains -0.5 at"),
    ("images", np.zeros((3, 8, 8)), "x has 3 steps of 8 sequences; the network was trained on 8 steps"),
    ("images", np.zeros((8, 2, 8), complex), "x has type complex128"),
    ("images", np.zeros((8, 2, 8, 1)), "x has shape [8, 2, 8, 1]"),
    ("events", np.full((12, 1, 2, 16, 16), -1), "x contains -1 at"),
    ("events", np.full((12, 1, 2, 16, 16), 0.3), "counts of events, whole numbers from 0"),
    ("events", np.zeros((12, 1, 16, 16, 2)), "x has shape [12, 1, 16, 16, 2]"),
    ("events", np.zeros((1, 12, 2, 16, 16)), "x has 1 steps of 12 sequences; the network was trained on 12 steps"),
]


@pytest.mark.parametrize(("bundle", "array", "message"), ARRAYS)
def test_an_array_that_training_cannot_have_given_is_refused(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path, bundle: str, array: Any, message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    result = hstnn("run", bundles[bundle], "--input", tmp_path / "x.npy")
    assert result.code == 3
    assert message in result.error


def test_who_knows_better_runs_an_array_as_it_stands(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    for array in (np.full((3, 8, 8), 200, np.uint8), np.full((8, 1, 8), -0.5), np.eye(8, dtype=np.uint8)):
        np.save(tmp_path / "x.npy", array)
        words = ("run", bundles["images"], "--input", tmp_path / "x.npy", "--any-range", "--json")
        x = array if array.ndim == 3 else array[:, None]
        (result,) = answers(hstnn(*words))
        expected = Session(bundles["images"], any_range=True).run(x)
        assert [each["class"] for each in result["samples"]] == expected.argmax(1).tolist()
    np.save(tmp_path / "x.npy", np.full((8, 1, 8), np.nan))
    assert hstnn("run", bundles["images"], "--input", tmp_path / "x.npy", "--any-range").code == 3


def test_what_was_done_to_an_input_is_said(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    _, x = digits(3)
    for name, array, note in (
        ("one", x[:, 0], "[8, 8] taken as one sequence x[T, …]; x[t] is column t of the image"),
        ("short", x[:5], "5 steps; the network was trained on 8"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        result = hstnn("run", bundles["images"], "--input", tmp_path / f"{name}.npy")
        assert (result.code, result.err) == (0, f"note: {tmp_path / name}.npy: {note}\n")
    holed = Image.new("LA", (8, 8), (200, 90))
    holed.save(tmp_path / "holed.png")
    refused = hstnn("run", bundles["images"], "--input", tmp_path / "holed.png")
    assert refused.code == 3
    assert "has transparent pixels" in refused.error
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.gif")
    assert "x.gif is a GIF image" in hstnn("run", bundles["images"], "--input", tmp_path / "x.gif").error


def test_a_long_input_goes_in_chunks_and_stops_between_them(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).random((1300, 1, 8), np.float32)
    np.savez_compressed(tmp_path / "x.npz", x)
    words = ("run", bundles["images"], "--input", tmp_path / "x.npz", "--json")
    lengths: list[int] = []
    step = Graph.step

    def noted(graph: Graph, now: Any, *rest: Any) -> Any:
        lengths.append(len(now))
        if len(lengths) == 5:  # as the handlers of SIGINT and SIGTERM do
            raise KeyboardInterrupt
        return step(graph, now, *rest)

    monkeypatch.setattr(Graph, "step", noted)
    (result,) = answers(hstnn(*words))
    assert lengths == [512, 512, 276]
    assert result["steps"] == 1300
    state = tmp_path / "state.npz"
    stopped = hstnn(*words, "--save-state", state)
    assert (stopped.code, stopped.err, lengths[3:]) == (130, "error: interrupted\n", [512, 512])
    assert not state.exists()


def test_what_is_too_large_is_refused_before_it_is_read(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", np.zeros((40_000, 1, 8), np.float32))
    words = ("run", bundles["images"], "--input", tmp_path / "x.npz")
    refused = hstnn(*words, "--max-array", "0.001")
    assert refused.code == 3
    assert "contains an array of 1.28 MB" in refused.error
    assert "--max-array" in refused.hint
    assert hstnn(*words, "--max-array", "0.002").code == 0


def test_a_pipe_is_read_like_a_file(hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path) -> None:
    _, x = digits()
    np.save(tmp_path / "x.npy", x)
    os.mkfifo(tmp_path / "pipe")
    content = (tmp_path / "x.npy").read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    piped = answers(hstnn("run", bundles["images"], "--input", tmp_path / "pipe", "--json"))
    writer.join()
    assert (
        piped[0]["samples"]
        == answers(hstnn("run", bundles["images"], "--input", tmp_path / "x.npy", "--json"))[0]["samples"]
    )


def test_standard_input_that_is_closed_or_no_text_gets_one_line(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path, standard_input: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard_input(b"\xff\xfe1 2 3\n")
    assert (
        "standard input is not text: it contains the byte 0xff" in hstnn("run", bundles["images"], "--input", "-").error
    )
    standard_input(b"1" * 2**21)
    assert "line 1 is longer than 1048576 characters" in hstnn("run", bundles["images"], "--input", "-").error
    monkeypatch.setattr(sys, "stdin", None)
    # A stream that is closed is read as one that is empty.
    assert "standard input contains no time step" in hstnn("run", bundles["images"], "--input", "-").error
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is empty" in hstnn("run", bundles["text"], "--input", "-").error


@torch.no_grad()
def test_a_text_is_read_and_continued(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path, standard_input: Any
) -> None:
    case = Case("language", "ffs")
    splits = load(case.recipe().data, "validation")
    vocabulary = list(splits.words)
    text = "The import statement, in its simplest form, is executed.\nzyzzyva is not a word of these topics\n" * 9
    words = ["the", "import", "statement", ",", "in", "its", "simplest", "form", ",", "is", "executed", ".", "<eos>"]
    words += ["zyzzyva", "is", "not", "a", "word", "of", "these", "topics", "<eos>"]
    tokens = torch.tensor(
        [vocabulary.index(word) if word in vocabulary else vocabulary.index("<unk>") for word in words]
    )
    tokens = tokens.repeat(9)
    # As the task evaluates: membranes start at zero with every window.
    network, window = case.network(), case.recipe().data.bptt  # type: ignore[union-attr]
    state: dict[str, torch.Tensor] | None = None
    rows = []
    for part in tokens[:, None].split(window):
        kept = {name: value for name, value in (state or {}).items() if not name.startswith("v")}
        logits, state = network(part, network.initial_state(part) | kept)
        rows.append(logits[:, 0])
    chances = torch.cat(rows).log_softmax(1)
    perplexity = math.exp(-float(chances[:-1].gather(1, tokens[1:, None]).mean()))
    (tmp_path / "text.txt").write_text(text)
    command = ("run", bundles["text"], "--json", "--continue", "3", "--input")
    (result,) = answers(hstnn(*command, tmp_path / "text.txt"))
    assert result["words"] == len(tokens)
    assert math.isclose(result["perplexity"], perplexity, rel_tol=1e-5)
    assert result["next"][0][0] == vocabulary[int(chances[-1].argmax())]
    assert math.isclose(result["next"][0][1], float(chances[-1].max().exp()), rel_tol=1e-4)
    assert "zyzzyva" in result["unknown"]
    assert len(result["continuation"]) == 3
    assert result["continuation"][0] == result["next"][0][0]
    standard_input(text.encode())
    assert answers(hstnn(*command, "-"))[0]["perplexity"] == result["perplexity"]
    plain = hstnn("run", bundles["text"], "--input", tmp_path / "text.txt", "--continue", "3").out
    assert f"{len(tokens)} words, perplexity {result['perplexity']:.2f}" in plain
    assert "not in the vocabulary, read as <unk>: " in plain
    assert plain.splitlines()[-1] == "… " + " ".join(result["continuation"])


def test_a_bundle_without_words_says_so(hstnn: Hstnn, tmp_path: Path) -> None:
    case = Case("language", "rnn")
    ckpt = case.checkpoint(tmp_path / "best.pt")
    checkpoint = Checkpoint.load(ckpt)
    checkpoint.vocabulary = "0" * 64
    checkpoint.save(ckpt)
    bundle = export_bundle(ckpt, tmp_path / "bundle", verify=False).folder
    (tmp_path / "text.txt").write_text("the\n")
    result = hstnn("run", bundle, "--input", tmp_path / "text.txt")
    assert result.code == 11
    assert "has no vocabulary" in result.error


def test_a_recording_is_reported_and_options_say_what_it_does_not(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path
) -> None:
    events = recording()
    np.save(tmp_path / "us.npy", events)
    late = events.copy()
    late["t"] *= 1000
    np.save(tmp_path / "ns.npy", late[::-1])
    words = ("run", bundles["events"], "--input")
    told = hstnn(*words, tmp_path / "us.npy")
    assert told.code == 0
    assert told.err.startswith(f"note: {tmp_path}/us.npy: an array with fields, {len(events)} events on 16 x 16, ")
    assert len(told.out.splitlines()) == 1
    refused = hstnn(*words, tmp_path / "ns.npy")
    assert (refused.code, refused.hint) == (3, "--events unit=ns, if they are nanoseconds")
    assert "does not specify the unit of its times" in refused.error
    refused = hstnn(*words, tmp_path / "ns.npy", "--events", "unit=ns")
    assert "--events sort" in refused.hint
    (result,) = answers(hstnn(*words, tmp_path / "ns.npy", "--events", "unit=ns,sort", "--json"))
    assert result["samples"] == answers(hstnn(*words, tmp_path / "us.npy", "--json"))[0]["samples"]
    report = result["recording"]
    assert (report["unit"], report["events"]) == ("nanoseconds (as given)", len(events))
    assert any("were sorted" in note for note in report["notes"])
    wrong = hstnn(*words, tmp_path / "us.npy", "--events", "unit=h")
    assert (wrong.code, wrong.error) == (2, "--events: invalid unit 'h'")
    wrong = hstnn("run", bundles["images"], "--input", "x.npy", "--events", "unit=s")
    assert wrong.code == 2
    assert "--events is for event recordings" in wrong.error


def test_a_text_of_events_is_a_recording_and_one_of_frames_is_not(
    hstnn: Hstnn, bundles: dict[str, Path], tmp_path: Path
) -> None:
    events = recording()
    lines = [f"{event['t'] / 1e6:.6f} {event['x']} {event['y']} {event['p']}\n" for event in events]
    (tmp_path / "events.txt").write_text("".join(lines))
    (tmp_path / "frames.csv").write_text("0 " * 511 + "1\n")
    np.save(tmp_path / "events.npy", events)
    words = ("run", bundles["events"], "--json", "--input")
    ours, theirs = (answers(hstnn(*words, tmp_path / f"events.{kind}"))[0] for kind in ("txt", "npy"))
    assert ours["samples"] == theirs["samples"]
    assert ours["recording"]["unit"].startswith("seconds")
    (result,) = answers(hstnn(*words, tmp_path / "frames.csv"))
    assert result["steps"] == 1
    assert "recording" not in result
