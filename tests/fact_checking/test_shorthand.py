"""Pairs of a true sentence and the same sentence with one error, about notes in clinicians' shorthand."""

from __future__ import annotations

import pytest

from fact_checking.checker import check_summary

LINES = [
    # smoking
    ("45M, non-smoker, no EtOH.", "He does not smoke.", "He smokes."),
    ("SH: nonsmoker. Works in IT.", "He has never smoked.", "He is a smoker."),
    ("Never smoker. Occasional wine.", "Non-smoker.", "Current smoker."),
    ("He smokes 10 cigarettes daily.", "He is a smoker.", "He is a non-smoker."),
    ("He smokes 10 cigarettes daily.", "Current smoker.", "Nonsmoker."),
    ("Lifelong non smoker.", "Never smoker.", "Former smoker."),
    # frequencies
    ("Rx amoxicillin 500 mg TDS.", "Amoxicillin 500 mg three times a day.", "Amoxicillin 500 mg twice a day."),
    ("Rx amoxicillin 500 mg TDS, paracetamol 1 g QDS.", "Paracetamol 1 g QID.", "Paracetamol 1 g TID."),
    ("Paracetamol 1 g qds.", "Paracetamol 1 g 4x/day.", "Paracetamol 1 g 3x/day."),
    ("Amoxicillin 500 TDS for 5 days.", "Amoxicillin 500 TID.", "Amoxicillin 500 BID."),
    ("Gabapentin TDS", "Gabapentin three times daily.", "Gabapentin twice daily."),
    ("Ibuprofen 400 mg 3x/day.", "Ibuprofen 400 mg TDS.", "Ibuprofen 400 mg QDS."),
    (
        "Paracetamol (1 g QDS) and ibuprofen (400 mg TDS).",
        "Ibuprofen 400 mg three times a day.",
        "Ibuprofen 400 mg four times a day.",
    ),
    # units
    ("Weight 82 kg (180 lb).", "Weight was 180 lb.", "Weight was 280 lb."),
    ("Birth weight 3200 g.", "Birth weight was 3.2 kg.", "Birth weight was 2.3 kg."),
    ("Weight 82 kg.", "Weight was 180 lb.", "Weight was 280 lb."),
    ("Wt 180 lb (82 kg).", "Weight was 82 kg.", "Weight was 92 kg."),
    ("HbA1c 7.2% (55 mmol/mol).", "HbA1c was 55 mmol/mol.", "HbA1c was 65 mmol/mol."),
    ("HbA1c 7.2% (55 mmol/mol).", "HbA1c was 7.2%.", "HbA1c was 8.2%."),
    ("HbA1c 7.2%.", "HbA1c was 55 mmol/mol.", "HbA1c was 75 mmol/mol."),
    ("Temp 101.3 F (38.5 C).", "Temperature was 38.5 C.", "Temperature was 39.5 C."),
    ("Temp 38.5 C (101.3 F).", "Temperature was 101.3 F.", "Temperature was 103.3 F."),
    ("Cr 1.2 mg/dL (106 umol/L).", "Creatinine was 106 umol/L.", "Creatinine was 206 umol/L."),
    ("Wt 82 kg -> 79 kg after diuresis.", "Weight fell to 79 kg.", "Weight fell to 72 kg."),
    ("Weight is 180 lbs.", "Weight was 81.6 kg.", "Weight was 180 kg."),
    # family history
    ("FH: DM, CAD. PMH: HTN.", "Family history of diabetes.", "Family history of colon cancer."),
    (
        "Family history: mother with breast cancer.",
        "There is a family history of breast cancer.",
        "There is a family history of ovarian cancer.",
    ),
    (
        "No family history of heart disease. PMH gout.",
        "No family history of heart disease.",
        "Family history of heart disease.",
    ),
    ("PMH asthma. FHx neg for colon ca.", "History of asthma.", "Family history of asthma."),
    ("PMH asthma. Father had MI at 50.", "Family history of myocardial infarction.", "Family history of stroke."),
    # goals
    ("INR 2-3 goal, today 1.8", "INR was 1.8.", "INR was 2.5."),
    ("INR goal 2-3, today 1.8", "INR was 1.8 today.", "INR was 2.8 today."),
    ("INR 1.8 (goal 2-3).", "INR was 1.8, with a goal of 2-3.", "INR was 2-3."),
    # British times
    ("Pain 3/12, worse last 4/7", "Pain for 3 months.", "Pain for 3 days."),
    ("Pain 3/12, worse last 4/7", "Pain worse over the last 4 days.", "Pain worse over the last 4 weeks."),
    ("Amoxicillin 500 mg tds 5/7.", "Amoxicillin for 5 days.", "Amoxicillin for 7 days."),
    ("Appt 3/12 at 10 am. Cough 2/52.", "Cough for 2 weeks.", "Cough for 3 months."),
    ("Cough 2/52. R/v 4/52.", "Cough for 2 weeks.", "Cough for 2 months."),
    ("6/12 hx of back pain.", "Back pain for 6 months.", "Back pain for 6 weeks."),
    # pack-years
    (
        "Smokes 1 ppd x 20y",
        "He has smoked one pack per day for 20 years.",
        "He has smoked one pack per day for 40 years.",
    ),
    ("Smokes 1 ppd x 20y", "20 pack-year smoking history.", "40 pack-year smoking history."),
    # follow-up
    ("HTN. f/u PCP 1-2 wks", "Follow up with PCP in 1-2 weeks.", "Follow up with PCP in 3-4 weeks."),
    (
        "HTN. f/u PCP 1-2 wks",
        "Follow up with primary care in 1 to 2 weeks.",
        "Follow up with primary care in 1 to 2 months.",
    ),
    # changes of blood pressure
    ("BP 90/60 -> 120/80 after 2 L NS.", "Blood pressure improved to 120/80.", "Blood pressure fell to 90/60."),
    (
        "BP 90/60 -> 120/80 after 2 L NS.",
        "Blood pressure rose from 90/60 to 120/80.",
        "Blood pressure fell from 120/80 to 90/60.",
    ),
    # stopped, removed, discharged
    ("Foley d/c'd on POD1.", "The Foley catheter was removed.", "The Foley catheter was inserted."),
    ("Lisinopril d/c'd 2/2 cough.", "Lisinopril was stopped.", "Lisinopril was started."),
    ("Vancomycin dc'd, ceftriaxone continued.", "Vancomycin was discontinued.", "Ceftriaxone was discontinued."),
    # sides
    ("L foot ulcer, R foot nl", "Left foot ulcer.", "Right foot ulcer."),
    ("R knee swollen, L knee no effusion.", "The right knee is swollen.", "The left knee is swollen."),
    # a denial ends where a treatment begins
    (
        "Chest pain. Denies fever. Started apixaban 10 mg twice daily.",
        "She denies fever and started apixaban.",
        "She denies chest pain and started apixaban.",
    ),
    (
        "Denies fever. Takes metformin 500 mg daily.",
        "Denies fever, takes metformin 500 mg.",
        "Denies fever, takes metformin 850 mg.",
    ),
    # no improvement
    ("No improvement in pain with NSAIDs.", "She still has pain.", "She has no pain."),
    ("No improvement in pain with NSAIDs.", "Pain did not improve.", "Pain improved."),
    # old and new doses
    (
        "Metoprolol increased from 25 to 50 mg",
        "Metoprolol was increased to 50 mg.",
        "Metoprolol was decreased to 25 mg.",
    ),
    ("Metoprolol increased from 25 to 50 mg", "Metoprolol 50 mg.", "Metoprolol 25 mg."),
    # signs
    ("UA +nitrites, -LE.", "Nitrites were positive.", "Nitrites were negative."),
    ("Heart: RRR, +S3, no murmur", "An S3 was present.", "There was no S3."),
    ("Ext: warm, -LE edema", "No lower extremity edema.", "Lower extremity edema was present."),
    # limits
    ("Troponin <0.01 x2, ECG nl.", "Troponin was less than 0.01.", "Troponin was 0.1."),
    # eyes
    ("72M. OD cataract, OS clear.", "Cataract in the right eye.", "Cataract in the left eye."),
    ("VA LE 6/36. LE cataract, RE clear.", "Cataract of the left eye.", "Cataract of the right eye."),
    # what a dash, an arrow, a number and another person end
    ("No lytic - on apixaban.", "She is on apixaban.", "She is not on apixaban."),
    ("BCx neg 48h -> ampicillin stopped.", "Ampicillin was stopped.", "Ampicillin was continued."),
    ("ICD: no shocks, 1 NSVT.", "She had ventricular tachycardia.", "She had no ventricular tachycardia."),
    ("Never smoked, drinks socially.", "She drinks alcohol.", "She does not drink alcohol."),
    ("Tob 1ppd, EtOH denies", "He denies alcohol.", "He drinks alcohol."),
    ("Gentamicin not given.", "She has not received gentamicin.", "She has received gentamicin."),
    ("Non-ischemic HF. EF 25%.", "She has heart failure.", "She has no heart failure."),
    ("∅ clots, ø vomiting.", "She has no vomiting.", "She is vomiting."),
    # never and no longer
    ("Ex-smoker, quit 2010.", "She is a former smoker.", "She is a never smoker."),
    ("Ex-smoker, quit 2010.", "She is a non-smoker.", "She has never smoked."),
    # tests
    ("UA: LE +, nitrite -.", "Leukocyte esterase was positive.", "Nitrite was positive."),
    ("Trop neg x2, EKG NSR no STE", "Troponin was negative.", "Troponin was positive."),
    ("EKG NSR no STE", "The ECG showed no ST elevation.", "The ECG showed ST elevation."),
    # pain and other values in a row
    ("Pain 8/10 -> 3/10 after ketorolac.", "Pain fell from 8/10 to 3/10.", "Pain rose from 3/10 to 8/10."),
    ("Hgb 7.2 -> 2u pRBC -> 9.1", "Hemoglobin rose from 7.2 to 9.1.", "Hemoglobin fell from 9.1 to 7.2."),
    ("IOP 9/15.", "Intraocular pressure was 9 in the right eye.", "Intraocular pressure was 12 in the right eye."),
    # clipped names of drugs, and statuses that belong to one drug
    ("Metop d/c'd 2/2 brady, start amlod 5.", "Amlodipine was started.", "Amlodipine was stopped."),
    ("Creat 311 -> 128.", "Creatinine fell from 311 to 128.", "Creatinine rose from 128 to 311."),
    ("Stop spironolactone, start NaHCO3 650.", "Sodium bicarbonate was started.", "Sodium bicarbonate was stopped."),
    ("Atorva 80 (simva 40 stopped).", "Simvastatin was stopped.", "Simvastatin was continued."),
    # changes told the wrong way round
    ("Gabapentin 300 tds→600 tds.", "Gabapentin was raised from 300 to 600 mg.", "Reduced from 600 to 300 mg."),
    ("NYHA III→II since last visit.", "NYHA class improved from III to II.", "NYHA class went from II to III."),
    ("Albumin 24 (was 31).", "Albumin went from 31 to 24.", "Albumin went from 24 to 31."),
    # relatives
    ("Dad happy w/ plan.", "The father agrees with the plan.", "The mother agrees with the plan."),
    ("Dtr informed by phone.", "Her daughter was informed.", "Her son was informed."),
    ("Mtg w/ wife + 2 sons.", "His wife came.", "His husband came."),
    ("FHx: M breast ca 45, F MI 60.", "Her mother had breast cancer.", "Her father had breast cancer."),
    # times of day, weekdays and months
    ("Warfarin @1800 given, cath out @ 0930.", "Warfarin was given at 6 p.m.", "Warfarin was given at 8 p.m."),
    ("Off NIV @0600, on @2200.", "NIV stopped at 6 in the morning.", "NIV stopped at 6 in the evening."),
    ("MS stopped Tues, son visits Fri.", "It was stopped on Tuesday.", "It was stopped on Wednesday."),
    ("4 faints since Jan.", "Four faints since January.", "Four faints since June."),
    # fractures
    ("XR: L wrist #, ulna ok.", "There is a fracture of the left wrist.", "There is a fracture of the right wrist."),
]


