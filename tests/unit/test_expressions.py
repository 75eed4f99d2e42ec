"""Every regular expression of the package is linear in what it reads, so that nobody can hold it.

Searched are not only nested repetitions, which checkers of expressions look for, but above all
searches that begin anew at each place of a text and read on to its end: those a checker of single
matches calls harmless. So the expressions are tried on the engine that runs them.
"""

from __future__ import annotations

import ast
import re
import string
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import islice, product, takewhile
from pathlib import Path
from re import _constants as op
from re import _parser as parser
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

import chowder_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PACKAGE = Path(chowder_local.__file__).parent
MADE_WHEN_USED = {
    "chowder_local.client.remote: f'/v1/{path}'",
    "chowder_local.conformance.published: '[^/]+'.join(parts)",
    "chowder_local.http.endpoints: exactly",
    "chowder_local.relay.upstreams: forwarded",
}
"""Of calls: each is matched from its beginning, and one part of a path after the other."""
ANCHORED = {"match", "fullmatch"}
SEARCHES = {"search"}
ALPHABET = [*string.printable, "\0", "\x1b", "é", "⟦"]
TAILS = ("", "\0", "\n")
WALKS_MAX = 16
PIECES_MAX = 8
SHORT = 2_048
"""Characters."""
GROWTH = 6
SUSPICIOUS_S = 25e-9
"""Processor time a character. What takes less is linear; what takes more is measured again."""
GROWTH_MAX = 16
"""In linear time, a text that is GROWTH times as long takes as many times as long: 6, not 36.

A ratio of processor times of one thread, the least of several, does not depend on the machine or on
what else it does, and the limit is far from both.
"""


@dataclass(frozen=True)
class Expression:
    place: str
    pattern: re.Pattern[Any]
    methods: frozenset[str]
    """By which it is used; empty if that is not known."""

    @property
    def run(self) -> Callable[[Any], object]:
        if self.methods and self.methods <= ANCHORED:
            return lambda text: [getattr(self.pattern, each)(text) for each in self.methods]
        if self.methods and self.methods <= ANCHORED | SEARCHES:
            return self.pattern.search
        return lambda text: list(self.pattern.finditer(text))


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def is_of_re(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr not in {"escape", "purge"}
    )


def patterns(value: object, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    value = getattr(value, "__self__", value)
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | set | frozenset | dict) and depth:
        for each in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from patterns(each, depth - 1)


