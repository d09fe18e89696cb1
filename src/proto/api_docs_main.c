/*
 * api_docs_main.c - writes docs/protocol.md and docs/protocol.schema.json, or checks that the ones there are current.
 *
 *     api-docs write DIRECTORY
 *     api-docs check DIRECTORY      exit status 1 and a line for each file that is missing or old
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "proto/api.h"

enum { DOCUMENT_MAX = 4 << 20 };

static int write_document(const char *path, const char *text)
{
	int fd CLEANUP_FD = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int error = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));

	if (error)
		fprintf(stderr, "api-docs: cannot write '%s': %s\n", path, strerror(-error));
	return error ? 1 : 0;
}

static int check_document(const char *path, const char *text)
{
	struct buf found CLEANUP_BUF = BUF_INIT;
	int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : fd_read_all(fd, &found, DOCUMENT_MAX);

	if (error) {
		fprintf(stderr, "api-docs: cannot read '%s': %s; make it with 'make docs'\n", path, strerror(-error));
		return 1;
	}
	if (found.length == strlen(text) && memcmp(found.bytes, text, found.length) == 0)
		return 0;
	fprintf(stderr, "api-docs: '%s' is not what src/proto/api.def says now; make it anew with 'make docs'\n", path);
	return 1;
}

static char *make_schema_text(void)
{
	json_t *schema = api_schema();
	char *dump CLEANUP_FREE = json_dumps(schema, JSON_INDENT(2));

	json_decref(schema);
	ASSERT(dump);
	return xasprintf("%s\n", dump);
}

int main(int argc, char **argv)
{
	char *markdown CLEANUP_FREE = api_markdown();
	char *schema CLEANUP_FREE = make_schema_text();
	char *markdown_path CLEANUP_FREE = NULL;
	char *schema_path CLEANUP_FREE = NULL;
	bool is_check = argc == 3 && strcmp(argv[1], "check") == 0;
	int (*handle)(const char *, const char *) = is_check ? check_document : write_document;

	if (argc != 3 || (!is_check && strcmp(argv[1], "write") != 0)) {
		fprintf(stderr, "usage: api-docs write|check DIRECTORY\n");
		return 2;
	}
	markdown_path = xasprintf("%s/protocol.md", argv[2]);
	schema_path = xasprintf("%s/protocol.schema.json", argv[2]);
	return handle(markdown_path, markdown) | handle(schema_path, schema);
}
