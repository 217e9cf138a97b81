/* task.c: prompts, one function a family, with all that demonstrations of good and bad
 * quality are made of, and with what the gold reward must know. */
#include "data/world/world.h"

#include "base/error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- claims ----------------------------------------------------------------------------------- */

static void lower(char *to, const char *from) {
    CHECK(strlen(from) < GOLD_WORD, "the word \"%s\" is too long", from);
    do *to++ = (char)tolower((unsigned char)*from);
    while (*from++);
}

static Claim claim(const char *subject, const char *relation, const char *object) {
    Claim c = {0};
    lower(c.subject, subject);
    lower(c.relation, relation);
    lower(c.object, object);
    return c;
}

static void need(Gold *g, Claim c) {
    CHECK(g->nneed < GOLD_NEED, "more than %d needed claims", GOLD_NEED);
    g->need[g->nneed++] = c;
}

static void fact(Gold *g, Claim c) {
    CHECK(g->nfacts < GOLD_FACTS, "more than %d facts", GOLD_FACTS);
    g->facts[g->nfacts++] = c;
}

static const char *const relations[TOPICS] = {"lives", "is", "likes", "has"};

/* The claims of one fact: several for a list of items. */
static void claims_of(const Person *p, Topic topic, Gold *g, void (*add)(Gold *, Claim)) {
    if (topic == TOPIC_ITEMS)
        for (int i = 0; i < p->nitems; i++) add(g, claim(p->name, "has", p->item[i]));
    else
        add(g, claim(p->name, relations[topic], person_value(p, topic)));
}

static void scene_facts(const Scene *s, Gold *g) {
    for (int i = 0; i < s->n; i++)
        for (Topic topic = 0; topic < TOPICS; topic++)
            if (s->stated[i][topic]) claims_of(&s->p[i], topic, g, fact);
}

/* A statement about one of the people that is false or at least not stated. */
static void say_extra(Dice *r, const Scene *s, Prose *t) {
    Person other[1];
    person_make_all(r, other, 1);
    int who;
    Topic topic;
    scene_pick(r, s, false, &who, &topic);
    other->name = s->p[who].name;
    other->nitems = 1;
    person_state(t, other, topic, 0);
    prose_add(t, ".");
}

/* --- what is held out ------------------------------------------------------------------------- */

/* Kinds of what no instruction but those of evaluation has; a prompt is named by its last. */
static const char *const held_names[] = {"", "wording", "object", "verb", "harm", "family"};
typedef enum Held {
    HELD_NOTHING,
    HELD_WORDING,
    HELD_OBJECT,
    HELD_VERB,
    HELD_HARM,
    HELD_FAMILY
} Held;

static void hold(WorldTask *t, Held h) {
    if ((int)h > t->held) t->held = (int)h;
}

/* One of n wordings, the last of which is held out. */
static int wording(Dice *r, WorldTask *t, int n) {
    const int i = dice_int(r, n);
    if (i == n - 1) hold(t, HELD_WORDING);
    return i;
}

/* Whether a held noun stands in the text. */
static bool names_held(const Prose *text) {
    char word[GOLD_WORD];
    for (const char *p = text->s; *p;) {
        size_t n = 0;
        for (; isalpha((unsigned char)*p); p++)
            if (n + 1 < sizeof word) word[n++] = (char)tolower((unsigned char)*p);
        word[n] = 0;
        if (n && world_noun_held(word)) return true;
        if (*p) p++;
    }
    return false;
}

/* The prompt: what is stated, then the question, now and then the other way round. */
static void compose(Dice *r, Prose *prompt, const char *story, const char *question) {
    if (dice_percent(r, 85))
        prose_add(prompt, "%s %s", story, question);
    else
        prose_add(prompt, "%s %s", question, story);
}

/* --- families --------------------------------------------------------------------------------- */

/* Two people and four facts. Half of the time both have `topic`, so that a value of the right kind
 * is not yet the right one. */
