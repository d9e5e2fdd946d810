"""The rules splitter: a table of clinical text with `¦` where a sentence ends."""

import random

import pytest

from data_prep.sentences.rules import RuleSplitter, split_by_rules
from data_prep.sentences.splitter import load_splitter
from tests.sentences.boundaries import agreement, marked_texts

CASES = r"""
The patient was admitted.¦ She did well.
No fever.¦ No chills.¦ No cough.
Afebrile overnight!¦ Continue to watch.
Any chest pain?¦ None today.
? pneumonia on the left.
?PNA vs CHF.¦ Started on lasix.
Was it syncope? perhaps vasovagal.
He was seen by Dr. Smith.¦ He went home.
Seen by Dr. [**Last Name (STitle) 1837**] of cardiology.¦ Stable.
Seen by Dr. ___ in clinic.¦ Stable.
Mr. Jones and Mrs. Jones came.¦ They left.
Ms. Diane Baker is a 28-year-old female.
Mr./Ms. [**Known lastname 6215**] is a 44 y/o male.¦ He is well.
Drs. Lee and Park agreed.¦ Surgery was planned.
Prof. Weber reviewed the films.
Transferred from St. Elsewhere Hospital.¦ On arrival stable.
She lives on Mt. Auburn Street.
J. Smith dictated this note.
Dictated by J. R. Smith.
Seen with A. Brown, RN.
Signed by John Q. Public.
Hepatitis C.¦ He was treated.
Grown was C. difficile in stool.¦ Flagyl was started.
E. coli grew in urine.¦ Ceftriaxone was given.
S. aureus bacteremia.
Vitamin B.¦ The level was low.
Temp. 98.6 on arrival.
Cr was 1.3.¦ It fell to 0.9.
Temperature was 98.6.¦ BP 120/80.
WBC of 12.4 with 90.5% polys.
Lactate 2.1, then 1.4.
INR was 2.¦ Coumadin was held.
Potassium was 3.¦ Repleted.
Ejection fraction 55%.¦ Mild MR.
Take one tab q.d. for ten days.
Aspirin 81 mg p.o. q.d.¦ Lasix 40 mg p.o. b.i.d.
Lasix 40 mg p.o. BID.
Metoprolol 25 mg p.o. b.i.d. PRN.
Lisinopril 5 mg p.o. DAILY.
Ativan 1 mg i.v. Q6H as needed.
Tylenol 650 mg p.r.n. pain.
Insulin s.c. q.i.d. per sliding scale.
Colace 100 mg b.i.d.¦ Senna one tab q.h.s.
Take at 5 a.m. and 5 p.m. daily.
He wakes at 5 a.m.¦ The pain is worse then.
Seen at 10:30 a.m. today.
Arrived 14:05.¦ Intubated 14:20.
At 05:29AM BLOOD was drawn.
Discharged at 3 p.m.¦ Family was present.
Give 5 mg. then 10 mg later.
Given 5 mg.¦ Patient tolerated it.
Heparin 5000 units sc. TID.
Wound is 3 cm. long.
Weighs 70 kg.¦ Height is 170 cm.
Stayed 2 hrs. in the PACU.
Symptoms for 3 wks. and counting.
Stable for 2 days.¦ Then fever.
History of e.g. asthma.
Antibiotics, i.e. vancomycin, were given.
CHF vs. pneumonia.
Pain, nausea, etc. were denied.
Pain, nausea, etc.¦ She denies fever.
Approx. 200 cc of fluid.
Est. blood loss 50 ml.
Resp. rate 18.
No. 10 blade was used.
See Fig. 2 of the report.
Seen on Jan. 5 in clinic.
Due on Sept. 12, 2020.
Follow up on Mon. morning.
Tel. 555-1234.
He is from the U.S. and works.
He lives in the U.S.¦ He works nights.
John Smith, M.D. was present.
Jane Doe, Ph.D. saw the patient.
Dictated by John Smith, M.D.¦ Please call.
Taken to the O.R. for repair.
I.V. fluids were given.
D.C. home tomorrow.
1. Aspirin 81 mg daily.
1. CHF: diuresed.¦ Weight fell.
2. ARF.¦ Resolved with fluids.
10. Gout flare.
1) Pneumonia.¦ 2) CHF.
a. Continue lasix.
A. Cardiac issues.
iv. Follow cultures.
#1. Hypertension.
#1. Hypertension.¦ Well controlled.
12. Acute renal failure.¦ Cr 3.9.
1. Penicillin¦ 2. Sulfa
1. Aspirin 81 mg.¦ 2. Lasix 40 mg.¦ 3. Colace.
The levels were: 1. low.
[**2168-2-8**] was the date.
On [**2168-2-8**], he was seen.
He was seen on [**2168-2-8**].¦ He did well.
Admitted to [**Hospital1 18**].¦ [**Known lastname 12**] was stable.
From [**Hospital3 415**] with sepsis.
Call [**First Name8 (NamePattern2) **] [**Last Name (NamePattern1) 5. Smith**] today.
Seen by [**Doctor. First Name 12**] today.¦ Stable.
Called [**Telephone/Fax (1) 1234**]. with questions.
At [**Hospital. Ward 5. East**] he fell.
PCP: [**Name10 (NameIs) **].¦ She will call.
___ was admitted to ___.¦ She did well.
Seen on ___.¦ ___ agreed.
Ms. ___ is a ___ year old woman.
He had d/c'd lasix.¦ pt then felt better.
Seen and examined.¦ he was well.
Denies cp.¦ denies sob.
pain c/w angina.¦ EKG was normal.
Pt. was found to have edema.¦ Pt. was diuresed.
pt. seen and examined.
80 yo F p/w SOB.¦ Denies CP/N/V.
52 y/o male with h/o CHF.¦ Admitted for dyspnea.
s/p CABG x3.¦ Doing well.
HCT 30.¦ Transfused 2 units.
Plt Ct-888.¦ INR(PT)-1.1.
WBC-8.8 RBC-8.88* Hgb-88.8* Hct-88.8*
PERRL, EOMI, MMM.¦ Neck supple.
RRR, nl s1/s2, no m/r/g.¦ Lungs clear.
T 98.6 BP 120/80 HR 70 RR 16 O2 sat 99% on RA.
Abd: soft, NT/ND.¦ Ext: no c/c/e.
A&Ox3.¦ CN II-XII intact.
2+ pulses.¦ No edema.
Strength 5/5.¦ Sensation intact.
Grade II/VI murmur.¦ No rub.
Worse with exertion (e.g. stairs).¦ Better with rest.
He felt well (see below).¦ He left.
He said "I am fine."¦ He left.
She said, "No pain."
He was "not himself.”¦ He slept.
Fell (no LOC.)¦ CT was negative.
Unclear...¦ Will follow.
Pain ... then none.
Stable.... no change.
Allergies: NKDA.¦ Diet: regular.
The pH was 7.35.¦ The pCO2 was 40.
O2 at 2 L.¦ Sats 95%.
Type 2. diabetes
Dose: 0.5 mg.¦ Next dose 1.0 mg.
No acute distress.¦ 3 cm mass in the right breast.
Return to ED.¦ [**Hospital 5**] is near.
Ca. of the lung was known.
Sig. One tablet daily.
Seen in Gen. Surgery clinic.
Pos. for MRSA.
Neg. for influenza.
One tab. was given.
Take with food.¦ Avoid NSAIDs.
CXR on admission.¦ CT of the head.
A.k.a. sarcoid.
To Dept. of Medicine.
The drain (No. 2) was pulled.
Bilateral PEs.¦ IVC filter placed.
CABG in '05.¦ PCI in '08.
Hx of DM2.¦ On metformin.
Tob: 17 pack-years.¦ EtOH: none.
On 2L NC.¦ Lungs clear.
Started Vanc/Zosyn.¦ Cultures pending.
Ambulating.¦ Tolerating diet.¦ Voiding.
"""

