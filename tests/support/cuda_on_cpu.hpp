// Runs CUDA kernels on a CPU, block by block: the threads of a block are fibers that take turns at every barrier, in
// their order or in the opposite one: what needs a barrier and has none is wrong in one of them.
// A barrier that some threads of a block do not reach, or reach another of, ends the program with a message.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <utility>
#include <limits>
#include <vector>

typedef unsigned int uint;
typedef unsigned short ushort;
typedef _Float16 half;
using std::max;
using std::min;
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define CUDART_INF_F std::numeric_limits<float>::infinity()
#define CUDART_NAN_F std::numeric_limits<float>::quiet_NaN()
#define CUDART_INF std::numeric_limits<double>::infinity()
#define CUDART_NAN std::numeric_limits<double>::quiet_NaN()

struct Index { int x; };
static Index threadIdx, blockIdx;

namespace on_cpu {
enum { WARP = 32, STACK = 64 << 10 };
struct Fiber {
    jmp_buf at;
    bool done, begun;
    const char *waits;
    char *stack;
    char slot[8];
};
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static ucontext_t outside;
static int current;
static void (*body)();
static bool backwards;

[[noreturn]] static void stop(const char *reason) {
    fprintf(stderr, "cuda_on_cpu: %s (block %d, thread %d)\n", reason, blockIdx.x, threadIdx.x);
    abort();
}
static void wait(const char *what) {
    fibers[current].waits = what;
    if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
    threadIdx.x = current;
}
static void enter() {
    body();
    fibers[current].done = true;
    _longjmp(scheduler, 1);
}
static void resume(int n) {
    current = threadIdx.x = n;
    if (_setjmp(scheduler)) return;
    Fiber &f = fibers[n];
    if (f.begun) _longjmp(f.at, 1);
    f.begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = f.stack;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, enter, 0);
    swapcontext(&outside, &context);
}
// One block. Rounds: every thread runs to its next barrier; a round ends when all wait at one of the same kind.
static void block(int threads) {
    if ((int)fibers.size() < threads) {
        int had = fibers.size();
        fibers.resize(threads);
        for (int n = had; n < threads; ++n) fibers[n].stack = (char *)malloc(STACK);
    }
    for (int n = 0; n < threads; ++n) fibers[n].done = fibers[n].begun = false;
    for (;;) {
        int warps = (threads + WARP - 1) / WARP;
        for (int w = 0; w < warps; ++w) {
            // a warp goes on by itself until it waits for the whole block
            int first = (backwards ? warps - 1 - w : w) * WARP, last = min(first + (int)WARP, threads);
            for (;;) {
                int ended = 0;
                for (int k = 0; k < last - first; ++k) {
                    int n = backwards ? last - 1 - k : first + k;
                    if (!fibers[n].done) resume(n);
                    ended += fibers[n].done;
                }
                if (ended == last - first) break;
                if (ended) stop("threads of a warp end while others wait");
                for (int n = first; n < last; ++n)
                    if (strcmp(fibers[n].waits, fibers[first].waits)) stop("threads of a warp wait at different barriers");
                if (!strcmp(fibers[first].waits, "block")) break;
            }
        }
        int ended = 0;
        for (int n = 0; n < threads; ++n) ended += fibers[n].done;
        if (ended == threads) return;
        if (ended) stop("threads of a block end while others wait");
    }
}
// One block whose threads wait for nothing.
static void alone(int threads) {
    for (int k = 0; k < threads; ++k) {
        threadIdx.x = backwards ? threads - 1 - k : k;
        body();
    }
}
template <typename T> static T handed(T value, int from) {
    memcpy(fibers[current].slot, &value, sizeof(T));
    wait("warp: written");
    memcpy(&value, fibers[from].slot, sizeof(T));
    wait("warp: read");
    return value;
}
}  // namespace on_cpu

static inline void __syncthreads() { on_cpu::wait("block"); }
static inline void __syncwarp() { on_cpu::wait("warp"); }
[[noreturn]] static inline void __trap() { on_cpu::stop("trap"); }
template <typename T> static inline T __shfl_xor_sync(uint mask, T value, int distance, int width) {
    if (mask != 0xffffffffu || width != 32) on_cpu::stop("a shuffle of part of a warp");
    return on_cpu::handed(value, on_cpu::current ^ distance);
}
template <typename T> static inline T __shfl_sync(uint mask, T value, int lane, int width) {
    if (mask != 0xffffffffu) on_cpu::stop("a shuffle of part of a warp");
    return on_cpu::handed(value, on_cpu::current / width * width + lane);
}
