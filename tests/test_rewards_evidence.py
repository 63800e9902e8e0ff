"""Claims in reasoning: which sentences make them, which facts hold, and why hacking them doesn't pay."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import ellipse
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space
from medground.data.attributes import Attributes, measure, quantities
from medground.data.build import build_sample, grey_levels, partners
from medground.data.open_masks import load_mask, read_open_masks
from medground.data.questions import SEEN_AS, reason
from medground.errors import TruthError
from medground.rewards.evidence import FACETS, MAX_READ, WORDS, Claim, Facts, claims, evidence, holds, honesty
from medground.rewards.vocabulary import DESCRIPTIONS, DOUBT, FUNCTION_WORDS, RELATIONS, TARGET_NOUNS
from medground.taxonomy import load_targets
from medground.types import Box

REAL = Path(os.environ.get("MEDGROUND_OPEN_MASKS", Path(__file__).parents[2] / "shared" / "data" / "open-masks"))
needs_masks = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real masks aren't at {REAL}; set MEDGROUND_OPEN_MASKS")

ZONES = WORDS["place"][:9]
TRUE = "In the upper left of the image there is a small, round region that is brighter than its surroundings."
FACTS = Facts.from_attributes(Attributes("upper left", "small", "brighter than", "round"))

SENTENCES = [
    # What counts.
    ("It is small.", ["small"], "the target is 'it'"),
    ("It's small and round.", ["small", "round"], "'it's' is subject and verb"),
    ("This is a large, oval mass.", ["large", "oval"], "'this' before a verb, and a noun for the target"),
    ("The lesion is tiny and circular.", ["tiny", "round"], "a noun for the target as subject; a synonym"),
    ("A small, well-defined, round nodule is seen.", ["small", "round"], "words between description and noun"),
    (
        "The optic disc appears as a bright, round region.",
        ["brighter than", "round"],
        "a named structure seen as a region",
    ),
    ("There is a medium-sized ovoid lesion.", ["medium-sized", "oval"], "a synonym; hyphens are blanks"),
    ("It is of medium size.", ["medium-sized"], "a phrase of three words"),
    ("Its shape is elongated.", ["elongated"], "a property of the target as subject"),
    ("The structure has a round outline.", ["round"], "a property that the target has"),
    ("Shape: oval", ["oval"], "a label"),
    ("- Size: small\n- Shape: round\n- Location: upper left of the image", ["small", "round", "upper left"], "a list"),
    ("It is smooth, homogeneous and oval.", ["oval"], "unknown adjectives between"),
    ("It is small in size and round in shape.", ["small", "round"], "properties named along"),
    ("It is very small.", ["tiny"], "'very small' is tiny"),
    ("IT IS SMALL", ["small"], "capitals; no full stop"),
    ("It is hyperintense.", ["brighter than"], "a word of MRI"),
    ("The lesion is hypoechoic relative to the surrounding tissue.", ["darker than"], "compared with its surroundings"),
    (
        "It is darker than its surroundings and round.",
        ["darker than", "round"],
        "reading goes on behind the comparison",
    ),
    ("A region brighter than the background is visible.", ["brighter than"], "a comparison behind the noun"),
    ("It is as bright as its surroundings.", ["about as bright as"], "equality"),
    ("It is isointense to the surrounding brain.", ["about as bright as"], "equality in a word of MRI"),
    ("It has a lower signal than the adjacent tissue.", ["darker than"], "a level of signal"),
    ("The lesion is less bright than its surroundings.", ["darker than"], "less bright is darker"),
    ("It lies in the upper left of the image.", ["upper left"], "a zone"),
    (
        "The target sits in the top-right corner of the CT slice.",
        ["upper right"],
        "synonyms; other words for a picture",
    ),
    ("It is in the centre of the picture.", ["centre"], "the middle zone"),
    ("The mass is in the middle of the frame.", ["centre"], "'middle' alone is the centre"),
    ("It is at the bottom centre of the view.", ["lower middle"], "either order"),
    ("The region is in the image's lower left.", ["lower left"], "anchored by possession"),
    ("It lies in the central left part of the image.", ["middle left"], "the middle row"),
    ("It lies on the left side of the image.", ["left half"], "a side, coarse"),
    ("It is in the right half of the radiograph.", ["right half"], "a half, coarse"),
    ("It lies in the upper part of the scan.", ["upper half"], "a part, coarse"),
    ("The lesion occupies the lower right quadrant of the image.", ["lower right quadrant"], "a quadrant, coarse"),
    ("It is in the upper third of the film.", ["upper third"], "a third, coarse"),
    (
        "In the lower right of the image there is a dark region.",
        ["lower right", "darker than"],
        "the place comes first",
    ),
    ("It is one connected region.", ["one"], "one part"),
    ("A single region, small and round, is seen.", ["one", "small", "round"], "a count, and its noun as target"),
    ("It consists of two separate parts.", ["two"], "two parts"),
    ("The lesion is made of several pieces.", ["several"], "several parts"),
    ("There are three separate areas.", ["several"], "three are several"),
    # Doubt: negation, question, condition, hedge, alternative, general knowledge.
    ("It is not round.", [], "negation"),
    ("It isn't round.", [], "negation"),
    ("The lesion isn't round.", [], "negation behind a noun"),
    ("It isn’t round.", [], "negation with a typographic apostrophe"),
    ("There is no bright region.", [], "negation"),
    ("It is neither small nor round.", [], "negation"),
    ("It is a non-round mass.", [], "negation by prefix"),
    ("It is oval rather than round.", [], "contrast"),
    ("Unlike the round lesion, it is dark.", [], "contrast"),
    ("Is it small?", [], "question"),
    ("It is small?", [], "question in the order of a statement"),
    ("The region is round, right?", [], "question with a tag"),
    ("It is round/oval.", [], "alternatives"),
    ("It is round to oval.", [], "alternatives"),
    ("If it is round, it is a cyst.", [], "condition"),
    ("It may be small.", [], "hedge"),
    ("It is perhaps small and possibly round.", [], "hedge"),
    ("It is small or large.", [], "alternatives"),
    ("It is either round or oval.", [], "alternatives"),
    ("It is anything but round.", [], "negation in other words"),
    ("Such a lesion is usually round.", [], "general knowledge"),
    ("The question asks for a small, round region.", [], "what is asked, not what is seen"),
    # Something else than the target.
    ("The liver is large.", [], "a named structure may be a landmark"),
    ("The liver fills the left half of the image.", [], "a landmark's place"),
    ("It lies next to a bright region.", [], "a neighbour"),
    ("It is small, next to a large round mass.", ["small"], "reading ends where the neighbour comes"),
    ("The vessel beside the lesion is bright.", [], "a neighbour as subject"),
    ("It is brighter than the liver.", [], "a comparison with another structure"),
    ("It is darker than the adjacent liver.", [], "a comparison with another structure"),
    ("The heart shadow is bright.", [], "a named structure"),
    ("It is hyperintense to muscle.", [], "a comparison with another structure"),
    ("It is as large as the kidney.", [], "a comparison with another structure"),
    ("It is larger than before.", [], "a comparison, and no word for a size"),
    ("It is less round now.", [], "a comparison with itself"),
    ("It is too small to see.", [], "a size for a purpose"),
    ("It is more round than long.", [], "a comparison with itself"),
    ("It lies in a dark region.", [], "a noun behind a preposition isn't the target"),
    ("Its surroundings are bright.", [], "the surroundings"),
    ("It is small and the vessel is bright.", ["small"], "a new subject"),
    ("It has a bright spot.", [], "a part of it"),
    ("In it bright vessels run.", [], "something inside it"),
    ("The liver has two parts.", [], "parts of a named structure"),
    ("Every lesion is round.", [], "all lesions, not this one"),
    ("A small outer left ventricular wall region is seen.", [], "too far from its noun"),
    ("The region borders muscle fat skin bone bright.", [], "too far from its subject"),
    ("In the upper left of the image, vessels cross.", [], "a place, and nothing of the target"),
    ("It is small bowel.", [], "a name"),
    ("The lesion is bright red.", [], "a colour"),
    ("Another small region lies in the upper left of the image.", [], "another region"),
    ("It is part of the small bowel.", [], "a name"),
    ("It is the large fluid chamber of the brain.", [], "a noun that doesn't stand for the target"),
    # Places that aren't the picture's, or aren't places.
    ("It lies in the left lung.", [], "anatomical side"),
    ("It lies in the upper left lobe.", [], "anatomical side"),
    ("It lies on the patient's left side.", [], "the patient's side"),
    ("It lies on the patient's left side in the image.", [], "the patient's side, though an image is named"),
    ("It is in the left upper quadrant.", [], "a quadrant of the abdomen, not of the picture"),
    ("It is in the left ventricle of the image.", [], "a structure, not a side"),
    ("It lies to the left of the centre of the image.", [], "relative to another place"),
    ("It lies above the middle of the image.", [], "relative to another place"),
    ("It lies between the centre and the left edge of the image.", [], "relative to other places"),
    ("It extends from the upper left to the lower right of the image.", [], "an extent, not a place"),
    ("It lies in the left right of the image.", [], "no place at all"),
    ("The one meant is on the left side of the image.", [], "which of a pair is meant, relative to its partner"),
    # Hacking.
    ("round oval elongated small large tiny bright dark", [], "a list of words says nothing of the target"),
    ("It is round, oval, elongated, small and large.", ["round", "oval", "elongated", "small", "large"], "all words"),
    ("It is round. It is round. It is round.", ["round", "round", "round"], "repetition counts once in the score"),
    ("It is round. It is not round.", ["round"], "taking it back doesn't hide the claim"),
    ("Small. Round. Bright. Upper left.", [], "without a subject"),
    ("The target target target small round.", ["small", "round"], "broken language still makes its claims"),
    ("\u0406t \u0456s r\u043eund.", [], "letters that only look Latin"),
    ("", [], "silence"),
]


@pytest.mark.parametrize(("text", "said", "why"), SENTENCES, ids=[row[0][:40] or "nothing" for row in SENTENCES])
def test_what_a_sentence_claims(text: str, said: list[str], why: str) -> None:
    assert [claim.value for claim in claims(text)] == said, why


def test_the_table_of_sentences_names_every_facet() -> None:
    assert {claim.facet for text, _, _ in SENTENCES for claim in claims(text)} == set(FACETS)


def test_a_claim_says_where_it_stands() -> None:
    text = "Hm… it’s   medium-sized;\nit lies in the Top-Left  corner of the CT image."
    assert [(claim.value, text[claim.start : claim.end], claim.coarse) for claim in claims(text)] == [
        ("medium-sized", "medium-sized", False),
        ("upper left", "Top-Left  corner of the CT image", False),
    ]
    assert claims("It is on the left of the image.") == (Claim("place", "left half", 13, 30, coarse=True),)


def said_of(facet: str, word: str) -> str:
    """Say one word of one facet in a sentence."""
    return {
        "place": f"It lies in the {word} of the image.",
        "size": f"It is {word}.",
        "shape": f"It is {word}.",
        "brightness": f"It is {word} its surroundings.",
        "parts": {"one": "It is one connected region.", "two": "It has two parts."}.get(word, "It has several parts."),
    }[facet]


@pytest.mark.parametrize(("facet", "word"), [(facet, word) for facet in FACETS for word in WORDS[facet]])
def test_every_word_of_every_facet_can_be_said(facet: str, word: str) -> None:
    (claim,) = claims(said_of(facet, word))
    assert (claim.facet, claim.value) == (facet, word)
    assert claim.coarse == (facet == "place" and word not in ZONES)


@pytest.mark.parametrize("phrase", DESCRIPTIONS)
def test_every_description_is_read_before_and_behind_the_target(phrase: str) -> None:
    facet, word = DESCRIPTIONS[phrase]
    for text in (f"It is {phrase}.", f"A {phrase} region is seen.", f"The lesion, {phrase}, is seen."):
        assert [(claim.facet, claim.value) for claim in claims(text)] == [(facet, word)], text


@pytest.mark.parametrize("word", sorted(DOUBT - {"/"}))
def test_every_word_of_doubt_silences_its_sentence_alone(word: str) -> None:
    said = claims(f"It is {word} small. It is round.")
    assert [claim.value for claim in said] == ["round"]


@pytest.mark.parametrize("word", sorted(RELATIONS))
def test_behind_a_word_of_relation_nothing_is_read(word: str) -> None:
    assert [claim.value for claim in claims(f"It is small {word} the round region.")] in (["small"], [])
    assert "round" not in [claim.value for claim in claims(f"It is small {word} the round region.")]


# Traces and facts of the offline grammar.


def test_every_trace_of_the_grammar_states_its_four_facts() -> None:
    for frame, zone, size, shape, brightness in itertools.product(
        SEEN_AS, ZONES, WORDS["size"], WORDS["shape"], WORDS["brightness"]
    ):
        seen = Attributes(zone, size, brightness, shape)
        text = frame.format(zone=zone, size=size, brightness=brightness, shape=shape)
        said = {(claim.facet, claim.value) for claim in claims(text)}
        assert said == {("place", zone), ("size", size), ("brightness", brightness), ("shape", shape)}, text
        assert len(claims(text)) == 4
        facts = Facts.from_attributes(seen)
        assert (evidence(text, facts), honesty(text, facts)) == (1.0, 1.0), text


@pytest.mark.parametrize(
    "side",
    [
        None,
        *(f"on the {side} side of the image" for side in ("left", "right")),
        *(f"in the {side} part of the image" for side in ("upper", "lower")),
        *(f"on the patient's {side} side" for side in ("left", "right")),
    ],
)
def test_a_fact_about_the_entity_and_which_of_a_pair_is_meant_claim_nothing(side: str | None) -> None:
    seen = Attributes("lower right", "large", "darker than", "elongated")
    for target in load_targets().values():
        assert claims(target.fact) == ()
        text = reason(random.Random(1), target, seen, side=side)
        assert [claim.value for claim in claims(text) if claim.coarse] == []
        assert len(claims(text)) == 4


# Facts.


def test_measured_words_are_accepted_and_their_neighbours_near_a_threshold() -> None:
    mask = ellipse(300, 300, 60, 60, 20, 20)
    facts = Facts.measure(mask, np.where(mask, 113, 100))
    assert facts.to_dict() == {
        "place": ["left half", "left third", "upper half", "upper left", "upper left quadrant", "upper third"],
        "size": ["small"],
        "brightness": ["about as bright as", "brighter than"],
        "shape": ["round"],
        "parts": ["one"],
    }


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (79, {"tiny"}),
        (80, {"tiny", "small"}),
        (100, {"tiny", "small"}),
        (120, {"tiny", "small"}),
        (121, {"small"}),
        (319, {"small"}),
        (320, {"small", "medium-sized"}),
        (480, {"small", "medium-sized"}),
        (481, {"medium-sized"}),
        (1200, {"medium-sized", "large"}),
        (1800, {"medium-sized", "large"}),
        (1801, {"large"}),
    ],
)
def test_sizes_within_a_fifth_of_a_threshold_are_both(pixels: int, words: set[str]) -> None:
    assert Facts.measure((np.arange(10_000) < pixels).reshape(100, 100)).accepted["size"] == words


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (84, {"darker than"}),
        (85, {"darker than", "about as bright as"}),
        (91, {"darker than", "about as bright as"}),
        (92, {"about as bright as"}),
        (108, {"about as bright as"}),
        (109, {"about as bright as", "brighter than"}),
        (115, {"about as bright as", "brighter than"}),
        (116, {"brighter than"}),
    ],
)
def test_brightness_within_3_grey_levels_of_the_threshold_is_both(inside: int, words: set[str]) -> None:
    mask = ellipse(90, 120, 40, 60, 12, 12)
    assert Facts.measure(mask, np.where(mask, inside, 100)).accepted["brightness"] == words
    assert "brightness" not in Facts.measure(mask).accepted


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.38, {"elongated"}),
        (0.42, {"elongated", "oval"}),
        (0.48, {"elongated", "oval"}),
        (0.58, {"oval"}),
        (0.67, {"oval", "round"}),
        (0.73, {"oval", "round"}),
        (0.8, {"round"}),
    ],
)
def test_shapes_near_a_threshold_are_both(ratio: float, words: set[str]) -> None:
    assert Facts.measure(ellipse(300, 300, 150, 150, 100 * ratio, 100)).accepted["shape"] == words


@pytest.mark.parametrize(
    ("x", "zones", "halves"),
    [
        (0.29, {"middle left"}, {"left half"}),
        (0.30, {"middle left", "centre"}, {"left half"}),
        (0.37, {"middle left", "centre"}, {"left half"}),
        (0.38, {"centre"}, {"left half"}),
        (0.47, {"centre"}, {"left half", "right half"}),
        (0.53, {"centre"}, {"left half", "right half"}),
        (0.55, {"centre"}, {"right half"}),
        (0.70, {"centre", "middle right"}, {"right half"}),
        (0.71, {"middle right"}, {"right half"}),
    ],
)
def test_places_near_a_border_are_both(x: float, zones: set[str], halves: set[str]) -> None:
    box = Box(x - 0.1, 0.35, x + 0.1, 0.65, Space.unit())
    accepted = Facts.of_box(box).accepted
    assert set(accepted) == {"place"}
    assert accepted["place"] & set(ZONES) == zones
    assert {word for word in accepted["place"] if word in ("left half", "right half")} == halves
    assert Facts.of_box(box.to(Space.pixels(640, 480))).accepted["place"] & set(ZONES) == zones


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([100], {"one"}),
        ([97, 3], {"one"}),
        ([95, 5], {"one", "two"}),
        ([93, 7], {"two"}),
        ([60, 40], {"two"}),
        ([40, 30, 30], {"several"}),
        ([50, 20, 20, 10], {"several"}),
        ([90, 7, 3], {"two"}),
        ([4] * 25, {"several"}),
        ([10, *[3] * 30], {"several"}),
    ],
)
def test_parts_hold_a_twentieth_of_the_target(sizes: list[int], words: set[str]) -> None:
    mask = np.zeros((120, 240), bool)
    for row, size in enumerate(sizes):
        mask[3 * row, :size] = True
    assert Facts.measure(mask).accepted["parts"] == words
    assert quantities(mask).parts == pytest.approx(sorted((size / sum(sizes) for size in sizes), reverse=True))


def test_parts_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[6:10, 6:10] = True
    assert Facts.measure(mask).accepted["parts"] == {"one"}


@settings(max_examples=60)
@given(
    st.integers(0, 89),
    st.integers(0, 119),
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0, 90),
    st.integers(0, 99),
)
def test_what_measure_says_is_always_accepted(
    row: int, column: int, down: int, across: int, angle: float, seed: int
) -> None:
    mask = ellipse(90, 120, row, column, down, across, angle)
    grey = np.random.default_rng(seed).integers(90, 112, mask.shape) + 12 * mask
    seen, facts = measure(mask, grey), Facts.measure(mask, grey)
    exact = Facts.from_attributes(seen)
    for facet in ("size", "shape", "brightness"):
        assert exact.accepted[facet] <= facts.accepted[facet]
    assert seen.zone in facts.accepted["place"]
    text = SEEN_AS[seed % 3].format(zone=seen.zone, size=seen.size, shape=seen.shape, brightness=seen.brightness)
    assert (evidence(text, facts), honesty(text, facts)) == (1.0, 1.0)


def test_facts_survive_json_and_pickle() -> None:
    mask = ellipse(100, 100, 35, 35, 10, 14)
    facts = Facts.measure(mask, mask * 9)
    assert Facts.read(json.loads(json.dumps(facts.to_dict()))) == facts
    assert pickle.loads(pickle.dumps(facts)) == facts  # noqa: S301 - data loaders pass truths between processes


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"colour": ["red"]}, "colour"),
        ({"size": ["smal"]}, "size"),
        ({"size": []}, "size"),
        ({"size": 3}, "size"),
        ({"size": [None]}, "size"),
        ({"size": [["small"]]}, "size"),
        ({"shape": ["round", "small"]}, "shape"),
        ({3: ["round"]}, "3"),
        (["small"], "facets"),
        (None, "facets"),
    ],
)
def test_facts_that_cannot_be_read_name_their_field(value: object, field: str) -> None:
    with pytest.raises(TruthError, match=field):
        Facts.read(value)


def test_an_empty_mask_and_a_picture_of_another_size_are_refused() -> None:
    mask = ellipse(40, 40, 20, 20, 5, 5)
    with pytest.raises(TruthError, match="empty"):
        Facts.measure(mask & False)
    with pytest.raises(TruthError, match="don't fit"):
        Facts.measure(mask, np.zeros((40, 41)))


# What claims are worth.


def worth(text: str, facts: Facts = FACTS) -> float:
    return evidence(text, facts) + honesty(text, facts)


@pytest.mark.parametrize(
    ("text", "earned", "honest", "why"),
    [
        (TRUE, 1.0, 1.0, "all four facets"),
        ("It is small.", 0.25, 1.0, "one facet of four"),
        ("It is small and round.", 0.5, 1.0, "two facets"),
        ("It is small and oval.", 0.0, 0.5, "one true, one false"),
        ("It is small. It is round. It is oval.", 0.0, 0.5, "a contradiction makes its facet false"),
        ("It is small, oval and darker than its surroundings.", 0.0, 0.0, "one true, two false"),
        ("It lies on the left side of the image.", 0.125, 1.0, "a coarse place is half a facet"),
        ("It lies on the left side of the image, in the upper left of the image.", 0.25, 1.0, "zone and side once"),
        ("It lies on the left side and in the upper half of the image.", 0.125, 1.0, "two sides are still coarse"),
        ("It lies on the right side of the image.", 0.0, 0.5, "a false side costs a whole facet"),
        ("It lies in the upper left of the image, in the right half of the image.", 0.0, 0.5, "zone true, side false"),
        ("It has two parts.", 0.0, 1.0, "a facet that isn't known"),
    ],
)
def test_what_a_reasoning_is_worth(text: str, earned: float, honest: float, why: str) -> None:
    assert (evidence(text, FACTS), honesty(text, FACTS)) == (earned, honest), why


def test_four_of_five_facets_are_a_full_account() -> None:
    facts = Facts.read({**FACTS.to_dict(), "parts": "two"})
    assert evidence(TRUE, facts) == 1.0
    assert evidence(TRUE + " It has two parts.", facts) == 1.0
    assert evidence(TRUE + " It is one connected region.", facts) == 0.75
    assert evidence("It is small and round. It has two parts.", facts) == 0.75


def test_one_part_earns_nothing_but_can_be_false() -> None:
    text = "It is one connected region."
    assert evidence(text, Facts.read({**FACTS.to_dict(), "parts": "one"})) == 0.0
    assert evidence(TRUE, Facts.read({**FACTS.to_dict(), "parts": "one"})) == 1.0
    assert honesty(text, Facts.read({**FACTS.to_dict(), "parts": "two"})) == 0.5
    assert honesty("It has two parts.", Facts.read({"parts": "one"})) == 0.0


def test_only_what_is_known_is_needed() -> None:
    mask = ellipse(300, 300, 60, 60, 20, 20)
    text = "It lies in the upper left of the image, is small and round, and is brighter than its surroundings."
    for facts in (Facts.measure(mask), Facts.of_box(Box(40, 40, 80, 80, Space.pixels(300, 300)))):
        assert (evidence(text, facts), honesty(text, facts)) == (1.0, 1.0)
    assert (evidence(text, Facts({})), honesty(text, Facts({}))) == (0.0, 1.0)
    assert holds(claims("It is small.")[0], Facts({})) is None


# Why hacking doesn't pay.


def test_silence_earns_nothing() -> None:
    for text in ("", "   ", "Let me look at this image. This is the optic disc.", "It is what it is."):
        assert (evidence(text, FACTS), honesty(text, FACTS)) == (0.0, 1.0)


def test_a_false_claim_costs_more_than_silence() -> None:
    for facet in FACTS.accepted:
        for word in set(WORDS[facet]) - FACTS.accepted[facet]:
            false = said_of(facet, word)
            assert worth(false) < worth("")
            others = [said_of(other, min(FACTS.accepted[other])) for other in FACTS.accepted if other != facet]
            assert worth(" ".join([*others, false])) < worth(" ".join(others))


def test_listing_every_word_does_not_pay() -> None:
    everything = " ".join(said_of(facet, word) for facet in FACETS for word in WORDS[facet])
    in_one = "It is tiny, small, medium-sized, large, round, oval, elongated, bright, dark and isointense."
    a_region = "A tiny small medium-sized large round oval elongated bright dark region is seen."
    for text in (everything, in_one, a_region):
        assert evidence(text, FACTS) == 0.0
        assert worth(text) < worth("")
    bare = "tiny small large round oval elongated bright dark upper left lower right"
    assert worth(bare) == worth("")


def test_repeating_a_claim_does_not_pay() -> None:
    for text in ("It is small.", TRUE, "It is small and oval."):
        for times in (2, 10, 500):
            assert worth(" ".join([text] * times)) == worth(text)
    assert worth("It is small, small, small and small.") == worth("It is small.")


def test_saying_one_facet_in_many_ways_does_not_pay() -> None:
    many = "It is round. Its shape is circular. It is a spherical mass. Shape: round. It is round in outline."
    assert worth(many) == worth("It is round.")


def test_hedging_does_not_pay() -> None:
    for text in (
        "It is small or large.",
        "It may be round, and perhaps small.",
        "If it is round, it is small.",
        "Is it round? Is it small?",
        "It is not large. It is not elongated.",
        "It lies either in the upper left of the image or in the lower right of the image.",
    ):
        assert (evidence(text, FACTS), honesty(text, FACTS)) == (0.0, 1.0)


def test_tossing_a_coin_for_the_side_does_not_pay() -> None:
    left, right = (f"It lies on the {side} side of the image." for side in ("left", "right"))
    for before in ("", "It is small. "):
        assert (worth(before + left) + worth(before + right)) / 2 < worth(before)


def test_describing_a_neighbour_does_not_pay() -> None:
    for text in (
        "It lies next to a small, round region.",
        "The liver is small, round and brighter than its surroundings.",
    ):
        assert (evidence(text, FACTS), honesty(text, FACTS)) == (0.0, 1.0)


def test_claims_behind_the_read_limit_do_not_pay() -> None:
    filler = "Hm. " * (MAX_READ // 4)
    assert worth(filler + TRUE) == worth("")
    assert worth(TRUE + filler) == worth(TRUE)
    # A sentence that the limit cuts isn't read: what would have taken it back may be behind.
    start = "Hm. " * ((MAX_READ - 12) // 4)
    for more in range(12):
        text = start + "." * more + "It is small or large."
        assert [claim.value for claim in claims(text)] == []
    assert [claim.value for claim in claims(("." * (MAX_READ - 11)) + "It is small. It is round.")] == ["small"]


@pytest.mark.parametrize(
    ("told", "coarse", "limit"),
    [(0, False, 2 / 3), (1, False, 3 / 4), (3, False, 3 / 4), (0, True, 4 / 5), (2, True, 6 / 7)],
)
def test_when_a_guess_pays(told: int, coarse: bool, limit: float) -> None:
    before = " ".join(
        [said_of("size", "small"), said_of("shape", "round"), said_of("brightness", "brighter than")][:told]
    )
    right, wrong = ("left half", "right half") if coarse else ("upper left", "lower right")
    gain, loss = (worth(f"{before} {said_of('place', word)}") - worth(before) for word in (right, wrong))
    assert gain > 0 > loss
    assert -loss / (gain - loss) == pytest.approx(limit)


def test_no_guess_pays_once_evidence_is_full() -> None:
    facts = Facts.read({**FACTS.to_dict(), "parts": "two"})
    assert worth(TRUE + " It has two parts.", facts) == worth(TRUE, facts)
    assert worth(TRUE + " It has several parts.", facts) < worth(TRUE, facts)


# Laws, for any text.

SOUP = st.lists(
    st.sampled_from(
        sorted({word for phrase in DESCRIPTIONS for word in phrase.split()} | DOUBT | RELATIONS | TARGET_NOUNS)
        + sorted(FUNCTION_WORDS)
        + [
            "upper",
            "left",
            "image",
            "surroundings",
            "its",
            "it",
            "is",
            "and",
            ".",
            ".",
            ",",
            "?",
            "\n\n",
            "-",
            "of the image",
        ]
    ),
    max_size=60,
).map(" ".join)
SAID = st.lists(
    st.sampled_from(
        [said_of(facet, word) for facet in FACETS for word in WORDS[facet]] + [row[0] for row in SENTENCES]
    ),
    max_size=8,
).map("\n\n".join)
TEXT = st.one_of(st.text(max_size=300), SOUP, SAID)
SOME_FACTS = st.fixed_dictionaries(
    {}, optional={facet: st.sets(st.sampled_from(WORDS[facet]), min_size=1) for facet in FACETS}
).map(Facts.read)


@settings(max_examples=300)
@given(TEXT, SOME_FACTS)
def test_any_text_has_a_worth_in_range(text: str, facts: Facts) -> None:
    for claim in claims(text):
        assert claim.value in WORDS[claim.facet]
        assert 0 <= claim.start < claim.end <= len(text)
        assert holds(claim, facts) in ((True, False) if claim.facet in facts.accepted else (None,))
    for term in (evidence, honesty):
        value = term(text, facts)
        assert math.isfinite(value)
        assert 0.0 <= value <= 1.0


@settings(max_examples=200)
@given(TEXT, SOME_FACTS, st.data())
def test_adding_a_false_claim_never_raises_the_worth(text: str, facts: Facts, data: st.DataObject) -> None:
    false = [(facet, word) for facet in facts.accepted for word in WORDS[facet] if word not in facts.accepted[facet]]
    if false:
        claim = said_of(*data.draw(st.sampled_from(false)))
        assert worth(f"{text}\n\n{claim}", facts) <= worth(text, facts)
        assert worth(f"{claim}\n\n{text}", facts) <= worth(text, facts)
        assert honesty(f"{text}\n\n{claim}", facts) < 1.0


@settings(max_examples=100)
@given(TEXT, SOME_FACTS, st.integers(2, 40))
def test_repeating_the_reasoning_changes_nothing(text: str, facts: Facts, times: int) -> None:
    again = "\n\n".join([text] * times)
    assert (evidence(again, facts), honesty(again, facts)) == (evidence(text, facts), honesty(text, facts))


@pytest.mark.parametrize(
    "piece", ["a", " ", "\n", ".", "is ", "round ", "brighter than its ", "left of the ", "\x00", "𝟙"]
)
def test_a_megabyte_is_read_as_far_as_the_limit(piece: str) -> None:
    assert worth(TRUE + "\n\n" + piece * (1_000_000 // len(piece))) == worth(TRUE)


# Real masks.


@needs_masks
def test_true_traces_of_real_targets_earn_everything_and_a_swapped_facet_less() -> None:
    targets = read_open_masks(REAL)
    pairs = partners(targets)
    for target in random.Random(5).sample(targets, 200):
        mask, grey = load_mask(target), grey_levels(target)
        facts, seen = Facts.measure(mask, grey), measure(mask, grey)
        sample = build_sample(target, pairs.get(target.id), seed=2, held_out=False)
        assert len(claims(sample.reasoning)) == 4
        assert (evidence(sample.reasoning, facts), honesty(sample.reasoning, facts)) == (1.0, 1.0), target.id
        for facet, field in (("place", "zone"), ("size", "size"), ("shape", "shape"), ("brightness", "brightness")):
            words = ZONES if facet == "place" else WORDS[facet]
            word = min(set(words) - facts.accepted[facet])
            swapped = reason(random.Random(2), load_targets()[sample.meta["target"]], replace(seen, **{field: word}))
            assert (evidence(swapped, facts), honesty(swapped, facts)) == (0.5, 0.5), target.id


@needs_masks
def test_a_constant_account_of_real_targets_does_not_pay() -> None:
    targets = read_open_masks(REAL)
    facts = [Facts.measure(load_mask(target), grey_levels(target)) for target in random.Random(6).sample(targets, 120)]
    often = {
        facet: max(
            (word for word in WORDS[facet]), key=lambda word: sum(word in known.accepted[facet] for known in facts)
        )
        for facet in ("size", "shape", "brightness")
    }
    text = " ".join(said_of(facet, word) for facet, word in {"place": "centre", **often, "parts": "one"}.items())
    assert len(claims(text)) == 5
    for said in (text, said_of("place", "centre")):
        assert np.mean([worth(said, known) for known in facts]) < 1.0  # which is what silence is worth
