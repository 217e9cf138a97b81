/* world_probe.c: questions in the form of the documents. See world_probe.h. */
#include "data/world/world_probe.h"

#include "base/error.h"
#include "data/world/world.h"

#include <stdio.h>
#include <string.h>

const char *const world_probe_names[PROBE_KINDS] = {"look-up", "binding", "copying", "plus",
                                                    "minus"};

static void offer(Probe *p, const char *value) {
    CHECK(p->n < PROBE_VALUES && strlen(value) + 2 < PROBE_VALUE, "the value \"%s\"", value);
    snprintf(p->value[p->n++], PROBE_VALUE, " %s.", value);
}

static const char **value_of(Person *p, Topic topic) {
    return topic == TOPIC_PLACE ? &p->place : topic == TOPIC_TRADE ? &p->trade : &p->food;
}

/* Four facts about two people. The first one's value is `right`; the other's is told, or not. */
static void facts(Dice *r, Scene *s, Topic topic, const char *right, bool both) {
    enum { REST = 2 * (TOPICS - 1) };
    int rest[REST];
    scene_make(r, s, 2, 0);
    const char **mine = value_of(&s->p[0], topic), **other = value_of(&s->p[1], topic);
    if (*other == right) *other = *mine;
    *mine = right;
    s->stated[0][topic] = true;
    s->stated[1][topic] = both;
    dice_choose(r, rest, REST, REST);
    for (int i = 0; i < (both ? 2 : 3); i++)
        s->stated[rest[i] % 2][(topic + 1 + rest[i] / 2) % TOPICS] = true;
}

/* Adds to the text; *story is how much of it is facts. */
static void facts_probe(Dice *r, Prose *t, size_t *story, Probe *p, ProbeKind kind,
                        uint64_t index) {
    static const Topic topics[] = {TOPIC_PLACE, TOPIC_TRADE, TOPIC_FOOD}; /* of one value each */
    Scene s;
    Topic topic = topics[index % 3];
    int n;
    const char *const *values = person_values(topic, &n);
    p->right = (int)(index / 3 % (uint64_t)n);
    p->group = (int)topic;
    for (int i = 0; i < n; i++) offer(p, values[i]);
    facts(r, &s, topic, values[p->right], kind != PROBE_LOOKUP);
    scene_tell(r, &s, t);
    *story = t->n;
    if (kind != PROBE_COPY) {
        prose_say(t, "%s", "");
        person_ask(t, &s.p[0], topic, dice_int(r, QUESTIONS));
    }
    prose_say(t, "%s", "");
    person_state(t, &s.p[0], topic, 0);
    t->n -= strlen(p->value[p->right]) - 1; /* which it ends with, but for the stop */
}

static void sum_probe(Dice *r, Prose *t, size_t *story, Probe *p, bool plus, uint64_t index) {
    const int a = 2 + (int)(index % 8), b = 1 + (int)(index / 8 % 5), c = a + b;
    Scene s;
    scene_make(r, &s, 2, 4);
    scene_tell(r, &s, t);
    *story = t->n;
    prose_say(t, plus ? "%d plus %d is" : "%d minus %d is", plus ? a : c, b);
    for (int i = 1; i <= 15; i++) {
        char number[12];
        snprintf(number, sizeof number, "%d", i);
        offer(p, number);
    }
    p->right = (plus ? c : a) - 1;
}

void world_probe(Probe *p, uint64_t seed, ProbeKind kind, uint64_t index) {
    for (uint64_t attempt = 0;; attempt++) {
        Dice r = dice_make(seed, world_probe_names[kind], index, attempt);
        Prose t = {0};
        size_t story = 0;
        *p = (Probe){0};
        if (kind < PROBE_PLUS)
            facts_probe(&r, &t, &story, p, kind, index);
        else
            sum_probe(&r, &t, &story, p, kind == PROBE_PLUS, index);
        snprintf(p->text, sizeof p->text, "%.*s", (int)t.n, t.s);
        if (world_bucket(t.s, story) >= DOCUMENT_BUCKETS) return;
    }
}
