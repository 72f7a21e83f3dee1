// Products of a warpgroup, four warps with 16 rows each: wgmma.mma_async m64nNk16 of Hopper, compute capability 9.x (PTX
// ISA, "Asynchronous warpgroup level matrix instructions"). A and C are a warp's fragments as in matrices.cuh, a quarter
// of the 64 rows each; B is read from shared memory. For D = 64.
//
// A row in shared memory has 64 entries, 128 bytes. Within each eight rows, 1,024 bytes, the 128-byte swizzle exchanges
// packets of 16 bytes: packet c of row r lies at c ^ r % 8 (of the address, bits 4–6 ^= bits 7–9), so that eight rows of
// one packet, and eight packets of one row, lie in different banks. Tiles begin at multiples of 1,024 bytes.
//
// What a descriptor says of B, K × N ("Matrix descriptor format", "Strides", "Canonical layouts"; T = 8 entries of
// bf16 are 16 bytes):
//
//   bits   0–13  address / 16
//         16–29  leading dimension byte offset / 16: not used where one swizzled row holds all, so 1
//         32–45  stride dimension byte offset / 16
//         62–63  1: swizzle of 128 bytes
//
//   times_transposed: B's column n is row n of the tile, its k lie side by side: K-major, ((8, m), (T, 2 k)) : ((8 T,
//   SBO), (1, T)). Eight columns lie 8 T entries = 128 bytes apart, then come the next eight SBO = 1,024 bytes on; the 16
//   k of an instruction are two packets, so the next 16 k begin 32 bytes on (the swizzle goes by the address's bits).
//   add_product: B's row k is row k of the tile, its n lie side by side: MN-major, transposed, ((T, 8, m), (8, k)) : ((1,
//   T, LBO), (8 T, SBO)). The 64 n are one row, so LBO does not count; eight k lie 8 T entries apart, the next eight
//   SBO = 1,024 bytes on; the next 16 k begin 2,048 bytes on.
//
// The instructions run while the warps go on: registers of A and C belong to them from wgmma.fence, after what wrote
// these, until all of a group is waited for. To the compiler an empty assembly that changes the registers keeps what is
// computed with them on its side. What cp.async wrote is seen after a fence.proxy.async of the thread that waited.

#if WGMMA
#ifdef __CUDACC__
__device__ void show_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ void fence_registers() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ void end_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int later> __device__ void wait_for_groups() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(later) : "memory");
}

__device__ void hold(float& x) { asm volatile("" : "+f"(x)::"memory"); }
__device__ void hold(unsigned& x) { asm volatile("" : "+r"(x)::"memory"); }

__device__ word shared_address(const void* x) { return __cvta_generic_to_shared(x); }

// c (64 × 64 or 32) ← a (64 × 16) times what `b` describes, + c if `add`.
#define FOUR(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
template <bool transposed, bool add>
__device__ void multiply(float (&c)[8][4], const unsigned (&a)[4], word b) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;}\n"
        : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int(add)), "n"(int(transposed)));
}

template <bool transposed, bool add>
__device__ void multiply(float (&c)[4][4], const unsigned (&a)[4], word b) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %21, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
        "{%16,%17,%18,%19}, %20, p, 1, 1, %22;}\n"
        : FOUR(0), FOUR(1), FOUR(2), FOUR(3)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int(add)), "n"(int(transposed)));
}
#endif

typedef bf16 line[D];     // a row in shared memory
const int TOGETHER = 64;  // rows that compute together or not at all

__device__ int place(int row, int column) { return column ^ row % 8 * 8; }  // of a row's entries, eight on, in its line

__device__ word describe(const line* b) {
    return word(1) << 62 | word(1024 / 16) << 32 | 1 << 16 | shared_address(b) / 16;
}

// M strips of 16 rows a warp: c (64 M × N) ← a (64 M × 64) times the transpose of N rows of b.
template <int M, int N, int R>
__device__ void times_transposed(float (&c)[M][N / 8][4], fragments (&a)[M], const line (&b)[R], int from) {
    static_assert(D == 64);
    word rows = describe(b + from);
#pragma unroll
    for (int m = 0; m < M; m++)
        for (int i = 0; i < D / 4; i++) hold(a[m][i / 4][i % 4]);
    fence_registers();
#pragma unroll
    for (int m = 0; m < M; m++) {
        multiply<false, false>(c[m], a[m][0], rows);
#pragma unroll
        for (int k = 1; k < D / 16; k++) multiply<false, true>(c[m], a[m][k], rows + k * 32 / 16);
    }
    end_group();
}

// c (64 M × 64) += a (64 M × N, rounded to bf16) times N rows of b.
template <int M, int N, int R>
__device__ void add_product(float (&c)[M][D / 8][4], const float (&a)[M][N / 8][4], const line (&b)[R], int from) {
    static_assert(D == 64);
    word rows = describe(b + from);
    unsigned rounded[M][N / 16][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
        for (int i = 0; i < N / 4; i++) {
            int n = i / 2, r = i % 2 * 2;
            hold(rounded[m][i / 4][i % 4] = packed(a[m][n][r], a[m][n][r + 1]));
        }
        for (int i = 0; i < D / 2; i++) hold(c[m][i / 4][i % 4]);
    }
    fence_registers();
#pragma unroll
    for (int k = 0; k < N / 16; k++)
#pragma unroll
        for (int m = 0; m < M; m++) multiply<true, true>(c[m], rounded[m][k], rows + k * 2048 / 16);
    end_group();
}

// Wait for all products but the `later` last ones, and give back the registers of these results.
template <int later = 0, class... C> __device__ void finish_products(C&... c) {
    wait_for_groups<later>();
    auto all = [](auto& c) {
#pragma unroll
        for (int i = 0; i < int(sizeof c / sizeof(float)); i++) hold((&c[0][0][0])[i]);
    };
    (all(c), ...);
}
#endif
