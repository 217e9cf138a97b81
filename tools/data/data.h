/* data.h: what the parts of rhetor-data share. */
#ifndef TOOLS_DATA_DATA_H
#define TOOLS_DATA_DATA_H

#include "base/error.h"
#include "base/option.h"
#include "data/records.h"
#include "data/tokenizer/tokenizer.h"
#include "data/world/synth.h"

/* What all subcommands' options set. */
typedef struct Args {
    const char *out, *train_out, *heldout_out, *tokenizer, *split;
    OptionList field, special;
    const char **file;
    int nfile;
    double weight, *file_weight; /* of the files to come; [nfile] */
    int files_rc;
    bool dedup;
    int64_t vocab, min_frequency, samples, seed;
    double heldout, noise, grain, least;
    const char *from, *encoding, *raters, *rater, *by, *reward, *program;
    TieBreak tie_break;
    bool heldout_tail, no_eot, ids, count, chars, gold, specials;
    int kind; /* -1: recognised by the first record */
    DatasetOptions records;
    SynthOptions synth;
} Args;

int data_need(const void *value, const char *option); /* ERR_USAGE if it is NULL */
int data_need_files(const Args *a, int most);         /* ERR_USAGE: none, or more */

/* The subcommands. */
int data_tokenizer(Args *a);
int data_encode(Args *a);
int data_decode(Args *a);
int data_inspect(Args *a);
int data_split(Args *a);
int data_synth(Args *a);
int data_rank(Args *a);
int data_best(Args *a);
int data_score(Args *a);
int data_policies(Args *a);
int data_examples(Args *a);

#endif
