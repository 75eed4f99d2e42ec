"""Labels and filters of our resources."""

from chowder_local.engine.labels import (
    SANDBOX,
    STORE,
    is_of_store,
    sandbox_labels,
    sandbox_of,
    store_filter,
    store_labels,
)


def test_a_sandbox_bears_its_store_and_its_own_id() -> None:
    assert sandbox_labels("s1", "chowder-1") == {STORE: "s1", SANDBOX: "chowder-1"}
    assert store_labels("s1") == {STORE: "s1"}


def test_a_filter_selects_the_label_of_the_store() -> None:
    assert store_filter("s1") == {"label": [f"{STORE}=s1"]}


def test_only_resources_with_our_store_id_are_ours() -> None:
    assert is_of_store(sandbox_labels("s1", "chowder-1"), "s1")
    assert not is_of_store(store_labels("s2"), "s1")
    assert not is_of_store({}, "s1")
    assert not is_of_store(None, "s1")


def test_an_empty_store_id_owns_nothing() -> None:
    assert not is_of_store({STORE: ""}, "")


def test_a_resource_without_a_sandbox_label_belongs_to_no_sandbox() -> None:
    assert sandbox_of(sandbox_labels("s1", "chowder-1")) == "chowder-1"
    assert sandbox_of(store_labels("s1")) is None
    assert sandbox_of(None) is None
