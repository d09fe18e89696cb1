/*
 * worktree.c - what the verbs share: their results and the words for their errors. The verbs are in inspect.c, prepare.c and
 * collect.c.
 */
#include "git/worktree.h"

#include <errno.h>
#include <stdlib.h>

#include "git/repository.h"

enum { FORGET_EVERY = 64 };

struct word {
	int error;
	const char *word;
};

static const struct word words[] = {
	{ -ENOENT, "not-a-repository" }, { -ENOTDIR, "no-such-directory" },  { -EOPNOTSUPP, "bare-repository" },
	{ -ENODATA, "no-commit" },       { -EINVAL, "bad-revision" },        { -ENOSYS, "git-too-old" },
	{ -ENOPKG, "git-missing" },      { -EPERM, "unsafe-owner" },         { -EILSEQ, "bad-path" },
	{ -ESTALE, "worktree-missing" }, { -ETIMEDOUT, "repository-busy" },  { -ELOOP, "unsafe-directory" },
	{ -EEXIST, "name-taken" },       { -ENOSPC, "disk-full" },           { -EDQUOT, "disk-full" },
	{ -EBADMSG, "bad-request" },     { -EUCLEAN, "damaged-repository" }, { -EREMOTE, "objects-missing" },
	{ -EROFS, "no-access" },         { -EACCES, "no-access" },           { -EBUSY, "lock-file" },
};

const char *worktree_error_word(int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].error == error)
			return words[i].word;
	return "git-failed";
}

int worktree_empty_trash(const struct worktree_request *request, struct err *err)
{
	struct repository repository;
	int error = repository_open(request, &repository, err);

	if (error < 0)
		return error;
	error = repository_empty_trash(&repository, err);
	if (request->task % FORGET_EVERY == 0)
		repository_forget_old(&repository);
	repository_done(&repository);
	return error;
}

void worktree_inspection_done(struct worktree_inspection *inspection)
{
	free(inspection->top);
	free(inspection->common_dir);
	free(inspection->prefix);
	free(inspection->commit);
	*inspection = (struct worktree_inspection){ 0 };
}

void worktree_result_done(struct worktree_result *result)
{
	free(result->path);
	free(result->branch);
	free(result->commit);
	free(result->salvage);
	free(result->note);
	*result = (struct worktree_result){ 0 };
}
