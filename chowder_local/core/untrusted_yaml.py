"""Reads YAML from outside (pure).

A few bytes of YAML can stand for millions of values, and names can lead back to themselves. So
nodes are counted, each as often as it is used, before values are made of them.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import SafeConstructor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_CHARACTERS = 4_000_000
"""Of the text, and of all its values together."""
MAX_VALUES = 100_000
MAX_DEPTH = 100
MAX_DIGITS = 100
_FLOAT = "tag:yaml.org,2002:float"
_NUMBERS = {"tag:yaml.org,2002:int", _FLOAT}


class YamlInvalid(ValueError):
    """A text is no YAML, or exceeds the bounds; with its line if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def compose(text: str) -> yaml.Node | None:
    """The node of a text; None if it is empty. Raises YamlInvalid."""
    if len(text) > MAX_CHARACTERS:
        raise YamlInvalid(f"it has more than {MAX_CHARACTERS} characters")
    with _translated():
        node = yaml.compose(text, yaml.SafeLoader)
    if node is not None:
        _check(node)
    return node


def construct(node: yaml.Node | None) -> Any:
    """The value of a node that `compose` has returned. Raises YamlInvalid."""
    if node is None:
        return None
    with _translated():
        return yaml.SafeLoader("").construct_document(node)


def parts(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """The parts of a node: name or index, the node where the part begins, and its value."""
    if isinstance(node, yaml.SequenceNode):
        for index, each in enumerate(node.value):
            yield str(index), each, each
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # Only scalars are shown: other keys could be of any length, and `construct` refuses
            # them.
            yield key.value if isinstance(key, yaml.ScalarNode) else "", key, value


def line_of(root: yaml.Node | None, location: Iterable[int | str]) -> int | None:
    """The line of a part; if it is missing, that of the nearest part around it."""
    if root is None:
        return None
    node, line = root, root.start_mark.line
    for part in location:
        matches = [(key, value) for name, key, value in parts(node) if name == str(part)]
        # The location may have steps that are not in the text.
        if matches:
            # If a name is there twice, the second one is the error.
            key, node = matches[-1]
            line = key.start_mark.line
    return int(line) + 1


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        message = " ".join(filter(None, (error.context, error.problem)))
        raise YamlInvalid(message, line) from None
    except RecursionError:
        raise YamlInvalid(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlInvalid(str(error).partition("\n")[0]) from None


def _check_scalar(node: yaml.ScalarNode) -> None:
    line = node.start_mark.line + 1
    if node.tag in _NUMBERS:
        if len(node.value) > MAX_DIGITS:
            raise YamlInvalid(f"a number has more than {MAX_DIGITS} digits", line)
        if node.tag == _FLOAT and not _is_finite(node):
            raise YamlInvalid("a number is not finite, so JSON cannot write it", line)
    try:
        node.value.encode()
    except UnicodeEncodeError:
        # YAML has no pairs of escapes as JSON has, so JSON's are joined here.
        halves = node.value.encode("utf-16-le", "surrogatepass")
        try:
            node.value = halves.decode("utf-16-le")
        except UnicodeDecodeError:
            raise YamlInvalid("a text has half of a character, such as \\ud800", line) from None


def _is_finite(node: yaml.ScalarNode) -> bool:
    try:
        return math.isfinite(SafeConstructor().construct_yaml_float(node))
    except ValueError:
        # The text has the form of a number that Python does not read; `construct` refuses it.
        return True


def _check(root: yaml.Node) -> None:
    pending, count, characters = [(root, 1)], 1, 0
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise YamlInvalid(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.ScalarNode):
            characters += len(node.value)
            _check_scalar(node)
        children = [each for _, *pair in parts(node) for each in {id(n): n for n in pair}.values()]
        count += len(children)
        if count > MAX_VALUES:
            raise YamlInvalid(f"it has more than {MAX_VALUES} values; aliases count at each use")
        if characters > MAX_CHARACTERS:
            raise YamlInvalid(f"its values have more than {MAX_CHARACTERS} characters")
        pending += [(each, depth + 1) for each in children]
