// Dropout: y = x / (1 − p) where u ≥ p, else 0, with u uniform in [0, 1).
//
// u is a function of key, row and place, see philox.cuh; a row has `of_row` counters, each for 8 entries. Backward is
// the same function of dy, so only the key is kept. A thread computes one counter and has its eight entries of x.
// Memory: reads x and writes y. Eight exact divisions would take as long as the random numbers, and both longer than
// memory; bfloat16 does not show whether x was divided or multiplied by the reciprocal, but for a last bit now and then.

#include "common.cuh"
#include "philox.cuh"

extern "C" __global__ void dropout(const REAL* x, REAL* y, long long n, long long of_row, const word* counter,
                                   word key0, word key1, unsigned limit, float share) {
    long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (thread * 8 >= n) return;
    float inverse = 1 / share;
    unsigned bits = kept({counter, key0, key1, limit, word(thread / of_row)}, thread % of_row);
#pragma unroll
    for (int k = 0; k < 8; k += WIDTH) {
        long long start = thread * 8 + k;
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
