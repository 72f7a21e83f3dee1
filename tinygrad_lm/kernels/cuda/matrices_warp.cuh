// Products of a warp: mma.sync m16n8k16, and the loads that bring its fragments from shared memory (PTX ISA, "Warp-level
// matrix instructions"). On every GPU since Ampere; rows in shared memory have any length.

#if !WGMMA
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
#endif

typedef bf16 line[D + 8];  // a row in shared memory: 8 more, so that eight rows lie in different banks
const int TOGETHER = 16;   // rows that compute together or not at all

__device__ int place(int row, int column) { return column; }  // of a row's entries, eight on, in its line

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
__device__ void times_transposed(float (&c)[M][N / 8][4], A (&a)[M], const line (&b)[R], int from) {
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

// Nothing to do: a product is there when its instruction ends, and its warp sees what a barrier shows.
template <int later = 0, class... C> __device__ void finish_products(C&...) {}
__device__ void show_copies() {}
#endif
