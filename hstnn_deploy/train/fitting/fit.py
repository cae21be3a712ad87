"""`hstnn_deploy.fit`: training on data that is given in Python.

history = hstnn_deploy.fit(network, (x, y), epochs=20)
history.network, history.curves, history.best
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from typing_extensions import override

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.given.checks import Wanted
from hstnn_deploy.data.given.given import HELD_OUT, Data, fingerprint, held_out, split_of
from hstnn_deploy.data.splits import Family, Splits
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.foreign import brief
from hstnn_deploy.metrics import shown
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.registry import build
from hstnn_deploy.recipe import parts
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.sections import Schedule
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.fitting.given import (
    BATCH,
    Loss,
    check_network,
    config_of,
    device_of,
    loss_of,
    wanted,
)
from hstnn_deploy.train.fitting.history import Evaluation, History
from hstnn_deploy.train.fitting.progress import PlainObserver, observer_here
from hstnn_deploy.train.observer import Observer, Observers
from hstnn_deploy.train.stages import Training


class _Notes(Observer):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @override
    def note(self, text: str) -> None:
        self.notes.append(text)


class _Training(Training):
    """A training on data that is loaded already; perhaps without test data."""

    def given(self, splits: Splits, tested: bool) -> "_Training":
        """Take the splits."""
        self._splits, self._tested = splits, tested
        return self

    def _judge(self, best: Checkpoint, run: RunFolder) -> None:
        if self._tested:
            super()._judge(best, run)
            return
        best.metrics |= {"protocol": self.recipe.protocol, "precision": self.recipe.precision}
        best.save(run.best)
        run.set_status("finished", result={"epoch": best.epoch, **best.metrics})
        metric = self.task.metric
        valid = f"{metric} {shown(metric, best.metrics['valid'][f'valid_{metric}'])}{self.task.unit}"
        self.observer.stage_finished(f"{best.stage}: best epoch {best.epoch}, valid {valid}; no test data given")


def fit(
    network: Network,
    train: Data | Splits,
    valid: Data | None = None,
    test: Data | None = None,
    *,
    epochs: int = 10,
    loss: Loss | None = None,
    metrics: Sequence[str] = (),
    lr: float = 1e-3,
    batch: int | None = None,
    optimiser: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip: float | None = None,
    schedule: Schedule | Mapping[str, object] | None = None,
    against: Mapping[str, float] | None = None,
    seed: int = 1111,
    device: torch.device | str | None = None,
    precision: Precision = "fp32",
    observer: Observer | Sequence[Observer] = (),
    progress: bool = True,
    out: Path | str | None = None,
    resume: bool = False,
    name: str = "fit",
) -> History:
    """Train a network, and return that of the best epoch with the curves. The network that is given is not changed.

    Args:
        network: a `Stack`, or a hybrid network from `load_network`. Training begins with its weights.
        train: what is trained on: (x, y) with x[N, T, ...], samples first, and classes y[N], or values y[N, K] of a
            regression; or x a list of arrays [T, ...] of several lengths; a torch Dataset of (x[T, ...], class); a
            DataLoader of one; a split, or all splits, of a data set. A Dataset is read once before training, to know
            that all of it can be trained on.
        valid: what the best epoch is chosen on. None: 10 % of `train` is held out, drawn by the seed, each class in
            its share. The same object as `test`: the epoch is chosen on the test data, and the history says so.
        test: what the best epoch is measured on in the end; None: nothing.
        epochs: passes over the training samples.
        loss: cross-entropy, mse, count, next-word, regression (docs/layers.md), or one of your own; None: what the
            network was trained for, of a new one cross-entropy, or next-word where it answers at every step.
        metrics: names of custom metrics to measure on `test` as well.
        lr: the learning rate.
        batch: samples of a batch; None: as the DataLoader has it, else 100.
        optimiser: adam or sgd.
        momentum: of sgd.
        weight_decay: the share of each parameter that is added to its gradient.
        clip: the largest norm of the whole gradient; a larger one is scaled down to it. None: it is left as it is.
        schedule: how the learning rate falls, as a recipe says it, such as {"name": "cosine", "factor": 0.01}.
        against: what training is disturbed by, and the strongest levels, such as {"gaussian": 0.2}; see
            docs/robustness.md. Validation and test are not.
        seed: of the order of the samples, and of what is drawn; on the CPU it fixes the result to the bit.
        device: cpu, cuda or cuda:N; None: where the network is.
        precision: fp32, medium, bf16 or fp16.
        observer: receives progress; several receive it in turn.
        progress: whether to show progress: a bar in a terminal and in a notebook, lines in a log.
        out: a folder that becomes a run folder, which `hstnn report`, `export` and `evaluate` read; None: none.
        resume: whether to continue a training that was begun in `out`, or return it if it is finished.
        name: what the training is called in reports.

    Returns:
        The history. Ctrl-C ends the training early: the history is that of the epochs that are done.

    Raises:
        UsageError: something is not a network or not an observer, an option is out of range, or the loss does not
            fit the network.
        DataError: data of a wrong shape, type or class, none to validate on, or a Dataset that raises; says which.
        DeviceError: the device is not available.
        RunError: `out` holds another training, or the loss is no longer a number.
        KeyboardInterrupt: no epoch was done yet.
    """
    check_network(network)
    if anew := parts.redefined(network):
        raise UsageError(*anew)
    if isinstance(metrics, str):
        raise UsageError(f"metrics is {brief(metrics)}, not a list of names", f"give [{brief(metrics)}]")
    where, asked = device_of(network, device), loss_of(network, loss)
    screen = observer_here() if progress else PlainObserver(_silent())
    heard, more = _Notes(), _observers(observer)
    told = Observers([*more, heard, *([screen] if progress else [])])
    try:
        stage = {
            "epochs": epochs, "lr": lr, "optimiser": optimiser, "momentum": momentum, "weight_decay": weight_decay,
            "clip": clip, "schedule": schedule.model_dump() if isinstance(schedule, Schedule) else schedule,
        }  # fmt: skip
        size = batch if batch is not None else getattr(train, "batch_size", None) or BATCH
        recipe = {"name": name, "loss": asked.model_dump(), "seed": seed, "batch": size, "precision": precision}
        disturbed = dict(against) if isinstance(against, Mapping) else against
        recipe |= {"metrics": list(metrics), "against": disturbed}
        recipe |= _of_network(network, stage)
        # Invalid numbers are refused before the data is read, which may take a while.
        parse(recipe | {"data": {"name": "none"}}, "fit")
        with _folder(out, resume) as run, _own_randomness(where):
            takes = wanted(network, asked)
            splits, tested, protocol = _splits(takes, train, valid, test, seed, told)
            data = _of_data(network, splits, tested)
            whole = parse(recipe | {"data": data, "protocol": protocol}, "fit")
            training = _Training(whole, run.path.parent, where, None, "none", resume, told).given(splits, tested)
            return _run(training, network, run, heard, None if out is None else run.path)
    finally:
        screen.close()
        for each in more:
            each.close()


def _observers(given: Any) -> list[Observer]:
    """Return who is told.

    Raises:
        UsageError: something else than an observer.
    """
    found = list(given) if isinstance(given, list | tuple) else [given]
    for each in found:
        if not isinstance(each, Observer):
            what = each.__name__ if isinstance(each, type) else type(each).__name__
            raise UsageError(
                f"observer is {what}, not an observer object",
                "give an object of a class that inherits from hd.Observer",
            )
    return found


def _run(training: _Training, network: Network, run: RunFolder, heard: _Notes, folder: Path | None) -> History:
    """Train, or as far as Ctrl-C lets it."""
    recipe, task, interrupted = training.recipe, training.task, False
    sizes, config = network.sizes, recipe.network

    def make() -> Network:
        torch.manual_seed(recipe.seed)
        begun = build(config, sizes)
        begun.load_state_dict(network.state_dict())
        return begun.train()

    try:
        training._fit(_stage(network), run, make, None, network.origin)
    except KeyboardInterrupt:
        if not run.best.exists():
            raise
        interrupted = True
    best, rows = Checkpoint.load(run.best), run.metrics()
    if interrupted:
        count = "1 epoch" if len(rows) == 1 else f"{len(rows)} epochs"
        goes_on = "; resume=True continues it" if folder else ""
        training.observer.note(f"interrupted after {count}: the network is the one of epoch {best.epoch}{goes_on}")
    measured = best.metrics.get("test")
    done = best.network().to(network.device)
    return History(
        done,
        best,
        rows,
        task.metric,
        task.unit,
        None if measured is None else Evaluation.of(measured, task),
        folder,
        recipe.stage("train").epochs,
        interrupted,
        heard.notes,
    )


def _splits(
    takes: Wanted, train: Any, valid: Any, test: Any, seed: int, told: Observer
) -> tuple[Splits, bool, Literal["validation", "test"]]:
    """Return the splits, whether there is data to test on, and what the epoch is chosen on."""
    origin = ""
    if isinstance(train, Splits):
        origin = f"{train.origin}; "
        valid, test = train.valid if valid is None else valid, train.test if test is None else test
        train = train.train
    there = {}
    chosen_on_test = valid is not None and _same(valid, test)
    for name, data in (("train", train), ("valid", None if chosen_on_test else valid), ("test", test)):
        if data is not None or name == "train":
            there[name] = split_of(data, takes, name, told.preparing)
    if chosen_on_test:
        there["valid"] = there["test"]
        told.note("valid and test are the same data: the best epoch is chosen on the test data, which overstates")
    elif valid is None:
        there["train"], there["valid"] = held_out(there["train"], seed)
        share = "" if takes.values else ", each class in its share"
        told.note(
            f"no validation data: {100 * HELD_OUT:g} % of train is held out to choose the best epoch, "
            f"{len(there['valid'])} samples drawn by seed {seed}{share}; give your own with valid="
        )
    counts = ", ".join(f"{len(there[key])} {verb}" for key, verb in _VERBS.items() if key in there)
    family: Family = "language" if takes.per_step else "convolutional" if len(takes.step) == 3 else "sequence"
    splits = Splits(
        there["train"], there["valid"], there.get("test", there["valid"]), (*takes.step, 0)[0], takes.classes,
        f"{origin}{counts}", family, targets="values" if takes.values else "classes",
    )  # fmt: skip
    told.note(f"data: {splits.origin}")
    return splits, "test" in there, "test" if chosen_on_test else "validation"


_VERBS = {"train": "samples to train on", "valid": "to choose the epoch on", "test": "to test on"}


def _same(one: Any, other: Any) -> bool:
    """Whether two pieces of data are the same object, or made of the same ones."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(a is b for a, b in zip(one, other, strict=True))
    return one is other


