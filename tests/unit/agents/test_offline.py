"""V-08: the offline expert answers in the shapes of a model, and always gives the same answer."""

from tests.unit.agents.test_verdict_review import CASE, FILES

from batches.agents.offline import CaseFacts, LogFacts, OfflineExpert
from batches.agents.shapes import Hit, LogReport, OpenQuestion, Verdict
from batches.agents.shares import MOST_SHARES, shares
from batches.analysis.diagnosis import diagnose
from batches.analysis.findings import KnowledgeSource
from skald.models import Question, ask_for

OPEN = OpenQuestion(file="v2.log", code="E99", words="the flux compensator is wobbling", count=12)
"""A question that no rule and no entry explains."""


def asked(facts: object) -> Question:
    return Question("expert", "", "", facts=facts)


def hit(subject: str, *, closeness: float = 0.3, question: OpenQuestion = OPEN) -> Hit:
    source = KnowledgeSource(title=f"About {subject}", kind="error_code", excerpt="")
    return Hit(question=question, subject=subject, closeness=closeness, source=source)


def second_look(*hits: Hit, question: OpenQuestion = OPEN) -> Verdict:
    facts = CaseFacts(diagnose(FILES, CASE.statistics), [question], hits)
    return ask_for(Verdict, asked(facts), OfflineExpert().answer)


def test_a_log_expert_reports_what_the_rules_see() -> None:
    report = ask_for(LogReport, asked(LogFacts(FILES)), OfflineExpert().answer)
    causes = {one.cause: (one.files, one.error_codes) for one in report.observations}
    assert causes["power"] == (["v1.log"], ["E2107"])
    assert "13 errors unexplained" in report.summary


def test_at_first_sight_the_rules_stand() -> None:
    facts = CaseFacts(diagnose(FILES, CASE.statistics))
    verdict = ask_for(Verdict, asked(facts), OfflineExpert().answer)
    assert (verdict.claims, verdict.doubts) == ([], [])


def test_a_cause_on_which_the_entries_agree_is_claimed() -> None:
    """V-08, V-09: the review explains what no rule did, and names its source."""
    (claim,) = second_look(hit("thermal"), hit("thermal"), hit("power")).claims
    assert (claim.cause, claim.files, claim.error_codes) == ("thermal", ["v2.log"], ["E99"])
    assert "About thermal" in claim.why


def test_a_guess_of_the_knowledge_base_is_no_claim() -> None:
    """V-08: it needs two entries of one subject, and the first must be near."""
    assert second_look().claims == []
    assert second_look(hit("thermal")).claims == []
    assert second_look(hit("thermal"), hit("power")).claims == []
    assert second_look(hit("thermal", closeness=0.1), hit("thermal")).claims == []
    assert second_look(hit(""), hit("")).claims == []


def test_people_hear_words_and_the_answer_is_an_object() -> None:
    heard: list[str] = []
    answer = OfflineExpert().answer(asked(LogFacts(FILES)), heard.append)
    assert heard
    assert answer.text.startswith(heard[0])
    assert answer == OfflineExpert().answer(asked(LogFacts(FILES)))


def test_experts_are_few_and_miss_no_file_with_trouble() -> None:
    """V-08: one expert per format, one for all rare formats; a format without trouble has none."""
    names = ["text", "candump", "asc", "blf", "trc", "ulog"]
    files = [
        FILES[0].model_copy(
            update={"features": one.model_copy(update={"format": name, "error_count": place})}
        )
        for place, name in enumerate(names)
        if (one := FILES[0].features) is not None
    ]
    shared = shares(files)
    assert len(shared) == MOST_SHARES
    assert list(shared) == ["ulog", "trc", "blf", "other"]
    assert sum(map(len, shared.values())) == len(files) - 1


def test_a_text_that_denies_a_trouble_is_no_trouble() -> None:
    """V-08: such a text may be near to the trouble that it denies."""
    for words in (
        "no faults in thermal control",
        "thermal protection armed",
        "0 errors of temperature",
    ):
        question = OPEN.model_copy(update={"words": words})
        hits = [hit("thermal", question=question)] * 2
        assert second_look(*hits, question=question).claims == []


def test_a_suspicion_is_doubted_where_all_its_words_are_nearer_to_another() -> None:
    """V-08, V-09: where the rules are not sure, the knowledge base gives a second opinion."""
    suspected = OPEN.model_copy(update={"file": "v3.log", "code": "ENOSPC", "suspect": "storage"})
    other = [hit("memory", question=suspected)] * 2
    verdict = second_look(*other, question=suspected)
    assert [(one.cause, one.files) for one in verdict.doubts] == [("storage", ["v3.log"])]
    assert [one.cause for one in verdict.claims] == ["memory"]
    same = [hit("storage", question=suspected)] * 2
    verdict = second_look(*same, question=suspected)
    assert (verdict.doubts, verdict.claims) == ([], [])


def test_a_line_seen_twice_is_no_finding() -> None:
    """V-08: two equal lines are no finding, whether they resemble a known trouble or not."""
    rare = OPEN.model_copy(update={"count": 2})
    assert second_look(*[hit("thermal", question=rare)] * 2, question=rare).claims == []
    suspected = rare.model_copy(update={"file": "v3.log", "code": "ENOSPC", "suspect": "storage"})
    assert [one.cause for one in second_look(question=suspected).doubts] == ["storage"]
    often = suspected.model_copy(update={"count": 3})
    assert second_look(question=often).doubts == []
