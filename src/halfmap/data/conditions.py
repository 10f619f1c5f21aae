"""Conditions on columns, as people type them: ``defocus_u_A<30000``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import numpy as np

from halfmap.data.columns import COLUMN_OF_RELION
from halfmap.data.records import ImageSet
from halfmap.errors import HalfmapError
from halfmap.typing import Array, FloatArray

_COMPARE: Final[dict[str, Callable[[Array, float], Array]]] = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
}
_CONDITION = re.compile(r"^\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*([-+.\deE]+)\s*$")


def fulfils(images: ImageSet, condition: str) -> Array:
    """Mask of the rows that fulfil a condition such as ``defocus_u_A<30000``.

    Columns go by our names in our units or by RELION's in RELION's; columns that only the file
    knows go by their labels.

    Raises
    ------
    HalfmapError
        Not a condition, or a column that the rows do not have, or that holds no numbers.
    """
    found = _CONDITION.match(condition)
    try:
        name, operator, value = found.group(1), found.group(2), float(found.group(3))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        raise HalfmapError(f"{condition!r} is not a condition.", remedy="Write one as 'defocus_u_A<30000'.") from None
    scale = COLUMN_OF_RELION[name].relion_scale if name in COLUMN_OF_RELION else 1.0
    values = column_of(images, name)
    if values is None:
        known = sorted([*images.rows.columns, *images.rows.foreign])
        raise HalfmapError(f"the {images.kind} have no column {name}.", remedy=f"Columns are {', '.join(known)}.")
    return np.asarray(_COMPARE[operator](values, value * scale), dtype=bool)


def column_of(images: ImageSet, name: str) -> FloatArray | None:
    """A column of numbers by our name, RELION's label, or the label of a foreign column; None if absent.

    Declared columns are in our units, foreign ones in those of the file.
    """
    own = COLUMN_OF_RELION[name].name if name in COLUMN_OF_RELION else name
    if own not in images and name not in images.rows.foreign:
        return None
    values = images[own] if own in images else images.rows.foreign[name]
    try:
        return values.astype(np.float64)
    except ValueError:
        raise HalfmapError(
            f"the column {name} of these {images.kind} holds text, not numbers.", remedy="Name another column."
        ) from None
