/*
 * completion.c - `drover completion`: what a shell needs to ask this program for completions. See complete.h.
 */
#include <string.h>

#include "cli/cli.h"

static const char bash_script[] =
	"# bash completion for drover: eval \"$(drover completion bash)\"\n"
	"_drover() {\n"
	"\tlocal line cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\\n'\n"
	"\tCOMPREPLY=()\n"
	"\t[[ $cur == = ]] && cur=\n"
	"\tfor line in $(\"${COMP_WORDS[0]}\" __complete bash \"${COMP_WORDS[@]:0:COMP_CWORD+1}\" 2>/dev/null); do\n"
	"\t\tcase $line in\n"
	"\t\t:files)\n"
	"\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\tCOMPREPLY+=($(compgen -f -- \"$cur\"))\n"
	"\t\t\t;;\n"
	"\t\t:directories)\n"
	"\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\tCOMPREPLY+=($(compgen -d -- \"$cur\"))\n"
	"\t\t\t;;\n"
	"\t\t:command*)\n"
	"\t\t\tlocal first=${line#:command }\n"
	"\t\t\tif declare -F _command_offset >/dev/null; then\n"
	"\t\t\t\tunset IFS\n"
	"\t\t\t\t_command_offset \"$first\"\n"
	"\t\t\telif ((COMP_CWORD > first)); then\n"
	"\t\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\t\tCOMPREPLY+=($(compgen -f -- \"$cur\"))\n"
	"\t\t\telse\n"
	"\t\t\t\tCOMPREPLY+=($(compgen -c -- \"$cur\"))\n"
	"\t\t\tfi\n"
	"\t\t\treturn\n"
	"\t\t\t;;\n"
	"\t\t*) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tif ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == --*= ]]; then\n"
	"\t\tcompopt -o nospace 2>/dev/null\n"
	"\tfi\n"
	"}\n"
	"complete -F _drover drover\n";

static const char zsh_script[] =
	"#compdef drover\n"
	"# zsh completion for drover: source <(drover completion zsh), or as _drover in a directory of $fpath\n"
	"_drover() {\n"
	"\tlocal line value\n"
	"\tlocal -a values shown\n"
	"\tfor line in \"${(@f)$(\"${(Q)words[1]}\" __complete zsh \"${(@Q)words[1,CURRENT]}\" 2>/dev/null)}\"; do\n"
	"\t\tcase $line in\n"
	"\t\t'') ;;\n"
	"\t\t:files) [[ $PREFIX == --*=* ]] && compset -P '*='; _files; return ;;\n"
	"\t\t:directories) [[ $PREFIX == --*=* ]] && compset -P '*='; _path_files -/; return ;;\n"
	"\t\t:command*)\n"
	"\t\t\tshift ${line#:command } words\n"
	"\t\t\t((CURRENT -= ${line#:command }))\n"
	"\t\t\t_normal\n"
	"\t\t\treturn\n"
	"\t\t\t;;\n"
	"\t\t*)\n"
	"\t\t\tvalue=${line%%$'\\t'*}\n"
	"\t\t\tvalues+=(\"$value\")\n"
	"\t\t\t[[ $line == *$'\\t'* ]] && shown+=(\"$value  -- ${line#*$'\\t'}\") || shown+=(\"$value\")\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\t(($#values)) && compadd -l -d shown -a values\n"
	"}\n"
	"if [[ $funcstack[1] == _drover ]]; then\n"
	"\t_drover \"$@\"\n"
	"else\n"
	"\tcompdef _drover drover\n"
	"fi\n";

static const char fish_script[] =
	"# fish completion for drover: drover completion fish | source\n"
	"function __drover_complete\n"
	"\tset -l current (commandline -ct)\n"
	"\tset -l words (commandline -opc)\n"
	"\tfor line in ($words[1] __complete fish $words $current 2>/dev/null)\n"
	"\t\tswitch $line\n"
	"\t\t\tcase :files\n"
	"\t\t\t\t__fish_complete_path (string replace -r -- '^--[^=]*=' '' $current)\n"
	"\t\t\tcase :directories\n"
	"\t\t\t\t__fish_complete_directories (string replace -r -- '^--[^=]*=' '' $current)\n"
	"\t\t\tcase ':command *'\n"
	"\t\t\t\tset -l first (math (string replace ':command ' '' $line) + 1)\n"
	"\t\t\t\tif test (count $words) -ge $first\n"
	"\t\t\t\t\tset -l rest $words[$first..-1] $current\n"
	"\t\t\t\t\tcomplete -C (string join ' ' -- (string escape -- $rest[1..-2]) $current)\n"
	"\t\t\t\telse\n"
	"\t\t\t\t\tcomplete -C \"$current\"\n"
	"\t\t\t\tend\n"
	"\t\t\tcase '*'\n"
	"\t\t\t\techo $line\n"
	"\t\tend\n"
	"\tend\n"
	"end\n"
	"complete -c drover -f -a '(__drover_complete)'\n";

static const struct {
	const char *shell;
	const char *script;
} scripts[] = {
	{ "bash", bash_script },
	{ "zsh", zsh_script },
	{ "fish", fish_script },
};

static const char *find_script(const char *shell)
{
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++)
		if (strcmp(scripts[i].shell, shell) == 0)
			return scripts[i].script;
	return NULL;
}

static int handle_completion(struct cli *cli, int argc, char **argv)
{
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, NULL, &rest, &status)) {
		const char *script = rest.count == 1 ? find_script(rest.texts[0]) : NULL;

		if (script)
			buf_add_text(&cli->out, script);
		else
			status = cli_refuse(cli, "give one shell: bash, zsh or fish");
	}
	cli_done(cli, NULL, &rest);
	return status;
}

const struct command command_completion = {
	.name = "completion",
	.usage = "bash|zsh|fish",
	.summary = "prints what a shell needs to complete drover's commands, options, tasks and batches",
	.more = "'make install' puts it where the shells look. Else: eval \"$(drover completion bash)\" in ~/.bashrc;\n"
		"source <(drover completion zsh) in ~/.zshrc, after compinit; drover completion fish | source in "
		"config.fish.",
	.arguments = OPTION_VALUES_CHOICES,
	.argument_choices = "bash|zsh|fish",
	.method = -1,
	.handle = handle_completion,
};
