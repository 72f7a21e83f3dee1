// A warp's matrix products on bf16: mma.sync m16n8k16, and the loads that bring its fragments (PTX ISA, "Warp-level
// matrix instructions"). The tests' emulator has stand-ins of the same names.
//
// Lane 4 g + t of a warp holds, of A (16 × 16), rows g and g + 8 at columns 2t, 2t + 1, 2t + 8, 2t + 9; of B (16 × 8),
// column g at rows 2t, 2t + 1 and 2t + 8, 2t + 9; of C (16 × 8), rows g and g + 8 at columns 2t, 2t + 1.
// Two neighbouring C, rounded, are an A: so one product's result goes into the next without leaving the registers.

#ifdef __CUDACC__
__device__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {  // c ← a b + c
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 × 8 matrices from shared memory. Lane l names row l % 8 of matrix l / 8; lane 4 g + t gets of each row g at
// columns 2t, 2t + 1, or with `transposed` column g at rows 2t, 2t + 1.
template <bool transposed> __device__ void load_matrices(unsigned (&x)[4], const void* row) {
    unsigned address = __cvta_generic_to_shared(row);
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
}

__device__ unsigned packed(float low, float high) {  // two bf16, to the nearest
    unsigned x;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(x) : "f"(high), "f"(low));
    return x;
}

// Bytes from global to shared memory, or zeros: under way until this thread waits, and for others until a barrier.
__device__ void copy_later_16(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 16 : 0) : "memory");
}

__device__ void copy_later_8(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 8 : 0) : "memory");
}

__device__ void copy_later_4(void* to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"(unsigned(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 4 : 0) : "memory");
}

__device__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

const int WARPS = 4;
typedef bf16 line[D + 8];  // a row in shared memory: 8 more, so that eight rows lie in different banks

// The rows from `start` on, of `stride` entries each, on their way into shared memory; beyond `end` zeros.
template <int R> __device__ void fill(line (&to)[R], const bf16* x, long long stride, int start, int end) {
#pragma unroll 2  // all of it at once takes registers for its addresses
    for (int i = threadIdx.x; i < R * D / 8; i += WARPS * 32) {
        int row = i / (D / 8), column = i % (D / 8) * 8;
        copy_later_16(&to[row][column], x + (start + row) * stride + column, start + row < end);
    }
}

// 16 rows of x from `start` on as A fragments, D columns; beyond `end` zeros.
typedef unsigned fragments[D / 16][4];
__device__ void fetch(fragments& a, const bf16* x, long long stride, int start, int end) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int k = 0; k < D / 16; k++)
        for (int i = 0; i < 4; i++) {
            int row = start + g + i % 2 * 8, column = k * 16 + i / 2 * 8 + 2 * t;
            a[k][i] = row < end ? *reinterpret_cast<const unsigned*>(x + row * stride + column) : 0;
        }
}

// Columns 16 k on of 16 rows that are held as fragments, or lie in shared memory.
__device__ void take(unsigned (&x)[4], const fragments& a, int k) {
    for (int i = 0; i < 4; i++) x[i] = a[k][i];
}

__device__ void take(unsigned (&x)[4], const line* a, int k) {
    int lane = threadIdx.x % 32;
    load_matrices<false>(x, &a[lane % 16][k * 16 + lane / 16 * 8]);
}

// M strips of 16 rows: c (16 M × N) ← a (16 M × D) times the transpose of N rows of b. What comes from there serves all
// strips.
template <int M, int N, class A, int R>
__device__ void times_transposed(float (&c)[M][N / 8][4], const A (&a)[M], const line (&b)[R], int from) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N / 8; n++)
            for (int i = 0; i < 4; i++) c[m][n][i] = 0;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        unsigned left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) take(left[m], a[m], k);
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            unsigned x[4];
            load_matrices<false>(x, &b[from + n * 16 + lane % 8 + lane / 16 * 8][k * 16 + lane / 8 % 2 * 8]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(c[m][2 * n], left[m], x[0], x[1]);
                multiply_add(c[m][2 * n + 1], left[m], x[2], x[3]);
            }
        }
    }
}

// c (16 M × D) += a (16 M × N, rounded to bf16) times N rows of b.
template <int M, int N, int R>
__device__ void add_product(float (&c)[M][D / 8][4], const float (&a)[M][N / 8][4], const line (&b)[R], int from) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        unsigned rounded[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 4; i++)
                rounded[m][i] = packed(a[m][2 * k + i / 2][i % 2 * 2], a[m][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            unsigned x[4];
            load_matrices<true>(x, &b[from + k * 16 + lane % 16][n * 16 + lane / 16 * 8]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(c[m][2 * n], rounded[m], x[0], x[1]);
                multiply_add(c[m][2 * n + 1], rounded[m], x[2], x[3]);
            }
        }
    }
}

// 16 rows of c, each multiplied by its factor, to x from `start` on, as far as `end`.
__device__ void put(bf16* x, long long stride, int start, int end, const float (&c)[D / 8][4], float upper,
                    float lower) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int n = 0; n < D / 8; n++) {
        bf16* to = x + (start + g) * stride + n * 8 + 2 * t;
        if (start + g < end) *reinterpret_cast<unsigned*>(to) = packed(c[n][0] * upper, c[n][1] * upper);
        if (start + g + 8 < end)
            *reinterpret_cast<unsigned*>(to + 8 * stride) = packed(c[n][2] * lower, c[n][3] * lower);
    }
}

// Sum and maximum over the four lanes that share a row of C.
__device__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

__device__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ float product(unsigned a, unsigned b) {  // of two pairs of bf16
    return __uint_as_float(a << 16) * __uint_as_float(b << 16) +
           __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
}
