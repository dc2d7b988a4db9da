"""The description of the knowledge context for the rest of the system."""

from skald.context import Context

CONTEXT = Context(name="knowledge", apis={"knowledge": "knowledge.api:api"})
