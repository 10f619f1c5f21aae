"""What to look for, decided from a few micrographs: contrast, template and, if need be, the diameter.

Every candidate template is matched in both contrasts against the micrographs and against their
signal-free copies. The evidence for a candidate is by how much its maxima exceed those of the copies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmap.io.mrc import read_image
from halfmap.picking.field import Field, field_of, flattened, picking_pixel_size_A, radial_power, signal_free
from halfmap.picking.micrograph import Micrograph
from halfmap.picking.score import maxima, score_map
from halfmap.picking.template import Template, candidates
from halfmap.typing import FloatArray

NOISE_LEVEL = 4.0
"""Scores count from here; the highest of a few hundred places without a particle is about this."""
PACKING = 0.75
"""Nearest two particles can be, in diameters, unless the user says otherwise."""
SMALLEST_DIAMETER_A = 60.0
LARGEST_DIAMETER_A = 600.0
DIAMETER_STEP = 1.12
SURVEYED_A = 4000.0
"""Edge of the middle part of a micrograph that is surveyed; it holds hundreds of places."""
LEAST_DIAMETERS_ACROSS = 4.0
"""Templates larger than this part of a micrograph match its gradients, not particles."""
OUTLINE_SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Diameters of templates tried for a particle of a given longest diameter."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a survey: ``sign`` is +1 if particles are white in the micrographs, −1 if dark."""

    template: Template
    sign: int
    evidence: float
    evidence_of_other_sign: float

    @property
    def contrast(self) -> str:
        """How particles look in the micrographs as recorded."""
        return "white" if self.sign > 0 else "dark"

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Finding:
        """From what ``dataclasses.asdict`` made of one."""
        return cls(**{**stored, "template": Template(**stored["template"])})

    def record(self) -> dict[str, Any]:
        """What the survey decided, JSON-able."""
        return {
            "contrast": self.contrast,
            "evidence": round(self.evidence, 1),
            "evidence_of_other_contrast": round(self.evidence_of_other_sign, 1),
            "template_diameter_A": round(self.template.diameter_A, 1),
            "template_inner_frac": self.template.inner_frac,
            "template_softness_frac": self.template.softness_frac,
        }


def survey_sample(micrographs: Sequence[Micrograph], count: int, seed: int) -> list[Micrograph]:
    """Draw some micrographs; the draw does not depend on their order."""
    key = {m.name: hashlib.sha256(f"survey:{seed}:{m.name}".encode()).digest() for m in micrographs}
    return sorted(micrographs, key=lambda m: key[m.name])[:count]


def scan_diameters_A() -> list[float]:
    """Diameters to try where nothing is known: 60 to 600 Å in steps of 12 %."""
    steps = 1 + math.floor(math.log(LARGEST_DIAMETER_A / SMALLEST_DIAMETER_A, DIAMETER_STEP))
    return [SMALLEST_DIAMETER_A * DIAMETER_STEP**k for k in range(steps)]


def find_template(
    diameter_A: float | None, survey: Callable[[str, Sequence[Template]], Sequence[Mapping[str, Any]]]
) -> Finding | None:
    """Survey coarsely, then finely about the best template.

    Parameters
    ----------
    diameter_A
        Longest diameter of the particle; None to try all.
    survey
        Called with a label and templates; returns :func:`survey_micrograph` of each micrograph.

    Returns
    -------
    Finding or None
        None if nothing matches better than it does in noise.
    """
    templates = first_templates(diameter_A)
    for label in ("survey", "finer survey"):
        surveys = survey(label, templates)
        finding = conclude(templates, surveys) if surveys else None
        if finding is None or finding.evidence <= 0:
            return None
        templates = finer_templates(finding.template)
    return finding


def survey_micrograph(
    micrograph: Micrograph, *, templates: Sequence[Template], seed: int, device: str
) -> dict[str, Any]:
    """Measure the evidence of each template in one micrograph, for white and for dark particles.

    Returns
    -------
    dict
        ``white`` and ``dark``: one number a template; 0 for templates too large for the micrograph.
    """
    image, _ = read_image(micrograph.name)
    extent_A = min(image.shape) * micrograph.pixel_size_A
    diameters = sorted({t.diameter_A for t in templates if LEAST_DIAMETERS_ACROSS * t.diameter_A <= extent_A})
    whole = field_of(image, micrograph.pixel_size_A, 0.0, device)
    evidence = dict.fromkeys(templates, (0.0, 0.0))
    for diameter_A in diameters:
        whole = whole.resampled(picking_pixel_size_A(diameter_A))
        part = _middle(whole.inside(whole.image).cpu().numpy(), SURVEYED_A / whole.pixel_size_A)
        field = field_of(part, whole.pixel_size_A, diameter_A, device)
        flat = flattened(field, diameter_A)
        control = signal_free(flat, micrograph.name, 0, seed)
        same_size = [t for t in templates if t.diameter_A == diameter_A]
        evidence |= _evidence(flat, control, same_size, micrograph)
    return {"white": [evidence[t][0] for t in templates], "dark": [evidence[t][1] for t in templates]}


def _middle(image: FloatArray, edge_px: float) -> FloatArray:
    """The middle of an image, at most ``edge_px`` wide and high."""
    height, width = (min(size, int(edge_px)) for size in image.shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _evidence(
    field: Field, control: Field, templates: Sequence[Template], micrograph: Micrograph
) -> dict[Template, tuple[float, float]]:
    power = radial_power(field.image)
    n = field.image.shape[-1]
    ctf = micrograph.defocus.image(n, field.pixel_size_A, field.image.device) if micrograph.defocus else None
    transforms = [torch.fft.rfft2(image) for image in (field.image, control.image)]
    found = {}
    for template in templates:
        distance_px = PACKING * template.diameter_A / field.pixel_size_A
        real, null = (field.inside(score_map(ft, field.pixel_size_A, template, power, ctf)) for ft in transforms)
        white, dark = (_above(sign * real, distance_px) - _above(sign * null, distance_px) for sign in (1, -1))
        found[template] = (white, dark)
    return found


def _above(score: Tensor, distance_px: float) -> float:
    """By how much the maxima of a score exceed the level of noise, added up."""
    return float((maxima(score, distance_px, NOISE_LEVEL)[:, 2] - NOISE_LEVEL).sum())


def conclude(templates: Sequence[Template], surveys: Sequence[Mapping[str, Any]]) -> Finding:
    """Add up surveys and take the template and contrast with the most evidence."""
    white = np.sum([survey["white"] for survey in surveys], axis=0)
    dark = np.sum([survey["dark"] for survey in surveys], axis=0)
    sign = 1 if white.max() > dark.max() else -1
    best, other = (white, dark) if sign > 0 else (dark, white)
    index = int(np.argmax(best))
    return Finding(templates[index], sign, float(best[index]), float(other.max()))


def first_templates(diameter_A: float | None) -> list[Template]:
    """Templates to survey: about the given diameter, or over all diameters."""
    if diameter_A is not None:
        return candidates([scale * diameter_A for scale in OUTLINE_SCALES])
    return candidates(scan_diameters_A())


def finer_templates(template: Template) -> list[Template]:
    """Templates about the best one, in steps of 3 %."""
    return [
        Template(template.diameter_A * 1.03**k, inner, template.softness_frac)
        for k in range(-4, 5)
        for inner in sorted({template.inner_frac, max(0.0, template.inner_frac - 0.15), template.inner_frac + 0.15})
    ]


def longest_diameter_A(template: Template) -> float:
    """Diameter of the particle that a template stands for: its outline and one spread of the edge on each side."""
    return template.diameter_A * (1.0 + 2.0 * template.softness_frac)
