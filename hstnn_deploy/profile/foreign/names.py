"""Which words of a command line name a foreign network. Standard library only."""

from pathlib import Path

from hstnn_deploy.factories import looks_like_factory


def is_foreign(name: str) -> bool:
    """Return whether a word names a foreign network: FILE.onnx, or PACKAGE.MODULE:FACTORY where no such file exists."""
    return name.lower().endswith(".onnx") or (looks_like_factory(name) and not Path(name).exists())
