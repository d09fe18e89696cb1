#!/bin/sh
# spelling.sh TASK: what codespell takes for a slip.
set -eu
. "$(dirname "$0")/report.sh"
need codespell
# not the tests: some misspell on purpose
git ls-files -z -- src include docs tools examples bench '*.md' |
	xargs -0 codespell --ignore-words-list=ser,te,fo,inout,ro,mape 2>/dev/null | sed 's,^\./,,' | sort |
	write_report "$1" "spelling"
