"""API document: one document for all contexts, in which no model hides another."""

from typing import Any

import pytest
from pydantic import BaseModel, create_model

from skald.entrypoints.http import Api, openapi


def api(path: str, model: type[BaseModel]) -> Api:
    """Return an API with one route that answers with the model."""
    made = Api()

    def show() -> Any:
        """Return the model."""

    show.__annotations__["return"] = model
    made.route("GET", path)(show)
    return made


@pytest.fixture
def document() -> dict[str, Any]:
    apis = {
        "apples": api("/apples", create_model("Thing", colour=(str, ...))),
        "pears": api("/pears", create_model("Thing", weight=(int, ...))),
        "plums": api("/plums", create_model("Thing", colour=(str, ...))),
    }
    return openapi.merged(apis, "Fruit", "1.0.0")


def answers(document: dict[str, Any], path: str) -> dict[str, Any]:
    responses: dict[str, Any] = document["paths"][path]["get"]["responses"]
    return responses


def model(document: dict[str, Any], path: str) -> str:
    name: str = answers(document, path)["200"]["content"]["application/json"]["schema"]["$ref"]
    return name.rpartition("/")[2]


def test_models_of_one_name_are_both_described(document: dict[str, Any]) -> None:
    """API document: the second model's name begins with its context; an equal model is shared."""
    names = [model(document, path) for path in ("/apples", "/pears", "/plums")]
    assert names == ["Thing", "pears.Thing", "Thing"]
    schemas = document["components"]["schemas"]
    assert [list(schemas[name]["properties"]) for name in names] == [
        ["colour"],
        ["weight"],
        ["colour"],
    ]


def test_every_refusal_is_a_problem_document(document: dict[str, Any]) -> None:
    """API document: it describes every refusal of an authenticated route in one form."""
    refusals = {code: answer for code, answer in answers(document, "/pears").items() if code > "4"}
    assert list(refusals) == ["401", "422", "429", "503"]
    reference = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    assert refusals["401"]["content"] == {"application/problem+json": reference}
    assert all(one["content"] == refusals["401"]["content"] for one in refusals.values())
    assert "trace_id" in document["components"]["schemas"]["ProblemDocument"]["properties"]
