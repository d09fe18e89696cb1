/*
 * main.c - drover-keeper: one static executable for two roles, the keeper and, started by it, the shim.
 */
#include <string.h>

#include "keeper/keeper.h"
#include "keeper/shim.h"

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "shim") == 0)
		return shim_main(argc, argv);
	return keeper_main(argc, argv);
}
