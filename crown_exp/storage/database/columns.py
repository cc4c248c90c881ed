"""Column types that hold the same on every engine."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

Name = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is compared byte by byte, as SQLite does anyway."""

TAG = "$number"


class Moment(TypeDecorator[datetime]):
    """A moment, aware and in UTC. SQLite has no zones, so what it holds is in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What the database is given."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """What is read."""
        if value is None:
            return None
        moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """Any JSON value, and numbers that are not finite, which no engine takes for JSON; None is NULL.

    What is none of these comes back as text.
    """

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSONB where there is such a thing."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        from sqlalchemy.dialects.postgresql import JSONB  # 20 ms that SQLite need not wait for

        return dialect.type_descriptor(JSONB(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """What the database is given."""
        return tagged(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """What is read."""
        return untagged(value)


def tagged(value: Any) -> Any:
    """The value with `{"$number": "nan"}` for what is not finite, and with text that every engine takes."""
    if isinstance(value, float) and not math.isfinite(value):
        return {TAG: str(value)}
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): tagged(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tagged(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return storable(str(value))  # a date, say: yaml has them, JSON has not


def untagged(value: Any) -> Any:
    """The inverse of `tagged`."""
    if isinstance(value, dict):
        if value.keys() == {TAG} and value[TAG] in ("nan", "inf", "-inf"):
            return float(value[TAG])
        return {key: untagged(item) for key, item in value.items()}
    return [untagged(item) for item in value] if isinstance(value, list) else value


def storable(text: str) -> str:
    r"""The text, with `\x00` and `\udc80` spelled out: NUL and halves of surrogate pairs are in no encoding."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
