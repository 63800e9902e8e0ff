from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data.questions import PICTURE_WORDS
from medground.errors import ConfigError
from medground.taxonomy import (
    STYLES,
    Target,
    ancestors,
    check_tree,
    groups,
    leaks,
    load_modalities,
    load_parents,
    load_supercategories,
    load_targets,
    phrases,
    read_parents,
    read_targets,
    side_of,
    target_of,
    unseen_phrases,
    wording,
)

# The categories of the training masks with the modalities that each occurs in.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "3rd ventricle": ("MRI",),
    "4th ventricle": ("MRI",),
    "adrenal gland right": ("CT",),
    "aorta": ("CT", "MRI"),
    "autochthon left": ("CT", "MRI"),
    "autochthon right": ("CT", "MRI"),
    "benign breast tumor": ("ultrasound",),
    "brain stem": ("MRI",),
    "brain tumor": ("MRI",),
    "breast mass": ("mammography",),
    "breast mass region": ("mammography",),
    "colon": ("CT", "MRI"),
    "colon polyp": ("endoscopy",),
    "common carotid artery": ("ultrasound",),
    "costal cartilages": ("CT",),
    "duodenum": ("CT", "MRI"),
    "epidural hemorrhage": ("CT",),
    "femur left": ("CT",),
    "femur right": ("CT",),
    "fetal head": ("ultrasound",),
    "foveal avascular zone": ("OCT",),
    "gallbladder": ("CT", "MRI"),
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
    "iliopsoas right": ("CT", "MRI"),
    "inferior vena cava": ("CT", "MRI"),
    "intervertebral discs": ("MRI",),
    "intraparenchymal hemorrhage": ("CT",),
    "intraventricular hemorrhage": ("CT",),
    "kidney left": ("CT", "MRI"),
    "kidney right": ("CT", "MRI"),
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
    "liver": ("CT", "MRI"),
    "lung lower lobe left": ("CT",),
    "lung lower lobe right": ("CT",),
    "lung tumor": ("CT",),
    "lung upper lobe left": ("CT",),
    "malignant breast tumor": ("ultrasound",),
    "meningioma": ("MRI",),
    "multiple sclerosis white matter lesion": ("MRI",),
    "optic cup": ("fundus",),
    "optic disc": ("fundus",),
    "pancreas": ("CT", "MRI"),
    "pituitary tumor": ("MRI",),
    "portal vein and splenic vein": ("CT", "MRI"),
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
    "small bowel": ("CT", "MRI"),
    "spinal cord": ("CT", "MRI"),
    "spleen": ("CT", "MRI"),
    "stomach": ("CT", "MRI"),
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
# What a super-category's entities have above them; the name of the entity itself counts too.
GROUP_OF = {
    "abdomen": {"digestive system", "endocrine system", "lymphatic system", "urinary system"},
    "brain": {"central nervous system"},
    "eye": {"eye"},
    "heart": {"heart"},
    "histology": {"cell"},
    "lung": {"respiratory system"},
    "vessel": {"arteries", "veins"},
    "neoplasm": {"neoplasms"},
    "non-neoplasm": {"diseases of the nervous system"},
    "bone": {"skeleton"},
    "muscle": {"skeletal muscles"},
    "pelvis": {"urinary system", "male reproductive system"},
    "obstetric": {"fetus"},
    "dental": {"oral cavity"},
}
LINKS = {"above", "behind", "beneath", "between", "from", "lies", "that", "whatever", "which", "whose", "with"}
ONE = r'''
[spleen]
categories = ["spleen"]
supercategory = "abdomen"
kind = "structure"
parent = "lymphatic system"
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
sources.lay = "clinical guideline"
short = "the spleen, a blood filter beneath the diaphragm"
long = """\
    The spleen is the lymphoid organ that filters blood and removes old cells. \
    It lies behind the stomach as a smooth crescent, and blunt trauma may tear it."""
unseen.function = ["whatever recycles aged erythrocytes and platelets"]
unseen.appearance = ["an even sickle of grey tissue"]
unseen.location = ["whatever lies along the tenth rib"]
unseen.clinical = ["whatever leaves patients open to pneumococci once removed"]
unseen.lay = ["the part that could burst if I play sport"]
'''


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
    for phrase in (*target.all_phrases, *target.all_unseen_phrases):
        assert leaks(phrase, target) is None, phrase
        assert 5 <= len(phrase.split()) <= 16, phrase
        assert re.match(r"(the|an?|whatever|anything that) \w", phrase), phrase
        assert phrase.isascii(), phrase
        # "right" is also avoided in the sense of "directly": beside a side it would read wrongly.
        assert not re.search(r"\b(left|right)\b", phrase), phrase
        assert "the one " not in phrase, f"{phrase}: a side is added as 'the one on the patient's left side'"
        assert "  " not in phrase, phrase
        assert phrase[-1].isalnum(), phrase
        assert not re.search(r"\b(\w+) \1\b", phrase), phrase
    assert leaks(target.fact, target)
    assert len(target.fact.split()) <= 14


