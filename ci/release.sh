#!/usr/bin/env bash
# Build what a release publishes: a source distribution, and the wheel that is built from it.
#
#   ci/release.sh TAG FOLDER
#
# The tag, such as v0.2.0, must be the version of the code, the newest of the changelog, and that of the citation.
set -euo pipefail
tag=$1
target=$(realpath -m "$2")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' dcbench/__init__.py)
newest=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
cited=$(sed -n 's/^version: //p' CITATION.cff)
for stated in "tag ${tag#v}" "changelog $newest" "citation $cited"; do
    if [ "$stated" != "${stated%% *} $version" ]; then
        echo "The code is of version $version, and this is not: $stated" >&2
        exit 1
    fi
done
uv build --quiet --out-dir "$target" .
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
uv venv --quiet "$scratch/venv"
uv pip install --quiet --python "$scratch/venv/bin/python" "$target"/dcbench_suite-*.whl
cd "$scratch"
test "$(venv/bin/dcbench --version)" = "dcbench, version $version"
venv/bin/dcbench list methods > /dev/null
