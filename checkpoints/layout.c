/* layout.c: the bytes of a checkpoint's file, made by all ranks.
 *
 * Compressing is what takes the time, so each rank packs the chunks that lie in its own parts, in
 * threads; rank 0 receives them and hands them to HDF5. An array that all ranks hold whole is
 * divided among them. Of a chunk on the border of two parts the rank with most of it gets the few
 * other elements.
 *
 * The order in which chunks are written decides where they lie in the file, and must not depend on
 * the number of ranks: equal content gives equal bytes. But in the order of the arrays one rank
 * would work after the other. So the arrays, laid end to end, are cut into STRETCHES equal parts,
 * and a window takes one CHUNK_BYTES of each: however many ranks share the arrays, all have work in
 * every window. A window is also all that is in flight: rank 0 writes one while the next is
 * packed. */
#include "checkpoints/layout.h"

#include "base/error.h"
#include "base/hash.h"
#include "checkpoints/manifest.h"
#include "dist/fault.h"
#include "dist/watchdog.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Strings, which people and other programs read too; rank 0's. */
enum { META, CONFIG, TOKENIZER, TEXTS };
static const char *const text_name[TEXTS] = {"meta", "config", "tokenizer"};

enum { STRETCHES = 32, WINDOW_STEP = 1 << 20 /* bytes of a stretch */ };

/* A chunk is packed by `owner`; if part of it lies elsewhere, it is `split`. */
typedef struct Chunk {
    int array, owner;
    bool split;
    int64_t k, begin, end; /* in its array; its elements */
    int64_t window;
    uint64_t hash; /* of its values; on its owner and, once it was collected, on rank 0 */
} Chunk;

typedef struct ArrayPart {
    int64_t begin, end;
} ArrayPart;

struct Layout {
    Comm *comm;
    int rank, size;
    const CkptArray *v;
    int n;
    ArrayPart *part; /* [size][n] */
    H5Cut *cut;      /* [n] */
    Chunk *chunk;
    int64_t nchunks;         /* in the order of the arrays */
    int64_t *order, *window; /* chunks in the order of writing; where windows begin in it [+1] */
    int64_t nwindows;
    uint64_t text_hash[TEXTS]; /* on rank 0, once written */
};

/* --- who holds what --------------------------------------------------------------------------- */

/* What must be the same on all ranks. */
static uint64_t digest(const CkptArray *v, int n) {
    uint64_t h = (uint64_t)n;
    for (int i = 0; i < n; i++) {
        const int64_t kind[2] = {v[i].type, v[i].ndim};
        h = hash_combine(h, hash_text(v[i].name));
        h = hash_combine(h, hash_bytes(kind, sizeof kind));
        h = hash_combine(h, hash_bytes(v[i].shape, (size_t)v[i].ndim * sizeof *v[i].shape));
    }
    return h;
}

static int by_begin(const void *a, const void *b) {
    const ArrayPart *x = a, *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin)
                                : (x->end > y->end) - (x->end < y->end);
}

static bool is_whole(const Layout *l, int array) { return l->part[array].end == 0; }

static int check_parts(const Layout *l, int array, ArrayPart *sorted) {
    const CkptArray *a = &l->v[array];
    const int64_t total = ckpt_elements(a);
    int whole = 0;
    for (int r = 0; r < l->size; r++) {
        sorted[r] = l->part[(int64_t)r * l->n + array];
        whole += sorted[r].end == 0;
    }
    if (total == 0 || whole == l->size) return 0;
    if (whole > 0)
        return error_set(ERR_INTERNAL, "%s: %d of %d ranks hold the whole of it, the others a part",
                         a->name, whole, l->size);
    qsort(sorted, (size_t)l->size, sizeof *sorted, by_begin);
    int64_t covered = 0;
    for (int r = 0; r < l->size; r++) {
        if (sorted[r].begin == sorted[r].end) continue;
        if (sorted[r].begin != covered)
            return error_set(ERR_INTERNAL,
                             "%s: the ranks' parts leave a gap or overlap: one begins at %" PRId64
                             ", expected %" PRId64,
                             a->name, sorted[r].begin, covered);
        covered = sorted[r].end;
    }
    if (covered == total) return 0;
    return error_set(ERR_INTERNAL, "%s: the ranks' parts end at %" PRId64 " of %" PRId64, a->name,
                     covered, total);
}

