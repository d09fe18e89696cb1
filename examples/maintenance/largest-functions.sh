#!/bin/sh
# largest-functions.sh TASK: the twenty longest functions; those beyond 60 lines are findings.
set -eu
. "$(dirname "$0")/report.sh"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
lengths=$(/usr/bin/python3 tools/tidy --lengths)
{
	echo "| lines | function | at |"
	echo "|---|---|---|"
	printf '%s\n' "$lengths" | head -n 20 | awk '{ print "| " $1 " | " $2 " | " $3 " |" }'
} >"$table"
printf '%s\n' "$lengths" | awk '$1 > 60 { print $3 ": " $2 " has " $1 " lines" }' |
	write_report "$1" "largest functions" "$table"
