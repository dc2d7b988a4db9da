"""The order of traces and event chains: causes before effects."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def in_order[T](
    items: Iterable[T], key: Callable[[T], Any], parent: Callable[[T], Any]
) -> Iterator[tuple[int, T]]:
    """Yield each item once with its depth, a parent before its children, siblings as given.

    An item without its parent among the items is a root. Items in a cycle, which only a forged
    message can create, come last.
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
        # No recursion: a chain may be longer than Python's stack.
        depth, item = stack.pop() if stack else (0, next(iter(by_key.values())))
        if by_key.pop(key(item), None) is not None:
            yield depth, item
            stack += [(depth + 1, child) for child in reversed(children[key(item)])]
