"""Hybrid spatiotemporal neural networks: train in three stages, export with proof, profile honestly.

The names below are the public Python interface. They are imported on first use, so that `import hstnn_deploy`
and `hstnn --help` load neither torch nor ONNX Runtime.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "measure": "hstnn_deploy.profile.meter.ledger:Ledger",
    "HstnnError": "hstnn_deploy.errors:HstnnError",
    "Recipe": "hstnn_deploy.recipe.recipe:Recipe",
    "load_recipe": "hstnn_deploy.recipe.load:load_recipe",
    "from_torch": "hstnn_deploy.importing.module:from_torch",
    "load_network": "hstnn_deploy.checkpoint:load_network",
    # Not `train`: that is the room, and importing anything of it makes it an attribute here.
    "train_recipe": "hstnn_deploy.train.stages:train",
    "evaluate": "hstnn_deploy.train.evaluation:evaluate",
    "export_bundle": "hstnn_deploy.export.bundle.export:export_bundle",
    "profile_network": "hstnn_deploy.profile.run.network:profile_network",
    "read_nir": "hstnn_deploy.export.graph.from_nir:read_nir",
}

__all__ = [
    "HstnnError",
    "Recipe",
    "__version__",
    "evaluate",
    "export_bundle",
    "from_torch",
    "load_network",
    "load_recipe",
    "measure",
    "profile_network",
    "read_nir",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'hstnn_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
