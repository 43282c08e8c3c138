"""The text of a compiled HLO module, read as instructions."""

import re
from typing import NamedTuple

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)")


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
        name: of its result.
        kind: type and layout of the result, such as "f32[8,128]{1,0:T(8,128)}".
        op: such as "fusion".
        operands: their names.
        rest: the line from the operands on.
    """

    name: str
    kind: str
    op: str
    operands: list[str]
    rest: str

    def called(self, key: str) -> str:
        """The computation that it names as `key`, such as "calls" or "body"; "" if none."""
        found = re.search(rf"\b{key}=%?([\w.-]+)", self.rest)
        return found[1] if found else ""


def computations(hlo: str) -> dict[str, list[Instruction]]:
    """The instructions of each computation of a compiled module, by its name."""
    found: dict[str, list[Instruction]] = {}
    inside: list[Instruction] = []
    for line in hlo.splitlines():
        if start := _COMPUTATION.match(line):
            inside = found.setdefault(start[1], [])
        elif made := _INSTRUCTION.match(line):
            name, kind, op, rest = made.groups()
            operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
            inside.append(Instruction(name, kind, op, operands, rest))
    return found
