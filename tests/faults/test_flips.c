/* Damaged checkpoints, manifests and corpora: flipped bits, overwritten bytes, truncation. Whatever
 * happens to the file, reading it is an error that names it or gives the very content that was
 * written; never other content, never a crash.
 *
 * FLIPS damages (400; make test-faults FAULTS=full: 10,000), half of them in a corpus; damage i is
 * a function of (SEED, i). FIRST is the first i, so that one line repeats a case. */
#include "tests/checkpoints/sample.h"

#include "base/hash.h"
#include "data/corpus.h"
#include "data/corpus_file.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

#include <fcntl.h>
#include <inttypes.h>
#include <omp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

typedef struct Tally { /* shared by parent and child */
    int64_t next, seen, harmless, silent, unnamed;
} Tally;

/* A file to be damaged, and what reads it: the hash of its content, 0 after an error. */
typedef struct Target {
    char *damaged; /* the file that is damaged, */
    char *path;    /* the one that is opened */
    char *bytes;
    size_t len;
    uint64_t (*content)(const char *path);
    uint64_t right;
} Target;

static uint64_t with(uint64_t h, const void *data, size_t n) {
    return hash_combine(h, hash_bytes(data, n));
}

/* --- what is read ----------------------------------------------------------------------------- */
static uint64_t checkpoint_content(const char *path) {
    Ckpt *k;
    if (ckpt_open(&k, path, NULL) < 0) return 0;
    const Sample *like = NULL;
    Sample *s = sample_make(3, 0);
    like = s;
    uint64_t h = 1;
    for (int a = 0; a < 4 && h; a++) {
        const CkptArray *w = &like->arrays[a];
        size_t n = h5_type_size(w->type);
        for (int d = 0; d < w->ndim; d++) n *= (size_t)w->shape[d];
        void *got = xcalloc(n + 1, 1);
        CkptArray have = *w;
        have.data = got;
        h = ckpt_load(k, &have, 1, NULL) < 0 ? 0 : with(h, got, n);
        free(got);
    }
    if (h) {
        char *meta = json_dumps(ckpt_meta(k), JSON_SORT_KEYS);
        const int64_t step = ckpt_step(k);
        h = with(h, meta, strlen(meta));
        h = with(h, &step, sizeof step);
        h = with(h, ckpt_stage(k), strlen(ckpt_stage(k)));
        h = with(h, ckpt_config(k), strlen(ckpt_config(k)));
        h = with(h, ckpt_tokenizer(k, NULL), strlen(ckpt_tokenizer(k, NULL)));
        free(meta);
    }
    sample_free(s);
    ckpt_close(&k);
    return h;
}

static uint64_t corpus_content(const char *path) {
    char *name = (char *)(uintptr_t)path;
    Corpus *c;
    if (corpus_open(&c, &(StrList){&name, 1}, 0) < 0) return 0;
    const int64_t n = corpus_tokens(c), numbers[3] = {n, corpus_bytes(c), corpus_documents(c)};
    uint64_t h = with(1, numbers, sizeof numbers);
    size_t len;
    const char *text = corpus_tokenizer(c, &len);
    h = with(h, text, len);
    int32_t *ids = xcalloc((size_t)n + 1, sizeof *ids);
    h = corpus_read(c, 0, n, ids) < 0 ? 0 : with(h, ids, (size_t)n * sizeof *ids);
    for (int64_t i = 0; i < numbers[2] && h; i++) {
        int64_t at[2];
        h = corpus_document(c, i, &at[0], &at[1]) < 0 ? 0 : with(h, at, sizeof at);
    }
    free(ids);
    corpus_close(&c);
    return h;
}

/* --- what is damaged -------------------------------------------------------------------------- */
static uint64_t seed;

static uint64_t draw(int64_t i, int k) { return sample_bits(i, k, (int64_t)seed); }

static void write_all(const char *path, const char *bytes, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len || close(fd) != 0) _exit(3);
}

static void damage(const Target *t, int64_t i) {
    char *bytes = xmalloc(t->len);
    memcpy(bytes, t->bytes, t->len);
    size_t len = t->len;
    const size_t at = draw(i, 1) % len;
    switch (draw(i, 0) % 8) {
    case 0: len = at; break; /* truncated */
    case 1: bytes[at] = (char)(bytes[at] ^ (char)(1 + draw(i, 2) % 255)); break;
    case 2: /* a block of zeros, as a file system may leave after a power failure */
        for (size_t k = at; k < len && k < at + 512; k++) bytes[k] = 0;
        break;
    case 3:
        for (int k = 0; k < 9; k++) bytes[draw(i, 3 + k) % len] ^= (char)(1 << draw(i, 20 + k) % 8);
        break;
    default: bytes[at] ^= (char)(1 << draw(i, 2) % 8);
    }
    write_all(t->damaged, bytes, len);
    free(bytes);
}

