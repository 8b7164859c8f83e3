/* Simulated annealing over schedules: sequences of nodes in which a node may come again.
 *
 * A schedule lies in slots, more than it needs, so that a node moves without moving the others. A copy of a node lives
 * from its slot to its last consumer before the next copy of the node. load[t] is what is alive at slot t; excess is
 * the sum over the occupied slots of what lies above the budget. The energy is time + price * excess. Every change is
 * made of two steps, put and take, which are each other's inverse; a change that is not accepted is undone.
 *
 * Loads are 32-bit, so that adding to a run of slots is a few vector instructions; the caller scales sizes to fit.
 * Method: Imanishi, Xu, Noor, FastSA (NeurIPS 2023), with guided recomputation instead of uniform insertion, and
 * the area above the budget instead of the peak.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORIZED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORIZED
#endif

enum { RELOCATE, RECOMPUTE, DROP, EXCHANGE, SHIFT_RUN, KINDS };
enum {
    MOST_STEPS = 64,    /* puts and takes of one change */
    REACH = 64,         /* slots searched for an empty one */
    SPREAD_EVERY = 4096 /* moves until the schedule is spread over its slots again */
};
static const int NONE = -1;

typedef struct {
    int node, slot, put;
} Step;

typedef struct {
    /* the graph: compressed rows of predecessors and successors */
    int nodes, most_copies, keep_first;
    const int32_t *pred_at, *pred, *succ_at, *succ, *size, *workspace;
    const double *duration;
    const uint8_t *repeatable;
    int32_t budget;
    /* the schedule */
    int slots, capacity, count;
    int32_t *node_at; /* by slot, NONE where it is empty */
    int32_t *end;     /* by occupied slot: the last slot at which that copy is alive */
    int32_t *load, *occupied; /* by slot; occupied is -1 or 0, a mask */
    int32_t *copies, *copied; /* by node: its slots in ascending order, and how many they are */
    int32_t *repeated, *repeated_at; /* the nodes with several copies, and where each stands among them */
    int repeats;
    double time;
    int64_t excess;
    uint64_t random;
    Step step[MOST_STEPS];
    int steps;
    /* the best schedule so far, and room to collect one */
    int32_t *best, *scratch;
    int best_count;
    double best_time;
    int64_t best_excess;
} Annealer;

/* xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" */
static uint64_t draw(Annealer *a) {
    uint64_t x = a->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    a->random = x;
    return x * 2685821657736338717u;
}

static int below(Annealer *a, int n) { return (int)(((draw(a) >> 32) * (uint64_t)n) >> 32); }

static double unit(Annealer *a) { return (double)((draw(a) >> 11) + 1) * 0x1p-53; } /* in (0, 1] */

VECTORIZED static int64_t add_to_loads(int32_t *restrict load, const int32_t *restrict occupied, int low, int high,
                                       int32_t size, int32_t budget) {
    int64_t more = 0;
    for (int t = low; t <= high; t++) {
        int32_t before = load[t] - budget, after = before + size;
        load[t] += size;
        before = before > 0 ? before : 0;
        after = after > 0 ? after : 0;
        more += (after - before) & occupied[t];
    }
    return more;
}

static void add(Annealer *a, int low, int high, int32_t size) {
    if (low <= high) a->excess += add_to_loads(a->load, a->occupied, low, high, size, a->budget);
}

static int32_t *slots_of(const Annealer *a, int v) { return a->copies + (size_t)v * a->most_copies; }

static int first(const Annealer *a, int v) { return slots_of(a, v)[0]; }

/* how many copies of v lie before slot t */
static int copies_before(const Annealer *a, int v, int t) {
    const int32_t *at = slots_of(a, v);
    int k = 0;
    while (k < a->copied[v] && at[k] < t) k++;
    return k;
}

/* the slot of the copy of v that a consumer at slot t reads */
static int source(const Annealer *a, int v, int t) {
    int k = copies_before(a, v, t);
    return k ? slots_of(a, v)[k - 1] : NONE;
}

