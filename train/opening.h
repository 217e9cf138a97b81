/* opening.h: what the stages that start from a model open alike. Errors name the setting. */
#ifndef TRAIN_OPENING_H
#define TRAIN_OPENING_H

#include "checkpoints/exchange/load.h"
#include "data/dataset.h"
#include "train/memory.h"
#include "train/windows.h"

/* The parent that a setting names, "from.model" or "from.reward", without its weights, and its place
 * in the lineage. Collective. */
int opening_parent(Run *run, Loaded *l, const char *key, LoadKind kind);
/* The parent's weights, to be trained; with lora.rank they stay and adapters on them are. A scalar
 * head that is new is initialised. Collective. */
int opening_weights(Run *run, Loaded *l);
/* The records of data.train and data.heldout, in the parent's tokenizer and template. room: tokens
 * that a prompt leaves free. Not collective. */
int opening_records(Run *run, const Loaded *l, DatasetKind kind, int64_t room, Dataset *train,
                    Dataset *heldout);
/* The corpus of data.mix, which the setting `key` asks for, and its mean window in the plan. Not
 * collective. */
int opening_text(Run *run, const Loaded *l, const char *key, Windows *w, PlanWork *plan);
/* What is learned from, in the log, e.g. "160 demonstrations of 3211 tokens (0 too long, 0 bad), 20
 * steps of 16". Not collective. */
void opening_report(const Run *run, const Dataset *d, int64_t batch);
/* The first prompt's answers with their ranks, for a dry run. Not collective. */
int opening_show_answers(const Loaded *l, const Dataset *d);

#endif