static int gather_parts(Layout *l) {
    AUTOFREE ArrayPart *mine = xcalloc((size_t)l->n, sizeof *mine);
    for (int i = 0; i < l->n; i++) mine[i] = (ArrayPart){l->v[i].begin, l->v[i].end};
    char *all;
    AUTOFREE size_t *at = xcalloc((size_t)l->size + 1, sizeof *at);
    comm_allgather_bytes(l->comm, mine, (size_t)l->n * sizeof *mine, &all, at);
    l->part = (ArrayPart *)(void *)all;
    AUTOFREE ArrayPart *sorted = xcalloc((size_t)l->size, sizeof *sorted);
    int rc = 0;
    for (int i = 0; i < l->n && rc == 0; i++) rc = check_parts(l, i, sorted);
    return rc;
}

/* The elements of a chunk that rank r holds. */
static ArrayPart held(const Layout *l, const Chunk *ch, int r) {
    if (is_whole(l, ch->array)) return (ArrayPart){ch->begin, ch->end};
    ArrayPart p = l->part[(int64_t)r * l->n + ch->array];
    if (p.begin < ch->begin) p.begin = ch->begin;
    if (p.end > ch->end) p.end = ch->end;
    if (p.end < p.begin) p.end = p.begin;
    return p;
}

static size_t element_size(const Layout *l, const Chunk *ch) {
    return h5_type_size(l->v[ch->array].type);
}
static size_t values_bytes(const Layout *l, const Chunk *ch) {
    return (size_t)(ch->end - ch->begin) * element_size(l, ch);
}
static size_t whole_bytes(const Layout *l, const Chunk *ch) {
    return (size_t)l->cut[ch->array].cap * element_size(l, ch);
}

/* --- the order -------------------------------------------------------------------------------- */
static void list_chunks(Layout *l) {
    int64_t total = 0, at = 0;
    for (int i = 0; i < l->n; i++) {
        l->cut[i] = h5_cut(l->v[i].type, l->v[i].ndim, l->v[i].shape);
        l->nchunks += l->cut[i].chunks;
        total += ckpt_elements(&l->v[i]) * (int64_t)h5_type_size(l->v[i].type);
    }
    const int64_t stretch = total / STRETCHES + 1;
    l->nwindows = (stretch + WINDOW_STEP - 1) / WINDOW_STEP;
    l->chunk = xcalloc((size_t)l->nchunks, sizeof *l->chunk);
    l->order = xcalloc((size_t)l->nchunks, sizeof *l->order);
    l->window = xcalloc((size_t)l->nwindows + 2, sizeof *l->window);
    Chunk *ch = l->chunk;
    for (int i = 0; i < l->n; i++)
        for (int64_t k = 0; k < l->cut[i].chunks; k++, ch++) {
            ch->array = i;
            ch->k = k;
            ch->begin = h5_cut_start(&l->cut[i], k);
            ch->end = ch->begin + h5_cut_count(&l->cut[i], k);
            ch->window = at % stretch / WINDOW_STEP;
            at += (int64_t)values_bytes(l, ch);
            l->window[ch->window + 2]++;
        }
    /* Sorted by counting, two places on; filling the order moves each beginning to its place. */
    for (int64_t w = 1; w <= l->nwindows + 1; w++) l->window[w] += l->window[w - 1];
    for (int64_t i = 0; i < l->nchunks; i++) l->order[l->window[l->chunk[i].window + 1]++] = i;
}

/* A chunk of a part is packed where most of it lies, others where there is least to do. Rank 0 also
 * writes, which takes it about a quarter of the time of packing. */
static void choose_owners(Layout *l) {
    AUTOFREE int64_t *load = xcalloc((size_t)l->size, sizeof *load);
    for (int64_t w = 0; w < l->nwindows; w++) {
        memset(load, 0, (size_t)l->size * sizeof *load);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = l->window[w]; i < l->window[w + 1]; i++) {
                Chunk *ch = &l->chunk[l->order[i]];
                const int64_t bytes = (int64_t)values_bytes(l, ch);
                if (is_whole(l, ch->array) != (pass == 1)) continue;
                int64_t most = 0;
                for (int r = 0; r < l->size; r++) {
                    const ArrayPart p = held(l, ch, r);
                    if (pass == 0 && p.end - p.begin > most) {
                        most = p.end - p.begin;
                        ch->owner = r;
                    }
                    if (pass == 1 && load[r] < load[ch->owner]) ch->owner = r;
                }
                ch->split = pass == 0 && most < ch->end - ch->begin;
                load[ch->owner] += bytes;
                load[0] += bytes / 4;
            }
    }
}

