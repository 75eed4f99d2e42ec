"""Somebody with manners, who polls and talks all the time; a program, so that no test slows it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter

import httpx

from tests.e2e.api import CLAUDE


def live(root: str, key: str, for_s: float) -> dict[str, object]:
    """What came of it: how often each status was answered, and the longest wait for each call."""
    statuses: Counter[int] = Counter()
    slowest_s = {"status": 0.0, "message": 0.0}
    until_s = time.monotonic() + for_s
    headers = {"Authorization": f"Bearer {key}"}
    message = {"model": CLAUDE, "input": "Hi"}
    with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
        # However slow the machine is: a client that is starved ends with a timeout.
        while statuses.total() <= for_s / 2 or time.monotonic() < until_s:
            for name, method, path, body in (
                ("status", "GET", "status", None),
                ("message", "POST", "responses", message),
            ):
                began_s = time.monotonic()
                answer = client.request(method, f"{root}/{path}", json=body)
                slowest_s[name] = max(slowest_s[name], time.monotonic() - began_s)
                statuses[answer.status_code] += 1
                if answer.is_error:
                    sys.stderr.write(answer.text + "\n")
    return {"statuses": statuses, "slowest_s": slowest_s}


if __name__ == "__main__":
    root, for_s = sys.argv[1:]
    # The key is in the environment, because arguments are everybody's to see.
    json.dump(live(root, os.environ["CHOWDER_KEY"], float(for_s)), sys.stdout)
