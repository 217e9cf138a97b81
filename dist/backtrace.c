/* backtrace.c: glibc names only what the dynamic linker knows, which is nothing of a program; the
 * program's own symbol table is in its file. See backtrace.h. */
#include "dist/backtrace.h"

#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FRAMES = 64 };

typedef struct Symbols {
    const ElfW(Sym) * v;
    size_t n;
    const char *names;
    uintptr_t base; /* where address 0 of the file lies */
} Symbols;

extern const char __ehdr_start[]; /* the linker's: the file's first byte in memory */

static Symbols own_symbols(void) {
    Symbols s = {0};
    struct stat st;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) return s;
    const char *file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED) return s;
    const ElfW(Ehdr) *head = (const void *)file;
    const ElfW(Shdr) *section = (const void *)(file + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB) continue;
        s.v = (const void *)(file + section[i].sh_offset);
        s.n = section[i].sh_size / sizeof *s.v;
        s.names = file + section[section[i].sh_link].sh_offset;
    }
    if (head->e_type == ET_DYN) s.base = (uintptr_t)__ehdr_start;
    return s;
}

static const ElfW(Sym) * find(const Symbols *s, uintptr_t at) {
    for (size_t i = 0; i < s->n; i++)
        if ((s->v[i].st_info & 15) == STT_FUNC && at - s->v[i].st_value < s->v[i].st_size)
            return &s->v[i];
    return NULL;
}

void backtrace_load(void) {
    void *frame[1];
    backtrace(frame, 1); /* loads the library that it needs */
}

void backtrace_print(int fd) {
    void *frame[FRAMES];
    const int n = backtrace(frame, FRAMES);
    const Symbols s = own_symbols();
    for (int i = 0; i < n; i++) {
        const uintptr_t at = (uintptr_t)frame[i] - 1 - s.base; /* the call, not what follows it */
        const ElfW(Sym) *symbol = find(&s, at);
        char line[256];
        if (!symbol) {
            backtrace_symbols_fd(&frame[i], 1, fd);
            continue;
        }
        int len = snprintf(line, sizeof line, "%.200s [0x%lx]\n", s.names + symbol->st_name,
                           (unsigned long)at);
        if (write(fd, line, (size_t)len) < 0) return;
    }
}
