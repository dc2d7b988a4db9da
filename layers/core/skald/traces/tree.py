"""Causes before effects: the order in which traces and event chains are told."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def in_order[T](
    items: Iterable[T], key: Callable[[T], Any], parent: Callable[[T], Any]
) -> Iterator[tuple[int, T]]:
    """Yield each item once with its depth, a parent before its children, siblings as given.

    An item whose parent is not among them is a root. Items that are each other's ancestors, which
    only a forged message can make them, come last.
    """
    by_key = {key(item): item for item in items}
    children: defaultdict[Any, list[T]] = defaultdict(list)
    roots = []
    for item in by_key.values():
        if parent(item) in by_key:
            children[parent(item)].append(item)
        else:
            roots.append(item)
    stack = [(0, item) for item in reversed(roots)]
    while by_key:
        # Without recursion: a chain may be longer than Python's stack is deep.
        depth, item = stack.pop() if stack else (0, next(iter(by_key.values())))
        if by_key.pop(key(item), None) is not None:
            yield depth, item
            stack += [(depth + 1, child) for child in reversed(children[key(item)])]