static void try_one(const Target *t, int64_t i, Tally *tally) {
    damage(t, i);
    const uint64_t h = t->content(t->path);
    const char *said = error_message();
    const int64_t unnamed = tally->unnamed;
    if (h == 0 && (strstr(said, file_basename(t->path)) || strstr(said, file_basename(t->damaged))))
        tally->seen++;
    else if (h == t->right)
        tally->harmless++;
    else
        ++*(h ? &tally->silent : &tally->unnamed);
    if (h ? h == t->right : tally->unnamed == unnamed) return;
    printf("damage %" PRId64 " of %s: %s\n", i, t->damaged, h ? "unnoticed" : said);
}

/* In children, because a crash must not end the test; after one the next damage is tried. */
static void sweep(const char *what, const Target *t, int64_t first, int64_t count) {
    Tally *tally =
        mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(tally != MAP_FAILED);
    tally->next = first;
    int crashes = 0;
    while (tally->next < first + count) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            while (tally->next < first + count) {
                alarm(60);
                try_one(t, tally->next, tally);
                tally->next++;
            }
            fflush(stdout);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        printf("damage %" PRId64 " of %s: the reader crashed (wait status %d)\n", tally->next,
               t->damaged, status);
        crashes++;
        tally->next++;
    }
    printf("%s: %" PRId64 " damages: %" PRId64 " seen, %" PRId64 " harmless, %" PRId64
           " silent, %d crashes, %" PRId64 " without the file's name\n",
           what, count, tally->seen, tally->harmless, tally->silent, crashes, tally->unnamed);
    const bool bad = tally->silent + tally->unnamed + crashes > 0;
    const bool blind = count >= 50 && tally->seen < count / 2;
    munmap(tally, sizeof *tally);
    if (bad || blind)
        fail_msg("repeat one: SEED=%" PRIu64 " FIRST=<damage> FLIPS=10 tests/faults/test_flips",
                 seed);
}

static Target target(char *damaged, char *path, uint64_t (*content)(const char *)) {
    Target t = {.damaged = damaged, .path = path, .content = content};
    OK(file_read(damaged, &t.bytes, &t.len));
    t.right = content(path);
    if (!t.right) fail_msg("%s", error_message());
    return t;
}

static void undo(Target *t) {
    write_all(t->damaged, t->bytes, t->len);
    free(t->bytes);
    free(t->damaged);
    free(t->path);
}

/* --- the tests -------------------------------------------------------------------------------- */
static int64_t number(const char *name, int64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoll(text) : otherwise;
}

static void test_checkpoints(void **state) {
    const int64_t count = number("FLIPS", 400) / 2, first = number("FIRST", 0);
    Comm *c;
    OK(comm_open_alone(&c));
    char *dir = scratch("run");
    OK(file_make_dirs(dir));
    for (int variant = 0; variant < 2; variant++) { /* compressed and not */
        OK(sample_save(dir, 3, variant, c));
        char *file = file_join(dir, "step_00000003.h5"),
             *manifest = file_join(dir, "step_00000003.json");
        Target t = target(file, xstrdup(file), checkpoint_content);
        sweep(variant ? "checkpoint, raw" : "checkpoint, zstd", &t, first, (count * 4 + 9) / 10);
        undo(&t);
        t = target(manifest, file_join(dir, "step_00000003.h5"), checkpoint_content);
        sweep("manifest", &t, first, (count + 9) / 10);
        undo(&t);
    }
    free(dir);
    comm_close(&c);
}

static void test_corpora(void **state) {
    const int64_t count = number("FLIPS", 400) / 2, first = number("FIRST", 0);
    char *text = scratch("texts.txt"), *path = scratch("corpus.h5");
    FILE *f = fopen(text, "w");
    assert_non_null(f);
    for (int i = 0; i < 6000; i++) {
        for (int k = 0; k < (int)(draw(i, 9) % 40); k++)
            fputc('a' + (int)(draw(i, 10 + k) % 26), f);
        fputs(i % 7 ? "\n" : "<|endoftext|>", f);
    }
    fclose(f);
    Tokenizer *t = tokens_bytes();
    CorpusBuild b = {.tokenizer = t, .split = "<|endoftext|>", .path = path};
    OK(corpus_build(&b, &(StrList){&text, 1}));
    assert_true(b.tokens > 65536 && b.documents > 500); /* two chunks */
    tokenizer_close(&t);
    Target c = target(path, xstrdup(path), corpus_content);
    sweep("corpus", &c, first, count);
    undo(&c);
    free(text);
}

int main(void) {
    omp_set_num_threads(1); /* threads do not survive a fork */
    seed = (uint64_t)number("SEED", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_checkpoints),
                                       cmocka_unit_test(test_corpora)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
