"""Code blocks of Markdown, and what each one's kind says about running it."""

import re
from dataclasses import dataclass
from pathlib import Path

KINDS = ("run", "slow", "parsed", "not run")
LANGUAGES = ("bash", "python")
_FENCE = re.compile(
    r"(?:^<!-- test: (?P<kind>[a-z ]+)(?:: (?P<reason>[^>]+?))? -->\n)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a shell or of Python.

    Attributes:
        place: file and number of its line.
        language: of :data:`LANGUAGES`.
        kind: of :data:`KINDS`, from the comment above it; empty without one.
        reason: why it is not run.
        code: its lines.
    """

    place: str
    language: str
    kind: str
    reason: str
    code: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line, comments and variables in front left out."""
        joined = re.sub(r"\\\n\s*", "", self.code)
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line) for line in lines if line]


def blocks_of(path: Path, root: Path) -> list[Block]:
    """Return the blocks of a Markdown file in their order; its name in messages starts at ``root``."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            place=f"{path.relative_to(root)}:{text[: match.start('code')].count(chr(10))}",
            language=match["language"],
            kind=match["kind"] or "",
            reason=match["reason"] or "",
            code=match["code"],
        )
        for match in _FENCE.finditer(text)
        if match["language"] in LANGUAGES
    ]
