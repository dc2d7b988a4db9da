"""What grading is to the rest of the system."""

from skald.context import Context

CONTEXT = Context(name="grading", apis={"grading": "grading.api:api"})
