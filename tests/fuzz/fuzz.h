/* fuzz.h: damaged inputs for everything that reads files. A target is a file fuzz_NAME.c:
 *
 *     static void one(const uint8_t *data, size_t len) {
 *         const char *path = fuzz_file("a.json", data, len);
 *         ... read it, free what was read; an error is as good as a success ...
 *     }
 *     FUZZ_MAIN(one, "\"text\"", "null") // words of the format, for the mutator; "" if none
 *
 * with a few small good (and once bad) inputs in tests/fuzz/corpus_NAME/, a file each. Then
 *
 *     make fuzz T=NAME FUZZ_SECONDS=60           all inputs of the corpus, then mutations of them
 *     build/asan/tests/fuzz/fuzz_NAME FILE...    these files
 *
 * Found is: a crash, a sanitizer's report, a leak, an allocation above 2 GiB, exit() (so also CHECK
 * and memory that ran out), an input that takes more than 20 seconds of CPU time. The input
 * numbered i is a function of (seed, i) and the corpus, so one line repeats it. The inputs run in a
 * child process, a second's worth of them each, whose output is kept from the last input only. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void FuzzOne(const uint8_t *data, size_t len);

#define FUZZ_MAIN(one, ...)                                     \
    int main(int argc, char **argv) {                           \
        static const char *const words[] = {__VA_ARGS__, NULL}; \
        return fuzz_main(argc, argv, __FILE__, one, words);     \
    }

enum { FUZZ_HANG_S = 20, FUZZ_LARGEST = 1 << 18 };

typedef struct FuzzInput {
    uint8_t *data;
    size_t len;
} FuzzInput;

static struct Fuzz {
    FuzzOne *one;
    const char *const *words;
    int nwords;
    FuzzInput *corpus;
    int ncorpus;
    uint64_t seed, state; /* of the random numbers */
    char *folder;         /* for fuzz_file */
    FILE *output;         /* what the last input printed */
} fuzz;

/* Seen by the parent when the child is gone. */
typedef struct FuzzShared {
    uint64_t input;
    bool done;
} FuzzShared;

/* A file of that content in a folder of this run; the path is valid until the next call. */
__attribute__((unused)) static const char *fuzz_file(const char *name, const void *data,
                                                     size_t len) {
    static char *path;
    free(path);
    path = file_join(fuzz.folder, name);
    unlink(path); /* some file systems wait for the disk when a truncated file is closed */
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
        perror(path);
        _exit(1);
    }
    return path;
}

/* --- random numbers --------------------------------------------------------------------------- */

static uint64_t fuzz_random(void) { /* splitmix64 */
    uint64_t z = fuzz.state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t fuzz_below(size_t n) { return n > 0 ? (size_t)(fuzz_random() % n) : 0; }

/* Powers of two and their neighbours, negative ones too; now and then any number. */
static uint64_t fuzz_number(void) {
    uint64_t v = (UINT64_C(1) << fuzz_below(64)) + fuzz_below(3) - 1;
    if (fuzz_below(4) == 0) v = 0 - v;
    return fuzz_below(8) == 0 ? fuzz_random() : v;
}

/* --- mutations -------------------------------------------------------------------------------- */

/* Puts `len` bytes in the place of `cut` bytes at `at`. */
static void fuzz_replace(FuzzInput *b, size_t at, size_t cut, const void *data, size_t len) {
    if (b->len - cut + len > FUZZ_LARGEST) return;
    memmove(b->data + at + len, b->data + at + cut, b->len - at - cut);
    if (len > 0) memcpy(b->data + at, data, len);
    b->len += len - cut;
}

/* A range within an input, mostly short. */
static size_t fuzz_range(const FuzzInput *b, size_t *len) {
    size_t at = fuzz_below(b->len + 1), most = b->len - at;
    *len = fuzz_below(1 + (fuzz_below(4) == 0 || most < 32 ? most : 32));
    return at;
}

static void fuzz_digits(FuzzInput *b) {
    size_t at = fuzz_below(b->len + 1), end;
    while (at < b->len && !(b->data[at] >= '0' && b->data[at] <= '9')) at++;
    for (end = at; end < b->len && b->data[end] >= '0' && b->data[end] <= '9';) end++;
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)fuzz_number());
    fuzz_replace(b, at, end - at, text, (size_t)n);
}

