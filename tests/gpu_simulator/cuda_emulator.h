// CUDA's language on a CPU, as far as our kernels speak it, so that g++ compiles a .cu file and tests can run it.
//
// Each thread of a block is a fibre of one thread of the system and runs until it waits: at __syncthreads for its block
// or at a shuffle for its warp. A warp goes on as far as it can before the next one moves, so one is always ahead.
// In which order blocks, warps and threads take their turns is chosen by `order` (0 up, 1 down, 2 and more shuffled); a
// kernel that forgets a barrier, or adds in whichever order it comes, gives different bits in different orders. Shared
// memory is filled before each block, with NaN in even orders and with 3.4e38 in odd ones.
// What is reported instead of a value: an address outside the arrays (the pages around them are closed), a misaligned
// packet, an index outside a local or shared array, an int that overflows (-fsanitize=…, as traps), threads of a block
// or warp that wait at different places or for one that has ended.
// What no emulation shows: how fast it is, what real memory does between barriers without order, the last bits of the
// real exp and of contracted a · b + c, how many registers there are, what the real matrix units do.

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <math.h>
#include <stdlib.h>

#include <utility>

#define __global__
#define __device__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// `extern __shared__ T x[];` is made a pointer to dynamic_shared by cuda_emulator.py.
#define __shared__ static __attribute__((section("cuda_shared")))
#define __syncthreads() emulator::wait(emulator::FOR_BLOCK, __LINE__)
#define __syncwarp() emulator::wait(emulator::FOR_WARP, __LINE__)

struct dim3 {
    unsigned x, y, z;
};
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static char some __attribute__((used, section("cuda_shared")));  // so that the section is there
static const unsigned MOST_SHARED = 227 * 1024, BESIDE = 256;
static char dynamic_shared[MOST_SHARED + BESIDE] __attribute__((aligned(16)));  // what a launch asks for, and a guard
extern "C" {
unsigned dynamic_size = 0;
}
extern "C" char __start_cuda_shared[] __attribute__((visibility("hidden")));
extern "C" char __stop_cuda_shared[] __attribute__((visibility("hidden")));

