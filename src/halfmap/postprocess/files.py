"""What post-processing writes: maps, and curves under RELION's labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.records import Volume
from halfmap.io.curves import shell_columns
from halfmap.io.mrc import write_volume
from halfmap.io.star import StarBlock, write_star
from halfmap.postprocess.combine import Postprocessed
from halfmap.postprocess.compare import Comparison
from halfmap.typing import Array
from halfmap.validation.fsc_curves import FscCurves


def write_postprocessed(result: Postprocessed, like: Volume, folder: Path) -> dict[str, Any]:
    """Write ``map.mrc``, ``map_masked.mrc``, ``mask.mrc`` and ``fsc.star``; return the figures worth keeping."""
    sharpened = result.sharpened.volume
    for name, data in (
        ("map.mrc", sharpened),
        ("map_masked.mrc", sharpened * result.mask),
        ("mask.mrc", result.mask),
    ):
        write_volume(folder / name, Volume(data.cpu().numpy(), like.pixel_size_A, like.origin_A))
    write_star(
        folder / "fsc.star",
        {
            "general": _general_block(result),
            "fsc": fsc_block(result.curves),
            "guinier": _guinier_block(result),
            "directional": _directional_block(result),
        },
    )
    return figures(result)


def figures(result: Postprocessed) -> dict[str, Any]:
    """Numbers of the record (None where there is none)."""
    curves, sharpened = result.curves, result.sharpened
    made = result.mask_made
    return {
        "resolution_A": _finite(curves.resolution_A()),
        "resolution_0.5_A": _finite(curves.resolution_A(0.5)),
        "resolution_unmasked_A": _finite(curves.unmasked_resolution_A()),
        "resolution_masked_A": _finite(curves.masked_resolution_A()),
        "randomised_from_A": curves.box_px * curves.pixel_size_A / max(curves.randomised_from_shell, 1),
        "b_factor_A2": sharpened.b_factor_A2,
        "b_factor_source": sharpened.b_factor_source,
        "low_pass_A": sharpened.low_pass_A,
        "directional_area_ratio": result.directional.area_ratio,
        "directional_best_A": _finite(float(result.directional.resolution_A.min())),
        "directional_worst_A": _finite(float(result.directional.resolution_A.max())),
        "mask_threshold": made.threshold if made else None,
        "mask_threshold_source": made.threshold_source if made else "mask given",
        "mask_pieces": made.pieces if made else None,
        "mask_fraction": curves.mask_fraction,
        "verdicts": [verdict.code for verdict in result.verdicts],
    }


def reference_fsc_block(found: Comparison, pixel_size_A: float) -> dict[str, Array]:
    """Table of the curves of a comparison with a reference."""
    shells = np.arange(len(found.fsc_masked), dtype=np.float64)
    return {
        **shell_columns(shells / (found.aligned.shape[0] * pixel_size_A)),
        "halfmapFourierShellCorrelationReference": found.fsc_masked,
        "halfmapFourierShellCorrelationReferenceAveraged": found.fsc_averaged,
        "halfmapFourierShellCorrelationReferenceUnmasked": found.fsc_unmasked,
    }


def fsc_block(curves: FscCurves) -> dict[str, Array]:
    """Table of the curves with the labels of RELION's ``postprocess.star`` (one row a shell)."""
    return {
        **shell_columns(curves.frequency_per_A()),
        "rlnFourierShellCorrelationCorrected": curves.corrected,
        "rlnFourierShellCorrelationUnmaskedMaps": curves.unmasked,
        "rlnFourierShellCorrelationMaskedMaps": curves.masked,
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": curves.phase_randomised,
    }


def _general_block(result: Postprocessed) -> StarBlock:
    curves, guinier = result.curves, result.sharpened.guinier
    values: dict[str, Any] = {
        "rlnFinalResolution": _finite(curves.resolution_A()) or 999.0,
        "rlnRandomiseFrom": curves.box_px * curves.pixel_size_A / max(curves.randomised_from_shell, 1),
        # RELION's sign: the B factor that is applied, negative for sharpening.
        "rlnBfactorUsedForSharpening": -result.sharpened.b_factor_A2,
    }
    if guinier.b_factor_A2 is not None and guinier.intercept is not None:
        values["rlnFittedSlopeGuinierPlot"] = -guinier.b_factor_A2 / 4.0
        values["rlnFittedInterceptGuinierPlot"] = guinier.intercept
    return StarBlock.pairs(**values)


def _guinier_block(result: Postprocessed) -> dict[str, Array]:
    guinier = result.sharpened.guinier
    shown = np.isfinite(guinier.ln_amplitude)
    shown[0] = False
    x, y = guinier.inverse_d_squared[shown], guinier.ln_amplitude[shown]
    weight = result.sharpened.shell_weight.cpu().numpy()[shown]
    return {
        "rlnResolutionSquared": x,
        "rlnLogAmplitudesOriginal": y - np.log(weight),
        "rlnLogAmplitudesWeighted": y,
        "rlnLogAmplitudesSharpened": y + result.sharpened.b_factor_A2 / 4.0 * x,
    }


def _directional_block(result: Postprocessed) -> dict[str, Array]:
    directional = result.directional
    resolution = np.where(np.isfinite(directional.resolution_A), directional.resolution_A, 999.0)
    return {
        "rlnAngleRot": np.degrees(np.arctan2(directional.axes[:, 1], directional.axes[:, 0])),
        "rlnAngleTilt": np.degrees(np.arccos(np.clip(directional.axes[:, 2], -1.0, 1.0))),
        "rlnAngstromResolution": resolution,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
