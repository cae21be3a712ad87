"""Other libraries that tests compare with, which are not dependencies of this project."""

from importlib.util import find_spec
from typing import Any

import pytest

BESIDE = {"spikingjelly": "loguru", "sinabs": "pbr"}
"""What `pip install --no-deps` leaves out that their import needs."""


def there(module: str) -> bool:
    """Return whether a library can be imported."""
    try:
        return find_spec(module) is not None
    except ImportError:  # of what holds it
        return False


def installed(module: str) -> Any:
    """Return a library's module, or skip with what would make the test run."""
    try:
        return pytest.importorskip(module, exc_type=ImportError)
    except pytest.skip.Exception as absent:
        # Of what stands below `backports`, each is a package of its own.
        package = module if module.startswith("backports.") else module.partition(".")[0]
        wanted = " ".join([package, *([BESIDE[package]] if package in BESIDE else [])])
        reason = f"{absent.msg}; to run it: pip install --no-deps {wanted}"
        raise pytest.skip.Exception(reason, allow_module_level=True) from None
