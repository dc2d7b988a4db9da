"""Lists: paging, sorting, filters and field selection, safe by construction (G-11).

A client chooses among the columns that a resource names. The client's words are compared with those
names and never become SQL. Values are parsed to the type of the column and sent as parameters.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Self
from uuid import UUID

from psycopg import sql
from pydantic import BaseModel, Field, TypeAdapter

from skald.errors import InvalidInput
from skald.postgres import Transaction
from skald.telemetry import Kind, span

MAX_PAGE_SIZE = 100
MAX_FILTERS = 10
MAX_CHOICES = 50

_OPERATORS = {
    "eq": sql.SQL(" = "),
    "ne": sql.SQL(" is distinct from "),
    "lt": sql.SQL(" < "),
    "le": sql.SQL(" <= "),
    "gt": sql.SQL(" > "),
    "ge": sql.SQL(" >= "),
}


# The text type of PostgreSQL holds no NUL. Pydantic refuses lone surrogates in any string.
type Filter = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1000)]


class Page[Item](BaseModel):
    """One page of a list."""

    items: Sequence[Item] = Field(description="The items of this page.")
    page: int = Field(ge=1, description="The number of this page, from 1.")
    page_size: int = Field(ge=1, description="Items a page holds at most.")
    total: int = Field(ge=0, description="Items of the whole list.")


class ListQuery(BaseModel):
    """Which page of a list to return, in which order, with which filters and fields."""

    page: int = Field(default=1, ge=1, le=100_000, description="The number of the page, from 1.")
    page_size: int = Field(
        default=20, ge=1, le=MAX_PAGE_SIZE, description="Items a page holds at most."
    )
    sort: str = Field(
        default="", max_length=500, description="Fields to sort by; `-` for descending: `-name,id`."
    )
    filter: list[Filter] = Field(
        default_factory=list,
        max_length=MAX_FILTERS,
        description="`field:operator:value`; all must hold. Operators: eq, ne, lt, le, gt, ge, "
        "and in with values `a,b,c`.",
    )
    fields: str = Field(
        default="", max_length=1000, description="The only fields to return: `id,name`."
    )

    def also(self, field: str, value: str | None) -> Self:
        """Return this query with one more filter, if there is a value for it."""
        if value is None:
            return self
        return self.model_copy(update={"filter": [*self.filter, f"{field}:eq:{value}"]})


class Resource[Item: BaseModel]:
    """A table or view that clients may list.

    The columns are the fields of `item`. `key` orders rows that are equal otherwise. `sort` is the
    default order. `shared` names tenants whose rows are listed, too.
    """

    def __init__(
        self,
        item: type[Item],
        table: tuple[str, str],
        *,
        key: str,
        sort: str,
        sortable: Sequence[str],
        filterable: Sequence[str],
        shared: Collection[UUID] = (),
    ) -> None:
        self._item = item
        self._table = sql.Identifier(*table)
        self._name = ".".join(table)
        self._key = key
        self._sort = sort
        self._shared = tuple(shared)
        self._sortable = frozenset(sortable)
        self._filterable = frozenset(filterable)
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def page(self, transaction: Transaction, query: ListQuery) -> Page[Item | dict[str, Any]]:
        """Return one page: items, or dictionaries when fields were chosen.

        Raises `InvalidInput` for a field, operator or value that is not allowed. A query over
        500 ms is reported as a slow span.
        """
        where, parameters = self._where(transaction, query.filter)
        fields = self._fields(query.fields)
        counted = sql.SQL("select count(*) from {}{}").format(self._table, where)
        listed = sql.SQL("select {} from {}{} order by {} limit %s offset %s").format(
            sql.SQL(", ").join(map(sql.Identifier, fields or self._item.model_fields)),
            self._table,
            where,
            self._order(query.sort),
        )
        window = (query.page_size, (query.page - 1) * query.page_size)
        with span(Kind.DATABASE, f"list {self._name}", sort=query.sort, filters=len(query.filter)):
            total = transaction.value(counted.as_string(), parameters)
            rows = transaction.execute(listed.as_string(), [*parameters, *window]).fetchall()
        return Page(
            items=rows if fields else [self._item.model_validate(row) for row in rows],
            page=query.page,
            page_size=query.page_size,
            total=total,
        )

    def _fields(self, text: str) -> list[str]:
        return [_known(name, self._item.model_fields, "a field") for name in _names(text)]

    def _order(self, text: str) -> sql.Composed:
        terms: dict[str, sql.SQL] = {}
        for term in _names(text or self._sort):
            name = _known(term.removeprefix("-"), self._sortable, "sortable")
            terms.setdefault(name, sql.SQL(" desc" if term != name else ""))
        terms.setdefault(self._key, sql.SQL(""))
        ordered = [sql.Identifier(name) + how for name, how in terms.items()]
        return sql.Composed(ordered).join(", ")

    def _where(
        self, transaction: Transaction, filters: Sequence[str]
    ) -> tuple[sql.Composed, list[Any]]:
        """Return the condition and its parameters. The condition on the tenant comes first."""
        owners = [transaction.tenant_id, *self._shared]
        places = sql.SQL(", ").join([sql.Placeholder()] * len(owners))
        conditions: list[sql.Composable] = [sql.SQL(" where tenant_id in ({})").format(places)]
        parameters: list[Any] = list(owners)
        for text in filters:
            condition, value = self._condition(text)
            conditions.append(sql.SQL(" and ") + condition)
            parameters.append(value)
        return sql.Composed(conditions), parameters

    def _condition(self, text: str) -> tuple[sql.Composed, Any]:
        name, _, rest = text.partition(":")
        operator, _, value = rest.partition(":")
        column = sql.Identifier(_known(name, self._filterable, "filterable"))
        if operator == "in":
            choices = [self._value(name, choice) for choice in value.split(",")]
            if len(choices) > MAX_CHOICES:
                raise InvalidInput(f"filter: {name} takes at most {MAX_CHOICES} values")
            return column + sql.SQL(" = any(%s)"), choices
        comparison = _OPERATORS[_known(operator, _OPERATORS, "an operator")]
        return column + comparison + sql.SQL("%s"), self._value(name, value)

    def _adapter(self, name: str) -> TypeAdapter[Any]:
        """Return the parser of a column's filters, built on first use: an import stays cheap."""
        if name not in self._adapters:
            annotation = self._item.model_fields[name].rebuild_annotation()
            self._adapters[name] = TypeAdapter[Any](annotation)
        return self._adapters[name]

    def _value(self, name: str, text: str) -> Any:
        try:
            return self._adapter(name).validate_strings(text)
        except ValueError as error:
            raise InvalidInput(f"filter: {name} cannot be {text[:100]!r}") from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _known(name: str, allowed: Collection[str], what: str) -> str:
    if name not in allowed:
        raise InvalidInput(f"{name[:100]!r} is not {what}; these are: {', '.join(sorted(allowed))}")
    return name
