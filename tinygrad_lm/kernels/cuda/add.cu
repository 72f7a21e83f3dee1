// y = a + b of one shape: the residual stream, and gradients that meet. One packet a thread, where a library's kernel
// for any shapes and dtypes moves one number. Memory: reads a and b, writes y.

#include "common.cuh"

extern "C" __global__ void add(const REAL* a, const REAL* b, REAL* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float A[WIDTH], B[WIDTH];
    load(a + i, A);
    load(b + i, B);
    for (int j = 0; j < WIDTH; j++) A[j] += B[j];
    store(y + i, A);
}
