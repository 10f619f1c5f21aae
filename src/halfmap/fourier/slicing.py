"""Slices and insertion by whichever implementation suits the tensors: numba on the CPU, torch elsewhere."""

from __future__ import annotations

from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier import slices
from halfmap.fourier.pixels import PixelList, pixel_list


def _needs_torch(*tensors: Tensor) -> bool:
    return any(t.device.type != "cpu" or t.requires_grad for t in tensors)


def extract_pixels(
    volume_ft: Complex[Tensor, "edge edge half"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    pixels: PixelList,
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> Complex[Tensor, "n pixels"]:
    """Slices at the pixels of a list; see :func:`halfmap.fourier.slices.extract_pixels`."""
    if _needs_torch(volume_ft, rot_img_from_map):
        return slices.extract_pixels(volume_ft, rot_img_from_map, pixels, padding)
    from halfmap.fourier import slices_fast

    return slices_fast.extract_pixels(volume_ft, rot_img_from_map, pixels, padding, threads=threads)


def insert_pixels(
    values: Complex[Tensor, "n pixels"],
    weights: Float[Tensor, "n pixels"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    pixels: PixelList,
    numerator: Complex[Tensor, "edge edge half"],
    denominator: Float[Tensor, "edge edge half"],
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> None:
    """Add slices and weights to the accumulators in place; see :func:`halfmap.fourier.slices.insert_pixels`."""
    if _needs_torch(values, weights, rot_img_from_map, numerator, denominator):
        slices.insert_pixels(values, weights, rot_img_from_map, pixels, numerator, denominator, padding)
        return
    from halfmap.fourier import slices_fast

    slices_fast.insert_pixels(
        values, weights, rot_img_from_map, pixels, numerator, denominator, padding, threads=threads
    )


def extract_slices(
    volume_ft: Complex[Tensor, "edge edge half"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    n_out: int,
    max_radius_px: float,
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> Complex[Tensor, "n y x_half"]:
    """Slices in the ``rfft2`` layout of images of edge ``n_out``, zero beyond ``max_radius_px`` and at Nyquist.

    See :func:`halfmap.fourier.slices.extract_pixels` for the volume and the padding.
    """
    pixels = pixel_list(n_out, max_radius_px, volume_ft.device)
    return pixels.scatter(extract_pixels(volume_ft, rot_img_from_map, pixels, padding, threads=threads))


def insert_slices(
    images_ft: Complex[Tensor, "n y x_half"],
    weights: Float[Tensor, "n y x_half"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    max_radius_px: float,
    numerator: Complex[Tensor, "edge edge half"],
    denominator: Float[Tensor, "edge edge half"],
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> None:
    """Add images given in the ``rfft2`` layout to the accumulators: the adjoint of :func:`extract_slices`.

    The images are transforms of real ones: of the mates on the column ``kx = 0`` only the one with
    ``ky >= 0`` is read, and inserted together with its conjugate. With that, the two functions are adjoint
    under the scalar products of the full plane and the full volume (``fourier.grid.friedel_weight``).
    """
    pixels = pixel_list(images_ft.shape[-2], max_radius_px, numerator.device)
    insert_pixels(
        pixels.gather(images_ft),
        pixels.gather(weights),
        rot_img_from_map,
        pixels,
        numerator,
        denominator,
        padding,
        threads=threads,
    )