int layout_make(Layout **out, const CkptArray *v, int n, Comm *c) {
    *out = NULL;
    if (!comm_equal_u64(c, digest(v, n)))
        return error_set(ERR_INTERNAL,
                         "the ranks have other arrays to save, by name, type or shape");
    Layout *l = xcalloc(1, sizeof *l);
    *l = (Layout){.comm = c, .rank = comm_rank(c), .size = comm_size(c), .v = v, .n = n};
    int rc = gather_parts(l);
    if (rc == 0) {
        l->cut = xcalloc((size_t)n, sizeof *l->cut);
        list_chunks(l);
        choose_owners(l);
        *out = l;
    } else
        layout_free(&l);
    return rc;
}

size_t ckpt_save_memory(double bytes, int64_t ranks, bool compress, int64_t threads) {
    /* Measured: a thread's chunker with zstd's context, the file. Of a small model's short chunks
     * about half of what there is to save. */
    const double thread = fmin(3 << 20, bytes / 2), file = fmin(4 << 20, bytes / 2);
    /* One window is written while the next is packed; a chunk may reach beyond its window. */
    const double most = (double)(STRETCHES + 1) * WINDOW_STEP;
    double windows = bytes <= (double)STRETCHES * WINDOW_STEP ? bytes : 2 * fmin(most, bytes);
    /* One rank packs into slots as long as a chunk may become; several send what came out. */
    if (ranks > 1 && compress) windows *= 0.85;
    return (size_t)(windows + file + (compress ? (double)threads * thread : 0));
}

void layout_free(Layout **lp) {
    Layout *l = *lp;
    if (!l) return;
    free(l->part);
    free(l->cut);
    free(l->chunk);
    free(l->order);
    free(l->window);
    free(l);
    *lp = NULL;
}

/* --- packing ---------------------------------------------------------------------------------- */

/* The chunks of one window: this rank's, on rank 0 afterwards everybody's. */
typedef struct Window {
    int64_t n, room;
    struct Slot {
        Chunk *chunk;
        const char *values; /* of a chunk that is mine */
        char *packed;
        size_t bytes;
    } * slot;
    char *area; /* of all packed */
    size_t area_bytes;
} Window;

/* Grown memory; what was in it is lost. */
static char *need(char **area, size_t *have, size_t bytes) {
    if (bytes > *have) {
        free(*area);
        *area = xmalloc(bytes);
        *have = bytes;
    }
    return *area;
}

/* What a save needs on its way through the windows. */
typedef struct Save {
    Layout *l;
    bool compress;
    Window window[2];  /* being packed; being written */
    Chunker **chunker; /* [threads] */
    int threads;
    char *pieces, *joined; /* of split chunks: of one, as they come; of a window, put together */
    size_t pieces_bytes, joined_bytes;
    size_t *send_n, *recv_n; /* [size] */
    H5 *h5;                  /* rank 0 */
    H5Data **data;
} Save;

static H5Codec codec_of(const Save *s) { return s->compress ? H5_SHUFFLE_ZSTD : H5_RAW; }

static const char *at_element(const Layout *l, const Chunk *ch, int64_t element) {
    const CkptArray *a = &l->v[ch->array];
    return (const char *)a->data + (size_t)(element - a->begin) * h5_type_size(a->type);
}

/* The values of a chunk on the border of two parts come to its owner. Such chunks are few, and only
 * who holds some of it takes part. Returns where they lie, on the owner: in `to`. */
static const char *join_split(Save *s, const Chunk *ch, char *to) {
    const Layout *l = s->l;
    const ArrayPart mine = held(l, ch, l->rank);
    const size_t each = element_size(l, ch), bytes = (size_t)(mine.end - mine.begin) * each;
    const bool owner = ch->owner == l->rank;
    const char *values = bytes ? at_element(l, ch, mine.begin) : NULL;
    memset(s->send_n, 0, (size_t)l->size * sizeof *s->send_n);
    memset(s->recv_n, 0, (size_t)l->size * sizeof *s->recv_n);
    if (!owner) s->send_n[ch->owner] = bytes;
    for (int r = 0; owner && r < l->size; r++) {
        const ArrayPart p = held(l, ch, r);
        if (r != l->rank) s->recv_n[r] = (size_t)(p.end - p.begin) * each;
    }
    const char *from = need(&s->pieces, &s->pieces_bytes, values_bytes(l, ch));
    comm_exchange_bytes(l->comm, values, s->send_n, s->pieces, s->recv_n);
    for (int r = 0; owner && r < l->size; r++) { /* they came in the order of the ranks */
        const ArrayPart p = held(l, ch, r);
        char *at = to + (size_t)(p.begin - ch->begin) * each;
        if (r == l->rank && bytes) memcpy(at, values, bytes);
        if (r != l->rank) memcpy(at, from, s->recv_n[r]);
        from += s->recv_n[r];
    }
    return to;
}

