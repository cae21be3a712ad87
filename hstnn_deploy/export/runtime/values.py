"""What a regression says of its input, as plain data and in words. Needs numpy alone.

Shapes: B samples side by side, K values.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import BundleError, DataError
from hstnn_deploy.export.runtime.session import Session

Array = NDArray[Any]


def valued(session: Session, outputs: Array) -> list[dict[str, Any]]:
    """Return for each sample of outputs [B, K] of a regression its values and, where the recipe has them, their names.

    Raises:
        DataError: the outputs hold NaN or infinities.
        BundleError: the manifest has another number of names.
    """
    names: list[str] = session.manifest["network"]["answer"]["names"]
    if names and len(names) != session.classes:
        raise BundleError(f"the manifest of {session.folder} names {len(names)} of {session.classes} outputs")
    if not np.isfinite(outputs).all():
        raise DataError("the network's answer is not finite", "its input or states are too large")
    named = {"names": names} if names else {}
    return [{"values": [float(value) for value in row], **named} for row in outputs]


def in_words(answer: dict[str, Any]) -> str:
    """Return the values of a sample for people: "x = 1.5, y = -2", or "values 1.5, -2" of outputs without names."""
    values = [f"{value:.6g}" for value in answer["values"]]
    if names := answer.get("names"):
        return ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
    return f"values {', '.join(values)}"
