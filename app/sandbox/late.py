"""An attribute that is made when somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Late(Generic[T]):
    """`functools.cached_property` without the lock that it takes before Python 3.12, which costs more than a topic."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self._name = make, make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Late[T]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> T: ...
    def __get__(self, owner: object | None, kind: type) -> T | Late[T]:
        if owner is None:
            return self
        made = owner.__dict__[self._name] = self._make(owner)
        return made
