"""The tools' table: each fits the call that it stands for."""

from __future__ import annotations

from jsonschema_rs import validator_for

from chowder_local.features.front import all_operations
from chowder_local.features.mcp.tools import CHANGES_STATUS, tools


def test_tools_that_wait_for_an_instance_are_calls_of_the_route_table() -> None:
    ids = {each.operation_id for each in all_operations()}
    assert ids >= CHANGES_STATUS


def test_a_tool_takes_the_parameters_of_path_query_and_body() -> None:
    schema = tools(all_operations())["set_replies"].schema
    assert "script" not in tools(all_operations())["get_replies"].schema["properties"]
    assert schema["type"] == "object"
    files = tools(all_operations())["write_file"].schema
    assert set(files["required"]) == {"instance_id", "path", "content"}
    assert "limit" in tools(all_operations())["read_transcript"].schema["properties"]


def test_every_schema_is_valid_and_says_what_its_members_are() -> None:
    for tool in tools(all_operations()).values():
        # It refuses a schema that is none, and references that lead nowhere.
        validator_for(dict(tool.schema)).is_valid({})
        assert set(tool.schema.get("required", ())) <= set(tool.schema["properties"]), tool.name
        assert "title" not in tool.schema


def test_what_only_reads_and_what_destroys_is_told() -> None:
    named = tools(all_operations())
    assert named["list_instances"].is_read_only
    assert not named["send_message"].is_read_only
    assert named["delete_instance"].is_destructive
    assert named["restore_snapshot"].is_destructive
    assert not named["stop_instance"].is_destructive
