/* checkpoint.h: what a checkpoint is, how it is saved so that a kill at any moment loses nothing,
 * and how a run finds the newest good one. docs/FORMATS.md has the layout of the file.
 *
 * Save: step_N.h5.tmp.<pid>, reopen and compare every tensor's hash, fsync, rename, fsync the
 * directory; then the manifest step_N.json (size, hash of the file's bytes, step, ...) the same
 * way. The manifest is the commit: a checkpoint without one does not exist. */
#ifndef CHECKPOINTS_CHECKPOINT_H
#define CHECKPOINTS_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/h5/h5.h"
#include "dist/comm.h"

/* A named array: "params/h.0.attn.qkv.weight", "optimizer/m/...", "ema/...". `data` is borrowed.
 * Either all ranks hold the whole of it, with equal values, or each holds a part; ckpt_set_part. */
typedef struct CkptArray {
    const char *name;
    H5Type type;
    int ndim;
    int64_t shape[H5_MAX_DIM];
    void *data;         /* the element `begin` */
    int64_t begin, end; /* this rank's elements of the flattened array; end == 0: the whole array */
} CkptArray;

static inline int64_t ckpt_elements(const CkptArray *a) {
    int64_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->shape[i];
    return n;
}

/* Says that `data` holds the elements [begin, end) of the flattened (row-major) array, maybe none.
 * The parts of all ranks must be disjoint and cover the array: ERR_INTERNAL when it is saved. Not
 * collective. */
void ckpt_set_part(CkptArray *a, int64_t begin, int64_t end);

/* What to save. Texts are borrowed. `meta` is an object of small values (counters, model
 * configuration, KL controller, lineage, ...), kept as JSON text; doubles survive bit by bit. Its
 * member "kernel", if it is a string, also goes into the manifest. */
typedef struct CkptContent {
    const char *stage; /* "pretrain", "sft", "reward", "ppo" */
    int64_t step;
    const CkptArray *arrays;
    int narrays;
    const json_t *meta;
    const char *config;    /* resolved YAML */
    const char *tokenizer; /* text of tokenizer.json, or NULL */
    bool compress;
    bool skip_verify; /* not read back before it is committed: to measure what writing costs */
} CkptContent;

/* Writes dir/step_%08d.h5 and its manifest. Every rank packs what it holds, in threads, and rank 0
 * writes; equal content gives equal bytes, whatever the ranks and threads. All get the result;
 * names, types, shapes and their order must be the same on all ranks, the texts are rank 0's. Free
 * space is checked first (ERR_IO with both numbers). On failure the temporary is removed and
 * everything older is untouched. A step that is already there is replaced; a kill meanwhile leaves
 * the old one or the new one. Collective. */
int ckpt_save(const char *dir, const CkptContent *content, Comm *c);

/* Bytes of memory that a save of so many bytes of arrays takes beside them, about: on rank 0, with
 * so many threads. Not collective. */
size_t ckpt_save_memory(double bytes, int64_t ranks, bool compress, int64_t threads);

/* Writes one checkpoint under a name of its own, NAME.h5, with NAME.json, in the same way; neither
 * may be there (ERR_USAGE). Not collective. */
int ckpt_save_file(const char *path, const CkptContent *content);

/* Deletes committed checkpoints except the newest keep_last, those whose step is in keep[nkeep],
 * and never the only verified one; damaged ones do not count and stay. Also removes stale
 * temporaries and files of earlier steps that were never committed. saved: the step that this
 * process has just written and hashed, which need not be read again; -1: none. The caller owns the run
 * directory and is not inside ckpt_save. Collective. */
int ckpt_rotate(const char *dir, int64_t saved, int64_t keep_last, const int64_t *keep, int nkeep,
                Comm *c);

/* Files of a run's checkpoints that no rotation and no interruption takes away: those whose meta
 * says "kept", and the newest; oldest first. `run`: run or checkpoints directory. The caller frees
 * step, path and each path. None at all: ERR_DATA. Not collective. */
int ckpt_list_kept(const char *run, int64_t **step, char ***path, int *n);
/* Makes `file` the only checkpoint of dir: a hard link, or a copy where the file system has no
 * links. A kill meanwhile leaves dir with the old one, the new one or both. Not collective. */
int ckpt_take(const char *file, const char *dir);

/* An open checkpoint, read-only. */
typedef struct Ckpt Ckpt;

/* Opens what `path` means: a checkpoint file; a run or checkpoints directory: the best, if
 * best.json names one, else the newest good one. The bytes are verified against the manifest before
 * HDF5 sees them; a file without a manifest is refused: ERR_DATA with the remedy. Damaged ones of a
 * directory are named in a warning and the next older is taken; none left: ERR_DATA. With a
 * communicator Collective: rank 0 finds and verifies it, all open the same one; NULL: for this
 * process alone. */
int ckpt_open(Ckpt **out, const char *path, Comm *c);
/* For resuming: newest good checkpoint in dir; *out = NULL and 0 when there is none at all. If
 * there are checkpoints but all are damaged: ERR_DATA. Removes stale temporaries: the caller owns
 * the run directory. Collective, or alone, as ckpt_open. */
int ckpt_open_newest(Ckpt **out, const char *dir, Comm *c);
void ckpt_close(Ckpt **k);

const char *ckpt_path(const Ckpt *k);
const char *ckpt_id(const Ckpt *k); /* hash of the file's bytes, hex: the lineage's name for it */
const char *ckpt_stage(const Ckpt *k);
int64_t ckpt_step(const Ckpt *k);
const json_t *ckpt_meta(const Ckpt *k);
void ckpt_layout(const Ckpt *k, int64_t *ranks, int64_t *threads); /* that wrote it */
const char *ckpt_config(const Ckpt *k);
const char *ckpt_tokenizer(const Ckpt *k, size_t *len); /* "" when it has none */
bool ckpt_has(const Ckpt *k, const char *name);
/* That an array is there in this shape (ERR_DATA names both); its data is not looked at. */
int ckpt_check(Ckpt *k, const CkptArray *a);
/* Reads what v[n] describes into it, the counterpart of ckpt_save: parts, which may be cut
 * otherwise than they were saved, and whole arrays. The shapes must be the given ones: ERR_DATA
 * names both. Collective with the communicator of ckpt_open, on the same checkpoint; NULL: this
 * process alone. */
int ckpt_load(Ckpt *k, const CkptArray *v, int n, Comm *c);
int ckpt_each(Ckpt *k, const char *group, H5Visit *fn, void *ctx); /* names without leading '/' */

/* Verifies manifest, bytes, every dataset; one line of result to *report (malloc'd). */
int ckpt_verify(const char *path, char **report);

/* Records in dir/best.json which step is the best and its value. Collective. */
int ckpt_mark_best(const char *dir, int64_t step, double value, Comm *c);
int64_t ckpt_best_step(const char *dir, double *value); /* -1: none. Not collective. */

#endif
