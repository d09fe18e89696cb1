#!/bin/sh
# compiler-analysis.sh TASK FOLDER: what gcc's path analysis (-fanalyzer) says about the C files of one folder.
set -eu
. "$(dirname "$0")/report.sh"
need gcc
need pkg-config
# shellcheck disable=SC2046 # flags are words
for file in "$2"/*.c; do
	[ -e "$file" ] || continue
	gcc -std=gnu17 -D_GNU_SOURCE -I src -I include $(pkg-config --cflags jansson) -O1 -fanalyzer \
		-fdiagnostics-plain-output -fanalyzer-verbosity=0 -c "$file" -o /dev/null 2>&1 || true
done | grep -E '(warning|error):' | sort -u | write_report "$1" "gcc -fanalyzer of $2"
