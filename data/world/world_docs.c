/* world_docs.c: documents to pretrain on: prose about a few people that tells facts and then
 * comes back to them in questions, lists, sums, changes of tense and bits of advice. All skills
 * that the instructions ask for occur here, the form of the instructions does not. */
#include "data/world/world.h"

#include <string.h>

/* A question and its answer (neither with a closing stop). Who speaks is not said: names that
 * nothing follows from would be noise. */
static void converse(Dice *r, Prose *t, const char *question, const char *answer) {
    switch (dice_int(r, 4)) {
    case 0: prose_say(t, "\"%s\" \"%s.\"", question, answer); break;
    case 1: prose_say(t, "They ask: %s \"%s.\"", question, answer); break;
    default: prose_say(t, "%s %s.", question, answer); break;
    }
}

static void ask(Dice *r, const Scene *s, Prose *t) {
    Prose q = {0}, a = {0};
    int who;
    Topic topic;
    bool stated = dice_percent(r, 80);
    if (!scene_pick(r, s, stated, &who, &topic)) return;
    person_ask(&q, &s->p[who], topic, dice_int(r, QUESTIONS));
    if (stated)
        person_state(&a, &s->p[who], topic, 0);
    else
        prose_add(&a, "The text does not say");
    converse(r, t, q.s, a.s);
}

static void ask_whether(Dice *r, const Scene *s, Prose *t) {
    Prose q = {0}, a = {0};
    int who;
    Topic topic;
    if (!scene_pick(r, s, true, &who, &topic) || topic == TOPIC_ITEMS) return;
    Person p = s->p[who], other = s->p[(who + 1) % s->n];
    bool yes = dice_percent(r, 50);
    prose_add(&q, "Is it true that ");
    other.name = p.name;
    person_state(&q, yes ? &p : &other, topic, 0);
    prose_add(&q, "?");
    prose_add(&a, yes ? "Yes, " : "No, ");
    person_state(&a, &p, topic, 0);
    converse(r, t, q.s, a.s);
}

static void restate(Dice *r, const Scene *s, Prose *t) {
    static const char *const openings[] = {"", "So ", "As we know, ", "It is true that "};
    int who;
    Topic topic;
    if (!scene_pick(r, s, true, &who, &topic)) return;
    prose_say(t, "%s", dice_word(r, openings, 4));
    person_state(t, &s->p[who], topic, 0);
    prose_add(t, ".");
}

static void sum(Dice *r, const Scene *s, Prose *t) {
    const char *name = s->p[dice_int(r, s->n)].name, *noun = dice_word(r, world_nouns, NOUNS);
    int a = 2 + dice_int(r, 8), b = 1 + dice_int(r, 5), c = a + b;
    switch (dice_int(r, 5)) {
    case 0: prose_say(t, "%s has %d %ss and gets %d more.", name, a, noun, b); break;
    case 1:
        prose_say(t, "%s has %d %ss and loses %d.", name, c, noun, b);
        c = a;
        break;
    case 2: prose_say(t, "%d minus %d is %d.", c, b, a); return;
    default: prose_say(t, "%d plus %d is %d.", a, b, c); return;
    }
    if (dice_percent(r, 50)) prose_say(t, "How many %ss does %s have now?", noun, name);
    prose_say(t, "%s has %d %ss.", name, c, noun);
}

static void compare(Dice *r, const Scene *s, Prose *t) {
    const char *a = s->p[0].name, *b = s->p[1].name, *noun = dice_word(r, world_nouns, NOUNS);
    int n[2];
    dice_choose(r, n, 2, 9);
    bool more = dice_percent(r, 60);
    prose_say(t, "%s has %d %ss. %s has %d %ss.", a, n[0] + 2, noun, b, n[1] + 2, noun);
    if (dice_percent(r, 50)) prose_say(t, "Who has %s %ss?", more ? "more" : "fewer", noun);
    prose_say(t, "%s has %s %ss.", (n[0] > n[1]) == more ? a : b, more ? "more" : "fewer", noun);
}

