"""What one measured process leaves behind: a record. JSON lines on disk, one record per line; `records` reads them.

Standard library only, as the measured process writes it. docs/records.md describes the layout for other programs:

    schema         "hstnn-profile", and version: of this layout; `older` turns an older one into it
    status         "measured", "failed", or "n/a" (there is nothing to measure); both of the latter with a reason
    configuration  what was asked for: see `Configuration`
    values         what was measured: see `values`
    spans          the parts of the process's life, each with values of its own: load, warm-up, training, …
    series         single measurements in order, such as the latency of every call
    timeline       levels and counters over time, in columns of equal length
    facts          how: data, warm-up, provider, threads, versions, machine, the user's commit, cost of the sampler
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.foreign import brief, one_line
from hstnn_deploy.profile.older import VERSION, current
from hstnn_deploy.profile.values import Value, find, value_from

SCHEMA = "hstnn-profile"

Phase = Literal["work", "train", "select", "restore", "export", "infer", "step"]
"""`step` is of foreign torch modules alone: training steps, without data and so without epochs."""
Engine = Literal["eager", "fused", "compile", "torchscript", "onnxruntime", "pt2"]
Status = Literal["measured", "failed", "n/a"]
Source = Literal["auto", "real", "synthetic"]


_NEW = (("foreign", None), ("rram_read", None), ("sram_read", None))


@dataclass(frozen=True)
class Configuration:
    """One thing to measure, in a process of its own."""

    subject: str
    """The recipe's name, or the checkpoint's path."""
    recipe: dict[str, Any]
    """The resolved recipe."""
    network: str
    """Which network this is, such as "hybrid 0.5 (400+400, 400+400)": spiking + recurrent units per layer."""
    sizes: list[list[int]]
    """Spiking and recurrent units of each layer."""
    stage: Literal["train", "adapt", "restore"]
    """The stage of training that the network is in: fixes optimiser, learning rate and clipping."""
    phase: Phase
    engine: Engine
    batch: int
    steps: int
    """Time steps T of a sample."""
    device: str
    """`cpu` or `cuda:N`, N as torch numbers them."""
    no_cuda: str = ""
    """Why there are no CUDA figures; empty on a GPU."""
    ckpt: str | None = None
    """The checkpoint with the weights; None for fresh random ones."""
    ckpt_sha256: str = ""
    """Of that file, so that another one of its name is not taken for it."""
    data_dir: str | None = None
    data: Source = "auto"
    """`real`, `synthetic` (random, of the same size), or `auto`: real where it is at hand."""
    threads: int | None = None
    """CPU threads; None for the engine's own choice."""
    seconds: float = 20.0
    """How long to measure for, apart from start and warm-up."""
    max_steps: int | None = None
    """Training steps to measure, instead of as many as fit into `seconds`."""
    instance: int = 1
    """Which one of several processes that are measured at the same time, from 1."""
    instances: int = 1
    """How many they are."""
    at_once: list[str] = field(default_factory=list)
    """The devices that work at the same time, where they are several."""
    repeat: int = 1
    """Which one of several processes that are measured one after another, from 1."""
    find_batch: bool = False
    """Whether the largest batch that fits is looked for, instead of anything being measured."""
    memory_limit: int | None = None
    """Bytes of main memory beyond which the process fails; None for the machine's own end."""
    foreign: dict[str, Any] | None = None
    """Of a network that hstnn did not make: `kind`, "onnx" or "module"; `inputs`, each with `name`, `shape` and `type`;
    of an ONNX file `bytes` and `weights`. Its recipe is only a name; batch and steps are 0 where nothing says which
    axes they are; `ckpt` is the ONNX file. None of hstnn's own networks."""
    rram_read: float | None = None
    """Of the phase work, with weights on devices: joules for a bit read from RRAM; None if not given."""
    sram_read: float | None = None
    """The same from SRAM; None for the published figure of `phases.on_devices`."""

    @property
    def experiment(self) -> str | None:
        """The row of the paper's resource table that the recipe reproduces."""
        name: str | None = self.recipe.get("experiment")
        return name

    @property
    def label(self) -> str:
        """One line that tells this configuration from the others."""
        parts = [
            *(["largest batch"] if self.find_batch else []),
            self.phase,
            f"{self.kind} {self.ratio:g}" if self.kind in {"ffs", "hybrid"} else self.kind,
        ]
        if self.phase == "infer":
            parts.append(self.engine)
        if self.phase in {"train", "restore", "infer", "step"} and self.batch and not self.find_batch:
            parts.append(f"batch {self.batch}")
        parts.append(self.device)
        if self.precision != "fp32":
            parts.append(self.precision)
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.at_once:
            parts.append(f"at once with {len(self.at_once) - 1} more")
        if self.instances > 1:
            parts.append(f"instance {self.instance} of {self.instances}")
        if self.repeat > 1:
            parts.append(f"process {self.repeat}")
        return f"{self.subject}: {', '.join(parts)}"

    @property
    def kind(self) -> str:
        """The kind of network: rnn, lstm, snn, ffs or hybrid; plain of a stack, whose recipe has no such key.

        Of a foreign one: onnx or module.
        """
        if self.foreign is not None:
            return str(self.foreign["kind"])
        name: str = self.recipe.get("kind", "plain")
        return name

    @property
    def ratio(self) -> float:
        """The spiking share of the units that the recipe asks for."""
        share: float = self.recipe["ratio"]
        return share

    @property
    def precision(self) -> str:
        """In which precision it computes: fp32, medium, bf16 or fp16."""
        name: str = self.recipe.get("precision", "fp32")
        return name

    @property
    def key(self) -> str:
        """What two configurations have in common that ask for the same."""
        return json.dumps(self.plain(), sort_keys=True)

    @property
    def repeated(self) -> str:
        """What configurations have in common that ask for the same, in one process after another."""
        return replace(self, repeat=1).key

    @property
    def together(self) -> str:
        """What configurations that are measured at the same time have in common, and no others."""
        own = {"instance", "device", "no_cuda"} if self.at_once else {"instance"}
        return json.dumps({key: value for key, value in self.plain().items() if key not in own}, sort_keys=True)

    def plain(self) -> dict[str, Any]:
        """Return the configuration as plain data; what there was not always is left out where it says nothing."""
        return {key: value for key, value in asdict(self).items() if (key, value) not in _NEW}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> "Configuration":
        """Return the configuration that plain data describes.

        Raises:
            ProfileError: a key is unknown or missing.
        """
        if unknown := set(data) - {field.name for field in fields(cls)}:
            raise ProfileError(f"a record's configuration has the unknown key {brief(min(unknown))}")
        try:
            return cls(**data)
        except TypeError as error:
            raise ProfileError(f"a record's configuration is incomplete: {error}") from error


