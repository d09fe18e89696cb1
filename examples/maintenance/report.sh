# report.sh: sourced by the maintenance scripts. They run at the top of a worktree; their first argument is the task's name.
# shellcheck shell=sh

# write_report TASK TITLE [FILE]: findings on standard input, one a line, become reports/TASK.md; FILE goes in between as it
# is. The line "findings: N" is what summary.sh looks for.
write_report() {
	mkdir -p reports
	found=$(cat)
	count=$(printf '%s' "$found" | grep -c . || true)
	{
		printf '# %s\n\nfindings: %s\n' "$2" "$count"
		[ -z "${3:-}" ] || { echo; cat "$3"; }
		[ "$count" -eq 0 ] || { echo; printf '%s\n' "$found" | sed 's/^/- /'; }
	} >"reports/$1.md"
	echo "$2: $count findings, in reports/$1.md"
}

# need PROGRAM: ends with a sentence where it is missing.
need() {
	command -v "$1" >/dev/null 2>&1 || {
		echo "$1 is not installed: run tools/install-deps demo" >&2
		exit 1
	}
}
