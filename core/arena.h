/* arena.h: memory that is given back all at once. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An open struct. It owns a chain of blocks; when a block is full a new one, at least as large as
 * all before, joins it, and the next arena_reset() joins them into one, so that from the second
 * step on nothing is allocated. */
typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
    ArenaBlock *head; /* newest block */
    size_t used;      /* bytes handed out since the last reset */
    size_t high;      /* high-water mark of `used`: the memory plan */
    int marks;        /* not released yet */
    bool dry;         /* set before the first use: counts, but has no memory for numbers */
} Arena;

void *arena_alloc(Arena *a, size_t bytes);  /* 64-byte aligned, not cleared */
void *arena_zalloc(Arena *a, size_t bytes); /* cleared */
/* Memory for the numbers of tensors and of scratch, which a dry pass does not compute: of a dry
 * arena an address that is counted like any other and that nobody may touch. */
void *arena_numbers(Arena *a, size_t bytes);
void arena_reset(Arena *a);
void arena_free(Arena *a);

/* Marks allow stack-like scratch inside a step: everything allocated after the mark is given
 * back by arena_release. */
typedef struct ArenaMark {
    ArenaBlock *block;
    size_t block_used, used;
} ArenaMark;
ArenaMark arena_mark(Arena *a);
void arena_release(Arena *a, ArenaMark m);

/* A page that no process has: whoever reads or writes there ends with a segmentation fault. */
#define ARENA_NOWHERE ((char *)((uintptr_t)1 << 52))

#endif
