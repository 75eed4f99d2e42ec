"""Leaves a sandbox one way: to the model relay, and back to who calls its gateway from there.

With a subnet, everything beyond that subnet is open as well. Run once in a sandbox, as root with
all capabilities, before its agent can do anything: what it tells the kernel of that sandbox's
network stays until the sandbox ends, and no agent may change it. By nftables' own protocol, because
its command is not in the image.
"""

from __future__ import annotations

import socket
import struct
import sys

NETLINK_NETFILTER = 12
NFTABLES = 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEW_TABLE, NEW_CHAIN, NEW_RULE = (NFTABLES << 8 | number for number in (0, 3, 6))
REQUEST, ACK, CREATE = 1, 4, 0x400
NESTED = 0x8000
FAMILY_INET, FAMILY_IPV4 = 1, 2
HOOK_INPUT, HOOK_OUTPUT = 1, 3
DROP, ACCEPT = 0, 1
META_IN_INDEX, META_OUT_INDEX, META_FAMILY, META_PROTOCOL = 4, 5, 15, 16
FROM, TO = 12, 16
"""Where an IPv4 header has the two addresses."""
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
LOOPBACK_INDEX = 1
SYN, ACK_FLAG = 0x02, 0x10
TABLE = b"chowder\0"
INPUT, OUTPUT = b"input\0", b"output\0"


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, filled up to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(NESTED | kind, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    """A number in the order of the network."""
    return attribute(kind, struct.pack(">I", value))


def expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *attributes))


def equals(value: bytes, operator: int = 0) -> bytes:
    """Goes on if what was loaded last is that, or with 1 as the operator, if it is not."""
    return expression("cmp", number(1, 1), number(2, operator), nested(3, attribute(1, value)))


def meta(key: int, value: bytes) -> bytes:
    """Goes on if the packet has that about it."""
    return expression("meta", number(1, 1), number(2, key)) + equals(value)


def loaded(header: int, offset: int, length: int) -> bytes:
    parts = number(1, 1), number(2, header), number(3, offset), number(4, length)
    return expression("payload", *parts)


def masked(mask: bytes) -> bytes:
    zeros = nested(5, attribute(1, bytes(len(mask))))
    parts = number(1, 1), number(2, 1), number(3, len(mask)), nested(4, attribute(1, mask)), zeros
    return expression("bitwise", *parts)


def accepted() -> bytes:
    return expression("immediate", number(1, 0), nested(2, nested(2, number(1, ACCEPT))))


def ipv4() -> bytes:
    return meta(META_FAMILY, bytes([FAMILY_IPV4]))


def tcp_to(host: str) -> bytes:
    """Goes on if the packet is TCP to that address."""
    is_tcp = meta(META_PROTOCOL, bytes([socket.IPPROTO_TCP]))
    return ipv4() + is_tcp + loaded(NETWORK_HEADER, TO, 4) + equals(socket.inet_aton(host))


def beyond(subnet: str, which: int) -> bytes:
    """Goes on if the packet is to, or from, one address elsewhere: not many, which are here too."""
    network, _, length = subnet.partition("/")
    mask = struct.pack(">I", 0xFFFFFFFF << (32 - int(length)) & 0xFFFFFFFF)
    is_here = loaded(NETWORK_HEADER, which, 4) + masked(mask)
    is_many = loaded(NETWORK_HEADER, which, 1) + masked(b"\xe0")
    return ipv4() + is_here + equals(socket.inet_aton(network), 1) + is_many + equals(b"\xe0", 1)


def way_out(host: str, relay_port: int, gateway_port: int, subnet: str) -> list[bytes]:
    """What may leave: calls within the sandbox, calls of the relay, and answers of the gateway."""
    to_relay = loaded(TRANSPORT_HEADER, 2, 2) + equals(struct.pack(">H", relay_port))
    from_gateway = loaded(TRANSPORT_HEADER, 0, 2) + equals(struct.pack(">H", gateway_port))
    # Or else a call could be begun from the gateway's port.
    is_answer = loaded(TRANSPORT_HEADER, 13, 1) + masked(bytes([SYN | ACK_FLAG]))
    return [
        meta(META_OUT_INDEX, struct.pack("=I", LOOPBACK_INDEX)) + accepted(),
        tcp_to(host) + to_relay + accepted(),
        tcp_to(host) + from_gateway + is_answer + equals(bytes([SYN]), 1) + accepted(),
        *([beyond(subnet, TO) + accepted()] if subnet else ()),
    ]


def way_in(host: str, subnet: str) -> list[bytes]:
    """What may come: what is from within, from where the relay is, and answers from beyond."""
    from_host = loaded(NETWORK_HEADER, FROM, 4) + equals(socket.inet_aton(host))
    # The first router, which may say that a packet is too long for what lies beyond, is within.
    is_icmp = ipv4() + meta(META_PROTOCOL, bytes([socket.IPPROTO_ICMP]))
    return [
        meta(META_IN_INDEX, struct.pack("=I", LOOPBACK_INDEX)) + accepted(),
        ipv4() + from_host + accepted(),
        *([beyond(subnet, FROM) + accepted(), is_icmp + accepted()] if subnet else ()),
    ]


def message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    """One netlink message of the kernel's packet filter."""
    head = struct.pack("=IHHII", 20 + len(body), kind, REQUEST | flags, sequence, 0)
    return head + struct.pack("=BB", family, 0) + struct.pack(">H", resource) + body


def chain(name: bytes, hook: int, rules: list[bytes]) -> list[tuple[int, bytes]]:
    """A chain that drops what none of its rules accepts."""
    body = (
        attribute(1, TABLE),
        attribute(3, name),
        nested(4, number(1, hook), number(2, 0)),
        number(5, DROP),
        attribute(7, b"filter\0"),
    )
    where = attribute(1, TABLE) + attribute(2, name)
    return [
        (NEW_CHAIN, b"".join(body)),
        *((NEW_RULE, where + nested(4, each)) for each in rules),
    ]


def batch(outgoing: list[bytes], incoming: list[bytes]) -> tuple[bytes, int]:
    """All of it, to be taken as a whole or not at all, and how many answers there will be."""
    whole = [
        (NEW_TABLE, attribute(1, TABLE)),
        *chain(OUTPUT, HOOK_OUTPUT, outgoing),
        *chain(INPUT, HOOK_INPUT, incoming),
    ]
    messages = [
        message(kind, ACK | CREATE, index, FAMILY_INET, 0, body)
        for index, (kind, body) in enumerate(whole, 1)
    ]
    begin = message(BATCH_BEGIN, 0, 0, 0, NFTABLES, b"")
    end = message(BATCH_END, 0, len(messages) + 1, 0, NFTABLES, b"")
    return b"".join([begin, *messages, end]), len(messages)


def main(host: str, relay_port: str, gateway_port: str, mark: str, subnet: str = "") -> None:
    """Leaves a mark when it is done. Raises OSError with what the kernel has against it."""
    outgoing = way_out(host, int(relay_port), int(gateway_port), subnet)
    sent, answer_count = batch(outgoing, way_in(host, subnet))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(10)
        kernel.send(sent)
        while answer_count > 0:
            answers = kernel.recv(65536)
            while answers:
                (length,) = struct.unpack_from("=I", answers)
                (error,) = struct.unpack_from("=i", answers, 16)
                if error:
                    raise OSError(-error, "the kernel does not take the rules")
                answers = answers[(length + 3) & ~3 :]
                answer_count -= 1
    with open(mark, "x"):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
