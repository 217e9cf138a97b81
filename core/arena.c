/* arena.c: a chain of blocks, bump allocation. Blocks of 8 MiB and more are aligned to huge pages
 * and advised so, because activations are streamed through and page faults would show; of smaller
 * ones too much would be rounded up. */
#include "core/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

enum { ALIGN = 64, FIRST_BLOCK = 1 << 16, HUGE_PAGE = 1 << 21 };

struct ArenaBlock {
    ArenaBlock *prev;
    size_t size, used; /* bytes after the header */
    char pad[ALIGN - sizeof(void *) - 2 * sizeof(size_t)];
    char data[];
};
_Static_assert(sizeof(ArenaBlock) == ALIGN, "block data must start on a cache line");

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Becomes the newest block; holds at least `bytes`. */
static void push_block(Arena *a, size_t bytes) {
    size_t align = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : ALIGN;
    size_t total = round_up(bytes + sizeof(ArenaBlock), align);
    ArenaBlock *b = xaligned(align, total);
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE) madvise(b, total, MADV_HUGEPAGE); /* only a hint: may fail */
#endif
    b->prev = a->head;
    b->size = total - sizeof(ArenaBlock);
    b->used = 0;
    a->head = b;
}

static void pop_block(Arena *a) {
    ArenaBlock *b = a->head;
    a->head = b->prev;
    free(b);
}

static size_t capacity(const Arena *a) {
    size_t sum = 0;
    for (const ArenaBlock *b = a->head; b; b = b->prev) sum += b->size;
    return sum;
}

static size_t need_of(size_t bytes) {
    CHECK(bytes < SIZE_MAX / 2, "an allocation of %zu bytes: a negative size?", bytes);
    return round_up(bytes ? bytes : 1, ALIGN);
}

static void count(Arena *a, size_t need) {
    a->used += need;
    if (a->used > a->high) a->high = a->used;
}

void *arena_alloc(Arena *a, size_t bytes) {
    size_t need = need_of(bytes);
    if (!a->head || a->head->size - a->head->used < need) {
        size_t grow = capacity(a);
        if (grow < FIRST_BLOCK) grow = FIRST_BLOCK;
        push_block(a, need > grow ? need : grow);
    }
    void *p = a->head->data + a->head->used;
    a->head->used += need;
    count(a, need);
    return p;
}

void *arena_numbers(Arena *a, size_t bytes) {
    if (!a->dry) return arena_alloc(a, bytes);
    count(a, need_of(bytes));
    return ARENA_NOWHERE + a->used;
}

void *arena_zalloc(Arena *a, size_t bytes) { return memset(arena_alloc(a, bytes), 0, bytes); }

void arena_reset(Arena *a) {
    if (!a->dry && a->head && (a->head->prev || a->head->size < a->high)) {
        size_t high = a->high;
        arena_free(a);
        push_block(a, high);
        a->high = high;
    }
    while (a->head && a->head->prev) pop_block(a); /* a dry one's: their size says nothing */
    if (a->head) a->head->used = 0;
    a->used = 0;
}

void arena_free(Arena *a) {
    while (a->head) pop_block(a);
    a->used = 0;
    a->high = 0;
}

ArenaMark arena_mark(Arena *a) {
    a->marks++;
    return (ArenaMark){a->head, a->head ? a->head->used : 0, a->used};
}

void arena_release(Arena *a, ArenaMark m) {
    /* With no block at the time of the mark one is kept, empty, which saves making it twice. */
    while (a->head != m.block && !(m.block == NULL && a->head->prev == NULL)) {
        CHECK(a->head->prev, "arena_release: the mark is from before an arena_reset");
        pop_block(a);
    }
    if (a->head) a->head->used = m.block_used;
    a->used = m.used;
    a->marks--;
}
