"""Finding instances by id, beginning of an id, or name."""

import click
import pytest

from chowder_local.cli.commands import choose_instance

ALL = [
    {"id": "aaaa-1", "name": "fish"},
    {"id": "aabb-2", "name": "crab"},
    {"id": "ccdd-3", "name": "twin"},
    {"id": "eeff-4", "name": "twin"},
    {"id": "ffff-5", "name": "aaaa-1"},
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("aabb-2", "aabb-2"),
        ("crab", "aabb-2"),
        ("cc", "ccdd-3"),
        ("CC", "ccdd-3"),
        ("aaaa-1", "aaaa-1"),
    ],
)
def test_an_instance_is_found_by_id_name_or_beginning_of_its_id(wanted: str, found: str) -> None:
    assert choose_instance(ALL, wanted)["id"] == found


@pytest.mark.parametrize(("wanted", "several"), [("aa", "aaaa-1"), ("twin", "eeff-4")])
def test_an_ambiguous_name_is_refused_with_the_ids(wanted: str, several: str) -> None:
    with pytest.raises(click.ClickException, match=several):
        choose_instance(ALL, wanted)


@pytest.mark.parametrize("wanted", ["gone", ""])
def test_an_unknown_name_is_refused(wanted: str) -> None:
    with pytest.raises(click.ClickException, match=repr(wanted)):
        choose_instance(ALL, wanted)
