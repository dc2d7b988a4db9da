"""Finds in the source what a function can reach: AWS calls, secrets, buckets.

It follows names from the handler through our functions, classes and variables. A method is reached
as soon as its class and its name are reached anywhere (rapid type analysis). That may find too
much, and never finds too little.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.unit.template import ROOT

from operations.contexts import contexts

type Place = tuple[str, str]
"""A module and a name in it; an empty name is the module itself."""

SOURCES = (ROOT / "functions", ROOT / "layers/core")


# Definitions of names -----------------------------------------------------------------------------


@dataclass
class Module:
    """The names of a module: defined in it, or imported from elsewhere."""

    defined: dict[str, ast.stmt] = field(default_factory=dict)
    imported: dict[str, Place] = field(default_factory=dict)

    def module(self, name: str) -> str | None:
        """Return the module of a name, None if the name is no module."""
        module, member = self.imported.get(name, ("", name))
        whole = f"{module}.{member}" if member else module
        return whole if module and (not member or whole in modules()) else None


@cache
def modules() -> dict[str, Module]:
    """Return all our modules by name."""
    return {name: _read(path) for source in SOURCES for name, path in _files(source)}


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def _read(path: Path) -> Module:
    module = Module()
    for statement in ast.parse(path.read_text()).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                module.defined[name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                module.defined[name] = statement
            case ast.Import() | ast.ImportFrom():
                module.imported |= _imports(statement)
    return module


def _imports(statement: ast.Import | ast.ImportFrom) -> dict[str, Place]:
    if isinstance(statement, ast.Import):
        return {a.asname or a.name.partition(".")[0]: (a.name, "") for a in statement.names}
    return {a.asname or a.name: (statement.module or "", a.name) for a in statement.names}


def _home(module: str, name: str) -> Place | None:
    """Return where a name is defined, None if it is not our code."""
    if module not in modules():
        return None
    if name in modules()[module].defined:
        return module, name
    if name in modules()[module].imported:
        return _home(*modules()[module].imported[name])
    return None


# Names that a piece of code uses ------------------------------------------------------------------


@dataclass
class Asked:
    """The names, attributes and texts that a piece of code uses."""

    places: set[Place] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


@cache
def _parts(place: Place) -> tuple[Sequence[ast.AST], dict[str, ast.FunctionDef]]:
    """Return the code of a name. The methods of a class are separate pieces of code."""
    node = modules()[place[0]].defined[place[1]]
    if not isinstance(node, ast.ClassDef):
        return [node], {}
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    return [*node.bases, *(part for part in node.body if part not in methods.values())], methods


@cache
def _asked(place: Place, method: str | None = None) -> Asked:
    """Return what a name, or a method of the class of that name, uses."""
    parts, methods = _parts(place)
    nodes = [node for part in ([methods[method]] if method else parts) for node in ast.walk(part)]
    local = Module(imported=dict(modules()[place[0]].imported))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            local.imported |= _imports(node)
    asked = Asked()
    foreign = set(_foreign(nodes, local))
    for node in nodes:
        match node:
            case ast.Name(id=name):
                asked.places.add(local.imported.get(name, (place[0], name)))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if local.module(name):
                asked.places.add((local.module(name) or "", attribute))
            case ast.Attribute(value=value, attr=attribute):
                if not (isinstance(value, ast.Name) and value.id in foreign):
                    asked.attributes.add(attribute)
            case ast.Constant(value=str(text)):
                asked.texts.add(text)
            case ast.Call(
                func=ast.Attribute() as function, args=[_, _, ast.Constant(value=str(mode))]
            ):
                asked.texts.add(f"{ast.unparse(function)} {mode}")
    return asked


def _foreign(nodes: Sequence[ast.AST], local: Module) -> Iterator[str]:
    """Yield the variables with results of other libraries: their methods are not ours."""
    for node in nodes:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=variable)],
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name))),
            ) if (local.module(name) or "skald") not in modules():
                yield variable


# Reached code -------------------------------------------------------------------------------------


class Reach(Asked):
    """What a handler reaches, including the routes of its API if it has one."""

    def __init__(self, handler: str) -> None:
        super().__init__()
        self._methods: set[tuple[Place, str]] = set()
        module, _, name = handler.rpartition(".")
        self._go(module, name)
        for route in _routes(module, name):
            self._go(module, route)
        while self._go_to_methods():
            pass

    def _go(self, module: str, name: str) -> None:
        place = _home(module, name)
        if place is not None and place not in self.places:
            self.places.add(place)
            self._add(_asked(place))

    def _add(self, asked: Asked) -> None:
        self.attributes |= asked.attributes
        self.texts |= asked.texts
        for place in asked.places:
            self._go(*place)

    def _go_to_methods(self) -> bool:
        """Reach the methods whose class and name are reached. Returns False when none is new."""
        found = {
            (place, method)
            for place in self.places
            for method in _parts(place)[1]
            if method in self.attributes or method.startswith("__")
        } - self._methods
        self._methods |= found
        for place, method in found:
            self._add(_asked(place, method))
            for reference in _named_by_contexts(place[1], method):
                self._go(*reference.split(":"))
        return bool(found)


def _routes(module: str, handler: str) -> list[str]:
    """Return the functions that serve the routes of `handler = api.handler`."""
    match modules()[module].defined[handler]:
        case ast.Assign(value=ast.Attribute(value=ast.Name(id=api))):
            return [
                name
                for name, node in modules()[module].defined.items()
                if isinstance(node, ast.FunctionDef)
                and any(ast.unparse(d).startswith(f"{api}.route(") for d in node.decorator_list)
            ]
    return []


def _named_by_contexts(name: str, method: str) -> list[str]:
    """Return the code that a method of `SagaKind` imports by its name."""
    kinds = contexts().sagas.values()
    match (name, method):
        case ("SagaKind", "compensate"):
            return [kind.recovery for kind in kinds]
        case ("SagaKind", "end"):
            return [kind.ending for kind in kinds]
    return []


reach = cache(Reach)


# Meaning of the names -----------------------------------------------------------------------------

_ACTIONS: dict[str, tuple[str, ...]] = {
    "get_object": ("s3:GetObject",),
    "head_object": ("s3:GetObject",),
    "put_object": ("s3:PutObject",),
    "create_multipart_upload": ("s3:PutObject",),
    "upload_part": ("s3:PutObject",),
    "complete_multipart_upload": ("s3:PutObject",),
    "abort_multipart_upload": ("s3:AbortMultipartUpload",),
    "smart_open.s3.open rb": ("s3:GetObject",),
    "smart_open.s3.open wb": ("s3:PutObject", "s3:AbortMultipartUpload"),
    # Without it S3 answers 403 instead of 404 for a missing object.
    "NoSuchKey": ("s3:ListBucket",),
    "list_parts": ("s3:ListMultipartUploadParts",),
    "list_objects_v2": ("s3:ListBucket",),
    "delete_objects": ("s3:DeleteObject",),
    "send_message": ("sqs:SendMessage",),
    "send_message_batch": ("sqs:SendMessage",),
    "get_queue_url": ("sqs:GetQueueUrl",),
    "change_message_visibility": ("sqs:ChangeMessageVisibility",),
    "start_execution": ("states:StartExecution",),
    "describe_execution": ("states:DescribeExecution",),
    "stop_execution": ("states:StopExecution",),
    "send_task_success": ("states:SendTaskSuccess",),
    "send_task_failure": ("states:SendTaskFailure",),
    "send_task_heartbeat": ("states:SendTaskHeartbeat",),
    "invoke_model": ("bedrock:InvokeModel",),
    "converse": ("bedrock:InvokeModel",),
    "converse_stream": ("bedrock:InvokeModelWithResponseStream",),
    "postgres_dsn": ("secret postgres",),
    "lookout_dsn": ("secret postgres/relay",),
    "redis_dsn": ("secret redis",),
    "model_api_key": ("secret model",),
}


def needs(handler: str) -> set[str]:
    """Return the actions that a handler's code may call, and the secrets that it may read."""
    words = reach(handler).attributes | reach(handler).texts
    return {action for word in words for action in _ACTIONS.get(word, ())}


def buckets(handler: str) -> set[str]:
    """Return the buckets of a handler's code, by the first word of their variables."""
    texts = reach(handler).texts
    return {text.removesuffix("_BUCKET").lower() for text in texts if text.endswith("_BUCKET")}
