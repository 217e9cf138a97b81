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

static void reckon(Dice *r, Prose *t) {
    int a = 2 + dice_int(r, 8), b = 1 + dice_int(r, 5), c = a + b;
    if (dice_percent(r, 60))
        prose_say(t, "%d plus %d is %d.", a, b, c);
    else
        prose_say(t, "%d minus %d is %d.", c, b, a);
}

static void sum(Dice *r, const Scene *s, Prose *t) {
    const char *name = s->p[dice_int(r, s->n)].name, *noun = dice_word(r, world_nouns, NOUNS);
    int a = 2 + dice_int(r, 8), b = 1 + dice_int(r, 5), c = a + b;
    switch (dice_int(r, 4)) {
    case 0: prose_say(t, "%s has %d %ss and gets %d more.", name, a, noun, b); break;
    case 1:
        prose_say(t, "%s has %d %ss and loses %d.", name, c, noun, b);
        c = a;
        break;
    default: reckon(r, t); return;
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

/* A part of the documents tell their facts several times, in other orders. */
static void recite(Dice *r, const Scene *s, Prose *t) {
    static const char *const openings[] = {"Once more:", "Again:", "To say it again:", "So:"};
    size_t length = 260;
    while (t->n < length) {
        prose_say(t, "%s", dice_word(r, openings, 4));
        scene_tell(r, s, t);
    }
}

/* The fact, in `restarts` of 100 times begun anew after some word: "Ana lives in Ana lives in
 * Rome." The name that comes back can only be known by who broke off keeping in mind, at each word
 * of a sentence, whom it is about. */
static void say_fact(Dice *r, Prose *t, const Person *p, Topic topic, int wording, int restarts) {
    Prose fact = {0};
    person_state(&fact, p, topic, wording);
    prose_say(t, "%s", "");
    if (dice_percent(r, restarts)) {
        size_t end[2 + 4 * ITEMS], n = 0; /* of its words */
        for (size_t i = 1; i <= fact.n; i++)
            if (!fact.s[i] || fact.s[i] == ' ') end[n++] = i;
        prose_add(t, "%.*s ", (int)end[1 + dice_int(r, (int)n - 1)], fact.s);
    }
    prose_add(t, "%s.", fact.s);
}

/* Several people, one kind of fact about each, then one after the other is asked for or told again.
 * Most words of such a document depend on whose fact it is: to tell two persons' homes apart is
 * what a small model learns last, since it needs three things at once (the name kept in mind where
 * the value was told, the name kept in mind where it is asked for, and the comparison), each of
 * which is of no use without the others. Restarts make the first two useful by themselves. */
static void drill(Dice *r, Prose *t, size_t *story) {
    static const char *const who[TOPICS] = {"Who lives in %s?", "Who is a %s?", "Who likes %s?"};
    Scene s;
    Topic topic = dice_percent(r, 15) ? TOPIC_ITEMS : (Topic)dice_int(r, TOPIC_ITEMS);
    int restarts = dice_percent(r, 60) ? 50 : 0;
    scene_make(r, &s, 2 + dice_int(r, SCENE_PEOPLE - 1), 0);
    for (int i = 0; i < s.n; i++) say_fact(r, t, &s.p[i], topic, dice_percent(r, 15), restarts);
    *story = t->n;
    size_t length = 250 + (size_t)dice_int(r, 150);
    while (t->n < length) {
        const Person *p = &s.p[dice_int(r, s.n)];
        int passage = dice_int(r, 100);
        if (passage < 12) {
            for (int i = 0; i < 3; i++) reckon(r, t);
            continue;
        }
        if (passage < 30) {
            prose_say(t, "%s", "");
            person_ask(t, p, topic, dice_int(r, QUESTIONS));
        } else if (passage < 38 && topic != TOPIC_ITEMS) {
            prose_say(t, who[topic], person_value(p, topic));
        }
        say_fact(r, t, p, topic, 0, restarts);
    }
}

void world_primer(Dice *r, Prose *t) {
    prose_clear(t);
    while (t->n < 300) {
        Person p;
        person_make_all(r, &p, 1);
        Topic topic = dice_percent(r, 15) ? TOPIC_ITEMS : (Topic)dice_int(r, TOPIC_ITEMS);
        say_fact(r, t, &p, topic, dice_percent(r, 20), 100);
    }
}

void world_document(Dice *r, Prose *t, size_t *story) {
    static void (*const passages[])(Dice *, const Scene *, Prose *) = {
        ask, ask_whether, restate, sum, compare, tenses, deeds, advise, chat};
    static const double weights[] = {40, 18, 16, 20, 9, 8, 9, 7, 2};
    Scene s;
    prose_clear(t);
    if (dice_percent(r, 60)) {
        drill(r, t, story);
        return;
    }
    scene_make(r, &s, 2, 2 + dice_int(r, 3));
    scene_tell(r, &s, t);
    *story = t->n;
    if (dice_percent(r, 20)) recite(r, &s, t);
    size_t length = 250 + (size_t)dice_int(r, 150);
    while (t->n < length) passages[dice_weighted(r, weights, 9)](r, &s, t);
}
