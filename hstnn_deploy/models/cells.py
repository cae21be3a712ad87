"""The equations of the recurrent units, each the only place with it (docs/mathematics.md, section 1).

Shapes: B batch, n units; of convolutional units n channels of maps [H, W].
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from hstnn_deploy.models.algebra import Algebra, V

MapForm = Literal["dvs", "nmnist"]
"""The two published forms of recurrent units over maps."""


def rnn(o: Algebra[V], drive: V, state: Mapping[str, V], weight: Tensor) -> tuple[V, dict[str, V]]:
    """Run one step of sigmoid units, h_t = sigmoid(drive_t + h_{t-1} @ weight); return h, and it as the state."""
    own = o.product(state["h"], weight, "own")
    h = o.tap(o.sigmoid(o.add(drive, own, "total"), "h"), "h")
    return h, {"h": h}


def lstm(o: Algebra[V], drive: V, state: Mapping[str, V], weight: Tensor) -> tuple[V, dict[str, V]]:
    """Run one step of LSTM units, with drive_t [B, 4, n] and weight (n, 4, n), gates in the order i, f, g, o.

    z_t = drive_t + h_{t-1} @ weight;  i, f, o = sigmoid(z);  g = tanh(z);  c_t = f c_{t-1} + i g;  h_t = o tanh(c_t).

    Returns:
        h, and the states h and c.
    """
    z = o.add(drive, o.product(state["h"], weight, "own"), "gates")
    i, f, g, out = o.parts(z, 4, "gate")
    kept = o.mul(o.sigmoid(f, "forget_gate"), state["c"], "kept")
    c = o.add(kept, o.mul(o.sigmoid(i, "input_gate"), o.tanh(g, "candidate"), "new"), "c")
    h = o.tap(o.mul(o.sigmoid(out, "output_gate"), o.tanh(c, "squashed"), "h"), "h")
    return h, {"h": h, "c": c}


def conv_rnn(o: Algebra[V], drive: V, state: Mapping[str, V], conv: nn.Conv2d, form: MapForm) -> tuple[V, dict[str, V]]:
    """Run one step of recurrent units over maps; return h, and it as the state.

    dvs:     h_t = tanh(drive_t + relu(conv(h_{t-1})))
    nmnist:  h_t = relu(drive_t + conv(h_{t-1}))
    """
    own = o.convolve(state["h"], conv, "own")
    if form == "dvs":
        h = o.tanh(o.add(drive, o.relu(own, "rectified"), "total"), "h")
    else:
        h = o.relu(o.add(drive, own, "total"), "h")
    h = o.tap(h, "h")
    return h, {"h": h}
