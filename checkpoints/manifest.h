/* manifest.h: names of files and the manifest, the commit record of a checkpoint. Internal to
 * checkpoints/. Nothing here is collective. */
#ifndef CHECKPOINTS_MANIFEST_H
#define CHECKPOINTS_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

enum { CKPT_FORMAT = 1 }; /* of the file and the manifest; raised when readers must change */
#define CKPT_HASH "xxh3"  /* attribute of every dataset, member of the manifest: hash in hex */

typedef struct Manifest {
    int64_t step;
    int64_t bytes; /* size of the file */
    uint64_t hash; /* XXH3 of its bytes */
    char stage[32];
    /* for people, not checked: */
    int64_t arrays;
    uint64_t config_hash;
    int ranks, threads;
    const char *kernel; /* written only; NULL: not known */
} Manifest;

/* dir/step_00000100<suffix>; malloc'd. The suffixes: */
#define CKPT_FILE     ".h5"
#define CKPT_MANIFEST ".json"
#define CKPT_ASIDE    ".old" /* before the others: a committed pair while its step is saved again */
char *manifest_name(const char *dir, int64_t step, bool aside, const char *suffix);

/* The manifest of a checkpoint file: .json instead of .h5; malloc'd. */
char *manifest_path(const char *file);

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
    int64_t pid; /* NAME_TEMPORARY: who wrote it */
} Name;
Name manifest_parse_name(const char *name);

/* Committed checkpoints of a directory, newest first; of one step the pair set aside comes second.
 * A directory that does not exist has none. The caller frees *out. */
typedef struct Committed {
    int64_t step;
    bool aside;
} Committed;
int manifest_list(const char *dir, Committed **out, int *n);

#endif