LINES = [
    # Wrapped prose goes on; a stop at a line end still ends a sentence.
    ("Mr. A is a man with heart failure, who presents from home\nwith dyspnea.¦\nHe was admitted."),
    ("Her pneumonia was thought to be secondary to medication\nnon-compliance; she did well."),
    ("Cultures were negative and vancomycin was discontinued on\n[**2113-10-17**].¦ he left."),
    ("The patient was seen by Dr.\n[**Last Name (STitle) 1837**] of cardiology."),
    ("He was transferred from the outside hospital to the care of Dr.\nSmith in cardiology."),
    ("seen and treated for\nBlood pressure of 200."),
    ("treated with vancomycin,\nZosyn and flagyl"),
    ("history of\nCHF"),
    # Lists.
    ("1. CHF¦\n2. ARF¦\n3. DM2"),
    (" 1.HTN¦\n 2.DM2¦\n 12.Gout"),
    ("1) one tablet¦\n2) two tablets"),
    ("- lasix¦\n- aspirin¦\n- colace"),
    ("-- Hyperlipidemia¦\n-- lactose intolerance"),
    ("* no fever¦\n* no cough"),
    ("• Respiratory: clear¦\n• Neurological: intact"),
    ("# CHF: stable on lasix¦\n# DM2: sliding scale"),
    ("1. Upper GI bleed with a drop of the hematocrit from 30 to\n22 over a day¦\n2. Cellulitis"),
    # Short lines.
    ("Haloperidol 325 mg PO DAILY¦\nPrednisone 100 mg PO DAILY¦\nDocusate 100 mg PO BID"),
    ("Penicillin¦\nCodeine"),
    ("Discharge Condition:¦\nStable"),
    ("please note the following:¦\nno driving"),
    # Titled lines.
    ("General: NAD, AAOx1¦\nHEENT: PERRL, EOMI, MMM¦\nCV: RRR, no murmurs¦\nExt: no edema"),
    ("Vitals - T 98.6 BP 120/80 HR 80 RR 18 96% on 2 L nasal cannula¦\nNeck - supple"),
    # Laboratory lines.
    (
        "[**2111-5-5**] 05:29AM BLOOD HCO3-127.7* Hgb-73.5* Glucose-196.1¦\n"
        "[**2143-4-26**] 05:30AM BLOOD AST-165.8* Na-100.5"
    ),
    (
        "___ 04:54AM BLOOD WBC-8.8 RBC-8.88* Hgb-88.8* Hct-88.8*\nMCV-88 MCH-88.8 Plt Ct-888¦\n"
        "___ 03:33AM BLOOD WBC-8.8"
    ),
    ("05:30 AM BLOOD WBC-8.8 RBC-8.88 Hgb-88.8 Hct-88.8 Plt Ct-8¦\n06:30 AM BLOOD WBC-9.1"),
    # Blank lines and white space.
    ("no stop here¦\n\nnor here¦\n \nend"),
    ("One.¦   Two.¦\tThree."),
    ("One.¦\r\nTwo."),
    ("A span [**Hospital1 5. Ward\n1**] stays.¦ Next."),
]  # fmt: skip

