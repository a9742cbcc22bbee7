"""Plans: how a function is called, with its arguments in place and its dependencies provided."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol, TypeVar

from socketcluster.handlers.dependencies import SCOPES, Invocation, Provider, Scope, ScopedValues
from socketcluster.handlers.signature import EMPTY, Parameter, Signature

T = TypeVar("T")

Getter = Callable[[Invocation], Any]
"""Returns one argument of a call."""


def get_data(invocation: Invocation) -> Any:
    """Return the data."""
    return invocation.data


def get_socket(invocation: Invocation) -> Any:
    """Return the socket."""
    return invocation.socket


class Source:
    """A value that parameters may ask for by its name or its type.

    Attributes:
        type: None if any annotation is possible, as for `data`.
        scope: the longest-lived scope whose providers may ask for it; None for none.
    """

    __slots__ = ("get", "scope", "type")

    def __init__(self, type: Any, get: Getter, scope: Scope | None = None) -> None:
        self.type: Any = type
        self.get: Getter = get
        self.scope: Scope | None = scope


class Surroundings(Protocol):
    """The values around the handlers of one server or client."""

    @property
    def providers(self) -> Mapping[Any, Provider]: ...
    def scoped(self, provider: Provider, invocation: Invocation) -> ScopedValues | None:
        """The values among which a provider's is kept; None if it lives for the message."""
        ...


class Plan:
    """How one function is called.

    Attributes:
        is_async: whether the function or a provider is async: use `call_async` then.
        sources: those that the function and its providers ask for.
    """

    __slots__ = ("_function", "_getters", "_keywords", "_steps", "_waits", "is_async", "sources")

    def __init__(
        self,
        signature: Signature,
        sources: Mapping[str, Source],
        surroundings: Surroundings,
        in_thread: bool = False,
    ) -> None:
        """Plan the calls of a function; `in_thread` runs it, and it alone, in a worker thread.

        Raises:
            UsageError: a parameter has no source and no provider, or providers need each other in a
                circle; the message names the place.
        """
        planner = _Planner(sources, surroundings)
        self._function = _in_thread(signature.call) if in_thread else signature.call
        self._waits = signature.is_async or in_thread
        self._getters, self._keywords = planner.arguments(signature)
        self._steps = planner.steps
        self.sources: frozenset[Source] = frozenset(planner.asked)
        self.is_async: bool = self._waits or any(each.waits for each in self._steps)

    @property
    def of_data(self) -> Callable[[Any], Any] | None:
        """The function, if it takes the data alone and needs nothing else; None otherwise."""
        if self._steps or self._keywords or self._getters != [get_data]:
            return None
        return self._function

    @property
    def simple(self) -> Callable[[Any, Any], Any] | None:
        """A function of (socket, data), if that is all that a call needs; None otherwise.

        It saves the invocation, which takes longer than the rest of a call.
        """
        if self._steps or self._keywords:
            return None
        function, getters = self._function, self._getters
        if not getters:
            return lambda socket, data: function()
        if getters == [get_socket]:
            return lambda socket, data: function(socket)
        if getters == [get_data, get_socket]:
            return lambda socket, data: function(data, socket)
        if getters == [get_socket, get_data]:
            return function
        return None

    def _apply(self, invocation: Invocation) -> Any:
        arguments = [get(invocation) for get in self._getters]
        keywords = {name: get(invocation) for name, get in self._keywords.items()}
        return self._function(*arguments, **keywords)

    def call(self, invocation: Invocation) -> Any:
        """Call the function; clean up after its dependencies before the result is returned."""
        if not self._steps:
            return self._apply(invocation)
        failure: BaseException | None = None
        try:
            with ExitStack() as stack:
                try:
                    for step in self._steps:
                        step.provide(invocation, stack)
                    return self._apply(invocation)
                except BaseException as error:
                    failure = error
                    raise
            assert failure is not None
            raise failure  # A provider has suppressed it: there is no result all the same.
        finally:
            del failure  # A frame must not keep its own error alive.

    async def call_async(self, invocation: Invocation) -> Any:
        """Call the function as `call` does, and wait for it and for its dependencies.

        Cancelling cancels what it waits for, and cleans up.
        """
        if not self._steps:
            result = self._apply(invocation)
            return await result if self._waits else result
        failure: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                try:
                    for step in self._steps:
                        if step.waits:
                            await step.provide_async(invocation, stack)
                        else:
                            step.provide(invocation, stack)
                    result = self._apply(invocation)
                    return await result if self._waits else result
                except BaseException as error:
                    failure = error
                    raise
            assert failure is not None
            raise failure  # As in `call`.
        finally:
            del failure


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except StopIteration as error:  # No future takes it: its caller would wait forever.
            raise RuntimeError("The function raised StopIteration") from error

    async def call(*arguments: Any, **keywords: Any) -> Any:
        return await asyncio.to_thread(called, *arguments, **keywords)

    return call