/* the last use of v between its copy at slot p and slot t; p where there is none */
static int last_use(const Annealer *a, int v, int p, int t) {
    int last = p;
    for (int e = a->succ_at[v]; e < a->succ_at[v + 1]; e++) {
        int q = source(a, a->succ[e], t);
        if (q > last) last = q;
    }
    return last;
}

/* where the operands of v are there */
static int last_operand(const Annealer *a, int v) {
    int low = NONE;
    for (int e = a->pred_at[v]; e < a->pred_at[v + 1]; e++)
        if (first(a, a->pred[e]) > low) low = first(a, a->pred[e]);
    return low;
}

/* where the first consumer of v is */
static int first_consumer(const Annealer *a, int v) {
    int high = a->slots;
    for (int e = a->succ_at[v]; e < a->succ_at[v + 1]; e++)
        if (first(a, a->succ[e]) < high) high = first(a, a->succ[e]);
    return high;
}

static void note_repeats(Annealer *a, int v) {
    int several = a->copied[v] > 1, at = a->repeated_at[v];
    if (several && at == NONE) {
        a->repeated_at[v] = a->repeats;
        a->repeated[a->repeats++] = v;
    } else if (!several && at != NONE) {
        int last = a->repeated[--a->repeats];
        a->repeated[at] = last;
        a->repeated_at[last] = at;
        a->repeated_at[v] = NONE;
    }
}

/* adds a copy of v at the empty slot t, after its operands */
static void put(Annealer *a, int v, int t) {
    int32_t *at = slots_of(a, v);
    int k = copies_before(a, v, t), p = k ? at[k - 1] : NONE;
    a->node_at[t] = v;
    a->occupied[t] = -1;
    if (a->load[t] > a->budget) a->excess += a->load[t] - a->budget;
    for (int e = a->pred_at[v]; e < a->pred_at[v + 1]; e++) {
        int u = a->pred[e], q = source(a, u, t);
        if (a->end[q] < t) {
            add(a, a->end[q] + 1, t, a->size[u]);
            a->end[q] = t;
        }
    }
    if (p != NONE && a->end[p] > t) { /* the new copy serves the later consumers of the one before */
        int last = last_use(a, v, p, t);
        add(a, last + 1, t - 1, -a->size[v]);
        a->end[t] = a->end[p];
        a->end[p] = last;
    } else {
        add(a, t, t, a->size[v]);
        a->end[t] = t;
    }
    for (int i = a->copied[v]; i > k; i--) at[i] = at[i - 1];
    at[k] = t;
    a->copied[v]++;
    a->count++;
    add(a, t, t, a->workspace[v]);
    a->time += a->duration[v];
    note_repeats(a, v);
}

/* removes the copy of v at slot t; the copy before it, where it has consumers, serves them */
static void take(Annealer *a, int v, int t) {
    int32_t *at = slots_of(a, v);
    int k = copies_before(a, v, t), p = k ? at[k - 1] : NONE;
    a->copied[v]--;
    for (int i = k; i < a->copied[v]; i++) at[i] = at[i + 1];
    if (a->end[t] > t) {
        add(a, a->end[p] + 1, t - 1, a->size[v]);
        a->end[p] = a->end[t];
    } else {
        add(a, t, t, -a->size[v]);
    }
    for (int e = a->pred_at[v]; e < a->pred_at[v + 1]; e++) {
        int u = a->pred[e], q = source(a, u, t);
        if (a->end[q] == t) {
            int last = last_use(a, u, q, t);
            add(a, last + 1, t, -a->size[u]);
            a->end[q] = last;
        }
    }
    add(a, t, t, -a->workspace[v]);
    if (a->load[t] > a->budget) a->excess -= a->load[t] - a->budget;
    a->occupied[t] = 0;
    a->node_at[t] = NONE;
    a->count--;
    a->time -= a->duration[v];
    note_repeats(a, v);
}