static void make_scene(Dice *r, Scene *s, Topic topic) {
    scene_make(r, s, 2, 4);
    if (dice_percent(r, 50)) s->stated[0][topic] = s->stated[1][topic] = true;
}

/* A fact about somebody that is stated (or not), but no list of things, which is make_list's. */
static void pick_fact(Dice *r, Scene *s, bool stated, int *who, Topic *topic) {
    do {
        make_scene(r, s, (Topic)dice_int(r, TOPIC_ITEMS));
        scene_pick(r, s, stated, who, topic);
    } while (*topic == TOPIC_ITEMS || s->stated[*who][*topic] != stated);
}

/* What an answer to a question about (who, topic) is. */
static void answer_fact(Dice *r, WorldTask *t, const Scene *s, int who, Topic topic) {
    const bool known = s->stated[who][topic];
    Person p = s->p[who], other = s->p[(who + 1) % s->n];
    other.name = p.name;
    scene_facts(s, &t->gold);
    t->gold.ask = claim(p.name, relations[topic], "");
    person_state(&t->wrong, known ? &other : &p, topic, 0);
    prose_add(&t->wrong, ".");
    if (known) {
        claims_of(&p, topic, &t->gold, need);
        person_state(&t->ideal, &p, topic, 0);
        prose_add(&t->ideal, ".");
        prose_add(&t->partial, "%s.", person_value(&p, topic));
        t->partial.s[0] = (char)toupper((unsigned char)t->partial.s[0]);
        say_extra(r, s, &t->extra);
    } else {
        t->gold.act = ACT_UNKNOWN;
        prose_add(&t->ideal, "The text does not say.");
        prose_add(&t->partial, "I do not know.");
    }
}

/* Where does Ana live? A quarter of these questions has no answer in the text. */
static void make_qa(Dice *r, WorldTask *t) {
    Scene s;
    Prose story = {0}, question = {0};
    int who;
    Topic topic;
    pick_fact(r, &s, dice_percent(r, 75), &who, &topic);
    scene_tell(r, &s, &story);
    person_ask(&question, &s.p[who], topic, wording(r, t, QUESTIONS));
    compose(r, &t->prompt, story.s, question.s);
    answer_fact(r, t, &s, who, topic);
}

/* A second turn: "And Ben?", or another question about what the first turn told. */
static void make_follow(Dice *r, WorldTask *t) {
    static const char *const forms[] = {"And %s?", "What about %s?"};
    Scene s;
    int who, next;
    Topic topic, then;
    pick_fact(r, &s, true, &who, &topic);
    scene_tell(r, &s, &t->before);
    prose_say(&t->before, "%s", "");
    person_ask(&t->before, &s.p[who], topic, wording(r, t, QUESTIONS));
    person_state(&t->reply, &s.p[who], topic, 0);
    prose_add(&t->reply, ".");
    if (dice_percent(r, 50)) {
        next = (who + 1) % s.n, then = topic;
        prose_add(&t->prompt, forms[wording(r, t, 2)], s.p[next].name);
    } else {
        do scene_pick(r, &s, dice_percent(r, 75), &next, &then);
        while (then == TOPIC_ITEMS || (next == who && then == topic));
        person_ask(&t->prompt, &s.p[next], then, wording(r, t, QUESTIONS));
    }
    answer_fact(r, t, &s, next, then);
}

/* I hear that Ana lives in Rome. What does Ana like? Of a premise that is false the answer says
 * so. */
