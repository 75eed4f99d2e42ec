"""The rules that confine a sandbox, as the bytes that the kernel is told; e2e has the kernel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from chowder_local.engine import confinement
from chowder_local.engine.programs import confine

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "172.21.0.1"


def attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        length, kind = struct.unpack_from("=HH", content)
        assert length >= 4
        yield kind & ~confine.NESTED, content[4:length]
        content = content[(length + 3) & ~3 :]


def messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        length, kind = struct.unpack_from("=IH", content)
        yield kind, content[20:length]
        content = content[length:]


def test_all_of_it_is_one_batch_whose_every_part_is_answered() -> None:
    sent, answer_count = confine.batch(confine.rules(HOST, 2470, 18789))
    kinds = [kind for kind, _ in messages(sent)]
    rules = [confine.NEW_RULE] * 3
    assert kinds == [
        confine.BATCH_BEGIN, confine.NEW_TABLE, confine.NEW_CHAIN, *rules, confine.BATCH_END,
    ]  # fmt: skip
    assert answer_count == 5


def test_what_no_rule_lets_out_stays_in() -> None:
    sent, _ = confine.batch([])
    (chain,) = [body for kind, body in messages(sent) if kind == confine.NEW_CHAIN]
    told = dict(attributes(chain))
    assert told[5] == struct.pack(">I", confine.DROP)
    assert dict(attributes(told[4]))[1] == struct.pack(">I", confine.HOOK_OUTPUT)


def test_every_rule_but_that_of_the_inside_names_the_host_and_a_port() -> None:
    inside, *others = confine.rules(HOST, 2470, 18789)
    address = bytes([172, 21, 0, 1])
    assert address not in inside
    for rule, port in zip(others, (2470, 18789), strict=True):
        names = [dict(attributes(each))[1] for _, each in attributes(rule)]
        assert names[0] == b"meta\0"
        assert names[-1] == b"immediate\0"
        assert address in rule
        assert struct.pack(">H", port) in rule


def test_a_command_waits_for_the_mark_that_the_program_leaves() -> None:
    *shell, name, first, second = confinement.patient(["gateway", "--bind"])
    assert (name, first, second) == ("sh", "gateway", "--bind")
    assert confinement.MARK in shell[-1]