static void fuzz_mutate(FuzzInput *b) {
    size_t len, at = fuzz_range(b, &len);
    switch (fuzz_below(10)) {
    case 0:
        if (at < b->len) b->data[at] ^= (uint8_t)(1u << fuzz_below(8));
        break;
    case 1:
        if (at < b->len) b->data[at] = (uint8_t)fuzz_number();
        break;
    case 2: { /* a little-endian number */
        uint64_t v = fuzz_number();
        size_t size = (size_t)1 << fuzz_below(4);
        if (at + size <= b->len) memcpy(b->data + at, &v, size);
        break;
    }
    case 3: fuzz_replace(b, at, len, NULL, 0); break;
    case 4: { /* a word of the format, put in or put over what is there */
        if (fuzz.nwords == 0) break;
        const char *word = fuzz.words[fuzz_below((size_t)fuzz.nwords)];
        size_t n = strlen(word), cut = fuzz_below(2) && at + n <= b->len ? n : 0;
        fuzz_replace(b, at, cut, word, n);
        break;
    }
    case 5: fuzz_digits(b); break;
    case 6: { /* a range of another input of the corpus */
        const FuzzInput *other = &fuzz.corpus[fuzz_below((size_t)fuzz.ncorpus)];
        size_t n, from = fuzz_range(other, &n), cut = fuzz_below(2) ? len : 0;
        fuzz_replace(b, at, cut, other->data + from, n);
        break;
    }
    case 7: /* a range once more, or very often: depth and length */
    case 8: {
        uint8_t copy[64];
        if (len > sizeof copy) len = sizeof copy;
        memcpy(copy, b->data + at, len);
        size_t times = fuzz_below(16) == 0 ? fuzz_below(5000) : 1;
        for (size_t i = 0; i < times; i++) fuzz_replace(b, at, 0, copy, len);
        break;
    }
    default:
        if (fuzz_below(4) == 0) b->len = at;
        break;
    }
}

/* Input i, a function of (seed, i): first the corpus as it is, then mutations. */
static void fuzz_make(uint64_t i, FuzzInput *b) {
    fuzz.state = fuzz.seed * 0x9E3779B97F4A7C15u + i * 0xD1342543DE82EF95u;
    bool as_it_is = i < (uint64_t)fuzz.ncorpus;
    const FuzzInput *from = &fuzz.corpus[as_it_is ? i : fuzz_below((size_t)fuzz.ncorpus)];
    memcpy(b->data, from->data, b->len = from->len);
    if (as_it_is) return;
    for (size_t n = 1 + fuzz_below(fuzz_below(2) ? 3 : 12); n > 0; n--) fuzz_mutate(b);
}

/* --- running ---------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "max_allocation_size_mb=2048"; }
#define FUZZ_LEAKS() __lsan_do_recoverable_leak_check()
#else
#define FUZZ_LEAKS() 0
#endif

/* A copy of exactly its length, so that reading behind its end is found. */
static void fuzz_run(const uint8_t *data, size_t len) {
    rewind(fuzz.output);
    if (ftruncate(fileno(fuzz.output), 0) != 0) perror("ftruncate");
    uint8_t *exact = malloc(len > 0 ? len : 1);
    if (len > 0) memcpy(exact, data, len);
    struct itimerval limit = {.it_value.tv_sec = FUZZ_HANG_S}, none = {0};
    setitimer(ITIMER_PROF, &limit, NULL); /* not the clock's: the machine may be busy */
    fuzz.one(exact, len);
    setitimer(ITIMER_PROF, &none, NULL);
    free(exact);
}

/* In the child: inputs from shared->input on, until `end` or for a second. */
static void fuzz_child(FuzzShared *shared, uint64_t end, bool check_each) {
    int fd = fileno(fuzz.output);
    fflush(stdout);
    if (dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(1);
    FuzzInput b = {malloc(FUZZ_LARGEST), 0};
    double stop = clock_seconds() + 1;
    for (; shared->input < end && (check_each || clock_seconds() < stop); shared->input++) {
        fuzz_make(shared->input, &b);
        fuzz_run(b.data, b.len);
        if (check_each && FUZZ_LEAKS()) _exit(1);
    }
    free(b.data);
    shared->done = true;
    exit(FUZZ_LEAKS() ? 1 : 0);
}

static int fuzz_batch(FuzzShared *shared, uint64_t end, bool check_each) {
    shared->done = false;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) fuzz_child(shared, end, check_each);
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) perror("fork");
    return status;
}

static void fuzz_found(const FuzzShared *shared, int status, const char *program) {
    char line[512];
    rewind(fuzz.output);
    while (fgets(line, sizeof line, fuzz.output)) fputs(line, stdout);
    printf("%s: input %llu of seed %llu ", program, (unsigned long long)shared->input,
           (unsigned long long)fuzz.seed);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
        printf("takes more than %d s of CPU time", FUZZ_HANG_S);
    else if (WIFSIGNALED(status))
        printf("ends with signal %d", WTERMSIG(status));
    else
        printf("ends with exit(%d)", WEXITSTATUS(status));
    printf(": see above\nrepeat: %s --seed %llu --input %llu   (--out FILE writes it)\n", program,
           (unsigned long long)fuzz.seed, (unsigned long long)shared->input);
}

