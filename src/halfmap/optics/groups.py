"""One source of truth for pixel size, voltage, Cs and amplitude contrast of every optics group."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.data.columns import PIXEL_SIZE_COLUMN, Kind
from halfmap.data.table import Table
from halfmap.errors import BadInputError
from halfmap.optics.options import OpticsOptions
from halfmap.typing import PathLike
from halfmap.units import split_unit

DEFAULT_AMPLITUDE_CONTRAST: Final = 0.1
"""Of vitreous ice and protein at 100 to 300 kV; the field's usual value."""


def check_agreement(file: PathLike, quantity: str, *, found: float, stated: float, stated_by: str) -> None:
    """Raise an error that prints the ratio when two statements differ by more than 0.1 %."""
    if abs(found - stated) <= PIXEL_SIZE_TOLERANCE * abs(stated):
        return
    ratio = f"{found / stated:.4f}" if stated else "infinite"
    raise BadInputError(
        Path(file),
        quantity,
        found=f"{found:g}",
        expected=f"{stated:g} as stated by {stated_by} (ratio {ratio})",
        remedy=f"Correct whichever is wrong; they may differ by {PIXEL_SIZE_TOLERANCE:.1%} at most.",
    )


def agreed_optics(optics: Table, options: OpticsOptions, kind: Kind, source: PathLike) -> Table:
    """Complete a table of optics groups with options, and refuse contradictions.

    Parameters
    ----------
    optics
        One row a group; columns that the file does not state are absent or NaN.
    options
        Values given by the user; None where not given.
    kind
        Which images the pixel size is of.
    source
        The file that ``optics`` comes from, for messages.

    Raises
    ------
    BadInputError
        If option and file differ by more than 0.1 %, or neither states a needed value.
    """
    wanted: list[tuple[str, str, float | None]] = [
        (PIXEL_SIZE_COLUMN[kind], "pixel_size_A", None),
        ("voltage_kV", "voltage_kV", None),
        ("cs_mm", "cs_mm", None),
        ("amplitude_contrast", "amplitude_contrast", DEFAULT_AMPLITUDE_CONTRAST),
    ]
    completed = {}
    for column, field, default in wanted:
        given: float | None = getattr(options, field)
        values = np.array(optics.get(column, np.nan), dtype=np.float64)
        if given is not None:
            for value in values[np.isfinite(values)]:
                check_agreement(source, column, found=float(value), stated=given, stated_by=flag(field))
        fill = given if given is not None else default
        if fill is None and not np.all(np.isfinite(values)):
            unit = split_unit(field)[1]
            raise BadInputError(
                Path(source), column, found="not stated", expected="a value", remedy=f"Give {flag(field)} in {unit}."
            )
        completed[column] = np.where(np.isfinite(values), values, np.nan if fill is None else fill)
    return optics.with_columns(**completed)


def given_optics(options: OpticsOptions, kind: Kind) -> dict[str, float]:
    """Columns of optics groups that the user states, for images of a kind."""
    stated = {PIXEL_SIZE_COLUMN[kind]: options.pixel_size_A}
    stated |= {name: getattr(options, name) for name in ("voltage_kV", "cs_mm", "amplitude_contrast")}
    return {name: value for name, value in stated.items() if value is not None}


def flag(field: str) -> str:
    """An option's spelling on the command line.

    >>> flag("pixel_size_A")
    '--pixel-size'
    """
    return "--" + split_unit(field)[0].replace("_", "-")
