"""Curation: planted outliers are found with their reasons, good ones are kept, nothing is lost, requests win."""

import json

import numpy as np
import pytest

from halfmap.curation.criteria import automatic_limits
from halfmap.curation.curate import curate, in_kept
from halfmap.curation.options import CurateOptions
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import HalfmapError, StepFailedError
from halfmap.exec.runner import run_job
from halfmap.io.mrc import write_image
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.jobs.run_options import RunOptions
from halfmap.steps.curate import STEP

N = 60
OUTLIERS = {
    3: ("fit_resolution", 14.0), 11: ("defocus", 75000.0), 19: ("astigmatism", 6000.0),
    27: ("motion_total", 260.0), 35: ("motion_early", 90.0), 43: ("ice_ring", 9.0), 51: ("intensity", 2.0),
}  # fmt: skip


def session(n=N, outliers=OUTLIERS, seed=4):
    """A session as sessions are (skewed motion and resolution), with one fault in each of some micrographs."""
    rng = np.random.default_rng(seed)
    values = {
        "fit_resolution": 3.4 + rng.gamma(2.0, 0.2, n),
        "defocus": rng.uniform(8000, 24000, n),
        "astigmatism": rng.gamma(2.0, 100.0, n),
        "motion_total": rng.lognormal(3.0, 0.4, n),
        "motion_early": rng.lognormal(1.8, 0.4, n),
        "ice_ring": rng.normal(1.0, 0.1, n),
        "intensity": rng.normal(30.0, 1.5, n),
    }
    for row, (code, value) in outliers.items():
        values[code][row] = value
    rows = Table(
        {
            "micrograph_name": [f"mics/m{i:03d}.mrc" for i in range(n)],
            "optics_group": [1] * n,
            "ctf_fit_resolution_A": values["fit_resolution"],
            "defocus_u_A": values["defocus"] + values["astigmatism"] / 2,
            "defocus_v_A": values["defocus"] - values["astigmatism"] / 2,
            "motion_total_A": values["motion_total"],
            "motion_early_A": values["motion_early"],
        },
        {"rlnCtfIceRingDensity": [f"{value:.4f}" for value in values["ice_ring"]]},
    )
    optics = Table.of(
        optics_group=[1], micrograph_pixel_size_A=[1.5], voltage_kV=[300.0], cs_mm=[2.7], amplitude_contrast=[0.1]
    )
    return ImageSet("micrographs", rows, optics), values["intensity"]


def judged(**options):
    micrographs, intensity = session()
    return curate(micrographs, intensity, {}, CurateOptions(**options))


def codes(curation):
    return {int(name[6:9]): [reason.code for reason in found] for name, found in curation.reasons.items()}


@pytest.mark.parametrize("seed", range(5))
def test_automatic_rule_finds_planted_outliers_and_spares_the_others(seed):
    micrographs, intensity = session(seed=seed)
    found = codes(curate(micrographs, intensity, {}, CurateOptions()))
    assert {row: [code] for row, (code, _) in OUTLIERS.items()}.items() <= found.items()
    assert len(found) <= len(OUTLIERS) + 1


def test_a_good_session_loses_almost_nothing():
    lost = 0
    for seed in range(20):
        micrographs, intensity = session(n=200, outliers={}, seed=seed)
        lost += len(curate(micrographs, intensity, {}, CurateOptions()).reasons)
    assert lost < 0.01 * 20 * 200


def test_counts_in_are_counts_out_and_reasons_carry_value_and_limit():
    curation = judged()
    assert len(curation.kept) + len(curation.excluded) == N
    kept, left = (set(s["micrograph_name"].tolist()) for s in (curation.kept, curation.excluded))
    assert not kept & left
    (reason,) = curation.reasons["mics/m003.mrc"]
    assert (reason.code, reason.value, reason.rule) == ("fit_resolution", 14.0, "automatic")
    assert 4.0 < float(reason.limit.removeprefix("<=")) < 9.0
    row = curation.excluded["micrograph_name"].tolist().index("mics/m003.mrc")
    foreign = curation.excluded.rows.foreign
    assert foreign["halfmapReason"][row] == "fit_resolution"
    assert foreign["halfmapReasonValue"][row] == "14"
    assert foreign["halfmapReasonLimit"][row] == reason.limit
    assert json.loads(json.dumps(curation.record()))["left_out"]["mics/m003.mrc"][0]["value"] == 14.0


def test_given_limits_replace_the_automatic_ones_of_their_side():
    curation = judged(max_fit_resolution_A=20.0, max_defocus_A=15000.0)
    assert not any("fit_resolution" in found for found in codes(curation).values())
    assert curation.kept["defocus_u_A"].max() < 16000
    limits = curation.quantities["defocus"][2]
    assert (limits.high, limits.high_rule, limits.low_rule) == (15000.0, "given", "automatic")


def test_by_limits_alone():
    assert judged(outlier_spreads=0).reasons == {}
    assert codes(judged(outlier_spreads=0, max_motion_total_A=200)) == {27: ["motion_total"]}
    assert codes(judged(outlier_spreads=0, where=("rlnCtfIceRingDensity<5",))) == {43: ["where"]}


def test_few_micrographs_judge_nobody():
    micrographs, intensity = session(n=7, outliers={3: ("fit_resolution", 14.0)})
    assert curate(micrographs, intensity, {}, CurateOptions()).reasons == {}


def test_a_value_that_is_no_number_is_a_reason():
    micrographs, intensity = session(outliers={})
    resolution = micrographs["ctf_fit_resolution_A"].copy()
    resolution[5] = np.inf
    curation = curate(micrographs.with_columns(ctf_fit_resolution_A=resolution), intensity, {}, CurateOptions())
    assert codes(curation)[5] == ["fit_resolution"]
    assert curation.reasons["mics/m005.mrc"][0].limit == "a number"


