/* windows.c: windows of a corpus in a training step. See windows.h. */
#include "train/windows.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "dist/watchdog.h"

int windows_open(Windows *w, const StrList *files, uint64_t tokenizer_hash, uint64_t seed,
                 int64_t context) {
    *w = (Windows){.seed = seed, .context = context};
    TRY(corpus_open(&w->corpus, files, tokenizer_hash));
    w->buffer = xmalloc((size_t)(context + 1) * sizeof *w->buffer);
    return 0;
}

void windows_close(Windows *w) {
    corpus_close(&w->corpus);
    free(w->buffer);
    *w = (Windows){0};
}

int64_t windows_take(Windows *w, int64_t first, int64_t n) {
    w->first = first;
    w->n = n;
    return corpus_window_tokens(w->corpus, w->seed, first, n, w->context);
}

int64_t windows_mix(Windows *w, double rate, int64_t before, int64_t n) {
    const int64_t first = (int64_t)floor((double)before * rate);
    return windows_take(w, first, (int64_t)floor((double)(before + n) * rate) - first);
}

void windows_ahead(Windows *w, const VirtualRanks *v, int64_t first, int64_t n) {
    int64_t begin, end;
    virtual_share_all(v, n, &begin, &end);
    corpus_ahead(w->corpus, w->seed, first + begin, end - begin, w->context);
}

static int64_t tokens(void *windows, int64_t i) { return ((const Windows *)windows)->context; }

static int add(void *windows, int64_t i, Batch *b) {
    Windows *w = windows;
    int64_t n;
    uint64_t id;
    watchdog_enter(PHASE_DATA);
    TRY(corpus_window(w->corpus, w->seed, w->first + i, w->context, w->buffer, &n, &id));
    batch_add_window(b, w->buffer, n, w->weight, id | w->stream);
    return 0;
}

StepItems windows_items(Windows *w, StepLoss *loss) {
    return (StepItems){.v = {w, tokens, add}, .n = w->corpus ? w->n : 0, .loss = loss};
}

void windows_report(Windows *w, Run *run) {
    if (!w->corpus) return;
    const double waited = corpus_waited(w->corpus);
    run_timing(run, "data/wait_s", waited - w->waited);
    w->waited = waited;
}
