/* open.h: opening without hashing the bytes again. Internal to checkpoints/. */
#ifndef CHECKPOINTS_OPEN_H
#define CHECKPOINTS_OPEN_H

#include "checkpoints/checkpoint.h"

/* ckpt_open; verify = false when another rank has just verified the same file. */
int open_file(Ckpt **out, const char *path, bool verify);

#endif
