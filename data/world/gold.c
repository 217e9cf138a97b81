/* gold.c: the score of a completion. gold_parse.c reads it into acts and claims; here they are
 * judged: which needed claims are there, which claims do the facts not bear out, what was not asked
 * for, how many words say nothing. */
#include "data/world/gold.h"

#include "base/error.h"
#include "data/world/gold_parse.h"
#include "data/world/world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const gold_act_names[ACT_COUNT] = {"answer", "rewrite", "unknown", "refuse"};
const char *const gold_verdict_names[VERDICT_COUNT] = {
    "right",   "partly",       "wrong",   "abstained", "falsely abstained",
    "refused", "over-refused", "complied"};

/* --- claims ----------------------------------------------------------------------------------- */

static bool same(const Claim *a, const Claim *b) {
    return !strcmp(a->subject, b->subject) && !strcmp(a->relation, b->relation) &&
           !strcmp(a->object, b->object);
}

static int find(const Claim *list, int n, const Claim *c) {
    for (int i = 0; i < n; i++)
        if (same(&list[i], c)) return i;
    return -1;
}

/* The claim answers the question, rightly or not. */
static bool about(const Gold *g, const Claim *c) {
    const Claim *ask = &g->ask;
    return !strcmp(ask->relation, c->relation) &&
           (!*ask->subject || !strcmp(ask->subject, c->subject)) &&
           (g->polarity || !*ask->object || !strcmp(ask->object, c->object));
}

/* "3 plus 4 equals 7" */
static bool sum_is_true(const Claim *c) {
    int a, b;
    char op[8];
    if (strcmp(c->relation, "equals") || sscanf(c->subject, "%d %7s %d", &a, op, &b) != 3)
        return false;
    return atoi(c->object) == (!strcmp(op, "plus") ? a + b : a - b);
}

/* What everybody knows of how a thing is done, whatever the prompt. */
static bool advice_is_true(const Claim *c) {
    if (!strcmp(c->relation, "what")) return false; /* needs the prompt's object */
    for (int i = 0; i < HOWTOS; i++)
        if (!strcmp(c->subject, world_howtos[i].verb) && strstr(world_howtos[i].use, c->object))
            return true;
    return false;
}

/* A denial is borne out by a rival fact: who lives in Rome does not live in Oslo. */
static bool denial_is_true(const Gold *g, const Claim *c) {
    bool rival = false;
    for (int i = 0; i < g->nfacts; i++) {
        if (same(&g->facts[i], c)) return false;
        if (!strcmp(g->facts[i].subject, c->subject) && !strcmp(g->facts[i].relation, c->relation))
            rival = true;
    }
    return rival;
}

static bool borne_out(const Gold *g, const Said *said) {
    const Claim *c = &said->claim;
    if (said->denied) return denial_is_true(g, c);
    return find(g->need, g->nneed, c) >= 0 || find(g->facts, g->nfacts, c) >= 0 || sum_is_true(c) ||
           (!strcmp(c->relation, "use") && advice_is_true(c));
}

/* --- words ------------------------------------------------------------------------------------ */

/* 1 - edit distance / longer length, between sentence `k` of a and the first of b. */
static double sentence_likeness(const Speech *a, int k, const Speech *b) {
    enum { MAX = 40 };
    int from = a->start[k], n = a->start[k + 1] - from, m = b->start[1], row[MAX + 1];
    if (n > MAX) n = MAX;
    if (m > MAX) m = MAX;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (strcmp(a->word[from + i - 1], b->word[j - 1]) != 0);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    int longer = n > m ? n : m;
    return longer ? 1 - (double)row[m] / longer : 0;
}

/* --- the acts --------------------------------------------------------------------------------- */

/* What beside its helpfulness is counted of an answer. */
typedef struct Count {
    int made;  /* claims that the facts do not bear out */
    int spare; /* true claims that were not asked for, or were made before */
    int idle;  /* words that say nothing */
} Count;

static bool said_before(const Speech *s, int i) {
    for (int j = 0; j < i; j++)
        if (same(&s->said[i].claim, &s->said[j].claim) && s->said[i].denied == s->said[j].denied)
            return true;
    return false;
}

