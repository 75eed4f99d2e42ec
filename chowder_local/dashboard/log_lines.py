"""A log as it comes in pieces, made into lines that a page can show."""

from __future__ import annotations

import codecs
import re

LINE_CHARS = 4000
"""A longer line is cut, and what is left of it is told by an ellipsis."""
# Colours and other orders to a terminal, as ECMA-48 has them.
_ORDERS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")


class Lines:
    """Takes pieces and gives lines; of a line that does not end only its beginning is kept."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def fed(self, piece: bytes) -> list[str]:
        """The lines that this piece has ended."""
        *ended, begun = self._decoder.decode(piece).split("\n")
        if ended:
            ended[0] = self._begun + ended[0]
            self._begun = begun
        else:
            # One character more tells that it was longer.
            self._begun = (self._begun + begun)[: 2 * LINE_CHARS]
        return [shown(each) for each in ended]

    def rest(self) -> list[str]:
        """The last line, if it has no end, once nothing more comes."""
        begun, self._begun = self._begun + self._decoder.decode(b"", final=True), ""
        return [shown(begun)] if begun else []


def shown(line: str) -> str:
    """A line without what only a terminal can do."""
    plain = _ORDERS.sub("", line[: 2 * LINE_CHARS]).rstrip("\r")
    return plain if len(plain) <= LINE_CHARS else f"{plain[:LINE_CHARS]}…"
