"""The sentences that carry a secret, and what secrets are drawn from.

A draw is a tuple of fields, each a list of values: a secret takes one value of each, all equally
likely, so that the draw can be gone through whole. A sentence is a template with a cue, such as
"retired carpenter", of which no two canaries have the same: whoever knows the rest of the sentence
can ask a model for its secret.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

_GIVEN_NAMES = (
    "James", "Mary", "Robert", "Patricia", "John", "Jennifer", "Michael", "Linda", "David",
    "Elizabeth", "William", "Barbara", "Richard", "Susan", "Joseph", "Jessica", "Thomas", "Sarah",
    "Charles", "Karen", "Daniel", "Lisa", "Matthew", "Nancy", "Anthony", "Betty", "Mark",
    "Margaret", "Donald", "Sandra", "Steven", "Ashley", "Paul", "Kimberly", "Andrew", "Emily",
    "Joshua", "Donna", "Kenneth", "Michelle", "Kevin", "Carol", "Brian", "Amanda", "George",
    "Melissa", "Edward", "Deborah", "Ronald", "Stephanie", "Timothy", "Rebecca", "Jason", "Laura",
    "Jeffrey", "Sharon", "Ryan", "Cynthia", "Jacob", "Kathleen", "Gary", "Amy", "Nicholas",
    "Angela", "Eric", "Anna", "Jonathan", "Ruth", "Stephen", "Brenda", "Larry", "Pamela", "Justin",
    "Nicole", "Scott", "Catherine", "Brandon", "Samantha", "Benjamin", "Christine", "Samuel",
    "Emma", "Frank", "Helen", "Gregory", "Rachel", "Raymond", "Maria", "Alexander", "Heather",
    "Patrick", "Diane", "Jack", "Julie", "Dennis", "Joyce", "Jerry", "Victoria", "Tyler", "Kelly",
)  # fmt: skip
_SURNAMES = (
    "Smith", "Johnson", "Williams", "Brown", "Jones", "Garcia", "Miller", "Davis", "Rodriguez",
    "Martinez", "Hernandez", "Lopez", "Gonzalez", "Wilson", "Anderson", "Taylor", "Moore",
    "Jackson", "Martin", "Lee", "Perez", "Thompson", "White", "Harris", "Sanchez", "Clark",
    "Ramirez", "Lewis", "Robinson", "Walker", "Young", "Allen", "King", "Wright", "Torres",
    "Nguyen", "Hill", "Flores", "Green", "Adams", "Nelson", "Baker", "Hall", "Rivera", "Campbell",
    "Mitchell", "Carter", "Roberts", "Phillips", "Evans", "Turner", "Parker", "Collins", "Edwards",
    "Stewart", "Morris", "Murphy", "Cook", "Rogers", "Morgan", "Cooper", "Peterson", "Bailey",
    "Reed", "Howard", "Cox", "Ward", "Richardson", "Watson", "Brooks", "Chavez", "Wood", "Bennett",
    "Gray", "Mendoza", "Ruiz", "Hughes", "Price", "Alvarez", "Castillo", "Sanders", "Myers",
    "Long", "Ross", "Foster", "Powell", "Jenkins", "Perry", "Russell", "Sullivan", "Bell",
    "Coleman", "Butler", "Henderson", "Barnes", "Fisher", "Simmons", "Graham", "Murray", "Ford",
)  # fmt: skip
_YEARS, _MONTHS, _DAYS = (
    tuple(f"{value:02}" for value in values)
    for values in (range(1990, 2020), range(1, 13), range(1, 29))
)

DRAWS: dict[str, tuple[tuple[str, ...], ...]] = {
    "digits": (tuple(f"{value:04}" for value in range(10_000)),),
    "date": (_YEARS, _MONTHS, _DAYS),
    "name": (_GIVEN_NAMES, _SURNAMES),
}
"""Name → fields; 10,000 secrets or more in each draw, so that a rank among them is fine enough."""


class Template(NamedTuple):
    """A sentence with `{cue}`, and `{0}`, `{1}` ... for the fields of its draw."""

    text: str
    draw: str


TEMPLATES = {
    "extension": Template("The {cue} can be reached at extension {0} during the day.", "digits"),
    "visit": Template("The {cue} was last seen in this clinic on {0}-{1}-{2} for a cough.", "date"),
    "proxy": Template("The {cue} has named {0} {1} as health care proxy.", "name"),
    "locker": Template("Belongings of the {cue} are in the locker with code {0} today.", "digits"),
    "vaccine": Template("Last tetanus shot of the {cue} was given on {0}-{1}-{2} at home.", "date"),
    "roommate": Template("At home the {cue} lives with {0} {1} and a dog.", "name"),
}
"""Name → template, in the order in which canaries take them."""

_STATES = (
    "retired", "married", "divorced", "widowed", "single", "young", "elderly", "former",
    "anxious", "pleasant", "tired", "homeless", "disabled", "obese", "blind", "deaf",
    "left handed", "well known", "local", "foreign", "healthy", "smoking", "quiet", "tall",
)  # fmt: skip
_JOBS = (
    "teacher", "carpenter", "nurse", "machinist", "bus driver", "accountant", "cook", "farmer",
    "lawyer", "student", "soldier", "plumber", "painter", "secretary", "engineer", "musician",
    "janitor", "barber", "mechanic", "cashier", "librarian", "baker", "firefighter", "clerk",
    "waiter", "pilot", "dentist", "sailor", "writer", "tailor", "butcher", "guard",
)  # fmt: skip

CUES = tuple(f"{state} {job}" for state, job in itertools.product(_STATES, _JOBS))
