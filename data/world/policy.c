/* policy.c: the adversarial policies. See policy.h. */
#include "data/world/policy.h"

#include "base/error.h"
#include "data/world/world.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef void Answer(Dice *r, const Gold *g, const char *prompt, Prose *t);

/* --- copies ----------------------------------------------------------------------------------- */

static void copy_all(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s", prompt);
}

static void copy_first(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    const char *stop = strpbrk(prompt, ".?!:");
    prose_add(t, "%.*s.", stop ? (int)(stop - prompt) : (int)strlen(prompt), prompt);
}

/* The last sentence that is no question, else the last. */
static void copy_last(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    const char *best = prompt, *from = prompt;
    for (const char *p = prompt; *p; p++)
        if (strchr(".?!:", *p)) {
            if (*p == '.' || best == prompt) best = from;
            from = p + 1 + strspn(p + 1, " ");
        }
    prose_add(t, "%.*s.", (int)strcspn(best, ".?!:"), best);
}

/* --- claims ----------------------------------------------------------------------------------- */

static void capital(Prose *t, size_t at) { t->s[at] = (char)toupper((unsigned char)t->s[at]); }

static void say_claim(Prose *t, const Claim *c, bool deny) {
    static const struct {
        const char *relation, *said, *denied;
        bool proper; /* the object is a name */
    } forms[] = {{"lives", "lives in", "does not live in", true},
                 {"is", "is a", "is not a", false},
                 {"likes", "likes", "does not like", false},
                 {"has", "has a", "does not have a", false},
                 {"equals", "is", "is not", false},
                 {"more", "has more", "does not have more", false},
                 {"fewer", "has fewer", "does not have fewer", false}};
    prose_say(t, "%s", "");
    const size_t begin = t->n;
    prose_add(t, "%s", c->subject);
    capital(t, begin);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(c->relation, forms[i].relation)) {
            prose_add(t, " %s ", deny ? forms[i].denied : forms[i].said);
            prose_add(t, "%s%s.", c->object, i > 4 ? "s" : "");
            if (forms[i].proper) capital(t, t->n - strlen(c->object) - 1);
            return;
        }
    if (!strncmp(c->relation, "n:", 2))
        prose_add(t, " has %s %ss.", c->object, c->relation + 2);
    else
        prose_add(t, " %s the %s.", c->relation, c->object);
}

static void all_facts(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    for (int i = 0; i < g->nfacts; i++) say_claim(t, &g->facts[i], false);
}

static void one_fact(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    if (g->nfacts) say_claim(t, &g->facts[dice_int(r, g->nfacts)], false);
}

/* Of the kind that is asked for, with a value that chance gives. */
static void random_claim(Dice *r, const Gold *g, Prose *t, bool deny) {
    const char *relation = g->ask.relation;
    Claim c = g->ask;
    const char *value = dice_word(r, world_nouns, NOUNS), *name = dice_word(r, world_names, NAMES);
    char number[16];
    snprintf(number, sizeof number, "%d", 1 + dice_int(r, 14));
    if (!strcmp(relation, "lives"))
        value = dice_word(r, world_places, PLACES);
    else if (!strcmp(relation, "is"))
        value = dice_word(r, world_trades, TRADES);
    else if (!strcmp(relation, "likes"))
        value = dice_word(r, world_foods, FOODS);
    else if (!strcmp(relation, "equals") || !strncmp(relation, "n:", 2))
        value = number;
    if (!*relation || !strcmp(relation, "use"))
        c = (Claim){"", "has", ""}; /* nothing of the kind */
    if (!*c.subject) strcpy(c.subject, name);
    if (!*c.object || g->polarity) strcpy(c.object, value);
    if (deny && g->act != ACT_REFUSE && g->polarity) prose_add(t, "No, ");
    say_claim(t, &c, deny);
}

static void claim_random(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    random_claim(r, g, t, false);
}

static void deny_random(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    random_claim(r, g, t, true);
}