def uses(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """The methods by which each name is used; `*` if it is used otherwise."""
    found: dict[str, set[str]] = defaultdict(set)
    for tree in trees:
        methods = {
            id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                name = node.id if isinstance(node, ast.Name) else node.attr
                found[name].add(methods.get(id(node), "*"))
    return found


@cache
def expressions() -> list[Expression | str]:
    """All expressions; a place, for one whose text is made only when it is used."""
    return list(_expressions())


def _expressions() -> Iterator[Expression | str]:
    everything = dict(modules())
    everywhere = uses(everything.values())
    for name, tree in everything.items():
        here = uses([tree])
        for statement in tree.body:
            calls = [each for each in ast.walk(statement) if is_of_re(each)]
            if isinstance(statement, ast.Assign) and calls:
                (target,) = statement.targets
                assert isinstance(target, ast.Name)
                found = list(patterns(getattr(import_module(name), target.id)))
                assert found, (name, target.id)
                known = (here if target.id.startswith("_") else everywhere)[target.id]
                methods = frozenset[str]() if "*" in known else frozenset(known)
                for each in found:
                    yield Expression(f"{name}.{target.id}", each, methods)
                continue
            for call in calls:
                yield inline(name, call)


def inline(module: str, call: ast.Call) -> Expression | str:
    """The expression of a call such as `re.sub("a+", "b", text)`."""
    assert isinstance(call.func, ast.Attribute)
    text, *flags = (
        call.args[0],
        *(each for each in call.args if ast.unparse(each).startswith("re.")),
        *(each.value for each in call.keywords if each.arg == "flags"),
    )
    known = vars(import_module(module))
    place = f"{module}: {ast.unparse(text)}"
    try:
        values = [eval(ast.unparse(each), known) for each in (text, *flags)]
    except NameError:
        return place
    return Expression(place, re.compile(*values), frozenset({call.func.attr}))


def is_in(character: str, items: Any) -> bool:
    """Whether one of a set's items is this character."""
    is_negated = False
    for kind, value in items:
        if kind is op.NEGATE:
            is_negated = True
        elif (
            (kind is op.LITERAL and ord(character) == value)
            or (kind is op.NOT_LITERAL and ord(character) != value)
            or (kind is op.RANGE and value[0] <= ord(character) <= value[1])
            or (kind is op.CATEGORY and is_of_category(character, value))
        ):
            return not is_negated
    return is_negated


def is_of_category(character: str, category: object) -> bool:
    name = str(category).removeprefix("CATEGORY_").lower()
    is_so = {
        "digit": character.isdigit(),
        "space": character.isspace(),
        "word": character.isalnum() or character == "_",
    }[name.removeprefix("not_")]
    return is_so is not name.startswith("not_")


def sets(tree: Any) -> Iterator[Any]:
    """The items of each set of characters in an expression."""
    for kind, value in tree:
        if kind is op.IN:
            yield value
        elif kind in {op.LITERAL, op.NOT_LITERAL}:
            yield [(kind, value)]
        for each in value if isinstance(value, tuple | list) else ():
            if isinstance(each, parser.SubPattern):
                yield from sets(each)
            elif isinstance(each, list):
                for one in each:
                    if isinstance(one, parser.SubPattern):
                        yield from sets(one)


class Texts:
    """Texts along an expression, in pieces: one a literal, a set or a repetition."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        source = pattern.pattern
        self._tree = parser.parse(source, pattern.flags & ~re.DEBUG)
        known = list(sets(self._tree))
        self._alphabet = [each for each in ALPHABET if isinstance(source, str) or each < "\x7f"]
        # What most sets have comes first: repetitions that overlap are what costs.
        self._alphabet.sort(key=lambda each: -sum(is_in(each, items) for items in known))
        kinds = {tuple(is_in(each, items) for items in known): each for each in self._alphabet}
        self.kinds = list(kinds.values())
        """One character of each kind that the expression tells apart."""

    def walks(self) -> list[list[str]]:
        found: list[list[str]] = []
        for self._is_common in (True, False):
            found += islice(self._walk(list(self._tree)), WALKS_MAX)
        return found

    def _one(self, items: Any) -> str:
        fitting = [each for each in self._alphabet if is_in(each, items)]
        return (fitting[0] if self._is_common else fitting[-1]) if fitting else chr(0xE000)

    def _walk(self, nodes: list[Any]) -> Iterator[list[str]]:
        literal = "".join(chr(value) for _, value in takewhile(is_literal, nodes))
        nodes = nodes[len(literal) :]
        if not nodes:
            yield [literal] if literal else []
            return
        (kind, value), rest = nodes[0], nodes[1:]
        for head in self._pieces(kind, value):
            for tail in self._walk(rest):
                yield [*([literal] if literal else ()), *head, *tail]

    def _pieces(self, kind: Any, value: Any) -> Iterator[list[str]]:
        sets_of = {op.NOT_LITERAL: [(kind, value)], op.ANY: [(op.NOT_LITERAL, 10)], op.IN: value}
        inner = {op.SUBPATTERN: -1, op.ASSERT: 1}
        if kind in sets_of:
            yield [self._one(sets_of[kind])]
        elif kind is op.BRANCH:
            for each in value[1]:
                yield from self._walk(list(each))
        elif kind in inner:
            yield from self._walk(list(value[inner[kind]]))
        elif kind is op.ATOMIC_GROUP:
            yield from self._walk(list(value))
        elif kind in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            least, _, repeated = value
            for each in self._walk(list(repeated)):
                yield each if least < 2 else ["".join(each) * least]
        elif kind is op.GROUPREF_EXISTS:
            for each in value[1:]:
                yield from self._walk(list(each or ()))
        else:
            # Positions, references and what must not follow have no text.
            assert kind in {op.AT, op.ASSERT_NOT, op.GROUPREF, op.FAILURE}, kind
            yield []

    def repeated(self) -> set[tuple[str, str]]:
        """What comes once, and what comes after it by the thousand."""
        found = {("", each) for each in self.kinds}
        for walk in self.walks():
            pieces = merged(walk)
            for start in range(len(pieces)):
                for end in range(start + 1, len(pieces) + 1):
                    found.add(("".join(pieces[:start]), "".join(pieces[start:end])))
        return found


def is_literal(node: tuple[Any, Any]) -> bool:
    return node[0] is op.LITERAL


def merged(walk: list[str]) -> list[str]:
    """The walk in at most PIECES_MAX pieces."""
    while len(walk) > PIECES_MAX:
        at = min(range(len(walk) - 1), key=lambda index: len(walk[index]) + len(walk[index + 1]))
        walk = [*walk[:at], walk[at] + walk[at + 1], *walk[at + 2 :]]
    return walk


def cost_s(run: Callable[[Any], object], text: Any, times: int = 1) -> float:
    """The least processor time of so many runs: what else the machine does can only add to it."""
    costs = []
    for _ in range(times):
        start = time.thread_time()
        run(text)
        costs.append(time.thread_time() - start)
    return min(costs)


def is_linear(run: Callable[[Any], object], text: Callable[[int], Any]) -> bool:
    # An exponential one would never end with a long text.
    for characters in range(8, 68, 4):
        if cost_s(run, text(characters)) > 0.02 and cost_s(run, text(characters), 3) > 0.02:
            return False
    if cost_s(run, text(SHORT)) < SUSPICIOUS_S * SHORT:
        return True
    return any(
        cost_s(run, text(GROWTH * SHORT), times) < GROWTH_MAX * cost_s(run, text(SHORT), 2 * times)
        for times in (1, 2, 5)
    )


def slow_text(expression: Expression) -> str | None:
    """A text that the expression does not read in linear time, as it begins; None if none is found.

    It is made of parts of what the expression matches, by the thousand.
    """
    pattern, run = expression.pattern, expression.run
    encode = str.encode if isinstance(pattern.pattern, bytes) else str
    for (head, pump), tail in product(Texts(pattern).repeated(), TAILS):

        def text(characters: int, head: str = head, pump: str = pump, tail: str = tail) -> Any:
            return encode(head + pump * (characters // len(pump) + 1) + tail)

        if not is_linear(run, text):
            return f"{head!r} + {pump!r} * N + {tail!r}"
    return None


def test_every_expression_reads_in_linear_time() -> None:
    slow = {
        each.place: (each.pattern.pattern, found)
        for each in expressions()
        if isinstance(each, Expression) and (found := slow_text(each))
    }
    assert not slow, "a prefix by the thousand holds the server: make a part atomic, or exclude it"


def test_every_expression_can_be_read_by_the_test_before() -> None:
    assert {each for each in expressions() if isinstance(each, str)} == MADE_WHEN_USED


@pytest.mark.parametrize(
    ("source", "method"),
    [
        (r"Runtime: agent=[^|\n]* \| channel=(\w+)", "finditer"),
        (r"models/(.+):([a-z]+)\Z", "search"),
        (r"\(\?[^):<>=!]*x", "search"),
        (r"(?:a|b|ab)*c", "match"),
        (r"\s+\Z", "sub"),
    ],
)
def test_an_expression_that_is_not_linear_is_found(source: str, method: str) -> None:
    assert slow_text(Expression("", re.compile(source), frozenset({method})))