static void record(Annealer *a, int v, int t, int is_put) {
    a->step[a->steps++] = (Step){v, t, is_put};
}

static int try_put(Annealer *a, int v, int t) {
    if (a->steps == MOST_STEPS || a->copied[v] == a->most_copies || last_operand(a, v) >= t) return 0;
    if (a->keep_first && t < first(a, v)) return 0;
    put(a, v, t);
    record(a, v, t, 1);
    return 1;
}

static int try_take(Annealer *a, int v, int t) {
    if (a->steps == MOST_STEPS) return 0;
    if (first(a, v) == t && (a->keep_first || a->copied[v] == 1 || a->end[t] > t)) return 0;
    take(a, v, t);
    record(a, v, t, 0);
    return 1;
}

static void undo(Annealer *a) {
    while (a->steps) {
        Step s = a->step[--a->steps];
        (s.put ? take : put)(a, s.node, s.slot);
    }
}

/* the empty slot nearest to t in (low, high) */
static int empty_near(const Annealer *a, int t, int low, int high) {
    for (int d = 0; d < REACH; d++) {
        int left = t - d, right = t + d;
        if (left > low && left < high && a->node_at[left] == NONE) return left;
        if (right > low && right < high && a->node_at[right] == NONE) return right;
        if (left <= low && right >= high) break;
    }
    return NONE;
}

static int random_copy(Annealer *a) {
    for (;;) {
        int t = below(a, a->slots);
        if (a->node_at[t] != NONE) return t;
    }
}

/* moves a copy: anywhere it may go, or a little */
static int relocate(Annealer *a, int t) {
    int v = a->node_at[t], is_first = first(a, v) == t;
    if (a->keep_first && is_first) return 0;
    int low = last_operand(a, v), high = is_first ? first_consumer(a, v) : a->end[t] > t ? a->end[t] : a->slots;
    if (!is_first && source(a, v, t) > low) low = source(a, v, t);
    if (high - low < 2) return 0;
    int kind = below(a, 4), reach = kind == 2 ? 8 : REACH, target;
    if (kind < 2)
        target = low + 1 + below(a, high - low - 1);
    else
        target = t - reach + below(a, 2 * reach + 1);
    target = target <= low ? low + 1 : target >= high ? high - 1 : target;
    int slot = empty_near(a, target, low, high);
    return slot != NONE && try_put(a, v, slot) && try_take(a, v, t);
}

/* adds a copy of u right before slot t, unless it would serve what the copy before it serves as well; its slot */
static int recompute_before(Annealer *a, int u, int t) {
    int used = last_use(a, u, source(a, u, t), t);
    for (int slot = t - 1; slot > used && slot > t - REACH; slot--)
        if (a->node_at[slot] == NONE) return try_put(a, u, slot) ? slot : NONE;
    return NONE;
}

/* the operand of the copy of v at slot t that it alone keeps alive for longest; NONE where none waits for it */
static int longest_kept(const Annealer *a, int v, int t) {
    int found = NONE, longest = 3;
    for (int e = a->pred_at[v]; e < a->pred_at[v + 1]; e++) {
        int u = a->pred[e], q = source(a, u, t);
        if (!a->repeatable[u] || a->end[q] != t) continue;
        int kept = t - last_use(a, u, q, t);
        if (kept > longest) longest = kept, found = u;
    }
    return found;
}

/* computes an operand of the node at slot t again, right before it, and up to depth of what that needs */
static int recompute(Annealer *a, int t, int depth) {
    int v = a->node_at[t], operands = a->pred_at[v + 1] - a->pred_at[v];
    if (!operands) return 0;
    int u = a->pred[a->pred_at[v] + below(a, operands)];
    if (!a->repeatable[u]) return 0;
    t = recompute_before(a, u, t);
    if (t == NONE) return 0;
    while (depth-- > 0) {
        u = longest_kept(a, a->node_at[t], t);
        if (u == NONE) break;
        t = recompute_before(a, u, t);
        if (t == NONE) break;
    }
    return 1;
}

