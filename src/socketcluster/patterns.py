"""Patterns of channel names: the one syntax of channel rules and channel handlers.

A segment is what lies between two slashes of a channel's name.

===============  ==================================================================
``chat``         the text itself
``{room}``       one segment, or a part of one (``user-{id}``): one or more
                 characters without "/"
``*``            the same without a name
``{name:path}``  the rest of the channel, slashes included: one or more characters;
                 nothing follows it
``**``           the same without a name
===============  ==================================================================

Text separates the parameters of one segment (``{first}:{second}``). Each parameter then takes as
little as it can: it ends where the next text begins. Braces and stars have no other meaning, so
that a pattern cannot name a channel with a brace or a star in its name; its parameters can match
one.

Of the patterns that match one channel the most specific wins. Two patterns are compared segment by
segment from the left, and the first difference counts: a text is more specific than a text with
parameters, this than a parameter alone, and this than a rest. More characters of text count where
both have text and parameters.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from socketcluster.errors import InvalidArgumentsError

T = TypeVar("T")

_TOKEN = re.compile(r"\{(?P<name>[^{}]*)\}|(?P<stars>\*+)|(?P<text>[^{}*]+)|[{}]")


class _Parameter(NamedTuple):
    name: str  # "" for a star.
    is_rest: bool


_Segment = list[str | _Parameter]
"""Texts and parameters in turn; empty for a segment without characters."""


class Pattern:
    """A pattern of channel names, such as "room/{room}"; see the module for the syntax.

    Patterns with the same text are equal.

    Attributes:
        text: the pattern as it was written.
        parameters: the names of its parameters, in their order.
        is_literal: whether it has no parameter, and so matches one channel.
        specificity: compares with those of other patterns; the greater is the more specific.

    Raises:
        InvalidArgumentsError: the text is no pattern; the error quotes it.
    """

    __slots__ = ("_expression", "_segments", "is_literal", "parameters", "specificity", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._segments = _parse(text)
        parameters = [
            piece
            for segment in self._segments
            for piece in segment
            if isinstance(piece, _Parameter)
        ]
        self.parameters: tuple[str, ...] = tuple(p.name for p in parameters if p.name)
        self.is_literal: bool = not parameters
        self.specificity: tuple[tuple[int, int], ...] = tuple(map(_rank, self._segments))
        self._expression = re.compile("/".join(map(_expression, self._segments)), re.DOTALL)

    def match(self, channel: str) -> dict[str, str] | None:
        """Return the parameters of a channel by name, or None if the pattern does not match.

        The time it takes grows with the length of the channel's name, and no faster.
        """
        found = self._expression.fullmatch(channel)
        return None if found is None else found.groupdict()

    def conflicts_with(self, other: Pattern) -> bool:
        """Return whether a channel can match both patterns while neither is more specific."""
        return self.specificity == other.specificity and all(
            map(_overlap, self._segments, other._segments)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


class PatternTable(Generic[T]):
    """Values by pattern. A channel finds the value of the most specific pattern that matches it.

    Iteration yields (pattern, value), patterns without parameters first, then the others, the most
    specific ones first.
    """

    __slots__ = ("_literal", "_others")

    def __init__(self) -> None:
        self._literal: dict[str, tuple[Pattern, T]] = {}
        self._others: list[tuple[Pattern, T]] = []

    def add(self, pattern: Pattern, value: T) -> None:
        """Add a pattern.

        Raises:
            InvalidArgumentsError: the pattern conflicts with one that was added before; the error
                quotes both. Nothing has changed.
        """
        conflict = self.conflict(pattern)
        if conflict is not None:
            raise InvalidArgumentsError(_conflict_text(pattern.text, conflict[0].text))
        if pattern.is_literal:
            self._literal[pattern.text] = pattern, value
        else:
            self._others.append((pattern, value))
            self._others.sort(key=lambda entry: entry[0].specificity, reverse=True)

    def conflict(self, pattern: Pattern) -> tuple[Pattern, T] | None:
        """Return the entry that a pattern conflicts with, or None."""
        if pattern.is_literal:
            return self._literal.get(pattern.text)
        return next((entry for entry in self._others if pattern.conflicts_with(entry[0])), None)

    def find(self, channel: str) -> tuple[T, dict[str, str]] | None:
        """Return the value for a channel and the channel's parameters, or None without one."""
        literal = self._literal.get(channel)
        if literal is not None:
            return literal[1], {}
        for pattern, value in self._others:
            parameters = pattern.match(channel)
            if parameters is not None:
                return value, parameters
        return None

    def __iter__(self) -> Iterator[tuple[Pattern, T]]:
        yield from self._literal.values()
        yield from self._others

    def __len__(self) -> int:
        return len(self._literal) + len(self._others)


