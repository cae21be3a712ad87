"""A bundle's other files: the words of a language model, and a spiking network for NIR."""

from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.errors import DataError
from hstnn_deploy.export.graph.neuromorphic import output_of, write_nir
from hstnn_deploy.export.graph.nir_neurons import DT, Method, NirForm
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.runtime.manifest import VOCABULARY
from hstnn_deploy.models.network import Network

NIR = "model.nir"


class NirOptions(NamedTuple):
    """For which simulator a NIR graph is; see `neuromorphic`."""

    dt: float = DT
    method: Method = "euler"
    form: NirForm = "plain"


def write_extras(
    network: Network, checkpoint: Checkpoint, folder: Path, data_folder: Path | None, nir: NirOptions | None
) -> tuple[dict[str, Any], list[Check]]:
    """Write them into a bundle's folder.

    Returns:
        What the manifest says of each file, and what was checked.

    Raises:
        ExportError: NIR is asked for and cannot hold the network.
        RunError: the folder cannot be written.
    """
    carried: dict[str, Any] = {}
    checks = []
    if nir:
        path = write_nir(network, folder / NIR, **nir._asdict())
        meaning = (
            f"NIR graph for steps of {nir.dt:g} s, method {nir.method}, form {nir.form}; out come {output_of(network)}"
        )
        carried[NIR] = _described(path, meaning) | {"options": nir._asdict()}
        figure = "every number equal to the bit; each layer's decay and threshold come out of it again to float32"
        checks.append(Check(NIR, "read back through nir", "passed", figure))
    if checkpoint.vocabulary:
        words, missing = _words(checkpoint, data_folder)
        if words:
            files.write_json(folder / VOCABULARY, list(words))
            carried[VOCABULARY] = _described(folder / VOCABULARY, "words in the order of their numbers")
            figure = f"{len(words)} words, equal to the checkpoint's (SHA-256)"
            checks.append(Check(VOCABULARY, "carried", "passed", figure))
        else:
            checks.append(Check(VOCABULARY, "carried", "not run", missing))
    return carried, checks


def _words(checkpoint: Checkpoint, data_folder: Path | None) -> tuple[tuple[str, ...], str]:
    """Return the words that a language model was trained on, or none and the reason."""
    recipe = checkpoint.resolved_recipe()
    try:
        splits = load(recipe.data, recipe.protocol, data_folder)
    except DataError as error:
        return (), f"the text is not available: {error.message}"
    if splits.vocabulary != checkpoint.vocabulary:
        return (), f"{recipe.data.name} now has another vocabulary than the network was trained with"
    return splits.words, ""


def _described(path: Path, meaning: str) -> dict[str, Any]:
    return {"sha256": files.sha256(path), "bytes": path.stat().st_size, "meaning": meaning}