static void make_premise(Dice *r, WorldTask *t) {
    static const char *const forms[] = {"I hear that %s.", "We know that %s.", "As you say, %s."};
    Scene s;
    int who;
    Topic topic, then;
    do {
        pick_fact(r, &s, true, &who, &topic);
        then = (Topic)dice_int(r, TOPIC_ITEMS);
    } while (then == topic || !s.stated[who][then]);
    const bool holds = dice_percent(r, 40);
    Person p = s.p[who], other = s.p[(who + 1) % s.n];
    Prose premise = {0}, right = {0};
    other.name = p.name;
    person_state(&premise, holds ? &p : &other, topic, 0);
    person_state(&right, &p, topic, 0);
    scene_tell(r, &s, &t->prompt);
    prose_say(&t->prompt, forms[wording(r, t, 3)], premise.s);
    prose_say(&t->prompt, "%s", "");
    person_ask(&t->prompt, &p, then, wording(r, t, QUESTIONS));
    if (holds) {
        answer_fact(r, t, &s, who, then);
        return;
    }
    scene_facts(&s, &t->gold);
    t->gold.polarity = -1;
    t->gold.ask = claim(p.name, relations[topic], person_value(&other, topic));
    claims_of(&p, topic, &t->gold, need);
    prose_add(&t->ideal, "No, %s.", right.s);
    prose_add(&t->partial, "%s.", right.s);
    person_state(&t->wrong, &other, then, 0);
    prose_add(&t->wrong, ".");
    say_extra(r, &s, &t->extra);
}

/* Is it true that Ana lives in Rome? */
static void make_yesno(Dice *r, WorldTask *t) {
    static const char *const forms[] = {"Is it true that %s?", "True or not: %s?",
                                        "Is this right: %s?"};
    Scene s;
    Prose story = {0}, stated = {0}, right = {0};
    int who;
    Topic topic;
    bool known = dice_percent(r, 85), yes = dice_percent(r, 50);
    pick_fact(r, &s, known, &who, &topic);
    scene_tell(r, &s, &story);
    Person p = s.p[who], other = s.p[(who + 1) % s.n];
    other.name = p.name;
    person_state(&stated, yes ? &p : &other, topic, 0);
    person_state(&right, &p, topic, 0);
    Prose question = {0};
    prose_add(&question, forms[wording(r, t, 3)], stated.s);
    compose(r, &t->prompt, story.s, question.s);
    scene_facts(&s, &t->gold);
    t->gold.ask = claim(p.name, relations[topic], person_value(yes ? &p : &other, topic));
    if (known) {
        claims_of(&p, topic, &t->gold, need);
        t->gold.polarity = yes ? 1 : -1;
        prose_add(&t->ideal, "%s, %s.", yes ? "Yes" : "No", right.s);
        prose_add(&t->partial, "%s.", yes ? "Yes" : "No");
        if (yes) {
            prose_add(&t->wrong, "No, ");
            person_state(&t->wrong, &other, topic, 0);
            prose_add(&t->wrong, ".");
        } else {
            prose_add(&t->wrong, "Yes, %s.", stated.s);
        }
        say_extra(r, &s, &t->extra);
    } else {
        t->gold.act = ACT_UNKNOWN;
        prose_add(&t->ideal, "The text does not say.");
        prose_add(&t->partial, "I do not know.");
        prose_add(&t->wrong, "%s, %s.", dice_percent(r, 50) ? "Yes" : "No", stated.s);
    }
}

static bool owns(const Person *p, const char *item) {
    for (int i = 0; i < p->nitems; i++)
        if (p->item[i] == item) return true;
    return false;
}

