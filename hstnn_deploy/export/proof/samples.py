"""What a bundle is verified on: windows of the recipe's test split where it is at hand, of a file, or random ones.

Shapes: T time, B batch.
"""

from pathlib import Path

import torch
from torch import Tensor

from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.files.inputs import read_inputs
from hstnn_deploy.data.preprocessing import preprocessing
from hstnn_deploy.data.registry import data_set, load
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.export.graph.interface import Interface, interface
from hstnn_deploy.export.proof.comparisons import Subject
from hstnn_deploy.export.proof.raw_input import raw_samples
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.recipe.recipe import Recipe

_SAMPLES = 64
"""Samples that are replayed, of networks whose values at every step fit into `_BYTES`."""
_BYTES = 64e6
_ASKED_BYTES = 256e6
"""Of the test split, batches of as many samples are asked as have all their values at every step fit into this."""
_CALIBRATION_BATCH = 16
_STEPS = 28
"""Steps of a random window."""


def samples_file(given: object) -> Path | None:
    """Return the path of a file of samples; None: none was given.

    Raises:
        UsageError: it is something else, such as the samples themselves.
    """
    if given is None or isinstance(given, str | Path):
        return None if given is None else Path(given)
    kind = type(given).__name__
    raise UsageError(
        f"samples is {kind}, not a path", "give a .npy or .npz file, or samples with answers as test=(x, y)"
    )


def make_subject(
    network: Network,
    folder: Path,
    recipe: Recipe,
    vocabulary: str,
    data_folder: Path | None,
    whole_test: bool = False,
    report: Report = silent,
    samples: Path | None = None,
    given: Split | None = None,
) -> Subject:
    """Return what is verified.

    Args:
        network: the network, whose numbers count.
        folder: where its files are.
        recipe: of the network.
        vocabulary: of a language model, the SHA-256 of its words.
        data_folder: where the recipe's data is; None: where data usually is.
        whole_test: whether to evaluate the full test split, however large the network.
        report: told what is under way.
        samples: a .npy or .npz file of inputs that the files are replayed on, x[N, T, …], in the place of other ones.
        given: samples with their answers, in the place of the test split.

    Raises:
        DataError: the file of samples is damaged, or holds no inputs of the network.
    """
    test, missing = (given, "") if given is not None else _test_split(recipe, vocabulary, data_folder)
    if samples is not None and test is None and no_data(recipe):
        missing = f"the samples of {samples.name} have no labels"
    text = recipe.network.family == "language"
    face = interface(network)
    how = preprocessing(recipe.data)
    recordings = data_set(recipe.data).recordings
    windows, sampled = _windows(test, face, network.longest, samples)
    if given is not None and samples is None:
        sampled, recordings = "windows of the given samples", None
    return Subject(
        network,
        folder,
        windows,
        task_for(recipe.network, recipe.loss),
        test,
        missing,
        # A text's columns, and so its score, depend on how many there are.
        recipe.batch if text else min(recipe.batch, 100, _fitting(test, face)),
        how,
        raw_samples(how, test, lambda: recordings(recipe.data, data_folder) if recordings else {})
        if test and given is None
        else None,
        whole_test,
        report,
        sampled=sampled,
    )


def _fitting(test: Split | None, face: Interface) -> int:
    """Return how many samples' values at every step fit, judged by the first: where answers differ, all are shown."""
    steps = _STEPS if test is None else len(test.batch(torch.tensor([0]), torch.device("cpu")).x)
    return max(1, int(_ASKED_BYTES // (4 * steps * face.values)))


def training_windows(recipe: Recipe, data_folder: Path | None) -> list[Tensor]:
    """Return windows [T, B, …] of the training split, for calibration.

    Raises:
        DataError: the data is not at hand.
    """
    train = load(recipe.data, recipe.protocol, data_folder).train
    chosen = torch.linspace(0, len(train) - 1, min(_SAMPLES, len(train))).long()
    return [train.batch(part, torch.device("cpu")).x for part in chosen.split(_CALIBRATION_BATCH)]


def _test_split(recipe: Recipe, vocabulary: str, data_folder: Path | None) -> tuple[Split | None, str]:
    if why := no_data(recipe):
        return None, f"{why}, so there are no samples with labels"
    try:
        splits = load(recipe.data, recipe.protocol, data_folder)
    except DataError as error:
        return None, f"no test data: {error.message}"
    if splits.vocabulary != vocabulary:
        return None, f"no test data: {recipe.data.name} now has another vocabulary than the network was trained with"
    return splits.test, ""


def _windows(test: Split | None, face: Interface, longest: int | None, given: Path | None) -> tuple[list[Tensor], str]:
    """Return inputs of two (T, B), and what they are: samples as they are, and pairs end to end, a step cut off.

    A network that knows no more than `longest` steps sees parts of that length, and shorter ones in the place of pairs.
    """
    samples = max(2, min(_SAMPLES, int(_BYTES // (4 * _STEPS * face.values))))
    if given is not None:
        whole = read_inputs(given, face.step, face.words if face.tokens else None, samples)
        sampled = f"windows of {given.name}"
    elif test is None:
        sampled = "random windows"
        whole = face.example(min(_STEPS, longest or _STEPS), samples)
    else:
        sampled = "windows of the test split"
        whole = test.batch(torch.arange(min(samples, len(test))), torch.device("cpu")).x
    whole = whole[:longest]
    if whole.shape[1] == 1:
        # Of a file with one sample: twice the same.
        whole = whole.repeat(1, 2, *[1] * (whole.ndim - 2))
    half = whole.shape[1] // 2
    if longest is not None and 2 * len(whole) - 1 > longest:
        shorter = whole[: max(1, len(whole) - 1), : max(1, half - 3)]
        return [whole.contiguous(), shorter.contiguous()], sampled
    doubled = torch.cat((whole[:, :half], whole[:, half : 2 * half]))[:-1, : max(1, half - 3)]
    return [whole, doubled.contiguous()], sampled