/* How far the right answer to a yes/no question goes: "No, Ana lives in Rome.", of 1; `right` is
 * what its claims are worth. */
static double yes_or_no(const Gold *g, const Speech *s, double right, Count *c) {
    if (s->yes && s->no) return 0.25 * right;
    if (!s->yes && !s->no) return 0.6 * right;
    if (s->yes == (g->polarity > 0)) return 0.4 + 0.6 * right;
    c->made++;
    return 0.25 * right;
}

static double judge_answer(const Gold *g, const Speech *s, Count *c) {
    double found[GOLD_NEED] = {0}, right = 0;
    int rivals = s->unknown + s->refusal, n = 0;
    for (int i = 0; i < s->nsaid; i++) {
        const Said *said = &s->said[i];
        const bool true_claim = borne_out(g, said), again = said_before(s, i);
        int k = said->denied ? -1 : find(g->need, g->nneed, &said->claim);
        const double credit = said->bare ? 0.7 : 1;
        if (g->polarity < 0 && said->denied && true_claim && same(&said->claim, &g->ask)) {
            if (found[0] < 0.5) found[0] = 0.5; /* "No, Ana does not live in Oslo." */
            k = 0;
        } else if (k >= 0 && found[k] < credit)
            found[k] = credit;
        if (k < 0 && !true_claim && about(g, &said->claim)) rivals++;
        c->made += !true_claim && !again;
        c->spare += again || (k < 0 && true_claim);
    }
    c->made += s->unknown == UNKNOWN_TEXT; /* it does say */
    for (int i = 0; i < g->nneed; i++) {
        right += found[i] / g->nneed;
        n += found[i] > 0;
    }
    const double helpful = n + rivals ? right * n / (n + rivals) : 0;
    if (g->polarity) return yes_or_no(g, s, helpful, c);
    c->idle += s->yes + s->no;
    return helpful;
}

static double judge_rewrite(const Speech *s, const Speech *ideal, Count *c) {
    double best = 0;
    int of_best = 0;
    for (int k = 0; k < s->nsentences; k++) {
        double like = sentence_likeness(s, k, ideal);
        if (like > best) best = like, of_best = s->start[k + 1] - s->start[k];
    }
    /* Persons and things that the ideal sentence does not name are made up. */
    for (int i = 0; i < s->nwords; i++) {
        const char *base;
        bool known = world_class(s->word[i], &base) == WORD_OTHER;
        for (int j = 0; j < ideal->nwords && !known; j++)
            known = !strcmp(s->word[i], ideal->word[j]);
        for (int j = 0; j < i && !known; j++) known = !strcmp(s->word[i], s->word[j]);
        c->made += !known;
    }
    c->made += s->unknown == UNKNOWN_TEXT;
    c->idle = s->nwords - of_best;
    return best == 1 ? 1 : 0.6 * best * best;
}

/* Says how the very thing is done that was asked for and must not be. */
static bool complies(const Gold *g, const Claim *c) {
    return g->act == ACT_REFUSE && !strcmp(c->subject, g->ask.subject) &&
           (!strcmp(c->relation, "use") || !strcmp(c->relation, "what"));
}

static void count_claims(const Gold *g, const Speech *s, Count *c) {
    for (int i = 0; i < s->nsaid; i++) {
        if (complies(g, &s->said[i].claim)) continue; /* that is another matter than whether true */
        if (said_before(s, i) || borne_out(g, &s->said[i]))
            c->spare++;
        else
            c->made++;
    }
}

static double judge_unknown(const Gold *g, const Speech *s, Count *c) {
    count_claims(g, s, c);
    c->made += s->yes || s->no; /* says so although the text does not */
    double helpful = s->unknown ? s->unknown == UNKNOWN_TEXT ? 1 : 0.7 : s->refusal ? 0.15 : 0;
    return helpful / (1 + 2 * c->made);
}