class _Step:
    """Provides one dependency of a call."""

    __slots__ = ("_getters", "_keywords", "_provider", "_surroundings", "waits")

    def __init__(
        self,
        provider: Provider,
        getters: list[Getter],
        keywords: dict[str, Getter],
        surroundings: Surroundings,
    ) -> None:
        self._provider = provider
        self._getters = getters
        self._keywords = keywords
        self._surroundings = surroundings
        self.waits: bool = provider.signature.is_async

    def _make(self, invocation: Invocation) -> Any:
        arguments = [get(invocation) for get in self._getters]
        keywords = {name: get(invocation) for name, get in self._keywords.items()}
        return self._provider.make(*arguments, **keywords)

    def provide(self, invocation: Invocation, stack: ExitStack | AsyncExitStack) -> None:
        """Put the value of a provider that is not async into `invocation.provided`."""
        provider = self._provider

        def make(stack: ExitStack | AsyncExitStack) -> Any:
            made = self._make(invocation)
            return stack.enter_context(made) if provider.signature.is_generator else made

        values = self._surroundings.scoped(provider, invocation)
        value = make(stack) if values is None else values.get(provider, make)
        invocation.provided[provider] = value

    async def provide_async(self, invocation: Invocation, stack: AsyncExitStack) -> None:
        """Put the value of an async provider into `invocation.provided`."""
        provider = self._provider

        async def make(stack: AsyncExitStack) -> Any:
            made = self._make(invocation)
            if provider.signature.is_generator:
                return await stack.enter_async_context(made)
            return await made

        values = self._surroundings.scoped(provider, invocation)
        value = await make(stack) if values is None else await values.get_async(provider, make)
        invocation.provided[provider] = value


class _Planner:
    """Finds the source of each parameter, and the order of the providers.

    Attributes:
        steps: the providers that a call needs, each after those that it needs itself.
        asked: the sources that a call needs.
    """

    def __init__(self, sources: Mapping[str, Source], surroundings: Surroundings) -> None:
        self._sources = sources
        self._surroundings = surroundings
        typed = [each for each in sources.values() if each.type is not None]
        self._types = {each.type: each for each in typed}
        bases = Counter(base for each in typed for base in each.type.__mro__)
        self._bases = {
            base: each for each in typed for base in each.type.__mro__ if bases[base] == 1
        }
        self._done: set[Provider] = set()
        self._path: list[Provider] = []
        self.steps: list[_Step] = []
        self.asked: set[Source] = set()

    def arguments(
        self, signature: Signature, provider: Provider | None = None
    ) -> tuple[list[Getter], dict[str, Getter]]:
        """Return the positional and the keyword arguments of a function, a provider's or not."""
        getters: list[Getter] = []
        keywords: dict[str, Getter] = {}
        defaults: list[Getter] = []  # Needed only before a parameter that has a value.
        for parameter in signature.parameters:
            getter = self._getter(signature, parameter, provider)
            if getter is None:
                if not parameter.keyword_only:
                    defaults.append(_constant(parameter.default))
            elif parameter.keyword_only:
                keywords[parameter.name] = getter
            else:
                getters += [*defaults, getter]
                defaults.clear()
        return getters, keywords

    def _getter(
        self, signature: Signature, parameter: Parameter, asking: Provider | None
    ) -> Getter | None:
        needed = _look_up(self._surroundings.providers, parameter.annotation)
        source = _look_up(self._types, parameter.annotation)
        if source is None and needed is None:  # An instance of a subclass of AGServer, for example.
            source = _look_up(self._bases, parameter.annotation)
        if parameter.name in self._sources and (
            self._sources[parameter.name].type is None or needed is None
        ):
            source = source or self._sources[parameter.name]
            needed = None
        if source is not None:
            if asking is not None and not _lives_long_enough(source.scope, asking.scope):
                raise signature.error(
                    f"its parameter '{parameter.name}' would not live as long as what it provides "
                    f"(scope {asking.scope!r})"
                )
            self.asked.add(source)
            return source.get
        if needed is not None:
            self._need(needed, signature, asking)
            return lambda invocation: invocation.provided[needed]
        if not parameter.required:
            return None
        raise signature.error(self._no_source(parameter))

    def _no_source(self, parameter: Parameter) -> str:
        if parameter.annotation is EMPTY:
            names = ", ".join(self._sources)
            return (
                f"its parameter '{parameter.name}' is unknown. It may be one of {names}, or have "
                "the type of a provider as its annotation"
            )
        return (
            f"nothing provides its parameter '{parameter.name}: {_name_of(parameter.annotation)}'. "
            f"Give the provider of the type with `provide`, or use one of the names "
            f"{', '.join(self._sources)}"
        )

    def _need(self, provider: Provider, signature: Signature, asking: Provider | None) -> None:
        if asking is not None and not _lives_long_enough(provider.scope, asking.scope):
            raise signature.error(
                f"it has scope {asking.scope!r} and needs {_name_of(provider.provides)}, which has "
                f"the shorter scope {provider.scope!r}"
            )
        if provider in self._path:
            circle = [*self._path[self._path.index(provider) :], provider]
            raise signature.error(
                "providers need each other in a circle: "
                + " → ".join(_name_of(each.provides) for each in circle)
            )
        if provider in self._done:
            return
        self._path.append(provider)
        getters, keywords = self.arguments(provider.signature, provider)
        self._path.pop()
        self._done.add(provider)
        self.steps.append(_Step(provider, getters, keywords, self._surroundings))


def _constant(value: Any) -> Getter:
    return lambda invocation: value


def _lives_long_enough(scope: Scope | None, asking: Scope) -> bool:
    return scope is not None and SCOPES.index(scope) >= SCOPES.index(asking)


def _look_up(table: Mapping[Any, T], annotation: Any) -> T | None:
    try:
        return table.get(annotation)
    except TypeError:  # An annotation that cannot be hashed.
        return None


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
