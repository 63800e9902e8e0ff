"""Pictures that look alike: a perceptual hash, and the pairs of hashes that are close.

The hash is pHash (Zauner 2010) with 16 x 16 coefficients of the discrete cosine transform, 256 bits; it is bit for bit
that of ImageHash with ``hash_size=16``, in four lines of SciPy. The usual 64 bits are too few for medical pictures,
which look much alike by nature: on the 5,969 pictures of the open masks they put some patients' chest X-rays as near to
each other (4 to 6 bits) as a picture is to its own copy in another brightness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

from medground.images import MedicalImage

__all__ = ["ALIKE", "BITS", "NEAR", "look_alikes", "perceptual_hash"]

SIDE = 16
BITS = SIDE * SIDE
"""Bits of a hash."""

NEAR = 30
"""The distance, in bits of 256, up to which two pictures are taken for one: what differs so little was the same.

On the open masks 39 pairs of pictures in two splits are so close, and all 39 are one picture twice, or the same view
again (each was looked at). Pictures that were compressed hard or halved lie at most 12 from the original, shifted by
two pixels at most 32, cropped by 1 % on each side at most 40, half of those at most 22.
"""

ALIKE = 38
"""The distance up to which a look is worth while: 9 of the 10 pairs from 32 to 38 show one lesion or one patient.

Beyond 40 most pairs share no more than the organ and the machine, and their number grows tenfold every ten bits.
"""

_SAMPLES = 4 * SIDE
_BLOCK = 2048


def perceptual_hash(image: MedicalImage) -> bytes:
    """Return the hash of a picture's grey levels, 32 bytes; alike pictures have hashes that differ in few bits.

    The picture is shrunk to 64 x 64 whatever its shape; a bit says whether one of the 16 x 16 lowest frequencies is
    above their median. A picture that was turned or mirrored has another hash.

    Examples
    --------
    >>> rows, columns = np.mgrid[:90, :120]
    >>> picture = (rows * columns % 251).astype(np.uint8)
    >>> one, darker = (perceptual_hash(MedicalImage.from_array(each)) for each in (picture, picture // 2))
    >>> len(one), sum((a ^ b).bit_count() for a, b in zip(one, darker, strict=True)) <= NEAR
    (32, True)
    """
    grey = Image.fromarray(image.rgb).convert("L").resize((_SAMPLES, _SAMPLES), Image.Resampling.LANCZOS)
    low = fft.dctn(np.asarray(grey, np.float64))[:SIDE, :SIDE]
    return np.packbits(low > np.median(low)).tobytes()


def look_alikes(
    hashes: Sequence[bytes], labels: Sequence[str], threshold: int = NEAR
) -> Iterator[tuple[int, int, int]]:
    """Yield the pairs of close hashes with different labels.

    Every such pair is compared, in blocks, as a product of matrices. So the time grows with the square of the number,
    but slowly: 100,000 pictures of which a fifth has another label take some ten seconds on one core. Nothing but the
    hashes is held.

    Parameters
    ----------
    hashes : sequence of bytes
        As `perceptual_hash` returns them.
    labels : sequence of str
        Such as each picture's split; pairs with the same label aren't compared.
    threshold : int
        The largest distance, in bits.

    Yields
    ------
    (int, int, int)
        Two indices, the smaller one first, and the distance of their hashes.

    Examples
    --------
    >>> list(look_alikes([bytes(32), bytes(32), b"A" + bytes(31)], ["train", "train", "test"], threshold=2))
    [(0, 2, 2), (1, 2, 2)]
    """
    if not hashes:
        return
    packed = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    names = np.asarray(labels)
    members = [np.flatnonzero(names == name) for name in sorted(set(labels))]
    for one, first in enumerate(members):
        for second in members[one + 1 :]:
            for left in _blocks(first):
                signs = _signs(packed[left])
                for right in _blocks(second):
                    # The product of two vectors of signs is the bits that agree less those that don't.
                    product = signs @ _signs(packed[right]).T
                    for row, column in np.argwhere(product >= BITS - 2 * threshold):
                        low, high = sorted((int(left[row]), int(right[column])))
                        yield low, high, int(BITS - product[row, column]) // 2


def _blocks(indices: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    return (indices[start : start + _BLOCK] for start in range(0, len(indices), _BLOCK))


def _signs(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