namespace emulator {

static const unsigned MOST_COPIES = 64, MOST_PRODUCTS = 32;
enum State { READY, FOR_BLOCK, FOR_GROUP, FOR_WARP, ENDED };  // a warpgroup is four warps
struct Product {  // a lane's part of a wgmma that has not been computed yet
    float* c;
    float kept[32];  // of c, if `first` for it, before it was taken away
    bool first, transposed, add;
    unsigned columns, group, a[4][4];  // a: of the four lanes that share its rows
    uint64_t b;
};
struct Fibre {
    ucontext_t beginning;
    jmp_buf place;  // where it goes on; unlike swapcontext, jumps need no system call
    bool begun;
    State state;
    int line;  // where it waits
    uint64_t given[8];  // what it hands to its warp
    unsigned copies;    // cp.async's that are not made yet
    struct { void* to; const void* from; unsigned bytes; } copy[MOST_COPIES];
    bool copied, unseen;  // copies were issued; waited for, but not shown to the matrix units
    bool fenced;          // the matrix units may take registers
    unsigned products, groups;  // not computed yet; ended
    Product product[MOST_PRODUCTS];
};
static const unsigned STACK = 1 << 16, MOST = 1024;
static Fibre fibres[MOST];
static jmp_buf scheduler;
static unsigned count, current, turns[MOST];
static int order;
static void (*body)(void*);
static void* body_data;
static char* stacks;

static void wait(State state, int line) {
    fibres[current].state = state;
    fibres[current].line = line;
    if (!_setjmp(fibres[current].place)) _longjmp(scheduler, 1);
}

static void finish_copies() {
    Fibre& fibre = fibres[current];
    for (unsigned i = 0; i < fibre.copies; i++)
        if (fibre.copy[i].from) memcpy(fibre.copy[i].to, fibre.copy[i].from, fibre.copy[i].bytes);
        else memset(fibre.copy[i].to, 0, fibre.copy[i].bytes);
    fibre.copies = 0;
}

static void enter() {
    body(body_data);
    if (fibres[current].copies || fibres[current].products) __builtin_trap();  // nobody waited for them
    fibres[current].state = ENDED;
    _longjmp(scheduler, 1);
}

static void __attribute__((noinline)) go_on(Fibre& fibre) {
    if (_setjmp(scheduler)) return;
    if (fibre.begun) _longjmp(fibre.place, 1);
    fibre.begun = true;
    setcontext(&fibre.beginning);
}

// A warp's threads hand each other `value`: the one that `lane` gave. Two waits, so that nobody gives again too early.
template <class T> static T exchange(T value, unsigned lane, int line) {
    static_assert(sizeof(T) <= 8);
    memcpy(fibres[current].given, &value, sizeof(T));
    wait(FOR_WARP, line);
    T result;
    memcpy(&result, fibres[current / 32 * 32 + lane % 32].given, sizeof(T));
    wait(FOR_WARP, line);
    return result;
}

// Let all fibres from `begin` to `end` go on if all wait for the same; else say whether that can still come.
static bool release(unsigned begin, unsigned end, State state) {
    for (unsigned i = begin; i < end; i++)
        if (fibres[i].state != state || fibres[i].line != fibres[begin].line) return false;
    for (unsigned i = begin; i < end; i++) fibres[i].state = READY;
    return true;
}

static const char* run_block() {
    char filling = order % 2 ? 0x7f : 0xff;
    memset(__start_cuda_shared, filling, __stop_cuda_shared - __start_cuda_shared);
    memset(dynamic_shared, filling, dynamic_size + BESIDE);
    ucontext_t here;
    getcontext(&here);
    for (unsigned i = 0; i < count; i++) {
        fibres[i].beginning = here;
        fibres[i].beginning.uc_stack = {stacks + i * STACK, 0, STACK};
        fibres[i].beginning.uc_link = nullptr;
        fibres[i].state = READY, fibres[i].begun = false, fibres[i].copies = fibres[i].products = 0;
        fibres[i].copied = fibres[i].unseen = fibres[i].fenced = false;
        makecontext(&fibres[i].beginning, enter, 0);
    }
    bool moved;
    do {
        for (unsigned w = 0; w < count; w += 32) {  // 32 neighbours in `turns` are a warp
            do {
                for (unsigned i = w; i < w + 32; i++)
                    if (fibres[turns[i]].state == READY) {
                        current = turns[i];
                        threadIdx = {current % blockDim.x, current / blockDim.x % blockDim.y,
                                     current / blockDim.x / blockDim.y};
                        go_on(fibres[current]);
                    }
            } while (release(turns[w] / 32 * 32, turns[w] / 32 * 32 + 32, FOR_WARP));
        }
        moved = false;
        for (unsigned i = 0; i + 128 <= count; i += 128) moved |= release(i, i + 128, FOR_GROUP);
    } while (moved || release(0, count, FOR_BLOCK));
    for (current = 0; current < count; current++)
        if (fibres[current].state != ENDED) return "threads wait at different places, or for one that has ended";
    for (unsigned i = 0; i < BESIDE; i++)
        if (dynamic_shared[dynamic_size + i] != filling) return "wrote beside the shared memory that the launch gives it";
    return nullptr;
}

// 0, 1, … n − 1 in the chosen order.
static void arrange(unsigned* list, unsigned n) {
    for (unsigned i = 0; i < n; i++) list[i] = order == 1 ? n - 1 - i : i;
    for (unsigned i = n; order > 1 && i > 1; i--) std::swap(list[i - 1], list[rand() % i]);
}

static sigjmp_buf after_fault;
static volatile uintptr_t fault_address;
static volatile int fault_signal;
static void on_fault(int number, siginfo_t* info, void*) {
    fault_signal = number;
    fault_address = uintptr_t(info->si_addr);
    siglongjmp(after_fault, 1);
}

static int run(const unsigned* grid, const unsigned* block, int chosen, void (*f)(void*), void* data, char* message,
               uintptr_t* address) {
    if (!stacks) stacks = (char*)mmap(0, MOST * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    count = block[0] * block[1] * block[2], body = f, body_data = data;
    const char* problem = nullptr;
    if (!count || count > MOST || count % 32) problem = "a block has 32, 64, … 1024 threads";
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535) problem = "no such grid";
    unsigned every = grid[0] * grid[1] * grid[2], warps[32], lanes[32];
    unsigned* blocks = (unsigned*)malloc(every * sizeof(unsigned));
    order = chosen;
    srand(order);
    arrange(blocks, every);
    arrange(warps, problem ? 0 : count / 32);
    arrange(lanes, 32);
    for (unsigned i = 0; !problem && i < count; i++) turns[i] = warps[i / 32] * 32 + lanes[i % 32];

    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction ours = {}, theirs[4];
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (int i = 0; i < 4; i++) sigaction(signals[i], &ours, &theirs[i]);
    *address = 0;
    if (sigsetjmp(after_fault, 1)) {
        *address = fault_signal == SIGSEGV || fault_signal == SIGBUS ? fault_address : 0;
        problem = *address ? "an address outside the arrays"
                           : "a misaligned packet, an index outside a local or shared array, an int that overflows, a copy that "
                             "nobody waits for, or of a wgmma the wait, a fence, or its descriptor";
    } else {
        for (unsigned i = 0; i < every && !problem; i++) {
            unsigned b = blocks[i];
            blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
            problem = run_block();
        }
    }
    free(blocks);
    for (int i = 0; i < 4; i++) sigaction(signals[i], &theirs[i], nullptr);
    if (problem)
        snprintf(message, 300, "%s: block (%u, %u, %u), thread %u waiting or stopped near line %d", problem, blockIdx.x,
                 blockIdx.y, blockIdx.z, current, fibres[current].line);
    return problem != nullptr;
}

// Kernels are called with an array of pointers to their arguments, as on a device.
template <class... A> struct Call {
    void (*kernel)(A...);
    void** args;
    template <size_t... I> void apply(std::index_sequence<I...>) { kernel(*(A*)args[I]...); }
    static void run(void* self) { ((Call*)self)->apply(std::index_sequence_for<A...>()); }
};

template <class... A>
static int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, int order, void** args,
                  char* message, uintptr_t* address) {
    Call<A...> call{kernel, args};
    return run(grid, block, order, Call<A...>::run, &call, message, address);
}

