"""Registry of editors: for each category of error, the function that proposes it and a description.

Editors propose grammatical sentences, as far as their rules go. `verification` checks them against the note. A new
category needs a function in this package, a line here, and a row in `verification.FACT_TYPES` if its facts have another
type than the category's name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from negatives import details, management, names, people, polarity, qualifiers, times, values
from negatives.case import Candidate, Case

Editor = Callable[[Case, random.Random], Iterator[Candidate]]
EDITORS: dict[str, tuple[Editor, str]] = {
    "dose": (values.edit_dose, "ten times or a tenth of a dose"),
    "unit": (values.edit_unit, "another unit after the same number: mg for mcg, g for mg, L for mL"),
    "frequency": (values.edit_frequency, "another frequency or time of day for the same drug"),
    "route": (qualifiers.edit_route, "another way to give the same drug: intravenous for oral"),
    "entity_merge": (values.edit_entity_merge, "the dose or frequency of another drug of the same note"),
    "vital": (values.edit_vital, "a vital sign on the other side of its normal limit"),
    "lab": (values.edit_lab, "a laboratory value on the other side of its normal limit"),
    "direction": (qualifiers.edit_direction, "low for elevated, worse for improved, negative for positive"),
    "negation": (polarity.edit_negation, "a denied finding as present, or a present finding as denied, also in lists"),
    "laterality": (qualifiers.edit_laterality, "left for right, or right for left"),
    "drug": (names.edit_drug, "another drug of the same class that the note does not name"),
    "sound_alike": (names.edit_sound_alike, "a drug that looks or sounds alike: hydroxyzine for hydralazine"),
    "condition": (names.edit_condition, "another diagnosis of the same kind that the note does not name"),
    "symptom": (names.edit_symptom, "another symptom of the same kind that the note does not name"),
    "procedure": (names.edit_procedure, "another procedure or treatment of the same kind that the note does not name"),
    "management": (management.edit_management, "a test instead of a treatment, or a treatment instead of a test"),
    "organism": (names.edit_organism, "another organism of the same kind that the note does not name"),
    "duration": (times.edit_duration, "another length of time: weeks for days, 5 for 3"),
    "follow_up": (times.edit_follow_up, "another time to the next visit"),
    "date": (times.edit_date, "another year, month or day"),
    "order": (times.edit_order, "before for after, or after for before"),
    "age": (values.edit_age, "another age"),
    "count": (values.edit_count, "another count: packs, siblings, children, a score"),
    "sex": (people.edit_sex, "man for woman or woman for man, with matching pronouns"),
    "relative": (people.edit_relative, "a relative's condition given to another relative"),
    "subject": (people.edit_subject, "the patient's condition given to a relative, or a relative's to the patient"),
    "severity": (qualifiers.edit_severity, "mild for severe, acute for chronic, another stage"),
    "certainty": (qualifiers.edit_certainty, "a suspicion stated as a diagnosis, or a diagnosis as a suspicion"),
    "cause": (names.edit_cause, "another finding of the same note as the cause"),
    "status": (qualifiers.edit_status, "stopped for started, planned for done"),
    "allergy": (names.edit_allergy, "another allergy, or an allergy instead of no known allergies"),
    "fabricated_detail": (details.edit_fabricated_detail, "a statement taken from another note's factual summary"),
}
