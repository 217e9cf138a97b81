/* layout.h: the bytes of a checkpoint's file, made by all ranks. Internal to checkpoints/.
 * Everything here is Collective. */
#ifndef CHECKPOINTS_LAYOUT_H
#define CHECKPOINTS_LAYOUT_H

#include "checkpoints/checkpoint.h"

/* Who packs what, and in which order the chunks are written. */
typedef struct Layout Layout;

/* Arrays v[n], borrowed. ERR_INTERNAL when the ranks list different ones, or when their parts of
 * one are not disjoint or do not cover it. */
int layout_make(Layout **out, const CkptArray *v, int n, Comm *c);
void layout_free(Layout **l);

/* Writes the file, the texts included, and closes it; `path` and `content` matter on rank 0 only. */
int layout_write(Layout *l, const char *path, const CkptContent *content);
/* What lies on disk is what lay in memory: each rank reads its share of the chunks of rank 0's
 * `path`, rank 0 the texts. After layout_write. */
int layout_verify(Layout *l, const char *path);

#endif