// What a kernel wants, as text: "p4" is a pointer to four-byte things, "i4" an int, "u8", "f4".
template <class T> static const char* kind() {
    if (std::is_pointer_v<T>) return sizeof(std::remove_pointer_t<T>) == 2   ? "p2"
                                     : sizeof(std::remove_pointer_t<T>) == 4 ? "p4"
                                     : sizeof(std::remove_pointer_t<T>) == 8 ? "p8"
                                                                             : "p1";
    if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? "f4" : "f8";
    return sizeof(T) == 8 ? (std::is_signed_v<T> ? "i8" : "u8") : (std::is_signed_v<T> ? "i4" : "u4");
}

template <class... A> static void kinds(void (*)(A...), char* text) {
    *text = 0;
    for (const char* k : {kind<A>()...}) strcat(strcat(text, k), " ");
}

}  // namespace emulator

template <class T> static T __shfl_xor_sync_at(int line, unsigned, T x, int mask) {
    return emulator::exchange(x, (emulator::current % 32) ^ mask, line);
}
#define __shfl_xor_sync(...) __shfl_xor_sync_at(__LINE__, __VA_ARGS__)

template <class T> static T __shfl_sync_at(int line, unsigned, T x, int lane, int width = 32) {
    return emulator::exchange(x, emulator::current % 32 / width * width + lane % width, line);
}
#define __shfl_sync(...) __shfl_sync_at(__LINE__, __VA_ARGS__)

template <class F> static int reduce_at(int line, int x, F better) {
    for (int distance = 16; distance; distance /= 2) x = better(x, __shfl_xor_sync_at(line, ~0u, x, distance));
    return x;
}
#define __reduce_min_sync(mask, x) reduce_at(__LINE__, x, [](int a, int b) { return a < b ? a : b; })
#define __reduce_max_sync(mask, x) reduce_at(__LINE__, x, [](int a, int b) { return a > b ? a : b; })
#define __any_sync(mask, x) (reduce_at(__LINE__, int(x), [](int a, int b) { return a | b; }) != 0)

#include "cuda_emulator_matrices.h"

static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }
static float __fdividef(float a, float b) { return a / b; }
static float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static uint64_t __umul64hi(uint64_t a, uint64_t b) { return (unsigned __int128)a * b >> 64; }
