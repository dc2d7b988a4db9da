"""A watcher that records its calls."""

from dataclasses import dataclass, field


@dataclass
class Listener:
    """The calls in their order: `("said", node, text)` and so on."""

    heard: list[tuple[str, str, str]] = field(default_factory=list)

    def entered(self, node: str) -> None:
        self.heard.append(("entered", node, ""))

    def said(self, node: str, text: str) -> None:
        self.heard.append(("said", node, text))

    def finished(self, node: str, summary: str) -> None:
        self.heard.append(("finished", node, summary))

    def nodes(self, moment: str) -> list[str]:
        return [node for what, node, _ in self.heard if what == moment]
