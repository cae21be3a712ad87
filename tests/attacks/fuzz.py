"""Attacks by files: damaged ones without end, payloads, and inputs that ask for much, each read by its command."""

import contextlib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random

from tests.attacks import bounds, files, payloads, surroundings
from tests.attacks.kinds import Kind
from tests.attacks.mutate import mutated
from tests.attacks.outcome import Limits, complaint
from tests.attacks.payloads import Shot
from tests.attacks.tally import Result
from tests.attacks.worker import Worker
from tests.attacks.yard import Yard

_FIRST = (
    *("h5py", "expelliarmus", "tonic.io", "onnxruntime", "onnx", "sklearn.datasets", "scipy.stats", "nir"),
    *("PIL.PngImagePlugin", "PIL.JpegImagePlugin", "rich.progress", "rich.live", "torch.jit"),
    "torch.export.pt2_archive",
    *(f"hstnn_deploy.{name}" for name in ("report.page.document", "report.comparing.comparison", "profile.plan.plan")),
    *(f"hstnn_deploy.{name}" for name in ("profile.plan.matrix", "export.runtime.session", "export.bundle.verify")),
    *(f"hstnn_deploy.{name}" for name in ("train.stages", "cli.app")),
)
"""What commands import when they are called: before a process is forked, so that a new one need not."""


class Range:
    """The kinds of a yard, and the process that reads what is made of them."""

    def __init__(self, yard: Yard, root: Path, limits: Limits | None = None) -> None:
        self.yard = yard
        for name in _FIRST:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        self.kinds: Mapping[str, Kind] = {each.name: each for each in (*files.kinds(yard), *surroundings.kinds(yard))}
        self.worker = Worker(root / "box", {each.name: each.place for each in self.kinds.values()}, limits or Limits())

    @property
    def canary(self) -> Path:
        """What payloads touch."""
        return self.worker.box.canary

    def tried(self, attack: str, shot: Shot) -> Result:
        """Let a kind's command read a file."""
        kind = self.kinds[shot.kind]
        outcome = self.worker.run(kind.name, shot.content)
        wrong = complaint(outcome, self.worker.limits, kind.must_answer)
        return Result(attack, outcome, wrong, *shot)

    def damaged(self, kind: Kind, random: Random) -> bytes:
        """Return a damaged file of a kind; its payload, if it has one, would touch this range's canary."""
        others = [each.content for each in self.kinds.values() if each.content]
        content = mutated(kind.content, kind.form, random, kind.inside, others)
        return content.replace(b"CANARY", str(self.canary).encode()) if kind.form == "yaml" else content

    def fuzz(self, seed: int) -> Iterator[Result]:
        """Yield results of damaged files without end; case n of a seed is always the same."""
        kinds = [each for each in self.kinds.values() if each.content and each.name != "command line"]
        for number in range(2**62):
            random = Random(f"{seed} {number}")
            (kind,) = random.choices(kinds, [each.weight for each in kinds])
            shot = Shot(kind.name, f"seed {seed}, case {number}", self.damaged(kind, random))
            yield self.tried(f"damaged {kind.name.partition('/')[0]}", shot)

    def shots(self) -> dict[str, tuple[float, Iterator[Result]]]:
        """Return the attacks by files, each with its share of the time."""
        found: dict[str, tuple[float, Iterable[Shot]]] = {
            "payloads in files": (1, payloads.shots(self.yard, self.canary)),
            "payloads in programs": (1, payloads.programs(self.yard, self.canary)),
            "inputs that ask for much": (1, bounds.shots(self.yard)),
            "bombs": (0.5, bounds.bombs()),
            "odd command lines": (0.5, surroundings.lines(self.yard)),
            "threads on a stream": (0.2, [Shot("threads on a stream", f"{n}", b"") for n in range(20)]),
        }

        def results(attack: str, shots: Iterable[Shot]) -> Iterator[Result]:
            return (self.tried(attack, shot) for shot in shots)

        return {attack: (weight, results(attack, shots)) for attack, (weight, shots) in found.items()}