@pytest.mark.parametrize(("note", "true", "wrong"), LINES)
def test_a_line_of_shorthand_tells_a_true_sentence_from_a_wrong_one(note, true, wrong):
    assert check_summary(note, true).errors == ()
    assert check_summary(note, wrong).errors


ANTENATAL = (
    "28yo G3P1011 @ 31+4 by 9/40 scan. Anti-D given 28/40. FM +ve, no PVB, no LOF. Hb 104 (118 at booking). RV 34/40."
)
CARDIOLOGY = (
    "71M, EF 30% (25% 2022), NYHA II. Wt 84.5 kg (186 lb), -2 kg since LV. Spiro held (K 5.6). -edema, +S3. "
    "INR goal 2-3, today 3.4, coumadin 5 -> 4 mg."
)
SHOULDER = "55F 6/12 hx R shoulder pain. +Hawkins, +empty can, -drop arm. R/v 6-8/52."
DISCHARGE = "CHANGED: furosemide 40 mg daily (was 20)\nSTOP: ibuprofen\nFollow up: PCP 1 wk, Pulm 4-6 wks. BMP in 3 d."
NOTES = [
    ("UA dip: +blood, -leuks, -nitrites.\nPlan: toradol 30 IV", "Nitrites were negative.", "Nitrites were positive."),
    ("Plan: toradol 30 IV, CT KUB", "She received ketorolac 30 mg IV.", "She received ketorolac 60 mg IV."),
    ("BS 187 -> 2 units lispro per SS.", "He received 2 units of lispro.", "He received 6 units of lispro."),
    ("PHQ-9 19, GAD-7 12.", "The PHQ-9 score was 19.", "The PHQ-9 score was 12."),
    ("Plts 88K, Cr 0.8.", "Platelets were 88 thousand.", "Platelets were 188 thousand."),
    (ANTENATAL, "She is at 31 weeks and 4 days.", "She is at 34 weeks and 1 day."),
    (ANTENATAL, "She is gravida 3.", "She is gravida 4."),
    (ANTENATAL, "There was no vaginal bleeding.", "There was vaginal bleeding."),
    (ANTENATAL, "Haemoglobin was 104, down from 118.", "Haemoglobin was 118, up from 104."),
    (CARDIOLOGY, "INR was 3.4.", "INR was 2.5."),
    (CARDIOLOGY, "Weight was 186 lb.", "Weight was 196 lb."),
    (CARDIOLOGY, "Ejection fraction was 30%.", "Ejection fraction was 25%."),
    (CARDIOLOGY, "Spironolactone was held.", "Spironolactone was continued."),
    (CARDIOLOGY, "Warfarin 4 mg.", "Warfarin 5 mg."),
    (SHOULDER, "Hawkins test was positive.", "Hawkins test was negative."),
    (SHOULDER, "Right shoulder pain for 6 months.", "Right shoulder pain for 6 weeks."),
    (DISCHARGE, "Pulmonology follow-up in 4 to 6 weeks.", "Pulmonology follow-up in 4 to 6 months."),
    ("PSA 6.2 (4.1 last yr), HbA1c 58.", "PSA was 6.2.", "PSA was 4.1."),
    ("CEA 12.4 (was 31).", "CEA fell to 12.4 from 31.", "CEA rose to 31 from 12.4."),
    ("L heel DFU. R foot: no ulcer.", "Ulcer of the left heel.", "Ulcer of the right heel."),
    ("WBC 15 (19 yest).", "White count was 15, down from 19.", "White count was 19, up from 15."),
    ("CKD 4, eGFR 27 (34 in Jan).", "eGFR was 27.", "eGFR was 34."),
    ("BP 158/92, K 5.4. All: nil known.", "He has no known allergies.", "He is allergic to penicillin."),
    ("L clavicle fx, R wrist nl.", "The left clavicle was fractured.", "The right clavicle was fractured."),
    ("GC NAAT +, CT abdo nl.", "Gonorrhea testing was positive.", "Gonorrhea testing was negative."),
    ("Start latanoprost qhs OS. RTC 6 wks", "Latanoprost for the left eye.", "Latanoprost for the right eye."),
]


