#!/bin/sh
# test-inventory.sh TASK: tests by folder; modules whose header no test includes are findings.
set -eu
. "$(dirname "$0")/report.sh"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
count_matches() {
	pattern=$1
	shift
	git grep -h -o -E "$pattern" -- "$@" | grep -c . || true
}
{
	echo "| folder | modules | unit tests |"
	echo "|---|---|---|"
	for folder in src/*/; do
		layer=$(basename "$folder")
		modules=$(git ls-files "src/$layer/*.c" | grep -c . || true)
		echo "| $layer | $modules | $(count_matches 'cmocka_unit_test[a-z_]*\(' "tests/unit/$layer") |"
	done
	echo "| tests/e2e | $(git ls-files 'tests/e2e/test_*.py' | grep -c . || true) |" \
		"$(count_matches '^( *)def test_[a-z0-9_]+' tests/e2e) |"
} >"$table"
git ls-files 'src/*.h' | while read -r header; do
	git grep -q -F "\"${header#src/}\"" -- tests || echo "$header is included by no test"
done | write_report "$1" "inventory of the tests" "$table"
