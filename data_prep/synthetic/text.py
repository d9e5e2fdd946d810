"""What the synthetic notes say: one function for each kind of note."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from data_prep.synthetic.conditions import CONDITIONS, Condition

_LINE_WIDTH = 78
_NUMBER = re.compile(r"\{([nd]):([\d.]+)-([\d.]+)\}")
_SERVICES = ("MEDICINE", "SURGERY", "NEUROLOGY", "CARDIOTHORACIC", "OMED", "MICU", "ORTHOPAEDICS")
_ALLERGIES = (
    "No Known Allergies / Adverse Drug Reactions", "Penicillins", "Codeine", "Sulfa (Sulfonamides)",
    "Penicillins / Sulfa (Sulfonamides)", "Aspirin\nIodine Containing Agents", "Morphine\nPercocet",
)  # fmt: skip
_ROUTINES = ("PO DAILY", "PO BID", "PO TID", "PO QHS", "PO Q6H as needed for pain", "IV Q12H")
_HOMES = ("his wife", "her husband", "daughter", "a roommate", "no one", "her sister", "his son")
_JOBS = ("teacher", "carpenter", "nurse", "machinist", "bus driver", "accountant", "cook", "farmer")
_RELATIVES = ("Father", "Mother", "Brother", "Sister", "Maternal grandmother")
_LABS = (
    ("WBC", 3, 20), ("RBC", 2, 6), ("Hgb", 7, 16), ("Hct", 21, 48), ("MCV", 76, 104),
    ("Plt Ct", 60, 480), ("Glucose", 70, 310), ("UreaN", 7, 80), ("Creat", 1, 6), ("Na", 124, 150),
    ("K", 3, 6), ("Cl", 92, 116), ("HCO3", 16, 34), ("ALT", 10, 300), ("AST", 10, 320),
)  # fmt: skip
_NORMAL_FINDINGS = (
    "HEENT: PERRL, EOMI, MMM", "Neck: supple, no LAD", "Abd: soft, NT/ND, +BS",
    "Ext: warm and well perfused, no c/c/e", "Neuro: AAOx3, CN II-XII intact", "Skin: no rashes",
    "Lungs: CTAB, no w/r/r", "CV: RRR, nl S1/S2, no m/r/g",
)  # fmt: skip


class Writer:
    """Draws words for one patient after the other from one stream of random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random

    def below(self, limit: int) -> int:
        """Returns a whole number from zero to `limit` - 1."""
        return int(self._random() * limit)

    def between(self, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`."""
        return low + self.below(high - low + 1)

    def one_of(self, alternatives: Sequence[str]) -> str:
        """Returns one of the alternatives."""
        return alternatives[self.below(len(alternatives))]

    def chance(self, probability: float) -> bool:
        """Returns True with this probability."""
        return self._random() < probability

    def sample(self, conditions: Sequence[Condition], count: int) -> list[Condition]:
        """Returns that many different conditions."""
        return self._rng.sample(conditions, count)

    def filled(self, alternatives: Sequence[str]) -> str:
        """Returns one of the alternatives with its `{n:low-high}` replaced by numbers."""
        phrase = self.one_of(alternatives)
        return _NUMBER.sub(self._number, phrase) if "{" in phrase else phrase

    def _number(self, match: re.Match[str]) -> str:
        kind, low, high = match.groups()
        if kind == "n":
            return str(self.between(int(low), int(high)))
        return f"{float(low) + self._random() * (float(high) - float(low)):.1f}"

    def date(self) -> str:
        """Returns a de-identified date."""
        return f"[**{self.between(2101, 2199)}-{self.between(1, 12)}-{self.between(1, 28)}**]"

    def doctor(self) -> str:
        """Returns a de-identified doctor."""
        return f"Dr. [**Last Name (STitle) {self.between(100, 9999)}**]"

    def hospital(self) -> str:
        """Returns a de-identified hospital."""
        return f"[**Hospital{self.between(1, 6)} {self.between(10, 999)}**]"


class Patient:
    """What stays the same in a patient's notes."""

    def __init__(self, writer: Writer, subject_id: int) -> None:
        self.subject_id = subject_id
        self.hadm_id = 100_000 + subject_id
        self.male = writer.chance(0.5)
        self.age = writer.between(19, 94)
        self.conditions = writer.sample(CONDITIONS, writer.between(2, 5))
        self.allergies = writer.one_of(_ALLERGIES)
        self.year = writer.between(2101, 2199)
        self.last_summary = ""

    @property
    def he(self) -> str:
        """The pronoun."""
        return "he" if self.male else "she"

    @property
    def his(self) -> str:
        """The possessive."""
        return "his" if self.male else "her"


def discharge_summary(writer: Writer, patient: Patient) -> str:
    """Returns a discharge summary, and keeps it as the patient's last one."""
    main = patient.conditions[0]
    he, his = patient.he, patient.his
    sex = "M" if patient.male else "F"
    person = "male" if patient.male else "female"
    chief = main.symptoms[0][0].upper() + main.symptoms[0][1:]
    parts = [
        f"Admission Date:  {writer.date()}              Discharge Date:   {writer.date()}",
        f"Date of Birth:  {writer.date()}             Sex:   {sex}",
        f"Service: {writer.one_of(_SERVICES)}",
        f"Allergies:\n{patient.allergies}",
        f"Attending:[**First Name3 (LF) {writer.between(10, 9999)}**]",
        f"Chief Complaint:\n{chief}",
        "Major Surgical or Invasive Procedure:\n"
        + writer.one_of(("None", "Central line placement", "Intubation", "Bronchoscopy")),
    ]
    history = [
        f"{'Mr.' if patient.male else 'Ms.'} [**Known lastname {patient.subject_id}**] is a "
        f"{patient.age} y/o {person} with h/o "
        f"{' and '.join(c.names[0] for c in patient.conditions[1:3])} who presents from "
        f"{writer.hospital()} with {writer.one_of(main.symptoms)}.",
        *(_history_sentence(writer, patient, condition) for condition in patient.conditions),
        f"In the ED, initial vitals were {_vitals(writer)}.",
        f"On exam {he} was found to have {writer.one_of(main.findings)}.",
    ]
    parts.append("History of Present Illness:\n" + _wrapped(history))
    parts.append("Past Medical History:\n" + _numbered([c.names[0] for c in patient.conditions]))
    parts.append(
        f"Social History:\nLives with {writer.one_of(_HOMES)}. Works as a {writer.one_of(_JOBS)}. "
        f"Tob: {writer.between(0, 80)} pack-years. EtOH: {writer.one_of(('none', 'social'))}."
    )
    relative, disease = writer.one_of(_RELATIVES), writer.one_of(CONDITIONS[writer.below(26)].names)
    parts.append(f"Family History:\n{relative} with {disease} at {writer.between(40, 90)}.")
    parts.append(_examination(writer, patient))
    parts.append("Pertinent Results:\n" + "\n".join(_lab_line(writer) for _ in range(4)))
    course = [_hospital_course(writer, patient, condition) for condition in patient.conditions]
    parts.append("Brief Hospital Course:\n" + "\n\n".join(course))
    medications = [_medication(writer, c) for c in patient.conditions for _ in range(2)]
    parts.append("Medications on Admission:\n" + "\n".join(medications[::2]))
    parts.append("Discharge Medications:\n" + _numbered(medications))
    parts.append(
        "Discharge Disposition:\n"
        + writer.one_of(("Home", "Home With Service", "Extended Care", "Expired"))
        + f"\n\nFacility:\n{writer.hospital()}"
    )
    parts.append(f"Discharge Diagnosis:\n{main.names[-1]}")
    parts.append("Discharge Condition:\n" + writer.one_of(("Stable", "Good", "Fair", "Improved")))
    parts.append("Discharge Instructions:\n" + _instructions(writer, patient))
    parts.append(
        f"Followup Instructions:\nPlease follow up with {writer.doctor()} in "
        f"{writer.between(1, 8)} weeks. Call [**Telephone/Fax (1) {writer.between(1000, 9999)}**] "
        f"with questions about {his} medications."
    )
    parts.append(f"Completed by:{writer.date()}")
    text = "\n\n".join(parts) + "\n"
    patient.last_summary = text
    return text


def _history_sentence(writer: Writer, patient: Patient, condition: Condition) -> str:
    he, his = patient.he, patient.his
    kind = writer.below(5)
    if kind == 0:
        return (
            f"{he.capitalize()} reported {writer.one_of(condition.symptoms)} for "
            f"{writer.between(2, 14)} days before admission."
        )
    if kind == 1:
        return (
            f"{his.capitalize()} {condition.names[0]} was last treated with "
            f"{_without_dose(writer.one_of(condition.drugs))} on {writer.date()}."
        )
    if kind == 2:
        return (
            f"{he.capitalize()} denied {writer.one_of(condition.symptoms)}, and "
            f"{writer.filled(condition.results)}."
        )
    if kind == 3:
        return f"At {writer.hospital()}, {writer.filled(condition.results)}."
    return (
        f"Of note, {he} was admitted on {writer.date()} for {writer.one_of(condition.names)} and "
        f"{writer.filled(condition.events)}."
    )


def _hospital_course(writer: Writer, patient: Patient, condition: Condition) -> str:
    he, his = patient.he, patient.his
    name = writer.one_of(condition.names)
    sentences = [f"# {name[0].upper() + name[1:]}:"]
    for _ in range(writer.between(3, 6)):
        kind = writer.below(7)
        if kind == 0:
            sentences.append(f"The patient was {writer.filled(condition.events)}.")
        elif kind == 1:
            sentences.append(f"On {writer.date()}, {writer.filled(condition.results)}.")
        elif kind == 2:
            sentences.append(
                f"{his.capitalize()} {writer.one_of(condition.symptoms)} improved on "
                f"{_without_dose(writer.one_of(condition.drugs))}."
            )
        elif kind == 3:
            sentences.append(
                f"Exam was notable for {writer.one_of(condition.findings)}, c/w {name}."
            )
        elif kind == 4:
            sentences.append(
                f"{he.capitalize()} was seen by {writer.doctor()}, who recommended "
                f"{writer.one_of(condition.drugs)}."
            )
        elif kind == 5:
            sentences.append(
                f"Pt. was {writer.filled(condition.events)} and tolerated this well without "
                f"further {writer.one_of(condition.symptoms)}."
            )
        else:
            sentences.append(
                f"{his.capitalize()} {name} was thought to be secondary to medication "
                f"non-compliance; {he} was {writer.filled(condition.events)}."
            )
    return _wrapped(sentences)


def _examination(writer: Writer, patient: Patient) -> str:
    lines = [f"Vitals: {_vitals(writer)}", "General: NAD, AAOx3"]
    lines += [f"Pertinent: {writer.one_of(condition.findings)}" for condition in patient.conditions]
    start = writer.below(5)
    return "Physical Exam:\n" + "\n".join([*lines, *_NORMAL_FINDINGS[start : start + 4]])


def nursing_note(writer: Writer, patient: Patient) -> str:
    """Returns a nursing note."""
    condition = patient.conditions[0]
    return _wrapped(
        [
            "NPN 7a-7p:",
            f"Pt. with {condition.names[0]}, {_vitals(writer)}.",
            f"C/o {writer.one_of(condition.symptoms)} x{writer.between(1, 3)} this shift.",
            f"Given {writer.one_of(condition.drugs)} with good effect.",
            f"Family in to visit, updated by {writer.doctor()}.",
            f"Plan: cont {_without_dose(writer.one_of(condition.drugs))}, monitor for "
            f"{writer.one_of(condition.symptoms)}.",
        ]
    )


def progress_note(writer: Writer, patient: Patient) -> str:
    """Returns a physician's progress note."""
    parts = ["Chief Complaint:\n" + patient.conditions[0].symptoms[-1]]
    events = _history_sentence(writer, patient, patient.conditions[0])
    parts.append("24 Hour Events:\n" + _wrapped([events, f"Vitals {_vitals(writer)}."]))
    parts.append(_examination(writer, patient))
    plans = [
        f"{condition.names[0]}: {writer.filled(condition.results)}. "
        f"Continue {writer.one_of(condition.drugs)}."
        for condition in patient.conditions
    ]
    parts.append("Assessment and Plan:\n" + _numbered(plans))
    return "\n\n".join(parts) + "\n"


def radiology_report(writer: Writer, patient: Patient) -> str:
    """Returns a radiology report."""
    condition = patient.conditions[0]
    rule = "_" * 60
    return (
        f"{writer.date()} {writer.between(1, 12)}:{writer.below(60):02} AM\n"
        f" CHEST (PORTABLE AP)\n{rule}\n REASON FOR THIS EXAMINATION:\n"
        f"  {patient.age} year old with {condition.names[0]} and {condition.symptoms[0]}\n{rule}\n"
        f"                                 FINAL REPORT\n INDICATION:  {condition.symptoms[0]}.\n\n"
        f" FINDINGS:  {_wrapped([writer.filled(condition.results) + '.', _impression(writer)])}\n\n"
        f" IMPRESSION:  Findings consistent with {writer.one_of(condition.names)}.\n"
    )


def _impression(writer: Writer) -> str:
    return writer.one_of(
        (
            "The heart size is within normal limits.",
            "There is no pneumothorax or pleural effusion.",
            "The mediastinal contours are unchanged.",
            "Lines and tubes are in standard position.",
        )
    )


def addendum(writer: Writer, patient: Patient) -> str:
    """Returns an addendum to the last discharge summary."""
    condition = patient.conditions[0]
    return (
        f"Name:  [**Known lastname {patient.subject_id}**]\n\nAddendum:\n"
        + _wrapped(
            [
                f"After discharge {writer.filled(condition.results)}.",
                f"{writer.doctor()} was informed and {writer.one_of(condition.drugs)} was added.",
            ]
        )
        + "\n"
    )


def copied_forward(writer: Writer, patient: Patient) -> str:
    """Returns the last summary with another date and a paragraph more: the plague of archives."""
    added = _hospital_course(writer, patient, patient.conditions[-1])
    head, mark, tail = patient.last_summary.partition("Medications on Admission:")
    return f"{head}{added}\n\n{mark}{tail}Dictated by:{writer.date()}\n"


def _instructions(writer: Writer, patient: Patient) -> str:
    symptoms = [writer.one_of(condition.symptoms) for condition in patient.conditions]
    return _wrapped(
        [
            f"You were admitted with {symptoms[0]}.",
            f"Please return to the ED if you have {', '.join(symptoms)}, or any other symptom "
            "that concerns you.",
            "Weigh yourself every morning, [**Name8 (MD) 138**] MD if weight goes up more than "
            "3 lbs.",
            "Take all of your medications as prescribed.",
        ]
    )


def _medication(writer: Writer, condition: Condition) -> str:
    drug = writer.one_of(condition.drugs)
    return f"{drug[0].upper()}{drug[1:]} {writer.one_of(_ROUTINES)}"


def _without_dose(drug: str) -> str:
    return drug.rstrip(" 0123456789.").rpartition(" ")[0].rstrip(" 0123456789.") or drug


def _vitals(writer: Writer) -> str:
    return (
        f"T {writer.between(96, 102)}.{writer.below(10)} BP {writer.between(86, 190)}/"
        f"{writer.between(45, 105)} HR {writer.between(52, 130)} RR {writer.between(10, 30)} "
        f"O2 sat {writer.between(88, 100)}% on {writer.one_of(('RA', '2L NC', '4L NC'))}"
    )


def _lab_line(writer: Writer) -> str:
    start = writer.below(len(_LABS) - 5)
    values = " ".join(
        f"{name}-{writer.between(low, high)}.{writer.below(10)}{'*' if writer.chance(0.3) else ''}"
        for name, low, high in _LABS[start : start + 5]
    )
    time = f"{writer.between(1, 12):02}:{writer.below(60):02}{writer.one_of(('AM', 'PM'))}"
    return f"{writer.date()} {time} BLOOD {values}"


def _numbered(items: Sequence[str]) -> str:
    lines = (f"{i}. {item[0].upper()}{item[1:]}" for i, item in enumerate(items, start=1))
    return "\n".join(lines)


def _wrapped(sentences: Sequence[str]) -> str:
    """Returns the sentences as one paragraph in lines of at most `_LINE_WIDTH` characters."""
    lines = []
    line = ""
    for word in " ".join(sentences).split(" "):
        if line and len(line) + len(word) >= _LINE_WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])
