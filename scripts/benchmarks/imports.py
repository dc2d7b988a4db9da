"""How long a fresh interpreter takes to import what one HTTP request needs."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from benchmarks.harness import Benchmark, Unit
from benchmarks.servers import Servers

PLAIN = (
    "boto3",
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.idempotency",
    "psycopg",
    "redis",
    "pydantic",
)

# Serves one real request and tells which modules that brought beyond the entry point.
_SERVE = """
import json, sys
import batches.api
before = set(sys.modules)
event = json.loads(sys.argv[1])
answer = batches.api.handler(event, None)
assert answer["statusCode"] == 200, answer
print(json.dumps([name for name in sys.modules if name not in before]))
"""

_IMPORT = """
import sys, time
begun = time.perf_counter()
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
print((time.perf_counter() - begun) * 1000)
"""


class Imports(Benchmark):
    name = "import"
    unit = Unit.MILLISECONDS
    target = 1.6
    compares = "batches.api and all that its first authenticated GET imports / the same libraries"
    limited_by = (
        "the libraries: psycopg, pydantic (which a plain import leaves for later), Powertools and "
        "redis take nine tenths; even without redis and our own code it would be below 1.6"
    )

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        # Compiled once by the warm-up, whatever this shell says about writing bytecode.
        bytecode = resources.enter_context(TemporaryDirectory())
        self._environment = os.environ | {
            "PYTHONPYCACHEPREFIX": bytecode,
            "PYDANTIC_DISABLE_PLUGINS": "__all__",  # as template.yaml has it
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _, key = servers.new_tenant()
        served = json.loads(self._python(_SERVE, json.dumps(_get_batches(key))))
        self._modules = ("batches.api", *served)

    def ours(self) -> float:
        return float(self._python(_IMPORT, *self._modules))

    def peer(self) -> float:
        return float(self._python(_IMPORT, *PLAIN))

    def _python(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.splitlines()[-1]


def _get_batches(key: str) -> dict[str, object]:
    return {
        "httpMethod": "GET",
        "path": "/batches",
        "headers": {"X-Api-Key": key},
        "multiValueHeaders": {"X-Api-Key": [key]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"stage": "local", "path": "/batches"},
        "body": None,
        "isBase64Encoded": False,
    }
