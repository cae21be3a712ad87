"""Hybrid spatiotemporal neural networks: train in three stages, export with proof, profile honestly.

The names below are the public Python interface (docs/python.md). They are imported on first use, so that `import
hstnn_deploy` and `hstnn --help` load neither torch nor ONNX Runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    # What a type checker sees; a test holds it against `_PUBLIC`.
    from hstnn_deploy.checkpoint import Checkpoint as Checkpoint
    from hstnn_deploy.checkpoint import load_network as load_network
    from hstnn_deploy.errors import HstnnError as HstnnError
    from hstnn_deploy.export.bundle.export import Bundle as Bundle
    from hstnn_deploy.export.bundle.export import export_bundle as export_bundle
    from hstnn_deploy.export.bundle.verify import Verification as Verification
    from hstnn_deploy.export.bundle.verify import verify_bundle as verify_bundle
    from hstnn_deploy.export.graph.from_nir import read_nir as read_nir
    from hstnn_deploy.export.runtime.session import Session as Session
    from hstnn_deploy.importing.module import from_torch as from_torch
    from hstnn_deploy.models import custom as custom
    from hstnn_deploy.models.layers import specs as layers
    from hstnn_deploy.models.network import Network as Network
    from hstnn_deploy.models.stack import Stack as Stack
    from hstnn_deploy.profile.meter.ledger import Ledger as measure  # noqa: N813
    from hstnn_deploy.profile.run.network import NetworkProfile as NetworkProfile
    from hstnn_deploy.profile.run.network import profile_network as profile_network
    from hstnn_deploy.profile.values import Measured as Measured
    from hstnn_deploy.recipe.load import load_recipe as load_recipe
    from hstnn_deploy.recipe.recipe import Recipe as Recipe
    from hstnn_deploy.train.fitting.evaluating import evaluate as evaluate
    from hstnn_deploy.train.fitting.fit import fit as fit
    from hstnn_deploy.train.fitting.history import Evaluation as Evaluation
    from hstnn_deploy.train.fitting.history import History as History
    from hstnn_deploy.train.observer import Observer as Observer
    from hstnn_deploy.train.stages import train as train_recipe

_PUBLIC = {
    "layers": "hstnn_deploy.models.layers.specs:",
    "custom": "hstnn_deploy.models.custom:",
    "Checkpoint": "hstnn_deploy.checkpoint:Checkpoint",
    "load_network": "hstnn_deploy.checkpoint:load_network",
    "HstnnError": "hstnn_deploy.errors:HstnnError",
    "Bundle": "hstnn_deploy.export.bundle.export:Bundle",
    "export_bundle": "hstnn_deploy.export.bundle.export:export_bundle",
    "Verification": "hstnn_deploy.export.bundle.verify:Verification",
    "verify_bundle": "hstnn_deploy.export.bundle.verify:verify_bundle",
    "read_nir": "hstnn_deploy.export.graph.from_nir:read_nir",
    "Session": "hstnn_deploy.export.runtime.session:Session",
    "from_torch": "hstnn_deploy.importing.module:from_torch",
    "Network": "hstnn_deploy.models.network:Network",
    "Stack": "hstnn_deploy.models.stack:Stack",
    "measure": "hstnn_deploy.profile.meter.ledger:Ledger",
    "NetworkProfile": "hstnn_deploy.profile.run.network:NetworkProfile",
    "profile_network": "hstnn_deploy.profile.run.network:profile_network",
    "Measured": "hstnn_deploy.profile.values:Measured",
    "load_recipe": "hstnn_deploy.recipe.load:load_recipe",
    "Recipe": "hstnn_deploy.recipe.recipe:Recipe",
    "evaluate": "hstnn_deploy.train.fitting.evaluating:evaluate",
    "fit": "hstnn_deploy.train.fitting.fit:fit",
    "Evaluation": "hstnn_deploy.train.fitting.history:Evaluation",
    "History": "hstnn_deploy.train.fitting.history:History",
    "Observer": "hstnn_deploy.train.observer:Observer",
    # Not `train`: importing anything from the package of that name makes it an attribute here.
    "train_recipe": "hstnn_deploy.train.stages:train",
}

__all__ = [
    "Bundle",
    "Checkpoint",
    "Evaluation",
    "History",
    "HstnnError",
    "Measured",
    "Network",
    "NetworkProfile",
    "Observer",
    "Recipe",
    "Session",
    "Stack",
    "Verification",
    "__version__",
    "custom",
    "evaluate",
    "export_bundle",
    "fit",
    "from_torch",
    "layers",
    "load_network",
    "load_recipe",
    "measure",
    "profile_network",
    "read_nir",
    "train_recipe",
    "verify_bundle",
]


if not TYPE_CHECKING:
    # Not for a type checker, which would take any name for one that is there.
    def __getattr__(name):
        if name in _PUBLIC:
            module, _, attribute = _PUBLIC[name].partition(":")
            found = import_module(module)
            return getattr(found, attribute) if attribute else found
        raise AttributeError(f"module 'hstnn_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