static int fuzz_loop(double seconds, uint64_t first, uint64_t last, const char *program) {
    FuzzShared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    *shared = (FuzzShared){.input = first};
    double stop = clock_seconds() + seconds;
    while (shared->input < last &&
           (clock_seconds() < stop || shared->input < (uint64_t)fuzz.ncorpus)) {
        uint64_t begin = shared->input;
        int status = fuzz_batch(shared, last, false);
        if (status == 0 && shared->done) continue;
        if (shared->done) { /* a leak: of which input? */
            uint64_t end = shared->input;
            shared->input = begin;
            status = fuzz_batch(shared, end, true);
        }
        fuzz_found(shared, status, program);
        return 1;
    }
    printf("%llu inputs, seed %llu\n", (unsigned long long)(shared->input - first),
           (unsigned long long)fuzz.seed);
    return 0;
}

static void fuzz_add(const char *path) {
    char *data;
    FuzzInput in;
    if (file_read(path, &data, &in.len) < 0 || in.len > FUZZ_LARGEST) {
        fprintf(stderr, "%s: missing, or longer than %d bytes\n", path, FUZZ_LARGEST);
        exit(1);
    }
    in.data = (uint8_t *)data;
    fuzz.corpus = xrealloc(fuzz.corpus, (size_t)(fuzz.ncorpus + 1) * sizeof *fuzz.corpus);
    fuzz.corpus[fuzz.ncorpus++] = in;
}

/* tests/fuzz/fuzz_NAME.c -> the files of tests/fuzz/corpus_NAME */
static void fuzz_load_corpus(const char *source) {
    const char *name = strstr(source, "fuzz_");
    char *dir =
        xasprintf("%.*scorpus_%.*s", (int)(name - source), source, (int)strlen(name) - 7, name + 5);
    char **names;
    int n;
    if (file_list(dir, &names, &n) < 0 || n == 0) {
        fprintf(stderr, "%s: no inputs there; start from the top of the tree\n", dir);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]);
        fuzz_add(path);
        free(path);
    }
    file_free_list(&names, n);
    free(dir);
}

static int fuzz_main(int argc, char **argv, const char *source, FuzzOne *one,
                     const char *const *words) {
    const char *env_seconds = getenv("FUZZ_SECONDS"), *env_seed = getenv("FUZZ_SEED"), *out = NULL;
    double seconds = env_seconds ? atof(env_seconds) : 2;
    uint64_t first = 0, last = UINT64_MAX;
    fuzz.one = one;
    fuzz.words = words;
    while (words[fuzz.nwords] && *words[fuzz.nwords]) fuzz.nwords++;
    fuzz.seed = env_seed ? strtoull(env_seed, NULL, 10) : 1;
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) fuzz.seed = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--input") == 0) last = (first = strtoull(argv[i + 1], NULL, 10)) + 1;
        if (strcmp(argv[i], "--out") == 0) out = argv[i + 1];
    }
    if (i < argc) {
        for (; i < argc; i++) fuzz_add(argv[i]);
        last = (uint64_t)fuzz.ncorpus;
    } else {
        fuzz_load_corpus(source);
    }
    if (out) {
        FuzzInput b = {xmalloc(FUZZ_LARGEST), 0};
        fuzz_make(first, &b);
        int rc = file_write_durable(out, b.data, b.len);
        if (rc < 0) fprintf(stderr, "%s\n", error_message());
        free(b.data);
        return rc < 0;
    }
    fuzz.folder = xstrdup("/dev/shm/rhetor-fuzz-XXXXXX");
    fuzz.output = fdopen(memfd_create("output", 0), "w+");
    if (!fuzz.output || !mkdtemp(fuzz.folder)) {
        perror("temporary folder");
        return 1;
    }
    int rc = fuzz_loop(seconds, first, last, argv[0]);
    char **names;
    int n;
    if (file_list(fuzz.folder, &names, &n) >= 0) {
        for (int k = 0; k < n; k++) {
            char *path = file_join(fuzz.folder, names[k]);
            file_remove(path);
            free(path);
        }
        file_free_list(&names, n);
    }
    rmdir(fuzz.folder);
    for (int k = 0; k < fuzz.ncorpus; k++) free(fuzz.corpus[k].data);
    free(fuzz.corpus);
    free(fuzz.folder);
    fclose(fuzz.output);
    return rc;
}

#endif
