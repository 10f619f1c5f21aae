import re

import numpy as np
import pytest

from halfmap.report.html import Report, shown
from halfmap.report.pictures import (
    grey_limits,
    micrograph_picture,
    montage_picture,
    object_reach,
    shrunk,
    slices_picture,
    spectrum_picture,
)
from halfmap.report.plots import fsc_plot, guinier_plot, histogram_plot, motion_plot, orientation_plot, score_plot

PNG = b"\x89PNG"


def test_page_refers_to_nothing_outside_and_escapes_what_it_is_given():
    page = Report("A <b>title</b>", "folder & file")
    page.section("Counts", "1 < 2")
    page.table([{"name": "<script>alert(1)</script>", "n": 3}])
    page.warnings(["mind <this>"])
    page.figure(fsc_plot(np.linspace(0, 0.25, 33), {"masked": np.linspace(1, 0, 33)}), "a 'curve'")
    text = page.render()
    assert "<script" not in text
    assert not re.search(r"(src|href)='https?:", text)
    assert "&lt;script&gt;" in text
    assert "mind &lt;this&gt;" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.0, "1,234,567"), (0.01234, "0.0123"), (None, ""), (float("nan"), "–"), ("x", "x"), (False, "no")],
)
def test_values_as_people_read_them(value, text):
    assert shown(value) == text


def test_table_without_rows_adds_nothing():
    page = Report("x")
    empty = page.render()
    page.table([])
    page.warnings([])
    assert page.render() == empty


def test_shrinking_keeps_means_and_says_the_factor():
    image = np.arange(64.0).reshape(8, 8)
    small, factor = shrunk(image, 4)
    assert factor == 2
    np.testing.assert_allclose(small[0, 0], image[:2, :2].mean())
    assert small.mean() == image.mean()


def test_pictures_are_made_of_odd_inputs_too():
    generator = np.random.default_rng(1)
    image = generator.normal(size=(300, 211))
    image[5, 5] = np.nan
    nothing = np.zeros(0)
    assert micrograph_picture(image, nothing, nothing, 20.0).startswith(PNG)
    assert micrograph_picture(np.zeros((64, 64)), np.array([3.0]), np.array([60.0]), 20.0).startswith(PNG)
    assert spectrum_picture(generator.random((64, 64)), "t").startswith(PNG)
    assert montage_picture([generator.random((16, 16))] * 13, [str(i) for i in range(13)]).startswith(PNG)
    assert slices_picture(generator.normal(size=(24, 24, 24))).startswith(PNG)
    assert slices_picture(np.zeros((8, 8, 8))).startswith(PNG)


def test_plots_are_svg_and_repeat_byte_for_byte():
    generator = np.random.default_rng(2)
    rot, tilt = generator.uniform(-7, 7, 50), generator.uniform(0, np.pi, 50)
    first, second = orientation_plot(rot, tilt), orientation_plot(rot, tilt)
    assert b"<svg" in first
    assert first == second
    assert b"<svg" in motion_plot([generator.normal(size=(9, 2)).cumsum(0)], ["a"])
    assert b"<svg" in histogram_plot({"a": np.array([np.nan, 1.0]), "b": np.zeros(0)})
    assert b"<svg" in guinier_plot(np.linspace(0, 0.1, 20), np.linspace(0, -3, 20), -30.0, 0.0)


def test_the_rim_around_a_ball_is_found_through_noise():
    axis = np.arange(64) - 32
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    noise = np.random.default_rng(3).normal(scale=0.7, size=(64, 64, 64))
    assert 14 <= object_reach((radius < 14) + noise) <= 20
    assert object_reach(np.zeros((16, 16, 16))) == 8


def test_scores_are_drawn_against_their_controls_and_the_threshold():
    rng = np.random.default_rng(0)
    plot = score_plot(rng.normal(6, 1, 300), rng.normal(3, 0.5, 900), 4, 4.25)
    text = plot.decode()
    assert text.endswith("</svg>\n")
    assert "picks from 4.25" in text
    assert b"picks from 4.00" in score_plot(np.array([5.0]), np.zeros(0), 1, 4.0)


def test_grey_levels_follow_the_bulk_of_an_image():
    image = np.random.default_rng(0).normal(100, 10, (100, 100))
    low, high = grey_limits(image)
    image[:8] -= 500
    with_crystal = grey_limits(image)
    assert with_crystal == pytest.approx((low, high), abs=25)
    assert grey_limits(np.zeros((4, 4))) == (0.0, 1.0)
