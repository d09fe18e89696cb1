#!/bin/sh
# include-layers.sh TASK: which folder of src/ includes which, and what of it the layer table forbids.
set -eu
. "$(dirname "$0")/report.sh"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
git grep -E '^#include "[a-z]+/' -- 'src/*.c' 'src/*.h' |
	sed -E 's,^src/([a-z]+)/[^:]*:#include "([a-z]+)/.*,\1 \2,' | awk '$1 != $2 { count[$1 " " $2]++ }
	END {
		print "| folder | includes | times |"
		print "|---|---|---|"
		for (pair in count) {
			split(pair, name, " ")
			print "| " name[1] " | " name[2] " | " count[pair] " |" | "sort"
		}
	}' >"$table"
{ /usr/bin/python3 tools/tidy --only layers || true; } | grep -E '^[^ ]+:[0-9]+: ' |
	write_report "$1" "who includes whom" "$table"
