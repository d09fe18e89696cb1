/*
 * complete.h - what may come next on a command line: the answer to a shell's Tab.
 *
 * `drover __complete SHELL WORD…` gets the words typed so far, the program's name first and the one to be completed last,
 * and prints a candidate on each line, a tab and a description behind it, or ":files", ":directories" or ":command N": the
 * shell knows best; N is the index of the word with which somebody else's command begins. Everything else comes from the
 * tables of commands and options. It starts no daemon and gives up on a slow one.
 */
#pragma once

#include "cli/cli.h"

/* Handles __complete; returns the exit status, 0 also when nothing fits. */
int complete_words(struct cli *cli, int argc, char **argv);
