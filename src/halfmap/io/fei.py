"""Extended headers that Thermo Fisher's software writes into MRC files (FEI1, FEI2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mrcfile.dtypes import get_ext_header_dtype

from halfmap.typing import Array

_METRES_TO_A = 1.0e10


@dataclass(frozen=True)
class FeiMetadata:
    """What the first section's record says; ``None`` where it says nothing."""

    pixel_size_A: float | None
    voltage_kV: float | None
    dose_e_per_A2: float | None
    tilt_deg: float | None


def parse_fei(extended: bytes, exttyp: bytes, byte_order: str) -> FeiMetadata | None:
    """Read the first record of an FEI1 or FEI2 extended header; None if there is no whole one."""
    dtype = get_ext_header_dtype(exttyp.rstrip(b"\0 "), byte_order)
    if dtype is None or len(extended) < dtype.itemsize:
        return None
    record = np.frombuffer(extended, dtype, count=1)[0]
    return FeiMetadata(
        pixel_size_A=_positive(record, "Pixel size X", _METRES_TO_A),
        voltage_kV=_positive(record, "HT", 1e-3),
        dose_e_per_A2=_positive(record, "Dose", 1.0 / _METRES_TO_A**2),
        tilt_deg=float(record["Alpha tilt"]) if np.isfinite(record["Alpha tilt"]) else None,
    )


def _positive(record: Array, name: str, scale: float) -> float | None:
    value = float(record[name]) * scale
    return value if np.isfinite(value) and value > 0 else None
