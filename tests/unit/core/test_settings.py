"""Settings: names, values, defaults and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.settings import Settings, exposure_warning


def test_an_empty_environment_gives_the_published_defaults() -> None:
    settings = Settings.read({})
    assert (settings.host, settings.port) == ("127.0.0.1", 2469)
    assert settings.data_dir.name == "chowder-local"
    assert settings.offline is False


def test_each_setting_is_an_environment_variable() -> None:
    env = {
        "CHOWDER_PORT": "3000",
        "CHOWDER_OFFLINE": "1",
        "CHOWDER_CPU_LIMIT": "0.5",
        "CHOWDER_DATA_DIR": "/data",
        "CHOWDER_CORS_ORIGINS": "https://a.example, https://b.example,",
    }
    settings = Settings.read(env)
    assert settings.port == 3000
    assert settings.offline is True
    assert settings.cpu_limit == 0.5
    assert settings.data_dir == Path("/data")
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_the_usual_variable_names_the_collector_unless_our_own_does() -> None:
    usual = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://usual:4318"}
    own = {"CHOWDER_OTLP_ENDPOINT": "http://own:4318"}
    assert Settings.read(usual).otlp_endpoint == "http://usual:4318"
    assert Settings.read(usual | own).otlp_endpoint == "http://own:4318"
    assert Settings.read({}).otlp_endpoint is None


def test_an_option_overrides_the_environment_if_it_is_given() -> None:
    env = {"CHOWDER_PORT": "3000", "CHOWDER_HOST": "127.0.0.2"}
    settings = Settings.read(env, port=4000, host=None)
    assert (settings.port, settings.host) == (4000, "127.0.0.2")


def test_a_misspelt_setting_is_refused_by_name() -> None:
    env = {"CHOWDER_PROT": "3000", "CHOWDER_HOTS": "x", "CHOWDER_PORT": "1", "PATH": "/bin"}
    with pytest.raises(SettingsInvalid, match=r"^Unknown settings: CHOWDER_HOTS, CHOWDER_PROT\.$"):
        Settings.read(env)


def test_a_setting_by_its_former_name_is_taken_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = {"CHOWDER_MAX_RUNNING": "3", "CHOWDER_PAUSED_TTL_S": "60"}
    settings = Settings.read(env)
    assert (settings.max_sandboxes, settings.release_stopped_after_s) == (3, 60)
    assert "CHOWDER_MAX_RUNNING is called CHOWDER_MAX_SANDBOXES now" in caplog.text
    assert Settings.read(env | {"CHOWDER_MAX_SANDBOXES": "4"}).max_sandboxes == 4


def test_a_setting_that_was_given_up_is_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Settings.read({"CHOWDER_ENGINE_THREADS": "4"}) == Settings.read({})
    assert "CHOWDER_ENGINE_THREADS is no setting any more" in caplog.text


def test_the_variables_of_clients_are_no_settings() -> None:
    env = {"CHOWDER_BASE_URL": "http://127.0.0.1:2469/v1", "CHOWDER_KEY": "chd_org_x"}
    assert Settings.read(env) == Settings.read({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", ""),
        ("OFFLINE", "perhaps"),
        ("CPU_LIMIT", "0"),
        ("BOOT_TIMEOUT_S", "-1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("BUDGET_USD", "nan"),
        ("BUDGET_USD", "1e10"),
    ],
)
def test_an_invalid_value_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"CHOWDER_{name}: "):
        Settings.read({f"CHOWDER_{name}": value})


def test_all_invalid_values_are_in_one_error() -> None:
    with pytest.raises(SettingsInvalid, match=r"CHOWDER_PORT.*; CHOWDER_LOG_LEVEL"):
        Settings.read({"CHOWDER_PORT": "0", "CHOWDER_LOG_LEVEL": "loud"})


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings.read({}).port = 1  # type: ignore[misc]  # what the test is about


def test_paths_are_absolute_and_expand_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/cook")
    env = {"CHOWDER_DATA_DIR": "data", "CHOWDER_CA_BUNDLE": "~/ca.pem"}
    settings = Settings.read(env)
    assert settings.data_dir == tmp_path / "data"
    assert settings.ca_bundle == Path("/home/cook/ca.pem")


def test_all_files_are_in_the_data_directory() -> None:
    settings = Settings.read({"CHOWDER_DATA_DIR": "/data"})
    files = {
        settings.database_file,
        settings.secret_file,
        settings.default_key_file,
        settings.store_file,
        settings.lock_file,
        settings.run_file,
        settings.log_file,
    }
    assert len(files) == 7
    assert {file.parent for file in files} == {Path("/data")}


def test_the_key_file_may_be_outside_the_data_directory() -> None:
    settings = Settings.read({"CHOWDER_DATA_DIR": "/data", "CHOWDER_KEY_FILE": "/key/default.key"})
    assert settings.default_key_file == Path("/key/default.key")
    assert settings.secret_file == Path("/data/secret.key")


def test_the_exposure_warning_differs_in_a_container() -> None:
    outside, inside = (exposure_warning("0.0.0.0", is_in_container=it) for it in (False, True))
    assert "-p 127.0.0.1:2469:2469" in inside
    assert "its own agents" in outside
    assert "agents" not in inside


def test_every_provider_has_a_base_url_without_a_trailing_slash() -> None:
    urls = Settings.read({"CHOWDER_OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}).model_base_urls
    assert urls.keys() == set(ModelProvider)
    assert urls[ModelProvider.OPENAI] == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:2469"),
        ("0.0.0.0", "http://127.0.0.1:2469"),
        ("::", "http://[::1]:2469"),
        ("box.local", "http://box.local:2469"),
    ],
)
def test_the_root_url_has_no_wildcard_address(host: str, url: str) -> None:
    assert Settings.read({}, host=host).root_url == url


def test_allowed_hosts_are_separated_by_commas() -> None:
    env = {"CHOWDER_ALLOWED_HOSTS": "box.example, 192.168.1.5,[fd00::5]:2469,"}
    assert Settings.read(env).allowed_hosts == ("box.example", "192.168.1.5", "[fd00::5]:2469")


@pytest.mark.parametrize("host", ["*", "*.example", "http://box.example", "box example", "a/b"])
def test_an_invalid_allowed_host_is_refused(host: str) -> None:
    with pytest.raises(SettingsInvalid, match="CHOWDER_ALLOWED_HOSTS: "):
        Settings.read({"CHOWDER_ALLOWED_HOSTS": host})


@pytest.mark.parametrize("path", ["openai", "openai/", "lab/files", "openai/../files", "openai//x"])
def test_a_relay_path_is_a_provider_and_a_path(path: str) -> None:
    assert Settings.read({"CHOWDER_RELAY_PATHS": "openai/files, gemini/v1/x"}).relay_paths
    with pytest.raises(SettingsInvalid, match="CHOWDER_RELAY_PATHS: "):
        Settings.read({"CHOWDER_RELAY_PATHS": path})


@pytest.mark.parametrize(
    ("host", "is_on_loopback"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("LOCALHOST", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("box.local", False)],
)  # fmt: skip
def test_a_server_knows_whether_it_listens_on_loopback_only(
    host: str, is_on_loopback: bool
) -> None:
    assert Settings.read({}, host=host).is_on_loopback is is_on_loopback
