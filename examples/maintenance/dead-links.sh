#!/bin/sh
# dead-links.sh TASK: relative links of the Markdown files that lead to no file.
set -eu
. "$(dirname "$0")/report.sh"
git ls-files '*.md' | while read -r page; do
	grep -n -o -E '\]\([^) ]+\)' "$page" | sed -E 's/\]\(([^)]*)\)/\1/' | while IFS=: read -r line target; do
		case $target in
		http:* | https:* | mailto:* | '#'*) continue ;;
		/*) file=.$target ;;
		*) file=$(dirname "$page")/$target ;;
		esac
		[ -e "${file%%#*}" ] || echo "$page:$line: $target is not there"
	done
done | write_report "$1" "dead links of the documents"
