"""LLVM's language, as far as kernels use it: operations on single numbers, loops, and the frame of a kernel.

No operation is marked as one whose rounding may change (LLVM's fast-math flags): each gives the bits of torch's. Only
`mul_add` rounds as the processor likes.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from hstnn_deploy.models.kernels.decayed import least

HEAD = ("units", "size", "steps", "width", "depth")
"""What a kernel is told first: the units, how many it takes at once, the steps; and of maps the numbers of a row and
those of a pixel, which lie side by side."""
COUNTERS = 2
"""Words before them, 0 at first: of the units that have been taken, and of the threads."""

KINDS = {torch.float32: ("float", "f32"), torch.float64: ("double", "f64")}
"""The precisions that kernels have, and LLVM's names of them."""

_ZERO, _ONE = "{real} 0.0", "{real} 1.0"

# Each line makes a value; those made before are r[0], r[1] and so on, the operation's arguments a[0], a[1] and so on.
_OPERATIONS: dict[str, tuple[str, ...]] = {
    "add": ("fadd {real} {a[0]}, {a[1]}",),
    "sub": ("fsub {real} {a[0]}, {a[1]}",),
    "mul": ("fmul {real} {a[0]}, {a[1]}",),
    "div": ("fdiv {real} {a[0]}, {a[1]}",),
    "neg": ("fneg {real} {a[0]}",),
    "abs": ("call {real} @llvm.fabs.{kind}({real} {a[0]})",),
    "floor": ("call {real} @llvm.floor.{kind}({real} {a[0]})",),
    "below": ("fcmp olt {real} {a[0]}, {a[1]}", f"select i1 {{r[0]}}, {_ONE}, {_ZERO}"),
    # Of what is not a number, what is not a number: as torch's threshold and clamp have it.
    "at_least": ("fcmp ole {real} {a[0]}, {a[1]}", "select i1 {r[0]}, {real} {a[1]}, {real} {a[0]}"),
    "at_most": ("fcmp oge {real} {a[0]}, {a[1]}", "select i1 {r[0]}, {real} {a[1]}, {real} {a[0]}"),
    "where_above": ("fcmp ole {real} {a[1]}, {a[2]}", f"select i1 {{r[0]}}, {_ZERO}, {{real}} {{a[0]}}"),
    "where_below": ("fcmp oge {real} {a[1]}, {a[2]}", f"select i1 {{r[0]}}, {_ZERO}, {{real}} {{a[0]}}"),
    "where_equal": ("fcmp oeq {real} {a[1]}, {a[2]}", f"select i1 {{r[0]}}, {{real}} {{a[0]}}, {_ZERO}"),
    # Of what is not a number and another, what is not a number: as torch pools.
    "larger": ("fcmp ogt {real} {a[0]}, {a[1]}", "fcmp uno {real} {a[0]}, {a[0]}", "or i1 {r[0]}, {r[1]}"),
    "where": ("select i1 {a[0]}, {real} {a[1]}, {real} {a[2]}",),
    "lasting": (
        "call {real} @llvm.fabs.{kind}({real} {a[0]})",
        "fcmp ole {real} {r[0]}, {a[1]}",
        f"select i1 {{r[1]}}, {_ZERO}, {{real}} {{a[0]}}",
    ),
    "fires above": (
        "fsub {real} {a[0]}, {a[1]}",
        "fcmp ogt {real} {r[0]}, 0.0",
        f"select i1 {{r[1]}}, {_ONE}, {_ZERO}",
    ),
    "fires at": (
        "fsub {real} {a[0]}, {a[1]}",
        "fcmp oge {real} {r[0]}, 0.0",
        f"select i1 {{r[1]}}, {_ONE}, {_ZERO}",
    ),
    "fires several": (
        "fdiv {real} {a[0]}, {a[1]}",
        "call {real} @llvm.floor.{kind}({real} {r[0]})",
        "fcmp olt {real} {r[1]}, 0.0",
        f"select i1 {{r[2]}}, {_ZERO}, {{real}} {{r[1]}}",
    ),
    "exp": ("call {real} @exp({real} {a[0]})",),
    "tanh": ("call {real} @tanh({real} {a[0]})",),
    # In one rounding where the processor has that: for sums whose order is not promised.
    "mul_add": ("call {real} @llvm.fmuladd.{kind}({real} {a[0]}, {real} {a[1]}, {real} {a[2]})",),
}


