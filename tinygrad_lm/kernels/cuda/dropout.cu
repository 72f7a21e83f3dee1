// Dropout: y = x / (1 − p) where u ≥ p, else 0, with u uniform in [0, 1). Backward is the same function of dy.
//
// u is a function of key and place: Philox 4×64 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3", section 3.3), counted as NumPy counts, so that the numbers are those of the definition bit for bit.
// One counter gives four 64-bit words, so eight numbers of 32 bits, low half first; their upper 24 bits are used.
// A thread computes one counter and has eight entries of x. Nothing is kept for the way back but the key.
// Memory: reads x and writes y; about 25 integer instructions an entry, which the reading hides.

#include "common.cuh"

typedef unsigned long long word;

__device__ void philox(const word (&counter)[4], word key0, word key1, word (&x)[4]) {
    for (int i = 0; i < 4; i++) x[i] = counter[i];
    for (int round = 0; round < 10; round++) {
        word a = 0xd2e7470ee14c6c93, b = 0xca5a826395121157;  // the multipliers and, below, the key's steps: table 2
        word high0 = __umul64hi(a, x[0]), low0 = a * x[0], high1 = __umul64hi(b, x[2]), low1 = b * x[2];
        x[0] = high1 ^ x[1] ^ key0, x[1] = low1;
        x[2] = high0 ^ x[3] ^ key1, x[3] = low0;
        key0 += 0x9e3779b97f4a7c15, key1 += 0xbb67ae8584caa73b;
    }
}

extern "C" __global__ void dropout(const REAL* x, REAL* y, long long n, float p, float scale, word key0, word key1,
                                   word counter1, word counter2, word counter3) {
    long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (thread * 8 >= n) return;
    word random[4];
    philox({word(thread) + 1, counter1, counter2, counter3}, key0, key1, random);  // NumPy counts before it draws
#pragma unroll
    for (int k = 0; k < 8; k += WIDTH) {
        long long start = thread * 8 + k;
        if (start >= n) return;
        float v[WIDTH];
        load(x + start, v);
        for (int i = 0; i < WIDTH; i++) {
            unsigned bits = unsigned(random[(k + i) / 2] >> (k + i) % 2 * 32);
            float u = (bits >> 8) * (1.0f / (1 << 24));
            v[i] = u >= p ? v[i] * scale : v[i] * 0;
        }
        store(y + start, v);
    }
}