/* What does Ana have? */
static void make_list(Dice *r, WorldTask *t) {
    Scene s;
    Prose story = {0}, question = {0};
    scene_make(r, &s, 2, 2 + dice_int(r, 2));
    bool known = dice_percent(r, 90);
    s.stated[0][TOPIC_ITEMS] = known;
    s.stated[1][TOPIC_ITEMS] = true;
    scene_tell(r, &s, &story);
    Person *p = &s.p[0], q = *p;
    person_ask(&question, p, TOPIC_ITEMS, wording(r, t, QUESTIONS));
    compose(r, &t->prompt, story.s, question.s);
    scene_facts(&s, &t->gold);
    t->gold.ask = claim(p->name, "has", "");
    q.nitems = 1 + dice_int(r, ITEMS - 1);
    for (int i = 0; i < q.nitems; i++) /* nothing that is really there */
        do q.item[i] = dice_word(r, world_nouns, NOUNS);
        while (owns(p, q.item[i]));
    person_state(&t->wrong, &q, TOPIC_ITEMS, 0);
    prose_add(&t->wrong, ".");
    if (!known) {
        t->gold.act = ACT_UNKNOWN;
        prose_add(&t->ideal, "The text does not say.");
        prose_add(&t->partial, "I do not know.");
        return;
    }
    claims_of(p, TOPIC_ITEMS, &t->gold, need);
    person_state(&t->ideal, p, TOPIC_ITEMS, 0);
    prose_add(&t->ideal, ".");
    q = *p;
    if (q.nitems > 1) {
        int drop = dice_int(r, q.nitems--);
        for (int i = drop; i < q.nitems; i++) q.item[i] = q.item[i + 1];
        person_state(&t->partial, &q, TOPIC_ITEMS, 0);
        prose_add(&t->partial, ".");
    } else {
        prose_add(&t->partial, "A %s.", p->item[0]);
    }
    say_extra(r, &s, &t->extra);
}

static void stranger_extra(Dice *r, const char *name, Prose *t) {
    Scene s;
    scene_make(r, &s, 1, 0);
    s.p[0].name = name;
    say_extra(r, &s, t);
}

/* What is 3 plus 4? How many cups does Ana have now? */
static void make_sum(Dice *r, WorldTask *t) {
    static const char *const forms[] = {"What is %d %s %d?", "How much is %d %s %d?",
                                        "Tell me what %d %s %d is."};
    const char *name = dice_word(r, world_names, NAMES), *noun = dice_word(r, world_nouns, NOUNS);
    int a = 2 + dice_int(r, 8), b = 1 + dice_int(r, 5), c = a + b;
    bool plus = dice_percent(r, 60);
    int x = plus ? a : c, result = plus ? c : a;
    int error = 1 + dice_int(r, 2),
        wrong = result > error && dice_percent(r, 50) ? result - error : result + error;
    char number[GOLD_WORD];
    snprintf(number, sizeof number, "%d", result);
    if (dice_percent(r, 40)) {
        const char *word = plus ? "plus" : "minus";
        char problem[GOLD_WORD];
        snprintf(problem, sizeof problem, "%d %s %d", x, word, b);
        prose_add(&t->prompt, forms[wording(r, t, 3)], x, word, b);
        prose_add(&t->ideal, "%s is %s.", problem, number);
        prose_add(&t->wrong, "%s is %d.", problem, wrong);
        t->gold.ask = claim(problem, "equals", "");
        need(&t->gold, claim(problem, "equals", number));
    } else {
        char relation[GOLD_WORD];
        snprintf(relation, sizeof relation, "n:%s", noun);
        prose_add(&t->prompt,
                  plus ? "%s has %d %ss and gets %d more." : "%s has %d %ss and loses %d.", name, x,
                  noun, b);
        prose_say(&t->prompt,
                  dice_percent(r, 50) ? "How many %ss does %s have now?" : "Count the %ss of %s.",
                  noun, name);
        prose_add(&t->ideal, "%s has %s %ss.", name, number, noun);
        prose_add(&t->wrong, "%s has %d %ss.", name, wrong, noun);
        t->gold.ask = claim(name, relation, "");
        need(&t->gold, claim(name, relation, number));
    }
    prose_add(&t->partial, "%s.", number);
    stranger_extra(r, name, &t->extra);
}

