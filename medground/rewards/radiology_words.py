"""Words of chest radiology that mean the same, for comparing answers in words."""

from __future__ import annotations

__all__ = ["EXCLUSIVE", "NUMBER_WORDS", "OPAQUE", "PHRASES", "STOP_WORDS"]

# The last of each line is what the others are read as. Our own choice of what everyday reports use as one; near
# misses (opacity and consolidation, effusion and thickening) are left apart.
PHRASES: tuple[tuple[str, ...], ...] = (
    ("no evidence of", "no signs of", "no sign of", "no findings of", "no indication of", "without evidence of", "no"),
    ("no radiographic evidence of", "negative for", "free of", "free from", "lack of", "absence of", "no"),
    ("isn't", "is not"),
    ("aren't", "are not"),
    ("doesn't", "does not"),
    ("don't", "do not"),
    ("cannot", "can not"),
    ("no acute abnormality", "no abnormality", "no abnormal finding", "without abnormality", "within normal limit",
     "no acute cardiopulmonary abnormality", "no acute cardiopulmonary process", "no acute process", "unremarkable",
     "clear", "healthy", "normal"),
    ("abnormal", "not normal"),
    ("enlarged heart", "heart enlargement", "enlargement of the heart", "enlarged cardiac silhouette",
     "enlarged cardiac shadow", "cardiac enlargement", "enlargement of the cardiac silhouette", "heart is enlarged",
     "cardiac silhouette is enlarged", "cardiomegaly"),
    ("cardiac silhouette", "cardiac shadow", "heart shadow", "cardiac", "heart"),
    ("pleural effusion", "pleural fluid", "fluid in the pleural space", "hydrothorax", "effusion"),
    ("pericardial effusion", "fluid around the heart", "hydropericardium"),
    ("collapsed lung", "pneumothoraces", "air in the pleural space", "pneumothorax"),
    ("pulmonary oedema", "pulmonary edema", "lung oedema", "oedema", "edema"),
    ("lung collapse", "lobar collapse", "volume loss", "atelectases", "atelectatic change", "collapse", "atelectasis"),
    ("air space opacity", "airspace opacity", "air space disease", "airspace disease", "consolidation"),
    ("opacification", "haziness", "hazy opacity", "shadowing", "increased density", "opacity"),
    ("lung infection", "pulmonary infection", "chest infection", "pneumonias", "pneumonia"),
    ("metastases", "metastatic disease", "metastasis"),
    ("tumour", "neoplasm", "tumor"),
    ("haemorrhage", "bleeding", "bleed", "hemorrhage"),
    ("bone fracture", "broken bone", "fracture"),
    ("calcified", "calcifications", "calcification"),
    ("cardiac pacemaker", "pacemaker device", "pacing device", "pacemaker"),
    ("et tube", "endotracheal tube", "breathing tube", "ett", "endotracheal tube"),
    ("ng tube", "enteric tube", "nasogastric tube"),
    ("central line", "central venous line", "cvc", "central venous catheter"),
    ("pulmonary", "lung field", "lungs", "lung"),
    ("both", "bilaterally", "bilateral", "left right"),
    ("left hand", "leftward", "left sided", "left"),
    ("right hand", "rightward", "right sided", "right"),
    ("lower zone", "lower lung zone", "lung base", "basal", "basilar", "base", "lower lobe", "inferior lobe",
     "lower lung"),
    ("upper zone", "upper lung zone", "apical", "apex", "lung apex", "upper lobe", "superior lobe", "upper lung"),
    ("mid zone", "middle zone", "mid lung zone", "mid lung", "middle lobe", "middle lung"),
    ("costophrenic sulcus", "cp angle", "costophrenic angle"),
    ("inferior", "bottom", "lower"),
    ("superior", "top", "upper"),
    ("mid", "middle"),
    ("enlarged", "bigger", "larger", "increased", "elevated", "raised"),
    ("decreased", "reduced", "diminished", "low"),
    ("severe", "massive", "marked", "large"),
    ("slight", "minimal", "tiny", "minor", "trace", "small", "mild"),
    ("posteroanterior", "pa"),
    ("anteroposterior", "ap"),
    ("x ray", "radiograph", "cxr", "film", "radiograph"),
)  # fmt: skip

EXCLUSIVE: tuple[tuple[frozenset[str], ...], ...] = (
    (frozenset({"left"}), frozenset({"right"})),
    (frozenset({"upper"}), frozenset({"middle"}), frozenset({"lower"})),
    (frozenset({"raised"}), frozenset({"low"})),
    (frozenset({"improved", "improving"}), frozenset({"worsened", "worsening", "progressed"})),
    (frozenset({"pa"}), frozenset({"ap"}), frozenset({"lateral"})),
)
"""Words of which an answer can't say one where the truth says another."""

_STOPS = (
    "a an the this that these those is are was were be been being it its there here in on at of to from for with within"
    " by as and or but which what where who whose how does do did has have had can could may might would should will"
    " i we you he she they image picture scan chest radiograph seen see shows showing shown visible visualized evident"
    " visualised noted observed identified present demonstrated demonstrates appears appearing suggests suggesting"
    " suggestive indicates indicating consistent patient patients side sided finding area region location located zone"
    " also likely probably possibly some any evidence sign please answer"
)
STOP_WORDS = frozenset(_STOPS.split())
"""Words that carry no finding."""

NUMBER_WORDS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}

OPAQUE = frozenset({"jejunum", "ileum", "portal vein", "splenic vein", "psoas", "left auricle"})
"""Synonyms of the taxonomy that name a part of their target, so they aren't the same answer."""
