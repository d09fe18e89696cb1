/*
 * fuzz_folder.h - a directory for the files that a fuzz target opens: made at the first call, in memory where it can be,
 * removed with what is in it when the program ends.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Its descriptor and its path. Failures end the process. */
int fuzz_folder_fd(void);
const char *fuzz_folder_path(void);

/* Makes the file `name` in it of these bytes, in place of what was there. */
void fuzz_folder_write(const char *name, const void *bytes, size_t length);
