"""The equations of the recurrent units, each the only place with it (docs/mathematics.md, section 1).

Shapes: B batch, n units; of convolutional units n channels of maps [H, W].
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from hstnn_deploy.models.algebra import Algebra, V

Activation = Literal["sigmoid", "tanh", "relu"]
"""What makes h of a sum, in units without gates."""

MapForm = Literal["dvs", "nmnist"]
"""The two published forms of recurrent units over maps."""


def rnn(
    o: Algebra[V], drive: V, state: Mapping[str, V], weight: Tensor, activation: Activation = "sigmoid"
) -> tuple[V, dict[str, V]]:
    """Run one step of units without gates, h_t = sigmoid(drive_t + h_{t-1} @ weight); return h, and it as the state.

    In the place of the sigmoid, another activation.
    """
    total = o.add(drive, o.product(state["h"], weight, "own"), "total")
    h = o.tap({"sigmoid": o.sigmoid, "tanh": o.tanh, "relu": o.relu}[activation](total, "h"), "h")
    return h, {"h": h}


def gru(o: Algebra[V], drive: V, state: Mapping[str, V], weight: Tensor, bias: Tensor | None) -> tuple[V, dict[str, V]]:
    """Run one step of GRU units as torch.nn.GRU has them, with drive_t [B, 3, n] and weight (n, 3, n), gates r, z, n.

    r, z = sigmoid(drive + h_{t-1} @ weight);  n = tanh(drive_n + r (h_{t-1} @ weight_n + bias));
    h_t = n + z (h_{t-1} - n).

    Returns:
        h, and it as the state.
    """
    own = o.product(state["h"], weight, "own")
    (drive_r, drive_z, drive_n), (own_r, own_z, own_n) = o.parts(drive, 3, "drive"), o.parts(own, 3, "own")
    if bias is not None:
        own_n = o.add(own_n, o.parameter(bias), "own_biased")
    r = o.sigmoid(o.add(drive_r, own_r, "reset_total"), "reset_gate")
    z = o.sigmoid(o.add(drive_z, own_z, "update_total"), "update_gate")
    n = o.tanh(o.add(drive_n, o.mul(r, own_n, "let_through"), "candidate_total"), "candidate")
    h = o.tap(o.add(n, o.mul(z, o.sub(state["h"], n, "change"), "kept"), "h"), "h")
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
