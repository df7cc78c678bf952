#!/usr/bin/env bash
# Runs the TensorFlow tests on a real libtensorflow: the one inside PyPI's tensorflow-cpu wheel. Skips, and says
# why, where pip cannot get the wheel or there is no compiler. ANNEAL_CI_CACHE keeps the installation between runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

version=2.15.1
skip() { printf 'TensorFlow tests on libtensorflow skipped: %s\n' "$1"; exit 0; }

[ "$(uname -sm)" = 'Linux x86_64' ] || skip "there is no wheel for $(uname -sm) here"
tfjs=$(node -p "require('@tensorflow/tfjs-node-gpu/package.json').version")
cache="${ANNEAL_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/anneal-ci}"
installation="$cache/tensorflow-$version-tfjs-$tfjs"

if [ ! -f "$installation/installation.json" ]; then
  command -v c++ >/dev/null || skip 'there is no C++ compiler'
  python3 -m pip --version >/dev/null 2>&1 || skip 'there is no pip'
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # The platform is named, so that any Python gets the same wheel.
  timeout 150 python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform manylinux_2_17_x86_64 "tensorflow-cpu==$version" || skip 'pip cannot get the wheel of tensorflow-cpu'
  python3 - "$work" <<'PYTHON'
import glob, sys, zipfile

folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(folder + '/*.whl')[0]) as wheel:
    for name in wheel.namelist():
        library = name.startswith('tensorflow/libtensorflow')
        if library or (name.startswith('tensorflow/include/') and name.endswith('.h')):
            wheel.extract(name, folder)
PYTHON
  mkdir -p "$cache"
  npm run --silent setup:tensorflow -- --from "$work/tensorflow" --to "$installation"
  rm -rf "$work"
fi

# WITH_TENSORFLOW makes the tests fail instead of skipping their native leg.
ANNEAL_TENSORFLOW="$installation" WITH_TENSORFLOW=1 vitest run test/unit/tensorflow-*.test.ts \
  test/gradient/tensorflow-*.test.ts test/integration/tensorflow-*.test.ts