static int drop(Annealer *a) {
    if (!a->repeats) return 0;
    int v = a->repeated[below(a, a->repeats)];
    return try_take(a, v, slots_of(a, v)[below(a, a->copied[v])]);
}

/* moves the node at slot t and up to six neighbours, one after the other, towards a place on the left or right */
static int shift_run(Annealer *a, int t) {
    int way = below(a, 2) ? 1 : -1; /* the run extends this way from t, and moves the other way */
    int length = 2 + below(a, 6), goal = t - way * (16 + below(a, 200)), moved = 0;
    for (int slot = t; slot >= 0 && slot < a->slots && length > 0; slot += way) {
        int v = a->node_at[slot];
        if (v == NONE) continue;
        length--;
        if (first(a, v) != slot || a->keep_first || (way < 0 && a->copied[v] > 1)) continue;
        int limit = way > 0 ? last_operand(a, v) + 1 : first_consumer(a, v) - 1;
        int target = (way > 0) == (goal > limit) ? goal : limit;
        for (int reach = REACH; reach > 0 && (slot - target) * way > 0; reach--, target += way)
            if (a->node_at[target] == NONE) {
                if (!try_put(a, v, target) || !try_take(a, v, slot)) return 0;
                moved++;
                break;
            }
    }
    return moved;
}

/* lays the schedule out over twice as many slots as it needs */
static void spread(Annealer *a, const int32_t *sequence, int count) {
    a->slots = 2 * count + 32 < a->capacity ? 2 * count + 32 : a->capacity;
    a->repeats = a->count = 0;
    a->time = 0;
    a->excess = 0;
    memset(a->copied, 0, sizeof(int32_t) * a->nodes);
    for (int v = 0; v < a->nodes; v++) a->repeated_at[v] = NONE;
    for (int t = 0; t < a->slots; t++) a->node_at[t] = NONE, a->occupied[t] = a->load[t] = 0;
    for (int i = 0; i < count; i++) put(a, sequence[i], (int)((2 * (int64_t)i + 1) * a->slots / (2 * count)));
}

static int collect(const Annealer *a, int32_t *out) {
    int count = 0;
    for (int t = 0; t < a->slots; t++)
        if (a->node_at[t] != NONE) out[count++] = a->node_at[t];
    return count;
}

static void keep_if_best(Annealer *a) {
    if (a->excess > a->best_excess || (a->excess == a->best_excess && a->time >= a->best_time - 1e-6)) return;
    a->best_excess = a->excess;
    a->best_time = a->time;
    a->best_count = collect(a, a->best);
}

static int change(Annealer *a, int kind) {
    switch (kind) {
    case RELOCATE: return relocate(a, random_copy(a));
    case RECOMPUTE: return recompute(a, random_copy(a), below(a, 4));
    case DROP: return drop(a);
    case EXCHANGE: return drop(a) && recompute(a, random_copy(a), below(a, 3));
    default: return shift_run(a, random_copy(a));
    }
}

EXPORT void tpopt_annealer_free(Annealer *a) {
    if (!a) return;
    int32_t *rooms[] = {a->node_at, a->end, a->load, a->occupied, a->copies, a->copied, a->repeated, a->repeated_at,
                        a->best, a->scratch};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) free(rooms[i]);
    free(a);
}