@dataclass(frozen=True)
class Span:
    """A part of a measured process's life."""

    name: str
    start: float
    """Seconds since measuring began, on the timeline's clock."""
    seconds: float
    values: list[Value]

    def value(self, name: str) -> Value:
        """Return a value by its name."""
        return find(self.values, name)

    def plain(self) -> dict[str, Any]:
        """Return the span as plain data."""
        return {
            "name": self.name,
            "start": self.start,
            "seconds": self.seconds,
            "values": [value.plain() for value in self.values],
        }

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> "Span":
        """Return the span that plain data describes.

        Raises:
            KeyError, TypeError: it describes none.
            ProfileError: a value of it is damaged.
        """
        values = [value_from(value) for value in data["values"]]
        return cls(str(data["name"]), float(data["start"]), float(data["seconds"]), values)


@dataclass(frozen=True)
class Record:
    """What came of one configuration."""

    configuration: Configuration
    status: Status
    values: list[Value] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    """Why nothing was measured, in one line."""
    spans: list[Span] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)
    timeline: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """Return a value by its name."""
        return find(self.values, name)

    def plain(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "status": self.status,
            "reason": self.reason,
            "configuration": self.configuration.plain(),
            "values": [value.plain() for value in self.values],
            "spans": [span.plain() for span in self.spans],
            "series": self.series,
            "timeline": self.timeline,
            "facts": self.facts,
        }

    def span(self, name: str) -> Span | None:
        """Return the first span of a name."""
        return next((span for span in self.spans if span.name == name), None)

    @classmethod
    def from_plain(cls, data: Any) -> "Record":
        """Return the record that plain data describes.

        Raises:
            ProfileError: it is not a record, or of a version that this program does not read.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ProfileError("not a profile record", "give a records.jsonl that `hstnn profile --out` wrote")
        data = current(data)
        try:
            return cls(
                configuration=Configuration.from_plain(data["configuration"]),
                status=data["status"],
                values=[value_from(value) for value in data["values"]],
                facts=data["facts"],
                reason=data["reason"],
                spans=[Span.from_plain(span) for span in data["spans"]],
                series=data["series"],
                timeline=data["timeline"],
            )
        except KeyError as error:
            raise ProfileError(f"a record is damaged: it has no {one_line(str(error.args[0]))}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ProfileError("a record is damaged: a value is of another type than records have") from error


def lines(records: Iterable[Record]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(record.plain(), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
