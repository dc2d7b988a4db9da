"""States as bytes: MessagePack with an allowlist of types, without pickle."""

from collections.abc import Callable, Collection
from typing import Any, override

import ormsgpack
from langgraph.checkpoint.serde import _msgpack, jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from skald.checkpoints.errors import NotSerializable

KIND = "msgpack"
_UNPACK = ormsgpack.OPT_NON_STR_KEYS
# Extensions that name a type as their first two elements; the others hold arrays or snapshots.
_NAMELESS = {jsonplus.EXT_NUMPY_ARRAY, jsonplus.EXT_DELTA_SNAPSHOT}


class Serializer(JsonPlusSerializer):
    """LangGraph's serializer, as strict when it saves as when it loads.

    States may contain `types`, plain data, and the types that LangGraph considers safe.
    """

    def __init__(self, types: Collection[type] = ()) -> None:
        super().__init__(allowed_msgpack_modules=tuple(types))
        # The names are those of the encoding.
        self._types = {(one.__module__, one.__name__) for one in types}

    @override
    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the kind and the bytes of an object; raises `NotSerializable`."""
        is_plain = True

        def extend(part: Any) -> str | ormsgpack.Ext:
            nonlocal is_plain
            is_plain = False
            return jsonplus._msgpack_default(part)

        try:
            data = ormsgpack.packb(obj, default=extend, option=jsonplus._option)
        except (TypeError, ormsgpack.MsgpackEncodeError) as error:
            raise NotSerializable(f"{type(obj).__name__}: {error}") from error
        if not is_plain:
            self._check(data)
        return KIND, data

    @override
    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the object; a type that is not allowed becomes the plain data it was made of."""
        kind, content = data
        if kind != KIND:
            raise ValueError(f"states are stored as {KIND}, not as {kind}")
        return super().loads_typed((kind, content))

    def _check(self, data: bytes) -> None:
        """Refuse an object that `loads_typed` would return changed; raises `NotSerializable`."""
        refused: list[str] = []
        ormsgpack.unpackb(data, ext_hook=self._checker(refused), option=_UNPACK)
        if refused:
            raise NotSerializable(f"types not allowed in a state: {', '.join(sorted(refused))}")

    def _checker(self, refused: list[str]) -> Callable[[int, bytes], None]:
        allowed = _msgpack.SAFE_MSGPACK_TYPES | self._types

        def check(code: int, data: bytes) -> None:
            content = ormsgpack.unpackb(data, ext_hook=check, option=_UNPACK)
            if code not in _NAMELESS and tuple(content[:2]) not in allowed:
                refused.append(".".join(content[:2]))

        return check
