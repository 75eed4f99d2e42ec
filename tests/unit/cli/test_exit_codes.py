"""The exit codes of errors."""

from chowder_local.cli.output import EXIT_CODES, exit_code_of
from chowder_local.core.errors import process, requests


def test_an_error_in_the_table_has_its_exit_code() -> None:
    assert exit_code_of(process.PortTaken("127.0.0.1", 2469)) == 3
    assert exit_code_of(process.SettingsInvalid("x")) == 2


def test_any_other_error_has_exit_code_1() -> None:
    assert exit_code_of(requests.InstanceNotFound()) == 1


def test_the_table_has_every_exit_code_of_the_help() -> None:
    assert sorted(set(EXIT_CODES.values())) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