class Code:
    """The text of one kernel: lines, each a value of its own name, inside loops.

    A kernel takes parts of the units from a counter until they have all been taken; it may be run by as many threads as
    one likes at once. Its one argument is 64-bit words: the counter, a counter of the threads, `HEAD`, then numbers
    (float64), then addresses.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.real, self.kind = KINDS[dtype]
        self._lines: list[str] = []
        self._label, self._count, self._loops = "part", 0, 0

    def _new(self) -> int:
        self._count += 1
        return self._count

    def make(self, expression: str, name: str = "v") -> str:
        """Write what makes a value, and return its name."""
        made = f"%{name}.{self._new()}"
        self._lines.append(f"  {made} = {expression}")
        return made

    def do(self, operation: str, *arguments: str, name: str = "v") -> str:
        """Write an operation on numbers, and return its value."""
        made: list[str] = []
        for line in _OPERATIONS[operation]:
            made.append(self.make(line.format(a=arguments, r=made, real=self.real, kind=self.kind), name))
        return made[-1]

    def literal(self, number: float) -> str:
        """Return how a number is written, rounded to the kernel's precision."""
        rounded = struct.unpack("f", struct.pack("f", number))[0] if self.kind == "f32" else number
        return f"0x{struct.pack('>d', rounded).hex().upper()}"

    def lasting(self, value: str) -> str:
        """Write 0 in the place of a number up to `decayed.least`, and return it: only gradients may be changed so.

        Of LIF layers of 400 units at T 2000, the products of their gradients took 1.5 s, and take 0.3 s.
        """
        return self.do("lasting", value, self.literal(least(torch.float32 if self.kind == "f32" else torch.float64)))

    def whole(self, operation: str, a: str | int, b: str | int) -> str:
        """Write add, sub, mul, sdiv or an icmp of whole numbers."""
        return self.make(f"{operation} i64 {a}, {b}", "i")

    def place(self, row: str, index: str) -> str:
        """Return the address of a row's number."""
        return self.make(f"getelementptr inbounds {self.real}, ptr {row}, i64 {index}", "at")

    def load(self, row: str, index: str, kind: str = "") -> str:
        """Return a row's number."""
        kind = kind or self.real
        at = self.make(f"getelementptr inbounds {kind}, ptr {row}, i64 {index}", "at")
        return self.make(f"load {kind}, ptr {at}, align {self._bytes(kind)}, !llvm.access.group !0")

    def store(self, row: str, index: str, value: str) -> None:
        """Write a row's number."""
        at = self.place(row, index)
        self._lines.append(
            f"  store {self.real} {value}, ptr {at}, align {self._bytes(self.real)}, !llvm.access.group !0"
        )

    def _bytes(self, kind: str) -> int:
        return 4 if kind == "float" else 8

    @contextmanager
    def loop(self, count: str, apart: bool = False) -> Iterator[str]:
        """Write a loop from 0 to below a count around what is written inside; give its index.

        Args:
            count: of its rounds.
            apart: none reads what another wrote, so that they may be run side by side, in a vector.
        """
        n, before = self._new(), self._label
        index = f"%j{n}" if apart else f"%t{n}"
        self._lines += [f"  br label %head{n}", f"head{n}:"]
        self._lines.append(f"  {index} = phi i64 [ 0, %{before} ], [ {index}.next, %next{n} ]")
        self._lines.append(f"  {index}.more = icmp slt i64 {index}, {count}")
        self._lines += [f"  br i1 {index}.more, label %body{n}, label %done{n}", f"body{n}:"]
        self._label = f"body{n}"
        yield index
        self._lines += [f"  br label %next{n}", f"next{n}:", f"  {index}.next = add nuw nsw i64 {index}, 1"]
        self._loops += apart
        mark = f", !llvm.loop !{1 + self._loops}" if apart else ""
        self._lines += [f"  br label %head{n}{mark}", f"done{n}:"]
        self._label = f"done{n}"

    def row(self, name: str, t: str, quarter: bool = False) -> str:
        """Return where the part's numbers of an array lie at a step; `quarter`: it has one for each four units."""
        units, start = (self.whole("sdiv", each, 4) if quarter else each for each in ("%units", "%start"))
        return self.place(f"%{name}", self.whole("add", self.whole("mul", t, units), start))

    def text(
        self, numbers: int, arrays: Sequence[str], flat: Sequence[str], scratch: bool, widest: bool = False
    ) -> str:
        """Return the text of the kernel.

        Args:
            numbers: how many it is given: %k0 and so on.
            arrays: the names of the arrays that it is given.
            flat: those of them that have one number a unit: %name.row is where the part's lie.
            scratch: whether the last array gives each thread as many numbers as it takes units at once: %mine.
            widest: whether vectors are as long as the processor has them, which LLVM avoids on some: for products.
        """
        single = self.kind == "f32"
        given = [f"i64 {name}" for name in HEAD]
        given += [f"double k{n}.given" if single else f"double k{n}" for n in range(numbers)]
        given += [f"ptr {name}" for name in arrays]
        first: list[str] = []
        for n, each in enumerate(given, COUNTERS):
            kind, name = each.split()
            first.append(f"%{name}.at = getelementptr inbounds i64, ptr %words, i64 {n}")
            first.append(f"%{name} = load {kind}, ptr %{name}.at, align 8")
        first += [f"%k{n} = fptrunc double %k{n}.given to float" for n in range(numbers) if single]
        if scratch:
            first += [
                "%threads = getelementptr inbounds i64, ptr %words, i64 1",
                "%me = atomicrmw add ptr %threads, i64 1 monotonic",
                "%mine.from = mul nsw i64 %me, %size",
                f"%mine = getelementptr inbounds {self.real}, ptr %{arrays[-1]}, i64 %mine.from",
            ]
        longest = ' "prefer-vector-width"="512"' if widest else ""
        kinds = {name: "i64" if name == "lengths" else self.real for name in flat}
        rows = [f"%{name}.row = getelementptr inbounds {kind}, ptr %{name}, i64 %start" for name, kind in kinds.items()]
        return "\n".join(
            [
                "define void @kernel(ptr %words) #0 {",
                "entry:",
                *(f"  {line}" for line in first),
                "  br label %take",
                "take:",
                "  %start = atomicrmw add ptr %words, i64 %size monotonic",
                "  %more = icmp slt i64 %start, %units",
                "  br i1 %more, label %part, label %ready",
                "part:",
                "  %left = sub nsw i64 %units, %start",
                "  %last = icmp slt i64 %left, %size",
                "  %count = select i1 %last, i64 %left, i64 %size",
                *(f"  {line}" for line in rows),
                *self._lines,
                "  br label %take",
                "ready:",
                "  ret void",
                "}",
                "",
                *_declared(self.real, self.kind),
                "",
                # Without builtins: else LLVM might call memset, where it could not be found.
                f'attributes #0 = {{ nounwind "no-builtins"{longest} }}',
                "!0 = distinct !{}",
                '!1 = !{!"llvm.loop.parallel_accesses", !0}',
                *(f"!{n} = distinct !{{!{n}, !1}}" for n in range(2, 2 + self._loops)),
                "",
            ]
        )


def _declared(real: str, kind: str) -> Iterable[str]:
    for name in ("fabs", "floor"):
        yield f"declare {real} @llvm.{name}.{kind}({real})"
    yield f"declare {real} @llvm.fmuladd.{kind}({real}, {real}, {real})"
    if kind == "f64":
        yield from (f"declare double @{name}(double)" for name in ("exp", "tanh"))
