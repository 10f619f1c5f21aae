"""Tables of curves over shells, as RELION's begin."""

from __future__ import annotations

import numpy as np

from halfmap.typing import Array


def shell_columns(frequency_per_A: Array) -> dict[str, Array]:
    """Index, frequency and resolution of shells under RELION's labels.

    >>> {label: values.tolist() for label, values in shell_columns(np.array([0.0, 0.1])).items()}
    {'rlnSpectralIndex': [0, 1], 'rlnResolution': [0.0, 0.1], 'rlnAngstromResolution': [999.0, 10.0]}
    """
    angstrom = np.full_like(frequency_per_A, 999.0)  # RELION's value for shell 0
    angstrom[1:] = 1.0 / frequency_per_A[1:]
    return {
        "rlnSpectralIndex": np.arange(len(frequency_per_A)),
        "rlnResolution": frequency_per_A,
        "rlnAngstromResolution": angstrom,
    }
