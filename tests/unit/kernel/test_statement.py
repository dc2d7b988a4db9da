"""Q-03: how the placeholders of a query are translated, and which are refused."""

import pytest
from psycopg import ProgrammingError
from psycopg.adapt import Transformer
from psycopg.pq import Format

from skald.postgres.interface import Parameters, Statement
from skald.postgres.statement import bind


def bound(query: str, parameters: Parameters) -> Statement:
    return bind(Transformer(), query, parameters)


def test_placeholders_are_numbered_in_their_order() -> None:
    statement = bound("select %s, %s", ("a", 7))
    assert statement.query == b"select $1, $2"
    assert [bytes(value or b"") for value in statement.values] == [b"a", b"\x00\x07"]


def test_a_name_has_one_number() -> None:
    statement = bound("select %(b)s, %(a)s, %(b)s", {"a": "1", "b": "2", "c": "unused"})
    assert statement.query == b"select $1, $2, $1"
    assert statement.values == [b"2", b"1"]


def test_a_placeholder_says_how_its_value_travels() -> None:
    assert bound("select %b, %t", (1, 1)).formats == [Format.BINARY, Format.TEXT]


def test_a_doubled_percent_sign_is_one() -> None:
    assert bound("select 7 %% 2, 'a%%'", ()).query == b"select 7 % 2, 'a%'"


@pytest.mark.parametrize("query", ["like 'a%'", "100 % 7", "%d"])
def test_a_single_percent_sign_is_refused(query: str) -> None:
    with pytest.raises(ProgrammingError, match="no placeholder"):
        bound(query, ())


@pytest.mark.parametrize("parameters", [(), ("a", "b")])
def test_too_few_or_too_many_are_refused(parameters: Parameters) -> None:
    with pytest.raises(ProgrammingError, match="1 placeholders"):
        bound("select %s", parameters)


def test_a_name_without_a_value_is_refused() -> None:
    with pytest.raises(ProgrammingError, match="no value for 'b'"):
        bound("select %(b)s", {"a": 1})