/* A slot for each of my chunks of window w. */
static void open_window(Save *s, int64_t w) {
    Layout *l = s->l;
    Window *win = &s->window[0];
    const int64_t n = l->window[w + 1] - l->window[w];
    if (n > win->room) {
        win->room = n;
        win->slot = xrealloc(win->slot, (size_t)n * sizeof *win->slot);
    }
    win->n = 0;
    size_t bytes = 0, joined = 0;
    for (int64_t i = 0; i < n; i++) {
        const Chunk *ch = &l->chunk[l->order[l->window[w] + i]];
        if (ch->owner != l->rank) continue;
        bytes += chunk_bound(whole_bytes(l, ch));
        if (ch->split) joined += values_bytes(l, ch);
    }
    char *to = need(&s->joined, &s->joined_bytes, joined);
    for (int64_t i = 0; i < n; i++) {
        Chunk *ch = &l->chunk[l->order[l->window[w] + i]];
        const bool mine = ch->owner == l->rank;
        const char *values = ch->split ? join_split(s, ch, to)
                             : mine    ? at_element(l, ch, ch->begin)
                                       : NULL;
        if (mine) win->slot[win->n++] = (struct Slot){.chunk = ch, .values = values};
        if (mine && ch->split) to += values_bytes(l, ch);
    }
    char *area = need(&win->area, &win->area_bytes, bytes);
    for (int64_t i = 0; i < win->n; i++) {
        win->slot[i].packed = area;
        area += chunk_bound(whole_bytes(l, win->slot[i].chunk));
    }
}

/* Rank 0 hands the last window to HDF5. */
static int write_window(Save *s) {
    Window *win = &s->window[1];
    for (int64_t i = 0; i < win->n; i++) {
        const struct Slot *slot = &win->slot[i];
        TRY(h5_data_put(s->data[slot->chunk->array], slot->chunk->k, slot->packed, slot->bytes));
    }
    if (win->n > 0) h5_write_behind(s->h5);
    win->n = 0;
    return 0;
}

/* Threads pack window[0]; meanwhile the main thread writes window[1] first. */
static int pack_window(Save *s) {
    const Layout *l = s->l;
    Window *win = &s->window[0];
    int rc = 0;
    const char *why = NULL;
#pragma omp parallel num_threads(s->threads)
    {
#pragma omp master
        rc = write_window(s);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < win->n; i++) {
            struct Slot *slot = &win->slot[i];
            Chunk *ch = slot->chunk;
            Chunker **c = &s->chunker[omp_get_thread_num()];
            const char *wrong = "";
            const size_t size = element_size(l, ch), bytes = whole_bytes(l, ch);
            if (!*c) *c = chunker_new(bytes, size, codec_of(s));
            chunker_aim(*c, bytes, size, codec_of(s));
            ch->hash = hash_bytes(slot->values, values_bytes(l, ch));
            slot->bytes = chunker_pack(*c, slot->values, values_bytes(l, ch), slot->packed, &wrong);
            if (slot->bytes == 0) {
#pragma omp atomic write
                why = wrong;
            }
        }
    }
    if (why && rc == 0) rc = error_set(ERR_INTERNAL, "zstd: %s", why);
    return rc;
}

static int in_file(const void *a, const void *b) { /* of one window: in the order of the arrays */
    const Chunk *x = ((const struct Slot *)a)->chunk, *y = ((const struct Slot *)b)->chunk;
    return (x > y) - (x < y);
}

typedef struct Sent {
    uint64_t bytes, hash;
} Sent;

