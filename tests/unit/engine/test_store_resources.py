"""Of what an engine says of a container, only what is listed is told."""

from __future__ import annotations

from chowder_local.engine.store_resources import redacted

ATTRS = {
    "Name": "/chowder-0123456789ab",
    "Path": "planted",
    "Args": ["planted"],
    "State": {"Status": "exited", "OOMKilled": True, "Health": {"Log": ["planted"]}},
    "Config": {"Env": ["TOKEN=planted", "EMPTY=", "BARE"], "Cmd": ["planted"], "Image": "i:1"},
    "HostConfig": {"Memory": 5, "LogConfig": {"Config": {"token": "planted"}}},
    "NetworkSettings": None,
}


def test_values_of_the_environment_and_what_is_not_listed_are_not_told() -> None:
    assert "planted" not in str(redacted(ATTRS))


def test_what_a_diagnosis_needs_is_told() -> None:
    found = redacted(ATTRS)
    assert found["Name"] == "/chowder-0123456789ab"
    assert found["State"]["OOMKilled"] is True
    assert found["Config"]["Env"] == ["BARE", "EMPTY", "TOKEN"]
    assert found["HostConfig"]["Memory"] == 5
    assert found["NetworkSettings"]["Ports"] is None
