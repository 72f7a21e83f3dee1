// AdamW on flat arrays, and the sum of squares that the gradient norm needs.
//
//   m ← β₁ m + (1 − β₁) g    v ← β₂ v + (1 − β₂) g²    w ← (1 − η λ) w − η m̂ / (√v̂ + ε)
//
// with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ) (Loshchilov and Hutter 2019, algorithm 2). One packet a thread.
// Memory: reads w, g, m, v and writes w, m, v.
//
// What changes from step to step is read from memory, so that a captured launch can be replayed:
//   lr: η; correction: 1 − βᵗ. The rest are arguments: decay: λ; rest: 1 − β

#include "common.cuh"

extern "C" __global__ void adamw(float* w, const float* g, float* m, float* v, long long n, const float* lr,
                                 const float* correction1, const float* correction2, float decay, float beta1,
                                 float rest1, float beta2, float rest2, float eps) {
    long long i = first();
    if (i >= n) return;
    float rate = *lr / *correction1, keep = 1 - *lr * decay, scale = 1 / *correction2;
    float W[WIDTH], G[WIDTH], M[WIDTH], V[WIDTH];
    load(w + i, W);
    load(g + i, G);
    load(m + i, M);
    load(v + i, V);
    for (int j = 0; j < WIDTH; j++) {
        M[j] = beta1 * M[j] + rest1 * G[j];
        V[j] = beta2 * V[j] + rest2 * G[j] * G[j];
        W[j] = keep * W[j] - rate * M[j] / (sqrtf(V[j] * scale) + eps);
    }
    store(w + i, W);
    store(m + i, M);
    store(v + i, V);
}

// Σ g² in double, in which no square of a float overflows or vanishes, in two stages: each block leaves one number, and
// one block adds those up. The order of the additions depends on n and the number of blocks alone.
extern "C" __global__ void squares(const REAL* g, double* of_block, long long n) {
    double sum = 0;
    for (long long i = first(); i < n; i += gridDim.x * (long long)blockDim.x * WIDTH) {
        float v[WIDTH];
        load(g + i, v);
        for (int j = 0; j < WIDTH; j++) sum += double(v[j]) * v[j];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) of_block[blockIdx.x] = sum;
}

extern "C" __global__ void total(const double* of_block, double* y, int n) {
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += of_block[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = sum;
}
