#!/usr/bin/env bash
# The main job on simulated data: movies to a validated map, then the truth that only a simulation has.
set -euo pipefail
halfmap=.venv/bin/halfmap
out=${1:-demo}

echo "== 1/3  simulate a session: movies of an octahedral cage, a gain reference, and the truth beside them"
"$halfmap" simulate movies --model cage --movies 12 --pixel-size 2.0 --out "$out/raw"

echo "== 2/3  movies to a map: motion, CTF, picks, 2D classes, initial model, two independent halves, FSC"
"$halfmap" run --movies "$out/raw/movies/*" --gain "$out/raw/gain.mrc" --pixel-size 2.0 --voltage 300 --cs 2.7 \
  --dose-per-frame 2.0 --symmetry O --out "$out/session"

echo "== 3/3  compare with the true map, which the pipeline has never seen"
"$halfmap" compare "$out/session/map.mrc" "$out/raw/truth/map.mrc" --symmetry O --out "$out/truth"
echo "Report: $out/session/report.html"
