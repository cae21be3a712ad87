"""Hybrid spatiotemporal neural networks: train in three stages, export with proof, profile honestly.

The names below are the public Python interface. They are imported on first use, so that `import hstnn_deploy`
and `hstnn --help` load neither torch nor ONNX Runtime.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "HstnnError": "hstnn_deploy.errors",
    "Recipe": "hstnn_deploy.train.recipe",
    "load_recipe": "hstnn_deploy.train.recipe",
    "load_network": "hstnn_deploy.checkpoint",
    "train": "hstnn_deploy.train.stages",
    "evaluate": "hstnn_deploy.train.evaluation",
    "export_bundle": "hstnn_deploy.export.bundle",
}

__all__ = ["HstnnError", "Recipe", "__version__", "evaluate", "export_bundle", "load_network", "load_recipe", "train"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hstnn_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
