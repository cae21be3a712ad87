"""What weights on devices take: bits of RRAM and SRAM, and an estimate of the energy of reading them.

Every operation of a convolution reads its weight anew, from RRAM and, where there is an SRAM part, from SRAM too; what
is zero is read as well. A chip that reuses what it has read, or adds currents inside the array, reads less often.
"""

from collections.abc import Sequence

from hstnn_deploy.models.device_memory import DeviceMemory
from hstnn_deploy.profile.phases.networks import recipe_of, trained_network
from hstnn_deploy.profile.phases.operations import Operations
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, NotMeasured, Value

SRAM_READ_JOULES = 10e-12 / 64
"""Of a bit: 10 pJ for 64 bits from a cache of 8 KB in 45 nm at 0.9 V (Horowitz, ISSCC 2014, figure 1.1.9)."""
SRAM_READ_SOURCE = "0.156 pJ per bit: 10 pJ for 64 bits of an 8 KB cache in 45 nm (Horowitz, ISSCC 2014, 1.1)"

_NO_RRAM_READ = "no published energy of an RRAM read is confirmed, and cells differ widely: give --rram-read"
_HOW = "every operation of a convolution reads its weight again, zeros included; other weights are not counted"


def measure(
    configuration: Configuration,
    found: Sequence[Operations],
    samples: int,
    mac_joules: float,
    ac_joules: float,
) -> list[Value]:
    """Return the values of weights on devices; an empty list for a network without them.

    Args:
        configuration: what is measured, with the energy of a bit that is read, where it was given.
        found: what each part of it computes for all samples.
        samples: how many they are.
        mac_joules, ac_joules: of the arithmetic.
    """
    memory, step = trained_network(configuration).device_memory(), recipe_of(configuration).step
    if memory is None or step is None:
        return []
    operations = sum(each.macs + each.acs for each in found if each.name in memory.parts) / samples
    arithmetic = sum(mac_joules * each.macs + ac_joules * each.acs for each in found) / samples
    return [*_bits(memory, step), *_reads(configuration, memory, operations, arithmetic)]


def _bits(memory: DeviceMemory, step: str) -> list[Value]:
    source = "counted: weights of convolutions x bits of each"
    beyond = f"{memory.beyond} weights lie beyond 1, outside the range of these bits" if memory.beyond else ""
    found: list[Value] = [Measured("rram_bits", memory.rram, "bit", source, beyond)]
    if not memory.reads_sram:
        why = f"the step {step} has no SRAM part"
        found += [NotMeasured(name, why) for name in ("sram_bits", "sram_group_bits")]
    else:
        found.append(Measured("sram_bits", memory.sram, "bit", source, "every weight stored"))
        found.append(
            Measured("sram_group_bits", memory.sram_groups, "bit", source, "nonzero groups, plus one bit per group")
            if step == "prune"
            else NotMeasured("sram_group_bits", f"the step {step} prunes nothing")
        )
    return [*found, Measured("other_bits", memory.other, "bit", "counted", "everything else, in float32")]


def _reads(configuration: Configuration, memory: DeviceMemory, operations: float, arithmetic: float) -> list[Value]:
    rram, sram = operations * memory.reads_rram, operations * memory.reads_sram
    found: list[Value] = [
        Measured("rram_reads", rram, "bit", "operations x bits of a weight", _HOW),
        Measured("sram_reads", sram, "bit", "operations x bits of a weight", _HOW),
    ]
    each, total = configuration.rram_read, arithmetic
    if each is None:
        found.append(NotMeasured("energy_rram_reads", _NO_RRAM_READ))
    else:
        found.append(
            Measured("energy_rram_reads", each * rram, "J", f"estimate: {each * 1e12:g} pJ per bit, as given", _HOW)
        )
        total += each * rram
    if memory.reads_sram:
        given = configuration.sram_read
        one = SRAM_READ_JOULES if given is None else given
        source = SRAM_READ_SOURCE if given is None else f"{given * 1e12:g} pJ per bit, as given"
        found.append(Measured("energy_sram_reads", one * sram, "J", f"estimate: {source}", _HOW))
        total += one * sram
    else:
        found.append(NotMeasured("energy_sram_reads", "the network has no SRAM part"))
    if each is None:
        found.append(NotMeasured("energy_with_reads", _NO_RRAM_READ))
    else:
        found.append(Measured("energy_with_reads", total, "J", "estimate: arithmetic and reads"))
    return found
