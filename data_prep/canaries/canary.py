"""Canaries: how they are drawn, and the file that alone knows them."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.canaries.templates import CUES, DRAWS, TEMPLATES
from data_prep.common.atomic_files import atomic_write
from data_prep.common.errors import UsageError, UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.own_files import CANARIES_PROGRAM
from data_prep.common.settings_flags import setting

PROGRAM = CANARIES_PROGRAM
_ONLY_FOR_THE_OWNER = 0o600
_ADVICE = "give the file that plant_canaries or format_notes wrote"


@dataclass(frozen=True)
class CanarySettings:
    """What the canaries follow from; its fields are flags of their names."""

    num_canaries: int = setting(
        8, "Canaries for each repetition count, as many as controls.", minimum=1, maximum=1000
    )
    repetitions: str = setting(
        "0,1,4,16,64",
        "How often canaries are planted, comma-separated. 0, the controls, which are not planted, "
        "is among them in any case.",
    )
    secrets: str = setting(
        "digits,date,name",
        "Kinds of secrets, comma-separated. An audit takes longest for names, unless the "
        "vocabulary has them whole.",
    )
    random_seed: int = setting(12345, "The same seed gives the same canaries and places.")

    def templates(self) -> list[str]:
        """Returns the names of the templates that go with the kinds of secrets.

        Raises:
          UsageError: there is no such kind.
        """
        kinds = [kind.strip() for kind in self.secrets.split(",")]
        unknown = [kind for kind in kinds if kind not in DRAWS]
        if unknown:
            raise UsageError(
                f"--secrets names {unknown[0]!r}; expected of {', '.join(DRAWS)}, with commas "
                "between them"
            )
        return [name for name, template in TEMPLATES.items() if template.draw in kinds]

    def counts(self) -> list[int]:
        """Returns the repetition counts in ascending order, 0 first.

        Raises:
          UsageError: they are no whole numbers of 0 and more, or there is no other than 0.
        """
        parts = [part.strip() for part in self.repetitions.split(",")]
        if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
            raise UsageError(
                f"--repetitions is {self.repetitions!r}; expected whole numbers below a million "
                "with commas between them, such as 0,1,4,16,64"
            )
        counts = sorted({0, *map(int, parts)})
        if len(counts) == 1:
            raise UsageError(
                "--repetitions has no number above 0, so that nothing would be planted; expected "
                "such as 0,1,4,16,64"
            )
        if self.num_canaries * len(counts) > len(CUES):
            raise UsageError(
                f"--num_canaries={self.num_canaries} for each of {len(counts)} repetition counts "
                f"are more than the {len(CUES)} different sentences there are; give fewer"
            )
        return counts


@dataclass(frozen=True)
class Canary:
    """A sentence with a secret.

    Attributes:
      number: from 1; how reports call it.
      template: name of its template.
      sentence: with `{0}`, `{1}` ... where the secret's fields stand.
      draw: name of what the secret was drawn from.
      secret: a value for each field.
      repetitions: how often it was planted; 0 for a control.
    """

    number: int
    template: str
    sentence: str
    draw: str
    secret: tuple[str, ...]
    repetitions: int

    @property
    def text(self) -> str:
        """The sentence with its secret, as it is planted."""
        return self.sentence.format(*self.secret)


@dataclass(frozen=True)
class Canaries:
    """The canaries of a text.

    Attributes:
      settings: what they follow from.
      draws: name → fields, each a sequence of values.
      canaries: by number, the controls first.
    """

    settings: Mapping[str, Any]
    draws: Mapping[str, tuple[tuple[str, ...], ...]]
    canaries: tuple[Canary, ...]

    @property
    def name(self) -> str:
        """What these canaries are known again by; follows from their texts and tells none."""
        digest = hashlib.sha256()
        for canary in self.canaries:
            digest.update(f"{canary.repetitions}\0{canary.text}\0".encode())
        return digest.hexdigest()[:16]

    def counts(self) -> dict[str, int]:
        """Returns repetition count, as JSON has it, → canaries."""
        counts = Counter(canary.repetitions for canary in self.canaries)
        return {str(repetitions): counts[repetitions] for repetitions in sorted(counts)}


def draw_canaries(settings: CanarySettings) -> Canaries:
    """Returns new canaries; no two share a cue, or a secret of the same draw.

    Raises:
      UsageError: more are asked for than there can be.
    """
    counts, templates = settings.counts(), settings.templates()
    rng = random.Random(settings.random_seed)
    cues = rng.sample(CUES, len(counts) * settings.num_canaries)
    taken: dict[str, set[tuple[str, ...]]] = {name: set() for name in DRAWS}
    canaries: list[Canary] = []
    for repetitions in counts:
        # Each count goes through the templates in the same order, so that all have the same ones.
        for place in range(settings.num_canaries):
            name = templates[place % len(templates)]
            template = TEMPLATES[name]
            secret = _draw(template.draw, rng)
            while secret in taken[template.draw]:
                secret = _draw(template.draw, rng)
            taken[template.draw].add(secret)
            fields = len(DRAWS[template.draw])
            sentence = template.text.format(
                *(f"{{{field}}}" for field in range(fields)), cue=cues[len(canaries)]
            )
            canaries.append(
                Canary(len(canaries) + 1, name, sentence, template.draw, secret, repetitions)
            )
    used = {canary.draw: DRAWS[canary.draw] for canary in canaries}
    return Canaries(asdict(settings), used, tuple(canaries))


def _draw(name: str, rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.choice(values) for values in DRAWS[name])


def write_canaries(path: str | os.PathLike[str], canaries: Canaries) -> None:
    """Writes the file of the canaries, which nobody but its owner can read."""
    value = {
        "program": PROGRAM,
        "settings": dict(canaries.settings),
        "canaries": [
            {**asdict(canary), "is_control": not canary.repetitions, "text": canary.text}
            for canary in canaries.canaries
        ],
        "draws": canaries.draws,
    }
    # A file keeps the mode of the one that it replaces.
    if Path(path).is_file():
        Path(path).chmod(_ONLY_FOR_THE_OWNER)
    with atomic_write(path, "w") as stream:
        os.fchmod(stream.fileno(), _ONLY_FOR_THE_OWNER)
        json.dump(value, stream, indent=1)
        stream.write("\n")


def require_no_others(path: Path, canaries: Canaries) -> None:
    """Checks that a file may be written: no other canaries are lost with it.

    Raises:
      UserError: it holds others.
    """
    try:
        name = read_canaries(path).name if path.is_file() else canaries.name
    except UserError:
        # It holds none, or none that an audit could read.
        return
    if name != canaries.name:
        raise UserError(
            f"{path} holds other canaries, without which their text cannot be audited; move it "
            "away, or choose another name"
        )


def read_canaries(path: Path) -> Canaries:
    """Returns the canaries that `write_canaries` wrote.

    Raises:
      UserError: it is not such a file.
    """
    value = read_json_object(path, advice=_ADVICE)
    try:
        if value["program"] != PROGRAM:
            raise ValueError
        draws = {
            name: tuple(_strings(values) for values in fields)
            for name, fields in value["draws"].items()
        }
        canaries = tuple(_canary(entry, draws) for entry in value["canaries"])
        settings = value["settings"]
        if not canaries or not isinstance(settings, dict):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UserError(f"{path}: not a file of canaries, or damaged; {_ADVICE}") from None
    return Canaries(settings, draws, canaries)


def _canary(entry: Mapping[str, Any], draws: Mapping[str, Sequence[Sequence[str]]]) -> Canary:
    canary = Canary(
        number=entry["number"],
        template=entry["template"],
        sentence=entry["sentence"],
        draw=entry["draw"],
        secret=_strings(entry["secret"]),
        repetitions=entry["repetitions"],
    )
    fields = draws[canary.draw]
    numbers_are_whole = type(canary.number) is int and type(canary.repetitions) is int
    in_draw = len(canary.secret) == len(fields) and all(
        value in values for value, values in zip(canary.secret, fields, strict=True)
    )
    if not (numbers_are_whole and in_draw and canary.repetitions >= 0):
        raise ValueError
    if canary.text != entry["text"] or canary.text.count("\n"):
        raise ValueError
    return canary


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return tuple(values)
