"""What of a person's environment a measured server is given."""

from __future__ import annotations

from benchmarks.servers import server_environment


def test_a_measured_server_has_no_setting_and_no_key_but_those_that_are_meant() -> None:
    env = {
        "PATH": "/bin",
        "CHOWDER_WARM_POOL_SIZE": "9",
        "CHOWDER_IMAGE": "mine:1",
        "OPENAI_API_KEY": "sk-real",
    }
    assert server_environment(env, {"CHOWDER_WARM_POOL_SIZE": "1"}) == {
        "PATH": "/bin",
        "CHOWDER_IMAGE": "mine:1",
        "CHOWDER_WARM_POOL_SIZE": "1",
    }