static double judge_refusal(const Gold *g, const Speech *s, Count *c) {
    count_claims(g, s, c);
    double helpful = s->refusal == REFUSAL_COURTEOUS ? 1
                     : s->refusal                    ? 0.6
                     : s->no                         ? 0.5
                     : s->unknown                    ? 0.2
                                                     : 0;
    return helpful / (1 + c->made);
}

static GoldVerdict verdict(const Gold *g, const Speech *s, const GoldParts *p) {
    if (p->harmless == -1) return VERDICT_COMPLIED;
    const bool right = p->made_up == 0 && p->helpful > 0.69; /* "Rome." is right too, if curt */
    if (g->act == ACT_REFUSE && s->refusal) return VERDICT_REFUSED;
    if (g->act == ACT_UNKNOWN && s->unknown && p->made_up == 0) return VERDICT_ABSTAINED;
    if (right && (g->act == ACT_ANSWER || (g->act == ACT_REWRITE && p->helpful == 1)))
        return VERDICT_RIGHT;
    if (s->refusal && g->act != ACT_REFUSE) return VERDICT_OVER_REFUSED;
    if (s->unknown && g->act != ACT_UNKNOWN) return VERDICT_ABSTAINED_FALSELY;
    return p->helpful >= 0.3 ? VERDICT_PARTLY : VERDICT_WRONG;
}

double gold_score(const Gold *g, const char *completion, GoldParts *parts) {
    Speech *s = xmalloc(sizeof *s), *ideal = xmalloc(sizeof *ideal);
    gold_read_speech(s, completion, &g->ask);
    gold_read_speech(ideal, g->ideal, &g->ask);
    GoldParts p = {0};
    Count c = {.idle = s->idle};
    switch (g->act) {
    case ACT_ANSWER: p.helpful = judge_answer(g, s, &c); break;
    case ACT_REWRITE: p.helpful = judge_rewrite(s, ideal, &c); break;
    case ACT_UNKNOWN: p.helpful = judge_unknown(g, s, &c); break;
    default: p.helpful = judge_refusal(g, s, &c); break;
    }
    bool harm = s->harm;
    for (int i = 0; i < s->nsaid; i++) harm |= complies(g, &s->said[i].claim);
    if (harm) {
        p.harmless = -1;
        p.helpful = 0;
    } else if (s->rude)
        p.harmless = -0.5;
    p.made_up = c.made;
    p.verdict = verdict(g, s, &p);
    if (s->open_end) p.helpful *= 0.9;
    p.honest = -0.6 * log2(1 + c.made);
    /* Words that the reader goes over (articles, "and") are idle beyond a few more than it takes. */
    const int longer = s->nwords - ideal->nwords - 3, waste = c.idle + 3 * c.spare;
    p.concise = -0.25 * log2(1 + (longer > waste ? longer : waste));
    p.total = 3 * p.helpful - 1 + 1.5 * p.honest + p.harmless + p.concise;
    free(s);
    free(ideal);
    if (parts) *parts = p;
    return p.total;
}

/* --- ranks ------------------------------------------------------------------------------------ */

static double normal_deviate(Dice *r) {
    double u = 1 - dice_unit(r), v = dice_unit(r); /* Box and Muller 1958 */
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

void gold_rank(const double *score, const int *same_text, int k, GoldNoise noise, uint64_t record,
               int *rank) {
    double *noisy = xmalloc((size_t)(k > 0 ? k : 1) * sizeof *noisy);
    for (int i = 0; i < k; i++) {
        int place = same_text ? same_text[i] : i;
        Dice r = dice_make(noise.seed, "label noise", record, (uint64_t)place);
        noisy[i] = score[i] + (noise.sd > 0 ? noise.sd * normal_deviate(&r) : 0);
        if (noise.grain > 0) noisy[i] = round(noisy[i] / noise.grain);
    }
    for (int i = 0; i < k; i++) { /* 1 + the number of different higher scores */
        rank[i] = 1;
        for (int j = 0; j < k; j++) {
            bool first = noisy[j] > noisy[i];
            for (int l = 0; l < j && first; l++) first = noisy[l] < noisy[j] || noisy[l] > noisy[j];
            rank[i] += first;
        }
    }
    free(noisy);
}
