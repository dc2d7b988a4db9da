"""The description of the grading context for the rest of the system."""

from skald.context import Context

CONTEXT = Context(name="grading", apis={"grading": "grading.api:api"})
