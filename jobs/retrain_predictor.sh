#!/bin/sh
# Prompt maps of all annotated photos, then the predictor trained on them.
#   sh jobs/retrain_predictor.sh ANNOTATED OUT
# Each run has a folder of its own, so that none reads or continues another's.
# A file and not the job's entrypoint: KubeRay pastes that into a shell of the submitting pod, which would take `&&`,
# `$` and quotes for its own.
set -eu
cd "$(dirname "$0")/.."
run=$2/$(date -u +%Y-%m-%dT%H%M)
python pipelines/build_prompt_maps.py --data "$1" --out "$run/maps" --sam tiny --mirror
python pipelines/train_predictor.py --data "$run/maps" --validate "$1" --out "$run/predictor" --workers 2 --threads 8