def test_an_article_fits_the_word_after_it():
    for target in TARGETS.values():
        for phrase in (*target.all_phrases, *target.all_unseen_phrases, target.fact, target.short, target.long):
            assert not re.search(r"\ba [aeio]", phrase), phrase
            assert not re.search(r"\ban [^aeiouhAFHLMNRS8]", phrase), phrase


def test_phrases_are_unique_across_the_file():
    counts = Counter(phrase.casefold() for target in TARGETS.values() for phrase in target.all_phrases)
    training = len(counts)
    counts.update(phrase.casefold() for target in TARGETS.values() for phrase in target.all_unseen_phrases)
    assert [phrase for phrase, count in counts.items() if count > 1] == []
    assert len(counts) >= training + 5 * len(TARGETS)


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
        assert all(len(group) >= least for group, least in zip(found.values(), (3, 2, 2, 2, 2), strict=True))
        unseen = unseen_phrases(target_of(category), modality)
        assert tuple(unseen) == STYLES
        assert all(unseen.values())


@pytest.mark.parametrize("name", TARGETS)
def test_unseen_phrases_use_other_words(name):
    target = TARGETS[name]
    for held_out in target.all_unseen_phrases:
        for phrase in target.all_phrases:
            words, others = (set(re.findall(r"\w{4,}", text.casefold())) - LINKS for text in (held_out, phrase))
            assert wording.similarity(held_out, phrase) < 0.5, (held_out, phrase)
            assert len(words & others) < 0.35 * len(words | others), (held_out, phrase)


@pytest.mark.parametrize("name", TARGETS)
def test_descriptions_name_their_entity(name):
    target = TARGETS[name]
    assert 5 <= len(target.short.split()) <= 12
    assert re.match(r"(the|an?) ", target.short)
    assert re.sub(r"^(the|an?) ", "", target.short).startswith(target.name)
    assert 2 <= target.long.count(".") <= 3
    assert leaks(target.long.split(". ")[0], target), "the first sentence names it"
    assert target.long.isascii()
    assert target.healthy == (target.kind == "structure")


def test_descriptions_differ():
    for field in ("short", "long"):
        assert len({getattr(target, field) for target in TARGETS.values()}) == len(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_supercategories_agree_with_the_tree(name):
    target = TARGETS[name]
    above = ancestors(target)
    assert above[-1] == ("human body" if target.healthy else "disease")
    expected = GROUP_OF[target.supercategory]
    assert expected & {target.name, *above}, (target.supercategory, above)
    assert len(above) <= 6


def test_every_group_is_used():
    used = {step for target in TARGETS.values() for step in ancestors(target)}
    assert set(load_parents()) <= used


def test_a_pair_of_entities_knows_its_place():
    assert ancestors(TARGETS["optic cup"]) == ("optic disc", "ocular fundus", "eye", "human body")
    assert ancestors(TARGETS["S1 vertebra"])[:2] == ("sacrum", "spine")
    assert TARGETS["meningioma"].parent == "brain tumor"


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("unicorns", "entity 'spleen', field 'parent': 'unicorns' is neither an entity nor a group"),
        ("spleen", "entity 'spleen', field 'parent': it has no root above it"),
    ],
)
def test_entities_need_a_root(parent, message):
    one = read_targets(ONE.replace("lymphatic system", parent))
    with pytest.raises(ConfigError, match=message):
        check_tree(one, load_parents())


