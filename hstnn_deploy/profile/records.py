"""What one measured process leaves behind: a record. JSON lines on disk, one record per line.

Standard library only, as the measured process writes it. A record as plain data:

    schema         "hstnn-profile", and version: of this layout; a reader refuses a newer one
    status         "measured", or "failed" with a reason in one line
    configuration  what was asked for: see `Configuration`
    values         what was measured: see `values`
    facts          how: data, warm-up, repeats, provider, threads, versions, machine
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.values import Value, find, value_from

SCHEMA = "hstnn-profile"
VERSION = 1

Phase = Literal["train", "infer"]
Engine = Literal["eager", "torchscript", "onnxruntime"]


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
    """The checkpoint that holds the weights; None for fresh random ones."""
    data_dir: str | None = None
    threads: int | None = None
    """CPU threads; None for the engine's own choice."""
    seconds: float = 20.0
    """How long to measure for, apart from start and warm-up."""
    max_steps: int | None = None
    """Training steps to measure, instead of as many as fit into `seconds`."""

    @property
    def experiment(self) -> str | None:
        """The row of the paper's resource table that the recipe reproduces."""
        name: str | None = self.recipe.get("experiment")
        return name

    @property
    def label(self) -> str:
        """One line that tells this configuration from the others."""
        what = "train" if self.phase == "train" else f"infer, {self.engine}, batch {self.batch}"
        return f"{self.subject}: {what}, {self.device}"

    def plain(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> "Configuration":
        """Return the configuration that plain data describes.

        Raises:
            ProfileError: a key is unknown or missing.
        """
        if unknown := set(data) - {field.name for field in fields(cls)}:
            raise ProfileError(f"a record's configuration has the unknown key {min(unknown)!r}")
        try:
            return cls(**data)
        except TypeError as error:
            raise ProfileError(f"a record's configuration is not whole: {error}") from error


@dataclass(frozen=True)
class Record:
    """What came of one configuration."""

    configuration: Configuration
    status: Literal["measured", "failed"]
    values: list[Value] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    """Of a failure, in one line."""

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
            "facts": self.facts,
        }

    @classmethod
    def from_plain(cls, data: Any) -> "Record":
        """Return the record that plain data describes.

        Raises:
            ProfileError: it is not a record, or of a version that this program does not read.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ProfileError("not a profile record", "give a records.jsonl that `hstnn profile --out` wrote")
        if data.get("version") != VERSION:
            raise ProfileError(
                f"a record of schema version {data.get('version')}; this hstnn reads version {VERSION}",
                "measure again, or use the hstnn that wrote it",
            )
        try:
            return cls(
                configuration=Configuration.from_plain(data["configuration"]),
                status=data["status"],
                values=[value_from(value) for value in data["values"]],
                facts=data["facts"],
                reason=data["reason"],
            )
        except (KeyError, TypeError) as error:
            raise ProfileError(f"a record is not whole: {error}") from error


def lines(records: Iterable[Record]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(record.plain(), ensure_ascii=False, allow_nan=False) + "\n" for record in records)


def read(path: Path) -> list[Record]:
    """Read a file of JSON lines.

    Raises:
        ProfileError: the file cannot be read, or a line is not a record; the message holds the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            records.append(Record.from_plain(json.loads(line)))
        except json.JSONDecodeError as error:
            raise ProfileError(f"{path}, line {number}: not JSON") from error
        except ProfileError as error:
            raise ProfileError(f"{path}, line {number}: {error.message}", error.hint) from error
    return records