def _of_data(network: Network, splits: Splits, tested: bool) -> dict[str, Any]:
    """Return the `data` section for data that was given in Python."""
    parts = {"train": splits.train, "valid": splits.valid} | ({"test": splits.test} if tested else {})
    first = splits.train.batch(torch.tensor([0]), torch.device("cpu"))
    return {
        "name": "python",
        "steps": len(first.x),
        "input": list(network.input_shape),
        "classes": network.outputs,
        "samples": {key: len(split) for key, split in parts.items()},
        "sha256": {key: fingerprint(split) for key, split in parts.items()},
    }


def _of_network(network: Network, stage: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe's sections for the network and its training."""
    config = config_of(network)
    found: dict[str, Any] = {"network": config.model_dump(mode="json")}
    if not network.sizes:
        return found | {"train": stage}
    spiking, recurrent = (sum(size[kind] for size in network.sizes) for kind in (0, 1))
    found |= {"adapt": stage, "restore": stage}
    if (known := network.trained_as or {}).get("kind") == "ffs":
        return found | known
    if spiking and recurrent:
        numbers = {key: value.detach().cpu() for key, value in network.state_dict().items()}
        begun = Checkpoint(
            recipe={}, architecture=config, stage="train", sizes=network.sizes, parameters=numbers, epoch=0, metrics={}
        )
        return found | {
            "kind": "hybrid",
            "ratio": spiking / (spiking + recurrent),
            "init": {"parameters": begun.fingerprint},
        }
    found["network"]["units"] = [sum(size) for size in network.sizes]
    return found | {"kind": "snn" if spiking else config.recurrent}


def _stage(network: Network) -> Literal["train", "adapt", "restore"]:
    """Return which stage's network it is: of a hybrid one with all units of both kinds, that before selection."""
    if (network.trained_as or {}).get("kind") == "ffs":
        return "train"
    if not (network.sizes and all(map(sum, zip(*network.sizes, strict=True)))):
        return "train"
    redundant = [(units, units) for units in config_of(network).units]
    return "adapt" if [tuple(size) for size in network.sizes] == redundant else "restore"


@contextmanager
def _folder(out: Path | str | None, resume: bool) -> Iterator[RunFolder]:
    """Give the run folder: the one asked for, or one that is gone afterwards."""
    if out is None:
        if resume:
            raise UsageError("resume=True needs a folder", "give out=")
        with tempfile.TemporaryDirectory(prefix="hstnn-fit-") as folder:
            yield RunFolder(Path(folder) / "run")
        return
    run = RunFolder(Path(out))
    if not resume and (state := run.state):
        raise RunError(f"{out} already contains a training ({state})", "resume=True continues it; or give another out=")
    try:
        yield run
    except RunError as error:
        hint = error.hint.replace("--resume", "resume=True").replace("with --out", "with out=")
        raise RunError(error.message, hint) from error


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Restore torch's generators afterwards: the caller draws as if nothing had been trained."""
    with torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _silent() -> Any:
    from hstnn_deploy.screen import Screen

    return Screen(quiet=True)
