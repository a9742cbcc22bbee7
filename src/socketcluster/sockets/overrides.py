"""Provided values that live longer than a message, and overrides of their providers in tests.

Values made with overrides are kept apart, so that none of them is used afterwards, and none from
before is used in the test.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from socketcluster.handlers.dependencies import Invocation, Provider, ScopedValues
from socketcluster.handlers.plan import Surroundings
from socketcluster.handlers.signature import Signature
from socketcluster.runtime.reporting import Reporter


def overriding(kind: Any, override: Any, original: Provider | None) -> Provider:
    """Return a provider of a type: `override` is a function or a class to call, else the value.

    Its values live as long as those of the original.

    Raises:
        UsageError: an annotation of the function cannot be resolved.
    """
    if inspect.isroutine(override) or isinstance(override, functools.partial):
        function: Callable[..., Any] = override
    elif inspect.isclass(override):
        function = functools.partial(_made, override)
    else:
        function = functools.partial(_constant, override)
    scope = "message" if original is None else original.scope
    return Provider(Signature(function, {}), scope, kind)


def overriding_all(
    values: Mapping[Any, Any], originals: Mapping[Any, Provider]
) -> dict[Any, Provider]:
    """Return the providers of several types, by type."""
    return {kind: overriding(kind, each, originals.get(kind)) for kind, each in values.items()}


def _made(kind: Any) -> Any:
    return kind()


def _constant(value: Any) -> Any:
    return value


class Overrides:
    """The surroundings of plans while dependencies are overridden.

    Attributes:
        own: the overrides, by type.
    """

    __slots__ = ("_outer", "_values", "own")

    def __init__(self, values: Mapping[Any, Any], outer: Surroundings) -> None:
        """Make the providers of the values, as `overriding` takes them.

        `outer` has all providers there are, these included, and the values from before.

        Raises:
            UsageError: an annotation of a function cannot be resolved.
        """
        self._outer = outer
        self.own: Mapping[Any, Provider] = overriding_all(values, outer.providers)
        self._values: dict[ScopedValues, ScopedValues] = {}

    @property
    def providers(self) -> Mapping[Any, Provider]:
        """All providers there are, with the overrides."""
        return self._outer.providers

    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        """See `Surroundings.scoped`."""
        replaced = self._outer.scoped(provider, invocation)
        return None if replaced is None else self._values.setdefault(replaced, ScopedValues())

    @property
    def used(self) -> bool:
        """Whether there is any value."""
        return any(values.used for values in self._values.values())

    def take(self, replaced: ScopedValues) -> ScopedValues:
        """Remove and return the values that replace others."""
        return self._values.pop(replaced, None) or ScopedValues()

    def take_all(self, last: ScopedValues) -> list[ScopedValues]:
        """Remove and return all values, those that replace `last` behind the others."""
        longest = self.take(last)
        values, self._values = self._values, {}
        return [*values.values(), longest]


class ProvidedValues:
    """The provided values of one server or client that live longer than a message, and their ends.

    Attributes:
        server: those of scope 'server'.
        overrides: those in force, the innermost last.
    """

    __slots__ = ("_left", "_reporter", "_start", "overrides", "server")

    def __init__(
        self,
        reporter: Reporter,
        start: Callable[[Coroutine[Any, Any, None], Callable[[], None]], None],
    ) -> None:
        """`start(clean_up, hurry)` runs a clean-up in a task; `hurry()` has it end soon."""
        self._reporter = reporter
        self._start = start
        self._left: list[ScopedValues] = []
        self.server: ScopedValues = ScopedValues()
        self.overrides: list[Overrides] = []

    @property
    def used(self) -> bool:
        """Whether there is a value of scope 'server', or one made with an override."""
        return self.server.used or any(overrides.used for overrides in self.overrides)

    def forget(self, values: ScopedValues | None, cancel: bool = False) -> None:
        """Clean up the values of a socket in a task, also those made with overrides.

        It waits for providers that are being called, or cancels them.
        """
        if values is not None:
            replaced = [overrides.take(values) for overrides in self.overrides]
            self._clean_up([values, *replaced], cancel)

    def remove(self, overrides: Overrides) -> None:
        """End overrides, and clean up the values that were made with them in a task."""
        self.overrides.remove(overrides)
        self._clean_up(overrides.take_all(self.server), True)

    def _clean_up(self, values: list[ScopedValues], cancel: bool) -> None:
        # Emptied at once: the next message may be another user's.
        emptied = [each.emptied() for each in values if each.used]
        if emptied:
            if cancel:
                _cancel(emptied)
            try:
                self._start(self._close(emptied), functools.partial(_cancel, emptied))
            except RuntimeError:  # A test has ended overrides while no loop runs.
                self._left += emptied

    async def _close(self, values: list[ScopedValues]) -> None:
        for each in values:
            try:
                await each.close()
            except Exception as error:
                self._reporter.fault("The clean-up of a provider failed", error)

    async def close(self) -> None:
        """Clean up all values but those of sockets."""
        closing, self._left = self._left, []
        for overrides in self.overrides:
            closing += overrides.take_all(self.server)
        closing.append(self.server.emptied())
        _cancel(closing)
        await self._close(closing)


def _cancel(values: list[ScopedValues]) -> None:
    for each in values:
        each.cancel()