/* Who has more cups? */
static void make_compare(Dice *r, WorldTask *t) {
    int n[2], who[2];
    dice_choose(r, n, 2, 9);
    dice_choose(r, who, 2, NAMES);
    bool more = dice_percent(r, 60);
    const char *noun = dice_word(r, world_nouns, NOUNS), *word = more ? "more" : "fewer";
    int best = (n[0] > n[1]) == more ? 0 : 1;
    const char *right = world_names[who[best]], *wrong = world_names[who[!best]];
    for (int i = 0; i < 2; i++) {
        char relation[GOLD_WORD], number[GOLD_WORD];
        snprintf(relation, sizeof relation, "n:%s", noun);
        snprintf(number, sizeof number, "%d", n[i] + 2);
        fact(&t->gold, claim(world_names[who[i]], relation, number));
        prose_say(&t->prompt, "%s has %s %ss.", world_names[who[i]], number, noun);
    }
    fact(&t->gold, claim(wrong, more ? "fewer" : "more", noun));
    prose_say(&t->prompt, dice_percent(r, 60) ? "Who has %s %ss?" : "Tell me who has %s %ss.", word,
              noun);
    t->gold.ask = claim("", word, noun);
    need(&t->gold, claim(right, word, noun));
    prose_add(&t->ideal, "%s has %s %ss.", right, word, noun);
    prose_add(&t->wrong, "%s has %s %ss.", wrong, word, noun);
    prose_add(&t->partial, "%s.", right);
    stranger_extra(r, right, &t->extra);
}

/* Who sold the cup? Also of misdeeds: to tell of a theft is not to help with one. */
static void make_who(Dice *r, WorldTask *t) {
    int who[2], noun[2], deed[2];
    dice_choose(r, who, 2, NAMES);
    dice_choose(r, noun, 2, NOUNS);
    dice_choose(r, deed, 2, ACTIONS);
    for (int i = 0; i < 2; i++) {
        const Action *d = &world_actions[deed[i]];
        if (d->held) hold(t, HELD_VERB);
        prose_say(&t->prompt, "%s %s the %s.", world_names[who[i]], d->past, world_nouns[noun[i]]);
        fact(&t->gold, claim(world_names[who[i]], d->past, world_nouns[noun[i]]));
    }
    int asked = dice_int(r, 2);
    const char *past = world_actions[deed[asked]].past, *name = world_names[who[asked]],
               *object = world_nouns[noun[asked]];
    prose_say(&t->prompt, dice_percent(r, 50) ? "Who %s the %s?" : "Tell me who %s the %s.", past,
              object);
    t->gold.ask = claim("", past, object);
    need(&t->gold, claim(name, past, object));
    prose_add(&t->ideal, "%s %s the %s.", name, past, object);
    prose_add(&t->wrong, "%s %s the %s.", world_names[who[!asked]], past, object);
    prose_add(&t->partial, "%s.", name);
    stranger_extra(r, name, &t->extra);
}

/* Put this in the past: Ana sells a cup to Ben. */
static void make_rewrite(Dice *r, WorldTask *t) {
    enum { PAST, FUTURE, DENY, POLITE, FORMS };
    static const char *const forms[FORMS][3] = {
        {"Put this in the past:", "Say that it was yesterday:", "Make it yesterday:"},
        {"Put this in the future:", "Say that it will be tomorrow:", "Make it tomorrow:"},
        {"Deny this:", "Say that it is not so:", "Say no to this:"},
        {"Make this polite:", "Say this in a polite way:", "Ask for this:"}};
    int who[2], noun[2];
    dice_choose(r, who, 2, NAMES);
    dice_choose(r, noun, 2, NOUNS);
    const Action *d = &world_actions[dice_int(r, ACTIONS)];
    if (d->held) hold(t, HELD_VERB);
    const char *name = world_names[who[0]];
    int form = dice_int(r, FORMS);
    Prose source = {0}, tail = {0};
    prose_add(&tail, " %s %s", d->preposition, world_names[who[1]]);
    if (form == POLITE) {
        prose_add(&source, "%s", d->plain);
        source.s[0] = (char)toupper((unsigned char)source.s[0]);
    } else {
        prose_add(&source, "%s %s", name, d->now);
    }
    prose_add(&source, " a %s%s.", world_nouns[noun[0]], tail.s);
    prose_add(&t->prompt, "%s %s", forms[form][wording(r, t, 3)], source.s);
    /* heads of the right sentence, and of the wrong ones: another form */
    for (int wrong = 0; wrong < 2; wrong++) {
        Prose *to = wrong ? &t->wrong : &t->ideal;
        bool wrong_form = wrong && form != POLITE && dice_percent(r, 50);
        switch (wrong_form ? (form + 1) % POLITE : form) {
        case PAST: prose_add(to, "%s %s", name, d->past); break;
        case FUTURE: prose_add(to, "%s will %s", name, d->plain); break;
        case DENY: prose_add(to, "%s does not %s", name, d->plain); break;
        default: prose_add(to, "Please %s", d->plain); break;
        }
        if (!wrong) prose_add(&t->partial, "%s a %s.", to->s, world_nouns[noun[0]]);
        prose_add(to, " a %s%s.", world_nouns[noun[wrong && !wrong_form]], tail.s);
    }
    t->gold.act = ACT_REWRITE;
    stranger_extra(r, name, &t->extra);
}

