"""The SAM template and the state machines, read as data."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import batched
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's short tags in their long form: `!Ref x` as `{"Ref": "x"}`."""


def _construct(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _construct)


@dataclass(frozen=True)
class Template:
    """The template's resources, with references to parameters and globals resolved."""

    document: Mapping[str, Any]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of a type, by name."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.document["Resources"].items()
            if resource["Type"] == kind
        }

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        return {
            name: self.document["Globals"]["Function"] | properties
            for name, properties in self.of_type("AWS::Serverless::Function").items()
        }

    @property
    def queues(self) -> dict[str, dict[str, Any]]:
        return self.of_type("AWS::SQS::Queue")

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """State machines by the file name of their definition."""
        found = self.of_type("AWS::Serverless::StateMachine")
        return {Path(machine["DefinitionUri"]).name: machine for machine in found.values()}

    def number(self, value: Any) -> int:
        """Return a number, or the default of the parameter that it names."""
        if isinstance(value, dict):
            value = self.document["Parameters"][value["Ref"]]["Default"]
        return int(value)


@cache
def template() -> Template:
    text = (ROOT / "template.yaml").read_text()
    return Template(yaml.load(text, Loader=_Loader))  # noqa: S506  (a safe loader's child)


_GROUP = re.compile(r"^  # ([A-Z][\w ]+): .+ -{3,}$", re.M)


@cache
def groups() -> dict[str, str]:
    """Return the text of each group of resources, by the first word of its comment."""
    text = (ROOT / "template.yaml").read_text().partition("\nResources:\n")[2]
    _, *parts = _GROUP.split(text)
    return {name: text.strip("\n") for name, text in batched(parts, 2, strict=True)}


def resources_of(context: str) -> dict[str, dict[str, Any]]:
    """Return the resources in the group of a context, by name."""
    names = re.findall(r"^  (\w+):$", groups()[context.capitalize()], re.M)
    return {name: template().document["Resources"][name] for name in names}


def target(reference: Any) -> str:
    """Return the resource that `!Ref` or `!GetAtt` names."""
    name: str = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
    return name


def definitions() -> dict[str, dict[str, Any]]:
    """Return every state machine's definition by the name of its file."""
    files = sorted((ROOT / "statemachines").glob("*.asl.json"))
    return {file.name: json.loads(file.read_text()) for file in files}


def scopes(definition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a definition and all definitions nested in its parallel branches and maps."""
    yield definition
    for state in definition["States"].values():
        nested = [*state.get("Branches", ())]
        nested += [state[key] for key in ("ItemProcessor", "Iterator") if key in state]
        for inner in nested:
            yield from scopes(inner)


def states(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all states by name, including nested ones."""
    return {name: state for scope in scopes(definition) for name, state in scope["States"].items()}
