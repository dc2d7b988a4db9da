"""The description of the batches context for the rest of the system."""

from skald.context import Context, SagaKind

CONTEXT = Context(
    name="batches",
    apis={"batches": "batches.api:api"},
    sagas={
        "batch_pipeline": SagaKind(
            recovery="batches.steps:compensate", ending="batches.failing:resolved"
        )
    },
    routes={
        "batch.uploaded": "pipeline",
        "batch.cancelled": "pipeline",
        "file.parse": "parse",
    },
)
