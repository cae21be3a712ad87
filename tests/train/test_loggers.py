"""Observers that write for other programs: TensorBoard through a fake writer, and a user's own by name."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import hstnn_deploy as hd
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.train.fitting import loggers
from hstnn_deploy.train.fitting.loggers import TensorBoard, load_observer
from hstnn_deploy.train.observer import Observer, Observers
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, options
from tests.train.stage_cases import tiny

HERE = importlib.util.find_spec("tensorboard") is not None


class Fake:
    """Does as torch's SummaryWriter, and keeps what it is given."""

    made: list["Fake"]

    def __init__(self, folder: str) -> None:
        self.folder, self.closed = folder, 0
        self.scalars: dict[str, dict[int, float]] = {}
        self.texts: list[tuple[str, str]] = []
        self.made.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert not self.closed
        self.scalars.setdefault(tag, {})[global_step] = scalar_value

    def add_text(self, tag: str, text_string: str, global_step: int) -> None:
        assert not self.closed
        self.texts.append((tag, text_string))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    Fake.made = []
    monkeypatch.setattr(loggers, "summary_writer", lambda: Fake)
    return Fake.made


def test_every_stage_has_a_folder_with_the_numbers_of_each_epoch(tmp_path: Path, fakes: list[Fake]) -> None:
    runs = train(tiny(), tmp_path / "runs", observer=TensorBoard(tmp_path / "tb"))
    assert [Path(fake.folder).relative_to(tmp_path / "tb").as_posix() for fake in fakes] == ["adapt", "restore"]
    for fake, run in zip(fakes, (runs[0], runs[-1]), strict=True):
        rows = run.metrics()
        assert fake.scalars["loss/train"] == {row["epoch"]: row["train_loss"] for row in rows}
        assert fake.scalars["accuracy/valid"] == {row["epoch"]: row["valid_accuracy"] for row in rows}
        assert fake.scalars["spike_rate/layer1"] == {row["epoch"]: row["spike_rate.layer1"] for row in rows}
        # Whether it was the best epoch is no number.
        assert "best" not in fake.scalars
        assert [tag for tag, _ in fake.texts][-1] == "result"
        assert fake.closed == 1


def test_a_training_that_fails_closes_its_writer(fakes: list[Fake]) -> None:
    watched = TensorBoard("tb")
    watched.stage_started("train", 2, 0)
    watched.close()
    watched.close()
    watched.epoch_done({"epoch": 1, "train_loss": 1.0})
    (fake,) = fakes
    assert fake.closed == 1
    assert fake.scalars == {}


def test_fit_closes_what_was_given(fakes: list[Fake], tmp_path: Path) -> None:
    class Closed(Observer):
        times = 0

        def batch_done(self, epoch: int, batch: int, batches: int, samples: int) -> None:
            raise RunError("stop")

        def close(self) -> None:
            self.times += 1

    x, y = np.zeros((20, 3, 4), dtype=np.float32), np.arange(20) % 2
    net, closed = hd.Stack(["lif", {"linear": 2}], input=[4], readout="sum"), Closed()
    with pytest.raises(RunError, match="stop"):
        hd.fit(net, (x, y), observer=[TensorBoard(tmp_path), closed], progress=False)
    assert closed.times == 1
    assert [fake.closed for fake in fakes] == [1]


@pytest.mark.skipif(HERE, reason="tensorboard is installed")
def test_without_tensorboard_the_command_says_how_to_get_it(tmp_path: Path, hstnn: Hstnn) -> None:
    result = hstnn("train", "digits", "--tensorboard", tmp_path / "tb", "--out", tmp_path / "runs")
    assert result.code == 2
    assert "TensorBoard is not installed" in result.err
    assert "pip install 'hstnn-deploy[tensorboard]'" in " ".join(result.err.split())
    # Nothing was begun.
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not HERE, reason="no tensorboard: pip install tensorboard")
def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    train(tiny(kind="snn"), tmp_path / "runs", observer=TensorBoard(tmp_path / "tb"))
    assert list((tmp_path / "tb/train").glob("events.out.tfevents.*"))


MODULE = """
import hstnn_deploy as hd

class ToFile(hd.Observer):
    def __init__(self):
        self.file = open("told.txt", "w")
    def epoch_done(self, row):
        self.file.write(f"{row['epoch']}\\n")
    def close(self):
        self.file.close()

there = hd.Observer()
number = 7
def raises():
    raise ValueError("no such account")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own in the current folder, under a name that no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_loggers_of_a_test.py").write_text(MODULE)
    return "my_loggers_of_a_test"


def test_an_observer_of_one_s_own_is_named_on_the_command_line(module: str, tmp_path: Path, hstnn: Hstnn) -> None:
    words = [*options(TINY), "--set", "adapt.epochs=2"]
    result = hstnn(
        "train", "digits", "--kind", "rnn", *words, "--observer", f"{module}:ToFile", "--out", tmp_path / "r"
    )
    assert result.code == 0, result.err
    assert (tmp_path / "told.txt").read_text() == "1\n2\n"


def test_an_object_is_taken_as_it_is(module: str) -> None:
    assert type(load_observer(f"{module}:there")) is Observer


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ToFile", "'ToFile' is not PACKAGE.MODULE:FACTORY"),
        ("no_such_module_here:Any", "there is no module no_such_module_here"),
        ("{}:Missing", "there is no Missing"),
        ("{}:number", "gives int, which is not an observer"),
        ("{}:raises", "raises: ValueError: no such account"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(module: str, name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_observer(name.format(module))
    assert said in caught.value.message


def test_several_are_closed_together() -> None:
    closed = list[int]()

    class Counting(Observer):
        def close(self) -> None:
            closed.append(1)

    Observers([Counting(), Counting()]).close()
    assert closed == [1, 1]
