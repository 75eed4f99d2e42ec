"""The firewall rules of a sandbox, as netlink messages; e2e installs them."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from chowder_local.engine import specs
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


def test_all_rules_are_in_one_batch_with_a_reply_for_each_message() -> None:
    way_out, way_in = confine.way_out(HOST, 2470, 18789, ""), confine.way_in(HOST, "")
    request, reply_count = confine.batch(way_out, way_in)
    kinds = [kind for kind, _ in messages(request)]
    assert kinds == [
        confine.BATCH_BEGIN, confine.NEW_TABLE,
        confine.NEW_CHAIN, *[confine.NEW_RULE] * 3,
        confine.NEW_CHAIN, *[confine.NEW_RULE] * 2,
        confine.BATCH_END,
    ]  # fmt: skip
    assert reply_count == 8


def test_packets_that_match_no_rule_are_dropped() -> None:
    sent, _ = confine.batch([], [])
    chains = [body for kind, body in messages(sent) if kind == confine.NEW_CHAIN]
    for chain, hook in zip(chains, (confine.HOOK_OUTPUT, confine.HOOK_INPUT), strict=True):
        values = dict(attributes(chain))
        assert values[5] == struct.pack(">I", confine.DROP)
        assert dict(attributes(values[4]))[1] == struct.pack(">I", hook)


def test_every_outgoing_rule_but_the_loopbacks_names_the_host_and_a_port() -> None:
    inside, *others = confine.way_out(HOST, 2470, 18789, "")
    address = bytes([172, 21, 0, 1])
    assert address not in inside
    for rule, port in zip(others, (2470, 18789), strict=True):
        names = [dict(attributes(each))[1] for _, each in attributes(rule)]
        assert names[0] == b"meta\0"
        assert names[-1] == b"immediate\0"
        assert address in rule
        assert struct.pack(">H", port) in rule


def test_with_egress_neighbours_and_multicast_stay_blocked() -> None:
    closed, opened = (
        [*confine.way_out(HOST, 2470, 18789, each), *confine.way_in(HOST, each)]
        for each in ("", "172.21.0.0/16")
    )
    more = [rule for rule in opened if rule not in closed]
    *others, icmp = more
    assert bytes([socket.IPPROTO_ICMP]) in icmp
    assert len(others) == 2
    for rule in others:
        assert bytes([172, 21, 0, 0]) in rule
        assert bytes([255, 255, 0, 0]) in rule
        assert b"\xe0" in rule


def test_a_command_waits_for_the_mark_of_the_program() -> None:
    *shell, name, first, second = specs.waiting_command(["gateway", "--bind"])
    assert (name, first, second) == ("sh", "gateway", "--bind")
    assert specs.CONFINED_MARK in shell[-1]