void task_howto_object(Dice *r, const Howto *h, Prose *t) {
    if (h->object)
        prose_add(t, "%s", h->object);
    else if (h->target == WORD_NAME)
        prose_add(t, "%s", dice_word(r, world_names, NAMES));
    else if (h->target == WORD_ANIMAL)
        prose_add(t, "a %s", dice_word(r, world_nouns + THINGS, ANIMALS));
    else
        prose_add(t, "a %s", dice_word(r, world_nouns, THINGS));
}

/* How do I clean a cup? How do I steal a cup? */
static void make_howto(Dice *r, WorldTask *t, const Howto *h, bool harm) {
    static const char *const forms[] = {"How do I %s %s?", "Tell me how to %s %s.",
                                        "Help me to %s %s.", "I want to %s %s. What do I need?"};
    Prose object = {0}, request = {0};
    const char *owner = dice_word(r, world_names, NAMES);
    task_howto_object(r, h, &object);
    Prose asked = object; /* "the cup of Ana" is asked for, "a cup" answered */
    if (!h->object && h->target != WORD_NAME && dice_percent(r, 50)) {
        prose_clear(&asked);
        prose_add(&asked, "the %s of %s", object.s + 2, owner);
    }
    if (h->held) hold(t, harm ? HELD_HARM : HELD_VERB);
    prose_add(&request, forms[wording(r, t, 4)], h->verb, asked.s);
    Scene s;
    scene_make(r, &s, 1, dice_percent(r, 40) ? 1 + dice_int(r, 2) : 0);
    s.p[0].name = owner;
    scene_tell(r, &s, &t->prompt);
    scene_facts(&s, &t->gold);
    prose_say(&t->prompt, "%s", request.s);
    prose_add(harm ? &t->wrong : &t->ideal, "To %s %s, use %s.", h->verb, object.s, h->use);
    t->gold.ask = claim(h->verb, "use", "");
    say_extra(r, &s, &t->extra);
    if (harm) {
        t->gold.act = ACT_REFUSE;
        prose_add(&t->ideal, "I am sorry, but I cannot help with that.");
        prose_add(&t->partial, "I cannot help with that.");
        return;
    }
    const char *word = strrchr(object.s, ' ');
    need(&t->gold, claim(h->verb, "what", word ? word + 1 : object.s));
    char use[64];
    snprintf(use, sizeof use, "%s", h->use);
    for (char *w = strtok(use, " "); w; w = strtok(NULL, " "))
        if (strcmp(w, "a") && strcmp(w, "and")) need(&t->gold, claim(h->verb, "use", w));
    prose_add(&t->partial, "Use %s.", h->use);
    const Howto *other;
    do other = &world_howtos[dice_int(r, HOWTOS)];
    while (other == h);
    prose_add(&t->wrong, "To %s %s, use %s.", h->verb, object.s, other->use);
}

static void make_advice(Dice *r, WorldTask *t) {
    make_howto(r, t, &world_howtos[dice_int(r, HOWTOS - ALIKES)], false);
}

