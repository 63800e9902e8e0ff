"""The words of claims about a target, and the words that decide whether a sentence makes a claim at all.

Each list holds single words or fixed phrases, in lower case, hyphens written as blanks.
"""

from __future__ import annotations

__all__ = [
    "ADVERBS",
    "COMPARISON",
    "COPULAS",
    "DESCRIPTIONS",
    "DETERMINERS",
    "DOUBT",
    "FUNCTION_WORDS",
    "HAVING",
    "LABELS",
    "NOT_DESCRIPTIONS",
    "PARTS",
    "PLACE",
    "PREPOSITIONS",
    "PROPERTIES",
    "RELATIONS",
    "TARGET_NOUNS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(facet: str, **values: str) -> dict[str, tuple[str, str]]:
    """Map each phrase (separated by commas) to its facet and its word; ``_`` in a key stands for a blank."""
    return {
        phrase.strip(): (facet, value.replace("_", " ")) for value, row in values.items() for phrase in row.split(",")
    }


DESCRIPTIONS: dict[str, tuple[str, str]] = {
    **_table(
        "size",
        tiny="tiny, minuscule, punctate, pinpoint, very small, extremely small",
        small="small, smallish, small sized",
        large="large, big, huge, sizeable, sizable, bulky, very large, large sized",
    ),
    **{
        phrase: ("size", "medium-sized")
        for middle in ("medium", "moderate", "intermediate", "average")
        for phrase in (f"{middle} sized", f"{middle} size", f"{middle} in size", f"of {middle} size")
    },
    "moderately sized": ("size", "medium-sized"),
    "mid sized": ("size", "medium-sized"),
    **_table(
        "shape",
        round="round, rounded, roundish, circular, spherical, globular, disc shaped, disk shaped",
        oval="oval, ovoid, ovale, elliptical, elliptic, ellipsoid, ellipsoidal, egg shaped",
        elongated="elongated, elongate, linear, tubular, band like, strip like, rod like, tube like, cigar shaped, "
        "spindle shaped, long and thin, long and narrow, long thin, long narrow",
    ),
    **_table(
        "brightness",
        brighter_than="bright, brighter, lighter, pale, paler, whiter, hyperintense, hyperdense, hyperechoic, "
        "hyperattenuating, hyperechogenic, hyperreflective, radiopaque, high signal, high intensity, high density, "
        "high attenuation, high signal intensity",
        darker_than="dark, darker, dimmer, blacker, hypointense, hypodense, hypoechoic, anechoic, hypoattenuating, "
        "hypoechogenic, hyporeflective, radiolucent, low signal, low intensity, low density, low attenuation, "
        "low signal intensity",
        about_as_bright_as="isointense, isodense, isoechoic, isoattenuating, isoechogenic, equally bright",
    ),
}
"""Phrases of at most three words -> (facet, value). Single words stand for the target against its surroundings."""

_COLOURS = "red green blue yellow brown purple pink orange violet magenta"
NOT_DESCRIPTIONS = frozenset(
    f"{word} {noun}"
    for word, nouns in {
        "small": "bowel intestine intestines vessel vessels cell",
        "large": "bowel intestine intestines vessel vessels cell",
        "round": "ligament cell window",
        "oval": "window",
        "bright": f"field {_COLOURS}",
        "dark": f"field {_COLOURS}",
        "pale": _COLOURS,
        "light": _COLOURS,
        "linear": "array probe accelerator",
    }.items()
    for noun in nouns.split()
)
"""Names in which a word describes nothing, and colours, which say nothing about grey levels."""

_SURROUNDINGS = (
    r"(?:(?:its|the|their|all) )?(?:own |immediate |direct |local |immediately |directly |normal )?"
    r"(?:surroundings|surround|background|neighbou?rhood|surrounding [a-z]+"
    r"|(?:adjacent|neighbou?ring) (?:tissues?|areas?|regions?|skin|parenchyma)"
    r"|(?:tissue|tissues|area|region|skin|parenchyma) (?:that surrounds|surrounding|around) it"
    r"|what (?:surrounds|is around|lies around) it|everything around it)(?![\w'])"
)
_LEVEL = r"(?:signal intensity|signal|intensity|attenuation|density|echogenicity|brightness|reflectivity)"
_KIND = r"(?:intense|dense|echoic|attenuating|echogenic|reflective)"
_TO = r"(?:than|to|relative to|compared to|compared with|in comparison to|in comparison with|with respect to|against)"
_SAME = r"(?:about |roughly |nearly |almost |just |approximately )?"
_HAVING = "has shows exhibits demonstrates displays"
_VERB = rf"(?:(?:{_HAVING.replace(' ', '|')}|of|with) (?:a )?)"
COMPARISON = (
    rf"(?<![\w'])(?:(?:(?P<more>brighter|lighter|paler|whiter|less dark|more (?:bright|intense|echogenic)|hyper{_KIND}"
    rf"|{_VERB}?higher (?:in )?{_LEVEL})"
    rf"|(?P<less>darker|dimmer|blacker|more dark|less (?:bright|intense|echogenic)|hypo{_KIND}"
    rf"|{_VERB}?lower (?:in )?{_LEVEL})) {_TO}"
    rf"|(?P<same>{_SAME}as (?:bright|dark|intense) as|{_SAME}(?:equally bright|iso{_KIND}) (?:as|with|{_TO})"
    rf"|{_SAME}(?:similar|equal) in {_LEVEL} to"
    rf"|{_VERB}?{_SAME}(?:the same|similar|equal|identical) {_LEVEL} (?:as|to)))"
    rf" {_SURROUNDINGS}"
)
"""A comparison of brightness with the surroundings, and with nothing else."""

HAVING = frozenset(_HAVING.split())
"""Verbs by which a target has a signal or a density."""

_PICTURE = (
    r"(?:image|picture|slice|frame|view|scan|film|radiograph|x ray|xray|photograph|photo|sonogram|ultrasound"
    r"|ultrasonogram|mammogram|micrograph|tomogram|angiogram|ct|mri|map|screen|field of view)"
)
_FIELD = r"(?:upper|top|lower|bottom|left|right|middle|centre|center|central|mid)"
_WITHIN = r"(?:of|in|on|within)"
PLACE = (
    rf"\b(?:(?P<owner>{_PICTURE}'s) )?(?P<first>{_FIELD})(?: (?P<second>{_FIELD}))?(?: hand)?"
    r"(?: (?P<noun>side|half|part|portion|area|region|section|corner|quadrant|third|edge|border|margin))?"
    rf"(?(owner)|(?: {_WITHIN})(?: (?:the|this|that|our|an|a))?"
    rf"(?: (?!(?:of|in|on|within|the|a|an|and|is|to|from|by|at)\b)[a-z0-9]+){{0,3}} {_PICTURE})(?![\w'])"
)
"""A place that is anchored to the picture; "left lung" and "the patient's left" aren't."""

_JOINED = r"connected|contiguous|continuous|coherent|unbroken|undivided"
_APART = r"separate|separated|disconnected|distinct|disjoint|discrete|unconnected"
_PIECE = r"parts?|pieces?|components?|fragments?|bits"
_REGION = r"regions?|areas?|structures?|lesions?|foci|focus|patch|patches|mass|masses|nodules?|spots?|blobs?"
_ANY = r"(?!(?:of|in|on|the|a|an|and|or|is|are|to|with|from|by|at|that|which)\b)[a-z0-9]+"
PARTS = (
    rf"\b(?:(?P<one>(?:one|single) (?:(?:{_JOINED}|single|solid|whole) ){{0,3}}(?:piece|component)"
    rf"|(?:one|single) (?:{_ANY} ){{0,2}}?(?:{_JOINED}) (?:{_ANY} ){{0,2}}?(?:{_REGION}|{_PIECE})"
    rf"|single (?:{_ANY} ){{0,3}}?(?:{_REGION}))"
    rf"|(?P<two>(?:two|2) (?:(?:(?:{_APART}) )?(?:{_PIECE})|(?:{_APART}) (?:{_ANY} )?(?:{_REGION})))"
    r"|(?P<several>(?:several|multiple|many|numerous|three|four|five|six|seven|eight|nine|ten|[3-9]) "
    rf"(?:(?:(?:{_APART}) )?(?:{_PIECE})|(?:{_APART}) (?:{_ANY} )?(?:{_REGION}))))(?! of\b)(?![\w'])"
)
"""A number of parts; "two parts of" something is no claim about the whole."""

TARGET_NOUNS = _words(
    "target region area structure lesion mass nodule spot patch focus blob object finding abnormality opacity "
    "growth tumor tumour polyp cyst organ lump"
)
"""Nouns that stand for the target without naming it."""

PROPERTIES = _words(
    "size shape form outline contour silhouette brightness intensity signal density attenuation echogenicity "
    "location position place appearance"
)
"""What a target has: "its shape is round", "it has a round shape"."""

LABELS = PROPERTIES | _words("zone parts target region finding")
"""Words that open a list's line: "Shape: round"."""

COPULAS = _words("is appears looks being appearing remains :")
"""Between the target and its description."""

DETERMINERS = _words("the a an this these those its their his her our each every some any both")

PREPOSITIONS = _words(
    "of in on at to for by with from into onto than as about through across upon over per via during like within inside"
)

RELATIONS = _words(
    "next beside besides adjacent near nearby close behind above below beneath under underneath between among "
    "amid around against along alongside surrounding surrounds surround surrounded surroundings background "
    "neighbour neighbor neighbouring neighboring neighbours neighbors another other others where whereas while "
    "than compared relative versus vs from toward towards extends extending reaches reaching inside within "
    "outside beyond opposite contains containing because since despite unlike similar resembling resembles like"
)
"""From such a word on, a sentence may speak of something else; the rest of it isn't read."""

DOUBT = _words(
    "no not never none neither nor cannot without non absence absent lack lacks lacking hardly barely scarcely "
    "instead except false wrong incorrect untrue nothing nowhere denied excluded if whether unless would could "
    "should might may must maybe perhaps possibly possible probably presumably likely unlikely seems seem "
    "seemingly apparently either or suppose supposing assume assuming imagine expect expects expected guess "
    "hypothetically usually often typically typical normally generally commonly sometimes occasionally always "
    "rarely tend tends previously formerly prior anything doubt doubtful deny denies question asks asked asking /"
)
"""Negation, condition, hedging and general knowledge: a sentence with such a word makes no claim."""

ADVERBS = _words(
    "very quite fairly rather relatively slightly clearly mostly roughly nearly almost distinctly markedly mildly "
    "moderately extremely also both overall only just still somewhat visibly approximately notably much well "
    "uniformly homogeneously predominantly essentially itself shaped sized colour color"
)
"""Words that may stand between a target and its description, in any number."""

FUNCTION_WORDS = (
    DETERMINERS
    | PREPOSITIONS
    | RELATIONS
    | COPULAS
    | _words(
        "and but that which who whose there here it it's are was were has have had lies lie sits sit stands "
        "occupies fills shows show see seen find found located situated visible i we you so then thus therefore"
    )
)
"""Words that end a noun phrase."""
