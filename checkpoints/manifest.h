/* manifest.h: names of files and the manifest, the commit record of a checkpoint. Internal to
 * checkpoints/ and rhetor-ckpt. Nothing here is collective. */
#ifndef CHECKPOINTS_MANIFEST_H
#define CHECKPOINTS_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

/* Of the file and the manifest; raised when readers must change. The earlier ones are read too: the
 * texts were arrays of bytes in 2, and in 1 the hash of a dataset was that of all its bytes, in the
 * attribute CKPT_HASH. */
enum { CKPT_FORMAT = 3, CKPT_OLDEST_FORMAT = 1 };
#define CKPT_HASH   "xxh3"        /* in the manifest: hash of the file's bytes, in hex */
#define CKPT_HASHES "xxh3_chunks" /* attribute of a dataset: hash of its chunks' hashes, in hex */

typedef struct Manifest {
    int64_t step;
    int64_t bytes; /* size of the file */
    uint64_t hash; /* XXH3 of its bytes */
    char stage[32];
    /* for people, not checked: */
    int64_t arrays;
    uint64_t config_hash;
    int64_t ranks, threads;
    const char *kernel; /* written only; NULL: not known */
} Manifest;

/* dir/step_00000100<suffix>; malloc'd. The suffixes: */
#define CKPT_FILE     ".h5"
#define CKPT_MANIFEST ".json"
#define CKPT_ASIDE    ".old" /* before the others: a committed pair while its step is saved again */
char *manifest_name(const char *dir, int64_t step, bool aside, const char *suffix);

/* The manifest of a checkpoint file: .json instead of .h5; malloc'd. */
char *manifest_path(const char *file);

/* The folder of a run's checkpoints: run/checkpoints, or `path` itself; malloc'd. */
char *manifest_folder(const char *path);

int manifest_write(const Manifest *m, const char *file);
/* ERR_DATA when there is none or it is not one of ours. */
int manifest_read(Manifest *m, const char *file);
/* Reads the manifest and compares size and hash of the file's bytes. HDF5 may crash on a damaged
 * file, so this comes before it opens one. */
int manifest_verify(Manifest *m, const char *file);

/* A file that bears the name of a checkpoint of ours. */
typedef enum NameKind { NAME_OTHER, NAME_FILE, NAME_MANIFEST, NAME_TEMPORARY } NameKind;
typedef struct Name {
    NameKind kind;
    int64_t step;
    bool aside;
} Name;
Name manifest_parse_name(const char *name);

/* Committed checkpoints of a directory, newest first; of one step the pair set aside comes second.
 * A directory that does not exist has none. The caller frees *out. */
typedef struct Committed {
    int64_t step;
    bool aside;
} Committed;
int manifest_list(const char *dir, Committed **out, int *n);

/* Removes a checkpoint's manifest, without which the file does not count, then the file. */
int manifest_remove_pair(const char *file);
/* Removes what interrupted saves have left. The caller owns the run directory (its lock) and is not
 * inside a save: nobody writes here, and every temporary is stale. */
int manifest_remove_temporaries(const char *dir);

#endif
