/* gold_curve.h: what becomes of a policy while it learns: eval.prompts, held-out prompts of the
 * embedded world whose answers its gold program judges. Each evaluation (eval.every, and the last
 * step) writes into metrics.jsonl and TensorBoard, over these prompts:
 *
 *   gold/score      by the gold program                 gold/kl        to the reference, nats an answer
 *   gold/proxy      by the reward model                 gold/tokens    length of an answer
 *   gold/others     by the models of from.ensemble      gold/spread    deviation among them all
 *   gold/made_up    share of answers that claim what the facts do not bear out
 *   gold/right, gold/partly, gold/wrong, ...            shares of what the answers do */
#ifndef RLHF_GOLD_CURVE_H
#define RLHF_GOLD_CURVE_H

#include "data/world/gold.h"
#include "rlhf/actor.h"
#include "rlhf/ensemble.h"

typedef struct GoldCurve {
    Dataset prompts; /* n = 0: eval.prompts is not set */
    Gold *gold;      /* of each */
} GoldCurve;

/* Reads eval.prompts, if it is set. ERR_CONFIG, ERR_DATA. Not collective. */
int gold_curve_open(GoldCurve *g, const Run *run, const Loaded *policy);
void gold_curve_close(GoldCurve *g);
/* The policy as it is (its average must be swapped in) answers all prompts. reward: NULL where
 * there is none; more: those beside it. Collective. */
int gold_curve_measure(const GoldCurve *g, const Actor *a, Run *run, Gpt *reference, Gpt *reward,
                       Ensemble *more, double no_stop_score);

#endif
