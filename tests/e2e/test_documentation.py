"""The documentation that the API serves."""

import re
from typing import Any

import requests
from tests.e2e.deployment import ROOT, Deployment


def test_health(skald: Deployment) -> None:
    """G-01: a client without a key sees whether the servers answer."""
    answer = requests.get(f"{skald.api_url}/health", timeout=30)
    assert (answer.status_code, answer.json()) == (200, {"postgres": "ok", "redis": "ok"})


def test_openapi_document(skald: Deployment) -> None:
    """API document: it is OpenAPI 3.1 and has every route of the code.

    Each route has an operation id, answers and a resolvable schema, and says if it needs a key.
    """
    answer = requests.get(f"{skald.api_url}/openapi.json", timeout=30)
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"]
    assert document["info"]["version"]
    identifiers = []
    for path, operations in document["paths"].items():
        assert path.startswith("/")
        for method, operation in operations.items():
            identifiers.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["responses"], path
            assert any(code.startswith("2") for code in operation["responses"])
            named = set(re.findall(r"{(\w+)}", path))
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == declared, (method, path)
            if path.startswith("/batches"):
                assert operation.get("security") or document.get("security"), path
    assert len(identifiers) == len(set(identifiers))
    code = (ROOT / "functions" / "batches" / "api.py").read_text()
    routes = re.findall(r'@api.route\(\s*"(\w+)",\s*"([^"]+)"', code)
    assert len(routes) >= 12
    for method, path in routes:
        template = path.replace("<", "{").replace(">", "}")
        assert method.lower() in document["paths"][template]
    for reference in _references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target
    assert document["components"]["securitySchemes"]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for child in node.values() for found in _references(child)]
    if isinstance(node, list):
        return [found for child in node for found in _references(child)]
    return []


def test_documentation_page(skald: Deployment) -> None:
    """API document: the page shows the document and loads nothing from elsewhere."""
    answer = requests.get(f"{skald.api_url}/docs", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "SwaggerUIBundle" in answer.text
    assert "/batches/{batch_id}/report" in answer.text
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?:', answer.text)