def test_equal_values_have_no_outliers_within_the_margin():
    low, high = automatic_limits(np.full(50, 3.0), 5.0, margin_frac=0.5)
    assert (low, high) == (1.5, 4.5)


def test_limits_do_not_move_with_20_percent_of_nonsense():
    rng = np.random.default_rng(2)
    good = rng.normal(10.0, 1.0, 60)
    clean = automatic_limits(good, 5.0)
    spoilt = automatic_limits(np.concatenate([good, np.full(15, 1e6)]), 5.0)
    assert abs(spoilt[0] - clean[0]) < 3.0
    assert spoilt[1] < 30.0


def test_requests_win_and_are_shown(tmp_path):
    (tmp_path / "list.txt").write_text("# mine\nm027.mrc\n\n")
    curation = judged(keep=("m003.mrc", "mics/m011.mrc"), leave_out=("m000",), keep_list=tmp_path / "list.txt")
    assert not {3, 11, 27} & set(codes(curation))
    assert codes(curation)[0] == ["on_request"]
    assert set(curation.spared) == {"mics/m003.mrc", "mics/m011.mrc", "mics/m027.mrc"}
    assert curation.spared["mics/m003.mrc"][0].code == "fit_resolution"


def test_the_list_of_the_left_out_undoes_them(tmp_path):
    curation = judged()
    write_image_set(tmp_path / "excluded.star", curation.excluded)
    assert judged(keep_list=tmp_path / "excluded.star").reasons == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ("m003.mrx",)}, r"called m003\.mrx.*Did you mean m003\.mrc"),
        ({"keep": ("m003.mrc",), "leave_out": ("m003",)}, "to be kept and to be left out"),
        ({"min_defocus_A": 30000, "max_defocus_A": 20000}, "smallest allowed is 30000"),
        ({"where": ("gone<3",)}, "no column gone"),
        ({"where": ("micrograph_name<3",)}, "holds text"),
    ],
)
def test_bad_requests_are_refused(options, message):
    with pytest.raises(HalfmapError, match=message):
        judged(**options)


def test_limit_on_what_the_table_does_not_tell():
    micrographs, _ = session()
    bare = micrographs.with_rows(micrographs.rows.without(["motion_total_A"]))
    with pytest.raises(HalfmapError, match="limit on total motion"):
        curate(bare, None, {}, CurateOptions(max_motion_total_A=50))
    assert "intensity" not in curate(bare, None, {}, CurateOptions()).quantities


def test_particles_follow_their_micrographs():
    micrographs, intensity = session()
    curation = curate(micrographs, intensity, {}, CurateOptions())
    rows = Table.of(micrograph_name=["elsewhere/m003.mrc", "mics/m004.mrc"], optics_group=[1, 1],
                    coordinate_x_px=[1.0, 2.0], coordinate_y_px=[1.0, 2.0])  # fmt: skip
    picks = ImageSet("coordinates", rows, micrographs.optics)
    assert in_kept(picks, micrographs, curation.kept).tolist() == [False, True]
    with pytest.raises(HalfmapError, match=r"m1\.mrc of some particles"):
        in_kept(picks.with_columns(micrograph_name=["x.mrc", "m1.mrc"]), micrographs, curation.kept)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Files of a small session, one of them damaged and one far too dark."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    micrographs, _ = session(n=12, outliers={2: ("fit_resolution", 14.0)})
    for i, name in enumerate(micrographs["micrograph_name"].tolist()):
        level = 5.0 if i == 4 else 30.0
        write_image(name, (level + rng.standard_normal((64, 80))).astype(np.float32), 1.5)
    path = tmp_path / "mics" / "m007.mrc"
    path.write_bytes(path.read_bytes()[:5000])
    write_image_set("micrographs.star", micrographs)
    return tmp_path / "micrographs.star"


def run(star, folder, **options):
    return run_job(STEP, {"micrographs": [star]}, CurateOptions(**options), RunOptions(out=folder, threads=1))


def test_step_writes_both_tables_and_a_page(table, tmp_path):
    record = run(table, tmp_path / "out")
    assert (record.figures["items_in"], record.figures["items_out"], record.figures["excluded"]) == (12, 9, 3)
    assert record.figures["reasons"] == {"fit_resolution": 1, "intensity": 1, "unreadable": 1}
    kept = read_image_set(tmp_path / "out" / "micrographs.star", "micrographs")
    left = read_image_set(tmp_path / "out" / "excluded.star", "micrographs")
    assert len(kept) == 9
    reasons = dict(zip(left["micrograph_name"].tolist(), left.rows.foreign["halfmapReason"].tolist(), strict=True))
    assert reasons == {"mics/m002.mrc": "fit_resolution", "mics/m004.mrc": "intensity", "mics/m007.mrc": "unreadable"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "m007.mrc" in page
    assert "could not be drawn" not in " ".join(record.warnings)


def test_step_again_with_requests_brings_micrographs_back(table, tmp_path):
    record = run(table, tmp_path / "again", keep=("m004.mrc",), max_fit_resolution_A=20.0)
    assert record.figures["reasons"] == {"unreadable": 1}
    assert record.figures["kept_on_request"] == 1


def test_nothing_left_is_a_failure_that_says_where_to_look(table, tmp_path):
    with pytest.raises(StepFailedError, match=r"all 12 micrographs were left out; see curation\.json"):
        run(table, tmp_path / "none", max_fit_resolution_A=1.0)
    assert (tmp_path / "none" / "curation.json").exists()
