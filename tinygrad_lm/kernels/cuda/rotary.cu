// Rotary positions: turn each pair of entries (i, i + D/2) of a head by its angle, y = R(t) x; backward by minus it.
//
//   y₁ = x₁ cos − x₂ sin    y₂ = x₁ sin + x₂ cos    sign −1 turns back
//
// x is (B, T, H, D), cos and sin are (T, D/2) in float, computed once. A thread turns one packet of pairs: it reads two
// packets of x, D/2 apart, and writes two. Memory: reads x and writes y; the angles stay in the cache.

#include "common.cuh"

extern "C" __global__ void rotary(const REAL* x, const float* cos, const float* sin, REAL* y, long long pairs, int T,
                                  int H, int half, float sign) {
    long long pair = first();
    if (pair >= pairs) return;
    long long head = pair / half;
    int i = pair % half, t = head / H % T;
    long long here = head * 2 * half + i;
    float x1[WIDTH], x2[WIDTH], c[WIDTH], s[WIDTH], y1[WIDTH], y2[WIDTH];
    load(x + here, x1);
    load(x + here + half, x2);
    load(cos + t * half + i, c);
    load(sin + t * half + i, s);
    for (int j = 0; j < WIDTH; j++) {
        y1[j] = x1[j] * c[j] - x2[j] * (sign * s[j]);
        y2[j] = x1[j] * (sign * s[j]) + x2[j] * c[j];
    }
    store(y + here, y1);
    store(y + here + half, y2);
}
