// Dropout: y = x / (1 − p) where u ≥ p, else 0, with u uniform in [0, 1).
//
// u is a function of key, row and place, see philox.cuh; a row has `of_row` counters, each for 8 entries. A thread
// computes one counter and has its eight entries of x. Backward is the same function of dy, by `bits`, a byte a counter:
// drawing takes longer than memory does, so it is not done twice. Memory: reads x and writes y, and a bit an entry.
// Eight exact divisions would take as long as the random numbers; bfloat16 does not show whether x was divided or
// multiplied by the reciprocal, but for a last bit now and then.

#include "common.cuh"
#include "philox.cuh"

__device__ void mask(const REAL* x, REAL* y, long long n, long long counter, unsigned bits, float share) {
    float inverse = 1 / share;
#pragma unroll
    for (int k = 0; k < 8; k += WIDTH) {
        long long start = counter * 8 + k;
        if (start >= n) return;
        float v[WIDTH];
        load(x + start, v);
        for (int i = 0; i < WIDTH; i++) {
            float grown = sizeof(REAL) == 2 ? v[i] * inverse : v[i] / share;
            v[i] = bits >> (k + i) & 1 ? grown : 0;
        }
        store(y + start, v);
    }
}

extern "C" __global__ void dropout(const REAL* x, REAL* y, unsigned char* bits, long long n, long long of_row,
                                   const word* counter, word key0, word key1, unsigned limit, float share) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i * 8 >= n) return;
    unsigned drawn = kept({counter, key0, key1, limit, word(i / of_row)}, i % of_row);
    bits[i] = drawn;
    mask(x, y, n, i, drawn, share);
}

extern "C" __global__ void dropout_backward(const REAL* dy, REAL* dx, const unsigned char* bits, long long n,
                                            float share) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i * 8 < n) mask(dy, dx, n, i, bits[i], share);
}
