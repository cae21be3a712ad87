"""A network as TorchScript and as a torch.export program. Shapes: T time, B batch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from hstnn_deploy.export.graph.interface import frozen, interface
from hstnn_deploy.export.graph.script import scripted
from hstnn_deploy.export.graph.traced import Program
from hstnn_deploy.models.network import Network

_EXAMPLE_STEPS, _EXAMPLE_BATCH = 3, 2
"""Of the example that torch.export is shown; neither may be found in a written graph."""


def script(network: Network) -> Any:
    """Return a network as TorchScript: scripted, not traced, for tracing would bake the number of steps.

    Its weights keep their names. Beside `forward` it has `forward_shown`, which hands out taps too; see `script`.

    Raises:
        ExportError: an equation of the network cannot be written so.
    """
    network.check_steps("TorchScript")
    with quiet():
        return scripted(network)


def program(network: Network, show: bool = False) -> ExportedProgram:
    """Return a network as a torch.export program, T and B free.

    Args:
        network: the network.
        show: whether the program returns what each group of each layer emitted as well.

    Raises:
        ExportError: an equation of the network cannot be written so.
    """
    network.check_steps("a .pt2 program")
    face, batch = interface(network), Dim("B", min=1)
    with quiet():
        made = torch.export.export(
            Program(frozen(network), show),
            (face.example(_EXAMPLE_STEPS, _EXAMPLE_BATCH), face.zeros(_EXAMPLE_BATCH)),
            dynamic_shapes={
                "x": {0: Dim("T", min=1), 1: batch},
                "state": {each.name: {0: batch} for each in face.states},
            },
        )
    # Behind each change of a type it notes which type there was: that computes nothing, and not all engines know it.
    for node in list(made.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            made.graph.erase_node(node)
    made.graph_module.recompile()
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' warnings (deprecations, missing torchvision)."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
