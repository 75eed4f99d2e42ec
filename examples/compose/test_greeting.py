"""What the service `tests` runs: an agent of the server beside it answers, and is deleted."""

import os
from pathlib import Path

from chowder_local.client import Client

key = Path(os.environ["CHOWDER_KEY_FILE"]).read_text().strip()
with Client(os.environ["CHOWDER_BASE_URL"], key) as client:
    instance = client.create_instance("greeter")
    try:
        client.wait_until_running(instance["id"])
        answer = client.respond(instance["id"], "Good morning", "gpt-4o")
        assert "Good morning" in str(answer), answer
    finally:
        client.delete(instance["id"])
print("1 passed")
