"""Benchmark of imports: the time of a new interpreter to import what one HTTP request needs."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory

from benchmarks.harness import Benchmark, Unit
from benchmarks.servers import Servers

# Serves one real request. Prints the modules that it loaded after the entry point, and all modules
# of installed libraries, each list in the order of loading.
_SERVE = """
import json, sys
import batches.api
before = set(sys.modules)
event = json.loads(sys.argv[1])
answer = batches.api.handler(event, None)
assert answer["statusCode"] == 200, answer
loaded = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({
    "after": [name for name in loaded if name not in before],
    "libraries": [name for name, file in loaded.items() if file and "site-packages" in file],
}))
"""

# Both sides use the garbage collection threshold of our functions, so it gives no advantage.
_IMPORT = """
import gc, sys, time
gc.set_threshold(200_000)
begun = time.perf_counter()
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
print((time.perf_counter() - begun) * 1000)
"""


class Imports(Benchmark):
    name = "import"
    unit = Unit.MILLISECONDS
    target = 0.91  # ours may cost at most 1.10 times what its libraries cost alone
    compares = (
        "batches.api with all that its first authenticated GET imports / the library modules among"
        " them, alone"
    )
    limited_by = (
        "eighty modules of ours to find and read, and the pydantic models of lists and batches,"
        " which are built at import"
    )

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        # The warm-up compiles the modules once, even if this shell forbids writing bytecode.
        bytecode = resources.enter_context(TemporaryDirectory())
        self._environment = os.environ | {
            "PYTHONPYCACHEPREFIX": bytecode,
            "PYDANTIC_DISABLE_PLUGINS": "__all__",  # as in template.yaml
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _, key = servers.new_tenant()
        loaded = json.loads(self._python(_SERVE, json.dumps(_get_batches(key))))
        self._modules = ("batches.api", *loaded["after"])
        self._libraries = loaded["libraries"]

    def ours(self) -> float:
        return float(self._python(_IMPORT, *self._modules))

    def peer(self) -> float:
        return float(self._python(_IMPORT, *self._libraries))

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
