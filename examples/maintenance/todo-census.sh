#!/bin/sh
# todo-census.sh TASK: what was put off, by its usual words.
set -eu
. "$(dirname "$0")/report.sh"
git grep -n -w -E 'TODO|FIXME|XXX|HACK' -- ':!examples' ':!tools/tidy' ':!*.md' | cut -c 1-200 |
	write_report "$1" "census of things put off"
