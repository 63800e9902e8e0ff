from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.errors import ConfigError
from medground.taxonomy import STYLES, Target, leaks, load_targets, phrases, read_targets, side_of, target_of

# The categories of the training masks with the modalities that each occurs in.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "3rd ventricle": ("MRI",),
    "4th ventricle": ("MRI",),
    "adrenal gland right": ("CT",),
    "aorta": (
        "CT",
        "MRI",
    ),
    "autochthon left": (
        "CT",
        "MRI",
    ),
    "autochthon right": (
        "CT",
        "MRI",
    ),
    "benign breast tumor": ("ultrasound",),
    "brain stem": ("MRI",),
    "brain tumor": ("MRI",),
    "breast mass": ("mammography",),
    "breast mass region": ("mammography",),
    "colon": (
        "CT",
        "MRI",
    ),
    "colon polyp": ("endoscopy",),
    "common carotid artery": ("ultrasound",),
    "costal cartilages": ("CT",),
    "duodenum": (
        "CT",
        "MRI",
    ),
    "epidural hemorrhage": ("CT",),
    "femur left": ("CT",),
    "femur right": ("CT",),
    "fetal head": ("ultrasound",),
    "foveal avascular zone": ("OCT",),
    "gallbladder": (
        "CT",
        "MRI",
    ),
    "glioma": ("MRI",),
    "gluteus maximus left": ("CT",),
    "gluteus maximus right": ("CT",),
    "gluteus medius left": ("CT",),
    "gluteus medius right": ("CT",),
    "gluteus minimus left": ("CT",),
    "gluteus minimus right": ("CT",),
    "hip left": ("CT",),
    "hip right": ("CT",),
    "iliac vena left": ("CT",),
    "iliac vena right": ("CT",),
    "iliopsoas left": ("CT",),
    "iliopsoas right": (
        "CT",
        "MRI",
    ),
    "inferior vena cava": (
        "CT",
        "MRI",
    ),
    "intervertebral discs": ("MRI",),
    "intraparenchymal hemorrhage": ("CT",),
    "intraventricular hemorrhage": ("CT",),
    "kidney left": (
        "CT",
        "MRI",
    ),
    "kidney right": (
        "CT",
        "MRI",
    ),
    "largest cell nucleus": ("microscopy",),
    "left amygdala": ("MRI",),
    "left atrium": ("MRI",),
    "left caudate": ("MRI",),
    "left cerebellum cortex": ("MRI",),
    "left cerebellum white matter": ("MRI",),
    "left cerebral cortex": ("MRI",),
    "left cerebral white matter": ("MRI",),
    "left hippocampus": ("MRI",),
    "left lateral ventricle": ("MRI",),
    "left lung": ("X-ray",),
    "left pallidum": ("MRI",),
    "left putamen": ("MRI",),
    "left thalamus": ("MRI",),
    "left ventral DC": ("MRI",),
    "left ventricle cavity": ("MRI",),
    "lesion": ("CT",),
    "liver": (
        "CT",
        "MRI",
    ),
    "lung lower lobe left": ("CT",),
    "lung lower lobe right": ("CT",),
    "lung tumor": ("CT",),
    "lung upper lobe left": ("CT",),
    "malignant breast tumor": ("ultrasound",),
    "meningioma": ("MRI",),
    "multiple sclerosis white matter lesion": ("MRI",),
    "optic cup": ("fundus",),
    "optic disc": ("fundus",),
    "pancreas": (
        "CT",
        "MRI",
    ),
    "pituitary tumor": ("MRI",),
    "portal vein and splenic vein": (
        "CT",
        "MRI",
    ),
    "prostate": ("CT",),
    "prostate anatomical zone": ("MRI",),
    "prostate tumor": ("MRI",),
    "right amygdala": ("MRI",),
    "right caudate": ("MRI",),
    "right cerebellum cortex": ("MRI",),
    "right cerebellum white matter": ("MRI",),
    "right cerebral cortex": ("MRI",),
    "right cerebral white matter": ("MRI",),
    "right hippocampus": ("MRI",),
    "right lateral ventricle": ("MRI",),
    "right lung": ("X-ray",),
    "right pallidum": ("MRI",),
    "right putamen": ("MRI",),
    "right thalamus": ("MRI",),
    "right ventral DC": ("MRI",),
    "sacrum": ("CT",),
    "skin lesion": ("dermoscopy",),
    "small bowel": (
        "CT",
        "MRI",
    ),
    "spinal cord": (
        "CT",
        "MRI",
    ),
    "spleen": (
        "CT",
        "MRI",
    ),
    "stomach": (
        "CT",
        "MRI",
    ),
    "subarachnoid hemorrhage": ("CT",),
    "subdural hemorrhage": ("CT",),
    "teeth": ("X-ray",),
    "urinary bladder": ("CT",),
    "vertebrae": ("MRI",),
    "vertebrae L1": ("CT",),
    "vertebrae L2": ("CT",),
    "vertebrae L3": ("CT",),
    "vertebrae L4": ("CT",),
    "vertebrae L5": ("CT",),
    "vertebrae S1": ("CT",),
    "vertebrae T11": ("CT",),
    "vertebrae T12": ("CT",),
}
TARGETS = load_targets()
ONE = """
[spleen]
categories = ["spleen"]
supercategory = "abdomen"
kind = "structure"
synonyms = ["lien"]
hidden = ["splenic"]
function = [
    "the organ that filters old red cells",
    "the organ that clears some bacteria",
    "the organ with red and white pulp",
]
appearance = ["the smooth solid crescent under ribs", "a convex organ with a notch"]
location = ["the organ behind the stomach here", "the organ beside the pancreatic tail"]
clinical = ["the organ torn by blunt trauma", "the organ that lymphoma often enlarges"]
lay = ["the organ that swells in mononucleosis", "the organ that cleans my blood"]
fact = "The spleen filters blood."
"""


