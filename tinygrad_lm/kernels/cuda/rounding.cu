// y = x in bf16. One packet a thread. Memory: reads x, 4 bytes a number, and writes y, 2.

#include "common.cuh"

extern "C" __global__ void rounding(const float* x, bf16* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float v[WIDTH];
    load(x + i, v);
    store(y + i, v);
}
