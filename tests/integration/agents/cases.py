"""Cases to diagnose, and the answers of a model to them."""

from uuid import UUID, uuid4

from tests.integration.model_endpoint import Reply
from tests.unit.analysis.samples import parsed

from batches.agents import Case
from batches.analysis.statistics import ParsedFile, gather_statistics

REPORT = """Something wobbles. {"summary": "Something wobbles.", "observations": [
    {"cause": "other", "files": ["v1.log"], "error_codes": ["E1"], "why": "it says so"}]}"""
VERDICT = """It is the compensator. {"summary": "The compensator wobbles.", "claims": [
    {"cause": "compensator", "title": "Compensator wobbles", "why": "It wobbles.",
     "quotes": [{"file": "v1.log", "text": "flux compensator"}], "certainty": 0.6}]}"""


def case_of(tenant: UUID, *files: ParsedFile) -> Case:
    return Case(
        tenant_id=tenant,
        batch_id=uuid4(),
        files=[*files],
        statistics=gather_statistics(files),
    )


def strange_case(tenant: UUID) -> Case:
    """Two formats and a problem that no rule knows: the slow path."""
    quotes = {"E1": "the flux compensator is wobbling"}
    return case_of(
        tenant,
        parsed("v1.log", {"E1": 40, "E2": 3}, critical=quotes),
        parsed("v2.can", {"X9": 2}, format_name="candump"),
    )


def answer(prompt: str) -> Reply:
    """Answer as a model that finds the cause of the strange case."""
    return Reply(REPORT if prompt.startswith("Logs of") else VERDICT)
