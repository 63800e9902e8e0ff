"""Real images that installed packages carry, grounded and shown on one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from medground import RESEARCH_USE
from medground._io import make_folder, write_text
from medground.drawing import draw, overlay
from medground.errors import MedgroundError, MissingExtraError
from medground.images import MedicalImage, load_image
from medground.pipeline import MedGround
from medground.types import Result
from medground.wording import describe

__all__ = ["CASES", "Case", "run_demo"]


@dataclass(frozen=True, slots=True)
class Case:
    """One image of the demo with its question.

    Parameters
    ----------
    title : str
    package : str
        The package that carries the image.
    file : str
        Its path in the package.
    question : str
        Never names the target.
    target : str
        What the question means, by its name in the taxonomy.
    credit : str
        Where the image comes from.
    reading : dict
        What `load_image` is told: slice, window and the like.
    """

    title: str
    package: str
    file: str
    question: str
    target: str
    credit: str
    reading: dict[str, Any] = field(default_factory=dict)

    def path(self) -> Path:
        """Return where the image is installed; raises MissingExtraError when it isn't."""
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = Path(folder, self.file)
            if path.is_file():
                return path
        distribution = {"skimage": "scikit-image"}.get(self.package, self.package)
        raise MissingExtraError(distribution, extra="demo", purpose=f"the demo's {self.title}")


_ABDOMEN_CREDIT = "pydicom's examples_overlay.dcm: MR-SIEMENS-DICOM-WithOverlays, cropped"

# nano finds the optic disc; the other pictures are unlike those that it learnt from, and it is wrong about them
# (docs/log.md). A model that is better, or worse, shows here first.
CASES = (
    Case(
        title="colour photograph of a retina",
        package="skimage",
        file="data/retina.jpg",
        question="Where do the nerve fibres of the retina leave the eye?",
        target="optic disc",
        credit="scikit-image's retina.jpg: Mikael Häggström, Wikimedia Commons, CC0",
    ),
    Case(
        title="T1-weighted MRI of the brain",
        package="nilearn",
        file="datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        question="Where is the myelinated cabling that links distant regions of the hemisphere?",
        target="cerebral white matter",
        credit="nilearn's ICBM 152 average brain, 2009a symmetric: Montreal Neurological Institute, McGill University",
        reading={"axis": "axial", "slice": 80},
    ),
    Case(
        title="MRI of the abdomen",
        package="pydicom",
        file="data/test_files/examples_overlay.dcm",
        question="Where is the nervous tissue inside the bony canal of the back?",
        target="spinal cord",
        credit=_ABDOMEN_CREDIT,
    ),
    Case(
        title="MRI of the abdomen",
        package="pydicom",
        file="data/test_files/examples_overlay.dcm",
        question="Where is the organ that filters blood and makes urine, the one on the patient's right side?",
        target="kidney",
        credit=_ABDOMEN_CREDIT,
    ),
)


def run_demo(grounder: MedGround, out: str | Path, cases: Sequence[Case] = CASES) -> tuple[Path, list[str]]:
    """Ground the demo's images and write ``out/index.html``.

    Parameters
    ----------
    grounder : MedGround
    out : str or Path
        A folder, made when it isn't there.
    cases : sequence of Case

    Returns
    -------
    tuple of (Path, list of str)
        The page, and a sentence for each case that couldn't be shown.

    Raises
    ------
    MedgroundError
        When no case could be shown: what was wrong with the first.
    """
    folder = make_folder(out)
    cards, skipped = [], []
    first: MedgroundError | None = None
    for case in cases:
        try:
            image = load_image(case.path(), **case.reading)
            cards.append(_card(case, image, grounder.ground(image, case.question)))
        except MedgroundError as error:
            first = first or error
            skipped.append(f"{case.title}: {error}")
    if first is not None and not cards:
        raise first
    page = folder / "index.html"
    write_text(page, _PAGE.format(cards="\n".join(cards), notice=escape(RESEARCH_USE), skipped=_list(skipped)))
    return page, skipped


def _card(case: Case, image: MedicalImage, result: Result) -> str:
    told = [("meant", f"{case.target} (the question doesn't say so)"), *describe(result)]
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in told)
    reasoning = f"<blockquote>{escape(result.reasoning)}</blockquote>" if result.reasoning else ""
    return (
        f"<article><h2>{escape(case.question)}</h2>"
        f"<div class=pictures>{_figure(draw(image), case.title)}"
        f"{_figure(overlay(image, result), 'the answer: mask, box and two key points')}</div>"
        f"{reasoning}<dl>{facts}</dl><p class=credit>{escape(case.credit)}</p></article>"
    )


def _figure(picture: Image.Image, caption: str) -> str:
    picture.thumbnail((900, 900), Image.Resampling.LANCZOS)
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=88, subsampling=0)  # thin coloured lines blur where colour is thinned
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{escape(caption)}" '
        f'width="{picture.width}" height="{picture.height}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _list(sentences: list[str]) -> str:
    if not sentences:
        return ""
    return "<h2>Left out</h2><ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>medground: demo</title>
<style>
:root {{ --ground: #fff; --card: #f4f6f8; --ink: #1a1d21; --soft: #59626d; --accent: #0b5c8f;
  --warn: #fff3cd; --warnink: #5c4400 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ground: #14171a; --card: #1e2328; --ink: #e8eaed; --soft: #a3adb8; --accent: #7cc4ee;
    --warn: #4a3a08; --warnink: #ffe9a8 }}
}}
* {{ box-sizing: border-box }}
body {{ margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }}
h1 {{ font-size: 1.5rem; margin: 0.5rem 0 }}
h2 {{ font-size: 1.15rem; margin: 0 0 0.75rem }}
.notice {{ background: var(--warn); color: var(--warnink); padding: 0.6rem 0.9rem; border-radius: 0.4rem }}
article {{ background: var(--card); border-radius: 0.6rem; padding: 1rem; margin: 1.25rem 0 }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 0.75rem }}
figure {{ margin: 0 }}
img {{ width: 100%; height: auto; max-height: 34rem; object-fit: contain; background: #000;
  border-radius: 0.3rem; display: block }}
figcaption, .credit {{ color: var(--soft); font-size: 0.85rem }}
blockquote {{ margin: 0.9rem 0; padding-left: 0.9rem; border-left: 3px solid var(--accent); white-space: pre-wrap }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 0.9rem; margin: 0.9rem 0 0.5rem;
  font-size: 0.95rem }}
dt {{ color: var(--soft) }}
dd {{ margin: 0; overflow-wrap: anywhere }}
.key {{ display: inline-block; width: 0.8em; height: 0.8em; border: 1px solid #000; vertical-align: -0.05em;
  margin-right: 0.3em }}
</style>
</head>
<body>
<h1>medground: questions about real images</h1>
<p class="notice">{notice}</p>
<p>Each question was asked of the image beside it; nothing was corrected by hand, so an answer may be wrong.
The questions are ones that the embedded model has learnt something about; it fails on many others.
<span class="key" style="background:#56b4e9"></span>mask
<span class="key" style="background:#e69f00"></span>box
<span class="key" style="background:#f0e442;border-radius:50%"></span>key points</p>
{cards}
{skipped}
</body>
</html>
"""
