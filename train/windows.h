/* windows.h: windows of a corpus as items of a training step (train/step.h): the text of
 * pretraining, and the pretraining text that SFT and PPO mix in. */
#ifndef TRAIN_WINDOWS_H
#define TRAIN_WINDOWS_H

#include "data/corpus.h"
#include "train/step.h"

typedef struct Windows {
    Corpus *corpus; /* NULL: no text */
    uint64_t seed;
    int64_t context;
    int32_t *buffer;  /* [context + 1] */
    int64_t first, n; /* of this step: windows first .. first + n - 1 of the stream */
    float weight;     /* of each token, the caller's to set */
    uint64_t stream;  /* added to a window's number in random numbers: distinct from other items */
    double waited;    /* seconds that reading has kept steps waiting, as reported so far */
} Windows;

/* Not collective; errors as corpus_open. */
int windows_open(Windows *w, const StrList *files, uint64_t tokenizer_hash, uint64_t seed,
                 int64_t context);
void windows_close(Windows *w);

/* This step's windows, and their tokens in all; < 0: an error. Not collective. */
int64_t windows_take(Windows *w, int64_t first, int64_t n);
/* Those of a stream of `rate` windows an item, in a step of n items after `before` others. */
int64_t windows_mix(Windows *w, double rate, int64_t before, int64_t n);
/* Reads this rank's share of n windows beforehand, while the caller goes on. Not collective. */
void windows_ahead(Windows *w, const VirtualRanks *v, int64_t first, int64_t n);
StepItems windows_items(Windows *w, StepLoss *loss);
/* data/wait_s: how long reading has kept the step waiting. Not collective. */
void windows_report(Windows *w, Run *run);

#endif