def _conflict_text(new: str, known: str) -> str:
    if new == known:
        return f"The channel pattern {new!r} is there twice"
    return (
        f"The channel patterns {known!r} and {new!r} match the same channels, and neither is more "
        "specific: remove one, or add text to one"
    )


# Parsing


def _parse(text: Any) -> list[_Segment]:
    if not isinstance(text, str) or not text:
        raise InvalidArgumentsError(
            f"A channel pattern must be a text that is not empty, not {text!r}"
        )
    segments: list[_Segment] = [[]]
    for token in _TOKEN.finditer(text):
        if token["text"] is None:
            segments[-1].append(_parameter(text, token))
            continue
        first, *others = token["text"].split("/")
        segments[-1] += [first] if first else []
        segments += [[other] if other else [] for other in others]
    _check(text, segments)
    return segments


def _parameter(text: str, token: re.Match[str]) -> _Parameter:
    stars, inside = token["stars"], token["name"]
    if stars is not None:
        if len(stars) > 2:
            raise _problem(text, f"{stars!r} is neither '*' nor '**'")
        return _Parameter("", stars == "**")
    if inside is None:
        raise _problem(text, f"the brace at position {token.start()} has no counterpart")
    name, colon, kind = inside.partition(":")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _problem(text, f"{name!r} is no Python name, such as 'room'")
    if colon and kind != "path":
        raise _problem(text, f"{token[0]!r} can be '{{{name}}}' or '{{{name}:path}}'")
    return _Parameter(name, bool(colon))


def _check(text: str, segments: list[_Segment]) -> None:
    """Check how the parts of a pattern stand together."""
    names: set[str] = set()
    for segment in segments:
        for piece, following in pairwise([*segment, ""]):
            if isinstance(piece, _Parameter) and isinstance(following, _Parameter):
                raise _problem(text, "two parameters of one segment need text between them")
            if not isinstance(piece, _Parameter):
                continue
            if piece.name and piece.name in names:
                raise _problem(text, f"it has two parameters {piece.name!r}")
            names.add(piece.name)
            if piece.is_rest and (following or segment is not segments[-1]):
                raise _problem(text, "a rest ('**' or '{name:path}') must be its end")


def _problem(text: str, problem: str) -> InvalidArgumentsError:
    return InvalidArgumentsError(f"{text!r} is no channel pattern: {problem}")


# Comparing and matching segments


def _rank(segment: _Segment) -> tuple[int, int]:
    """The specificity of a segment: its kind, and the characters of its text."""
    parameters = [piece for piece in segment if isinstance(piece, _Parameter)]
    characters = sum(len(piece) for piece in segment if isinstance(piece, str))
    if not parameters:
        return 3, 0
    if parameters[-1].is_rest:
        return 0, characters
    return (2 if characters else 1), characters


def _overlap(one: _Segment, other: _Segment) -> bool:
    """Whether a text can match two segments of one rank.

    What lies between the first and the last parameter of one always fits into a parameter of the
    other, so that only the texts at the ends count.
    """
    if _rank(one)[0] == 3:
        return one == other
    starts, ends = zip(_ends(one), _ends(other), strict=True)
    return (starts[0].startswith(starts[1]) or starts[1].startswith(starts[0])) and (
        ends[0].endswith(ends[1]) or ends[1].endswith(ends[0])
    )


def _ends(segment: _Segment) -> tuple[str, str]:
    """The texts before the first and after the last parameter of a segment."""
    start, end = segment[0], segment[-1]
    return start if isinstance(start, str) else "", end if isinstance(end, str) else ""


def _expression(segment: _Segment) -> str:
    """The regular expression of a segment.

    It never goes back behind a text that it has found (the groups are atomic), because a peer
    chooses the name that is matched.
    """
    parts: list[str] = []
    for number, piece in enumerate(segment):
        if isinstance(piece, str):
            if number == 0:
                parts.append(re.escape(piece))
            continue
        name = f"?P<{piece.name}>" if piece.name else ""
        if piece.is_rest:
            parts.append(f"({name}.+)")
        elif number == len(segment) - 1:
            parts.append(f"({name}[^/]++)")
        else:
            end = "(?![^/])" if number == len(segment) - 2 else ""
            parts.append(f"(?>({name}[^/]+?){re.escape(str(segment[number + 1]))}{end})")
    return "".join(parts)