def test_an_entity_and_a_group_cannot_share_a_name():
    with pytest.raises(ConfigError, match="entity 'spleen', field 'parent': a group has the same name"):
        check_tree(read_targets(ONE), {"lymphatic system": None, "spleen": None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roots = ['a']", "give 'roots', a list of names, and a table 'parents'"),
        ("roots = ['a']\nleaves = 1\n[parents]", "and nothing else"),
        ("roots = ['a']\n[parents]\nb = 3", "group 'b': give it once, with one name"),
        ("roots = ['a']\n[parents]\na = 'a'", "group 'a': give it once"),
        ("roots = [1]\n[parents]", "group 1: give it once"),
        ("roots = ['a']\n[parents]\nb = 'c'", "group 'b': its parent 'c' is unknown"),
        ("roots = ['a']\n[parents]\nb = 'c'\nc = 'b'", "group 'b': it has no root above it"),
        ("roots = [", "not valid TOML"),
    ],
)
def test_a_bad_tree_is_refused(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_parents(text, source="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")


def test_sources_are_named_where_they_differ():
    assert TARGETS["spleen"].sources == groups.default_sources("structure")
    assert TARGETS["meningioma"].sources == groups.default_sources("finding")
    assert TARGETS["prostate tumor"].sources.clinical == "clinical guideline"
    assert read_targets(ONE)["spleen"].sources.model_dump() == {
        **groups.default_sources("structure").model_dump(),
        "lay": "clinical guideline",
    }
    kinds = {kind for target in TARGETS.values() for kind in target.sources.model_dump().values()}
    assert kinds == set(get_args(groups.SourceKind))


def test_modalities_are_those_of_the_data_and_of_the_questions():
    modalities = load_modalities()
    assert set(modalities) == {modality for found in CATEGORIES.values() for modality in found}
    assert {name: modality.pictures for name, modality in modalities.items()} == PICTURE_WORDS
    for target in TARGETS.values():
        for looks in (target.appearance, target.unseen.appearance):
            assert not isinstance(looks, dict) or set(looks) <= set(modalities), target.name


def test_supercategories_are_the_released_ten_and_our_five():
    groups_of_scores = load_supercategories()
    assert len(groups_of_scores) == 15
    assert {name for name, group in groups_of_scores.items() if group.released} == {
        *("abdomen", "brain", "eye", "heart", "histology", "lung", "vessel", "neoplasm", "non-neoplasm", "infection")
    }
    # The open masks hold no infection.
    assert {target.supercategory for target in TARGETS.values()} == set(groups_of_scores) - {"infection"}


def test_appearance_follows_the_modality():
    gallbladder = TARGETS["gallbladder"]
    assert phrases(gallbladder, "CT")["appearance"] != phrases(gallbladder, "MRI")["appearance"]
    assert phrases(gallbladder, "ct") == phrases(gallbladder, "CT")
    assert "appearance" not in phrases(gallbladder, "fundus")
    assert phrases(gallbladder, "fundus")["lay"] == gallbladder.lay
    assert "appearance" not in unseen_phrases(gallbladder, "fundus")
    assert unseen_phrases(gallbladder, "ct")["appearance"] == gallbladder.unseen.appearance
    spleen = read_targets(ONE.replace("unseen.appearance", "unseen.appearance.MRI"))["spleen"]
    assert unseen_phrases(spleen, "mri")["appearance"] == ("an even sickle of grey tissue",)
    assert list(unseen_phrases(spleen, "CT")) == ["function", "location", "clinical", "lay"]


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
        ('parent = "lymphatic system"', "", "entity 'spleen', field 'parent': Field required"),
        ('sources.lay = "clinical guideline"', 'sources.lay = "hearsay"', "field 'sources.lay'"),
        ('sources.lay = "clinical guideline"', 'sources = "hearsay"', "field 'sources'"),
        (
            "the spleen, a blood filter beneath the diaphragm",
            "the organ beneath the diaphragm",
            "the short .* must name",
        ),
        ("the spleen, a blood filter beneath", "the spleen" + " x" * 9, "field 'short'.*13 words; use 5 to 12"),
        ("The spleen is the lymphoid organ that filters", "This organ filters", "field 'long'.*words; use 25 to 90"),
        ("It lies behind the stomach as", "it lies behind the stomach as", "field 'long'.*two or three sentences"),
        ("The spleen is the lymphoid organ that", "It is a large lymphoid organ that", "the long .* must name"),
        ("whatever recycles aged erythrocytes", "the splenic pulp and aged erythrocytes", "away with 'splenic'"),
        ("whatever lies along the tenth rib", "the organ behind the stomach now", "the unseen .* is too like"),
        (
            "whatever lies along the tenth rib",
            "whatever recycles aged erythrocytes and platelets",
            "'unseen': .* belongs to",
        ),
        ('unseen.lay = ["the part that could burst if I play sport"]', "unseen.lay = []", "field 'unseen.lay'"),
        ('unseen.lay = ["the part that could burst if I play sport"]', "", "field 'unseen.lay': Field required"),
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