@pytest.mark.parametrize(("note", "true", "wrong"), NOTES)
def test_a_specialty_note_tells_a_true_sentence_from_a_wrong_one(note, true, wrong):
    assert check_summary(note, true).errors == ()
    assert check_summary(note, wrong).errors


@pytest.mark.parametrize(
    ("note", "summary"),
    [
        ("Cr 2.1 (baseline 1.2).", "Creatinine was 2.1, from a baseline of 1.2."),
        ("Cr 2.1 (baseline 1.2).", "Baseline creatinine was 1.2."),
        ("Lactate 4.2 -> 1.9", "Lactate was 4.2."),  # it was, at first
        ("INR goal 2-3.", "INR was 2-3."),  # no other value is told
        ("Pt d/c'd on aspirin.", "Aspirin was continued."),
        ("Seen 3/12 for gout.", "Seen for gout on March 12."),
        ("VA 20/40 OU.", "Visual acuity was 20/40."),
        ("No family history of gout. Sister: asthma.", "Family history of asthma."),
        ("R knee pain. Later L knee pain.", "Left knee pain."),
        ("Pt from SNF, HR 120. HR 96 after fluids.", "Heart rate was 120."),
        ("H/o prior MI, BP 150/90. Repeat BP 142/84.", "Blood pressure was 150/90."),
        ("Metoprolol 25 mg before bed. Metoprolol 50 mg in the morning.", "Metoprolol 25 mg."),
        ("HTN not at goal (BP 152/88). Repeat BP 148/84.", "Blood pressure was 152/88."),
        ("Transferred from OSH, BP 90/60. BP now 118/70.", "Blood pressure was 90/60 on arrival."),
        ("Pain not improved with ibuprofen.", "Pain did not improve with ibuprofen."),
        ("Pain not relieved with Tylenol.", "Tylenol did not relieve the pain."),
        ("INR 2.4, continue warfarin 5 mg.", "INR 2.4 on warfarin 5 mg."),
        ("K 3.1 on admission, repeat 4.0.", "Potassium was 4.0."),
        ("Central line placed, later removed 5/2.", "Central line was removed."),
        ("Temp 101.3 F, stable.", "She had a temperature of 101.3 F."),  # F is no sex
        ("K 3.1, seen 4/10.", "Potassium was 3.1."),  # a date, and no further value
        ("Pain 8/10, 3/10 w meds.", "Pain was 3/10 with medication."),  # "with", and not 10 weeks
        ("LE edema R>L.", "Leg edema, worse on the right."),
        ("Drinking well, eating and drinking.", "She is eating and drinking."),
        ("Clozapine 350 mg/d (150 mane/200 nocte).", "Clozapine 150 mg in the morning."),
        ("Metformin 500 mg OD, -> BD after 1/52.", "Metformin goes up to twice daily after a week."),
        ("Ramipril stopped, 36h washout → Entresto.", "Entresto was started."),
        ("Furosemide reduced 80 -> 40 mg OD.", "Furosemide was reduced from 80 mg to 40 mg."),
        ("ASA 324 given by EMS.", "Aspirin 324 mg was given."),
        ("2/52 post partum. Partner @ bedside.", "The mother is well."),  # the patient herself
        ("DFU, MRI neg OM, TCC on, RTC 1 wk.", "There is no osteomyelitis."),
        ("PHQ9 9 (17 in Aug).", "The depression score was 9."),
        ("No malaria ppx taken.", "She took no malaria prophylaxis."),
        ("Wt loss 11kg/4mo.", "He lost 11 kg over four months."),
        ("Add dapagliflozin 10 MWF.", "Dapagliflozin 10 mg three times a week."),
    ],
)
def test_other_readings_of_shorthand_stay_open_or_true(note, summary):
    assert check_summary(note, summary).errors == ()


def test_a_limit_does_not_state_its_number():
    claims = check_summary("Troponin <0.01", "Troponin was 0.01.").claims
    assert [claim.verdict for claim in claims if claim.type == "lab"] == ["unverifiable"]
