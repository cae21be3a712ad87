"""`hstnn export --exit`, `hstnn run --early-exit`, and images for networks of whole images, as a user calls them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.registry import load
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.models.exits import Exit
from tests.conftest import Hstnn
from tests.export.whole_images import STEPS, checkpoint, network, recipe

WINDOW: list[Form] = ["window"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    exit = Exit("confidence", 0.55)
    return export_bundle(checkpoint(folder / "best.pt"), folder / "bundle", exit=exit, verify=False).folder


@pytest.fixture(scope="module")
def test() -> ImageSplit:
    found = load(recipe().data, "validation").test
    assert isinstance(found, ImageSplit)
    return found


def saved(test: ImageSplit, number: int, folder: Path) -> Path:
    """Write an image of the test split as a PNG of 0 to 255."""
    path = folder / f"{number}.png"
    Image.fromarray(np.rint(test.pixels[number, 0].numpy() * (255 / 16)).astype(np.uint8)).save(path)
    return path


def answers(hstnn: Hstnn, *words: str | Path) -> Any:
    result = hstnn("run", *words, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


@torch.no_grad()
def test_an_image_gives_what_evaluation_gives_for_it(
    hstnn: Hstnn, bundle: Path, test: ImageSplit, tmp_path: Path
) -> None:
    made = network()
    for number in (0, 3, 211):
        x = test.batch(torch.tensor([number, 5]), torch.device("cpu")).x[:, :1]
        own = made(x)[0][0]
        found = answers(hstnn, bundle, "--input", saved(test, number, tmp_path), "--draw", str(number), "--top", "10")
        (sample,) = found["results"][0]["samples"]
        assert found["results"][0]["steps"] == STEPS
        assert sample["class"] == own.argmax()
        scores = dict(sample["best"])
        np.testing.assert_allclose([scores[n] for n in range(10)], own.numpy(), atol=1e-4)
    other = answers(hstnn, bundle, "--input", saved(test, 211, tmp_path), "--top", "10")
    assert other["results"][0]["samples"][0]["best"] != sample["best"]


@torch.no_grad()
def test_raw_pixels_of_the_split_are_drawn_as_the_split_is(
    hstnn: Hstnn, bundle: Path, test: ImageSplit, tmp_path: Path
) -> None:
    own = network()(test.batch(torch.arange(10, 30), torch.device("cpu")).x)[0]
    np.save(tmp_path / "raw.npy", test.pixels[10:30, 0].numpy())
    found = answers(hstnn, bundle, "--input", tmp_path / "raw.npy", "--draw", "10")["results"][0]
    assert [sample["class"] for sample in found["samples"]] == own.argmax(1).tolist()
    assert any("taken as raw pixels [B, row, column]" in note for note in found["notes"])


def test_each_sample_stops_at_its_exit(hstnn: Hstnn, bundle: Path, test: ImageSplit, tmp_path: Path) -> None:
    x = test.batch(torch.arange(4), torch.device("cpu")).x.numpy()
    wanted = Session(bundle).run_early(x)
    assert wanted.steps.min() < STEPS
    np.save(tmp_path / "raw.npy", test.pixels[:4, 0].numpy())
    found = answers(hstnn, bundle, "--input", tmp_path / "raw.npy", "--early-exit")
    samples = found["results"][0]["samples"]
    assert [sample["steps"] for sample in samples] == wanted.steps.tolist()
    assert [sample["class"] for sample in samples] == wanted.logits.argmax(1).tolist()
    assert found["early_exit"] == {
        **{"rule": "confidence", "threshold": 0.55},
        **{"samples": 4, "mean_steps": float(wanted.steps.mean())},
    }
    words: list[str | Path] = ["run", bundle, "--early-exit", "--input", saved(test, 0, tmp_path)]
    shown = hstnn(*words)
    assert shown.code == 0, shown.err
    assert f"after {wanted.steps[0]} steps" in shown.out
    assert f"exit by confidence 0.55: {wanted.steps[0]:.2f} steps on average over 1 sample" in shown.out
    streamed = [json.loads(line) for line in hstnn(*words, "--stream", "--json").out.splitlines()]
    assert [line["step"] for line in streamed[:-2]] == list(range(1, int(wanted.steps[0]) + 1))
    assert streamed[-2]["samples"][0]["steps"] == wanted.steps[0]
    assert streamed[-1]["early_exit"]["samples"] == 1
    # As they come, one step to a line.
    lines = "\n".join(" ".join(map(str, row.ravel())) for row in x[:, 0])
    (tmp_path / "steps.txt").write_text(lines, encoding="utf-8")
    rows = answers(hstnn, bundle, "--input", tmp_path / "steps.txt", "--early-exit")["results"][0]
    assert rows["samples"][0]["steps"] == wanted.steps[0]


@pytest.mark.parametrize(
    ("exit", "said", "code"),
    [
        ("confidence=1.5", "the exit confidence has the invalid threshold 1.5", 2),
        ("scale=0", "the exit scale has the invalid threshold 0", 2),
        ("soon", "'soon' is not an exit", 2),
    ],
)
def test_no_exit(hstnn: Hstnn, bundle: Path, exit: str, said: str, code: int) -> None:
    refused = hstnn("export", "--ckpt", bundle.parent / "best.pt", "--exit", exit)
    assert refused.code == code
    assert said in refused.err


def test_an_exit_needs_a_step_graph_and_a_bundle_that_has_it(
    hstnn: Hstnn, bundle: Path, test: ImageSplit, tmp_path: Path
) -> None:
    words: list[str | Path] = [
        "export",
        "--ckpt",
        bundle.parent / "best.pt",
        "--out",
        tmp_path / "bundle",
        "--no-verify",
    ]
    refused = hstnn(*words, "--exit", "confidence=0.9", "--form", "window")
    assert refused.code == 2
    assert "add --form step" in refused.err
    assert hstnn(*words).code == 0
    image = saved(test, 0, tmp_path)
    refused = hstnn("run", tmp_path / "bundle", "--input", image, "--early-exit")
    assert refused.code == 2
    assert "has no early exit" in refused.err
    assert "--exit confidence=0.9" in refused.err
    refused = hstnn("run", bundle, "--input", image, "--early-exit", "--save-state", tmp_path / "state.npz")
    assert refused.code == 2
    assert "states cannot be loaded or saved" in refused.err


def test_images_of_another_size_are_refused_or_resized(hstnn: Hstnn, bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 12), 100, np.uint8)).save(tmp_path / "large.png")
    refused = hstnn("run", bundle, "--input", tmp_path / "large.png")
    assert refused.code == 3
    assert "is 12 x 9 pixels; the network takes 8 x 8" in refused.err
    assert "add --resize" in refused.err
    assert hstnn("run", bundle, "--input", tmp_path / "large.png", "--resize").code == 0
    np.save(tmp_path / "x.npy", np.full((STEPS, 2, 1, 8, 8), 0.5, np.float32))
    refused = hstnn("run", bundle, "--input", tmp_path / "x.npy")
    assert "trained on spikes, -1, 0 and 1" in refused.err
    refused = hstnn("export", "--ckpt", bundle.parent / "best.pt", "--preprocess", "--out", tmp_path / "raw")
    assert refused.code == 7
    assert "does not encode whole images" in refused.err


def test_values_as_they_are_at_every_step(hstnn: Hstnn, test: ImageSplit, tmp_path: Path) -> None:
    ckpt = checkpoint(tmp_path / "best.pt", encoding="repeat")
    folder = export_bundle(ckpt, tmp_path / "bundle", forms=WINDOW).folder
    assert verify_bundle(folder).failed == []
    x = ((test.pixels[3:4].float() / 16 - 0.3) / 0.4).expand(STEPS, -1, -1, -1, -1)
    with torch.no_grad():
        own = network(encoding="repeat")(x.contiguous())[0][0]
    found = answers(hstnn, folder, "--input", saved(test, 3, tmp_path), "--top", "10")["results"][0]["samples"][0]
    scores = dict(found["best"])
    np.testing.assert_allclose([scores[n] for n in range(10)], own.numpy(), atol=1e-4)


def test_images_run_without_torch(bundle: Path, test: ImageSplit, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['hstnn', *sys.argv[1:]]\n"
        "from hstnn_deploy.cli.app import main; main()"
    )
    words = ["run", str(bundle), "--input", str(saved(test, 0, tmp_path)), "--early-exit"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "class" in done.stdout