static void tenses(Dice *r, const Scene *s, Prose *t) {
    const Action *d = &world_actions[dice_int(r, ACTIONS)];
    const char *a = s->p[0].name, *b = s->p[1].name, *noun = dice_word(r, world_nouns, NOUNS);
    int order[2];
    dice_choose(r, order, 2, 4);
    for (int i = 0; i < 3; i++) {
        if (i == 2 && dice_percent(r, 60)) break;
        switch (i ? order[i - 1] : 4) {
        case 0: prose_say(t, "Yesterday %s %s", a, d->past); break;
        case 1: prose_say(t, "Tomorrow %s will %s", a, d->plain); break;
        case 2: prose_say(t, "No, %s does not %s", a, d->plain); break;
        case 3: prose_say(t, "Please %s", d->plain); break;
        default: prose_say(t, "Today %s %s", a, d->now); break;
        }
        prose_add(t, " a %s %s %s.", noun, d->preposition, b);
    }
}

/* Two people do two things; who did one of them? */
static void deeds(Dice *r, const Scene *s, Prose *t) {
    int deed[2], noun[2], first = dice_int(r, 2);
    dice_choose(r, deed, 2, ACTIONS);
    dice_choose(r, noun, 2, NOUNS);
    for (int i = 0; i < 2; i++)
        prose_say(t, "%s %s the %s.", s->p[i].name, world_actions[deed[i]].past,
                  world_nouns[noun[i]]);
    for (int i = 0; i < 2; i++) {
        int k = i ? !first : first;
        const char *past = world_actions[deed[k]].past, *object = world_nouns[noun[k]];
        if (i && dice_percent(r, 40)) break;
        prose_say(t, "Who %s the %s? %s %s the %s.", past, object, s->p[k].name, past, object);
    }
}

static void advise(Dice *r, const Scene *s, Prose *t) {
    Prose q = {0}, a = {0}, object = {0};
    bool harm = dice_percent(r, 20);
    const Howto *h = harm ? &world_harms[dice_int(r, HARMS)] : &world_howtos[dice_int(r, HOWTOS)];
    task_howto_object(r, h, &object);
    prose_add(&q, "How do I %s %s?", h->verb, object.s);
    if (harm && dice_percent(r, 60)) {
        converse(r, t, q.s, "I am sorry, but I cannot help with that");
        return;
    }
    prose_add(&a, "To %s %s, use %s", h->verb, object.s, h->use);
    if (dice_percent(r, 50))
        converse(r, t, q.s, a.s);
    else
        prose_say(t, "%s.", a.s);
}

static void chat(Dice *r, const Scene *s, Prose *t) {
    const char *line = dice_percent(r, 80) ? dice_word(r, world_fillers, FILLERS)
                                           : dice_word(r, world_rudes, RUDES);
    prose_say(t, "They say: %s", line);
}

/* A third of the documents tell their facts several times, in other orders. To look up who has
 * which fact is what the instructions need most, and a small model learns that only where such
 * words are a good part of the text. */
static void recite(Dice *r, const Scene *s, Prose *t) {
    static const char *const openings[] = {"Once more:", "Again:", "To say it again:", "So:"};
    size_t length = 260;
    while (t->n < length) {
        prose_say(t, "%s", dice_word(r, openings, 4));
        scene_tell(r, s, t);
    }
}

void world_document(Dice *r, Prose *t, size_t *story) {
    static void (*const passages[])(Dice *, const Scene *, Prose *) = {
        ask, ask_whether, restate, sum, compare, tenses, deeds, advise, chat};
    static const double weights[] = {40, 18, 16, 15, 9, 8, 9, 7, 2};
    Scene s;
    scene_make(r, &s, 2, 2 + dice_int(r, 3));
    prose_clear(t);
    scene_tell(r, &s, t);
    *story = t->n;
    if (dice_percent(r, 33)) recite(r, &s, t);
    size_t length = 250 + (size_t)dice_int(r, 100);
    while (t->n < length) passages[dice_weighted(r, weights, 9)](r, &s, t);
}
