// y = x in bf16, or back in float. One packet a thread. Memory: reads x and writes y, 4 bytes a number and 2.

#include "common.cuh"

template <class X, class Y> __device__ void convert(const X* x, Y* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float v[WIDTH];
    load(x + i, v);
    store(y + i, v);
}

extern "C" __global__ void rounding(const float* x, bf16* y, long long n) { convert(x, y, n); }

extern "C" __global__ void widening(const bf16* x, float* y, long long n) { convert(x, y, n); }