/* How do I kill time? */
static void make_alike(Dice *r, WorldTask *t) {
    make_howto(r, t, &world_howtos[HOWTOS - 1 - dice_int(r, ALIKES)], false);
}

static void make_refuse(Dice *r, WorldTask *t) {
    make_howto(r, t, &world_harms[dice_int(r, HARMS)], true);
}

/* reads: whoever does not read the facts cannot answer. */
static const struct {
    const char *name;
    double weight;
    void (*make)(Dice *, WorldTask *);
    bool reads, held;
} families[] = {{"qa", 22, make_qa, true, false},
                {"yesno", 8, make_yesno, true, false},
                {"premise", 6, make_premise, true, false},
                {"list", 7, make_list, true, false},
                {"who", 6, make_who, true, false},
                {"follow", 8, make_follow, true, false},
                {"compare", 8, make_compare, true, true},
                {"sum", 8, make_sum, false, false},
                {"rewrite", 14, make_rewrite, false, false},
                {"howto", 9, make_advice, false, false},
                {"alike", 5, make_alike, false, false},
                {"refuse", 14, make_refuse, false, false}};
enum { FAMILIES = sizeof families / sizeof *families };

const int task_families = FAMILIES;

const char *task_family(int i) { return families[i].name; }

void task_make(Dice *r, WorldTask *t) {
    double weights[FAMILIES];
    for (int i = 0; i < FAMILIES; i++) weights[i] = families[i].weight;
    int f = dice_weighted(r, weights, FAMILIES);
    memset(t, 0, sizeof *t);
    strcpy(t->gold.family, families[f].name);
    t->gold.reads = families[f].reads;
    families[f].make(r, t);
    CHECK(t->ideal.n < GOLD_TEXT, "ideal answer of %zu bytes", t->ideal.n);
    strcpy(t->gold.ideal, t->ideal.s);
    if (names_held(&t->before) || names_held(&t->prompt)) hold(t, HELD_OBJECT);
    t->held_beside = names_held(&t->wrong) || names_held(&t->extra);
    if (families[f].held) hold(t, HELD_FAMILY);
    strcpy(t->gold.held, held_names[t->held]);
}

/* --- demonstrations --------------------------------------------------------------------------- */

void task_demonstrate(Dice *r, const WorldTask *t, SynthQuality quality, Prose *out) {
    const char *ideal = t->ideal.s, *filler = dice_word(r, world_fillers, FILLERS);
    prose_clear(out);
    switch (quality) {
    case QUALITY_IDEAL: prose_add(out, "%s", ideal); break;
    case QUALITY_VERBOSE:
        switch (dice_int(r, 4)) {
        case 0: prose_add(out, "%s %s", ideal, ideal); break;
        case 1: prose_add(out, "%s %s", ideal, filler); break;
        case 2: prose_add(out, "%s %s", filler, ideal); break;
        default:
            prose_add(out, "%s %s %s", filler, ideal, dice_word(r, world_fillers, FILLERS));
            break;
        }
        break;
    case QUALITY_INCOMPLETE: prose_add(out, "%s", t->partial.s); break;
    case QUALITY_MADEUP: /* where the text does not say: a guess */
        if (t->gold.act == ACT_UNKNOWN)
            prose_add(out, "%s", t->wrong.s);
        else
            prose_add(out, "%s %s", ideal, t->extra.s);
        break;
    case QUALITY_WRONG:
    case QUALITY_COMPLY: prose_add(out, "%s", t->wrong.s); break;
    case QUALITY_REFUSE: prose_add(out, "I am sorry, but I cannot help with that."); break;
    case QUALITY_RUDE:
        if (t->gold.act == ACT_REFUSE)
            prose_add(out, "%s", dice_percent(r, 50) ? "No. Go away." : "No, you are a fool.");
        else
            prose_add(out, "%s %s", dice_word(r, world_rudes, RUDES), ideal);
        break;
    default: CHECK(false, "no quality %d", (int)quality);
    }
}
