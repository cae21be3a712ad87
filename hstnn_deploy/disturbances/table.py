"""All disturbances by name, and whether one fits some data and a network."""

from hstnn_deploy.data.images import ImageSplit
from hstnn_deploy.data.preprocessing import Frames, Whole, preprocessing
from hstnn_deploy.data.registry import DataConfig, called, data_set
from hstnn_deploy.data.splits import Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances.adversary import ATTACKS
from hstnn_deploy.disturbances.disturbance import Disturbance
from hstnn_deploy.disturbances.events import EVENTS
from hstnn_deploy.disturbances.hardware import NEURONS, TRANSMISSION, WEIGHTS
from hstnn_deploy.disturbances.values import VALUES
from hstnn_deploy.disturbances.words import WORDS
from hstnn_deploy.models.network import SPIKES, Network
from hstnn_deploy.models.neurons import Lif

DISTURBANCES: dict[str, Disturbance] = {
    **{name: each for name, (each, _) in VALUES.items()},
    **{name: each for name, (each, _) in EVENTS.items()},
    **{name: each for name, (each, _) in WORDS.items()},
    **{name: each for name, (each, _) in ATTACKS.items()},
    **{name: each for name, (each, _) in WEIGHTS.items()},
    **NEURONS,
    **TRANSMISSION,
}
"""All, by name."""


def why_not(disturbance: Disturbance, data: DataConfig, split: Split, network: Network) -> str:
    """Return why a disturbance does not apply to a network and data, or an empty text.

    Args:
        disturbance: which one.
        data: the `data` section of the network's recipe.
        split: of that data.
        network: which network.
    """
    text, how = isinstance(split, TextSplit), preprocessing(data)
    match disturbance.where:
        case "words":
            return "" if text else f"it acts on words, but {called(data)} is not text"
        case "events":
            raw = isinstance(how, Frames) and data_set(data).recordings is not None
            return "" if raw else f"it acts on raw events, but {called(data)} has none"
        case "values" | "adversary" if text or network.tokens:
            return f"it acts on values, but {called(data)} is a text"
        case "values" if disturbance.name in {"stretch", "compress"} and network.every_step:
            return "it changes the number of steps, but each step has an answer of its own"
        case "adversary" if isinstance(how, Whole) and how.encoding == "poisson":
            return "its inputs are random spikes, which pass no gradient"
        case "adversary" if isinstance(split, ImageSplit):
            return "every step shows the same image, but an attack would change each step separately"
        case "neurons":
            lif = any(isinstance(getattr(each, "neuron", None), Lif) for each in network.taps.values())
            return "" if lif else "this network has no LIF neurons"
        case "spikes":
            return "" if any(tap.name == SPIKES for tap in network.taps) else "this network has no spikes"
        case _:
            return ""