/* The other ranks' chunks come to rank 0, behind its own; then it is the window to be written. */
static void collect_window(Save *s, int64_t w) {
    Layout *l = s->l;
    Window *win = &s->window[0];
    const size_t size = (size_t)l->size;
    const int64_t n = l->window[w + 1] - l->window[w];
    AUTOFREE Sent *sent = xcalloc((size_t)(win->n + n), sizeof *sent);
    Sent *came = sent + win->n;
    size_t bytes = 0; /* of mine, moved together */
    for (int64_t i = 0; i < win->n; i++) {
        struct Slot *slot = &win->slot[i];
        memmove(win->area + bytes, slot->packed, slot->bytes);
        slot->packed = win->area + bytes;
        bytes += slot->bytes;
        sent[i] = (Sent){slot->bytes, slot->chunk->hash};
    }
    memset(s->send_n, 0, size * sizeof *s->send_n);
    memset(s->recv_n, 0, size * sizeof *s->recv_n);
    if (l->rank != 0) s->send_n[0] = (size_t)win->n * sizeof *sent;
    for (int64_t i = 0; l->rank == 0 && i < n; i++) {
        const int owner = l->chunk[l->order[l->window[w] + i]].owner;
        if (owner != 0) s->recv_n[owner] += sizeof *sent;
    }
    comm_exchange_bytes(l->comm, sent, s->send_n, came, s->recv_n);

    if (l->rank != 0) {
        s->send_n[0] = bytes;
        comm_exchange_bytes(l->comm, win->area, s->send_n, NULL, s->recv_n);
    } else {
        /* `came` is in the order of ranks, and of each rank in that of the window. */
        size_t others = 0;
        const int64_t mine = win->n;
        for (int r = 1; r < l->size; r++) {
            s->recv_n[r] = 0;
            for (int64_t i = 0; i < n; i++) {
                Chunk *ch = &l->chunk[l->order[l->window[w] + i]];
                if (ch->owner != r) continue;
                const Sent *x = &came[win->n - mine];
                ch->hash = x->hash;
                win->slot[win->n++] = (struct Slot){.chunk = ch, .bytes = (size_t)x->bytes};
                s->recv_n[r] += (size_t)x->bytes;
                others += (size_t)x->bytes;
            }
        }
        if (bytes + others > win->area_bytes) {
            win->area = xrealloc(win->area, bytes + others);
            win->area_bytes = bytes + others;
        }
        comm_exchange_bytes(l->comm, NULL, s->send_n, win->area + bytes, s->recv_n);
        char *at = win->area;
        for (int64_t i = 0; i < win->n; i++) {
            win->slot[i].packed = at;
            at += win->slot[i].bytes;
        }
        qsort(win->slot, (size_t)win->n, sizeof *win->slot, in_file);
        const Window other = s->window[1];
        s->window[1] = *win;
        s->window[0] = other;
    }
}

/* --- the file --------------------------------------------------------------------------------- */
static int set_hash(H5 *h, const char *name, uint64_t hash) {
    char hex[17];
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    return h5_set_str(h, name, CKPT_HASHES, hex);
}

static int write_texts(Save *s, const char *meta, const CkptContent *content) {
    if (!meta) return error_set(ERR_INTERNAL, "meta cannot be written as JSON");
    const char *const text[TEXTS] = {meta, content->config ? content->config : "",
                                     content->tokenizer ? content->tokenizer : ""};
    for (int i = 0; i < TEXTS; i++) {
        const uint64_t chunk = hash_bytes(text[i], strlen(text[i]) + 1); /* it has one */
        s->l->text_hash[i] = hash_bytes(&chunk, sizeof chunk);
        TRY(fault_point("ckpt_save.array"));
        TRY(h5_write_text(s->h5, text_name[i], text[i]));
        TRY(set_hash(s->h5, text_name[i], s->l->text_hash[i]));
    }
    return 0;
}

static int create_file(Save *s, const char *path, const CkptContent *content) {
    const Layout *l = s->l;
    TRY(h5_create(&s->h5, path));
    TRY(h5_set_str(s->h5, "/", "about",
                   "A checkpoint of Rhetor: named arrays, and as strings meta (JSON), config "
                   "(YAML), tokenizer (JSON); see docs/FORMATS.md"));
    TRY(h5_set_i64(s->h5, "/", "format", CKPT_FORMAT));
    TRY(h5_set_str(s->h5, "/", "version", RHETOR_VERSION));
    TRY(h5_set_str(s->h5, "/", "stage", content->stage));
    TRY(h5_set_i64(s->h5, "/", "step", content->step));
    AUTOFREE char *meta = json_dumps(content->meta, JSON_SORT_KEYS | JSON_COMPACT);
    int rc = write_texts(s, meta, content);
    TRY(rc);
    for (int i = 0; i < l->n; i++) {
        const CkptArray *a = &l->v[i];
        TRY(fault_point("ckpt_save.array"));
        TRY(h5_data_create(&s->data[i], s->h5, a->name, a->type, a->ndim, a->shape, codec_of(s)));
    }
    return 0;
}

