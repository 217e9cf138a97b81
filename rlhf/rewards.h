/* rewards.h: what a response is worth: weighted sums of a reward model's score, the gold program of
 * the embedded world, a program of the user's, and rules. reward.* of the settings.
 *
 * Trusted code: the program is run as the user, by a shell, and whatever it prints is believed. It
 * gets {"prompt","completion","record"} a line, where record is the prompt's as it stands in
 * data.train, and answers with a number a line. */
#ifndef RLHF_REWARDS_H
#define RLHF_REWARDS_H

#include <jansson.h>

#include "base/coprocess.h"
#include "checkpoints/exchange/load.h"
#include "rlhf/rollout.h"
#include "train/run.h"

/* The records behind a set of prompts. */
typedef struct RewardRecords {
    int64_t n;
    json_t **record; /* [n] */
} RewardRecords;

typedef struct Rewards {
    const Config *cfg; /* borrowed, like the next */
    const Loaded *policy;
    RewardRecords prompts, heldout;
    Coprocess *program; /* of rank 0 */
    void *pattern;      /* of reward.match: Oniguruma's */
    int64_t restarts;   /* of the program, in the checkpoints */
} Rewards;

/* Is anything asked for beside the reward model? */
bool rewards_wanted(const Config *c);
/* Reads the records again and registers what a checkpoint holds. ERR_CONFIG for settings that do
 * not go together, ERR_DATA for records that lack what a reward needs. Not collective. */
int rewards_open(Rewards *r, Run *run, const Loaded *policy, const Dataset *prompts,
                 const Dataset *heldout);
void rewards_close(Rewards *r);
/* The reward model's scores of finished responses times reward.model. Not collective. */
void rewards_weigh(const Rewards *r, Episodes *e);
/* Adds the others to the scores of finished responses; those of a reward model are there, or 0. Of
 * unfinished ones nothing is asked: their score stays. All ranks get all. Collective. */
int rewards_add(Rewards *r, const RewardRecords *of, Episodes *e, Comm *comm);

/* The rules, for tests. Does the last number of the text equal the last one of `want`? Thousands
 * may have commas. */
bool rewards_same_number(const char *text, const char *want);

#endif
