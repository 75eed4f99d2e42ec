"""Ten calls with the client that openapi-python-client makes, as people write them.

It is copied beside that client, with which it is type-checked and run.
"""

from __future__ import annotations

import json
import os
import time
from uuid import UUID

from chowder_client import AuthenticatedClient, Client
from chowder_client.api.files import list_files, read_file, write_file
from chowder_client.api.instances import create_instance, get_instance, list_instances
from chowder_client.api.keys import create_key, list_keys
from chowder_client.api.messages import create_session_response
from chowder_client.api.organization import sign_up
from chowder_client.models import (
    FileView,
    FileWriting,
    FolderView,
    InstanceCreation,
    InstanceStatus,
    InstanceView,
    IssuedKeyView,
    KeyCreation,
    Message,
    OutputMessageView,
    OutputTextView,
    Permission,
    ResponseView,
    Signup,
    SignupView,
)

URL, KEY = os.environ["CHOWDER_URL"], os.environ["CHOWDER_KEY"]
SHARED = UUID(os.environ["INSTANCE_ID"])
PATH = "workspace/generated-python.md"

signed_up = sign_up.sync(client=Client(base_url=URL), body=Signup(name="generated"))
assert isinstance(signed_up, SignupView)
own = AuthenticatedClient(base_url=URL, token=signed_up.api_key)
created = create_instance.sync(client=own, body=InstanceCreation(name="no-model-key"))
assert isinstance(created, InstanceView)
while created.status is InstanceStatus.PROVISIONING:
    time.sleep(0.05)
    found = get_instance.sync(created.id, client=own)
    assert isinstance(found, InstanceView)
    created = found

client = AuthenticatedClient(base_url=URL, token=KEY)
instances = list_instances.sync(client=client)
assert isinstance(instances, list)
message = Message(model="gpt-4o", input_="Hello from Python.")
answer = create_session_response.sync(SHARED, "generated-python", client=client, body=message)
assert isinstance(answer, ResponseView)
texts = [
    part.text
    for item in answer.output
    if isinstance(item, OutputMessageView)
    for part in item.content
    if isinstance(part, OutputTextView)
]
write_file.sync_detailed(SHARED, client=client, body=FileWriting(path=PATH, content="# Notes\n"))
file = read_file.sync(SHARED, client=client, path=PATH)
assert isinstance(file, FileView)
folder = list_files.sync(SHARED, client=client, path="workspace")
assert isinstance(folder, FolderView)
wanted = KeyCreation(name="generated", instance_ids=[SHARED], permissions=[Permission.READ])
key = create_key.sync(client=client, body=wanted)
assert isinstance(key, IssuedKeyView)
keys = list_keys.sync(client=client)
assert isinstance(keys, list)

print(
    json.dumps(
        {
            "status": created.status,
            "error": created.error_message,
            "instances": [str(each.id) for each in instances],
            "texts": texts,
            "tokens": answer.usage and answer.usage.total_tokens,
            "content": file.content,
            "files": [each.path for each in folder.entries],
            "keys": [each.key_prefix for each in keys if key.raw_key.startswith(each.key_prefix)],
        }
    )
)
