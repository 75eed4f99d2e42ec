"""Which exit code a failure gets."""

from chowder_local.cli.exit_codes import EXIT_CODES, exit_code_of
from chowder_local.core.errors import process, requests


def test_a_failure_with_a_row_gets_its_code() -> None:
    assert exit_code_of(process.PortTaken("127.0.0.1", 2469)) == 3
    assert exit_code_of(process.SettingsInvalid("x")) == 2


def test_any_other_failure_is_an_ordinary_one() -> None:
    assert exit_code_of(requests.InstanceNotFound()) == 1


def test_the_table_names_each_code_in_the_commands_help() -> None:
    assert sorted(set(EXIT_CODES.values())) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
