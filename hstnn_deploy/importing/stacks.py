"""The stack of a chain, with its weights."""

from pydantic import ValidationError
from torch import Tensor

from hstnn_deploy.errors import ImportRefused, RecipeError
from hstnn_deploy.importing.parts import Chain, configs, leaves
from hstnn_deploy.models.layers import checked
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.readouts import Readout
from hstnn_deploy.models.network import State
from hstnn_deploy.models.stack import Stack, StackConfig


def check_whole(chain: Chain, shape: Shape, readout: Readout) -> None:
    """Refuse what no recipe, and so no checkpoint, could express.

    Raises:
        ImportRefused: nothing carries anything over time, an answer is no row of numbers, or it is too large.
    """
    if not chain:
        raise ImportRefused("the module has no layer that computes anything")
    try:
        StackConfig(input=list(shape), layers=configs(chain), readout=readout)
    except RecipeError as error:
        raise ImportRefused(error.message.replace("network.layers", "the layers"), error.hint) from error
    except ValidationError as error:
        raise ImportRefused(f"the layers do not form a stack: {error.errors()[0]['msg']}") from error


def built(chain: Chain, shape: Shape, readout: Readout, precise: bool = False) -> Stack:
    """Return the stack of a chain, in evaluation mode, with its weights.

    A precise one computes in float64, with weights as they are given.

    Raises:
        ImportRefused: the layers do not make a network, or weights do not fit them.
    """
    try:
        config = StackConfig.model_construct(
            family="stack",
            input=list(shape),
            layers=checked(configs(chain), "network.layers"),
            readout=readout,
            mode="layers",
            weights=None,
        )
        network = config.build([])
    except RecipeError as error:
        raise ImportRefused(error.message, error.hint) from error
    if precise:
        network = network.double()
    for layer, part in zip(network.leaves(), leaves(chain), strict=True):
        if part is None:
            continue
        own = layer.state_dict()
        if own.keys() != part.weights.keys():
            odd = sorted(own.keys() ^ part.weights.keys())[0]
            raise ImportRefused(f"{part.path}: its weights are not those of {layer.kind}: {odd}")
        for name, value in part.weights.items():
            if own[name].shape != value.shape:
                wanted = f"{layer.kind} takes {list(own[name].shape)}"
                raise ImportRefused(f"{part.path}: {name} has shape {list(value.shape)}, but {wanted}")
        layer.load_state_dict(part.weights)
    return network.eval()


def start(network: Stack, x: Tensor) -> State:
    """Return the states before the first step of x[T, B, …], in the precision of a network's weights."""
    kinds = [each.dtype for each in (*network.parameters(), *network.buffers(), x) if each.is_floating_point()]
    return {name: value.to(kinds[0]) for name, value in network.initial_state(x).items()} if kinds else {}
