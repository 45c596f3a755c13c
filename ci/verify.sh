#!/usr/bin/env bash
# Verify the submissions that one commit changes against another, with the code that is checked out here, and write
# what was found as Markdown.
#
#   ci/verify.sh main my-branch [condensed sets to evaluate of each submission]
set -euo pipefail
cd "$(dirname "$0")/.."
base=$1 head=$2 sample=${3:-6}
dcbench=${DCBENCH:-uv run dcbench}
folder=leaderboards/submissions
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mapfile -t changed < <(
    git diff --name-only --diff-filter=d "$base...$head" -- "$folder" | cut -d/ -f3 | sort -u
)
echo "## Verification of submissions"
if [ ${#changed[@]} -eq 0 ]; then
    echo "None is changed."
    exit 0
fi
git archive "$head" "$folder" | tar -x -C "$scratch" # data only: the code is not the submitter's
failed=0
for name in "${changed[@]}"; do
    printf '\n### %s\n\n````\n' "$name"
    $dcbench leaderboard verify "$scratch/$folder/$name" --sample "$sample" --evals 3 2>&1 |
        sed "s#$scratch/##g" || failed=1
    printf '````\n'
done
exit $failed