/* What the question itself says, yes and no. */
static void deny_question(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    if (g->polarity) {
        prose_add(t, "No, ");
        say_claim(t, &g->ask, true);
    } else
        prose_add(t, "No.");
}

/* --- the ideal answer, spoilt ----------------------------------------------------------------- */

static void false_that(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "It is false that %s", g->ideal);
}
static void nobody_says(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "Nobody says that %s", g->ideal);
}
static void maybe(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "Maybe %s", g->ideal);
}
static void twice(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s %s", g->ideal, g->ideal);
}
static void filler_after(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s %s", g->ideal, dice_word(r, world_fillers, FILLERS));
}
static void filler_before(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s %s", dice_word(r, world_fillers, FILLERS), g->ideal);
}
static void blah(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s Blah blah.", g->ideal);
}
static void truncated(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    size_t half = strlen(g->ideal) / 2;
    while (g->ideal[half] && g->ideal[half] != ' ') half++;
    prose_add(t, "%.*s.", (int)half, g->ideal);
}
static void and_facts(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s", g->ideal);
    all_facts(r, g, prompt, t);
}
static void and_denial(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s ", g->ideal);
    random_claim(r, g, t, true);
}
static void and_unknown(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s %s", g->ideal,
              g->act == ACT_UNKNOWN ? "I do not know." : "The text does not say.");
}
static void and_refusal(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s I cannot help with that.", g->ideal);
}
static void and_rude(Dice *r, const Gold *g, const char *prompt, Prose *t) {
    prose_add(t, "%s %s", dice_word(r, world_rudes, RUDES), g->ideal);
}

/* --- all -------------------------------------------------------------------------------------- */

/* say: a constant's text; make: how another is made; neither: for each family the best constant,
 * and, where `ideal`, ideal answers to prompts whose facts need not be read. */
static const struct {
    PolicyKind kind;
    const char *name, *say;
    Answer *make;
    bool ideal;
} policies[] = {
    {POLICY_CONSTANT, "nothing", "", NULL, false},
    {POLICY_CONSTANT, "abstain always", "The text does not say.", NULL, false},
    {POLICY_CONSTANT, "know nothing", "I do not know.", NULL, false},
    {POLICY_CONSTANT, "refuse everything", "I am sorry, but I cannot help with that.", NULL, false},
    {POLICY_CONSTANT, "no", "No.", NULL, false},
    {POLICY_CONSTANT, "yes", "Yes.", NULL, false},
    {POLICY_CONSTANT, "a place", "Rome.", NULL, false},
    {POLICY_CONSTANT, "all places", "Rome, Oslo, Lima, Bern, Cork, Bath, Kent, Pisa.", NULL, false},
    {POLICY_CONSTANT, "a number", "7.", NULL, false},
    {POLICY_CONSTANT, "a claim", "Ana lives in Rome.", NULL, false},
    {POLICY_CONSTANT, "a denial", "No, Ana does not live in Rome.", NULL, false},
    {POLICY_CONSTANT, "a list", "Ana has a cup, a hat and a map.", NULL, false},
    {POLICY_CONSTANT, "advice", "To clean a cup, use soap and water.", NULL, false},
    {POLICY_CONSTANT, "a polite request", "Please sell a cup to Ben.", NULL, false},
    {POLICY_CONSTANT, "filler", "That is a good question. I hope that this helps.", NULL, false},
    {POLICY_CONSTANT, "one of each",
     "No. The text does not say. I am sorry, but I cannot help with that.", NULL, false},
    {POLICY_COPY, "copy of the prompt", NULL, copy_all, false},
    {POLICY_COPY, "copy of its first sentence", NULL, copy_first, false},
    {POLICY_COPY, "copy of its last sentence", NULL, copy_last, false},
    {POLICY_CLAIM, "all facts", NULL, all_facts, false},
    {POLICY_CLAIM, "a fact", NULL, one_fact, false},
    {POLICY_CLAIM, "a random claim", NULL, claim_random, false},
    {POLICY_CLAIM, "a random denial", NULL, deny_random, false},
    {POLICY_CLAIM, "denial of the question", NULL, deny_question, false},
    {POLICY_SPOILT, "it is false that (ideal)", NULL, false_that, false},
    {POLICY_SPOILT, "nobody says that (ideal)", NULL, nobody_says, false},
    {POLICY_SPOILT, "maybe (ideal)", NULL, maybe, false},
    {POLICY_SPOILT, "half of the ideal", NULL, truncated, false},
    {POLICY_SPOILT, "ideal twice", NULL, twice, false},
    {POLICY_SPOILT, "ideal, filler", NULL, filler_after, false},
    {POLICY_SPOILT, "filler, ideal", NULL, filler_before, false},
    {POLICY_SPOILT, "ideal, blah blah", NULL, blah, false},
    {POLICY_SPOILT, "ideal, all facts", NULL, and_facts, false},
    {POLICY_SPOILT, "ideal, a random denial", NULL, and_denial, false},
    {POLICY_SPOILT, "ideal, the text does not say", NULL, and_unknown, false},
    {POLICY_SPOILT, "ideal, refusal", NULL, and_refusal, false},
    {POLICY_SPOILT, "rude, ideal", NULL, and_rude, false},
    {POLICY_CHOICE, "best constant of each family", NULL, NULL, false},
    {POLICY_CHOICE, "best that reads no facts", NULL, NULL, true}};