TABLE = [line for line in CASES.splitlines() if line] + LINES


def _expected(case: str) -> list[str]:
    return [part.strip().replace("\r\n", "\n") for part in case.split("¦")]


def test_table_is_of_the_size_that_was_asked_for() -> None:
    assert len(set(TABLE)) == len(TABLE) >= 150


@pytest.mark.parametrize("case", TABLE)
def test_case(case: str) -> None:
    assert split_by_rules(case.replace("¦", "")) == _expected(case)


def test_boundaries_set_by_hand() -> None:
    assert sum(text.count("¦") for text in marked_texts()) >= 1300
    found = agreement(load_splitter("rules", ""))
    # What is left are titles with several lines behind them, which the section rules cut off, and
    # `po.` before a lower-case word, where it ends a sentence as often as not.
    assert found.precision >= 0.997, found.extra
    assert found.recall >= 0.998, found.missed


def test_nothing_but_white_space_is_lost() -> None:
    rng = random.Random(13)
    pieces = [
        *" .?!\n:;()\"'-",
        "\n\n",
        "1. ",
        "Dr.",
        "q.d.",
        "[**",
        "**]",
        "___",
        "Word",
        "word",
        "3.5",
    ]
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(60)))
        sentences = split_by_rules(text)
        assert "".join("".join(sentences).split()) == "".join(text.split())
        assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_deidentified_spans_are_never_cut() -> None:
    rng = random.Random(7)
    insides = ["2168-2-8", "Last Name. Jr. 5", "Hospital 1. A. B", "Name! (x) Y. Z"]
    for _ in range(500):
        words = [
            rng.choice(["seen", "Seen.", "at", f"[**{rng.choice(insides)}**].", "He"])
            for _ in range(20)
        ]
        for sentence in split_by_rules(" ".join(words)):
            assert sentence.count("[**") == sentence.count("**]")


def test_splitter_writes_one_line_a_sentence() -> None:
    splitter = load_splitter("rules", spacy_model="not needed")
    assert isinstance(splitter, RuleSplitter)
    assert splitter.description == {"sentence_splitter": "rules"}
    sections = ["seen by a physician of the service\nof cardiology.  Well.", " \n ", "", "Plan:"]
    assert splitter.split(sections) == [
        ["seen by a physician of the service of cardiology.", "Well."],
        [],
        [],
        ["Plan:"],
    ]


def test_time_is_linear() -> None:
    # A quadratic rule would take hours over these.
    for unit in ("a", ". ", "1. x\n", "[**", "(", "\n", "Dr. ", "word "):
        split_by_rules(unit * 100_000)
