/*
 * schema.h - the versions of the database's layout: makes a new one, brings an old one up, refuses a newer one.
 */
#pragma once

#include "store/database.h"

/* The version this program writes. */
uint32_t schema_version(void);

/*
 * Looks at the database and brings it to schema_version() in one transaction; fills database->meta. One that is newer, is
 * not drover's, is damaged or ends before the event `committed_seq` is left as it is. 0, -EPROTO newer, -EILSEQ damaged or
 * behind, or -errno.
 */
int schema_prepare(struct database *database, uint64_t committed_seq, struct err *err);
