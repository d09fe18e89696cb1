#!/bin/sh
# shell-scripts.sh TASK: what shellcheck says about every shell script of the repository, found by its first line.
set -eu
. "$(dirname "$0")/report.sh"
need shellcheck
scripts=$(git grep -l -I -E '^#!.*[/ ](sh|bash|dash)$' -- ':!*.md')
# shellcheck disable=SC2086 # names in this repository have no blanks
shellcheck -x -f gcc -P SCRIPTDIR $scripts | sort -u | write_report "$1" "shellcheck of $(echo $scripts | wc -w) scripts"