def default_manifest() -> Path:
    root = os.environ.get("MEDGROUND_OPEN_MASKS")
    return (Path(root) if root else Path(__file__).parents[2] / "shared/data/open-masks") / "manifest.jsonl"


def test_every_category_belongs_to_exactly_one_entity():
    counts = Counter(category for target in TARGETS.values() for category in target.categories)
    assert set(counts) == set(CATEGORIES)
    assert set(counts.values()) == {1}
    assert len(CATEGORIES) == 106


def test_the_list_of_categories_is_that_of_the_data():
    manifest = default_manifest()
    if not manifest.is_file():
        pytest.skip("the open masks are not here")
    with manifest.open(encoding="utf-8") as lines:
        seen = {(row["category"], row["modality"]) for row in map(json.loads, lines)}
    assert seen == {(category, modality) for category, modalities in CATEGORIES.items() for modality in modalities}


@pytest.mark.parametrize(
    ("category", "name", "side"),
    [
        ("kidney left", "kidney", "left"),
        ("kidney right", "kidney", "right"),
        ("left putamen", "putamen", "left"),
        ("lung upper lobe left", "upper lobe of the lung", "left"),
        ("lung lower lobe right", "lower lobe of the lung", "right"),
        ("adrenal gland right", "adrenal gland", "right"),
        ("right ventral DC", "ventral diencephalon", "right"),
        ("left atrium", "left atrium", None),
        ("left ventricle cavity", "left ventricular cavity", None),
        ("breast mass region", "breast mass", None),
        ("vertebrae L3", "L3 vertebra", None),
        ("vertebrae", "vertebrae", None),
    ],
)
def test_categories_resolve_to_entity_and_side(category, name, side):
    assert target_of(category).name == name
    assert side_of(category) == side


def test_both_sides_of_a_pair_share_their_entity():
    for category in CATEGORIES:
        if side_of(category) == "left":
            other = re.sub(r"\bleft\b", "right", category)
            if other in CATEGORIES:
                assert target_of(other) is target_of(category)
                assert side_of(other) == "right"


def test_an_unknown_category_is_named():
    with pytest.raises(ConfigError, match="'left unicorn' belongs to no entity"):
        target_of("left unicorn")
    with pytest.raises(ConfigError, match="'left unicorn' belongs to no entity"):
        side_of("left unicorn")


@pytest.mark.parametrize("name", TARGETS)
def test_phrases_of_an_entity(name):
    target = TARGETS[name]
    for phrase in target.all_phrases:
        assert leaks(phrase, target) is None, phrase
        assert 5 <= len(phrase.split()) <= 16, phrase
        assert re.match(r"(the|an?|whatever|anything that) \w", phrase), phrase
        assert phrase.isascii(), phrase
        # "right" is also avoided in the sense of "directly": beside a side it would read wrongly.
        assert not re.search(r"\b(left|right)\b", phrase), phrase
        assert "  " not in phrase, phrase
        assert phrase[-1].isalnum(), phrase
        assert not re.search(r"\b(\w+) \1\b", phrase), phrase
    assert leaks(target.fact, target)
    assert len(target.fact.split()) <= 14


def test_an_article_fits_the_word_after_it():
    for target in TARGETS.values():
        for phrase in (*target.all_phrases, target.fact):
            assert not re.search(r"\ba [aeio]", phrase), phrase
            assert not re.search(r"\ban [^aeiouhAFHLMNRS8]", phrase), phrase


def test_phrases_are_unique_across_the_file():
    counts = Counter(phrase.casefold() for target in TARGETS.values() for phrase in target.all_phrases)
    assert [phrase for phrase, count in counts.items() if count > 1] == []
    assert len(counts) > 850


