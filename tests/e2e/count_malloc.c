/* count_malloc.c: preloaded, counts what the program's own code asks of the heap (not what its
 * libraries do for themselves) and writes the number to $COUNT_MALLOC when it ends. */
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static uintptr_t from, to; /* the program's code */
static long count;

static int program(struct dl_phdr_info *info, size_t size, void *ctx) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        from = info->dlpi_addr + p->p_vaddr;
        to = from + p->p_memsz;
    }
    return 1; /* the first one is the program */
}

__attribute__((constructor)) static void begin(void) { dl_iterate_phdr(program, NULL); }

__attribute__((destructor)) static void end(void) {
    FILE *f = getenv("COUNT_MALLOC") ? fopen(getenv("COUNT_MALLOC"), "w") : NULL;
    if (!f) return;
    fprintf(f, "%ld\n", count);
    fclose(f);
}

static void note(void *caller) {
    if ((uintptr_t)caller >= from && (uintptr_t)caller < to)
        __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
}

#define COUNTED(name, parameters, call)    \
    void *name parameters {                \
        note(__builtin_return_address(0)); \
        return call;                       \
    }
COUNTED(malloc, (size_t n), __libc_malloc(n))
COUNTED(calloc, (size_t m, size_t n), __libc_calloc(m, n))
COUNTED(realloc, (void *p, size_t n), __libc_realloc(p, n))
COUNTED(aligned_alloc, (size_t a, size_t n), __libc_memalign(a, n))
