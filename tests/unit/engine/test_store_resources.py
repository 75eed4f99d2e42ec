"""A report has only the listed attributes of a container."""

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


def test_other_attributes_and_values_of_the_environment_are_left_out() -> None:
    assert "planted" not in str(redacted(ATTRS))


def test_a_report_has_what_a_diagnosis_needs() -> None:
    report = redacted(ATTRS)
    assert report["Name"] == "/chowder-0123456789ab"
    assert report["State"]["OOMKilled"] is True
    assert report["Config"]["Env"] == ["BARE", "EMPTY", "TOKEN"]
    assert report["HostConfig"]["Memory"] == 5
    assert report["NetworkSettings"]["Ports"] is None