/* With rc >= 0 the hashes are written; in any case all is closed. */
static int close_file(Save *s, int rc) {
    const Layout *l = s->l;
    AUTOFREE uint64_t *hash = xcalloc((size_t)l->nchunks, sizeof *hash);
    for (int64_t i = 0; i < l->nchunks; i++) hash[i] = l->chunk[i].hash;
    const uint64_t *at = hash;
    for (int i = 0; i < l->n; at += l->cut[i++].chunks) {
        const int closed = h5_data_close(&s->data[i]);
        const uint64_t all = hash_bytes(at, (size_t)l->cut[i].chunks * sizeof *at);
        if (rc >= 0) rc = closed;
        if (rc >= 0) rc = set_hash(s->h5, l->v[i].name, all);
    }
    const int closed = h5_close(&s->h5);
    return rc < 0 ? rc : closed;
}

int layout_write(Layout *l, const char *path, const CkptContent *content) {
    Save s = {.l = l, .compress = content->compress, .threads = omp_get_max_threads()};
    s.chunker = xcalloc((size_t)s.threads, sizeof *s.chunker);
    s.send_n = xcalloc(2 * (size_t)l->size, sizeof *s.send_n);
    s.recv_n = s.send_n + l->size;
    s.data = xcalloc((size_t)l->n, sizeof *s.data);
    int rc = l->rank == 0 ? create_file(&s, path, content) : 0;
    for (int64_t w = 0; w < l->nwindows; w++) {
        if (rc >= 0) rc = fault_point("ckpt_save.window");
        if ((rc = comm_agree(l->comm, rc)) < 0) break;
        watchdog_beat();
        open_window(&s, w);
        rc = pack_window(&s);
        collect_window(&s, w);
    }
    if (rc >= 0) rc = write_window(&s);
    if (l->rank == 0) rc = close_file(&s, rc);

    for (int i = 0; i < s.threads; i++) chunker_free(&s.chunker[i]);
    for (int i = 0; i < 2; i++) {
        free(s.window[i].slot);
        free(s.window[i].area);
    }
    free(s.chunker);
    free(s.pieces);
    free(s.joined);
    free(s.send_n);
    free(s.data);
    return comm_agree(l->comm, rc);
}

static int differs(const char *path, const char *name) {
    return error_set(ERR_IO,
                     "%s: %s reads back otherwise than it was written: the disk or the memory of "
                     "this machine fails; see dmesg",
                     path, name);
}

static int verify_share(const Layout *l, const char *path, const uint64_t *expected) {
    int64_t begin, end;
    comm_share(l->nchunks, l->rank, l->size, &begin, &end);
    H5 *h = NULL;
    AUTOFREE uint64_t *found = xcalloc((size_t)(end - begin), sizeof *found);
    int rc = h5_open(&h, path);
    for (int64_t i = begin, n; i < end && rc >= 0; i += n) {
        const Chunk *ch = &l->chunk[i];
        n = l->cut[ch->array].chunks - ch->k;
        if (n > end - i) n = end - i;
        watchdog_beat();
        rc = h5_chunk_hashes(h, l->v[ch->array].name, ch->k, n, found);
        if (rc >= 0 && memcmp(found, expected + i, (size_t)n * sizeof *found) != 0)
            rc = differs(path, l->v[ch->array].name);
    }
    for (int i = 0; i < TEXTS && l->rank == 0 && rc >= 0; i++) {
        uint64_t hash = 0;
        rc = h5_hash(h, text_name[i], &hash);
        if (rc >= 0 && hash != l->text_hash[i]) rc = differs(path, text_name[i]);
    }
    h5_close(&h);
    return rc;
}

int layout_verify(Layout *l, const char *path) {
    const size_t n = (size_t)l->nchunks;
    uint64_t length = strlen(path);
    AUTOFREE uint64_t *hash = xcalloc(n, sizeof *hash);
    for (int64_t i = 0; i < l->nchunks; i++) hash[i] = l->chunk[i].hash;
    comm_bcast(l->comm, hash, n * sizeof *hash, 0);
    comm_bcast(l->comm, &length, sizeof length, 0);
    AUTOFREE char *where = xcalloc(length + 1, 1);
    if (l->rank == 0) memcpy(where, path, length);
    comm_bcast(l->comm, where, length, 0);
    int rc = fault_point("ckpt_save.verify");
    if (rc >= 0) rc = verify_share(l, where, hash);
    return comm_agree(l->comm, rc);
}
