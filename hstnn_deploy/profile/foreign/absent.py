"""What is not claimed of a foreign network, and why."""

from collections.abc import Sequence

from hstnn_deploy.profile.values import Measured, NotMeasured, Value


def not_counted(what: str) -> list[Value]:
    """Return operations, spikes and energy as not measured, with the reason.

    Args:
        what: which network, such as "an ONNX file".
    """
    reason = f"not counted for {what}: only in hstnn's own networks is it known which values are spikes"
    return [NotMeasured(name, reason) for name in ("macs_dense", "macs", "acs", "spike_rate", "energy")]


def throughput(batch: int, spent: Sequence[float]) -> Value:
    """Return samples per second; not measured where nothing says which axis is the batch.

    Args:
        batch: samples of a call; 0 where that is not known.
        spent: seconds of each call.
    """
    if not batch:
        return NotMeasured("throughput", "the batch axis is unknown: mark it with B in --input")
    return Measured("throughput", batch * len(spent) / sum(spent), "samples/s", "samples / sum of calls")
