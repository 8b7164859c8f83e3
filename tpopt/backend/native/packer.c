/* Offsets for blocks of memory with fixed lifetimes, within a capacity: depth-first search, bottom up.
 *
 * Time is cut into sections at the ends of lifetimes. floor[t] is the height below which section t is closed, left[t]
 * the bytes that are still to be placed in it. Blocks are placed in ascending order of offsets, each as low as it goes,
 * so nothing comes to lie below the last offset: where max(floor, last offset) + left exceeds the capacity the branch
 * is dead. Before each choice floors rise to what the lowest block of their section can reach.
 * The order of placement and the bounds by sections are those of Moffitt, "MiniMalloc" (ASPLOS 2023).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int blocks, sections;
    const int32_t *from, *to; /* by block: its sections, half open */
    const int64_t *size;
    const int32_t *rank; /* by block: what to try first, among equal offsets or, with by_rank, among all that may come */
    int by_rank;
    int64_t capacity;
    int64_t *floor, *left, *low; /* low: by block, where it can lie at the lowest */
    uint8_t *placed;
    int64_t *saved; /* floors by depth */
    int32_t *tried; /* candidates by depth: a row of blocks each */
    int64_t *offset;
} Packer;

/* raises floors and lows to a fixed point; 0 where a section overflows */
static int settle(Packer *p, int64_t last) {
    for (int round = 0; round < 4; round++) {
        int changed = 0;
        for (int i = 0; i < p->blocks; i++) {
            if (p->placed[i]) continue;
            int64_t low = last;
            for (int t = p->from[i]; t < p->to[i]; t++)
                if (p->floor[t] > low) low = p->floor[t];
            if (low + p->size[i] > p->capacity) return 0;
            p->low[i] = low;
        }
        int64_t lowest[p->sections];
        for (int t = 0; t < p->sections; t++) lowest[t] = p->capacity;
        for (int i = 0; i < p->blocks; i++) {
            if (p->placed[i]) continue;
            for (int t = p->from[i]; t < p->to[i]; t++)
                if (p->low[i] < lowest[t]) lowest[t] = p->low[i];
        }
        for (int t = 0; t < p->sections; t++) {
            if (!p->left[t]) continue;
            if (lowest[t] + p->left[t] > p->capacity) return 0;
            if (lowest[t] > p->floor[t]) p->floor[t] = lowest[t], changed = 1;
        }
        if (!changed) break;
    }
    return 1;
}

/* the blocks that may come next, best first; their number. None comes so high that a section overflows, or that another
 * block fits below it (which would move down there from wherever it was placed later) */
static int candidates(const Packer *p, int32_t *out, int64_t last, int last_rank) {
    int64_t highest = p->capacity;
    int count = 0;
    for (int t = 0; t < p->sections; t++)
        if (p->capacity - p->left[t] < highest) highest = p->capacity - p->left[t];
    for (int i = 0; i < p->blocks; i++)
        if (!p->placed[i] && p->low[i] + p->size[i] - 1 < highest) highest = p->low[i] + p->size[i] - 1;
    for (int i = 0; i < p->blocks; i++) {
        int64_t low = p->low[i];
        if (p->placed[i] || low > highest || (low == last && p->rank[i] < last_rank)) continue;
        int k = count++;
        for (; k > 0; k--) {
            int j = out[k - 1];
            if (!p->by_rank && p->low[j] != low ? p->low[j] < low : p->rank[j] < p->rank[i]) break;
            out[k] = j;
        }
        out[k] = i;
    }
    return count;
}

static void place(Packer *p, int i, int64_t low) {
    p->placed[i] = 1;
    p->offset[i] = low;
    for (int t = p->from[i]; t < p->to[i]; t++) p->floor[t] = low + p->size[i], p->left[t] -= p->size[i];
}

static void lift(Packer *p, int i) {
    p->placed[i] = 0;
    for (int t = p->from[i]; t < p->to[i]; t++) p->left[t] += p->size[i];
}

/* 1: offsets found; 0: there are none; -1: the limit of placements was reached */
static int descend(Packer *p, int64_t limit) {
    int n = p->blocks, depth = 0;
    int count[n + 1], next[n + 1], chosen[n + 1];
    size_t row = sizeof(int64_t) * p->sections;
    if (!settle(p, 0)) return 0;
    count[0] = candidates(p, p->tried, 0, -1);
    next[0] = 0;
    for (;;) {
        if (depth == n) return 1;
        if (next[depth] == count[depth]) {
            if (!depth) return 0;
            lift(p, chosen[--depth]);
            memcpy(p->floor, p->saved + (size_t)depth * p->sections, row);
            continue;
        }
        if (!limit--) return -1;
        int i = p->tried[(size_t)depth * n + next[depth]++];
        int64_t *saved = p->saved + (size_t)depth * p->sections, last = depth ? p->offset[chosen[depth - 1]] : 0;
        memcpy(saved, p->floor, row);
        for (int t = p->from[i]; t < p->to[i]; t++)
            if (p->floor[t] > last) last = p->floor[t];
        place(p, i, last);
        if (!settle(p, last)) {
            lift(p, i);
            memcpy(p->floor, saved, row);
            continue;
        }
        chosen[depth++] = i;
        if (depth < n) count[depth] = candidates(p, p->tried + (size_t)depth * n, last, p->rank[i]);
        next[depth] = 0;
    }
}

/* fills offset; 1, 0 or -1 as above, and -2 where memory is short */
EXPORT int tpopt_packer_search(int blocks, int sections, const int32_t *from, const int32_t *to, const int64_t *size,
                               const int32_t *rank, int by_rank, int64_t capacity, int64_t limit, int64_t *offset) {
    Packer p = {.blocks = blocks, .sections = sections, .from = from, .to = to, .size = size, .rank = rank,
                .by_rank = by_rank, .capacity = capacity, .offset = offset};
    size_t n = blocks, m = sections;
    p.floor = calloc(m, sizeof *p.floor), p.left = calloc(m, sizeof *p.left), p.low = calloc(n, sizeof *p.low);
    p.placed = calloc(n, 1), p.saved = malloc((n + 1) * m * sizeof *p.saved);
    p.tried = malloc((n + 1) * n * sizeof *p.tried);
    int result = -2;
    if (p.floor && p.left && p.low && p.placed && p.saved && p.tried) {
        for (int i = 0; i < blocks; i++)
            for (int t = from[i]; t < to[i]; t++) p.left[t] += size[i];
        result = descend(&p, limit);
    }
    free(p.floor), free(p.left), free(p.low), free(p.placed), free(p.saved), free(p.tried);
    return result;
}
