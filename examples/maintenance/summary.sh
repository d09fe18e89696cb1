#!/bin/sh
# summary.sh TASK: the tasks before it, which drover tells in the file $DROVER_AFTER, with what they found, read from their
# branches.
set -eu
. "$(dirname "$0")/report.sh"
need jq
: "${DROVER_AFTER:?run this with drover: it names the tasks before this one}"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
tab=$(printf '\t')
{
	echo "| task | state | findings | report |"
	echo "|---|---|---|---|"
	jq -r '.[] | [.id, .name // "-", .state, .branch // "-"] | @tsv' "$DROVER_AFTER" |
		while IFS=$tab read -r id name state branch; do
			findings=$(git show "$branch:reports/$name.md" 2>/dev/null | sed -n 's/^findings: //p') || findings=
			echo "| $name (#$id) | $state | ${findings:-none written} | $branch:reports/$name.md |"
		done
} >"$table"
top=$(dirname "$(git rev-parse --path-format=absolute --git-common-dir)")
jq -r '.[] | select(.state != "succeeded") | "\(.name // "-") (#\(.id)) \(.state): log \(.log_path // "none")"' \
	"$DROVER_AFTER" |
	write_report "$1" "maintenance of $(basename "$top")" "$table"
if command -v column >/dev/null 2>&1; then
	sed -e '2d' -e 's/^| //' -e 's/ |$//' "$table" | column -t -s '|'
else
	cat "$table"
fi
