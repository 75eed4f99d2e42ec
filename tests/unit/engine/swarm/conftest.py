"""Which of these tests run on a Python without the TLS of a swarm: see `CHOWDER_SWARM`."""

import sys

collect_ignore: list[str] = []
if sys.version_info < (3, 13):
    names = ("image_copies", "nodes", "tunnel", "worker")
    collect_ignore += [f"test_{name}.py" for name in names]