def test_phrases_of_an_entity_differ_in_their_words():
    for target in TARGETS.values():
        bags = [(phrase, set(re.findall(r"\w{4,}", phrase)) - {"that"}) for phrase in target.all_phrases]
        for index, (phrase, words) in enumerate(bags):
            for other, others in bags[index + 1 :]:
                assert len(words & others) < 0.6 * len(words | others), (phrase, other)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_style_is_there_in_every_modality_of_the_data(category):
    for modality in CATEGORIES[category]:
        found = phrases(target_of(category), modality)
        assert tuple(found) == STYLES
        assert [len(group) for group in found.values()] == [3, 2, 2, 2, 2]


def test_appearance_follows_the_modality():
    gallbladder = TARGETS["gallbladder"]
    assert phrases(gallbladder, "CT")["appearance"] != phrases(gallbladder, "MRI")["appearance"]
    assert phrases(gallbladder, "ct") == phrases(gallbladder, "CT")
    assert "appearance" not in phrases(gallbladder, "fundus")
    assert phrases(gallbladder, "fundus")["lay"] == gallbladder.lay


def test_findings_are_never_normal_anatomy():
    for target in TARGETS.values():
        if target.supercategory in {"neoplasm", "non-neoplasm", "infection"}:
            assert target.kind == "finding", target.name
        else:
            assert target.kind == "structure", target.name


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("Show the VERTEBRAE here", "L1 vertebra", "VERTEBRAE"),
        ("what of the optic-disc?", "optic disc", "optic-disc"),
        ("two hippocampi", "hippocampus", "hippocampi"),
        ("biopsies of the polyps", "colon polyp", "polyps"),
        ("the carotid arteries", "common carotid artery", "carotid arteries"),
        ("level l1.", "L1 vertebra", "l1"),
        ("level L11", "L1 vertebra", None),
        ("the kidney's size", "kidney", "kidney's"),
        ("a rental car", "kidney", None),
        ("the nuclei", "largest cell nucleus", "nuclei"),
        ("the cell nuclei", "largest cell nucleus", "cell nuclei"),
        ("a nucleolus", "largest cell nucleus", None),
        ("", "spleen", None),
    ],
)
def test_leaks(text, name, found):
    assert leaks(text, TARGETS[name]) == found


@given(target=st.sampled_from(list(TARGETS.values())), data=st.data())
@settings(deadline=None, max_examples=60)
def test_every_term_leaks_wherever_it_stands(target: Target, data):
    term = data.draw(st.sampled_from(target.terms))
    change = data.draw(st.sampled_from([str.upper, str.lower, str.title]))
    before, after = data.draw(
        st.sampled_from([("", ""), ("Where is the ", "?"), ("(", ")"), ("the other ", ", please")])
    )
    assert leaks(before + change(term) + after, target)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "structure"', 'kind = "organ"', "entity 'spleen', field 'kind'"),
        ('kind = "structure"', 'kind = "structure"\ncolour = "red"', "entity 'spleen', field 'colour'"),
        ('supercategory = "abdomen"', 'supercategory = "belly"', "entity 'spleen', field 'supercategory'"),
        ('categories = ["spleen"]', "categories = []", "entity 'spleen', field 'categories'"),
        ('categories = ["spleen"]', "categories = [3]", "entity 'spleen', field 'categories.0'"),
        ('categories = ["spleen"]', 'categories = ["spleen"]\nname = "x"', "entity 'spleen', field 'name'"),
        ("the organ that cleans my blood", "the splenic organ in my belly", "gives the name away with 'splenic'"),
        ("the organ that cleans my blood", "the blood cleaner", "field 'lay.1': 'the blood cleaner' has 3 words"),
        ("the organ that cleans my blood", "my organ that cleans the blood", "field 'lay.1'.*article"),
        ("the organ that cleans my blood", "the organ that cleans my blood.", "field 'lay.1'.*final stop"),
        (', "the organ that cleans my blood"', "", "entity 'spleen', field 'lay'"),
        ("the organ that cleans my blood", "the organ that swells in mononucleosis", "already belongs to 'spleen'"),
        ("The spleen filters blood.", "It filters blood.", "must name the entity"),
        ("The spleen filters blood.", "The spleen filters blood", "field 'fact'"),
        ("[spleen]", "x = 1\n[spleen]", "field 'x' stands outside a table"),
        ("[spleen]", "[spleen", "not valid TOML"),
    ],
)
def test_bad_data_is_refused_by_entity_and_field(old, new, message):
    assert list(read_targets(ONE)) == ["spleen"]
    assert ONE.count(old) == 1
    with pytest.raises(ConfigError, match=message) as caught:
        read_targets(ONE.replace(old, new), source="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")


def test_two_entities_cannot_share_a_category():
    with pytest.raises(ConfigError, match="entity 'milt', field 'categories': 'spleen' already belongs to 'spleen'"):
        read_targets(ONE + ONE.replace("[spleen]", "[milt]"))


def test_targets_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        TARGETS["spleen"].fact = "The spleen is gone."
    load_targets().clear()
    assert "spleen" in load_targets()
