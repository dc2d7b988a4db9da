"""The description of the notes context for the kernel."""

from skald.context import Context, SagaKind

CONTEXT = Context(
    name="notes",
    apis={"notes": "notes.api:api"},
    sagas={
        "note_count": SagaKind(recovery="notes.steps:give_up", ending="notes.repository:resolved")
    },
    routes={"note.closed": "work"},
)
