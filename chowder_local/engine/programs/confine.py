"""Installs a sandbox's firewall rules: only the model relay, and replies of the gateway, may pass.

With a subnet, addresses outside that subnet are allowed, too. The program runs once in a sandbox,
as root with all capabilities, before the agent starts. The rules stay until the sandbox ends, and
no agent may change them. It speaks nftables' netlink protocol, because `nft` is not in the image.
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
"""Offsets of the two addresses in an IPv4 header."""
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
LOOPBACK_INDEX = 1
SYN, ACK_FLAG = 0x02, 0x10
TABLE = b"chowder\0"
INPUT, OUTPUT = b"input\0", b"output\0"


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to a multiple of four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(NESTED | kind, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    """A number in network byte order."""
    return attribute(kind, struct.pack(">I", value))


def expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *attributes))


def equals(value: bytes, operator: int = 0) -> bytes:
    """Matches if the loaded bytes are `value`, or with 1 as the operator, if they are not."""
    return expression("cmp", number(1, 1), number(2, operator), nested(3, attribute(1, value)))


def meta(key: int, value: bytes) -> bytes:
    """Matches if the packet's metadata `key` is `value`."""
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
    """Matches TCP packets to that address."""
    is_tcp = meta(META_PROTOCOL, bytes([socket.IPPROTO_TCP]))
    return ipv4() + is_tcp + loaded(NETWORK_HEADER, TO, 4) + equals(socket.inet_aton(host))


def beyond(subnet: str, which: int) -> bytes:
    """Matches packets to or from (`which`) addresses outside the subnet, without multicast."""
    network, _, length = subnet.partition("/")
    mask = struct.pack(">I", 0xFFFFFFFF << (32 - int(length)) & 0xFFFFFFFF)
    prefix = loaded(NETWORK_HEADER, which, 4) + masked(mask)
    is_outside = prefix + equals(socket.inet_aton(network), 1)
    # Multicast and broadcast addresses begin with three set bits.
    top_bits = loaded(NETWORK_HEADER, which, 1) + masked(b"\xe0")
    return ipv4() + is_outside + top_bits + equals(b"\xe0", 1)


def way_out(host: str, relay_port: int, gateway_port: int, subnet: str) -> list[bytes]:
    """Rules for outgoing packets: to itself, to the relay, and as replies of the gateway."""
    to_relay = loaded(TRANSPORT_HEADER, 2, 2) + equals(struct.pack(">H", relay_port))
    from_gateway = loaded(TRANSPORT_HEADER, 0, 2) + equals(struct.pack(">H", gateway_port))
    # Without this, the agent could open a connection from the gateway's port.
    is_reply = loaded(TRANSPORT_HEADER, 13, 1) + masked(bytes([SYN | ACK_FLAG]))
    return [
        meta(META_OUT_INDEX, struct.pack("=I", LOOPBACK_INDEX)) + accepted(),
        tcp_to(host) + to_relay + accepted(),
        tcp_to(host) + from_gateway + is_reply + equals(bytes([SYN]), 1) + accepted(),
        *([beyond(subnet, TO) + accepted()] if subnet else ()),
    ]


def way_in(host: str, subnet: str) -> list[bytes]:
    """Rules for incoming packets: from itself, from the relay's host, and from outside."""
    from_host = loaded(NETWORK_HEADER, FROM, 4) + equals(socket.inet_aton(host))
    # The subnet's router may report by ICMP that a packet is too long for the way outside.
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
    """One netlink batch, applied as a whole or not at all, and the number of expected replies."""
    objects = [
        (NEW_TABLE, attribute(1, TABLE)),
        *chain(OUTPUT, HOOK_OUTPUT, outgoing),
        *chain(INPUT, HOOK_INPUT, incoming),
    ]
    messages = [
        message(kind, ACK | CREATE, index, FAMILY_INET, 0, body)
        for index, (kind, body) in enumerate(objects, 1)
    ]
    begin = message(BATCH_BEGIN, 0, 0, 0, NFTABLES, b"")
    end = message(BATCH_END, 0, len(messages) + 1, 0, NFTABLES, b"")
    return b"".join([begin, *messages, end]), len(messages)


def main(host: str, relay_port: str, gateway_port: str, mark: str, subnet: str = "") -> None:
    """Installs the rules, then creates the file `mark`. Raises OSError if the kernel refuses."""
    outgoing = way_out(host, int(relay_port), int(gateway_port), subnet)
    request, reply_count = batch(outgoing, way_in(host, subnet))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(10)
        kernel.send(request)
        while reply_count > 0:
            replies = kernel.recv(65536)
            while replies:
                (length,) = struct.unpack_from("=I", replies)
                (error,) = struct.unpack_from("=i", replies, 16)
                if error:
                    raise OSError(-error, "the kernel refuses the rules")
                replies = replies[(length + 3) & ~3 :]
                reply_count -= 1
    with open(mark, "x"):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
