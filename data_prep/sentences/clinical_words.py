"""The words by which the sentence rules tell whether a full stop ends a sentence.

All are in lower case and without the stop that follows them.
"""

from __future__ import annotations

# A name, a number or a clause always follows.
NEVER_LAST = frozenset(
    """dr drs mr mrs ms prof st mt rev sgt capt lt gen univ tel vs v cf e.g i.e eg ie viz
    approx incl esp var sp spp subsp sig vit cont incr decr inc'd dec'd addl equiv a.k.a s/p r/o
    c/o h/o w/ w/o sq alk elev""".split()
)
# A number may follow; otherwise they end a sentence if the next one begins with a capital.
BEFORE_NUMBERS = frozenset(
    """no nos fig figs ext ref vol pg pp gr grade stage appt apt rm ser im adm disch admit est
    fl phos pod hd temp tmax wt ht resp min max ave avg hct hgb hb plt wbc cr k na mg alb bili
    trop inr micro
    disp
    jan feb mar apr may jun jul aug sep sept oct nov dec""".split()
)
# They begin sentences or end them: nothing ends behind the first word of a sentence.
FIRST_OR_LAST = frozenset(
    """pt pts neg pos dept hosp ave min max est resp temp wt ht ext diff dx rx tx sx sz abd neuro
    mon tue tues wed thu thurs fri sat sun bilat cond compl palp eval rec recs req prev prob poss
    mod med meds hr bp rr amb approx admin adm disch d/c f/u consult cards
    cath tob lac lymph ptx cxs dsg drsg
    ant post lat sup inf prox dist chr mult occ freq reg bx cx bcx ucx dz fhx shx ft""".split()
)
# A Roman number may follow.
GRADED = frozenset("gr grade stage".split())
# Of doses, measures and names: they end a sentence if one plainly begins after them.
MAYBE_LAST = frozenset(
    """mg mcg ml cc kg gm g l dl oz lb lbs in cm mm tab tabs cap caps susp supp inj soln sol oint
    gtt gtts amp amps hr hrs min mins sec secs wk wks mo mos yr yrs qd bid tid qid qhs qam qpm prn
    po iv im sc sq sl pr etc al inc ltd co corp jr sr ave blvd rd phd md rn np pa do""".split()
)

# What they are of follows, a name or a place; else a word with which sentences begin.
OF_SOMETHING = frozenset("mass hx fx ca".split())
# Dotted words that end a sentence if one begins after them: no name and no dose follows.
DOTTED_LAST = frozenset("n.c r.a s.o.b a.m p.m e.d e.r o.r h.a c.p".split())
# With which no sentence of a text in capitals begins.
CONJUNCTIONS = frozenset("or and with of to for by from than per".split())

# Words with which sentences begin. After an initial or an upper-case abbreviation a capital may as
# well begin a name.
STARTERS = frozenset(
    """he she they we i it the this that these those there patient pt his her their our a an in on
    at after before during upon over per please no not denies denied reports reported will was when
    while with without given although however since if as for from all continue continued
    discharged follow plan one two both repeat see also then and but so your you who otherwise
    reviewed dictated signed discussed seen started admitted transferred call check recheck return
    family wife husband daughter son mother father brother sister parents pain rx
    labs now today yesterday currently condition incr decr cont start stop hold resume
    wean""".split()
)
# In a text in capitals, words with which little but a sentence begins.
STARTERS_IN_CAPITALS = frozenset(
    """he she they we it dr mr mrs ms the this these there patient pt his her please denies
    denied discharged continue continued follow plan repeat return call condition take no will
    otherwise""".split()
)
# A sloppy note begins sentences in lower case, with these more than with others.
LOWER_CASE_STARTERS = frozenset(
    """he she they we the patient pt pts denies no family wife husband daughter son will plan cont
    continue continues remains lungs abd abdomen foley sats sat hr bp rr resp neuro skin vss temp
    ls bs uop urine afebrile able awake alert currently repeat labs there this unable states stated
    reports turned suctioned medicated weaned slept ate voiding voided tolerating ambulated oob
    lytes pupils moves moving drsg dsg dtr c/o""".split()
)
# Whose age stands before `y.o.`, and what may stand between.
AGED = frozenset(
    """f m w b aaf aam wf wm bf bm female male woman man caucasian hispanic african african-american
    asian white black rh right-handed lh left-handed g gravida""".split()
)

# Who does what follows.
PATIENTS = frozenset("pt pts".split())
# Behind a number of months or years without `old`, as in `3 mo. F`.
PERSONS = frozenset("f m female male infant boy girl".split())

# Headers that clinicians write in lower case.
LOWER_CASE_HEADERS = frozenset(
    """a/p a&p abd abdomen access activity alcohol all allergies assessment assessment/plan back
    bp breast cards cardiac cardiovascular cc chest cns code constitutional course cv cvs cxr data
    derm diagnosis diet disp dispo disposition drugs dx ekg endo ent etoh exam ext extr extremities
    eyes family fen fh fhx fluids full gen general gi gi/gu gu gyn habits head heart heent heme hent
    hpi hr hx i/o id imaging imp impression interval labs lines lungs lymph meds medications mental
    micro ms msk musculoskeletal neck neuro neurologic nutrition o objective occupation onc p pain
    past pe physical plan pmh pmhx pmh/psh ppx prn prophylaxis psh pshx psych pulm pulmonary rec
    rectal recs ref renal resp respiratory ros rr s sh shx skin smoking social studies subjective
    surgeries t temp tele tobacco tubes tx vascular vitals vs wound wt""".split()
)