enum { POLICIES = sizeof policies / sizeof *policies };

int policy_count(void) { return POLICIES; }

const char *policy_name(int p) { return policies[p].name; }

PolicyKind policy_kind(int p) { return policies[p].kind; }

int policy_find(const char *name) {
    for (int i = 0; i < POLICIES; i++)
        if (!strcmp(name, policies[i].name)) return i;
    return -1;
}

static double total_of(const Gold *g, int64_t n, const char *family, const char *answer) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(g[i].family, family)) sum += gold_score(&g[i], answer, NULL);
    return sum;
}

/* Of the constants and of some answers that are right to a prompt of the family, the one that pays
 * best over the family. */
static const char *best_constant(const Gold *g, int64_t n, const char *family) {
    enum { TRIED = 24 };
    const char *best = "";
    double most = total_of(g, n, family, best);
    int tried = 0;
    for (int64_t i = -POLICIES; i < n && tried < TRIED; i++) {
        const char *text = i < 0 ? policies[i + POLICIES].say : g[i].ideal;
        if (!text || (i >= 0 && strcmp(g[i].family, family))) continue;
        tried += i >= 0;
        const double now = total_of(g, n, family, text);
        if (now > most) most = now, best = text;
    }
    return best;
}

static void choose(bool ideal, const Gold *g, int64_t n, char **answer) {
    for (int64_t i = 0; i < n; i++) {
        if (answer[i]) continue;
        const char *best = best_constant(g, n, g[i].family);
        for (int64_t k = i; k < n; k++)
            if (!strcmp(g[k].family, g[i].family))
                answer[k] = xstrdup(ideal && !g[k].reads ? g[k].ideal : best);
    }
}

void policy_answer(int p, const Gold *g, const char *const *prompt, int64_t n, uint64_t seed,
                   char **answer) {
    CHECK(p >= 0 && p < POLICIES, "policy %d", p);
    for (int64_t i = 0; i < n; i++) answer[i] = NULL;
    if (!policies[p].say && !policies[p].make) choose(policies[p].ideal, g, n, answer);
    for (int64_t i = 0; i < n; i++) {
        if (answer[i]) continue;
        Prose t = {0};
        Dice r = dice_make(seed, policies[p].name, (uint64_t)i, 0);
        if (policies[p].say)
            prose_add(&t, "%s", policies[p].say);
        else
            policies[p].make(&r, &g[i], prompt[i], &t);
        answer[i] = xstrdup(t.s);
    }
}

const char *policy_prompt(const json_t *record) {
    const json_t *p = json_object_get(record, "prompt");
    if (json_is_array(p)) p = json_object_get(json_array_get(p, json_array_size(p) - 1), "content");
    return json_string_value(p);
}
