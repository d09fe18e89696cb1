#include "cli/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void stream_init(struct stream *stream, struct cli *cli, bool is_raw, bool is_split)
{
	*stream = (struct stream){
		.out = { .cli = cli, .is_raw = is_raw, .filter = { .keeps_returns = true } },
		.error = { .cli = cli, .is_error = true, .is_raw = is_raw, .filter = { .keeps_returns = true } },
		.out_file = LOGFILE_INIT,
		.error_file = LOGFILE_INIT,
		.is_split = is_split,
	};
}

/* The end of one log: what comes next is another attempt's. */
static void end_path(struct stream *stream)
{
	stream_copy(stream);
	output_end(&stream->out);
	output_end(&stream->error);
	logfile_close(&stream->out_file);
	logfile_close(&stream->error_file);
	free(stream->path);
	stream->path = NULL;
}

void stream_set_path(struct stream *stream, const char *state_dir, const char *path)
{
	CLEANUP_FREE char *full = path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", state_dir, path);

	if (stream->path && strcmp(stream->path, full) == 0)
		return;
	if (stream->path)
		end_path(stream);
	stream->path = TAKE_PTR(full);
}

/* Opens a log once it is there. */
static void open_one(struct logfile *file, const char *path, struct cli *cli)
{
	int code = logfile_open(path, file);

	if (code < 0 && code != -ENOENT)
		cli_tell(cli, "cannot read the log '%s': %s", path, strerror(-code));
}

static bool copy_one(struct output *output, struct logfile *file, const char *path)
{
	int code;

	if (file->fd < 0)
		open_one(file, path, output->cli);
	if (file->fd < 0)
		return false;
	code = output_copy(output, file);
	if (code < 0)
		cli_tell(output->cli, "cannot read the log '%s': %s", path, strerror(-code));
	return code > 0;
}

bool stream_copy(struct stream *stream)
{
	CLEANUP_FREE char *error_path = NULL;
	bool has_any;

	if (!stream->path)
		return false;
	has_any = copy_one(&stream->out, &stream->out_file, stream->path);
	if (!stream->is_split)
		return has_any;
	error_path = xasprintf("%s.err", stream->path);
	return copy_one(&stream->error, &stream->error_file, error_path) || has_any;
}

void stream_done(struct stream *stream)
{
	end_path(stream);
}
