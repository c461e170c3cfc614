"""What a run tells between outcomes, kept."""

from pathlib import Path


class Log:
    """Keeps what a run tells (run.outcome.Watch)."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.nodes: list[str] = []

    def started(self, source: Path, target: Path | None, node: str = "") -> None:
        self.told.append(("started", source.name))
        if node:
            self.nodes.append(node)

    def loading(self, what: str) -> None:
        self.told.append(("loading", what))

    def stepped(self, source: Path, done: int, total: int) -> None:
        self.told.append(("stepped", source.name, done, total))

    def advanced(self, source: Path, phase: str, done: int, total: int) -> None:
        """Keep nothing: it is told hundreds of times."""

    def note(self, text: str) -> None:
        self.told.append(("note", text))