/* the arrays of the graph must outlive the annealer; NULL where memory is short */
EXPORT Annealer *tpopt_annealer_new(int nodes, int most_copies, int keep_first, int capacity, const int32_t *pred_at,
                                    const int32_t *pred, const int32_t *succ_at, const int32_t *succ,
                                    const int32_t *size, const int32_t *workspace, const double *duration,
                                    const uint8_t *repeatable, uint64_t seed) {
    Annealer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->nodes = nodes, a->most_copies = most_copies, a->keep_first = keep_first, a->capacity = capacity;
    a->pred_at = pred_at, a->pred = pred, a->succ_at = succ_at, a->succ = succ;
    a->size = size, a->workspace = workspace, a->duration = duration, a->repeatable = repeatable;
    a->random = (seed + 1) * 0x9E3779B97F4A7C15u;
    if (!a->random) a->random = 1;
    int32_t **by_slot[] = {&a->node_at, &a->end, &a->load, &a->occupied, &a->best, &a->scratch};
    int32_t **by_node[] = {&a->copied, &a->repeated, &a->repeated_at};
    int whole = 1;
    for (size_t i = 0; i < sizeof by_slot / sizeof *by_slot; i++)
        whole &= (*by_slot[i] = calloc(capacity, sizeof(int32_t))) != NULL;
    for (size_t i = 0; i < sizeof by_node / sizeof *by_node; i++)
        whole &= (*by_node[i] = calloc(nodes, sizeof(int32_t))) != NULL;
    whole &= (a->copies = calloc((size_t)nodes * most_copies, sizeof(int32_t))) != NULL;
    if (whole) return a;
    tpopt_annealer_free(a);
    return NULL;
}

/* how many steps of a sequence are a schedule that there is room for: nodes of the graph, each after its operands */
static int valid_steps(Annealer *a, const int32_t *sequence, int count) {
    memset(a->copied, 0, sizeof(int32_t) * a->nodes);
    for (int i = 0; i < count; i++) {
        int v = sequence[i];
        if (i == a->capacity / 2 || v < 0 || v >= a->nodes || a->copied[v] == a->most_copies) return i;
        for (int e = a->pred_at[v]; e < a->pred_at[v + 1]; e++)
            if (!a->copied[a->pred[e]]) return i;
        a->copied[v]++;
    }
    return count;
}

/* starts from a schedule, and forgets the best one; returns count, or of what is none the first step that has no place
 * in one, and holds nothing then */
EXPORT int tpopt_annealer_load(Annealer *a, const int32_t *sequence, int count, int32_t budget) {
    int valid = valid_steps(a, sequence, count);
    a->budget = budget;
    spread(a, sequence, valid == count ? count : 0);
    a->best_excess = INT64_MAX;
    keep_if_best(a);
    return valid;
}

/* makes moves while the temperature falls from hot to cold, both in units of time; kinds weighs the kinds of moves;
 * with stop_within, only until a schedule is within the budget. Returns the number of moves. */
EXPORT int64_t tpopt_annealer_run(Annealer *a, int64_t moves, double hot, double cold, double price,
                                  const double *kinds, int stop_within) {
    double temperature = hot, all = 0, factor = pow(cold / hot, 1.0 / 256), energy = 0;
    int64_t stage = moves / 256 + 1;
    if (!a->count) return 0;
    for (int k = 0; k < KINDS; k++) all += kinds[k];
    for (int64_t i = 0; i < moves; i++) {
        if (stop_within && !a->best_excess) return i;
        if (i % stage == stage - 1) temperature *= factor;
        if (i % SPREAD_EVERY == 0) {
            spread(a, a->scratch, collect(a, a->scratch));
            energy = a->time + price * (double)a->excess;
        }
        int kind = 0;
        for (double r = unit(a) * all - kinds[0]; r > 0 && kind < KINDS - 1; r -= kinds[kind]) kind++;
        a->steps = 0;
        if (a->count + MOST_STEPS / 2 > a->capacity / 2 && kind != DROP && kind != RELOCATE) continue;
        int changed = change(a, kind);
        double now = a->time + price * (double)a->excess;
        if (changed && now - energy <= -temperature * log(unit(a))) {
            energy = now;
            keep_if_best(a);
        } else {
            undo(a);
        }
    }
    return moves;
}

/* writes the best schedule, and returns its number of steps */
EXPORT int tpopt_annealer_best(const Annealer *a, int32_t *out, double *time, int64_t *excess) {
    memcpy(out, a->best, sizeof(int32_t) * a->best_count);
    *time = a->best_time;
    *excess = a->best_excess;
    return a->best_count;
}
