"""Which values of a column of categories are names of categories, and may be shown as such.

A column may hold anything: a wrong `--category_column`, or rows that a damaged file made up, put
words of notes there. So a value appears in messages, reports and file names only if it reads like
the name of a kind of note, or if many patients share it.
"""

from __future__ import annotations

import re

from data_prep.common.patients import Patients

OTHER_CATEGORIES = "other categories"
"""What the notes of all other values are counted and written under."""

MANY_NOTES = 500
"""From so many on, notes are taken for those of many patients where no column says whose they are.
"""

_LONGEST = 60
_MOST_WORDS = 8
_SHAPE = re.compile(r"[\w+(][\w /&+,;:().'-]*")
_WORDS = re.compile(r"[^\W\d_]+")

# What names of kinds of notes are made of in MIMIC-III and -IV, MTSamples, OMOP and LOINC.
_USUAL = """
abdomen abdominal acute addendum admission admit ae after allergies allergist allergy ambulance
ambulatory and anesthesia anesthesiology ar assessment audiology autopsy bariatrics before
biopsy blood bone brief cancer cardiac cardiology cardiothoracic cardiovascular care case
catheterization chart chemistry chest chiropractic clinic clinical colonoscopy communication
complaint completed conference consent consult consultation consults contact correspondence
cosmetic critical ct culture cytology daily death delivery dental dentistry dermatology diabetes
diagnosis diagnostic dialysis diet dietary dietetics dietician dietitian diets discharge disease
diseases dispense document documentation ds ecg echo echocardiogram echocardiography ed
education eeg ekg electrocardiogram emergency emg encounter endocrine endocrinology endoscopy
ent episode er evaluation event exam examination exercise external eye family fellow final
flowsheet follow followup for form from gastroenterology general genetics geriatric geriatrics
gi group gyn gynecology h handoff head health hematology history home hospice hospital icu
imaging ime immunization immunology in infection infectious initial inpatient instructions
intake intensive interim internal intervention interventional lab laboratory labs letter letters
lists management maternity medical medication medications medicine mental microbiology midwife
miscellaneous monitoring mri neonatal nephrology neuro neurology neuropsychology neurosurgery
note notes np nuclear nurse nursery nursing nutrition ob obstetrics occupational of office old
on oncology op operation operative ophthalmology or oral order orders orthopaedic orthopaedics
orthopedic orthopedics osteopathic other otolaryngology outpatient outside p pa pain palliative
pathology patient patients pediatric pediatrics perioperative pet pharmacist pharmacy phone
physical physician physiology plan plastic podiatry post postoperative pre prenatal preoperative
prescription primary procedure procedures progress psych psychiatric psychiatry psychology
psychotherapy pt pulmonary pulmonology qme questionnaire radiation radiology ray reason records
referral rehab rehabilitation report reports resident respiratory result results review
rheumatology round rounds rr scan school screening section service services shift sign signout
sleep soap social spec specialist specialty speech spiritual staff stress student study
summaries summary surgery surgical telephone test the therapist therapy thoracic to transfer
transplant trauma treatment triage ultrasound unknown up urgent urology vascular visit vital
vitals ward weekly with work worker wound x xray
"""
_USUAL_WORDS = frozenset(_USUAL.split())


def looks_like_name(value: str, rows: int, patients: Patients) -> bool:
    """Returns whether a value of the column is the name of a category.

    Args:
      value: stripped.
      rows: notes that have it.
      patients: those whose notes have it; none where no column says whose they are.
    """
    if not could_be_name(value):
        return False
    return (
        reads_like_name(value)
        or patients.are_many()
        or (patients.count() == 0 and rows >= MANY_NOTES)
    )


def could_be_name(value: str) -> bool:
    """Returns whether a value is as short and plain as a name is, and not our own for the rest."""
    return (
        len(value) <= _LONGEST
        and len(value.split()) <= _MOST_WORDS
        and _SHAPE.fullmatch(value) is not None
        and value.casefold() != OTHER_CATEGORIES
    )


def reads_like_name(value: str) -> bool:
    """Returns whether a value consists of words that names of kinds of notes are made of."""
    if any(character.isdigit() for character in value):
        return False
    words = _WORDS.findall(value.casefold())
    return bool(words) and all(word in _USUAL_WORDS for word in words)
