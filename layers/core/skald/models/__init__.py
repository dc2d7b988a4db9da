"""Models behind one small interface, and the desk that limits their calls (V-13)."""

from skald.models.choice import Choice, chosen_model
from skald.models.desk import Desk
from skald.models.interface import (
    Answer,
    Model,
    ModelBusy,
    ModelRefused,
    ModelUnreachable,
    Question,
)
from skald.models.structured import Unusable, ask_for

__all__ = [
    "Answer",
    "Choice",
    "Desk",
    "Model",
    "ModelBusy",
    "ModelRefused",
    "ModelUnreachable",
    "Question",
    "Unusable",
    "ask_for",
    "chosen_model",
]
