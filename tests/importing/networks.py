"""Networks of each library as its users write them, its own examples among them; none has only 0.5, 1 or 2 in it."""

from tests.importing import networks_stepped, networks_windowed
from tests.importing.table import NETWORKS, Made, louder, made
from tests.libraries import installed

__all__ = ["NETWORKS", "Made", "installed", "louder", "made"]

MODULES = (networks_stepped, networks_windowed)
"""They enter their networks into the table."""
